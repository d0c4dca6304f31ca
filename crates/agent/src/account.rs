//! The agent's account of a boot: for each kind of record, what was observed or
//! made, and what of it was lost and why.

use std::collections::BTreeMap;

use event_model::{GapReason, KindFigures, RecordKind};
use serde::{Deserialize, Serialize};

/// Cumulative figures of a boot, in acts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    produced: BTreeMap<RecordKind, u64>,
    dropped: BTreeMap<RecordKind, BTreeMap<GapReason, u64>>,
}

/// What is lost by kind and reason, at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped(BTreeMap<RecordKind, BTreeMap<GapReason, u64>>);

impl Account {
    /// So many acts were observed or made, whatever becomes of them.
    pub fn produce(&mut self, kind: RecordKind, acts: u64) {
        let own = self.produced.entry(kind).or_default();
        *own = own.saturating_add(acts);
    }

    /// So many of them are lost.
    pub fn lose(&mut self, kind: RecordKind, reason: GapReason, acts: u64) {
        let own = self.dropped.entry(kind).or_default().entry(reason).or_default();
        *own = own.saturating_add(acts);
    }

    /// Goes on after what an agent of this boot before this one had said of itself. Where
    /// `shares` is true this one's figures begin with a part of those, so that the larger
    /// count; otherwise they are added.
    pub fn go_on_after(&mut self, earlier: &[KindFigures], shares: bool) {
        let join = |own: &mut u64, earlier: u64| {
            *own = if shares { (*own).max(earlier) } else { own.saturating_add(earlier) };
        };
        for figures in earlier {
            join(self.produced.entry(figures.kind).or_default(), figures.produced);
            let dropped = self.dropped.entry(figures.kind).or_default();
            for (reason, count) in &figures.dropped {
                join(dropped.entry(*reason).or_default(), *count);
            }
        }
    }

    /// What is lost now, to go back to.
    pub fn dropped(&self) -> Dropped {
        Dropped(self.dropped.clone())
    }

    /// Nothing was lost since then after all.
    pub fn go_back_to(&mut self, dropped: Dropped) {
        self.dropped = dropped.0;
    }

    /// As it goes to the server.
    pub fn figures(&self) -> Vec<KindFigures> {
        let mut kinds: Vec<RecordKind> = self.produced.keys().chain(self.dropped.keys()).copied().collect();
        kinds.sort_unstable();
        kinds.dedup();
        let figures = kinds.into_iter().map(|kind| KindFigures {
            kind,
            produced: self.produced.get(&kind).copied().unwrap_or_default(),
            dropped: self
                .dropped
                .get(&kind)
                .into_iter()
                .flatten()
                .map(|(why, count)| (*why, *count))
                .collect(),
        });
        figures.collect()
    }

    /// As lines of the agent's health event.
    pub fn lines(&self) -> Vec<String> {
        let produced = self.produced.iter().map(|(kind, count)| format!("{kind}={count}"));
        let dropped = self.dropped.iter().flat_map(|(kind, reasons)| {
            reasons.iter().map(move |(reason, count)| format!("{kind}!{reason}={count}"))
        });
        produced.chain(dropped).collect()
    }
}
