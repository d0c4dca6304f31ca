//! How much the scanner may do: half of the agent's CPU budget, saved up for ten seconds.

use std::time::{Duration, Instant};

use crate::system::clocks::thread_cpu;

/// What the scanner may save up: so much of its share.
const SAVED: f64 = 10.0;

/// CPU time that this thread may use.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Seconds of CPU for each second; `None` for no limit.
    share: Option<f64>,
    /// Seconds of CPU that are left; negative after a long scan.
    left: f64,
    looked: Instant,
    used: Duration,
}

impl Allowance {
    pub(super) fn new(cpu_permille: Option<u32>) -> Self {
        let share = cpu_permille.map(|permille| f64::from(permille.max(1)) / 1_000.0 / 2.0);
        Self { share, left: share.unwrap_or(0.0) * SAVED, looked: Instant::now(), used: thread_cpu() }
    }

    /// How long to rest after what this thread did since the last call.
    pub(super) fn rest(&mut self) -> Duration {
        let used = thread_cpu();
        let spent = used.saturating_sub(self.used).as_secs_f64();
        let passed = self.looked.elapsed().as_secs_f64();
        (self.used, self.looked) = (used, Instant::now());
        self.account(spent, passed)
    }

    /// Whether more was used than there was.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.share.is_some() && self.left < 0.0
    }

    fn account(&mut self, spent: f64, passed: f64) -> Duration {
        let Some(share) = self.share else { return Duration::ZERO };
        self.left = (self.left + passed * share - spent).min(share * SAVED);
        if self.left >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-self.left / share).unwrap_or(Duration::from_secs(3_600))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_beyond_the_share_is_rested_off() {
        let mut allowance = Allowance::new(Some(50));
        assert_eq!(allowance.account(0.2, 0.0), Duration::ZERO, "a quarter of a second is saved up");
        let rest = allowance.account(0.1, 0.0);
        assert!(rest > Duration::from_millis(1_990) && rest < Duration::from_millis(2_010), "{rest:?}");
        assert_eq!(allowance.account(0.0, rest.as_secs_f64() + 0.01), Duration::ZERO);
        assert!(!allowance.is_overdrawn());
        assert_eq!(allowance.account(0.0, 1_000_000.0), Duration::ZERO);
        assert!(
            allowance.account(1.0, 0.0) > Duration::from_secs(29),
            "no more is saved up than ten seconds'"
        );
        assert_eq!(Allowance::new(None).account(1_000.0, 0.0), Duration::ZERO);
    }
}
