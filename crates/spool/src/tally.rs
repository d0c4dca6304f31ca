//! How much of each kind a batch holds, so that a batch that is lost can be told by kind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// At most so many kinds are told apart in one batch; there are fewer.
pub const MAX_KINDS: usize = 128;

/// Records, and what they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amount {
    /// How many records.
    pub records: u64,
    /// How many acts they stand for: a record may stand for several like ones.
    pub acts: u64,
}

/// Amounts by kind. What the number of a kind means is the writer's business.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tally(BTreeMap<u16, Amount>);

impl Tally {
    /// Adds to a kind. Beyond [`MAX_KINDS`] kinds, what is added goes to the highest one there is.
    pub fn add(&mut self, kind: u16, amount: Amount) {
        let full = self.0.len() >= MAX_KINDS && !self.0.contains_key(&kind);
        let kind = self.0.keys().next_back().copied().filter(|_| full).unwrap_or(kind);
        let own = self.0.entry(kind).or_default();
        own.records = own.records.saturating_add(amount.records);
        own.acts = own.acts.saturating_add(amount.acts);
    }

    /// Adds all of another tally.
    pub fn add_all(&mut self, other: &Self) {
        other.iter().for_each(|(kind, amount)| self.add(kind, amount));
    }

    /// What this one has more than `earlier`, which it grew from.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let more = self.iter().map(|(kind, amount)| {
            let before = earlier.0.get(&kind).copied().unwrap_or_default();
            let records = amount.records.saturating_sub(before.records);
            (kind, Amount { records, acts: amount.acts.saturating_sub(before.acts) })
        });
        Self(more.filter(|(_, amount)| *amount != Amount::default()).collect())
    }

    /// Kinds in rising order with their amounts.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Amount)> {
        self.0.iter().map(|(kind, amount)| (*kind, *amount))
    }

    /// All kinds together.
    pub fn total(&self) -> Amount {
        self.iter().fold(Amount::default(), |sum, (_, amount)| Amount {
            records: sum.records.saturating_add(amount.records),
            acts: sum.acts.saturating_add(amount.acts),
        })
    }

    /// True where there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
