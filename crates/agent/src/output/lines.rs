//! Whole lines to a file or pipe.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use os_files::FileExt as _;

/// Writes whole lines, also behind one that was torn.
pub(super) struct Lines<W> {
    writer: W,
    /// The last byte that was written does not end a line.
    torn: bool,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { writer, torn: false }
    }

    /// Writes all of `lines`, or says how much of it got out.
    pub(super) fn put(&mut self, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        while self.torn {
            match self.writer.write(b"\n") {
                Ok(0) => return Err((0, io::ErrorKind::WriteZero.into())),
                Ok(_) => self.torn = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((0, error)),
            }
        }
        let mut written = 0;
        let failed = loop {
            if written == lines.len() {
                break None;
            }
            match self.writer.write(&lines[written..]) {
                Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        self.torn = written > 0 && lines[written - 1] != b'\n';
        failed.map_or(Ok(()), |error| Err((written, error)))
    }
}

impl Lines<File> {
    /// To the end of a file, which is at `path`.
    pub(super) fn after_what_is_in(path: &Path, file: File) -> Self {
        let torn = ends_within_a_line(path, &file);
        Self { writer: file, torn }
    }
}

/// Whether an earlier run left the file within a line.
fn ends_within_a_line(path: &Path, file: &File) -> bool {
    let Ok(found) = file.metadata() else { return false };
    let mut last = [b'\n'];
    found.is_file()
        && found.len() > 0
        && File::open(path).and_then(|file| file.read_exact_at(&mut last, found.len() - 1)).is_ok()
        && last != [b'\n']
}
