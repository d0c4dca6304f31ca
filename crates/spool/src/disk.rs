//! What the appending thread and the syncing thread share.
//!
//! Deleting needs the state on disk first, and that takes fsyncs. `append` only
//! moves the cursor and says what may go; the syncing thread stores and deletes.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::SpoolError;
use crate::queue::Inner;
use crate::segment::path_of;

pub(crate) struct Disk {
    pub(crate) dir: PathBuf,
    inner: Mutex<Inner>,
    /// Held while the state file is written, so that a newer state is never overwritten by an older.
    state_file: Mutex<()>,
    /// The last try to tidy up failed, and it was said.
    failing: AtomicBool,
}

impl Disk {
    pub(crate) fn new(dir: PathBuf, inner: Inner) -> Self {
        Self { dir, inner: Mutex::new(inner), state_file: Mutex::default(), failing: AtomicBool::new(false) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn store_state(&self) -> Result<(), SpoolError> {
        let _writing = self.state_file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.lock();
        let state = inner.state.clone();
        inner.unstored = false;
        drop(inner);
        let stored = state.store(&self.dir);
        let mut inner = self.lock();
        match &stored {
            Ok(()) => inner.state.stored_loss = inner.state.stored_loss.max(state.latest_loss),
            Err(_) => inner.unstored = true,
        }
        drop(inner);
        stored
    }

    /// Deletes segments that nobody needs: cursor first, durable, then the files.
    pub(crate) fn delete_retired(&self) -> Result<(), SpoolError> {
        let retired = self.lock().retired.clone();
        if retired.is_empty() {
            return Ok(());
        }
        self.store_state()?;
        for (id, _) in &retired {
            let path = path_of(&self.dir, *id);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(SpoolError::io("deleting", path)(error));
                }
                _ => self.lock().retired.retain(|(other, _)| other != id),
            }
        }
        Ok(())
    }

    /// Does what `append` left to do. A failure is told once and tried again at the next call.
    pub(crate) fn tidy(&self) {
        let mut done = self.delete_retired();
        if done.is_ok() && self.lock().unstored {
            done = self.store_state();
        }
        let failing = done.is_err();
        let told = self.failing.swap(failing, Ordering::Relaxed);
        if let Err(error) = done
            && !told
        {
            tracing::warn!(%error, "the spool can't be tidied up, it is tried again every second");
        }
    }
}
