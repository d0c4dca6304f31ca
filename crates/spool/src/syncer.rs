//! The thread that makes appended batches durable, at most once a second, and
//! deletes what was given up.
//!
//! `append` runs in the thread that also judges and kills; an fdatasync takes
//! milliseconds there, so it is done here.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use os_files::Folder;

use crate::disk::Disk;

/// Longest time that an appended batch lies in memory alone.
const SYNC_EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Dirty {
    files: Vec<Arc<File>>,
    folder: Option<Arc<Folder>>,
    tidy: bool,
    stop: bool,
}

/// Files that wait for their fdatasync.
struct Shared {
    disk: Arc<Disk>,
    dirty: Mutex<Dirty>,
    wake: Condvar,
}

/// Owns the thread; dropping it syncs what is left and ends it.
pub(crate) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub(crate) fn start(disk: Arc<Disk>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { disk, dirty: Mutex::default(), wake: Condvar::new() });
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

    /// Has the names in the folder synced within a second.
    pub(crate) fn folder_soon(&self, folder: &Arc<Folder>) {
        self.shared.lock().folder.get_or_insert_with(|| Arc::clone(folder));
    }

    /// Has the state stored and old segments deleted, at once but not here.
    pub(crate) fn tidy(&self) {
        self.shared.lock().tidy = true;
        self.shared.wake.notify_all();
    }

    /// Syncs all that waits, now.
    pub(crate) fn now(&self) {
        self.shared.sync();
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_all();
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
            let (mut dirty, _) = self
                .wake
                .wait_timeout_while(dirty, SYNC_EVERY, |dirty| !dirty.stop && !dirty.tidy)
                .unwrap_or_else(PoisonError::into_inner);
            let stop = dirty.stop;
            dirty.tidy = false;
            drop(dirty);
            self.sync();
            self.disk.tidy();
            if stop {
                return;
            }
        }
    }

    fn sync(&self) {
        let mut dirty = self.lock();
        let (files, folder) = (std::mem::take(&mut dirty.files), dirty.folder.take());
        drop(dirty);
        let files = files.iter().map(|file| file.sync_data());
        for synced in files.chain(folder.iter().map(|folder| folder.sync_all())) {
            if let Err(error) = synced {
                tracing::warn!(%error, "spool segment could not be synced, a power cut now would lose its newest batches");
            }
        }
    }
}
