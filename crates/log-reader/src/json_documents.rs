//! JSON that spans lines: an array of objects, one object, or objects behind each other.

use std::io::{self, Read};
use std::ops::ControlFlow;

use crate::consumer::LogConsumer;
use crate::decoder::{LogDecoder, RECORD_LIMIT};
use crate::json::{RecordPlace, read_record};
use crate::json_lines::too_long;
use crate::problem::{Problem, ProblemKind};

/// How often reading starts again behind an object that can't be read. Each time up to
/// [`RECORD_LIMIT`] bytes are looked at twice.
const RESTART_LIMIT: u32 = 100;
const READ_BYTES: usize = 256 * 1024;

pub(crate) fn read<C: LogConsumer>(
    input: &mut impl Read,
    decoder: &mut LogDecoder<C>,
) -> io::Result<ControlFlow<()>> {
    let mut window = Window { input, bytes: Vec::new(), start: 0, byte: 0, at_end: false };
    let mut record = 0;
    let mut restarts = 0;
    loop {
        let noise = window.skip_to_object()?;
        if let Some(byte) = noise {
            let reason = "no JSON object".to_owned();
            let hint = "the bytes up to the next `{` were left out";
            decoder.problem(Problem { kind: ProblemKind::BadRecord, record: None, byte, reason, hint });
        }
        let (length, whole) = match window.object_length()? {
            Object::None => return Ok(ControlFlow::Continue(())),
            Object::Whole(length) => (length, true),
            Object::Cut(length) => (length, false),
        };
        record += 1;
        let byte = window.byte;
        let too_large = length > RECORD_LIMIT;
        let read = if too_large {
            decoder.problem(too_long(record, byte, length as u64));
            false
        } else {
            let bytes = &window.bytes[window.start..window.start + length];
            let (read, end) = read_record(bytes, RecordPlace { record, byte }, decoder);
            if end.is_break() {
                return Ok(end);
            }
            read
        };
        if read || (whole && !too_large && restarts >= RESTART_LIMIT) {
            window.advance(length);
            continue;
        }
        // A missing quote or bracket makes the rest of the file one object. Objects of
        // an array usually begin on lines of their own: go on at the next of them.
        restarts += 1;
        if restarts > RESTART_LIMIT {
            let reason = format!("more than {RESTART_LIMIT} objects that can't be told apart");
            let hint = "the rest of the file was left out; one object on each line (NDJSON) is safer";
            decoder.problem(Problem { kind: ProblemKind::Cut, record: Some(record), byte, reason, hint });
            return Ok(ControlFlow::Continue(()));
        }
        let step = window.next_object_line(length).unwrap_or(length);
        window.advance(step);
    }
}

enum Object {
    None,
    Whole(usize),
    /// The file ended in it, or it passed the limit.
    Cut(usize),
}

/// The part of the file that is looked at.
struct Window<R> {
    input: R,
    bytes: Vec<u8>,
    start: usize,
    /// The file's byte at `start`.
    byte: u64,
    at_end: bool,
}

impl<R: Read> Window<R> {
    fn advance(&mut self, count: usize) {
        self.start += count;
        self.byte += count as u64;
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let before = self.bytes.len();
        self.input.by_ref().take(READ_BYTES as u64).read_to_end(&mut self.bytes)?;
        self.at_end = self.bytes.len() == before;
        Ok(())
    }

    /// Goes to the next `{`. Returns where something else stood than what holds objects
    /// together.
    fn skip_to_object(&mut self) -> io::Result<Option<u64>> {
        let mut noise = None;
        loop {
            while let Some(byte) = self.bytes.get(self.start) {
                match byte {
                    b'{' => return Ok(noise),
                    b'[' | b']' | b',' => {}
                    // The byte order mark, at the start of the file.
                    0xef | 0xbb | 0xbf if self.byte < 3 => {}
                    byte if byte.is_ascii_whitespace() => {}
                    _ => noise = noise.or(Some(self.byte)),
                }
                self.advance(1);
            }
            if self.at_end {
                return Ok(noise);
            }
            self.fill()?;
        }
    }

    /// The length of the object at the start of the window.
    fn object_length(&mut self) -> io::Result<Object> {
        let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
        let mut length = 0;
        loop {
            while let Some(byte) = self.bytes.get(self.start + length) {
                length += 1;
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_text => escaped = true,
                    b'"' => in_text = !in_text,
                    _ if in_text => {}
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth == 0 {
                    return Ok(Object::Whole(length));
                }
                if length > RECORD_LIMIT {
                    return Ok(Object::Cut(length));
                }
            }
            if self.at_end {
                return Ok(if length == 0 { Object::None } else { Object::Cut(length) });
            }
            self.fill()?;
        }
    }

    /// The next `{` that is first on its line, within `length` bytes.
    fn next_object_line(&self, length: usize) -> Option<usize> {
        let bytes = self.bytes.get(self.start..self.start + length)?;
        let mut line_start = false;
        bytes.iter().position(|byte| {
            match byte {
                b'\n' => line_start = true,
                b' ' | b'\t' | b'\r' | b',' => {}
                b'{' if line_start => return true,
                _ => line_start = false,
            }
            false
        })
    }
}
