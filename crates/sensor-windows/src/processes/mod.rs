//! Processes by what the kernel tells (event tracing) and by looking at the list of them, again and again.
//!
//! Each process is held by a handle from the moment it is seen, so that its PID is nobody else's before its
//! end was told, and its exit code and time of end are exact. With event tracing every start is told, also of a
//! process that is gone before anybody could look at it, whose command line the kernel's own logger has. The list
//! is looked at as often with it as without: what is seen there while it lives can be asked more. Without, what starts and ends between two looks is not
//! seen; how long they lie apart is chosen so that looking takes a fiftieth of a core at most.

mod notices;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_model::{EventType, GapReason, ImageFile};
use sensor_api::{
    Observation, Observed, ObservedExit, ObservedImage, ObservedLoss, ProcessClock, ProcessKey, Provision,
    Sensor, SensorError, SensorPosition,
};
use win32::clock::{boot_ns, file_time, since_boot_ns};
use win32::event::Event;
use win32::process::{Listed, Process, Wanted, list, session_of};

use self::notices::{NAME, Notices, Told};
use crate::clock_steps::ClockSteps;
use crate::etw::{Again, Drives, ENDED, Launch, NOT_WANTED, ProcessNotice, Starts, tampered};
use crate::{Collection, command_line};

const SENSOR: &str = "process_snapshot";
/// Looks are never nearer together, and farther apart where they are dear.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const COST_SHARE: u32 = 50;
/// What a look finds that can't be asked any more is left to the kernel's notice for so long: told by the look, its
/// start would be a guess, its command line missing and its exit code unknown.
const LEFT_TO_NOTICE: Duration = Duration::from_millis(500);
/// A notice that waits for its command line is looked at again after this.
const WAITS: Duration = Duration::from_millis(10);
/// Notices that are taken at once.
const MOST_AT_ONCE: usize = 2_048;
/// So long a process that ended is remembered as a parent.
const REMEMBERED: Duration = Duration::from_secs(30);
/// The kernel itself, and what it keeps to itself.
const SYSTEM_PID: u32 = 4;

/// Opens the sensor. It listens to the kernel where sessions of event tracing are wanted.
///
/// # Errors
/// The list of processes can't be read.
pub fn open(collection: Collection) -> Result<Box<dyn Sensor>, SensorError> {
    list().map_err(|source| SensorError::System {
        sensor: SENSOR,
        doing: "listing the processes",
        source,
    })?;
    let signal = Arc::new(Event::new().map_err(|source| SensorError::System {
        sensor: SENSOR,
        doing: "making an event",
        source,
    })?);
    // Begun before the first look, so that no start falls in between.
    let notices = match collection.has_etw() {
        true => Notices::begin(Arc::clone(&signal)),
        false => Err(NOT_WANTED.to_owned()),
    };
    let now = Instant::now();
    Ok(Box::new(ProcessSensor {
        living: HashMap::new(),
        gone: HashMap::new(),
        looks: 0,
        clock: ClockSteps::default(),
        left: HashMap::new(),
        next: now,
        first: true,
        signal,
        notices,
        starts: Starts::new(now),
        again: Again::new(now),
        ended_ns: None,
        drives: Drives::known(),
    }))
}

struct Life {
    start_ns: u64,
    /// `None` where it may not be opened.
    held: Option<Process>,
    /// It is not listed any more, and what is not held does not say how it ended.
    missing: Option<Instant>,
    /// Looks that had begun when it was met.
    met: u64,
}

/// What was found of a process as the notice of its start came.
#[derive(Default)]
struct Found {
    held: Option<Process>,
    line: Option<String>,
}

struct ProcessSensor {
    living: HashMap<u32, Life>,
    /// Start of those that ended lately: their children may still be new.
    gone: HashMap<u32, (u64, Instant)>,
    /// Looks that were begun.
    looks: u64,
    clock: ClockSteps,
    /// Seen by a look, and left to the kernel's notice since then.
    left: HashMap<u32, Instant>,
    next: Instant,
    first: bool,
    /// Set when a notice came; without notices never, which makes it a pause that costs nothing.
    signal: Arc<Event>,
    /// What the kernel tells, or why it does not.
    notices: Result<Notices, String>,
    /// Notices that wait for their command lines.
    starts: Starts<Found>,
    /// When to begin again what somebody ended.
    again: Again,
    /// When it was ended.
    ended_ns: Option<u64>,
    drives: Drives,
}

impl ProcessSensor {
    fn look(&mut self, sink: &mut dyn FnMut(Observed)) -> Result<(), SensorError> {
        let begun = win32::clock::Effort::begin();
        self.clock.measured(file_time(), boot_ns());
        let listed = list().map_err(|source| SensorError::System {
            sensor: SENSOR,
            doing: "listing the processes",
            source,
        })?;
        self.looks += 1;
        self.tell_ends(&listed, sink);
        let there: HashSet<u32> = listed.iter().map(|one| one.pid).collect();
        self.left.retain(|pid, _| there.contains(pid));
        for one in &listed {
            if one.pid != 0 && !self.living.contains_key(&one.pid) {
                self.meet(one, sink);
            }
        }
        self.first = false;
        self.next = Instant::now() + (begun.elapsed() * COST_SHARE).max(LOOK_EVERY);
        Ok(())
    }

    /// Takes what the kernel told, in its order.
    fn take_notices(&mut self, sink: &mut dyn FnMut(Observed)) {
        self.signal.reset();
        self.drives.refresh();
        let now = Instant::now();
        let mut taken = 0;
        while let Ok(notices) = &self.notices
            && let Some((time, told)) = notices.next()
        {
            match told {
                Told::Launch(launch) => self.starts.launch(launch, time, now),
                Told::Notice(notice) => {
                    // Asked at once: in a moment it may be gone.
                    let found = found(&notice);
                    let wants_launch = notices.has_launches() && found.line.is_none();
                    self.starts.notice(notice, time, found, wants_launch, now);
                }
            }
            taken += 1;
            if taken == MOST_AT_ONCE {
                // There are more: they are taken at the next poll.
                self.signal.set();
                break;
            }
        }
        for _ in 0..MOST_AT_ONCE {
            let Some((notice, found, launch)) = self.starts.next(Instant::now()) else { return };
            match notice {
                ProcessNotice::Started { pid, created, parent, session, image } => {
                    let start_ns = since_boot_ns(created);
                    if self.living.get(&pid).is_some_and(|life| life.start_ns == start_ns)
                        || self.gone.get(&pid).is_some_and(|(known, _)| *known == start_ns)
                    {
                        continue;
                    }
                    self.left.remove(&pid);
                    self.tell_end_of_predecessor(pid, sink);
                    let Found { held, line } = found;
                    let one =
                        Listed { pid, parent_pid: parent, name: self.drives.path_of(&image), threads: 1 };
                    let mut observed = self.image(&one, start_ns, held.as_ref(), line, launch);
                    if held.is_none() {
                        // It is gone: what the kernel told is all there will ever be.
                        observed.args_truncated |= observed.command_line.is_none();
                        observed.session_id = Some(session).filter(|session| *session != 0);
                    }
                    let what = Observation::ProcessExecuted(Box::new(observed));
                    sink(Observed { at_ns: start_ns.min(boot_ns()), position: None, what });
                    let met = self.looks;
                    self.living.insert(pid, Life { start_ns, held, missing: None, met });
                }
                ProcessNotice::Ended { pid, created, ended, exit_code } => {
                    let start_ns = since_boot_ns(created);
                    // A look may have told it already.
                    if self.living.get(&pid).is_none_or(|life| life.start_ns != start_ns) {
                        continue;
                    }
                    self.living.remove(&pid);
                    self.gone.insert(pid, (start_ns, Instant::now()));
                    let exit =
                        ObservedExit { process: ProcessKey { pid, start_ns }, wait_status: Some(exit_code) };
                    let at_ns = since_boot_ns(ended).clamp(start_ns, boot_ns().max(start_ns));
                    sink(Observed { at_ns, position: None, what: Observation::ProcessExited(exit) });
                }
            }
        }
    }

    /// Whoever had this PID before has ended, or it would not have been given again.
    fn tell_end_of_predecessor(&mut self, pid: u32, sink: &mut dyn FnMut(Observed)) {
        if let Some(life) = self.living.remove(&pid) {
            sink(exit_of(pid, &life));
        }
    }

    /// Tells what the session lost, and begins it again where somebody ended it.
    fn tell_losses(&mut self, sink: &mut dyn FnMut(Observed)) {
        let now = boot_ns();
        let lost = |reason, count, from_ns| {
            let what = EventType::ProcessStart.as_str();
            let loss = ObservedLoss { reason, what, count, from_ns, until_ns: now };
            Observed { at_ns: now, position: None, what: Observation::Lost(loss) }
        };
        if let Ok(notices) = &mut self.notices {
            let count = notices.take_lost();
            if count > 0 {
                sink(lost(GapReason::KernelRingFull, Some(count), now));
            }
            let unread = notices.take_unread();
            if unread > 0 {
                tracing::warn!(
                    unread,
                    "starts and ends whose template is missing, or does not fit, could not be read"
                );
                sink(lost(GapReason::MalformedRecord, Some(unread), now));
            }
            if notices.has_ended() {
                tracing::error!("somebody ended the session of event tracing; it is begun again");
                let what = Observation::Activity(Box::new(tampered(NAME)));
                sink(Observed { at_ns: now, position: None, what });
                sink(lost(GapReason::AgentDown, None, now));
                // Dropped before another begins: both have one name.
                self.notices = Err(ENDED.to_owned());
                self.ended_ns = Some(now);
                self.again.ended(Instant::now());
            }
        }
        let Some(ended_ns) = self.ended_ns.filter(|_| self.again.is_due(Instant::now())) else { return };
        match Notices::begin(Arc::clone(&self.signal)) {
            Ok(notices) => {
                self.notices = Ok(notices);
                self.ended_ns = None;
                self.again.began(Instant::now());
                // Meanwhile shorter lives than the looks lie apart were not seen.
                sink(lost(GapReason::AgentDown, None, ended_ns));
            }
            Err(why) => {
                tracing::warn!(why, "event tracing does not begin again; it is tried later");
                self.again.ended(Instant::now());
            }
        }
    }

    fn tell_ends(&mut self, listed: &[Listed], sink: &mut dyn FnMut(Observed)) {
        let there: HashSet<u32> = listed.iter().map(|one| one.pid).collect();
        self.gone.retain(|_, (_, since)| since.elapsed() < REMEMBERED);
        let (gone, is_told) = (&mut self.gone, self.notices.is_ok());
        self.living.retain(|pid, life| {
            let ended = match &life.held {
                Some(process) => process.has_ended(),
                None if there.contains(pid) => false,
                // Its exit code comes with the kernel's notice, or never.
                None if is_told => life.missing.get_or_insert_with(Instant::now).elapsed() >= LEFT_TO_NOTICE,
                None => true,
            };
            if ended {
                sink(exit_of(*pid, life));
                gone.insert(*pid, (life.start_ns, Instant::now()));
            }
            !ended
        });
    }

    /// A process that was not there before.
    fn meet(&mut self, one: &Listed, sink: &mut dyn FnMut(Observed)) {
        let held = Process::open(one.pid, Wanted::Look).ok();
        let times = held.as_ref().and_then(|process| process.times().ok());
        if times.is_some_and(|(_, ended)| ended != 0) && one.threads == 0 {
            // Its end was told before, or it ended before anybody could look; a dead one is listed for as
            // long as somebody holds it.
            return;
        }
        let now = boot_ns();
        let start_ns = times.map_or(now, |(created, _)| since_boot_ns(created));
        if start_ns == u64::MAX {
            // Listed before it begins: neither its start nor its command line is there yet (seen with Wine).
            return;
        }
        if self.gone.get(&one.pid).is_some_and(|(known, _)| *known == start_ns) {
            // Its end was told; the system is not done with it yet.
            return;
        }
        let line = held.as_ref().and_then(line_of);
        if line.is_none() && !self.first && one.pid != SYSTEM_PID && self.notices.is_ok() {
            let since = *self.left.entry(one.pid).or_insert_with(Instant::now);
            if since.elapsed() < LEFT_TO_NOTICE {
                return;
            }
        }
        self.left.remove(&one.pid);
        let image = self.image(one, start_ns, held.as_ref(), line, None);
        let at_ns = if self.first { now } else { start_ns.min(now) };
        let what = match self.first {
            true => Observation::ProcessExisting(Box::new(image)),
            false => Observation::ProcessExecuted(Box::new(image)),
        };
        sink(Observed { at_ns, position: None, what });
        self.living.insert(one.pid, Life { start_ns, held, missing: None, met: self.looks });
    }

    /// Windows keeps the parent's PID only. Who has it and began later than the child is not the parent.
    fn start_of_parent(&self, pid: u32, child_start_ns: u64) -> Option<u64> {
        // Held, it keeps its PID. The look before this one listed it, and not the child.
        let was_seen_before = |life: &Life| life.held.is_some() && life.met + 2 <= self.looks;
        let living = self.living.get(&pid).map(|life| (life.start_ns, was_seen_before(life)));
        let gone = self.gone.get(&pid).map(|(start_ns, _)| (*start_ns, false));
        let mut candidates = [living, gone].into_iter().flatten();
        let parent = candidates.find(|(start_ns, was_seen_before)| {
            self.clock.is_parent(*start_ns, child_start_ns, *was_seen_before)
        });
        parent.map(|(start_ns, _)| start_ns)
    }

    /// What is told of it; what it does not say itself any more, by its launch.
    fn image(
        &self,
        one: &Listed,
        start_ns: u64,
        held: Option<&Process>,
        line: Option<String>,
        launch: Option<Launch>,
    ) -> ObservedImage {
        let executable = held.and_then(|process| process.image_path().ok());
        let (launched, sid) = launch.map_or((None, None), |one| (Some(one.command_line), one.sid));
        let line = line.or(launched).filter(|line| !line.is_empty());
        let (args, whole) = line.as_deref().map_or((Vec::new(), true), command_line::split);
        let parent_start = self.start_of_parent(one.parent_pid, start_ns);
        let user = held.and_then(|process| process.user().ok());
        let user = user.or_else(|| win32::user_of_sid(&sid?));
        let relative_id = user.as_ref().map_or(u32::MAX, |user| user.relative_id());
        let file = executable.as_deref().and_then(|path| image_file(Path::new(path)));
        ObservedImage {
            pid: one.pid,
            start_ns,
            parent_pid: parent_start.map_or(0, |_| one.parent_pid),
            parent_start_ns: parent_start.unwrap_or(0),
            kernel_thread: executable.is_none() && (one.pid == SYSTEM_PID || one.parent_pid == SYSTEM_PID),
            executable: executable.unwrap_or_else(|| one.name.clone()),
            args_bytes: line.as_ref().map_or(0, |line| line.len() as u64),
            command_line: line,
            args,
            args_truncated: !whole,
            uid: relative_id,
            euid: relative_id,
            gid: u32::MAX,
            user_name: user.map(|user| user.name.clone().unwrap_or_else(|| user.sid.clone())),
            session_id: session_of(one.pid).filter(|session| *session != 0),
            image: file,
            ..ObservedImage::default()
        }
    }
}

/// Holds the process of a start, if it is still the one, and reads its command line.
fn found(notice: &ProcessNotice) -> Found {
    let ProcessNotice::Started { pid, created, .. } = notice else { return Found::default() };
    let held = Process::open(*pid, Wanted::Look).ok();
    let held = held.filter(|process| process.times().is_ok_and(|(its, _)| its == *created));
    let line = held.as_ref().and_then(line_of);
    Found { held, line }
}

fn line_of(process: &Process) -> Option<String> {
    process.command_line().ok().filter(|line| !line.is_empty())
}

fn exit_of(pid: u32, life: &Life) -> Observed {
    let now = boot_ns();
    let held = life.held.as_ref();
    let ended = held.and_then(|process| process.times().ok()).map_or(0, |(_, ended)| ended);
    let at_ns =
        if ended == 0 { now } else { since_boot_ns(ended).clamp(life.start_ns, now.max(life.start_ns)) };
    let wait_status = held.and_then(|process| process.exit_code().ok());
    let process = ProcessKey { pid, start_ns: life.start_ns };
    Observed {
        at_ns,
        position: None,
        what: Observation::ProcessExited(ObservedExit { process, wait_status }),
    }
}

/// `None` of one that may be on another host: to ask there would tell it who the host is, and whoever starts a
/// program from a share could keep the sensor waiting.
fn image_file(path: &Path) -> Option<ImageFile> {
    if win32::file::may_not_answer(path) {
        return None;
    }
    let facts = win32::file::facts_at(path).ok()?;
    Some(ImageFile {
        device: facts.volume,
        inode: facts.index,
        modified_ns: facts.modified_ns,
        changed_ns: facts.changed_ns,
        size: facts.size,
    })
}

impl Sensor for ProcessSensor {
    fn name(&self) -> &'static str {
        SENSOR
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Observed)) -> Result<(), SensorError> {
        let left = self.next.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            let most = if self.starts.is_waiting() { WAITS } else { timeout };
            self.signal.wait(left.min(timeout).min(most));
        }
        // What was there before is told before what came since.
        if !self.first {
            self.take_notices(sink);
        }
        if Instant::now() < self.next {
            return Ok(());
        }
        self.tell_losses(sink);
        self.look(sink)
    }

    fn commit(&mut self, _: SensorPosition) {}

    fn wake_on_process_start(&mut self, _: bool) {}

    fn provisions(&self) -> Vec<Provision> {
        let source = match &self.notices {
            Ok(notices) => {
                let lines = match notices.has_launches() {
                    true => "with command lines by the kernel's logger",
                    false => {
                        "without command lines of what is gone at once, as the kernel's logger is not to be had"
                    }
                };
                format!(
                    "etw (Microsoft-Windows-Kernel-Process, {lines}), and the list of processes beside it"
                )
            }
            Err(why) => format!(
                "{SENSOR} (list of processes, each 50 ms or more; shorter lives are not seen and not counted: {why})"
            ),
        };
        let made = [EventType::ProcessStart, EventType::ProcessExit];
        let mut provisions: Vec<Provision> = made
            .into_iter()
            .map(|event_type| Provision { event_type, source: source.clone(), missing: None })
            .collect();
        let none = "it takes a driver, or Sysmon, whose channel is read where it is installed";
        let (event_type, source) = (EventType::ModuleLoad, "driver".to_owned());
        provisions.push(Provision { event_type, source, missing: Some(none.to_owned()) });
        provisions
    }

    fn process_clock(&self) -> Arc<dyn ProcessClock> {
        Arc::new(CreationTimes)
    }

    fn shut_down(self: Box<Self>) -> Result<(), SensorError> {
        Ok(())
    }
}

/// Lives of a PID by the time of creation, which is exact.
struct CreationTimes;

impl ProcessClock for CreationTimes {
    fn start_ns(&self, pid: u32) -> Option<u64> {
        let process = Process::open(pid, Wanted::Look).ok()?;
        let (created, _) = process.times().ok()?;
        (!process.has_ended()).then(|| since_boot_ns(created))
    }

    fn precision_ns(&self) -> u64 {
        1
    }
}
