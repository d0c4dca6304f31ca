//! What goes in, and the account of it.

use event_model::{BootId, EventRecord, GapReason, HostId, KindFigures, RecordKind, Timestamp};
use serde::Serialize;

/// An agent's own figures for a boot, as its batch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct AgentFigures {
    /// Records numbered.
    pub produced: u64,
    /// Numbered records dropped; each stands in a gap record.
    pub dropped: u64,
    /// Observations that the kernel could not hand over.
    pub kernel_lost: u64,
}

/// One batch of one boot of one host.
///
/// Records of all kinds share one sequence. Only events are stored here; the
/// numbers of the others are given so that the account can be kept. Numbers
/// between `first_sequence` and `last_sequence` that no record has are missing.
#[derive(Debug, Clone, PartialEq)]
pub struct AppendBatch {
    /// The host, from its certificate.
    pub host: HostId,
    /// The boot.
    pub boot: BootId,
    /// The events, by rising sequence.
    pub events: Vec<EventRecord>,
    /// Sequence and kind of the records that are no events, rising.
    pub others: Vec<(u64, RecordKind)>,
    /// Numbers of gap events, rising, that the server put in the place of records which it
    /// could not take. They are found like any event, and their numbers count as missing.
    pub left_out: Vec<u64>,
    /// The first number that the batch accounts for, from 1.
    pub first_sequence: u64,
    /// The last one.
    pub last_sequence: u64,
    /// The agent's own figures, where the batch carries them.
    pub figures: Option<AgentFigures>,
    /// The agent's account by kind as of `last_sequence`; empty from an agent that keeps none.
    pub kinds: Vec<KindFigures>,
    /// SHA-256 of the batch as it came, by which its sender knows it again.
    pub sha256: Option<[u8; 32]>,
}

/// Where a boot's numbers stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HighWaterMark {
    /// The boot.
    pub boot: BootId,
    /// The last number that is accounted for.
    pub last_sequence: u64,
    /// SHA-256 of the batch that moved the mark there, where it came with one.
    pub sha256: Option<[u8; 32]>,
    /// The agent's own figures, as last reported.
    pub figures: AgentFigures,
    /// Observed time of the latest event.
    pub last_event_at: Option<Timestamp>,
}

/// What became of a batch. The three counts are of records of all kinds, for the
/// numbers up to the batch's last that were not accounted for before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppendOutcome {
    /// Records that are now accounted as stored (events of them: `events_stored`).
    pub stored: u64,
    /// Events that are now on disk and were not before.
    pub events_stored: u64,
    /// Records that had been stored before and were skipped.
    pub duplicates: u64,
    /// Numbers that are now accounted as missing.
    pub missing: u64,
    /// The boot's high-water mark, after.
    pub high_water: u64,
}

/// Why a batch contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadBatch {
    /// First after last, or from zero, or past what a store can count.
    #[error("it says that it covers the sequence numbers {first} to {last}")]
    Range {
        /// As the batch says.
        first: u64,
        /// As the batch says.
        last: u64,
    },
    /// A record's number lies outside the batch's range, or does not rise, or stands twice.
    #[error("record {sequence} is out of order or outside the batch's numbers")]
    Order {
        /// The number.
        sequence: u64,
    },
    /// An event of another host or boot.
    #[error("event {sequence} is of another host or boot than its batch")]
    Foreign {
        /// Its number.
        sequence: u64,
    },
}

impl AppendBatch {
    /// Checks that the batch does not contradict itself.
    pub fn check(&self) -> Result<(), BadBatch> {
        let (first, last) = (self.first_sequence, self.last_sequence);
        if first == 0 || first > last || i64::try_from(last).is_err() {
            return Err(BadBatch::Range { first, last });
        }
        let mut others = self.others.iter().map(|(sequence, _)| *sequence).peekable();
        let mut events = self.events.iter().map(|event| event.header.sequence).peekable();
        let mut before = first - 1;
        loop {
            let next = match (events.peek(), others.peek()) {
                (None, None) => break,
                (Some(event), Some(other)) if event <= other => events.next(),
                (Some(_), None) => events.next(),
                _ => others.next(),
            };
            let sequence = next.unwrap_or_default();
            if sequence <= before || sequence > last {
                return Err(BadBatch::Order { sequence });
            }
            before = sequence;
        }
        let foreign =
            |event: &&EventRecord| event.header.host_id != self.host || event.header.boot_id != self.boot;
        match self.events.iter().find(foreign) {
            Some(event) => Err(BadBatch::Foreign { sequence: event.header.sequence }),
            None => Ok(()),
        }
    }
}

/// The account of one boot of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LedgerEntry {
    /// The host.
    pub host: HostId,
    /// The boot.
    pub boot: BootId,
    /// The last number that is accounted for. Always `stored + missing`.
    pub high_water: u64,
    /// Records of all kinds that arrived. Retention does not lower it.
    pub stored: u64,
    /// Of these, events.
    pub events: u64,
    /// Numbers that never arrived.
    pub missing: u64,
    /// Records that gap events of this boot say were lost; those of a boot's
    /// last moments may stand in gap events of the next boot.
    pub explained: u64,
    /// Observations without a number that gap events of this boot say were lost.
    pub lost_observations: u64,
    /// Gap events of this boot that can't say how many were lost.
    pub gaps_of_unknown_size: u64,
    /// The agent's own figures, as last reported.
    pub figures: AgentFigures,
    /// Observed time of the latest event.
    pub last_event_at: Option<Timestamp>,
}

impl LedgerEntry {
    /// Missing numbers that no gap event of this boot speaks of.
    pub fn unexplained(&self) -> u64 {
        self.missing.saturating_sub(self.explained)
    }
}

/// The account of one kind of record in one boot of one host, in acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KindAccount {
    /// The kind.
    pub kind: RecordKind,
    /// As the agent says: observed or made up to the last batch that arrived.
    pub produced: u64,
    /// As the store counted: arrived. Retention does not lower it.
    pub stored: u64,
    /// As the agent says: lost, by reason.
    pub dropped: Vec<(GapReason, u64)>,
}

impl KindAccount {
    /// Lost, for whatever reason.
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// What nobody accounts for: 0, once what the agent had spooled has arrived.
    pub fn difference(&self) -> i64 {
        let known = i128::from(self.stored) + i128::from(self.dropped_in_all());
        i64::try_from(i128::from(self.produced) - known).unwrap_or(i64::MAX)
    }
}
