//! From a decoded batch to disk.
//!
//! One thread stores what all links hand it, in the order in which each link
//! does: findings into the state store first (idempotent by their ids), then the
//! events, whose high-water mark moves in the same transaction. A crash between
//! the two, or before the acknowledgement, makes the agent send again, and
//! nothing is doubled. Batches of one boot that wait while a commit runs are
//! stored as one, so that the disk's slowness is shared.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use event_model::{BootId, EventBody, EventRecord, Gap, GapReason, RecordBody, RecordKind, ResponseReceipt};
use event_store::{AgentFigures, AppendBatch, EventStore, EventStoreError};
use protocol::wire::{Batch, RefusedRecord};
use state_store::{DetectionInput, Findings, StateStore};
use tokio::sync::{mpsc, oneshot};

use super::fleet_stop::{self, FleetBreaker, Watched};
use super::hosts::TOLD_MARKS;
use super::live::{EVENTS_OF_A_MESSAGE, LiveEvents};
use super::{Bell, Counter, Counters, Link, Links, Live, LiveMessage, causes, now};
use super::{responses, silence};

/// Batches that may wait. Each link has at most a few under way, so this bounds memory.
const WAITING: usize = 256;
/// Batches whose actions the breaker has still to count; past them, storing waits for it.
const WATCHED_WAITING: usize = 1_024;
/// Records that are stored in one transaction at most.
const RECORDS_AT_ONCE: usize = 20_000;

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The boot.
    pub boot: BootId,
    /// Everything up to this number is on disk or accounted for.
    pub last_sequence: u64,
}

/// Why a batch was not stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IngestError {
    /// It contradicts itself and will never be stored.
    #[error("{0}")]
    Refused(String),
    /// It could not be stored now; the agent sends it again on a new link.
    #[error("the server could not store the batch")]
    NotNow,
}

/// What a batch's host is called.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) host_name: String,
    pub(crate) agent_version: String,
}

#[derive(Debug)]
struct Job {
    link: Arc<Link>,
    origin: Arc<Origin>,
    batch: Batch,
    sha256: [u8; 32],
    done: oneshot::Sender<Result<Stored, IngestError>>,
}

/// What the ingest thread is handed.
#[derive(Debug)]
enum Order {
    Store(Job),
    /// To be answered when all that came before is stored.
    Settle(oneshot::Sender<()>),
}

/// The way to the ingest thread.
#[derive(Debug)]
pub struct Ingest {
    jobs: Mutex<Option<mpsc::Sender<Order>>>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl Ingest {
    pub(crate) fn start(
        state: Arc<dyn StateStore>,
        events: Arc<dyn EventStore>,
        counters: Arc<Counters>,
        live: Live,
        posted: Bell,
        fleet: (Arc<Links>, Arc<FleetBreaker>),
    ) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(WAITING);
        let (links, breaker) = fleet;
        let (watched, told) = sync_channel(WATCHED_WAITING);
        let watching = Arc::clone(&state);
        let breaking = std::thread::Builder::new()
            .name("breaker".to_owned())
            .spawn(move || fleet_stop::watch(watching.as_ref(), &links, &breaker, &told))?;
        let writer = Writer { state, events, counters, live, posted, watched };
        let writing =
            std::thread::Builder::new().name("ingest".to_owned()).spawn(move || writer.run(waiting))?;
        // The second ends once the first has.
        Ok(Self { jobs: Mutex::new(Some(jobs)), threads: Mutex::new(vec![writing, breaking]) })
    }

    /// Hands a batch over, with the SHA-256 of the sealed bytes; the receiver says when it is on disk.
    /// Waits while too many wait.
    pub(crate) async fn store(
        &self,
        link: Arc<Link>,
        origin: Arc<Origin>,
        batch: Batch,
        sha256: [u8; 32],
    ) -> Option<oneshot::Receiver<Result<Stored, IngestError>>> {
        let (done, receiver) = oneshot::channel();
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        jobs.send(Order::Store(Job { link, origin, batch, sha256, done })).await.ok()?;
        Some(receiver)
    }

    /// Waits until all that was handed over before is on disk or given back; `None` where the server stops.
    pub(crate) async fn settled(&self) -> Option<()> {
        let (done, receiver) = oneshot::channel();
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        jobs.send(Order::Settle(done)).await.ok()?;
        receiver.await.ok()
    }

    /// Stores what still waits, and ends.
    pub(crate) fn close(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!(name, "a thread panicked");
            }
        }
    }
}

struct Writer {
    state: Arc<dyn StateStore>,
    events: Arc<dyn EventStore>,
    counters: Arc<Counters>,
    live: Live,
    posted: Bell,
    watched: SyncSender<Watched>,
}

/// Jobs that follow each other in one boot of one host.
struct Run {
    jobs: Vec<Job>,
    records: usize,
}

impl Run {
    fn takes(&self, job: &Job) -> bool {
        let Some(last) = self.jobs.last() else { return true };
        last.link.host == job.link.host
            && last.batch.boot_id == job.batch.boot_id
            && last.batch.last_sequence.checked_add(1) == Some(job.batch.first_sequence)
            // What came without an account by kind is not counted in one.
            && last.batch.ledger.kinds.is_empty() == job.batch.ledger.kinds.is_empty()
            && self.records + records_of(job) <= RECORDS_AT_ONCE
    }
}

impl Writer {
    fn run(&self, mut waiting: mpsc::Receiver<Order>) {
        while let Some(first) = waiting.blocking_recv() {
            let (mut jobs, mut settled) = (VecDeque::new(), Vec::new());
            let mut next = Some(first);
            while let Some(order) = next {
                match order {
                    Order::Store(job) => jobs.push_back(job),
                    Order::Settle(done) => settled.push(done),
                }
                next = if jobs.len() < WAITING { waiting.try_recv().ok() } else { None };
            }
            for run in runs_of(jobs) {
                self.store(run);
            }
            for done in settled {
                // Whoever waited may be gone with its link.
                let _ = done.send(());
            }
        }
    }

    fn store(&self, run: Run) {
        // A job whose link broke is the agent's to send again.
        let (jobs, broken): (Vec<_>, Vec<_>) =
            run.jobs.into_iter().partition(|job| !job.link.broken.load(Ordering::Acquire));
        for job in broken {
            let _ = job.done.send(Err(IngestError::NotNow));
        }
        let (Some(first), Some(last)) = (jobs.first(), jobs.last()) else { return };
        let stored = Stored { boot: first.batch.boot_id, last_sequence: last.batch.last_sequence };
        let origin = Arc::clone(&last.origin);
        let links: Vec<_> = jobs.iter().map(|job| Arc::clone(&job.link)).collect();
        let lasts: Vec<_> = jobs.iter().map(|job| job.batch.last_sequence).collect();
        let host = first.link.host;
        let mut waiting = Vec::new();
        let mut batches = Vec::new();
        for job in jobs {
            waiting.push(job.done);
            batches.push((job.batch, job.sha256));
        }
        match self.write(host, &origin, batches) {
            Ok(()) => {
                for (done, last_sequence) in waiting.into_iter().zip(lasts) {
                    // Whoever waited may be gone with its link.
                    let _ = done.send(Ok(Stored { last_sequence, ..stored }));
                }
            }
            Err(error) => {
                if matches!(error, IngestError::NotNow) {
                    self.counters.count(Counter::StoreFailures);
                    links.iter().for_each(|link| link.broken.store(true, Ordering::Release));
                }
                for done in waiting {
                    let _ = done.send(Err(error.clone()));
                }
            }
        }
    }

    fn write(
        &self,
        host: event_model::HostId,
        origin: &Origin,
        batches: Vec<(Batch, [u8; 32])>,
    ) -> Result<(), IngestError> {
        let count = batches.len() as u64;
        let Some((boot, first_sequence)) =
            batches.first().map(|(batch, _)| (batch.boot_id, batch.first_sequence))
        else {
            return Ok(());
        };
        let mut append = AppendBatch {
            host,
            boot,
            events: Vec::new(),
            others: Vec::new(),
            left_out: Vec::new(),
            first_sequence,
            last_sequence: first_sequence,
            figures: None,
            kinds: Vec::new(),
            sha256: None,
        };
        let mut detections = Vec::new();
        let mut receipts: Vec<Box<ResponseReceipt>> = Vec::new();
        for (batch, sha256) in batches {
            for refused in &batch.refused {
                append.left_out.push(refused.header.sequence);
                append.events.push(gap_instead(refused));
            }
            append.sha256 = Some(sha256);
            append.last_sequence = batch.last_sequence;
            append.figures = Some(AgentFigures {
                produced: batch.ledger.produced,
                dropped: batch.ledger.dropped,
                kernel_lost: batch.ledger.kernel_lost,
            });
            append.kinds = batch.ledger.kinds;
            for record in batch.records {
                let kind = RecordKind::of(&record.body);
                match record.body {
                    RecordBody::Event(event) => {
                        append.events.push(event);
                        continue;
                    }
                    RecordBody::Detection(detection) => detections.push(detection),
                    RecordBody::Receipt(receipt) => receipts.push(receipt),
                }
                append.others.push((record.header.sequence, kind));
            }
        }
        if !append.left_out.is_empty() {
            append.events.sort_by_key(|event| event.header.sequence);
        }
        append.check().map_err(|error| IngestError::Refused(error.to_string()))?;
        let findings = Findings {
            host,
            detections: detections
                .iter()
                .map(|detection| DetectionInput {
                    detection,
                    host_name: &origin.host_name,
                    agent_version: Some(&origin.agent_version),
                })
                .collect(),
            receipts: receipts.iter().map(AsRef::as_ref).collect(),
        };
        let mut changed = Vec::new();
        if !findings.detections.is_empty() || !findings.receipts.is_empty() {
            let outcome = self.state.record_findings(&findings, now()).map_err(|error| {
                tracing::error!(%host, error = causes(&error), "findings could not be stored");
                IngestError::NotNow
            })?;
            changed = outcome.changed;
            responses::queue_asked(self.state.as_ref(), host, &receipts);
            let done = fleet_stop::done_in(&findings);
            if !done.is_empty() {
                // Its thread ends after this one.
                let _ = self.watched.send((origin.host_name.as_str().into(), done));
            }
            // The alert is on its way to a responder while the events are still being written.
            self.posted.ring();
        }
        let outcome = self.events.append(&append).map_err(|error| {
            tracing::error!(%host, error = causes(&error), "events could not be stored");
            match error {
                EventStoreError::BadBatch(bad) => IngestError::Refused(bad.to_string()),
                _ => IngestError::NotNow,
            }
        })?;
        responses::note_released(self.state.as_ref(), host, &append.events);
        if outcome.stored == 0 && outcome.duplicates > 0 {
            self.counters.add(Counter::DuplicateBatches, count);
            self.note_other_records(&append);
        } else {
            self.counters.add(Counter::Batches, count);
        }
        self.counters.add(Counter::Records, outcome.stored);
        // A batch that comes again tells of a stop that is past.
        if outcome.duplicates == 0
            && let Some(contact) = silence::contact_told(&append.events)
            && let Err(error) = silence::note_contact(self.state.as_ref(), host, contact)
        {
            tracing::error!(%host, error = causes(&error), "it could not be noted whether the host reports");
        }
        self.tell(origin, append, outcome.duplicates, &changed);
        Ok(())
    }

    /// A batch that was stored before is acknowledged by its numbers. Where the one that ended there was another, an
    /// agent gave numbers twice, and what it sent is not what is here.
    fn note_other_records(&self, append: &AppendBatch) {
        let (host, last) = (append.host, append.last_sequence);
        let Ok(marks) = self.events.high_water_marks(host, TOLD_MARKS) else { return };
        let stored = marks.iter().find(|mark| mark.boot == append.boot && mark.last_sequence == last);
        if stored.is_some_and(|mark| mark.sha256.is_some() && mark.sha256 != append.sha256) {
            tracing::error!(
                %host,
                boot = %append.boot,
                last_sequence = last,
                "a batch with numbers that are taken is not the one that took them; it is acknowledged and its records are \
                 not kept; hint: was the agent's spool removed, or the machine set back to a snapshot?"
            );
        }
    }

    fn tell(&self, origin: &Origin, append: AppendBatch, duplicates: u64, changed: &[state_store::AlertId]) {
        if !self.live.is_watched() {
            return;
        }
        for id in changed {
            match self.state.alert(*id) {
                Ok(Some(detail)) => self.live.tell(LiveMessage::Alert(detail.alert.into())),
                Ok(None) => {}
                Err(error) => tracing::warn!(error = causes(&error), "alert could not be shown"),
            }
        }
        // A batch that came again was shown when it came first.
        if duplicates == 0 && !append.events.is_empty() {
            let mut events = append.events;
            let left_out = events.len().saturating_sub(EVENTS_OF_A_MESSAGE) as u64;
            events.truncate(EVENTS_OF_A_MESSAGE);
            let (host_name, agent_version) = (origin.host_name.clone(), origin.agent_version.clone());
            self.live
                .tell(LiveMessage::Events(LiveEvents { host_name, agent_version, events, left_out }.into()));
        }
    }
}

/// What stands in the place of a record that can't be taken: the loss shows wherever the
/// record would have.
fn gap_instead(refused: &RefusedRecord) -> EventRecord {
    let at = refused.header.observed_at;
    let gap = Gap {
        sensor: "server",
        reason: GapReason::ServerRefused,
        what: refused.kind.as_str(),
        count: Some(refused.acts),
        records: Some(1),
        through: Some(refused.header.sequence),
        boot: None,
        from: at,
        until: at,
    };
    EventRecord::from_body(refused.header.clone(), &EventBody::Gap(gap))
}

fn records_of(job: &Job) -> usize {
    job.batch.records.len() + job.batch.refused.len()
}

fn runs_of(jobs: VecDeque<Job>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for job in jobs {
        let records = records_of(&job);
        // The latest run of the host decides: an earlier one would change the order.
        let latest = runs
            .iter_mut()
            .rev()
            .find(|run| run.jobs.last().is_some_and(|last| last.link.host == job.link.host));
        match latest {
            Some(run) if run.takes(&job) => {
                run.records += records;
                run.jobs.push(job);
            }
            _ => runs.push(Run { jobs: vec![job], records }),
        }
    }
    runs
}
