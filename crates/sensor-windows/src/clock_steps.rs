//! Whether the wall clock was set back, by which Windows says when a process began.

/// A step of less is none: between the two readings the thread may be put aside. In units of 100 ns.
const STEP: u64 = 10_000_000;

/// Measurements of the wall clock against the counter that never steps.
#[derive(Debug, Default)]
pub(crate) struct ClockSteps {
    zero: Option<u64>,
    was_set_back: bool,
}

impl ClockSteps {
    /// Takes the wall clock (units of 100 ns since 1601) and the counter (nanoseconds) of one moment.
    pub(crate) fn measured(&mut self, wall: u64, counter_ns: u64) {
        let zero = wall.saturating_sub(counter_ns / 100);
        self.was_set_back |= self.zero.is_some_and(|before| zero.saturating_add(STEP) < before);
        self.zero = Some(zero);
    }

    /// Whether who holds a child's parent PID began before it. Somebody who began later has the PID of a parent that is
    /// gone, by the times that Windows gives. They are of no use once the clock was set back; then whoever
    /// `was_seen_before` the child was there is its parent.
    pub(crate) fn is_parent(&self, start_ns: u64, child_start_ns: u64, was_seen_before: bool) -> bool {
        start_ns <= child_start_ns || (self.was_set_back && was_seen_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_known_by_the_times_until_the_clock_is_set_back() {
        const SECOND: u64 = 10_000_000;
        let mut clock = ClockSteps::default();
        clock.measured(1_000 * SECOND, 0);
        // The counter goes on as the clock does; it is set forward, and slewed.
        clock.measured(1_001 * SECOND, 1_000_000_000);
        clock.measured(2_000 * SECOND, 2_000_000_000);
        clock.measured(2_000 * SECOND + SECOND / 2, 3_000_000_000);
        assert!(clock.is_parent(5, 5, false) && clock.is_parent(4, 5, false));
        assert!(!clock.is_parent(6, 5, true), "it has the number of a parent that is gone");
        clock.measured(1_000 * SECOND, 4_000_000_000);
        assert!(clock.is_parent(6, 5, true));
        assert!(!clock.is_parent(6, 5, false) && clock.is_parent(5, 6, false));
    }
}
