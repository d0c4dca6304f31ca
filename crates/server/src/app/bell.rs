//! Wakes the thread that publishes alerts, as soon as there is one in the outbox.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Rung after a transaction that posted to the outbox. A ring that nobody waits for is kept; several
/// are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bell {
    shared: Arc<(Mutex<Rung>, Condvar)>,
}

#[derive(Debug, Default)]
struct Rung {
    rung: bool,
    is_over: bool,
}

impl Bell {
    /// There is something to be done.
    pub(crate) fn ring(&self) {
        self.locked().rung = true;
        self.shared.1.notify_all();
    }

    /// Whoever waits is to end.
    pub(crate) fn end(&self) {
        self.locked().is_over = true;
        self.shared.1.notify_all();
    }

    /// Waits for a ring, at most so long; false if it is over.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let waits = |rung: &mut Rung| !rung.rung && !rung.is_over;
        let waited = self.shared.1.wait_timeout_while(self.locked(), limit, waits);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        rung.rung = false;
        !rung.is_over
    }

    /// Waits so long whatever rings; false if it is over.
    pub(crate) fn rest(&self, time: Duration) -> bool {
        let waited = self.shared.1.wait_timeout_while(self.locked(), time, |rung| !rung.is_over);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_over
    }

    fn locked(&self) -> MutexGuard<'_, Rung> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_ring_before_the_wait_is_not_lost_and_the_end_is_heard() {
        let bell = Bell::default();
        bell.ring();
        bell.ring();
        assert!(bell.wait(LONG));
        assert!(bell.wait(Duration::ZERO), "nothing rang again");
        let other = bell.clone();
        let ringing = std::thread::spawn(move || other.ring());
        assert!(bell.wait(LONG));
        ringing.join().expect("it rang");
        bell.end();
        assert!(!bell.wait(LONG) && !bell.rest(LONG));
    }
}
