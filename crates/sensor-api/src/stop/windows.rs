use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

pub use win32::clock::boot_ns;

#[derive(Debug, Default)]
struct Asked {
    asked: Mutex<bool>,
    changed: Condvar,
}

/// Asks sources to stop, once it is dropped.
#[derive(Debug)]
pub struct StopHandle {
    shared: Arc<Asked>,
}

impl Drop for StopHandle {
    fn drop(&mut self) {
        *self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.changed.notify_all();
    }
}

/// Says when the source is to stop.
#[derive(Debug, Clone)]
pub struct StopSignal {
    shared: Arc<Asked>,
}

impl StopSignal {
    /// Waits for so long; true once the source is to stop.
    pub fn asked_within(&self, limit: Duration) -> bool {
        let asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.shared.changed.wait_timeout_while(asked, limit, |asked| !*asked);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A pair of them.
///
/// # Errors
/// None here.
pub fn stop_signal() -> std::io::Result<(StopHandle, StopSignal)> {
    let shared = Arc::new(Asked::default());
    Ok((StopHandle { shared: Arc::clone(&shared) }, StopSignal { shared }))
}
