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

    /// What is told where it can't be shown: that one is missing.
    pub(super) fn as_gap(&self) -> Self {
        let from = self.header.observed_at;
        gap_record(Dropped { count: 1, from, last: self.header.clone() })
    }

    /// Gets memory of its own.
    fn stand_alone(&mut self) {
        self.among = self.among.get(self.place.clone()).unwrap_or_default().into();
        self.place = 0..self.among.len();
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
    /// Takes in what there is room for, and counts the rest as dropped.
    pub(super) fn offer_all(&mut self, records: impl IntoIterator<Item = EncodedRecord>) {
        let before = self.records.len();
        let mut are_all_taken = true;
        for record in records {
            are_all_taken &= self.offer(record);
        }
        if !are_all_taken {
            // The memory of those that were dropped would stay as long as these wait.
            self.records.range_mut(before..).for_each(EncodedRecord::stand_alone);
        }
    }

    /// Takes a record in, or counts it as dropped; whether it was taken.
    fn offer(&mut self, record: EncodedRecord) -> bool {
        // Once full, a quarter must be free again: else there would be a gap line for every record.
        let (most, most_bytes) = match self.dropped {
            None => (MAX_WAITING, MAX_WAITING_BYTES),
            Some(_) => (MAX_WAITING / 4 * 3, MAX_WAITING_BYTES / 4 * 3),
        };
        if self.records.len() < most && self.bytes + record.weight() <= most_bytes {
            self.end_gap();
            self.bytes += record.weight();
            self.records.push_back(record);
            return true;
        }
        let from = record.header.observed_at;
        let (count, from) =
            self.dropped.take().map_or((1, from), |dropped| (dropped.count + 1, dropped.from));
        self.dropped = Some(Dropped { count, from, last: record.header });
        false
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use event_model::{BootId, HostId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_dropped_of_a_batch_takes_no_memory() {
        let mut queue = Queue::default();
        let bytes = vec![0; 24 << 20];
        for batch in 0..8 {
            let among: Arc<[u8]> = bytes.as_slice().into();
            queue.offer_all((0..24).map(|number| {
                let header = EventHeader {
                    host_id: HostId::from_uuid(Uuid::from_u128(1)),
                    boot_id: BootId::from_uuid(Uuid::from_u128(2)),
                    sequence: batch * 24 + number as u64 + 1,
                    observed_at: Timestamp::from_nanos(1),
                    monotonic_ns: 0,
                };
                EncodedRecord::new(header, Arc::clone(&among), number << 20..(number + 1) << 20)
            }));
        }
        assert!(queue.dropped.is_some());
        let memory: HashMap<*const u8, usize> =
            queue.records.iter().map(|record| (record.among.as_ptr(), record.among.len())).collect();
        let memory: usize = memory.values().sum();
        assert!(memory <= MAX_WAITING_BYTES, "{memory} bytes");
        assert!(queue.records.len() > 24, "some of the second batch");
    }
}
