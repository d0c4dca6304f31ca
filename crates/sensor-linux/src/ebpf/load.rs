//! Loading, attaching, pinning; going on with what is pinned.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use event_model::GapReason;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Typedef;
use libbpf_rs::{
    Iter, Link, MapCore, MapHandle, Object, ObjectBuilder, PrintLevel, ProgramType, TracepointCategory,
};
use sensor_api::{
    Observation, Observed, ObservedLoss, ProcessClock, ProcessKey, SensorError, SensorPosition,
};

use super::snapshot::{self, Task};
use super::uninterrupted::Uninterrupted;
use super::{EbpfSensor, Missing, SENSOR, failed, now_ns};
use crate::block;
use crate::clock::{KernelClock, ProcClock};
use crate::doorbell;
use crate::families::{self, Family};
use crate::losses::{self, Losses};
use crate::pins::{self, Control, Maps, Pinned};
use crate::ring::RingReader;
use crate::skipped::SkippedRuns;
use crate::{LinuxSensorOptions, chain};

pub(super) fn open(options: LinuxSensorOptions) -> Result<EbpfSensor, SensorError> {
    let ring_bytes = ring_size(options.ring_bytes);
    let mut notes = Vec::new();
    let mut before = Vec::new();
    let mut vanished = Vec::new();

    if let Some(dir) = &options.pin_dir {
        match pins::open(dir) {
            Some(maps) => match Control::read(&maps.control) {
                Some(control)
                    if control.object_hash == families::object_hash()
                        && maps.ring.max_entries() == ring_bytes =>
                {
                    vanished = vanished_from(dir);
                    if maps.doorbells.is_none() {
                        vanished.push(format!(
                            "{} was removed while no agent ran",
                            pins::doorbells(dir).display()
                        ));
                    }
                    if vanished.is_empty() {
                        return resume(maps, control, dir, options.resume_after);
                    }
                    notes.push(format!(
                        "somebody took the programs apart, so they were loaded anew ({}); see the gap for what was in them",
                        vanished.join("; ")
                    ));
                    before = given_up(&maps);
                }
                _ => {
                    notes.push(
                        "the programs of another version were replaced; see the gap for what was in them"
                            .to_owned(),
                    );
                    before = given_up(&maps);
                }
            },
            None if std::fs::read_dir(dir).is_ok_and(|mut pins| pins.next().is_some()) => {
                vanished.push(format!(
                    "{} is not whole: pins were removed, or an agent was ended while it made them",
                    dir.display()
                ));
            }
            None => tracing::debug!(dir = %dir.display(), "no pinned programs"),
        }
    }
    let mut sensor = fresh(options, ring_bytes, notes, before)?;
    sensor.tampered = vanished;
    Ok(sensor)
}

/// Which links were attached once and are not pinned now, in words.
fn vanished_from(dir: &Path) -> Vec<String> {
    let Some(attached) = pins::attached(dir) else {
        return vec![format!("the list of links in {} was removed", dir.display())];
    };
    let gone = attached.into_iter().filter(|name| !dir.join(name).exists());
    gone.map(|name| format!("{} was removed while no agent ran", dir.join(name).display())).collect()
}

/// The kernel wants a power of two of whole pages.
fn ring_size(bytes: u32) -> u32 {
    let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
    bytes.clamp(page, 1 << 30).next_power_of_two()
}

/// How many processes there can be at once. A map is limited by it, not filled: an
/// entry takes memory only while its process lives, and a place without one 16 bytes.
fn most_processes() -> u32 {
    let limit = |name: &str| -> Option<u32> {
        std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
    };
    // PIDs are given in plenty on every host; how many threads there may be follows its memory.
    let limits = [limit("pid_max"), limit("threads-max")];
    limits.into_iter().flatten().min().unwrap_or(0).clamp(65_536, 4 << 20)
}

/// How many CPUs there can be; their numbers are below.
fn possible_cpus() -> Result<u32, libbpf_rs::Error> {
    u32::try_from(libbpf_rs::num_possible_cpus()?).map_err(|error| io::Error::other(error).into())
}

/// What goes with pinned programs that this version can't go on with.
fn given_up(maps: &Maps) -> Vec<Observed> {
    let now = now_ns();
    let mut lost = losses::untold(&maps.counters, &maps.ledger, now);
    lost.push(ObservedLoss {
        reason: GapReason::AgentDown,
        what: "observations",
        count: None,
        from_ns: Control::read(&maps.control).map_or(0, |control| control.created_ns),
        until_ns: now,
    });
    lost.into_iter()
        .map(|loss| Observed { at_ns: now, position: None, what: Observation::Lost(loss) })
        .collect()
}

/// Goes on with programs that watched all the time.
fn resume(
    maps: Maps,
    control: Control,
    dir: &Path,
    resume_after: Option<SensorPosition>,
) -> Result<EbpfSensor, SensorError> {
    let stored_to =
        resume_after.filter(|position| position.stream == control.stream).map(|position| position.offset);
    let mut ring = open_ring(&maps)?;
    if let Some(offset) = stored_to {
        ring.skip_to(offset);
        ring.commit(offset);
    }
    if let Some(doorbells) = &maps.doorbells {
        doorbell::take_all_off(doorbells);
    }
    let iterator = pins::iterator(dir);
    let tasks = std::fs::File::open(&iterator).and_then(snapshot::read_tasks);
    let mut notes = Vec::new();
    let tasks = tasks_or_note(tasks, &mut notes);
    finish(Parts {
        resumed: true,
        ring,
        maps,
        control,
        stored_to,
        tasks,
        notes,
        before: Vec::new(),
        pin_dir: Some(dir.to_owned()),
        links: Vec::new(),
        missing: missing_in(dir),
    })
}

/// Which programs an earlier run could not attach.
fn missing_in(dir: &Path) -> Missing {
    let all =
        families::optional().into_iter().flat_map(|family| family.makes).flat_map(|(_, programs)| *programs);
    let missing = all.filter(|program| !dir.join(program).exists());
    missing.map(|program| (*program, "it could not be attached when the sensor began".to_owned())).collect()
}

/// What is attached so far, and what could not be.
#[derive(Default)]
struct Attached {
    links: Vec<(String, Link)>,
    missing: Missing,
}

impl Attached {
    /// Does without a family that nobody asked for.
    fn leave_out(&mut self, family: &Family) {
        let programs = family.makes.iter().flat_map(|(_, programs)| *programs);
        let reason = "left out, as every system call would pay for it";
        self.missing.extend(programs.map(|program| (*program, reason.to_owned())));
    }

    /// Loads and attaches a family that may be missing. What the kernel does not take
    /// is noted with its reason.
    fn add(&mut self, family: &Family, ring_bytes: u32, shared: &Object, kernel: &KernelTypes) {
        let programs = || family.makes.iter().flat_map(|(_, programs)| *programs);
        let object = match load(family, ring_bytes, Some(shared), kernel) {
            Ok(object) => object,
            Err(error) => {
                let reason = format!("loading the programs of {}: {}", family.name, chain(&error));
                self.missing.extend(programs().map(|program| (*program, reason.clone())));
                return;
            }
        };
        for program in object.progs_mut().filter(|program| program.autoload()) {
            let name = program.name().to_string_lossy().into_owned();
            let at_calls = families::AT_CALLS.iter().find(|(program, _)| *program == name);
            let links: Vec<(String, _)> = match at_calls {
                None if matches!(program.prog_type(), ProgramType::CgroupSkb | ProgramType::CgroupSock) => {
                    let link = pins::root_cgroup().map_err(libbpf_rs::Error::from).and_then(|root| {
                        // The link keeps what it needs of the folder.
                        program.attach_cgroup(root.as_raw_fd())
                    });
                    vec![(name, link)]
                }
                None => vec![(name, program.attach())],
                Some((_, tracepoints)) => {
                    let attach = |tracepoint: &str| {
                        program.attach_tracepoint(TracepointCategory::Syscalls, tracepoint)
                    };
                    tracepoints
                        .iter()
                        .map(|tracepoint| ((*tracepoint).to_owned(), attach(tracepoint)))
                        .collect()
                }
            };
            for (name, link) in links {
                match link {
                    Ok(link) => self.links.push((name, link)),
                    Err(error) => {
                        let known = programs().find(|program| **program == name);
                        self.missing.extend(known.map(|program| (*program, chain(&error))));
                    }
                }
            }
        }
        let absent = programs().filter(|program| {
            let is_it = |name: &str| name == **program;
            !self.links.iter().any(|(name, _)| is_it(name)) && !self.missing.contains_key(*program)
        });
        let absent: Vec<&'static str> = absent.copied().collect();
        self.missing.extend(
            absent
                .into_iter()
                .map(|program| (program, "this kernel does not have its tracepoint".to_owned())),
        );
    }
}

/// Loads, attaches and pins the programs.
fn fresh(
    options: LinuxSensorOptions,
    ring_bytes: u32,
    mut notes: Vec<String>,
    before: Vec<Observed>,
) -> Result<EbpfSensor, SensorError> {
    // Thousands of lines, so they are made only where someone reads them.
    let wanted = if tracing::enabled!(target: "libbpf", tracing::Level::DEBUG) {
        PrintLevel::Debug
    } else {
        PrintLevel::Warn
    };
    libbpf_rs::set_print(Some((wanted, |level, text| {
        tracing::debug!(target: "libbpf", ?level, "{}", text.trim_end());
    })));
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(SensorError::Unavailable {
            sensor: SENSOR,
            reason: "this kernel does not describe its types (/sys/kernel/btf/vmlinux is missing)".to_owned(),
            hint: "run a kernel from 5.8 on that is built with CONFIG_DEBUG_INFO_BTF, as all current distributions' are",
        });
    }
    if let Err(error) = pins::provide_tracefs() {
        notes.push(format!("{error}: most events besides starts and ends of processes can't be seen"));
    }
    let kernel = KernelTypes::read();
    let process = families::process();
    let object = load(&process, ring_bytes, None, &kernel)
        .map_err(|error| unavailable("loading the BPF programs", &error))?;
    let mut maps = maps_of(&object)?;
    let control = Control {
        wake_on_exec: false,
        object_hash: families::object_hash(),
        stream: random()?,
        created_ns: now_ns(),
        left_out: 0,
        // What it does itself from here on, loading programs for one, is not told.
        own: ProcessKey { pid: std::process::id(), start_ns: 0 },
        block_until_ns: 0,
    };
    control.write(&maps.control).map_err(|error| failed("writing the control map", error))?;

    let mut attached = Attached::default();
    let mut iterator = None;
    for program in object.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        let link = program.attach();
        if name == pins::ITERATOR {
            iterator = Some(link);
        } else {
            let link =
                link.map_err(|error| unavailable("attaching to the scheduler's tracepoints", &error))?;
            attached.links.push((name, link));
        }
    }
    for family in families::optional() {
        if family.only_without.is_some() && !options.module_attempts {
            attached.leave_out(&family);
        } else {
            attached.add(&family, ring_bytes, &object, &kernel);
        }
    }
    let Attached { mut links, missing } = attached;
    let tasks = match &iterator {
        Some(Ok(link)) => Iter::new(link).map_err(io::Error::other).and_then(snapshot::read_tasks),
        Some(Err(error)) => Err(io::Error::other(error.to_string())),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    if let Some(Ok(link)) = iterator {
        links.push((pins::ITERATOR.to_owned(), link));
    }
    let tasks = tasks_or_note(tasks, &mut notes);

    let pin_dir = options.pin_dir.filter(|dir| match pin(dir, &mut maps, &mut links) {
        Ok(()) => true,
        Err(reason) => {
            notes.push(format!(
                "the BPF programs are not pinned at {} ({reason}): nothing is watched while the agent is away; \
                 hint: mount bpffs at /sys/fs/bpf",
                dir.display()
            ));
            false
        }
    });
    if pin_dir.is_some() {
        // Dropped as it is, a link switches its tracepoint's event off, pinned or not, and
        // waits for that. The descriptors that stay open end with this process.
        links.iter_mut().for_each(|(_, link)| link.disconnect());
    }
    finish(Parts {
        resumed: false,
        ring: open_ring(&maps)?,
        maps,
        control,
        stored_to: None,
        tasks,
        notes,
        before,
        links: if pin_dir.is_some() { Vec::new() } else { links },
        missing,
        pin_dir,
    })
}

/// The maps that every object has, and that are those of the first.
const SHARED: [&str; 6] = ["ring", "counters", "control", "ledger", "clock", "woken"];

/// What interrupts the kernel's check of a program although signals are kept away, such as a debugger, makes it give
/// up; libbpf tries five times by itself.
const LOAD_TRIES: usize = 4;

/// Loads an object; `shared` is the first one, whose maps it is to use.
fn load(
    family: &Family,
    ring_bytes: u32,
    shared: Option<&Object>,
    kernel: &KernelTypes,
) -> Result<Object, libbpf_rs::Error> {
    let _signals_wait = Uninterrupted::begin();
    let mut tries = LOAD_TRIES;
    loop {
        tries -= 1;
        match load_once(family, ring_bytes, shared, kernel) {
            Err(error) if error.kind() == libbpf_rs::ErrorKind::WouldBlock && tries > 0 => {}
            result => return result,
        }
    }
}

fn load_once(
    family: &Family,
    ring_bytes: u32,
    shared: Option<&Object>,
    kernel: &KernelTypes,
) -> Result<Object, libbpf_rs::Error> {
    let mut open =
        ObjectBuilder::default().name(format!("rampart_{}", family.name))?.open_memory(family.object)?;
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if name == "ring" {
            map.set_max_entries(ring_bytes)?;
        } else if name == "clock" {
            map.set_max_entries(most_processes())?;
        } else if name == "doorbells" {
            map.set_max_entries(possible_cpus()?)?;
        }
        if let Some(first) = shared.filter(|_| SHARED.contains(&name.as_str())) {
            let found = first.maps().find(|map| map.name() == name.as_str());
            map.reuse_fd(found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.as_fd())?;
        }
    }
    for mut program in open.progs_mut() {
        let section = program.section().to_string_lossy().into_owned();
        // An object whose program asks for a tracepoint that does not exist fails as a whole.
        if let Some(tracepoint) = section.strip_prefix("tp_btf/") {
            program.set_autoload(kernel.has_tracepoint(tracepoint));
        }
    }
    open.load()
}

/// The types that this kernel describes: some megabytes, read once for all families.
struct KernelTypes(Option<Btf<'static>>);

impl KernelTypes {
    fn read() -> Self {
        Self(Btf::from_vmlinux().ok())
    }

    fn has_tracepoint(&self, name: &str) -> bool {
        let typedef = format!("btf_trace_{name}");
        self.0.as_ref().is_some_and(|types| types.type_by_name::<Typedef<'_>>(&typedef).is_some())
    }
}

fn pin(dir: &Path, maps: &mut Maps, links: &mut [(String, Link)]) -> Result<(), String> {
    // What stands there is of another version, or was left half done.
    pins::remove_pins(dir).map_err(|error| error.to_string())?;
    pins::create_dir(dir).map_err(|error| error.to_string())?;
    pins::pin(dir, maps, links).map_err(|error| {
        if let Err(error) = pins::remove_pins(dir) {
            tracing::warn!(%error, dir = %dir.display(), "could not remove half-made pins");
        }
        chain(&error)
    })
}

fn maps_of(object: &Object) -> Result<Maps, SensorError> {
    let map = |name: &str| {
        let found = object.maps().find(|map| map.name() == name);
        let found = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound).into());
        found.and_then(|map| MapHandle::try_from(&map)).map_err(|error| failed("opening the maps", error))
    };
    Ok(Maps {
        ring: map("ring")?,
        counters: map("counters")?,
        ledger: map("ledger")?,
        clock: map("clock")?,
        blocked_texts: map("blocked_texts")?,
        blocked_images: map("blocked_images")?,
        control: map("control")?,
        woken: Some(map("woken")?),
        doorbells: Some(map("doorbells")?),
    })
}

fn open_ring(maps: &Maps) -> Result<RingReader, SensorError> {
    RingReader::new(maps.ring.as_fd(), maps.ring.max_entries()).map_err(|source| SensorError::System {
        sensor: SENSOR,
        doing: "mapping the ring",
        source,
    })
}

/// The iterator's tasks; `None`, with a word to the operator, where there is no iterator.
fn tasks_or_note(tasks: io::Result<Vec<Task>>, notes: &mut Vec<String>) -> Option<Vec<Task>> {
    tasks
        .inspect_err(|error| {
            notes.push(format!(
                "the kernel does not list its tasks to BPF programs ({error}): start times of processes older than the \
                 sensor are known to 10 ms only"
            ));
        })
        .ok()
}

struct Parts {
    resumed: bool,
    ring: RingReader,
    maps: Maps,
    control: Control,
    stored_to: Option<u64>,
    tasks: Option<Vec<Task>>,
    notes: Vec<String>,
    before: Vec<Observed>,
    pin_dir: Option<PathBuf>,
    links: Vec<(String, Link)>,
    missing: Missing,
}

fn finish(mut parts: Parts) -> Result<EbpfSensor, SensorError> {
    let copy = |map: &MapHandle| MapHandle::try_from(map).map_err(|error| failed("opening the maps", error));
    let losses = Losses::open(
        copy(&parts.maps.counters)?,
        copy(&parts.maps.ledger)?,
        SkippedRuns::of_ring(&parts.maps.ring)
            .map_err(|error| failed("asking for the ring's number", error))?,
        parts.control.stream,
        parts.stored_to,
        now_ns(),
    )
    .map_err(|error| failed("reading the ledger of losses", error))?;
    let clock: Arc<dyn ProcessClock> = match parts.tasks {
        Some(_) => Arc::new(KernelClock::new(copy(&parts.maps.clock)?)),
        None => Arc::new(ProcClock),
    };
    // What this agent does itself is not told: writing it down would be the next thing to tell.
    let pid = std::process::id();
    // What an agent before this one blocked is forgotten: its list may be another.
    parts.control.block_until_ns = 0;
    // So is what it left out: this one begins with everything.
    parts.control.left_out = 0;
    block::clear(&parts.maps).map_err(|error| failed("emptying the block list", error))?;
    parts.control.own = ProcessKey { pid, start_ns: clock.start_ns(pid).unwrap_or(0) };
    parts.control.write(&parts.maps.control).map_err(|error| failed("writing the control map", error))?;
    // A process whose fork is still to be read comes with it.
    let to_come = snapshot::forks_to_come(&mut parts.ring);
    let mut first = parts.before;
    first.extend(snapshot::existing(parts.tasks.as_deref(), &to_come));
    let pinned = parts.pin_dir.as_deref().and_then(|dir| {
        let unseen = |error: &io::Error| tracing::warn!(%error, dir = %dir.display(), "can't watch the pins");
        Pinned::of(dir).inspect_err(unseen).ok()
    });
    Ok(EbpfSensor {
        tampered: Vec::new(),
        pinned,
        resumed: parts.resumed,
        notes: parts.notes,
        ring: parts.ring,
        control: parts.control,
        written: parts.control,
        maps: parts.maps,
        losses,
        clock,
        first: first.into_iter(),
        losses_checked: None,
        awaits_first: false,
        blocking_since: None,
        pin_dir: parts.pin_dir,
        links: parts.links,
        missing: parts.missing,
    })
}

fn random() -> Result<u64, SensorError> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).map_err(
        |source| SensorError::System { sensor: SENSOR, doing: "drawing the number of the stream", source },
    )?;
    Ok(u64::from_ne_bytes(bytes))
}

fn unavailable(doing: &'static str, error: &libbpf_rs::Error) -> SensorError {
    let lockdown = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let (because, hint) = if error.kind() == libbpf_rs::ErrorKind::PermissionDenied {
        if lockdown.contains("[confidentiality]") {
            (
                "the kernel is locked down to confidentiality",
                "lockdown=integrity allows BPF to read kernel memory",
            )
        } else {
            (
                "the agent lacks CAP_BPF and CAP_PERFMON",
                "run it as root, outside of containers that drop capabilities",
            )
        }
    } else {
        (
            "the kernel refused",
            "eBPF needs Linux 5.8 with BTF and CONFIG_BPF_SYSCALL; run with -debug for the kernel's words",
        )
    };
    SensorError::Unavailable {
        sensor: SENSOR,
        reason: format!("{doing}: {because} ({})", chain(error)),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_has_room_for_every_process_and_takes_memory_only_for_live_ones() {
        let object = match load(&families::process(), 4_096, None, &KernelTypes::read()) {
            Ok(object) => object,
            Err(error) => return eprintln!("skipped: BPF programs can't be loaded here: {error}"),
        };
        let clock = object.maps().find(|map| map.name() == "clock").unwrap();
        let info = clock.info().unwrap().info;
        assert_eq!((info.max_entries, info.map_flags & 1), (most_processes(), 1));
        let number = |name: &str| -> u32 {
            std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap().trim().parse().unwrap()
        };
        assert!(info.max_entries >= number("pid_max").min(number("threads-max")).min(4 << 20));
    }
}
