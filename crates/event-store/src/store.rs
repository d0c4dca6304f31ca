//! The boundary: what any event store can do.

use std::fmt::Debug;
use std::time::Duration;

use event_model::{BootId, EventId, EventRecord, EventType, HostId, KindFigures, ProcessEntityId, Timestamp};

use crate::{
    AppendBatch, AppendOutcome, EventPage, EventQuery, EventStoreError, GapPage, GapQuery, GapTotals,
    HighWaterMark, HistogramBucket, KindAccount, LedgerEntry,
};

type Result<T> = std::result::Result<T, EventStoreError>;

/// What a call of [`EventStore::delete_before`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deleted {
    /// Events removed.
    pub events: u64,
    /// True if there is more to remove: call again.
    pub more: bool,
}

/// An event store. See the crate's head for what it promises.
pub trait EventStore: Send + Sync + Debug {
    /// Stores what is new of the batch and moves the boot's high-water mark, both
    /// or neither; on disk when it returns. Numbers up to the mark are duplicates.
    fn append(&self, batch: &AppendBatch) -> Result<AppendOutcome>;

    /// The last number of the boot that is accounted for; 0 for a boot never heard of.
    fn high_water(&self, host: HostId, boot: BootId) -> Result<u64>;

    /// The marks of the host's boots, the one heard of last first, at most `limit`.
    fn high_water_marks(&self, host: HostId, limit: usize) -> Result<Vec<HighWaterMark>>;

    /// The accounts of the host's boots, the one heard of last first.
    fn ledger(&self, host: HostId) -> Result<Vec<LedgerEntry>>;

    /// The accounts in which numbers are missing that no gap event speaks of, of the boot
    /// that each host was heard of from last; by host.
    fn unexplained(&self) -> Result<Vec<LedgerEntry>>;

    /// The account of a boot by kind of record, in the order of the kinds. Only batches
    /// with [`kinds`](AppendBatch::kinds) count in it.
    ///
    /// A gap event of a later boot that names this one ([`Field::GapBoot`](event_model::Field::GapBoot))
    /// adds to what was dropped; where it tells of records beyond the last batch that came,
    /// which no batch counted as produced, it adds there too.
    fn account(&self, host: HostId, boot: BootId) -> Result<Vec<KindAccount>>;

    /// What the boot's agent said of itself by kind: the account without what was stored, and
    /// without losses that its agent does not know of.
    fn agent_figures(&self, host: HostId, boot: BootId) -> Result<Vec<KindFigures>>;

    /// Events, newest first.
    fn search(&self, query: &EventQuery) -> Result<EventPage>;

    /// One event.
    fn by_id(&self, id: EventId) -> Result<Option<EventRecord>>;

    /// Counts events in spans of `width` from `from` until `until`, also where there
    /// are none. Spans of a minute or more begin and end on whole minutes (the
    /// width is rounded up, `from` down); at most 10,000 spans.
    fn histogram(
        &self,
        from: Timestamp,
        until: Timestamp,
        width: Duration,
        host: Option<HostId>,
        event_types: &[EventType],
    ) -> Result<Vec<HistogramBucket>>;

    /// Counts events of all hosts and types in each whole minute that `from` to
    /// `until` touches.
    fn count_by_minute(&self, from: Timestamp, until: Timestamp) -> Result<Vec<HistogramBucket>> {
        self.histogram(from, until, Duration::from_secs(60), None, &[])
    }

    /// Gap events, newest first, and how many there are in all.
    fn gaps_between(&self, query: &GapQuery) -> Result<GapPage>;

    /// The sums over the gap events whose spans overlap `from` to `until`, all of them.
    fn gap_totals(&self, host: Option<HostId>, from: Timestamp, until: Timestamp) -> Result<GapTotals>;

    /// The process start that tells what the process was at the time `around`: the
    /// latest one before, or the first after. Found only within a minute of the
    /// process's creation, which is where nearly every exec stands.
    fn process_start_of(
        &self,
        host: HostId,
        process: ProcessEntityId,
        around: Timestamp,
    ) -> Result<Option<EventRecord>>;

    /// Removes events observed before (rounded down to a whole minute), at most
    /// `max_events` a call, so that appends are not kept waiting. Accounts stay.
    fn delete_before(&self, before: Timestamp, max_events: u64) -> Result<Deleted>;
}
