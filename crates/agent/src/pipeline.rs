//! What everything observed goes through, one thing at a time and in kernel order:
//! process table, event, number, rules, response, hash, remaining rules, records.
//!
//! Hashing an image can take a hundred times as long as everything else together.
//! A start whose image is not known yet waits for its hash until all that was
//! observed has been judged by the rules that need none, and newcomers go first.
//!
//! It waits for nothing but the sensor. Sending, writing `-output` and proving a
//! kill are other threads'; what this one does per event is bounded.

mod blocking;
mod closing;
mod containers;
mod denied;
mod economy;
mod findings;
mod hashing;
mod merger;
mod own_events;
mod parts;
mod rounds;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_model::{
    Activity, AgentStop, BootId, DetectionId, EventBody, EventHeader, EventRecord, Field, Gap, GapReason,
    ProcessSummary, RecordBody, ResponseReceipt, SignalSender, StartKind, Value, Who,
};
use response::Target;
use rule_engine::Phase;
use sensor_api::{
    Actor, Block, Observation, ObservationQueue, Observed, ObservedActivity, ObservedLoss, ProcessKey,
    Sensor, SensorError, SensorPosition,
};

use crate::clock::{WallClock, boot_ns};
use crate::enrich::Enricher;
use crate::gate::DenialFeed;
use crate::image::Images;
use crate::image_facts::{ImageReading, KnownImages, REMOTE};
use crate::indicator_book::{ActiveIndicators, IndicatorBook};
use crate::judge::{Judge, Numbered, Verdict};
use crate::process_table::{Life, ProcessTable};
use crate::recorder::Recorder;
use crate::rules::RuleBook;
use crate::scanner::ScanFeed;
use crate::signals::Sender;
use crate::system::observing::ContentFeed;
use crate::system::paths::leads_to_another_host;
use crate::system::process;

use self::economy::Economy;
pub(crate) use self::findings::describe_string;
use self::hashing::Unfinished;
pub use self::parts::{Before, End, Parts, Stop};
use self::rounds::{Callers, Rounds};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const POLL: Duration = Duration::from_millis(5);
/// The same after a round in which nothing was observed, where nothing may be acted on: the first record ends the waiting,
/// so this is only how much later all else comes, such as what other sources put into the queue. Looks are most of what
/// an idle agent costs.
const QUIET_POLL: Duration = Duration::from_millis(50);
/// Observations of other sources taken in one round, so that the kernel's stream does not wait long.
const FROM_QUEUE: usize = 1_024;
const HEALTH_EVERY: Duration = Duration::from_secs(60);

/// Detections logged in any second; whoever can trigger a rule must not fill the disk with log lines.
const LOGGED_DETECTIONS: u32 = 20;

/// Losses that can leave processes in the table that are gone.
const LIVES: [&str; 4] = ["process_fork", "process_start", "process_exit", "observations"];

/// Runs until it is asked to stop, memory runs out, or the sensor fails. The sensor is
/// shut down at the end, except where the agent begins anew at once: its kernel side then
/// keeps watch until the agent is back.
///
/// # Errors
/// The sensor's error; what was observed before is recorded all the same.
pub fn run(parts: Parts, stop: &Stop) -> Result<End, SensorError> {
    process::prefer_this_thread();
    let Parts {
        mut sensor,
        queue,
        content,
        scans,
        denials,
        recorder,
        boot_id,
        clock,
        table,
        judge,
        rules,
        before,
        ..
    } = parts;
    let mut work = Work {
        sensor_name: sensor.name(),
        queue,
        content,
        scans,
        denials,
        boot_id,
        clock,
        table,
        images: Images::default(),
        known_images: KnownImages::default(),
        judge,
        recorder,
        rules,
        indicators: parts.indicators,
        indicators_in_use: Arc::default(),
        before,
        steps: Vec::new(),
        // What the agent before this one left may be gone.
        lives_doubtful: true,
        logged: (Instant::now(), 0),
        unfinished: VecDeque::new(),
        reading: None,
        owes_a_gap: false,
        economy: Economy::new(parts.governor),
        health_is_news: false,
        missing: Vec::new(),
        blocked_hashes: parts.blocked_hashes,
        blocked: HashMap::new(),
        to_block: Vec::new(),
        callers: Callers::default(),
        answers: false,
        to_record: Vec::new(),
    };
    work.use_new_rules(sensor.as_mut());
    work.tell_start(parts.config_hash, parts.previous_end, parts.sources, parts.previous_cause);
    let (mut sensor, mut work, result) = Rounds::new(sensor, work, parts.rounds).make_all(stop);
    work.finish(sensor.as_mut(), stop, &result);
    if matches!(result, Ok(End::Memory)) {
        return result;
    }
    sensor.shut_down().and(result)
}

struct Work {
    sensor_name: &'static str,
    queue: ObservationQueue,
    content: ContentFeed,
    scans: ScanFeed,
    denials: DenialFeed,
    boot_id: BootId,
    clock: Arc<WallClock>,
    table: ProcessTable,
    images: Images,
    known_images: KnownImages,
    judge: Judge,
    recorder: Recorder,
    rules: Arc<RuleBook>,
    indicators: Arc<IndicatorBook>,
    indicators_in_use: Arc<ActiveIndicators>,
    before: Option<Before>,
    steps: Vec<Life>,
    /// An exit may have been lost, so that the table holds processes that are gone.
    lives_doubtful: bool,
    logged: (Instant, u32),
    unfinished: VecDeque<Unfinished>,
    /// The image of the first of them, as far as it is read.
    reading: Option<ImageReading>,
    /// Something was lost and must be told, even if nothing else happens.
    owes_a_gap: bool,
    economy: Economy,
    /// The next figures tell something new.
    health_is_news: bool,
    /// What the sensor misses of its kernel side, and has been told.
    missing: Vec<String>,
    blocked_hashes: HashSet<String>,
    blocked: HashMap<ProcessKey, blocking::Waiting>,
    /// For the sensor, when it is not being read from.
    to_block: Vec<Block>,
    /// Who waits for a round because a process started.
    callers: Callers,
    /// A process waits for its verdict, so whatever comes before it in the stream is judged and no more.
    answers: bool,
    /// What is to be recorded once that is over.
    to_record: Vec<(EventHeader, EventBody)>,
}

impl Work {
    fn poll(&mut self, sensor: &mut dyn Sensor, timeout: Duration) -> Result<(), SensorError> {
        let asked_ns = boot_ns();
        let mut latest = None;
        let result = sensor.poll(timeout, &mut |observed| {
            latest = Some(observed.at_ns);
            self.observe(observed);
        });
        self.reach(latest.unwrap_or(asked_ns));
        self.take_queue(FROM_QUEUE);
        self.tell_receipts();
        self.make_room();
        result
    }

    /// Judges what waits in the stream, at most so much, because a process waits for its verdict; the number. All else has
    /// time until [`poll`](Self::poll).
    fn judge_at_once(&mut self, sensor: &mut dyn Sensor, most: usize) -> Result<usize, SensorError> {
        let asked_ns = boot_ns();
        let (mut latest, mut count) = (None, 0);
        self.answers = true;
        let result = sensor.take_some(most, &mut |observed| {
            latest = Some(observed.at_ns);
            count += 1;
            self.observe(observed);
        });
        self.reach(latest.unwrap_or(asked_ns));
        self.record_rest();
        self.answers = false;
        result.map(|()| count)
    }

    /// The stream has come so far. Not farther than it was read: the exec of a waiting fork may stand in the ring unread.
    /// An empty ring has come as far as the question was.
    fn reach(&mut self, reached_ns: u64) {
        let mut steps = std::mem::take(&mut self.steps);
        self.table.tell_waiting(reached_ns, &mut steps);
        self.table.forget(reached_ns);
        self.tell_steps(steps);
    }

    /// What the other sources saw. Taken after the stream, so that who did it is known.
    fn take_queue(&mut self, most: usize) {
        let mut taken = Vec::new();
        self.queue.take(most, &mut |observed| taken.push(observed));
        taken.into_iter().for_each(|observed| self.observe(observed));
        self.content.take_losses().iter().for_each(|loss| self.tell_loss(loss));
        self.tell_denials();
        self.tell_scans();
    }

    fn ancestry(&self, key: ProcessKey) -> Vec<ProcessSummary> {
        Enricher { boot_id: self.boot_id, clock: &self.clock, table: &self.table }.ancestry(key)
    }

    fn observe(&mut self, observed: Observed) {
        self.content.offer(&observed);
        self.scans.offer(&observed, self.economy.saves_work());
        self.economy.saw();
        let Observed { at_ns, position, what } = observed;
        if position.is_some() && !matches!(what, Observation::ProcessExisting(_) | Observation::Lost(_)) {
            self.tell_absence(position);
        }
        match what {
            Observation::Lost(loss) => self.tell_loss(&loss),
            Observation::Activity(activity) => {
                if !self.economy.leaves_out(at_ns, &activity) {
                    let merges = self.economy.merges_acts(&activity);
                    if !(merges && self.economy.absorbs(at_ns, &activity)) {
                        self.tell_activity(at_ns, *activity, merges);
                    }
                }
            }
            what => {
                if let Observation::ProcessExisting(image) = &what {
                    self.met_before(image);
                }
                let mut steps = std::mem::take(&mut self.steps);
                self.table.observe(at_ns, what, &mut self.images, &mut steps);
                self.tell_steps(steps);
            }
        }
        if let Some(position) = position {
            self.recorder.reached(position);
        }
        self.flush_if_due();
    }

    /// Tells the steps and gives the list back for use again.
    fn tell_steps(&mut self, mut steps: Vec<Life>) {
        for step in steps.drain(..) {
            match step {
                Life::Started { key, kind, at_ns } => self.tell_process_start(key, kind, at_ns),
                Life::Ended { key, at_ns, wait_status } => self.tell_process_exit(key, at_ns, wait_status),
                Life::Fled { key, condemned_by } => self.pursue(key, condemned_by),
            }
        }
        self.steps = steps;
    }

    fn tell_process_start(&mut self, key: ProcessKey, kind: StartKind, at_ns: u64) {
        let enricher = Enricher { boot_id: self.boot_id, clock: &self.clock, table: &self.table };
        let Some(mut start) = enricher.process_start(key, kind) else { return };
        if start.process.image.file.is_none() && leads_to_another_host(&start.process.image.executable) {
            start.hash_skipped = Some(REMOTE);
        }
        self.meet_container(key, at_ns);
        let header = self.recorder.number(at_ns);
        let (image, blocked) = (start.process.image.file, start.process.image.blocked);
        let blocked = blocked.map(|by| self.tell_blocked(&header, key, by, &start.process));
        let body = EventBody::ProcessStart(Box::new(start));
        let event = Numbered { header: &header, body: &body };
        let mut verdicts = self.judge.judge(&event, Phase::WithoutHash);
        if let Some(verdict) = verdicts.iter().find(|verdict| verdict.condemns()) {
            self.table.condemn(key, verdict.id());
        }
        verdicts.extend(blocked);
        if image.is_none() {
            // No hash will come.
            verdicts.extend(self.judge.notice(&event));
        }
        // As it is now: until the hash is known, the process may run another image.
        let ancestry = if verdicts.is_empty() { Vec::new() } else { self.ancestry(key) };
        match (body, image) {
            (EventBody::ProcessStart(start), Some(image)) => {
                let (is_told, told) = (false, Vec::new());
                let one = Unfinished { header, start, key, verdicts, ancestry, image, is_told, told };
                match self.known_images.get(&image) {
                    Some(facts) => self.finish_start(one, facts),
                    None if self.may_skip_hash() => self.finish_start(one, Err("budget")),
                    None => self.unfinished.push_back(one),
                }
            }
            (body, _) => self.record(header, body, verdicts, ancestry, key.pid),
        }
    }

    fn tell_activity(&mut self, at_ns: u64, observed: ObservedActivity, merges: bool) {
        // What is merged is compared as it was observed.
        let to_compare = merges.then(|| observed.clone());
        let actor = observed.actor.and_then(|actor| self.key_of(actor, at_ns));
        let target = observed.target.and_then(|target| self.key_of(target, at_ns));
        let mut activity = Activity {
            event_type: observed.event_type,
            who: actor.and_then(|key| self.who(key)),
            target: target.and_then(|key| self.who(key)),
            fields: observed.fields,
        };
        // Who is not in the table was at least a PID.
        if let (Some(actor), None) = (observed.actor, &activity.who) {
            activity.fields.push((Field::ProcessPid, Value::Integer(actor.pid().into())));
        }
        if let (Some(target), None) = (observed.target, &activity.target) {
            activity.fields.push((Field::TargetPid, Value::Integer(target.pid().into())));
        }
        let header = self.recorder.number(at_ns);
        let body = EventBody::Activity(Box::new(activity));
        let event = Numbered { header: &header, body: &body };
        let mut verdicts = self.judge.judge(&event, Phase::All);
        verdicts.extend(self.judge.notice(&event));
        if let (Some(key), Some(verdict)) = (actor, verdicts.iter().find(|verdict| verdict.condemns())) {
            self.table.condemn(key, verdict.id());
        }
        let ancestry = match actor {
            Some(key) if !verdicts.is_empty() => self.ancestry(key),
            _ => Vec::new(),
        };
        let (header, body) = match body {
            EventBody::Activity(activity) if verdicts.is_empty() => {
                let Some((header, activity)) = self.economy.hold(header, activity, to_compare) else {
                    return;
                };
                (header, EventBody::Activity(activity))
            }
            body => (header, body),
        };
        self.record(header, body, verdicts, ancestry, actor.map_or(0, |key| key.pid));
    }

    fn key_of(&self, actor: Actor, at_ns: u64) -> Option<ProcessKey> {
        match actor {
            Actor::Life(key) => Some(key),
            Actor::Pid(pid) => self.table.life_at(pid, at_ns),
        }
    }

    fn who(&self, key: ProcessKey) -> Option<Who> {
        Enricher { boot_id: self.boot_id, clock: &self.clock, table: &self.table }.who(key)
    }

    /// Ends a fork of a condemned process, as long as it runs the image for which its parent was condemned.
    fn pursue(&mut self, key: ProcessKey, condemned_by: DetectionId) {
        let Some(who) = self.who(key) else { return };
        let target = Target::from(&who.process);
        let runs = process::image_number(key.pid);
        if runs.is_some() && runs == target.image.map(|(_, inode)| inode) {
            self.judge.pursue(condemned_by, &target);
        }
    }

    fn tell_process_exit(&mut self, key: ProcessKey, at_ns: u64, wait_status: Option<u32>) {
        self.prove_blocked(key, at_ns, wait_status);
        let enricher = Enricher { boot_id: self.boot_id, clock: &self.clock, table: &self.table };
        let Some(exit) = enricher.process_exit(key, at_ns, wait_status) else { return };
        let header = self.recorder.number(at_ns);
        let body = EventBody::ProcessExit(Box::new(exit));
        let verdicts = self.judge.judge(&Numbered { header: &header, body: &body }, Phase::All);
        let ancestry = if verdicts.is_empty() { Vec::new() } else { self.ancestry(key) };
        self.record(header, body, verdicts, ancestry, key.pid);
    }

    /// The event, then its detections.
    fn record(
        &mut self,
        header: EventHeader,
        body: EventBody,
        verdicts: Vec<Verdict>,
        ancestry: Vec<ProcessSummary>,
        pid: u32,
    ) {
        if self.answers && verdicts.is_empty() {
            return self.to_record.push((header, body));
        }
        self.recorder.push_event(&header, &body);
        self.record_detections(header, &body, verdicts, ancestry, pid);
    }

    /// Records what could wait until the verdict.
    fn record_rest(&mut self) {
        let mut waiting = std::mem::take(&mut self.to_record);
        waiting.drain(..).for_each(|(header, body)| self.recorder.push_event(&header, &body));
        self.to_record = waiting;
    }

    /// The detections of an event that is recorded.
    fn record_detections(
        &mut self,
        header: EventHeader,
        body: &EventBody,
        verdicts: Vec<Verdict>,
        ancestry: Vec<ProcessSummary>,
        pid: u32,
    ) {
        if verdicts.is_empty() {
            return;
        }
        let at_ns = header.monotonic_ns;
        let event = EventRecord::from_body(header, body);
        for verdict in verdicts {
            let detection = verdict.detection(&event, ancestry.clone());
            if self.may_log() {
                tracing::info!(
                    rule.id = %detection.rule.id, rule.name = detection.rule.name, process.pid = pid,
                    mode = %detection.rule.mode, "detection"
                );
            }
            let header = self.recorder.number(at_ns);
            self.recorder.push(header, RecordBody::Detection(Box::new(detection)));
            // Hundreds of rules that match one large event would make a batch that the server takes for an attack. The
            // sensor's position is not past the event yet: after a crash before the next batch it is told again,
            // rather than that the rest of its detections would be lost.
            if self.recorder.is_large() {
                self.record_rest();
                if self.is_complete() {
                    self.flush();
                }
            }
        }
    }

    fn tell_receipts(&mut self) {
        let receipts: Vec<ResponseReceipt> = self.judge.receipts().collect();
        for receipt in receipts {
            if self.may_log() {
                tracing::info!(
                    action = %receipt.action, state = %receipt.state, reason = receipt.reason,
                    process.pid = receipt.target.entity_id.pid(), "response"
                );
            }
            let header = self.recorder.number(boot_ns());
            self.recorder.push(header, RecordBody::Receipt(Box::new(receipt)));
        }
    }

    fn tell_loss(&mut self, loss: &ObservedLoss) {
        // What is left out on purpose is no start and no end of a process.
        self.lives_doubtful |= loss.reason != GapReason::Budget && LIVES.contains(&loss.what);
        // A single source that was away says nothing about the stream.
        if loss.reason == GapReason::AgentDown && loss.what == "observations" {
            self.before = None;
        }
        if !matches!(loss.reason, GapReason::Budget | GapReason::QueueFull) {
            self.recorder.count_kernel_loss(loss.count.unwrap_or(0));
        }
        self.recorder.tell_gap(Gap {
            from: self.clock.at(loss.from_ns),
            until: self.clock.at(loss.until_ns),
            ..Gap::of_observations(self.sensor_name, loss.reason, loss.what, loss.count)
        });
    }

    /// The first observation tells whether anything watched since the run before this one.
    fn tell_absence(&mut self, first: Option<SensorPosition>) {
        let Some(before) = self.before.take() else { return };
        let same_stream = first.is_some_and(|first| before.stream == Some(first.stream));
        if !same_stream {
            self.recorder.tell_gap(Gap {
                from: before.until,
                until: self.clock.now(),
                ..Gap::of_observations(self.sensor_name, GapReason::AgentDown, "observations", None)
            });
        }
    }

    /// Takes up changed indicators and rules.
    fn use_new_rules(&mut self, sensor: &mut dyn Sensor) {
        let indicators = self.indicators.active();
        if !Arc::ptr_eq(&indicators, &self.indicators_in_use) {
            self.judge.use_indicators(Arc::clone(&indicators));
            self.indicators_in_use = indicators;
        }
        let active = self.rules.active();
        if Arc::ptr_eq(&active, self.judge.rules()) {
            return;
        }
        sensor.wake_on_process_start(active.may_act_on_start());
        let may_not_wait =
            active.may_act() || !self.blocked_hashes.is_empty() || !sensor.keeps_observations();
        self.economy.hurry(active.may_act_on_start(), may_not_wait);
        self.rules.take_up(&active);
        self.judge.use_rules(active);
    }

    fn each_second(&mut self) {
        self.clock.refresh();
        self.owes_a_gap = self.recorder.owes_a_gap();
        self.judge.keep_habits(false);
        self.tell_withheld();
        if std::mem::take(&mut self.lives_doubtful) {
            self.table.sweep(boot_ns(), process::is_there);
        }
    }

    /// Takes in what is left, tells the stop, and writes everything out.
    fn finish(&mut self, sensor: &mut dyn Sensor, stop: &Stop, result: &Result<End, SensorError>) {
        // Bounded: on a busy host the stream never ends.
        let deadline = Instant::now() + Duration::from_secs(1);
        let asked_ns = boot_ns();
        let mut reached = result.is_err();
        while !reached && Instant::now() < deadline {
            let mut last = None;
            let polled = sensor.poll(Duration::ZERO, &mut |observed| {
                last = Some(observed.at_ns);
                self.observe(observed);
            });
            reached = polled.is_err() || last.is_none_or(|at_ns| at_ns > asked_ns);
            // Or the kernel's ring is full before the second is over.
            self.make_room();
            if let Some(position) = self.recorder.stored_position() {
                sensor.commit(position);
            }
        }
        self.take_queue(usize::MAX);
        self.content.end().iter().for_each(|loss| self.tell_loss(loss));
        self.scans.end().iter().for_each(|loss| self.tell_loss(loss));
        if !matches!(result, Ok(End::Memory)) {
            // Nobody will see whether these exec yet.
            let mut steps = std::mem::take(&mut self.steps);
            self.table.tell_waiting(u64::MAX, &mut steps);
            self.tell_steps(steps);
        }
        // Whoever asked to stop does not wait for all that was just started.
        self.finish_starts(Duration::from_secs(1));
        self.judge.finish(Duration::from_millis(1_500));
        self.judge.keep_habits(true);
        self.tell_withheld();
        self.tell_receipts();
        // With acts that were held to be merged: the stop is the last that is told.
        self.flush();
        let (signal, sender) = stop.signal();
        let by = sender.map(|Sender { pid, uid }| SignalSender {
            pid,
            uid,
            who: self.table.living(pid).and_then(|key| self.who(key)),
        });
        let reason = match result {
            Ok(End::Asked) => "signal",
            Ok(End::Memory) => "memory",
            Err(_) => "error",
        };
        let stop =
            AgentStop { version: VERSION.to_owned(), reason, signal: (signal != 0).then_some(signal), by };
        self.recorder.tell(boot_ns(), &EventBody::AgentStop(stop));
        self.flush();
        if let Some(position) = self.recorder.stored_position() {
            sensor.commit(position);
        }
        self.recorder.finish(Duration::from_secs(2));
    }

    fn may_log(&mut self) -> bool {
        if self.logged.0.elapsed() >= Duration::from_secs(1) {
            self.logged = (Instant::now(), 0);
        }
        self.logged.1 += 1;
        self.logged.1 <= LOGGED_DETECTIONS
    }
}
