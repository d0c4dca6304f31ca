//! The records of the batch that is being filled, as the bytes that spool and `-output` get.

use std::ops::Range;
use std::sync::Arc;

use event_model::{BootId, EventBody, EventHeader, Gap, GapReason, Record, RecordKind, Timestamp};
use protocol::wire::{Ledger, RecordEncoder, encode_batch_of};
use spool::{Amount, Tally};

use crate::output::EncodedRecord;

/// What a gap among the records told.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToldLoss {
    pub(super) kind: RecordKind,
    pub(super) reason: GapReason,
    pub(super) count: Option<u64>,
}

#[derive(Debug)]
struct Pending {
    header: EventHeader,
    kind: RecordKind,
    acts: u64,
    told: Option<ToldLoss>,
    bytes: Range<usize>,
}

/// A batch.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pending: Vec<Pending>,
    bytes: Vec<u8>,
    encoder: RecordEncoder,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Bytes before compression.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn push_event(&mut self, header: &EventHeader, body: &EventBody) {
        let begin = self.bytes.len();
        self.encoder.event(header, body, &mut self.bytes);
        let told = match body {
            EventBody::Gap(Gap { what, reason, count, .. }) => {
                Some(ToldLoss { kind: RecordKind::from_word(what), reason: *reason, count: *count })
            }
            _ => None,
        };
        self.pending.push(Pending {
            header: header.clone(),
            kind: RecordKind::Event(body.event_type()),
            acts: body.acts(),
            told,
            bytes: begin..self.bytes.len(),
        });
    }

    /// Takes what is no event.
    pub(super) fn push(&mut self, record: Record) {
        let begin = self.bytes.len();
        self.encoder.record(&record, &mut self.bytes);
        self.pending.push(Pending {
            kind: RecordKind::of(&record.body),
            acts: record.body.acts(),
            told: None,
            bytes: begin..self.bytes.len(),
            header: record.header,
        });
    }

    /// Puts the records in the order of their numbers: a start whose image took long to
    /// hash was pushed after what followed it.
    pub(super) fn sort(&mut self) {
        self.pending.sort_by_key(|one| one.header.sequence);
    }

    /// The first and the last number.
    pub(super) fn numbers(&self) -> Option<(u64, u64)> {
        let sequence = |one: Option<&Pending>| one.map(|one| one.header.sequence);
        sequence(self.pending.first()).zip(sequence(self.pending.last()))
    }

    /// The earliest and the latest time.
    pub(super) fn span(&self) -> (Timestamp, Timestamp) {
        let times = || self.pending.iter().map(|one| one.header.observed_at);
        (times().min().unwrap_or_default(), times().max().unwrap_or_default())
    }

    /// What it holds by kind.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for one in &self.pending {
            tally.add(one.kind.number(), Amount { records: 1, acts: one.acts });
        }
        tally
    }

    /// What the gaps among the first records told.
    pub(super) fn told(&self, first: usize) -> impl Iterator<Item = ToldLoss> {
        self.pending.iter().take(first).filter_map(|one| one.told)
    }

    /// As it is sealed.
    pub(super) fn encode(&self, boot_id: BootId, (first, last): (u64, u64), ledger: &Ledger) -> Vec<u8> {
        let records = self.pending.iter().filter_map(|one| self.bytes.get(one.bytes.clone()));
        encode_batch_of(boot_id, first, last, records, ledger)
    }

    /// The records by themselves. All share one copy of their bytes: made one by one here and freed by
    /// whoever writes them, they cost a third of the agent's time in the allocator.
    pub(super) fn records(&self) -> impl Iterator<Item = EncodedRecord> {
        let bytes: Arc<[u8]> = self.bytes.as_slice().into();
        self.pending
            .iter()
            .map(move |one| EncodedRecord::new(one.header.clone(), Arc::clone(&bytes), one.bytes.clone()))
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.pending.clear();
        self.bytes.clear();
        // One batch of long command lines must not hold its memory for ever.
        self.bytes.shrink_to(MAX_KEPT);
    }
}

/// Room that is kept from one batch to the next, in bytes.
const MAX_KEPT: usize = 1 << 20;
