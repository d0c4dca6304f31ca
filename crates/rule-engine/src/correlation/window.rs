//! The groups of a correlation, and what of each is within the timespan.

use std::collections::HashMap;

use super::Asked;
use super::memory::{Entry, Memory};

/// Groups of one correlation. The one that was quiet longest gives way to a new one.
const GROUPS_LIMIT: usize = 50_000;
/// Longest value of a group that is remembered, in bytes; a longer one is cut.
const VALUE_LIMIT: usize = 512;

/// The groups of a correlation.
#[derive(Debug)]
pub(super) struct Windows {
    timespan: i64,
    groups: HashMap<Vec<String>, Group>,
    /// What all of it takes, roughly.
    bytes: usize,
    /// Matches that were forgotten for want of room.
    evicted: u64,
}

#[derive(Debug)]
struct Group {
    memory: Memory,
    /// Its first match, where it is judged when the time is over.
    begin: i64,
    /// Its latest: a match that comes late doesn't turn time back.
    newest: i64,
}

/// What a group takes besides its matches: its key, and its place in the table.
fn bytes_of_key(key: &[String]) -> usize {
    const PLACE: usize = size_of::<Vec<String>>() + size_of::<Group>() + 16;
    PLACE + key.iter().map(|value| size_of::<String>() + value.len()).sum::<usize>()
}

impl Windows {
    pub(super) fn new(timespan: i64) -> Self {
        Self { timespan, groups: HashMap::new(), bytes: 0, evicted: 0 }
    }

    /// What all of it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Matches that were forgotten for want of room.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Takes a match; gives the group if it fulfils the condition now, or the one whose
    /// time has run out and that fulfilled it then.
    pub(super) fn take(
        &mut self,
        asked: &Asked,
        mut key: Vec<String>,
        mut entry: Entry,
    ) -> Option<Vec<String>> {
        for value in key.iter_mut().chain([&mut entry.value]) {
            let end = value.floor_char_boundary(VALUE_LIMIT);
            value.truncate(end);
        }
        if self.groups.len() >= GROUPS_LIMIT && !self.groups.contains_key(&key) {
            self.forget_quietest(asked, entry.time);
        }
        let (time, timespan) = (entry.time, self.timespan);
        let kind = &asked.spec.kind;
        let empty = || Memory::new(asked, timespan);
        let group = self.groups.entry(key.clone()).or_insert_with(|| {
            let memory = empty();
            self.bytes += bytes_of_key(&key) + memory.bytes();
            Group { memory, begin: time, newest: time }
        });
        let before = group.memory.bytes();
        let fires;
        if kind.is_judged_at_end() {
            // A bound from above can only be judged when the time is over: what began with the first match.
            let is_over = time > group.begin.saturating_add(timespan);
            fires = is_over && group.memory.fulfils(asked, group.begin);
            if is_over {
                *group = Group { memory: empty(), begin: time, newest: time };
            }
            group.newest = group.newest.max(time);
            // What comes so late that the rest would not be in its time belongs to a time that is over.
            if time >= group.newest.saturating_sub(timespan) {
                group.begin = group.begin.min(time);
                self.evicted += group.memory.insert(kind, entry);
            }
        } else {
            group.newest = group.newest.max(time);
            let limit = group.newest.saturating_sub(timespan);
            if time >= limit {
                self.evicted += group.memory.insert(kind, entry);
            }
            group.memory.forget_before(limit);
            fires = group.memory.fulfils(asked, limit);
            if fires || group.memory.len() == 0 {
                self.bytes = self.bytes.saturating_sub(before + bytes_of_key(&key));
                self.groups.remove(&key);
                return fires.then_some(key);
            }
        }
        self.bytes = (self.bytes + group.memory.bytes()).saturating_sub(before);
        fires.then_some(key)
    }

    /// Makes room: the groups go whose time is over at this time, and the quietest, at least a tenth at once, so that
    /// this is rare. What is over is not counted as forgotten: nothing could come of it.
    pub(super) fn forget_quietest(&mut self, asked: &Asked, now: i64) {
        let mut left = self.groups.len().div_ceil(10);
        if !asked.spec.kind.is_judged_at_end() {
            let limit = now.saturating_sub(self.timespan);
            let Self { groups, bytes, .. } = self;
            groups.retain(|key, group| {
                let stays = group.newest >= limit;
                if !stays {
                    left = left.saturating_sub(1);
                    *bytes = bytes.saturating_sub(group.memory.bytes() + bytes_of_key(key));
                }
                stays
            });
        }
        let mut last: Vec<i64> = self.groups.values().map(|group| group.newest).collect();
        left = left.min(last.len());
        let Some(nth) = left.checked_sub(1) else { return };
        let (_, limit, _) = last.select_nth_unstable(nth);
        let limit = *limit;
        let Self { groups, bytes, evicted, .. } = self;
        groups.retain(|key, group| {
            // Many groups may have been heard of last at the same time.
            let stays = left == 0 || group.newest > limit;
            if !stays {
                left -= 1;
                *bytes = bytes.saturating_sub(group.memory.bytes() + bytes_of_key(key));
                *evicted += group.memory.len() as u64;
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::together::Together;
    use super::super::{Bound, Correlation, CorrelationKind, Measure};
    use super::*;
    use crate::expression::Order;

    fn kinds() -> Vec<CorrelationKind> {
        let fields = || vec!["f".to_owned()];
        let measured =
            |measure, order, number| CorrelationKind::Measured(measure, vec![Bound::Is(order, number)]);
        vec![
            measured(Measure::Events, Order::GreaterOrEqual, 2.0),
            measured(Measure::Events, Order::LessOrEqual, 20.0),
            measured(Measure::Rules, Order::GreaterOrEqual, 2.0),
            measured(Measure::Distinct(fields()), Order::GreaterOrEqual, 2.0),
            measured(Measure::Sum(fields()), Order::GreaterOrEqual, 2.0),
            measured(Measure::Average(fields()), Order::GreaterOrEqual, 1.5),
            measured(Measure::Percentile(fields(), 50.0), Order::GreaterOrEqual, 2.0),
            CorrelationKind::Together(None),
            CorrelationKind::Ordered,
        ]
    }

    #[test]
    fn bytes_are_those_of_the_groups_that_are_left() {
        for kind in kinds() {
            let spec = Correlation {
                kind,
                rules: vec!["a".to_owned(), "b".to_owned()],
                group_by: vec!["g".to_owned()],
                timespan_ns: 10,
                aliases: Vec::new(),
                generate: false,
            };
            let asked = Asked { spec: Arc::new(spec), rules: 2, together: Together::all_of(2) };
            let kind = &asked.spec.kind;
            let mut windows = Windows::new(10);
            let take = |group: &str, time: i64, nth: usize, windows: &mut Windows| {
                let entry = Entry { time, nth, value: (nth + 1).to_string() };
                let fires = windows.take(&asked, vec![group.to_owned()], entry).is_some();
                let left = windows.groups.iter().map(|(key, own)| bytes_of_key(key) + own.memory.bytes());
                assert_eq!(windows.bytes, left.sum::<usize>(), "{kind:?}");
                fires
            };
            take("stays", 0, 0, &mut windows);
            assert!(windows.bytes > 0, "{kind:?}");
            let mut has_fired = false;
            for time in 0..30 {
                has_fired |= take("fires", time, usize::from(time % 2 == 1), &mut windows);
            }
            assert!(has_fired, "{kind:?}");
            while !windows.groups.is_empty() {
                windows.forget_quietest(&asked, 0);
            }
            assert_eq!(windows.bytes, 0, "{kind:?}");
        }
    }

    #[test]
    fn room_is_made_by_what_is_over_and_that_is_not_counted() {
        let spec = Correlation {
            kind: CorrelationKind::Ordered,
            rules: vec!["a".to_owned(), "b".to_owned()],
            group_by: vec!["g".to_owned()],
            timespan_ns: 10,
            aliases: Vec::new(),
            generate: false,
        };
        let asked = Asked { spec: Arc::new(spec), rules: 2, together: Together::all_of(2) };
        let mut windows = Windows::new(10);
        for time in 0..20 {
            let entry = Entry { time, nth: 0, value: String::new() };
            windows.take(&asked, vec![time.to_string()], entry);
        }
        windows.forget_quietest(&asked, 19);
        assert_eq!((windows.groups.len(), windows.evicted), (11, 0));
        windows.forget_quietest(&asked, 19);
        assert_eq!((windows.groups.len(), windows.evicted), (9, 2));
    }
}
