//! Numbers records, gathers them into batches, seals and spools those, and feeds `-output`.
//!
//! A number that was given is never given again: the records of a batch that can't
//! be spooled are dropped, counted, and told by a gap record in the next batch
//! that can.

mod batch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_model::{
    BootId, EventBody, EventHeader, Gap, GapReason, HostId, Record, RecordBody, RecordKind, Timestamp,
};
use protocol::envelope::Sealer;
use protocol::wire::Ledger;
use sensor_api::SensorPosition;
use spool::{Amount, BatchHeader, Loss, LossReason, MAX_NOTE, Position, Spool, Tally};

use crate::account::Account;
use crate::clock::WallClock;
use crate::drop_account::{DropAccount, Lost, Untold};
use crate::note::{Counters, Note};
use crate::output::Output;
use crate::process_table::ProcessTable;
use crate::server_mark::ServerMark;

use self::batch::Batch;

/// A batch is closed when it is this old, has this many records, or about this many bytes.
pub const MAX_AGE: Duration = Duration::from_millis(200);
/// See [`MAX_AGE`].
pub const MAX_RECORDS: usize = 1_000;
/// Somebody waits for a detection or a receipt: it closes its batch at once, whatever is being saved,
/// but not more often than this, or a rule that matches all the time would make a batch of each event.
pub const URGENT_EVERY: Duration = Duration::from_millis(50);
/// See [`MAX_AGE`].
pub const MAX_BYTES: usize = protocol::MAX_SEALED_BATCH_BYTES / 16;
/// So much of the sensor's stream, in its own measure, closes a batch as well: the kernel's ring, of 8 MiB, has room
/// again only for what is stored. Sensors that count observations never get there.
pub const MAX_UNSTORED: u64 = 2 << 20;

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
    /// What the server has of this boot.
    pub server_mark: Arc<ServerMark>,
}

/// Where the last agent of this boot stopped.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// The number after its last record.
    pub next_sequence: u64,
    /// Its counters.
    pub counters: Counters,
    /// Its account by kind.
    pub account: Account,
    /// How far its sensor had come.
    pub position: Option<SensorPosition>,
}

/// Makes records of what the pipeline tells.
pub struct Recorder {
    host_id: HostId,
    boot_id: BootId,
    clock: Arc<WallClock>,
    next_sequence: u64,
    counters: Counters,
    account: Account,
    batch: Batch,
    begun: Instant,
    max_age: Duration,
    /// Since when a detection or a receipt is in the batch.
    urgent: Option<Instant>,
    /// When the last batch was closed.
    closed: Option<Instant>,
    position: Option<SensorPosition>,
    stored_position: Option<SensorPosition>,
    /// Where the stream was met.
    first_position: Option<SensorPosition>,
    /// What was numbered and could not be spooled, and what gaps among it told.
    untold: Option<Untold>,
    /// The same of a boot before this one, or of another host, as which this one was enrolled.
    inherited: Option<Untold>,
    /// Nothing of this boot was numbered before by an agent that this one knows of.
    began_anew: bool,
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
        // If it could, its later records have higher numbers. Of another host's boot, as which it was
        // enrolled before, none is a number of this one.
        let untold = spooling.as_ref().and_then(|spooling| spooling.account.found()).cloned();
        let is_own = |untold: &Untold| (untold.host_id, untold.boot_id) == (host_id, boot_id);
        let untold = untold.filter(|untold| !is_own(untold) || untold.next_sequence > resume.next_sequence);
        if let Some(untold) = untold.as_ref().filter(|untold| is_own(untold)) {
            resume.next_sequence = untold.next_sequence;
            resume.counters.dropped += untold.records();
            for (lost, amount) in untold.lost.iter().filter(|(lost, _)| lost.counted) {
                resume.account.produce(lost.kind, amount.acts);
                resume.account.lose(lost.kind, lost.reason, amount.acts);
            }
        }
        let (untold, inherited) = match untold {
            Some(untold) if !is_own(&untold) => (None, Some(untold)),
            untold => (untold, None),
        };
        let mut recorder = Self {
            host_id,
            boot_id,
            clock,
            began_anew: resume.next_sequence <= 1,
            next_sequence: resume.next_sequence.max(1),
            counters: resume.counters,
            account: resume.account,
            batch: Batch::default(),
            begun: Instant::now(),
            max_age: MAX_AGE,
            urgent: None,
            closed: None,
            position: resume.position,
            stored_position: None,
            first_position: None,
            untold,
            inherited,
            spooling,
            output,
        };
        recorder.go_on_above_the_server();
        recorder
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

    /// Takes an event whose header [`number`](Self::number) made.
    pub fn push_event(&mut self, header: &EventHeader, body: &EventBody) {
        self.begin();
        self.account.produce(RecordKind::Event(body.event_type()), body.acts());
        self.batch.push_event(header, body);
    }

    /// The same for what is no event.
    pub fn push(&mut self, header: EventHeader, body: RecordBody) {
        self.begin();
        self.urgent.get_or_insert_with(Instant::now);
        self.account.produce(RecordKind::of(&body), body.acts());
        self.batch.push(Record { header, body });
    }

    /// Numbers and takes an event that the agent itself tells.
    pub fn tell(&mut self, at_ns: u64, body: &EventBody) {
        let header = self.number(at_ns);
        self.push_event(&header, body);
    }

    fn begin(&mut self) {
        if self.batch.is_empty() {
            self.begun = Instant::now();
        }
    }

    /// Everything up to this position has been told.
    pub fn reached(&mut self, position: SensorPosition) {
        if self.position.is_none_or(|before| before.stream != position.stream) {
            self.first_position = Some(position);
        }
        self.position = Some(position);
    }

    /// How much of the sensor's stream was told and not yet stored.
    pub fn unstored(&self) -> u64 {
        let Some(reached) = self.position else { return 0 };
        let mut known = [self.stored_position, self.first_position].into_iter().flatten();
        let from = known.find(|from| from.stream == reached.stream);
        from.map_or(0, |from| reached.offset.saturating_sub(from.offset))
    }

    /// Nothing was pushed since the last batch.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Batches are closed when they are this old.
    pub fn close_after(&mut self, age: Duration) {
        self.max_age = age;
    }

    /// Whether the batch is to be closed now.
    pub fn is_due(&self) -> bool {
        let old = !self.batch.is_empty() && self.begun.elapsed() >= self.max_age;
        let urgent = self.urgent.is_some() && self.closed.is_none_or(|at| at.elapsed() >= URGENT_EVERY);
        urgent || old || self.batch.len() >= MAX_RECORDS || self.batch.size() >= MAX_BYTES
    }

    /// Whether the batch nears what a server takes.
    pub fn is_large(&self) -> bool {
        self.batch.size() >= protocol::MAX_BATCH_BYTES / 4
    }

    /// Whether the batch should have been closed long ago.
    pub fn is_overdue(&self) -> bool {
        // A detection closes its batch whatever is being saved.
        let urgent = self.urgent.is_some_and(|since| since.elapsed() >= 4 * MAX_AGE);
        let old = !self.batch.is_empty() && self.begun.elapsed() >= 4 * self.max_age;
        urgent || old || self.batch.len() >= 4 * MAX_RECORDS || self.batch.size() >= 4 * MAX_BYTES
    }

    /// Closes the batch. Every number that was given must have been pushed by now.
    /// `table` has what goes into the note for whoever goes on after a crash.
    pub fn flush(&mut self, table: &ProcessTable) {
        self.urgent = None;
        self.closed = Some(Instant::now());
        if self.batch.is_empty() {
            self.go_on_above_the_server();
        }
        self.batch.sort();
        let Some(spooling) = &self.spooling else {
            self.stored_position = self.position;
            self.end_batch();
            return;
        };
        let spool = Arc::clone(&spooling.spool);
        let telling = spool.telling();
        let (dropped_before, lost_before) = (self.counters.dropped, self.account.dropped());
        let own = self.batch.len();
        telling.losses.iter().for_each(|loss| self.tell_lost_records(loss));
        self.tell_untold();
        let Some((first_sequence, last_sequence)) = self.batch.numbers() else { return };
        let ledger = Ledger {
            produced: last_sequence,
            dropped: self.counters.dropped,
            kernel_lost: self.counters.kernel_lost,
            kinds: self.account.figures(),
        };
        let (from, until) = self.batch.span();
        let header = BatchHeader {
            boot_id: *self.boot_id.as_bytes(),
            first_sequence,
            record_count: u32::try_from(last_sequence + 1 - first_sequence).unwrap_or(u32::MAX),
            span: (from.as_nanos(), until.as_nanos()),
            position: self
                .position
                .map(|position| Position { stream: position.stream, offset: position.offset }),
            counts: self.batch.tally(),
        };
        let plain = self.batch.encode(self.boot_id, (first_sequence, last_sequence), &ledger);
        let Some(spooling) = &mut self.spooling else { return };
        let sealed = spooling.sealer.seal(&plain);
        let note = Note {
            host_id: Some(self.host_id),
            counters: self.counters,
            account: self.account.clone(),
            waiting: table.waiting().collect(),
            young: table.young(crate::clock::boot_ns()).collect(),
        };
        match spool.append(&header, &note.encode(MAX_NOTE), &sealed, Some(&telling)) {
            Ok(()) => {
                let told = self.untold.take().is_some() | self.inherited.take().is_some();
                if told && let Err(error) = spooling.account.write(None) {
                    // The next start sees by the numbers that it has been told.
                    tracing::debug!(%error, "the account of what was dropped still holds what has been told");
                }
                spooling.wake.notify_one();
            }
            Err(error) => {
                let count = u64::from(header.record_count);
                tracing::warn!(%error, count, "a batch could not be spooled, its records are dropped");
                // The losses were not told after all, and will be counted when they are.
                self.counters.dropped = dropped_before + count;
                self.account.go_back_to(lost_before);
                let untold = self.drop_batch(own, &header, (from, until));
                if let Some(Err(error)) =
                    self.spooling.as_ref().map(|spooling| spooling.account.write(Some(&untold)))
                {
                    tracing::warn!(%error, "a crash now would hide what was dropped");
                }
                self.untold = Some(untold);
            }
        }
        // Dropped or stored: either way it is accounted for, and need not come again.
        self.stored_position = self.position;
        self.end_batch();
        self.go_on_above_the_server();
    }

    fn end_batch(&mut self) {
        if let Some(output) = &self.output {
            output.write(self.batch.records());
        }
        self.batch.clear();
    }

    /// Where the server took other records by numbers that are given here: gives none of them
    /// any more, and tells of what nobody can count, as whoever numbered those is gone with
    /// what it had not sent. Only between batches, whose numbers follow each other.
    fn go_on_above_the_server(&mut self) {
        let next = self.next_sequence;
        let Some(taken) =
            self.spooling.as_ref().and_then(|spooling| spooling.server_mark.take_if_taken(next))
        else {
            return;
        };
        tracing::error!(
            server = taken.last_sequence,
            own = next - 1,
            "the server has records of this boot that are not known here, the numbers go on above them; \
             hint: was the spool removed, or the machine set back to a snapshot?"
        );
        let shares = !self.began_anew;
        let join = |own: u64, earlier: u64| {
            if shares { own.max(earlier) } else { own.saturating_add(earlier) }
        };
        self.counters.dropped = join(self.counters.dropped, taken.ledger.dropped);
        self.counters.kernel_lost = join(self.counters.kernel_lost, taken.ledger.kernel_lost);
        self.account.go_on_after(&taken.ledger.kinds, shares);
        self.began_anew = false;
        self.next_sequence = next.max(taken.last_sequence.saturating_add(1));
        let until = self.clock.now();
        self.tell_gap(Gap {
            from: taken.last_event_at.unwrap_or(until).min(until),
            until,
            ..Gap::of_observations("spool", GapReason::SpoolCorrupt, RecordKind::Unknown.as_str(), None)
        });
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

    /// Numbers and takes a gap. What it tells of was observed and never numbered: it
    /// enters the account here.
    pub fn tell_gap(&mut self, gap: Gap) {
        if let Some(count) = gap.count {
            let kind = RecordKind::from_word(gap.what);
            self.account.produce(kind, count);
            self.account.lose(kind, gap.reason, count);
        }
        self.tell(crate::clock::boot_ns(), &EventBody::Gap(gap));
    }

    /// The account of the boot by kind.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Whether a batch is owed for something that was lost, even if nothing else happens.
    pub fn owes_a_gap(&self) -> bool {
        self.spooling.as_ref().is_some_and(|spooling| {
            self.untold.is_some()
                || self.inherited.is_some()
                || !spooling.spool.losses().is_empty()
                || spooling.server_mark.has_taken(self.next_sequence)
        })
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

    /// Numbered records that are lost after they were spooled.
    fn tell_lost_records(&mut self, loss: &Loss) {
        let reason = match loss.reason {
            LossReason::Full => GapReason::SpoolFull,
            LossReason::Corrupt => GapReason::SpoolCorrupt,
            LossReason::Refused | LossReason::NumbersTaken | LossReason::OtherHost => {
                GapReason::ServerRefused
            }
        };
        tracing::warn!(%reason, count = loss.records, "records that waited for the server are lost");
        let sensor = if reason == GapReason::ServerRefused { "uplink" } else { "spool" };
        let now = self.clock.now();
        let (from, until) = loss
            .span
            .map_or((now, now), |(from, until)| (Timestamp::from_nanos(from), Timestamp::from_nanos(until)));
        let of_this_host = loss.reason != LossReason::OtherHost;
        let own_boot = of_this_host && loss.boot_id == Some(*self.boot_id.as_bytes());
        let boot = loss.boot_id.filter(|_| !own_boot).and_then(|boot| BootId::from_slice(&boot).ok());
        let through = loss.sequences.map(|(_, last)| last);
        // What is missing from the numbers. Of a number that was given twice, the server has one record.
        let mut missing = match (loss.reason, loss.sequences) {
            (LossReason::NumbersTaken, Some((first, last))) if own_boot => {
                let taken = loss.taken_through.unwrap_or(last).max(first.saturating_sub(1));
                Some(last.saturating_sub(taken))
            }
            _ => None,
        };
        if own_boot {
            self.counters.dropped += missing.or(loss.records).unwrap_or(0);
        }
        let known = loss.counts.iter().flat_map(Tally::iter);
        let mut parts: Vec<(RecordKind, Option<Amount>)> =
            known.map(|(kind, amount)| (RecordKind::from_number(kind), Some(amount))).collect();
        if parts.is_empty() {
            let amount = loss.records.map(|records| Amount { records, acts: records });
            parts.push((RecordKind::Unknown, amount));
        }
        for (kind, amount) in parts {
            if let (true, Some(amount)) = (own_boot, amount) {
                self.account.lose(kind, reason, amount.acts);
            }
            let (count, mut records) = (amount.map(|one| one.acts), amount.map(|one| one.records));
            if let (Some(missing), Some(records)) = (&mut missing, &mut records) {
                *records = (*records).min(*missing);
                *missing -= *records;
            }
            let gap = Gap { sensor, reason, what: kind.as_str(), count, records, through, boot, from, until };
            self.tell(crate::clock::boot_ns(), &EventBody::Gap(gap));
        }
    }

    /// Tells what could not be spooled. The account has it since then.
    fn tell_untold(&mut self) {
        for untold in [self.inherited.clone(), self.untold.clone()].into_iter().flatten() {
            let of_this_host = untold.host_id == self.host_id;
            let is_own = of_this_host && untold.boot_id == self.boot_id;
            let boot = (!is_own).then_some(untold.boot_id);
            for (lost, amount) in &untold.lost {
                let gap = Gap {
                    sensor: "spool",
                    // No server takes it as this host's, like what still waits in the spool.
                    reason: if of_this_host { lost.reason } else { GapReason::ServerRefused },
                    what: lost.kind.as_str(),
                    count: lost.counted.then_some(amount.acts),
                    records: lost.reason.is_of_records().then_some(amount.records),
                    through: Some(untold.next_sequence.saturating_sub(1)),
                    boot,
                    from: untold.from,
                    until: untold.until,
                };
                self.tell(crate::clock::boot_ns(), &EventBody::Gap(gap));
            }
        }
    }

    /// The batch is lost. Its records are counted, and so is what its first `own`
    /// records told as lost: the others told what is remembered elsewhere.
    fn drop_batch(&mut self, own: usize, header: &BatchHeader, span: (Timestamp, Timestamp)) -> Untold {
        let (from, until) = span;
        let mut untold = self.untold.take().unwrap_or_else(|| Untold {
            host_id: self.host_id,
            boot_id: self.boot_id,
            next_sequence: 0,
            from,
            until,
            lost: BTreeMap::new(),
        });
        untold.next_sequence = header.last_sequence() + 1;
        untold.from = untold.from.min(from);
        untold.until = untold.until.max(until);
        for (kind, amount) in header.counts.iter() {
            let kind = RecordKind::from_number(kind);
            self.account.lose(kind, GapReason::SpoolWriteFailed, amount.acts);
            untold.add(Lost { kind, reason: GapReason::SpoolWriteFailed, counted: true }, amount);
        }
        for told in self.batch.told(own) {
            let amount = Amount { records: 0, acts: told.count.unwrap_or(0) };
            let lost = Lost { kind: told.kind, reason: told.reason, counted: told.count.is_some() };
            untold.add(lost, amount);
        }
        untold
    }
}
