//! Questions to the system that it may never answer.
//!
//! The command line, the environment and the maps of a process are read out of its memory, under its memory's lock: a
//! process that hangs in a page fault (of a file system or a userfaultfd that does not answer) hangs whoever reads them
//! too, and can't be waited for with a limit. The same goes for the state of a file in a file system of somebody's own.
//! So this is asked on a thread that can be left behind. How many are left behind at once is bounded; each ends as soon
//! as its answer comes.

use std::fs;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// A question that takes longer is given up. Answers take microseconds.
const LIMIT: Duration = Duration::from_millis(500);

/// So long is waited in any case, and what took no longer counts as answered at once.
const SHORTEST_LIMIT: Duration = Duration::from_millis(20);

/// So much is waited for slow answers before the limit shrinks: who answers just before it must not be able to hold up
/// whoever asks about many. It fills again with a fiftieth of the time.
const PATIENCE: Duration = Duration::from_secs(10);
const FILLS_BY: u32 = 50;

/// What a thread needs to wait for one file.
const STACK: usize = 128 << 10;

/// How many threads hang of those that ask about one kind of thing, and how many may. With so many, nothing more is asked.
#[derive(Debug)]
pub struct Hanging {
    now: AtomicUsize,
    most: usize,
}

impl Hanging {
    /// None hangs, and at most so many may: each costs some tens of KiB until its answer comes.
    pub const fn new(most: usize) -> Self {
        Self { now: AtomicUsize::new(0), most }
    }
}

/// Asks with a limit. One thread does it until it hangs; then another takes its place.
#[derive(Debug)]
pub struct PatientReader {
    hanging: &'static Hanging,
    worker: Option<Worker>,
    patience: Duration,
    patience_at: Instant,
}

#[derive(Debug)]
struct Worker {
    ask: Sender<Box<dyn FnOnce() + Send>>,
    is_left: Arc<AtomicBool>,
}

impl PatientReader {
    /// One that counts its threads there.
    pub fn new(hanging: &'static Hanging) -> Self {
        Self { hanging, worker: None, patience: PATIENCE, patience_at: Instant::now() }
    }

    /// At most `most` bytes of a file.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::TimedOut`] where the read hangs, and where too many hang already.
    pub fn read(&mut self, path: &str, most: u64) -> io::Result<Vec<u8>> {
        let path = path.to_owned();
        self.ask(move || {
            let mut bytes = Vec::new();
            fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
            Ok(bytes)
        })
    }

    /// The answer to a question.
    ///
    /// # Errors
    /// The question's; [`io::ErrorKind::TimedOut`] where it hangs, and where too many hang already.
    pub fn ask<T: Send + 'static>(
        &mut self,
        question: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let hangs = |why: &str| io::Error::new(io::ErrorKind::TimedOut, why.to_owned());
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None if self.hanging.now.load(Ordering::Acquire) >= self.hanging.most => {
                return Err(hangs("not read: too many reads of this kind hang"));
            }
            None => Worker::start(self.hanging)?,
        };
        let (answer, answers) = channel();
        let ended = || io::Error::other("the thread that reads has ended");
        let asked_at = Instant::now();
        let question = move || {
            // Nobody may wait for it any more.
            let _ = answer.send(question());
        };
        worker.ask.send(Box::new(question)).map_err(|_| ended())?;
        let answered = answers.recv_timeout(self.limit(asked_at));
        self.count(asked_at.elapsed());
        match answered {
            Ok(answer) => {
                self.worker = Some(worker);
                answer
            }
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
            Err(RecvTimeoutError::Timeout) => {
                // Counted before the thread can see that it was left.
                self.hanging.now.fetch_add(1, Ordering::AcqRel);
                worker.is_left.store(true, Ordering::Release);
                Err(hangs("the process hangs, and reading this of it does too"))
            }
        }
    }

    fn limit(&mut self, now: Instant) -> Duration {
        let filled = now.duration_since(self.patience_at) / FILLS_BY;
        (self.patience, self.patience_at) = ((self.patience + filled).min(PATIENCE), now);
        self.patience.clamp(SHORTEST_LIMIT, LIMIT)
    }

    fn count(&mut self, waited: Duration) {
        if waited >= SHORTEST_LIMIT {
            self.patience = self.patience.saturating_sub(waited);
        }
    }
}

impl Worker {
    fn start(hanging: &'static Hanging) -> io::Result<Self> {
        let (ask, asked): (_, Receiver<Box<dyn FnOnce() + Send>>) = channel();
        let is_left = Arc::new(AtomicBool::new(false));
        let left = Arc::clone(&is_left);
        let work = move || {
            for question in asked {
                question();
            }
            // Its asker is gone: either it was left behind, or there is nothing more to ask.
            if left.load(Ordering::Acquire) {
                hanging.now.fetch_sub(1, Ordering::AcqRel);
            }
        };
        std::thread::Builder::new().name("read-proc".to_owned()).stack_size(STACK).spawn(work)?;
        Ok(Self { ask, is_left })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A FIFO that nobody writes hangs whoever opens it, as a process hangs whoever reads its memory.
    #[test]
    fn a_read_that_hangs_is_left_behind_and_the_others_go_on() {
        const MOST: usize = 8;
        static HANGING: Hanging = Hanging::new(MOST);
        let hang = || HANGING.now.load(Ordering::Acquire);
        let dir = tempfile::tempdir().unwrap();
        let hanging = dir.path().join("hanging").display().to_string();
        let plain = dir.path().join("plain").display().to_string();
        fs::write(&plain, "content").unwrap();
        assert!(Command::new("mkfifo").arg(&hanging).status().unwrap().success());
        let mut reader = PatientReader::new(&HANGING);
        // A busy host may be late with any read; what was left for that comes back by itself.
        let read_plain = |reader: &mut PatientReader| loop {
            match reader.read(&plain, 4) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => std::thread::yield_now(),
                other => break assert_eq!(other.unwrap(), b"cont"),
            }
        };
        for left in 1..=MOST {
            read_plain(&mut reader);
            while hang() >= left {
                std::thread::yield_now();
            }
            let error = reader.read(&hanging, 4).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
            assert_eq!(hang(), left);
        }
        // Not one more thread, whatever is asked for.
        let error = reader.read(&plain, 4).unwrap_err();
        assert!(error.kind() == io::ErrorKind::TimedOut && error.to_string().contains("too many"), "{error}");
        assert_eq!(hang(), MOST);
        // What they wait for comes: each ends by itself. A reader that comes later needs a writer of its own.
        while hang() > 0 {
            fs::OpenOptions::new().read(true).write(true).open(&hanging).unwrap();
            std::thread::yield_now();
        }
        read_plain(&mut reader);
    }

    /// Whoever answers just within the limit, again and again, does not hold up the asker for ever.
    #[test]
    fn patience_ends_with_slow_answers_and_comes_back() {
        static HANGING: Hanging = Hanging::new(1);
        let mut reader = PatientReader::new(&HANGING);
        let now = reader.patience_at;
        assert_eq!(reader.limit(now), LIMIT);
        (0..1_000).for_each(|_| reader.count(Duration::from_millis(19)));
        assert_eq!(reader.limit(now), LIMIT, "what is answered at once costs nothing");
        (0..25).for_each(|_| reader.count(Duration::from_millis(400)));
        assert_eq!(reader.limit(now), SHORTEST_LIMIT);
        assert_eq!(reader.limit(now + Duration::from_secs(10)), Duration::from_millis(200));
        assert_eq!(reader.limit(now + Duration::from_secs(3_600)), LIMIT);
        assert_eq!(reader.patience, PATIENCE);
    }
}
