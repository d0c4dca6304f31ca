//! What waits to be written.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use anyhow::Context as _;
use event_model::{EventBody, EventHeader, Gap, GapReason, Record, Timestamp};
use protocol::wire::{RecordEncoder, decode_record};

/// Records that may wait.
pub(super) const MAX_WAITING: usize = 65_536;

/// Memory that they may take, in bytes.
pub(super) const MAX_WAITING_BYTES: usize = 32 << 20;

/// Written in one go, in bytes of what waits.
pub(super) const STEP_BYTES: usize = 256 << 10;

/// A record as its message, among others in the same memory.
///
/// What waits is made by one thread and freed by another, which allocators are slow at. The fields of a record
/// would be some thirty pieces of memory; so the thread that writes them makes them again.
#[derive(Debug)]
pub struct EncodedRecord {
    header: EventHeader,
    among: Arc<[u8]>,
    place: Range<usize>,
}

impl EncodedRecord {
    /// What stands at `place`, written by a [`RecordEncoder`].
    pub fn new(header: EventHeader, among: Arc<[u8]>, place: Range<usize>) -> Self {
        Self { header, among, place }
    }

    /// # Errors
    /// It is no record, or one of a kind that is not known here.
    pub(super) fn decode(&self) -> anyhow::Result<Record> {
        let bytes = self.among.get(self.place.clone()).unwrap_or_default();
        let record = decode_record(self.header.host_id, self.header.boot_id, bytes)?;
        record.context("the kind of record is not known")
    }

    /// Bytes of memory that it takes.
    fn weight(&self) -> usize {
        size_of::<Self>() + self.place.len()
    }
}

pub(super) struct Dropped {
    pub(super) count: u64,
    from: Timestamp,
    /// Of the last dropped record: the gap line takes its place in the sequence.
    last: EventHeader,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) records: VecDeque<EncodedRecord>,
    /// What `records` weigh.
    pub(super) bytes: usize,
    /// Newer than all in `records`.
    pub(super) dropped: Option<Dropped>,
    pub(super) writing: bool,
    pub(super) closed: bool,
}

impl Queue {
    /// Takes a record in, or counts it as dropped.
    pub(super) fn offer(&mut self, record: EncodedRecord) {
        // Once full, a quarter must be free again: else there would be a gap line for every record.
        let (most, most_bytes) = match self.dropped {
            None => (MAX_WAITING, MAX_WAITING_BYTES),
            Some(_) => (MAX_WAITING / 4 * 3, MAX_WAITING_BYTES / 4 * 3),
        };
        if self.records.len() < most && self.bytes + record.weight() <= most_bytes {
            self.end_gap();
            self.bytes += record.weight();
            self.records.push_back(record);
            return;
        }
        let from = record.header.observed_at;
        let (count, from) =
            self.dropped.take().map_or((1, from), |dropped| (dropped.count + 1, dropped.from));
        self.dropped = Some(Dropped { count, from, last: record.header });
    }

    /// Puts the gap line where the dropped records would stand.
    fn end_gap(&mut self) {
        if let Some(gap) = self.dropped.take().map(gap_record) {
            self.bytes += gap.weight();
            self.records.push_back(gap);
        }
    }

    /// The oldest records: some, or one that is large.
    pub(super) fn take_step(&mut self) -> Vec<EncodedRecord> {
        if self.records.is_empty() {
            self.end_gap();
        }
        let (mut step, mut taken) = (Vec::new(), 0);
        while taken < STEP_BYTES
            && let Some(record) = self.records.pop_front()
        {
            taken += record.weight();
            step.push(record);
        }
        self.bytes -= taken;
        step
    }

    pub(super) fn put_back(&mut self, records: impl DoubleEndedIterator<Item = EncodedRecord>) {
        for record in records.rev() {
            self.bytes += record.weight();
            self.records.push_front(record);
        }
    }

    /// Throws away what waits; how many records that was.
    pub(super) fn clear(&mut self) -> u64 {
        let dropped = self.dropped.take().map_or(0, |dropped| dropped.count);
        let waiting = std::mem::take(&mut self.records).len() as u64;
        self.bytes = 0;
        dropped + waiting
    }
}

fn gap_record(dropped: Dropped) -> EncodedRecord {
    let gap = EventBody::Gap(Gap {
        records: Some(dropped.count),
        from: dropped.from,
        until: dropped.last.observed_at,
        ..Gap::of_observations("output", GapReason::SpoolWriteFailed, "unknown", Some(dropped.count))
    });
    let mut bytes = Vec::new();
    RecordEncoder::default().event(&dropped.last, &gap, &mut bytes);
    let place = 0..bytes.len();
    EncodedRecord::new(dropped.last, bytes.into(), place)
}
