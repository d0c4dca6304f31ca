//! Files of /proc that may never answer.
//!
//! The command line and the maps of a process are read out of its memory, under its memory's lock: a process that hangs
//! in a page fault (of a file system or a userfaultfd that does not answer) hangs whoever reads them too, and
//! can't be waited for with a limit. So they are read on a thread that can be left behind. How many are left behind at once
//! is bounded; each ends as soon as its read does.

use std::fs;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A read that takes longer is given up. Reads that work take microseconds.
const LIMIT: Duration = Duration::from_millis(500);

/// Threads that hang in a read. With so many, nothing more of this kind is read.
const MOST_HANGING: usize = 8;

static HANGING: AtomicUsize = AtomicUsize::new(0);

/// Reads with a limit. One thread does it until it hangs; then another takes its place.
#[derive(Default)]
pub(super) struct PatientReader {
    worker: Option<Worker>,
}

struct Worker {
    ask: Sender<(String, u64)>,
    answers: Receiver<io::Result<Vec<u8>>>,
    is_left: Arc<AtomicBool>,
}

impl PatientReader {
    /// At most `most` bytes of a file.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::TimedOut`] where the read hangs, and where too many hang already.
    pub(super) fn read(&mut self, path: &str, most: u64) -> io::Result<Vec<u8>> {
        let hangs = |why: &str| io::Error::new(io::ErrorKind::TimedOut, why.to_owned());
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None if HANGING.load(Ordering::Acquire) >= MOST_HANGING => {
                return Err(hangs("not read: too many reads of this kind hang"));
            }
            None => Worker::start()?,
        };
        let ended = || io::Error::other("the thread that reads has ended");
        worker.ask.send((path.to_owned(), most)).map_err(|_| ended())?;
        match worker.answers.recv_timeout(LIMIT) {
            Ok(read) => {
                self.worker = Some(worker);
                read
            }
            Err(_) => {
                // Counted before the thread can see that it was left.
                HANGING.fetch_add(1, Ordering::AcqRel);
                worker.is_left.store(true, Ordering::Release);
                Err(hangs("the process hangs, and reading this of it does too"))
            }
        }
    }
}

impl Worker {
    fn start() -> io::Result<Self> {
        let (ask, asked) = channel::<(String, u64)>();
        let (answer, answers) = channel();
        let is_left = Arc::new(AtomicBool::new(false));
        let left = Arc::clone(&is_left);
        let work = move || {
            for (path, most) in asked {
                if answer.send(read(&path, most)).is_err() {
                    break;
                }
            }
            // Its asker is gone: either it was left behind, or the list is complete.
            if left.load(Ordering::Acquire) {
                HANGING.fetch_sub(1, Ordering::AcqRel);
            }
        };
        std::thread::Builder::new().name("read-proc".to_owned()).spawn(work)?;
        Ok(Self { ask, answers, is_left })
    }
}

fn read(path: &str, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A FIFO that nobody writes hangs whoever opens it, as a process hangs whoever reads its memory.
    #[test]
    fn a_read_that_hangs_is_left_behind_and_the_others_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let hanging = dir.path().join("hanging").display().to_string();
        let plain = dir.path().join("plain").display().to_string();
        fs::write(&plain, "content").unwrap();
        assert!(Command::new("mkfifo").arg(&hanging).status().unwrap().success());
        let mut reader = PatientReader::default();
        for left in 1..=MOST_HANGING {
            assert_eq!(reader.read(&plain, 4).unwrap(), b"cont");
            let error = reader.read(&hanging, 4).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
            assert_eq!(HANGING.load(Ordering::Acquire), left);
        }
        // Not one more thread, whatever is asked for.
        let error = reader.read(&plain, 4).unwrap_err();
        assert!(error.kind() == io::ErrorKind::TimedOut && error.to_string().contains("too many"), "{error}");
        assert_eq!(HANGING.load(Ordering::Acquire), MOST_HANGING);
        // What they wait for comes: each ends by itself. A reader that comes later needs a writer of its own.
        while HANGING.load(Ordering::Acquire) > 0 {
            fs::OpenOptions::new().read(true).write(true).open(&hanging).unwrap();
            std::thread::yield_now();
        }
        assert_eq!(reader.read(&plain, 4).unwrap(), b"cont");
    }
}
