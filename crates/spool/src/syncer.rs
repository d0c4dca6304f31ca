//! The thread that makes appended batches durable, at most once a second.
//!
//! `append` runs in the thread that also judges and kills; an fdatasync takes
//! milliseconds there, so it is done here.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest time that an appended batch lies in memory alone.
const SYNC_EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Dirty {
    files: Vec<Arc<File>>,
    stop: bool,
}

/// Files that wait for their fdatasync.
#[derive(Default)]
struct Shared {
    dirty: Mutex<Dirty>,
    stopped: Condvar,
}

/// Owns the thread; dropping it syncs what is left and ends it.
pub(crate) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub(crate) fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("spool-sync".into()).spawn({
            let shared = shared.clone();
            move || shared.run()
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Has `file` synced within a second.
    pub(crate) fn soon(&self, file: &Arc<File>) {
        let mut dirty = self.shared.lock();
        if !dirty.files.iter().any(|known| Arc::ptr_eq(known, file)) {
            dirty.files.push(file.clone());
        }
    }

    /// Syncs all that waits, now.
    pub(crate) fn now(&self) {
        self.shared.sync();
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.stopped.notify_all();
        if let Some(thread) = self.thread.take() {
            // It only fails by a panic, which has been printed.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Dirty> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let dirty = self.lock();
            let (dirty, _) = self
                .stopped
                .wait_timeout_while(dirty, SYNC_EVERY, |dirty| !dirty.stop)
                .unwrap_or_else(PoisonError::into_inner);
            let stop = dirty.stop;
            drop(dirty);
            self.sync();
            if stop {
                return;
            }
        }
    }

    fn sync(&self) {
        let files = std::mem::take(&mut self.lock().files);
        for file in files {
            if let Err(error) = file.sync_data() {
                tracing::warn!(%error, "spool segment could not be synced, a power cut now would lose its newest batches");
            }
        }
    }
}
