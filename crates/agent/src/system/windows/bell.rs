//! Wakes a thread that also waits to be stopped.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sensor_api::StopSignal;

/// A stop is noticed after this at the latest.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Rings until it is heard.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rings: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self::default())
    }

    pub(crate) fn ring(&self) {
        *self.rings.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits for the stop, for so long, and, if `listens`, for the bell; true if it is to stop.
    pub(crate) fn stops(&self, stop: &StopSignal, limit: Duration, listens: bool) -> bool {
        if !listens {
            return stop.asked_within(limit);
        }
        let until = Instant::now() + limit;
        loop {
            if stop.asked_within(Duration::ZERO) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now()).min(LOOK_EVERY);
            let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.changed.wait_timeout_while(rings, left, |rings| !*rings);
            let (mut rings, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if std::mem::take(&mut *rings) || Instant::now() >= until {
                return stop.asked_within(Duration::ZERO);
            }
        }
    }
}
