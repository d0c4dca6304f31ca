//! Processes by looking at the list of them, again and again.
//!
//! Each process is held by a handle from the moment it is seen, so that its PID is nobody else's before its
//! end was told, and its exit code and time of end are exact. What starts and ends between two looks is not
//! seen; how long they lie apart is chosen so that looking takes a fiftieth of a core at most.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_model::{EventType, ImageFile};
use sensor_api::{
    Observation, Observed, ObservedExit, ObservedImage, ProcessClock, ProcessKey, Provision, Sensor,
    SensorError, SensorPosition,
};
use win32::clock::{boot_ns, since_boot_ns};
use win32::event::Event;
use win32::process::{Listed, Process, Wanted, list, session_of};

use crate::command_line;

const SENSOR: &str = "process_snapshot";
/// Looks are never nearer together, and farther apart where they are dear.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const COST_SHARE: u32 = 50;
/// So long a process that ended is remembered as a parent.
const REMEMBERED: Duration = Duration::from_secs(30);
/// The kernel itself, and what it keeps to itself.
const SYSTEM_PID: u32 = 4;

/// Opens the sensor.
///
/// # Errors
/// The list of processes can't be read.
pub fn open() -> Result<Box<dyn Sensor>, SensorError> {
    list().map_err(|source| SensorError::System {
        sensor: SENSOR,
        doing: "listing the processes",
        source,
    })?;
    let pause = Event::new().map_err(|source| SensorError::System {
        sensor: SENSOR,
        doing: "making an event",
        source,
    })?;
    let (living, gone) = (HashMap::new(), HashMap::new());
    Ok(Box::new(SnapshotSensor { living, gone, next: Instant::now(), first: true, pause }))
}

struct Life {
    start_ns: u64,
    /// `None` where it may not be opened.
    held: Option<Process>,
}

struct SnapshotSensor {
    living: HashMap<u32, Life>,
    /// Start of those that ended lately: their children may still be new.
    gone: HashMap<u32, (u64, Instant)>,
    next: Instant,
    first: bool,
    /// Never set: a pause that costs nothing.
    pause: Event,
}

impl SnapshotSensor {
    fn look(&mut self, sink: &mut dyn FnMut(Observed)) -> Result<(), SensorError> {
        let begun = Instant::now();
        let listed = list().map_err(|source| SensorError::System {
            sensor: SENSOR,
            doing: "listing the processes",
            source,
        })?;
        self.tell_ends(&listed, sink);
        for one in &listed {
            if one.pid != 0 && !self.living.contains_key(&one.pid) {
                self.meet(one, sink);
            }
        }
        self.first = false;
        self.next = Instant::now() + (begun.elapsed() * COST_SHARE).max(LOOK_EVERY);
        Ok(())
    }

    fn tell_ends(&mut self, listed: &[Listed], sink: &mut dyn FnMut(Observed)) {
        let there: HashSet<u32> = listed.iter().map(|one| one.pid).collect();
        self.gone.retain(|_, (_, since)| since.elapsed() < REMEMBERED);
        let gone = &mut self.gone;
        self.living.retain(|pid, life| {
            let ended = life.held.as_ref().map_or_else(|| !there.contains(pid), Process::has_ended);
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
        let image = self.image(one, start_ns, held.as_ref());
        let at_ns = if self.first { now } else { start_ns.min(now) };
        let what = match self.first {
            true => Observation::ProcessExisting(Box::new(image)),
            false => Observation::ProcessExecuted(Box::new(image)),
        };
        sink(Observed { at_ns, position: None, what });
        self.living.insert(one.pid, Life { start_ns, held });
    }

    /// Windows keeps the parent's PID only. Who has it and began later than the child is not the parent.
    fn start_of_parent(&self, pid: u32, child_start_ns: u64) -> Option<u64> {
        let living = self.living.get(&pid).map(|life| life.start_ns);
        let gone = self.gone.get(&pid).map(|(start_ns, _)| *start_ns);
        [living, gone].into_iter().flatten().find(|start_ns| *start_ns <= child_start_ns)
    }

    fn image(&self, one: &Listed, start_ns: u64, held: Option<&Process>) -> ObservedImage {
        let executable = held.and_then(|process| process.image_path().ok());
        let line = held.and_then(|process| process.command_line().ok()).filter(|line| !line.is_empty());
        let (args, whole) = line.as_deref().map_or((Vec::new(), true), command_line::split);
        let parent_start = self.start_of_parent(one.parent_pid, start_ns);
        let user = held.and_then(|process| process.user().ok());
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

fn exit_of(pid: u32, life: &Life) -> Observed {
    let now = boot_ns();
    let held = life.held.as_ref();
    let ended = held.and_then(|process| process.times().ok()).map_or(0, |(_, ended)| ended);
    let at_ns =
        if ended == 0 { now } else { since_boot_ns(ended).clamp(life.start_ns, now.max(life.start_ns)) };
    let wait_status = held.and_then(|process| process.exit_code().ok()).unwrap_or(0);
    let process = ProcessKey { pid, start_ns: life.start_ns };
    Observed {
        at_ns,
        position: None,
        what: Observation::ProcessExited(ObservedExit { process, wait_status }),
    }
}

fn image_file(path: &Path) -> Option<ImageFile> {
    let facts = win32::file::facts_at(path).ok()?;
    Some(ImageFile {
        device: facts.volume,
        inode: facts.index,
        modified_ns: facts.modified_ns,
        changed_ns: facts.changed_ns,
        size: facts.size,
    })
}

impl Sensor for SnapshotSensor {
    fn name(&self) -> &'static str {
        SENSOR
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Observed)) -> Result<(), SensorError> {
        let left = self.next.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            self.pause.wait(left.min(timeout));
        }
        if Instant::now() >= self.next { self.look(sink) } else { Ok(()) }
    }

    fn commit(&mut self, _: SensorPosition) {}

    fn wake_on_process_start(&mut self, _: bool) {}

    fn provisions(&self) -> Vec<Provision> {
        let source = format!("{SENSOR} (list of processes, each 50 ms or more; shorter lives are not seen)");
        let made = [EventType::ProcessStart, EventType::ProcessExit];
        let mut provisions: Vec<Provision> = made
            .into_iter()
            .map(|event_type| Provision { event_type, source: source.clone(), missing: None })
            .collect();
        let none = "it takes ETW, which this version does not read yet";
        for event_type in [
            EventType::ImageLoad,
            EventType::ProcessAccess,
            EventType::ProcessTamper,
            EventType::DnsQuery,
            EventType::PipeCreate,
            EventType::ModuleLoad,
        ] {
            let source = "etw".to_owned();
            provisions.push(Provision { event_type, source, missing: Some(none.to_owned()) });
        }
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
