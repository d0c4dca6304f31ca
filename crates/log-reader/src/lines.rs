//! Lines of a file in bounded memory.

use std::io::{self, Read};

use memchr::memchr;

use crate::decoder::RECORD_LIMIT;

const FIRST_BUFFER: usize = 256 * 1024;

/// One line without its end.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    /// The whole line. `ended` is false for a last line without line feed.
    Whole { bytes: &'a [u8], byte: u64, ended: bool },
    /// A line above [`RECORD_LIMIT`]; it was skipped.
    TooLong { length: u64, byte: u64 },
}

pub(crate) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The file's byte at `start`.
    byte: u64,
    at_end: bool,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; FIRST_BUFFER], start: 0, end: 0, byte: 0, at_end: false }
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut searched = 0;
        loop {
            let unsearched = self.buffer.get(self.start + searched..self.end).unwrap_or_default();
            if let Some(found) = memchr(b'\n', unsearched) {
                return Ok(Some(self.take(searched + found, 1)));
            }
            searched = self.end - self.start;
            if searched > RECORD_LIMIT {
                return self.skip().map(Some);
            }
            if self.at_end {
                return Ok((searched > 0).then(|| self.take(searched, 0)));
            }
            self.fill()?;
        }
    }

    fn take(&mut self, length: usize, line_feed: usize) -> Line<'_> {
        let (start, byte) = (self.start, self.byte);
        self.start += length + line_feed;
        self.byte += (length + line_feed) as u64;
        let bytes = &self.buffer[start..start + length];
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        Line::Whole { bytes, byte, ended: line_feed > 0 }
    }

    /// Reads more behind what is there; makes room first, by moving or by growing.
    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            let larger = (self.buffer.len() * 2).min(RECORD_LIMIT + FIRST_BUFFER);
            self.buffer.resize(larger, 0);
        }
        let count = self.reader.read(&mut self.buffer[self.end..])?;
        self.end += count;
        self.at_end = count == 0;
        Ok(())
    }

    fn skip(&mut self) -> io::Result<Line<'_>> {
        let byte = self.byte;
        loop {
            let rest = &self.buffer[self.start..self.end];
            if let Some(found) = memchr(b'\n', rest) {
                self.start += found + 1;
                self.byte += found as u64 + 1;
                break;
            }
            self.byte += rest.len() as u64;
            (self.start, self.end) = (0, 0);
            if self.at_end {
                break;
            }
            self.fill()?;
        }
        Ok(Line::TooLong { length: self.byte - byte, byte })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time, as a slow pipe does.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn lines_come_whole_whatever_the_reads_and_long_ones_are_skipped() {
        let long = vec![b'x'; RECORD_LIMIT + 1_000_000];
        let file = [b"one\r\n\ntwo\n", long.as_slice(), b"\nthree"].concat();
        for step in [3, 70_000, 10_000_000] {
            // Three bytes at a time through five megabytes is slow: only the short lines.
            let file = if step == 3 { b"one\r\n\ntwo\nthree".as_slice() } else { &file };
            let mut lines = Lines::new(Drip(file, step));
            let mut seen = Vec::new();
            while let Some(line) = lines.next().expect("memory can be read") {
                seen.push(match line {
                    Line::Whole { bytes, byte, ended } => {
                        format!("{byte} {} {ended}", String::from_utf8_lossy(bytes))
                    }
                    Line::TooLong { length, byte } => format!("{byte} +{length}"),
                });
            }
            let long = format!("10 +{}", RECORD_LIMIT + 1_000_001);
            let end = format!("{} three false", file.len() - 5);
            let mut expected = vec!["0 one true", "5  true", "6 two true"];
            if step != 3 {
                expected.push(&long);
            }
            expected.push(&end);
            assert_eq!(seen, expected);
        }
    }
}
