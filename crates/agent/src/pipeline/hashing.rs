//! Starts whose image must be hashed before the remaining rules judge them.
//!
//! A start whose image is not known yet waits until all that was observed has been
//! judged by the rules that need no hash, and newcomers go first. Where images come
//! faster than they can be read, a batch does not wait for them: their events go
//! without a hash, and rules on the hash still judge them once it is there.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use event_model::{DetectionId, EventBody, EventHeader, ImageFile, ProcessStart, ProcessSummary};
use rule_engine::Phase;
use sensor_api::ProcessKey;

use super::Work;
use crate::image_facts::{ImageFacts, ImageReading};
use crate::judge::{Numbered, Verdict};

/// While images are hashed, the stream is looked at this often.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Starts that may wait for a hash. What comes on top goes without, and says so.
const MOST_WAITING: usize = 1_024;

/// The event was sent before its image had been read.
const LATE: &str = "late";

/// A start that was numbered and judged without its hash.
pub(super) struct Unfinished {
    pub(super) header: EventHeader,
    pub(super) start: Box<ProcessStart>,
    pub(super) key: ProcessKey,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) ancestry: Vec<ProcessSummary>,
    pub(super) image: ImageFile,
    /// Its event is in a batch already, with the detections that it had by then.
    pub(super) is_told: bool,
    /// These.
    pub(super) told: Vec<DetectionId>,
}

impl Work {
    /// How long the stream may be waited for: not at all while something is to be hashed.
    pub(super) fn may_wait(&self, time: Duration) -> Duration {
        if self.unfinished.is_empty() { time } else { Duration::ZERO }
    }

    /// Reads on in the images that wait, the first one first, for about so long.
    pub(super) fn hash_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Some(one) = self.unfinished.front() {
            // Two starts of one new image wait for one hash.
            let facts = match self.known_images.get(&one.image) {
                Some(facts) => facts,
                None => {
                    let reading = self.reading.take().map_or_else(|| begin_to_read(one), Ok);
                    match reading.map_or_else(|reason| ControlFlow::Break(Err(reason)), ImageReading::step) {
                        ControlFlow::Continue(reading) => {
                            self.reading = Some(reading);
                            self.flush_if_due();
                            if Instant::now() >= until || self.callers.are_waiting() {
                                return;
                            }
                            continue;
                        }
                        ControlFlow::Break(facts) => facts,
                    }
                }
            };
            if let Some(one) = self.unfinished.pop_front() {
                self.known_images.keep(&one.image, &facts);
                self.finish_start(one, facts);
            }
            self.flush_if_due();
            if Instant::now() >= until {
                return;
            }
        }
    }

    /// For the end: hashes for as long as that, and lets go of what is left.
    pub(super) fn finish_starts(&mut self, limit: Duration) {
        self.hash_for(limit);
        self.reading = None;
        while let Some(one) = self.unfinished.pop_front() {
            self.finish_start(one, Err(LATE));
        }
    }

    /// Whether every number that was given stands in a batch, so that it may be closed.
    pub(super) fn is_complete(&self) -> bool {
        self.to_record.is_empty() && self.unfinished.iter().all(|one| one.is_told)
    }

    /// Records the events that wait for a hash as they are.
    pub(super) fn let_events_go(&mut self) {
        while let Some(one) = self.unfinished.iter_mut().find(|one| !one.is_told) {
            one.is_told = true;
            one.start.hash_skipped = Some(LATE);
            let (header, key, ancestry) = (one.header.clone(), one.key, one.ancestry.clone());
            let body = EventBody::ProcessStart(one.start.clone());
            let verdicts = std::mem::take(&mut one.verdicts);
            one.told = verdicts.iter().map(Verdict::id).collect();
            self.record(header, body, verdicts, ancestry, key.pid);
        }
    }

    pub(super) fn finish_start(&mut self, one: Unfinished, facts: ImageFacts) {
        let Unfinished { header, mut start, key, mut verdicts, mut ancestry, image, is_told, told } = one;
        match facts {
            Ok(facts) => {
                if start.process.image.blocked.is_none()
                    && let Some(verdict) = self.block_by_hash(&header, &facts.sha256, &image, &start.process)
                {
                    if verdict.condemns() {
                        self.table.condemn(key, verdict.id());
                    }
                    verdicts.push(verdict);
                }
                start.facts = Some(facts);
                start.hash_skipped = None;
            }
            Err(reason) => start.hash_skipped = Some(reason),
        }
        let body = EventBody::ProcessStart(start);
        let event = Numbered { header: &header, body: &body };
        if self.judge.needs_hash() {
            let by_hash = self.judge.judge(&event, Phase::HashOnly);
            if let Some(verdict) = by_hash.iter().find(|verdict| verdict.condemns()) {
                self.table.condemn(key, verdict.id());
            }
            // A correlation may have been completed in both phases; it is one detection of the event.
            let known: Vec<DetectionId> = verdicts.iter().map(Verdict::id).chain(told).collect();
            verdicts.extend(by_hash.into_iter().filter(|verdict| !known.contains(&verdict.id())));
        }
        verdicts.extend(self.judge.notice(&event));
        if ancestry.is_empty() && !verdicts.is_empty() {
            ancestry = self.ancestry(key);
        }
        if is_told {
            self.record_detections(header, &body, verdicts, ancestry, key.pid);
        } else {
            self.record(header, body, verdicts, ancestry, key.pid);
        }
    }

    /// Whether a new image may go without a hash: because the budget is short and no rule needs it, or because too many
    /// wait already.
    pub(super) fn may_skip_hash(&self) -> bool {
        let is_short =
            self.economy.saves_work() && self.blocked_hashes.is_empty() && !self.judge.needs_hash();
        is_short || self.unfinished.len() >= MOST_WAITING
    }
}

fn begin_to_read(one: &Unfinished) -> Result<ImageReading, &'static str> {
    ImageReading::begin(one.key.pid, &one.start.process.image.executable, &one.image)
}
