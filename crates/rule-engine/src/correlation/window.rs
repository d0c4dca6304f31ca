//! What a correlation remembers, for each group of values.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{Bound, CorrelationKind, Measure};
use crate::sigma::{ConditionTree, is_like};

/// Groups of one correlation. The one that was quiet longest gives way to a new one.
const GROUPS_LIMIT: usize = 50_000;
/// Matches that are remembered for one group; the oldest give way.
const ENTRIES_LIMIT: usize = 20_000;
/// Longest value of a group that is remembered, in bytes; a longer one is cut.
const VALUE_LIMIT: usize = 512;

/// A match of one of the rules.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) time: i64,
    /// Which of the rules.
    pub(super) nth: usize,
    /// What is measured.
    pub(super) value: String,
}

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

#[derive(Debug, Default)]
struct Group {
    /// By time.
    entries: VecDeque<Entry>,
    /// What they take.
    bytes: usize,
}

/// What a group takes besides its entries: its key, and its place in the table.
fn bytes_of_key(key: &[String]) -> usize {
    const PLACE: usize = size_of::<Vec<String>>() + size_of::<Group>() + 16;
    PLACE + key.iter().map(|value| size_of::<String>() + value.len()).sum::<usize>()
}

impl Entry {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.value.len()
    }
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
        kind: &CorrelationKind,
        names: &[String],
        mut group: Vec<String>,
        mut entry: Entry,
    ) -> Option<Vec<String>> {
        for value in group.iter_mut().chain([&mut entry.value]) {
            let end = value.floor_char_boundary(VALUE_LIMIT);
            value.truncate(end);
        }
        if self.groups.len() >= GROUPS_LIMIT && !self.groups.contains_key(&group) {
            self.forget_quietest();
        }
        let time = entry.time;
        let timespan = self.timespan;
        let own = self.groups.entry(group.clone()).or_default();
        let is_new = own.entries.is_empty();
        let before = own.bytes;
        let is_at_end = matches!(kind, CorrelationKind::Measured(_, bounds) if bounds.iter().any(|it| it.is_from_above()));
        let mut fires = false;
        if is_at_end {
            // A bound from above can only be judged when the time is over: what began with the first match.
            if own.entries.front().is_some_and(|first| time > first.time.saturating_add(timespan)) {
                fires = is_fulfilled(kind, names, &own.entries);
                own.clear();
            }
            own.insert(entry);
        } else {
            // Of what is the same, the newest is enough.
            match kind {
                CorrelationKind::Measured(Measure::Distinct(_), _) => {
                    own.retain(|known| known.value != entry.value);
                }
                CorrelationKind::Together(_) => own.retain(|known| known.nth != entry.nth),
                _ => {}
            }
            own.insert(entry);
            own.forget_before(timespan);
            fires = is_fulfilled(kind, names, &own.entries);
            if fires {
                own.clear();
            }
        }
        while own.entries.len() > ENTRIES_LIMIT {
            own.pop_front();
            self.evicted += 1;
        }
        self.bytes = (self.bytes + own.bytes).saturating_sub(before);
        if is_new {
            self.bytes += bytes_of_key(&group);
        }
        if own.entries.is_empty() {
            self.bytes = self.bytes.saturating_sub(bytes_of_key(&group));
            self.groups.remove(&group);
        }
        fires.then_some(group)
    }

    /// Lets the quietest groups go: a tenth at once, so that this is rare.
    pub(super) fn forget_quietest(&mut self) {
        let mut last: Vec<i64> =
            self.groups.values().filter_map(|group| group.entries.back().map(|entry| entry.time)).collect();
        if last.is_empty() {
            return;
        }
        let mut left = last.len().div_ceil(10);
        let (_, limit, _) = last.select_nth_unstable(left - 1);
        let limit = *limit;
        let Self { groups, bytes, evicted, .. } = self;
        groups.retain(|key, group| {
            // Many groups may have been heard of last at the same time.
            let stays = left == 0 || group.entries.back().is_some_and(|entry| entry.time > limit);
            if !stays {
                left -= 1;
                *bytes = bytes.saturating_sub(group.bytes + bytes_of_key(key));
                *evicted += group.entries.len() as u64;
            }
            stays
        });
    }
}

impl Group {
    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes = self.bytes.saturating_sub(entry.bytes());
        }
    }

    fn retain(&mut self, stays: impl Fn(&Entry) -> bool) {
        let bytes = &mut self.bytes;
        self.entries.retain(|entry| {
            let stays = stays(entry);
            if !stays {
                *bytes = bytes.saturating_sub(entry.bytes());
            }
            stays
        });
    }

    /// Puts an entry in its place: most come in the order of time.
    fn insert(&mut self, entry: Entry) {
        let mut place = self.entries.len();
        while place > 0 && self.entries[place - 1].time > entry.time {
            place -= 1;
        }
        self.bytes += entry.bytes();
        self.entries.insert(place, entry);
    }

    /// Leaves out what is further from the newest than the timespan.
    fn forget_before(&mut self, timespan: i64) {
        let Some(newest) = self.entries.back().map(|entry| entry.time) else { return };
        while self.entries.front().is_some_and(|entry| entry.time < newest.saturating_sub(timespan)) {
            self.pop_front();
        }
    }
}

fn is_fulfilled(kind: &CorrelationKind, names: &[String], entries: &VecDeque<Entry>) -> bool {
    match kind {
        CorrelationKind::Measured(measure, bounds) => measured(measure, entries)
            .is_some_and(|number| bounds.iter().all(|bound: &Bound| bound.holds(number))),
        CorrelationKind::Together(tree) => {
            let seen: HashSet<usize> = entries.iter().map(|entry| entry.nth).collect();
            match tree {
                None => seen.len() == names.len(),
                Some(tree) => holds(tree, names, &seen),
            }
        }
        CorrelationKind::Ordered => {
            let mut next = 0;
            for entry in entries {
                next += usize::from(entry.nth == next);
            }
            next == names.len()
        }
    }
}

/// A condition over the rules that were seen.
fn holds(tree: &ConditionTree, names: &[String], seen: &HashSet<usize>) -> bool {
    match tree {
        ConditionTree::Any(parts) => parts.iter().any(|part| holds(part, names, seen)),
        ConditionTree::All(parts) => parts.iter().all(|part| holds(part, names, seen)),
        ConditionTree::Not(inner) => !holds(inner, names, seen),
        ConditionTree::Name(name, _) => {
            names.iter().position(|own| own == name).is_some_and(|nth| seen.contains(&nth))
        }
        ConditionTree::Of { all, pattern, .. } => {
            let is_asked = |name: &String| pattern.as_ref().is_none_or(|pattern| is_like(pattern, name));
            let mut asked = names.iter().enumerate().filter(|(_, name)| is_asked(name));
            if *all {
                asked.all(|(nth, _)| seen.contains(&nth))
            } else {
                asked.any(|(nth, _)| seen.contains(&nth))
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn measured(measure: &Measure, entries: &VecDeque<Entry>) -> Option<f64> {
    let numbers = || entries.iter().filter_map(|entry| entry.value.trim().parse::<f64>().ok());
    match measure {
        Measure::Events => Some(entries.len() as f64),
        Measure::Distinct(_) => {
            Some(entries.iter().map(|entry| entry.value.as_str()).collect::<HashSet<_>>().len() as f64)
        }
        Measure::Sum(_) => Some(numbers().sum()),
        Measure::Average(_) => {
            let count = numbers().count();
            (count > 0).then(|| numbers().sum::<f64>() / count as f64)
        }
        Measure::Percentile(_, percentile) => {
            let mut sorted: Vec<f64> = numbers().collect();
            sorted.sort_by(f64::total_cmp);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the number of values"
            )]
            let rank = (percentile / 100.0 * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied()
        }
    }
}
