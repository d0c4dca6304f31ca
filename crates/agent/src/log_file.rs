//! The agent's log as a file, where nobody takes its standard error: two files of bounded size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use os_files::OpenOptionsExt as _;

/// After this a new file is begun. The one before is kept.
const MOST_BYTES: u64 = 8 << 20;

/// A log that turns over.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    most: u64,
}

impl LogFile {
    /// Goes on with the log at this path.
    ///
    /// # Errors
    /// It can't be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with_most(path, MOST_BYTES)
    }

    fn with_most(path: &Path, most: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes, most })
    }

    fn turn_over(&mut self) -> io::Result<()> {
        let before = self.path.with_extension("log.1");
        // Some systems move no file that is open: it is copied and emptied.
        fs::copy(&self.path, before)?;
        OpenOptions::new().write(true).truncate(true).open(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.bytes > 0 && self.bytes + text.len() as u64 > self.most {
            self.turn_over()?;
        }
        let written = self.file.write(text)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_goes_on_after_a_restart_and_never_outgrows_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.log");
        for number in 0..10 {
            let mut log = LogFile::with_most(&path, 64).unwrap();
            for line in 0..5 {
                writeln!(log, "run {number} line {line}").unwrap();
            }
        }
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let (now, before) = (read(&path), read(&path.with_extension("log.1")));
        assert!(now.len() <= 64 && before.len() <= 64, "{} {}", now.len(), before.len());
        assert!(format!("{before}{now}").ends_with("run 9 line 3\nrun 9 line 4\n"), "{before}{now}");
    }
}
