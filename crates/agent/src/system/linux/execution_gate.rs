//! The gate before executions: rules and the block list, asked before a program runs.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_model::{
    BlockedBy, DetectionId, EventBody, EventHeader, EventType, FileFacts, Image, Process, ProcessEntityId,
    ProcessStart, ResponseMode, RuleReference, StartKind,
};
use file_scan::{ContentReading, RegularFile};
use response::{Guards, Plan, ProtectedFiles, Target};
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
/// So long a verdict waits for that, well within the gate's deadline; then it is made by what was known before.
const GUARDS_WITHIN: Duration = Duration::from_millis(100);

/// The gate as a source. `all` in the place of paths is every local file system.
pub(crate) fn source(places: &[PathBuf], parts: GateParts) -> Option<Box<dyn Source>> {
    let mut guards = Guards::of_this_host();
    guards.protect(parts.protected.iter().cloned());
    let judge = RuleGate {
        parts,
        rails: Arc::new(Rails::new(guards)),
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
    rails: Arc<Rails>,
    images: Mutex<Images>,
    known: Mutex<KnownImages>,
}

/// The guard rails, which a thread of its own keeps as they should be: it may have to wait for a disk.
struct Rails {
    state: Mutex<RailsState>,
    /// Told when they were looked up.
    looked_up: Condvar,
}

struct RailsState {
    guards: Guards,
    refreshed: Instant,
    /// Since when they are being looked up.
    under_way: Option<Instant>,
}

impl Rails {
    fn new(guards: Guards) -> Self {
        let state = RailsState { guards, refreshed: Instant::now(), under_way: None };
        Self { state: Mutex::new(state), looked_up: Condvar::new() }
    }

    /// As they are, or were a moment ago where that takes long: looked up where they are so old.
    fn current(
        self: &Arc<Self>,
        after: Duration,
        look_up: impl FnOnce(&[PathBuf]) -> ProtectedFiles + Send + 'static,
    ) -> MutexGuard<'_, RailsState> {
        let mut state = lock(&self.state);
        if state.under_way.is_none() && state.refreshed.elapsed() >= after {
            let (rails, configured) = (Arc::clone(self), state.guards.configured().to_vec());
            let work = move || rails.take(look_up(&configured));
            // Where there is no thread it is tried again with the next one.
            let begun = std::thread::Builder::new().name("gate-guards".to_owned()).spawn(work);
            state.under_way = begun.ok().map(|_| Instant::now());
        }
        let Some(since) = state.under_way else { return state };
        let wait = GUARDS_WITHIN.saturating_sub(since.elapsed());
        let waited = self.looked_up.wait_timeout_while(state, wait, |state| state.under_way.is_some());
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn take(&self, files: ProtectedFiles) {
        let mut state = lock(&self.state);
        state.guards.also_protect(files);
        (state.refreshed, state.under_way) = (Instant::now(), None);
        self.looked_up.notify_all();
    }
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
        // Where the file could not be read, a filter or an exception by its hash might be for it: such rules don't judge.
        let phase = if facts.is_some() { Phase::All } else { Phase::WithoutHash };
        let matches = rules.gate.evaluate(&Numbered { header: &header, body: &body }, phase);
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
        let look_up = |configured: &[PathBuf]| ProtectedFiles::look_up(configured);
        self.rails.current(GUARDS_AGAIN, look_up).guards.authorise(plan, ResponseMode::Auto).is_ok()
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn nobody_waits_for_guards_that_do_not_come_and_later_ones_count() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let metadata = file.as_file().metadata().unwrap();
        let rails = Arc::new(Rails::new(Guards::of_this_host()));
        let path = file.path().to_owned();
        let (go, wait) = channel::<()>();
        let slow = move |_: &[PathBuf]| {
            let _ = wait.recv();
            ProtectedFiles::look_up(&[path])
        };
        let is_protected = |state: &RailsState| state.guards.protects_image(metadata.dev(), metadata.ino());
        let before = rails.current(Duration::ZERO, slow);
        assert!(!is_protected(&before) && before.under_way.is_some());
        drop(before);
        // One at a time.
        let same = rails.current(Duration::ZERO, |_| unreachable!("one is under way"));
        assert!(same.under_way.is_some());
        drop(same);
        drop(go);
        let begun = Instant::now();
        while lock(&rails.state).under_way.is_some() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        assert!(is_protected(&lock(&rails.state)));
    }
}
