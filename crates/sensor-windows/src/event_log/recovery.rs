//! What becomes of a channel whose reading failed.

use std::time::{Duration, Instant};

/// Events that are taken at once.
const BATCH: usize = 64;
/// So many batches in a row may be followed by larger ones.
const MANY: u32 = 256;
/// A channel that broke is subscribed to at once, but not again within this.
const AT_ONCE_AGAIN: Duration = Duration::from_secs(1);

/// `RPC_S_INVALID_BOUND`: before Windows 11 the events of one batch may have some 2 MB in all.
const TOO_MUCH: i32 = 1_734;

/// `ERROR_NOT_FOUND` and `ERROR_EVT_QUERY_RESULT_STALE`: what a bookmark names is not there, as when the log was cleared.
const GONE: [i32; 2] = [1_168, 15_011];
/// After so many other failures its bookmark is taken to be of no use: some five minutes.
const MANY_FAILURES: u32 = 10;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Subscribe at once: nothing was lost.
    Silently,
    /// Subscribe at once, and tell a gap.
    AtOnce,
    /// Tell a gap; it is tried again with the others that are not there.
    Later,
}

/// How much is taken at once, and when it broke last.
#[derive(Debug)]
pub struct Recovery {
    batch: usize,
    taken: u32,
    broke: Option<Instant>,
    /// Times in a row that no subscription began after the bookmark.
    not_begun: u32,
}

impl Default for Recovery {
    fn default() -> Self {
        Self { batch: BATCH, taken: 0, broke: None, not_begun: 0 }
    }
}

impl Recovery {
    /// Events to be taken at once.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// No subscription began after the bookmark: whether to give the bookmark up. A service that does not answer
    /// yet is no reason.
    pub fn gives_bookmark_up(&mut self, error: &std::io::Error) -> bool {
        self.not_begun += 1;
        let gives_up = self.not_begun >= MANY_FAILURES
            || error.raw_os_error().is_some_and(|number| GONE.contains(&number));
        if gives_up {
            self.not_begun = 0;
        }
        gives_up
    }

    /// A batch was taken.
    pub fn took(&mut self) {
        self.not_begun = 0;
        self.taken += 1;
        if self.taken >= MANY {
            (self.taken, self.batch) = (0, (self.batch * 2).min(BATCH));
        }
    }

    /// It failed. The system has moved on within what it could not hand over, so that the subscription is of no
    /// use any more in any case; the bookmark stands at what was taken last.
    pub fn failed(&mut self, error: &std::io::Error, now: Instant) -> Next {
        self.taken = 0;
        if error.raw_os_error() == Some(TOO_MUCH) && self.batch > 1 {
            self.batch /= 2;
            return Next::Silently;
        }
        let broke = self.broke.replace(now);
        match broke.is_some_and(|at| now.saturating_duration_since(at) < AT_ONCE_AGAIN) {
            true => Next::Later,
            false => Next::AtOnce,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    #[test]
    fn a_batch_that_is_too_much_is_halved_down_to_one_and_grows_again() {
        let (mut recovery, now) = (Recovery::default(), Instant::now());
        let too_much = Error::from_raw_os_error(TOO_MUCH);
        for batch in [32, 16, 8, 4, 2, 1] {
            assert_eq!(recovery.failed(&too_much, now), Next::Silently);
            assert_eq!(recovery.batch(), batch);
        }
        assert_eq!(recovery.failed(&too_much, now), Next::AtOnce, "one alone is not too much: it broke");
        assert_eq!(recovery.batch(), 1);
        for _ in 0..MANY * 6 {
            recovery.took();
        }
        assert_eq!(recovery.batch(), BATCH);
    }

    #[test]
    fn what_breaks_is_subscribed_to_at_once_but_not_in_a_circle() {
        let (mut recovery, now) = (Recovery::default(), Instant::now());
        // ERROR_EVT_QUERY_RESULT_STALE
        let stale = Error::from_raw_os_error(15_011);
        assert_eq!(recovery.failed(&stale, now), Next::AtOnce);
        assert_eq!(recovery.failed(&stale, now), Next::Later);
        assert_eq!(recovery.failed(&stale, now + AT_ONCE_AGAIN), Next::AtOnce);
    }
    #[test]
    fn a_bookmark_is_given_up_where_its_record_is_gone_or_after_long() {
        let mut recovery = Recovery::default();
        for gone in GONE {
            assert!(recovery.gives_bookmark_up(&Error::from_raw_os_error(gone)));
        }
        // `RPC_S_SERVER_UNAVAILABLE`: the service begins later.
        let not_yet = Error::from_raw_os_error(1_722);
        for _ in 0..2 {
            assert!((1..MANY_FAILURES).all(|_| !recovery.gives_bookmark_up(&not_yet)));
            assert!(recovery.gives_bookmark_up(&not_yet));
        }
    }
}
