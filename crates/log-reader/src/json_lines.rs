//! NDJSON: one object on each line.

use std::io::{self, Read};
use std::ops::ControlFlow;

use crate::consumer::LogConsumer;
use crate::decoder::{LogDecoder, RECORD_LIMIT};
use crate::json::{RecordPlace, read_record};
use crate::lines::{Line, Lines};
use crate::problem::{Problem, ProblemKind};

pub(crate) fn read<C: LogConsumer>(
    input: &mut impl Read,
    decoder: &mut LogDecoder<C>,
) -> io::Result<ControlFlow<()>> {
    let mut lines = Lines::new(input);
    let mut record = 0;
    while let Some(line) = lines.next()? {
        record += 1;
        match line {
            Line::Whole { bytes, byte, .. } => {
                let bytes = without_mark(bytes, record);
                if bytes.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let (_, end) = read_record(bytes, RecordPlace { record, byte }, decoder);
                if end.is_break() {
                    return Ok(end);
                }
            }
            Line::TooLong { length, byte } => decoder.problem(too_long(record, byte, length)),
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The byte order mark that some programs of Windows write before UTF-8.
pub(crate) fn without_mark(bytes: &[u8], record: u64) -> &[u8] {
    if record == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes }
}

pub(crate) fn too_long(record: u64, byte: u64, length: u64) -> Problem {
    Problem {
        kind: ProblemKind::TooLarge,
        record: Some(record),
        byte,
        reason: format!("{length} bytes; records up to {RECORD_LIMIT} are read"),
        hint: "the record was left out; split it where it was made",
    }
}
