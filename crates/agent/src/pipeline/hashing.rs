//! Starts whose image must be hashed before the remaining rules judge them.
//!
//! A start whose image is not known yet waits until all that was observed has been
//! judged by the rules that need no hash, and newcomers go first.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use event_model::{EventBody, EventHeader, ImageFile, ProcessStart, ProcessSummary};
use rule_engine::Phase;
use sensor_api::{ProcessKey, SensorError};

use super::Work;
use crate::image_facts::{ImageFacts, ImageReading};
use crate::judge::{Numbered, Verdict};

/// While an image is hashed, the stream is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A start that was numbered and judged without its hash.
pub(super) struct Unfinished {
    pub(super) header: EventHeader,
    pub(super) start: Box<ProcessStart>,
    pub(super) key: ProcessKey,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) ancestry: Vec<ProcessSummary>,
    pub(super) image: ImageFile,
}

impl Work {
    /// Hashes what waits for it, and looks for what is more urgent in between.
    pub(super) fn finish_starts(
        &mut self,
        mut look: impl FnMut(&mut Self) -> Result<(), SensorError>,
    ) -> Result<(), SensorError> {
        let mut result = Ok(());
        while let Some(one) = self.unfinished.pop_front() {
            self.finishing = true;
            let mut looked = Instant::now();
            // Two starts of one new image wait for one hash.
            let facts = self.known_images.get(&one.image).unwrap_or_else(|| {
                let mut reading =
                    ImageReading::begin(one.key.pid, &one.start.process.image.executable, &one.image)?;
                loop {
                    match reading.step() {
                        ControlFlow::Continue(next) => reading = next,
                        ControlFlow::Break(facts) => return facts,
                    }
                    // Where new images come faster than they can be hashed, the batch must
                    // still close: newcomers then wait in the stream.
                    let may_look = result.is_ok() && !self.recorder.is_overdue();
                    if may_look && looked.elapsed() >= LOOK_EVERY {
                        result = look(self);
                        looked = Instant::now();
                    }
                }
            });
            self.known_images.keep(&one.image, &facts);
            self.finish_start(one, facts);
            self.finishing = false;
            self.flush_if_due();
        }
        result
    }

    pub(super) fn finish_start(&mut self, one: Unfinished, facts: ImageFacts) {
        let Unfinished { header, mut start, key, mut verdicts, mut ancestry, image } = one;
        match facts {
            Ok(facts) if start.process.image.blocked.is_none() => {
                if let Some(verdict) = self.block_by_hash(&header, &facts.sha256, &image, &start.process) {
                    if verdict.condemns() {
                        self.table.condemn(key, verdict.id());
                    }
                    if ancestry.is_empty() {
                        ancestry = self.ancestry(key);
                    }
                    verdicts.push(verdict);
                }
                start.facts = Some(facts);
            }
            Ok(facts) => start.facts = Some(facts),
            Err(reason) => start.hash_skipped = Some(reason),
        }
        let body = EventBody::ProcessStart(start);
        if self.judge.needs_hash() {
            let event = Numbered { header: &header, body: &body };
            let by_hash = self.judge.judge(&event, Phase::HashOnly);
            if let Some(verdict) = by_hash.iter().find(|verdict| verdict.condemns()) {
                self.table.condemn(key, verdict.id());
            }
            if ancestry.is_empty() && !by_hash.is_empty() {
                ancestry = self.ancestry(key);
            }
            verdicts.extend(by_hash);
        }
        let unusual = self.judge.notice(&Numbered { header: &header, body: &body });
        if ancestry.is_empty() && !unusual.is_empty() {
            ancestry = self.ancestry(key);
        }
        verdicts.extend(unusual);
        self.record(header, &body, verdicts, ancestry, key.pid);
    }

    /// Whether a new image may go without a hash, because the budget is short and no rule needs it.
    pub(super) fn may_skip_hash(&self) -> bool {
        self.economy.saves_work() && self.blocked_hashes.is_empty() && !self.judge.needs_hash()
    }
}
