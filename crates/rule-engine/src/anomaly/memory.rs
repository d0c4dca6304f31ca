//! Counts of what was seen, in tables of fixed size. Where one is full, what was seen longest ago goes.

use std::collections::HashMap;

use event_model::Timestamp;

const PAIRS: usize = 8_192;
const PARENTS: usize = 2_048;
const BINARIES: usize = 16_384;
const DESTINATIONS: usize = 16_384;
const TALKERS: usize = 2_048;
const RATES: usize = 2_048;

const NANOS_PER_MINUTE: i64 = 60_000_000_000;
/// After a burst was told, the same is not told again for so many minutes.
const BURST_SILENCE: u32 = 60;

/// The number of a time's minute.
pub(super) fn minute_of(at: Timestamp) -> u32 {
    u32::try_from((at.as_nanos() / NANOS_PER_MINUTE).max(0)).unwrap_or(u32::MAX)
}

/// What a hash is of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
    Pair,
    Parent,
    Path,
    Hash,
    Destination,
    OwnDestination,
    Talker,
    Rate(u8),
}

impl Key {
    fn number(self) -> u64 {
        match self {
            Self::Pair => 1,
            Self::Parent => 2,
            Self::Path => 3,
            Self::Hash => 4,
            Self::Destination => 5,
            Self::OwnDestination => 6,
            Self::Talker => 7,
            Self::Rate(kind) => 16 + u64::from(kind),
        }
    }
}

/// How often and when something was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) count: u32,
    pub(super) minute: u32,
    pub(super) told: bool,
}

/// Things that were seen.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) entries: HashMap<u64, Entry>,
    pub(super) limit: usize,
    evicted: u64,
}

impl Table {
    fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), limit, evicted: 0 }
    }

    /// Counts it; how often it was seen before.
    pub(super) fn count(&mut self, key: u64, at: Timestamp) -> u32 {
        let minute = minute_of(at);
        if let Some(entry) = self.entries.get_mut(&key) {
            let before = entry.count;
            entry.count = entry.count.saturating_add(1);
            entry.minute = entry.minute.max(minute);
            return before;
        }
        if self.entries.len() >= self.limit {
            self.evicted += evict(&mut self.entries, self.limit / 8, |entry| entry.minute);
        }
        self.entries.insert(key, Entry { count: 1, minute, told: false });
        0
    }

    pub(super) fn get(&self, key: u64) -> u32 {
        self.entries.get(&key).map_or(0, |entry| entry.count)
    }

    /// True the first time.
    pub(super) fn tell_once(&mut self, key: u64) -> bool {
        self.entries.get_mut(&key).is_some_and(|entry| !std::mem::replace(&mut entry.told, true))
    }
}

/// How much of something there was in the current minute, and the most there ever was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct RateEntry {
    pub(super) minute: u32,
    pub(super) count: u32,
    pub(super) peak: u32,
    pub(super) silent_until: u32,
}

/// What is counted by the minute.
#[derive(Debug, Default)]
pub(super) struct Rates {
    pub(super) entries: HashMap<u64, RateEntry>,
    evicted: u64,
}

impl Rates {
    pub(super) const LIMIT: usize = RATES;

    /// Adds to the minute of `at`. Gives the count and the peak before, once, where the count passes the bound that the
    /// peak sets.
    pub(super) fn add(
        &mut self,
        key: u64,
        times: u32,
        at: Timestamp,
        bound: impl Fn(u32) -> u32,
    ) -> Option<(u32, u32)> {
        let minute = minute_of(at);
        if !self.entries.contains_key(&key) && self.entries.len() >= Self::LIMIT {
            self.evicted += evict(&mut self.entries, Self::LIMIT / 8, |entry| entry.minute);
        }
        let entry = self.entries.entry(key).or_insert(RateEntry { minute, ..RateEntry::default() });
        if entry.minute != minute {
            entry.peak = entry.peak.max(entry.count);
            (entry.minute, entry.count) = (minute, 0);
        }
        entry.count = entry.count.saturating_add(times);
        if entry.count < bound(entry.peak) || minute < entry.silent_until {
            return None;
        }
        entry.silent_until = minute.saturating_add(BURST_SILENCE);
        Some((entry.count, entry.peak))
    }
}

/// Takes out so many of the oldest; how many.
fn evict<E>(entries: &mut HashMap<u64, E>, most: usize, minute: impl Fn(&E) -> u32) -> u64 {
    let mut all: Vec<(u32, u64)> = entries.iter().map(|(key, entry)| (minute(entry), *key)).collect();
    all.sort_unstable();
    for (_, key) in all.iter().take(most) {
        entries.remove(key);
    }
    all.len().min(most) as u64
}

/// All that was learnt.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) seed: u64,
    /// Different minutes in which something was seen.
    pub(super) minutes: u32,
    pub(super) last_minute: u32,
    pub(super) pairs: Table,
    pub(super) parents: Table,
    pub(super) binaries: Table,
    pub(super) destinations: Table,
    pub(super) talkers: Table,
    pub(super) rates: Rates,
}

impl Memory {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            minutes: 0,
            last_minute: 0,
            pairs: Table::new(PAIRS),
            parents: Table::new(PARENTS),
            binaries: Table::new(BINARIES),
            destinations: Table::new(DESTINATIONS),
            talkers: Table::new(TALKERS),
            rates: Rates::default(),
        }
    }

    /// Something was seen at that time. A clock that was set makes no day of learning.
    pub(super) fn pass(&mut self, at: Timestamp) {
        let minute = minute_of(at);
        if minute != self.last_minute {
            self.last_minute = minute;
            self.minutes = self.minutes.saturating_add(1);
        }
    }

    /// A hash under this host's seed.
    pub(super) fn key(&self, of: Key, parts: &[&str]) -> u64 {
        let mut hash = mixed(self.seed ^ of.number(), 0x9e37_79b9_7f4a_7c15);
        for part in parts {
            for chunk in part.as_bytes().chunks(8) {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                hash = mixed(hash ^ u64::from_le_bytes(word), self.seed | 1);
            }
            hash = mixed(hash ^ part.len() as u64, 0xd6e8_feb8_6659_fd93);
        }
        hash
    }

    /// In the order in which they are stored.
    pub(super) fn tables(&self) -> [&Table; 5] {
        [&self.pairs, &self.parents, &self.binaries, &self.destinations, &self.talkers]
    }

    pub(super) fn tables_mut(&mut self) -> [&mut Table; 5] {
        [&mut self.pairs, &mut self.parents, &mut self.binaries, &mut self.destinations, &mut self.talkers]
    }

    pub(super) fn entries(&self) -> usize {
        self.tables().iter().map(|table| table.entries.len()).sum::<usize>() + self.rates.entries.len()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.tables().iter().map(|table| table.evicted).sum::<u64>() + self.rates.evicted
    }
}

/// Both halves of the product: every bit of either side reaches every bit of the result.
fn mixed(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product as u64) ^ ((product >> 64) as u64) ^ left.rotate_left(29)
}
