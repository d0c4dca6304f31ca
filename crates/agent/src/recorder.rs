//! Numbers records, gathers them into batches, seals and spools those, and feeds `-output`.
//!
//! A number that was given is never given again: the records of a batch that can't
//! be spooled are dropped, counted, and told by a gap record in the next batch
//! that can.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event_model::{
    BootId, EventBody, EventHeader, EventRecord, Gap, GapReason, HostId, Record, RecordBody, Timestamp, Value,
};
use protocol::envelope::Sealer;
use protocol::wire::{Ledger, encode_batch};
use sensor_api::SensorPosition;
use spool::{BatchHeader, Loss, LossReason, Position, Spool};

use crate::clock::WallClock;
use crate::drop_account::{DropAccount, Untold};
use crate::note::{Counters, Note};
use crate::output::Output;
use crate::process_table::ProcessTable;

/// A batch is closed when it is this old, has this many records, or about this many bytes.
const MAX_AGE: Duration = Duration::from_millis(200);
const MAX_RECORDS: usize = 1_000;
const MAX_BYTES: usize = protocol::MAX_SEALED_BATCH_BYTES / 16;

/// The way to the server.
pub struct Spooling {
    /// Where batches wait.
    pub spool: Arc<Spool>,
    /// Seals them.
    pub sealer: Sealer,
    /// Told when there is a new one.
    pub wake: Arc<tokio::sync::Notify>,
    /// Remembers what could not be spooled.
    pub account: DropAccount,
}

/// Where the last agent of this boot stopped.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resume {
    /// The number after its last record.
    pub next_sequence: u64,
    /// Its counters.
    pub counters: Counters,
    /// How far its sensor had come.
    pub position: Option<SensorPosition>,
}

/// Records that were numbered and could not be spooled.
#[derive(Debug, Clone, Copy)]
struct Dropped {
    count: u64,
    from: Timestamp,
    until: Timestamp,
}

/// Makes records of what the pipeline tells.
pub struct Recorder {
    host_id: HostId,
    boot_id: BootId,
    clock: Arc<WallClock>,
    next_sequence: u64,
    counters: Counters,
    batch: Vec<Record>,
    batch_bytes: usize,
    begun: Instant,
    position: Option<SensorPosition>,
    stored_position: Option<SensorPosition>,
    dropped: Option<Dropped>,
    spooling: Option<Spooling>,
    output: Option<Output>,
}

impl Recorder {
    /// Goes on after `resume`.
    pub fn new(
        host_id: HostId,
        boot_id: BootId,
        clock: Arc<WallClock>,
        resume: Resume,
        spooling: Option<Spooling>,
        output: Option<Output>,
    ) -> Self {
        let mut resume = resume;
        // The agent before may have dropped records and been killed before it could say so.
        let untold = spooling.as_ref().and_then(|spooling| spooling.account.found());
        if let Some(untold) = untold {
            resume.next_sequence = resume.next_sequence.max(untold.next_sequence);
            resume.counters.dropped += untold.count;
        }
        Self {
            host_id,
            boot_id,
            clock,
            next_sequence: resume.next_sequence.max(1),
            counters: resume.counters,
            batch: Vec::new(),
            batch_bytes: 0,
            begun: Instant::now(),
            position: resume.position,
            stored_position: None,
            dropped: untold.map(|Untold { count, from, until, .. }| Dropped { count, from, until }),
            spooling,
            output,
        }
    }

    /// The header of a new record; its number is taken with that.
    pub fn number(&mut self, at_ns: u64) -> EventHeader {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        EventHeader {
            host_id: self.host_id,
            boot_id: self.boot_id,
            sequence,
            observed_at: self.clock.at(at_ns),
            monotonic_ns: at_ns,
        }
    }

    /// Takes a record whose header [`number`](Self::number) made.
    pub fn push(&mut self, header: EventHeader, body: RecordBody) {
        if self.batch.is_empty() {
            self.begun = Instant::now();
        }
        self.batch_bytes += weight(&body);
        self.batch.push(Record { header, body });
    }

    /// Numbers and takes an event that the agent itself tells.
    pub fn tell(&mut self, at_ns: u64, body: &EventBody) {
        let header = self.number(at_ns);
        let event = EventRecord::from_body(header.clone(), body);
        self.push(header, RecordBody::Event(event));
    }

    /// Everything up to this position has been told.
    pub fn reached(&mut self, position: SensorPosition) {
        self.position = Some(position);
    }

    /// Whether the batch is to be closed now.
    pub fn is_due(&self) -> bool {
        let old = !self.batch.is_empty() && self.begun.elapsed() >= MAX_AGE;
        old || self.batch.len() >= MAX_RECORDS || self.batch_bytes >= MAX_BYTES
    }

    /// Whether the batch should have been closed long ago.
    pub fn is_overdue(&self) -> bool {
        let old = !self.batch.is_empty() && self.begun.elapsed() >= 4 * MAX_AGE;
        old || self.batch.len() >= 4 * MAX_RECORDS || self.batch_bytes >= 4 * MAX_BYTES
    }

    /// Closes the batch. Every number that was given must have been pushed by now.
    /// `table` has what goes into the note for whoever goes on after a crash.
    pub fn flush(&mut self, table: &ProcessTable) {
        // A start whose image took long to hash was pushed after what followed it.
        self.batch.sort_by_key(|record| record.header.sequence);
        let Some(spooling) = &self.spooling else {
            self.stored_position = self.position;
            let records = std::mem::take(&mut self.batch);
            self.batch_bytes = 0;
            if let Some(output) = &self.output {
                output.write(records);
            }
            return;
        };
        let spool = Arc::clone(&spooling.spool);
        let losses = spool.losses();
        let dropped_before = self.counters.dropped;
        self.tell_losses(&losses);
        if let Some(Dropped { count, from, until }) = self.dropped {
            let reason = GapReason::SpoolWriteFailed;
            self.tell_gap(Gap { sensor: "spool", reason, what: "records", count: Some(count), from, until });
        }
        let Some((first, last)) = self.batch.first().zip(self.batch.last()) else { return };
        let (first_sequence, last_sequence) = (first.header.sequence, last.header.sequence);
        let ledger = Ledger {
            produced: last_sequence,
            dropped: self.counters.dropped,
            kernel_lost: self.counters.kernel_lost,
        };
        let times = || self.batch.iter().map(|record| record.header.observed_at);
        let (from, until) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
        let header = BatchHeader {
            boot_id: *self.boot_id.as_bytes(),
            first_sequence,
            record_count: u32::try_from(last_sequence + 1 - first_sequence).unwrap_or(u32::MAX),
            span: (from.as_nanos(), until.as_nanos()),
            position: self
                .position
                .map(|position| Position { stream: position.stream, offset: position.offset }),
        };
        let plain = encode_batch(self.boot_id, first_sequence, last_sequence, &self.batch, ledger);
        let Some(spooling) = &mut self.spooling else { return };
        let sealed = spooling.sealer.seal(&plain);
        let note = Note {
            counters: self.counters,
            waiting: table.waiting().collect(),
            young: table.young(crate::clock::boot_ns()).collect(),
        };
        match spool.append(&header, &note.encode(), &sealed) {
            Ok(()) => {
                if self.dropped.take().is_some()
                    && let Err(error) = spooling.account.write(None)
                {
                    tracing::warn!(%error, "a loss may be reported again after a restart");
                }
                spooling.wake.notify_one();
                if !losses.is_empty()
                    && let Err(error) = spool.losses_reported(&losses)
                {
                    tracing::warn!(%error, "a loss may be reported again after a restart");
                }
            }
            Err(error) => {
                let count = u64::from(header.record_count);
                tracing::warn!(%error, count, "a batch could not be spooled, its records are dropped");
                // The losses were not told after all, and will be counted when they are.
                self.counters.dropped = dropped_before + count;
                let before = self.dropped;
                let dropped = Dropped {
                    count: before.map_or(0, |before| before.count) + count,
                    from: before.map_or(from, |before| before.from.min(from)),
                    until,
                };
                self.dropped = Some(dropped);
                let Dropped { count, from, until } = dropped;
                let untold = Untold { next_sequence: last_sequence + 1, count, from, until };
                if let Err(error) = spooling.account.write(Some(untold)) {
                    tracing::warn!(%error, "a crash now would hide what was dropped");
                }
            }
        }
        // Dropped or stored: either way it is accounted for, and need not come again.
        self.stored_position = self.position;
        let records = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if let Some(output) = &self.output {
            output.write(records);
        }
    }

    /// How far the sensor may forget.
    pub fn stored_position(&self) -> Option<SensorPosition> {
        self.stored_position
    }

    /// The counters of the boot.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Observations were lost before they reached the agent.
    pub fn count_kernel_loss(&mut self, count: u64) {
        self.counters.kernel_lost = self.counters.kernel_lost.saturating_add(count);
    }

    /// Numbered records that are lost after they were spooled.
    pub fn tell_lost_records(
        &mut self,
        reason: GapReason,
        boot: Option<[u8; 16]>,
        gap: (Option<u64>, Timestamp, Timestamp),
    ) {
        let (count, from, until) = gap;
        if boot == Some(*self.boot_id.as_bytes()) {
            self.counters.dropped += count.unwrap_or(0);
        }
        let sensor = if reason == GapReason::ServerRefused { "uplink" } else { "spool" };
        self.tell_gap(Gap { sensor, reason, what: "records", count, from, until });
    }

    /// Numbers and takes a gap.
    pub fn tell_gap(&mut self, gap: Gap) {
        self.tell(crate::clock::boot_ns(), &EventBody::Gap(gap));
    }

    /// Records numbered in this boot so far.
    pub fn produced(&self) -> u64 {
        self.next_sequence - 1
    }

    /// Size of the spool.
    pub fn spool_bytes(&self) -> u64 {
        self.spooling.as_ref().map_or(0, |spooling| spooling.spool.bytes())
    }

    /// Lets go of the output once it is written, or after `limit`.
    pub fn finish(&mut self, limit: Duration) {
        if let Some(output) = self.output.take() {
            output.finish(limit);
        }
    }

    fn tell_losses(&mut self, losses: &[Loss]) {
        for loss in losses {
            let reason = match loss.reason {
                LossReason::Full => GapReason::SpoolFull,
                LossReason::Corrupt => GapReason::SpoolCorrupt,
            };
            let now = self.clock.now();
            let (from, until) = loss.span.map_or((now, now), |(from, until)| {
                (Timestamp::from_nanos(from), Timestamp::from_nanos(until))
            });
            tracing::warn!(%reason, count = loss.records, "records that waited for the server are lost");
            self.tell_lost_records(reason, loss.boot_id, (loss.records, from, until));
        }
    }
}

/// About how many bytes a record takes on the wire before compression.
fn weight(body: &RecordBody) -> usize {
    match body {
        RecordBody::Event(event) => weight_of_event(event),
        RecordBody::Detection(detection) => {
            let ancestors = detection.ancestry.iter();
            let ancestry: usize =
                ancestors.map(|process| 64 + process.executable.len() + process.command_line.len()).sum();
            256 + weight_of_event(&detection.event) + ancestry
        }
        RecordBody::Receipt(_) => 512,
    }
}

fn weight_of_event(event: &EventRecord) -> usize {
    let fields = event.fields().map(|(_, value)| match value {
        Value::Text(text) => 8 + text.len(),
        Value::TextList(items) => items.iter().map(|item| 4 + item.len()).sum(),
        _ => 12,
    });
    32 + fields.sum::<usize>()
}
