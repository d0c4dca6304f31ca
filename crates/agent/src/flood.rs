//! Keeps a rule that matches again and again from drowning everything else.
//!
//! A detection is a record with a copy of its event: a rule or an indicator that fits what a host does all the time
//! would fill the spool with them, and push out what matters. Of one rule and one program only so many detections are
//! made in a minute; the rest is counted and told as a gap. Events themselves and what rules do about them are not touched.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use event_model::RuleId;

/// Detections of one rule by one program in a minute. The server shows them as one alert with a count.
pub(crate) const LIMIT: u32 = 1_000;

/// Pairs of rule and program that are counted in a minute; all beyond are counted as one.
const PAIRS: usize = 16_384;

/// Rules that are named in the agent's log for each minute.
const NAMED: usize = 16;

const MINUTE_NS: u64 = 60_000_000_000;

/// Detections that were not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// How many.
    pub count: u64,
    /// When the first of them would have been, in nanoseconds since boot.
    pub from_ns: u64,
    /// And the last.
    pub until_ns: u64,
    /// Some of the rules.
    pub rules: Vec<RuleId>,
}

/// Counts detections.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    hashing: RandomState,
    minute: u64,
    counts: HashMap<u64, u32>,
    withheld: Option<Withheld>,
}

impl Flood {
    /// Whether a detection of the rule, by something that this program did, is to be made.
    pub(crate) fn lets_through(&mut self, rule: &str, program: &str, at_ns: u64) -> bool {
        let minute = at_ns / MINUTE_NS;
        if minute != self.minute {
            self.minute = minute;
            self.counts.clear();
        }
        let mut key = self.hashing.hash_one((rule, program));
        if self.counts.len() >= PAIRS && !self.counts.contains_key(&key) {
            key = 0;
        }
        let count = self.counts.entry(key).or_default();
        *count = count.saturating_add(1);
        if *count <= LIMIT {
            return true;
        }
        let none = Withheld { count: 0, from_ns: at_ns, until_ns: at_ns, rules: Vec::new() };
        let withheld = self.withheld.get_or_insert(none);
        withheld.count += 1;
        (withheld.from_ns, withheld.until_ns) = (withheld.from_ns.min(at_ns), withheld.until_ns.max(at_ns));
        if withheld.rules.len() < NAMED && !withheld.rules.iter().any(|known| known.as_str() == rule) {
            withheld.rules.push(RuleId::new(rule));
        }
        false
    }

    /// What was withheld since the last time.
    pub(crate) fn take_withheld(&mut self) -> Option<Withheld> {
        self.withheld.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_rule_and_program_so_many_come_through_in_a_minute() {
        let mut flood = Flood::default();
        let mut through = |rule, program, at| flood.lets_through(rule, program, at);
        let count = (0..3_000).filter(|at| through("a", "/bin/x", *at)).count();
        assert_eq!(count, 1_000);
        assert!(through("a", "/bin/y", 3_000) && through("b", "/bin/x", 3_000), "others are not touched");
        assert!(through("a", "/bin/x", MINUTE_NS), "nor is the next minute");
        let rules = vec![RuleId::new("a")];
        let withheld = Withheld { count: 2_000, from_ns: 1_000, until_ns: 2_999, rules };
        assert_eq!(flood.take_withheld(), Some(withheld));
        assert_eq!(flood.take_withheld(), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut flood = Flood::default();
        let count = (0..100_000).filter(|nth| flood.lets_through("a", &format!("/bin/{nth}"), 1)).count();
        assert_eq!((count, flood.counts.len()), (PAIRS + 1_000, PAIRS + 1));
    }
}
