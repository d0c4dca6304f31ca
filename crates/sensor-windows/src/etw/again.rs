//! When to begin again what somebody ended.

use std::time::{Duration, Instant};

/// The first pause; each one that follows is twice as long.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause. Two agents on one host take the session from each other: not more often than this.
const LONGEST: Duration = Duration::from_secs(60);
/// What lasted so long was no part of such a quarrel.
const STEADY: Duration = Duration::from_secs(300);

/// The pauses.
#[derive(Debug)]
pub struct Again {
    pause: Duration,
    due: Option<Instant>,
    begun: Instant,
}

impl Again {
    /// It has begun.
    pub fn new(now: Instant) -> Self {
        Self { pause: FIRST, due: None, begun: now }
    }

    /// It has ended, or could not begin.
    pub fn ended(&mut self, now: Instant) {
        if self.due.is_none() && now.saturating_duration_since(self.begun) >= STEADY {
            self.pause = FIRST;
        }
        self.due = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST);
    }

    /// Whether to begin now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| now >= due)
    }

    /// It has begun again.
    pub fn began(&mut self, now: Instant) {
        (self.due, self.begun) = (None, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_it_is_ended_again_and_again() {
        let mut now = Instant::now();
        let mut again = Again::new(now);
        assert!(!again.is_due(now), "it runs");
        let mut pauses = Vec::new();
        for _ in 0..10 {
            again.ended(now);
            let begun = now;
            while !again.is_due(now) {
                now += FIRST;
            }
            pauses.push(now - begun);
            again.began(now);
        }
        assert_eq!(pauses[..3], [FIRST, FIRST * 2, FIRST * 4]);
        assert_eq!(pauses[9], LONGEST);
        now += STEADY;
        again.ended(now);
        assert!(again.is_due(now + FIRST), "it had lasted");
    }
}
