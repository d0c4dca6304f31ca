//! The gate before executions: rules and the block list, asked before a program runs.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_model::{
    BlockedBy, DetectionId, EventBody, EventHeader, EventType, FileFacts, Image, Process, ProcessEntityId,
    ProcessStart, ResponseMode, RuleReference, StartKind,
};
use file_scan::{ContentReading, RegularFile};
use response::{Guards, Plan, Target};
use rule_engine::Phase;
use sensor_api::{ObservedImage, Source};
use sensor_linux::{ExecutionGate, GateJudge, GatePlaces, KEEPER_ARGUMENT, Question, Refusal};

use crate::clock::boot_ns;
use crate::gate::{Denial, GateParts};
use crate::image::Images;
use crate::image_facts::{KnownImages, MAX_IMAGE_BYTES, as_event_carries};
use crate::judge::{Numbered, block_list_rule};

/// Services are looked up again before a program is refused, but not more often than this: a file that an update has
/// just put there is protected, too.
const GUARDS_AGAIN: Duration = Duration::from_secs(1);

/// The gate as a source. `all` in the place of paths is every local file system.
pub(crate) fn source(places: &[PathBuf], parts: GateParts) -> Option<Box<dyn Source>> {
    let mut guards = Guards::of_this_host();
    guards.protect(parts.protected.iter().cloned());
    let judge = RuleGate {
        parts,
        guards: Mutex::new((guards, Instant::now())),
        images: Mutex::default(),
        known: Mutex::default(),
    };
    Some(Box::new(ExecutionGate::new(places_of(places), Arc::new(judge))))
}

fn places_of(places: &[PathBuf]) -> GatePlaces {
    if places.is_empty() || places == [PathBuf::from("all")] {
        GatePlaces::All
    } else {
        GatePlaces::These(places.to_vec())
    }
}

/// Keeps the gate, if this process was started for that.
pub fn keep_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != KEEPER_ARGUMENT {
        return None;
    }
    let places: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let kept = sensor_linux::keep_gate(io::stdin().as_fd(), places_of(&places));
    Some(if kept.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct RuleGate {
    parts: GateParts,
    /// With the time when they were made or refreshed.
    guards: Mutex<(Guards, Instant)>,
    images: Mutex<Images>,
    known: Mutex<KnownImages>,
}

impl GateJudge for RuleGate {
    fn is_needed(&self) -> bool {
        !self.parts.rules.active().gate.is_empty() || !self.parts.blocked_hashes.is_empty()
    }

    fn judge(&self, question: &Question) -> Option<Refusal> {
        if self.parts.switch.is_stopped() {
            return None;
        }
        let at_ns = boot_ns();
        let rules = self.parts.rules.active();
        let needs_facts =
            rules.gate.needs_hash(EventType::ProcessStart) || !self.parts.blocked_hashes.is_empty();
        let facts = if needs_facts { self.facts(question) } else { None };
        let process = self.process(&question.image);
        let parent = question.parent.as_ref().map(|parent| self.process(parent));
        let header = EventHeader {
            host_id: self.parts.host_id,
            boot_id: self.parts.boot_id,
            sequence: 0,
            observed_at: self.parts.clock.at(at_ns),
            monotonic_ns: at_ns,
        };
        let image = Arc::clone(&process.image);
        let target = Target::from(&process);
        let body = EventBody::ProcessStart(Box::new(ProcessStart {
            kind: StartKind::Exec,
            process,
            parent,
            facts: facts.clone(),
            hash_skipped: None,
        }));
        let matches = rules.gate.evaluate(&Numbered { header: &header, body: &body }, Phase::All);
        let by_rules = matches.into_iter().map(|one| {
            let matched = one.matched.into_iter().map(str::to_owned).collect();
            (one.rule.reference(), matched)
        });
        let blocked = facts.as_ref().filter(|facts| self.parts.blocked_hashes.contains(&facts.sha256));
        let by_list = blocked.map(|_| block_list_rule(BlockedBy::Hash));
        let permitted = |(rule, _): &(RuleReference, Vec<String>)| self.guards_permit(&header, rule, &target);
        // The one that is told; the others would forbid no less.
        let (rule, matched) = by_list.into_iter().chain(by_rules).find(permitted)?;
        let (clock, denials) = (Arc::clone(&self.parts.clock), self.parts.denials.clone());
        let (judged, pid) = (clock.now(), question.image.pid);
        Some(Box::new(move |outcome| {
            denials.tell(Denial {
                at_ns,
                pid,
                image,
                facts,
                rule,
                matched,
                judged,
                known: clock.now(),
                in_time: outcome.in_time,
                runs_another: outcome.runs_another,
            });
        }))
    }
}

impl RuleGate {
    fn process(&self, observed: &ObservedImage) -> Process {
        let image: Arc<Image> = lock(&self.images).take(observed.clone());
        Process {
            entity_id: ProcessEntityId::new(self.parts.boot_id, observed.pid, observed.start_ns),
            start: self.parts.clock.at(observed.start_ns),
            image,
        }
    }

    /// The same guard rails as for the end of a process. Where they forbid it, the program runs; its start then tells
    /// of the refusal.
    fn guards_permit(&self, header: &EventHeader, rule: &RuleReference, target: &Target) -> bool {
        let plan = Plan {
            detection_id: DetectionId::of_match(header.event_id(), &rule.id),
            rule_id: rule.id.clone(),
            target: target.clone(),
            grace: Duration::ZERO,
        };
        let mut guards = lock(&self.guards);
        let (guards, refreshed) = &mut *guards;
        if refreshed.elapsed() >= GUARDS_AGAIN {
            guards.refresh();
            *refreshed = Instant::now();
        }
        guards.authorise(plan, ResponseMode::Auto).is_ok()
    }

    fn facts(&self, question: &Question) -> Option<Arc<FileFacts>> {
        let image = question.image.image?;
        if let Some(known) = lock(&self.known).get(&image) {
            return known.ok();
        }
        let facts = read(question);
        lock(&self.known).keep(&image, &facts);
        facts.ok()
    }
}

fn read(question: &Question) -> Result<Arc<FileFacts>, &'static str> {
    let unread = file_scan::ContentUnread::as_str;
    // A name of its own: the place in the file is the one whose file it is.
    let file = question.file.try_clone().map_err(|_| "unreadable")?;
    let file = RegularFile::from_file(file).map_err(unread)?;
    let mut reading = ContentReading::begin(file, MAX_IMAGE_BYTES).map_err(unread)?;
    loop {
        match reading.step() {
            ControlFlow::Continue(next) => reading = next,
            ControlFlow::Break(facts) => {
                return facts.map(|facts| Arc::new(as_event_carries(facts))).map_err(unread);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
