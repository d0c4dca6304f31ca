//! Threads for work that may never end: a caller's memory may be a file of a program's that never answers. Nobody waits
//! for them, and one that is stuck is replaced.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A thread that is at one job for so long is stuck. The answer is late anyway.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(1);

/// How many threads may be stuck at once, in the whole life of the process: each has a stack, and stays until whoever
/// it waits for answers or ends.
#[derive(Debug, Clone, Default)]
pub(super) struct StuckThreads(Arc<Mutex<usize>>);

impl StuckThreads {
    pub(super) const MOST: usize = 32;

    /// Whether there is room for one more.
    fn add(&self) -> bool {
        let mut count = lock(&self.0);
        let has_room = *count < Self::MOST;
        *count += usize::from(has_room);
        has_room
    }

    fn has_room(&self) -> bool {
        *lock(&self.0) < Self::MOST
    }

    /// There is one more, whether there is room or not.
    fn count(&self) {
        *lock(&self.0) += 1;
    }

    fn remove(&self) {
        let mut count = lock(&self.0);
        *count = count.saturating_sub(1);
    }
}

#[derive(Debug)]
struct Busy {
    since: Instant,
    /// It is counted as stuck, and ends with its job: another one has taken its place, or none is needed.
    replaced: bool,
}

/// Does jobs side by side.
pub(super) struct Workers<T> {
    jobs: SyncSender<T>,
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    queue: Mutex<Receiver<T>>,
    busy: Mutex<HashMap<u64, Busy>>,
    work: Box<dyn Fn(T) + Send + Sync>,
    stuck: StuckThreads,
}

impl<T: Send + 'static> Workers<T> {
    /// So many threads, for which so many jobs may wait. They end some time after this is dropped.
    ///
    /// # Errors
    /// If a thread can't be started, or too many are stuck.
    pub(super) fn start(
        threads: usize,
        waiting: usize,
        stuck: StuckThreads,
        work: impl Fn(T) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        if !stuck.has_room() {
            return Err(io::Error::other("too many threads wait for what does not come"));
        }
        let (jobs, queue) = sync_channel(waiting);
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            busy: Mutex::default(),
            work: Box::new(work),
            stuck,
        });
        for _ in 0..threads {
            spawn(&shared)?;
        }
        Ok(Self { jobs, shared })
    }

    /// Hands a job over; gives it back where there is no room. Never waits.
    pub(super) fn give(&self, job: T) -> Result<(), T> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }

    /// Puts others in the places of threads that have been at one job for so long: how many, and whether there is one
    /// that is not replaced, because too many are stuck.
    pub(super) fn replace_stuck(&self, after: Duration) -> (u64, bool) {
        let mut replaced = 0;
        for one in lock(&self.shared.busy).values_mut() {
            if one.replaced || one.since.elapsed() < after {
                continue;
            }
            if !self.shared.stuck.add() {
                return (replaced, true);
            }
            if spawn(&self.shared).is_err() {
                self.shared.stuck.remove();
                return (replaced, true);
            }
            one.replaced = true;
            replaced += 1;
        }
        (replaced, false)
    }
}

impl<T> Drop for Workers<T> {
    /// Nobody will look any more for how long they are at it.
    fn drop(&mut self) {
        for one in lock(&self.shared.busy).values_mut().filter(|one| !one.replaced) {
            self.shared.stuck.count();
            one.replaced = true;
        }
    }
}

fn spawn<T: Send + 'static>(shared: &Arc<Shared<T>>) -> io::Result<()> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new().name("gate-judge".to_owned()).spawn(move || shared.run())?;
    Ok(())
}

impl<T> Shared<T> {
    /// Works until nothing can come any more, or somebody has its place.
    fn run(&self) {
        loop {
            let job = lock(&self.queue).recv();
            let Ok(job) = job else { return };
            let number = {
                let mut busy = lock(&self.busy);
                let number = (0..).find(|number| !busy.contains_key(number)).unwrap_or(u64::MAX);
                busy.insert(number, Busy { since: Instant::now(), replaced: false });
                number
            };
            (self.work)(job);
            let was = lock(&self.busy).remove(&number);
            if was.is_some_and(|was| was.replaced) {
                self.stuck.remove();
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// Jobs that wait until they are told, and say when they are done.
    type Job = (Receiver<()>, u32);

    #[test]
    fn who_is_stuck_is_replaced_and_holds_nobody_up() {
        let patience = Duration::from_secs(60);
        let (done, finished) = channel();
        let done = Mutex::new(done);
        let stuck = StuckThreads::default();
        let workers = Workers::start(2, 8, stuck.clone(), move |(go, number): Job| {
            let _ = go.recv();
            lock(&done).send(number).unwrap();
        })
        .unwrap();
        let job = |number| {
            let (go, wait) = channel();
            assert!(workers.give((wait, number)).is_ok());
            go
        };
        let never = [job(1), job(2)];
        assert_eq!(workers.replace_stuck(patience), (0, false), "nobody is at it for so long");
        // Until both have begun, and two others are there.
        let begun = Instant::now();
        let mut replaced = 0;
        while replaced < 2 && begun.elapsed() < patience {
            replaced += workers.replace_stuck(Duration::ZERO).0;
            std::thread::yield_now();
        }
        assert_eq!(replaced, 2);
        // Not before: whoever took a third one would have been replaced, too.
        drop(job(3));
        assert_eq!(finished.recv_timeout(patience), Ok(3));
        // They go on with what they are at, and end.
        drop(never);
        let mut last = [finished.recv_timeout(patience).unwrap(), finished.recv_timeout(patience).unwrap()];
        last.sort_unstable();
        assert_eq!(last, [1, 2]);
        while *lock(&stuck.0) > 0 && begun.elapsed() < patience {
            std::thread::yield_now();
        }
        assert_eq!(*lock(&stuck.0), 0);
    }

    #[test]
    fn there_is_an_end_to_replacing() {
        let stuck = StuckThreads::default();
        let (go, wait) = channel::<()>();
        let (told, begun) = channel();
        let (told, wait) = (Mutex::new(told), Mutex::new(wait));
        let workers = Workers::start(1, 1, stuck.clone(), move |()| {
            lock(&told).send(()).unwrap();
            let _ = lock(&wait).recv();
        })
        .unwrap();
        workers.give(()).unwrap();
        begun.recv().unwrap();
        assert!((0..StuckThreads::MOST).all(|_| stuck.add()));
        assert!(Workers::start(1, 1, stuck.clone(), |()| {}).is_err(), "nor is there a beginning");
        assert_eq!(workers.replace_stuck(Duration::ZERO), (0, true));
        drop(go);
    }

    #[test]
    fn who_is_at_work_at_the_end_is_counted_until_it_is_done() {
        let (go, wait) = channel::<()>();
        let (told, begun) = channel();
        let (told, wait) = (Mutex::new(told), Mutex::new(wait));
        let stuck = StuckThreads::default();
        let workers = Workers::start(1, 1, stuck.clone(), move |()| {
            lock(&told).send(()).unwrap();
            let _ = lock(&wait).recv();
        })
        .unwrap();
        workers.give(()).unwrap();
        begun.recv().unwrap();
        drop(workers);
        assert_eq!(*lock(&stuck.0), 1);
        drop(go);
        let since = Instant::now();
        while *lock(&stuck.0) > 0 && since.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        assert_eq!(*lock(&stuck.0), 0);
    }
}
