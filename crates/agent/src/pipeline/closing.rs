//! When a batch is closed: for its age and size, for what was left out or is held to be merged, for a gap that is
//! owed, and for what it stands for of the kernel's ring. A batch holds every number up to its last one, so it waits
//! for starts whose image is being read, but not for ever.

use super::Work;
use crate::recorder::MAX_UNSTORED;

impl Work {
    /// Closes the batch, if it is time to.
    pub(super) fn flush_if_due(&mut self) {
        if self.answers {
            return;
        }
        if self.recorder.is_due() || self.owes_a_gap || self.economy.is_due() {
            self.close(self.recorder.is_overdue() || self.economy.is_overdue());
        }
    }

    /// Closes the batch where it stands for much of the kernel's ring, which has room again only for what is stored.
    pub(super) fn make_room(&mut self) {
        let unstored = self.recorder.unstored();
        let has_records = || self.economy.owes_records() || !self.recorder.is_empty() || !self.is_complete();
        if unstored >= MAX_UNSTORED && has_records() {
            self.close(unstored >= 2 * MAX_UNSTORED);
        }
    }

    /// Closes the batch, unless a start waits for its hash; one that is overdue does not wait for that.
    fn close(&mut self, is_overdue: bool) {
        let mut is_complete = self.is_complete();
        if !is_complete && is_overdue {
            self.let_events_go();
            is_complete = self.is_complete();
        }
        if is_complete {
            self.flush();
        }
    }
}
