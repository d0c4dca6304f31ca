//! What processes do to others, to themselves and to the kernel: each kind of act is
//! really done by a child and must be seen with who, whom and what.
//!
//! The process that opens the sensor counts as the agent, whose own acts are not told;
//! so the acts are those of this test program, started once more.

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]
#![allow(unsafe_code, reason = "the acts are system calls that have no safe form")]

mod acting;
mod acts;
mod rights;
mod told;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use event_model::{EventType, Field, Value};
use sensor_api::contract::{self, read_until};
use sensor_api::{Actor, Observation, Observed, ObservedActivity, Sensor, SourceThreads, observation_queue};
use sensor_linux::{EbpfSensor, LinuxSensorOptions};

use acting::Acting;
use rights::ebpf;
use told::{FAILURE, SUCCESS, activities, assert_target, list, outcome, text, text_of, value};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Not a test by itself: what the other tests start to have something done.
#[test]
fn act() {
    if let Some(name) = std::env::var_os("RAMPART_TEST_ACT") {
        acts::perform(name.to_str().unwrap());
    }
}

/// What was seen of one process.
struct Seen {
    sensor: EbpfSensor,
    all: Vec<Observed>,
}

impl Seen {
    fn open() -> Option<Self> {
        let options = LinuxSensorOptions { module_attempts: true, ..LinuxSensorOptions::default() };
        let mut sensor = ebpf(options)?;
        let mut all = Vec::new();
        sensor.poll(Duration::ZERO, &mut |observed| all.push(observed)).unwrap();
        Some(Self { sensor, all })
    }

    fn agent(&self) -> Actor {
        let pid = std::process::id();
        Actor::Life(sensor_api::ProcessKey {
            pid,
            start_ns: self.sensor.process_clock().start_ns(pid).unwrap(),
        })
    }

    /// Waits for an activity of `pid` that has these fields.
    fn wait(&mut self, pid: u32, event_type: EventType, fields: &[(Field, Value)]) -> ObservedActivity {
        let what = format!("{event_type} of {pid} with {fields:?}");
        let is_it = |activity: &ObservedActivity| {
            activity.event_type == event_type
                && activity.actor.map(Actor::pid) == Some(pid)
                && fields.iter().all(|field| activity.fields.contains(field))
        };
        let find = |all: &[Observed]| activities(all).find(|activity| is_it(activity)).cloned();
        let deadline = Instant::now() + PATIENCE;
        while find(&self.all).is_none() {
            let of_it = || activities(&self.all).filter(|one| one.actor.map(Actor::pid) == Some(pid));
            assert!(Instant::now() < deadline, "no {what}; of it was {:#?}", of_it().collect::<Vec<_>>());
            self.sensor.poll(Duration::from_millis(5), &mut |observed| self.all.push(observed)).unwrap();
        }
        let activity = find(&self.all).unwrap();
        assert!(matches!(activity.actor, Some(Actor::Life(_))), "who did it is known exactly");
        for need in event_type.spec().needs {
            let by_target = *need == Field::TargetPid && activity.target.is_some();
            let has = activity.fields.iter().any(|(field, _)| field == need);
            assert!(has || by_target, "{event_type} must tell {need:?}: {activity:?}");
        }
        activity
    }

    /// Acts of a type without a record of their own, from all processes.
    fn folded(&self, what: &str) -> u64 {
        let counts = self.sensor.kernel_counts().unwrap();
        counts.iter().find(|count| count.what == what).unwrap().folded
    }

    fn count(&self, pid: u32, event_type: EventType) -> usize {
        activities(&self.all)
            .filter(|one| one.event_type == event_type && one.actor.map(Actor::pid) == Some(pid))
            .count()
    }
}

#[test]
fn a_traced_process_is_seen_as_looked_into_and_as_changed() {
    let Some(mut seen) = Seen::open() else { return };
    let acting = Acting::start("ptrace", "");
    let pid = acting.pid();
    let numbers = acting.finish();
    let mode = |mode: &str| {
        [(Field::AccessMethod, text("ptrace")), (Field::AccessMode, text(mode)), outcome(SUCCESS)]
    };
    for request in ["PTRACE_ATTACH", "PTRACE_PEEKUSER"] {
        let activity = seen.wait(pid, EventType::ProcessAccess, &mode(request));
        assert_target(&activity, numbers.get("target"));
    }
    let activity = seen.wait(pid, EventType::ProcessTamper, &mode("PTRACE_POKEUSER"));
    assert_target(&activity, numbers.get("target"));
    let failed =
        [(Field::AccessMode, text("PTRACE_SEIZE")), outcome(FAILURE), (Field::EventErrno, Value::Integer(3))];
    assert_eq!(seen.wait(pid, EventType::ProcessAccess, &failed).target.map(Actor::pid), Some(4_194_303));
    assert_eq!(
        seen.count(pid, EventType::ProcessAccess),
        3,
        "the act looks a hundred times, which is counted"
    );
    assert!(seen.folded("process_access") >= 99);
}

#[test]
fn memory_of_another_process_is_seen_to_be_read_and_written() {
    let Some(mut seen) = Seen::open() else { return };
    let acting = Acting::start("other_memory", "");
    let pid = acting.pid();
    let numbers = acting.finish();
    let method = |method: &str, mode: &str| {
        [(Field::AccessMethod, text(method)), (Field::AccessMode, text(mode)), outcome(SUCCESS)]
    };
    for (event_type, how, mode) in [
        (EventType::ProcessAccess, "process_vm_readv", "read"),
        (EventType::ProcessTamper, "process_vm_writev", "write"),
        (EventType::ProcessAccess, "/proc/pid/maps", "read"),
        (EventType::ProcessAccess, "/proc/pid/environ", "read"),
        (EventType::ProcessAccess, "/proc/pid/mem", "read"),
        (EventType::ProcessTamper, "/proc/pid/mem", "read and write"),
        (EventType::ProcessAccess, "pidfd_getfd", "descriptor 0"),
    ] {
        let activity = seen.wait(pid, event_type, &method(how, mode));
        assert_target(&activity, numbers.get("target"));
        if how.starts_with("process_vm") {
            assert_eq!(value(&activity, Field::AccessBytes), Some(&Value::Integer(16)));
            assert!(text_of(&activity, Field::AccessAddress).starts_with("0x"));
        }
    }
    let own = activities(&seen.all).any(|one| {
        one.event_type == EventType::ProcessAccess
            && one.actor.map(Actor::pid) == Some(pid)
            && one.target.map(Actor::pid) == Some(pid)
    });
    assert!(!own, "what a process reads of itself is its own affair");
}

#[test]
fn memory_that_becomes_executable_is_seen_once_for_a_process() {
    let Some(mut seen) = Seen::open() else { return };
    let acting = Acting::start("executable_memory", "");
    let pid = acting.pid();
    acting.finish();
    for (call, protection, backing) in
        [("mmap", "rwx", "anonymous"), ("mprotect", "r-x", "anonymous"), ("mprotect", "rwx", "anonymous")]
    {
        let fields = [
            (Field::AccessMethod, text(call)),
            (Field::MemoryProtection, text(protection)),
            (Field::AccessMode, text(backing)),
        ];
        let activity = seen.wait(pid, EventType::ProcessTamper, &fields);
        assert_target(&activity, pid);
        assert_eq!(value(&activity, Field::AccessBytes), Some(&Value::Integer(8192)));
    }
    assert_eq!(seen.count(pid, EventType::ProcessTamper), 3, "the act does each of them fifty times");
}

#[test]
fn a_process_that_takes_another_name_is_seen() {
    let Some(mut seen) = Seen::open() else { return };
    let pid = Acting::start("rename", "").finish().get("renamed");
    let fields = [
        (Field::AccessMethod, text("prctl")),
        (Field::AccessMode, text("PR_SET_NAME")),
        (Field::ChangeNew, text("[kworker/0:1]")),
    ];
    assert_target(&seen.wait(pid, EventType::ProcessTamper, &fields), pid);
    let fields =
        [(Field::AccessMode, text("PR_SET_MM")), (Field::ChangedFields, list(&["PR_SET_MM_ARG_START"]))];
    seen.wait(pid, EventType::ProcessTamper, &fields);
}

#[test]
fn a_file_in_memory_and_its_execution_are_seen() {
    let Some(mut seen) = Seen::open() else { return };
    let acting = Acting::start("memfd", "");
    let pid = acting.pid();
    let numbers = acting.finish();
    let fields = [
        (Field::MemfdName, text("not on disk")),
        (Field::MemfdFlags, list(&["MFD_CLOEXEC"])),
        outcome(SUCCESS),
    ];
    let activity = seen.wait(pid, EventType::MemfdCreate, &fields);
    let ran = numbers.get("ran");
    let image = |all: &[Observed]| {
        all.iter().find_map(|observed| match &observed.what {
            Observation::ProcessExecuted(image) if image.pid == ran => Some(image.as_ref().clone()),
            _ => None,
        })
    };
    read_until(&mut seen.sensor, &mut seen.all, "exec of it", |all| image(all).is_some());
    let image = image(&seen.all).unwrap();
    assert!(image.image_deleted && image.executable.contains("memfd:not on disk"), "{image:?}");
    let inode = i64::try_from(image.image.unwrap().inode).unwrap();
    assert_eq!(value(&activity, Field::FileInode), Some(&Value::Integer(inode)), "the two can be joined");
}

#[test]
fn signals_to_other_processes_are_seen_with_their_sender() {
    let Some(mut seen) = Seen::open() else { return };
    let acting = Acting::start("signals", &std::process::id().to_string());
    let pid = acting.pid();
    let numbers = acting.finish();
    for signal in [19, 18, 15] {
        let fields = [(Field::SignalNumber, Value::Integer(signal)), outcome(SUCCESS)];
        assert_target(&seen.wait(pid, EventType::Signal, &fields), numbers.get("target"));
    }
    // Queued with a made-up origin, as if a timer had sent it.
    let fields = [(Field::SignalNumber, Value::Integer(3))];
    assert_target(&seen.wait(pid, EventType::Signal, &fields), numbers.get("forged"));
    // To the agent any signal is of interest.
    let fields = [(Field::SignalNumber, Value::Integer(23)), outcome(SUCCESS)];
    let activity = seen.wait(pid, EventType::Signal, &fields);
    assert_eq!(activity.target, Some(seen.agent()));
    let fields =
        [(Field::SignalNumber, Value::Integer(15)), outcome(FAILURE), (Field::EventErrno, Value::Integer(1))];
    assert_eq!(seen.wait(pid, EventType::Signal, &fields).target, Some(seen.agent()));
}

#[test]
fn acts_that_many_cpus_count_at_once_are_told_once_each() {
    let Some(Seen { mut sensor, .. }) = Seen::open() else { return };
    let acting = Acting::start("many_signals", "");
    let (pid, deadline) = (acting.pid(), Instant::now() + 2 * PATIENCE);
    let (mut counts, mut lost, mut has_ended) = (Vec::<u64>::new(), 0, false);
    let (mut acting, mut sent) = (Some(acting), u64::MAX);
    let mut most = 0;
    // It takes seconds, in which others act as well: room must be made for its records.
    while counts.iter().sum::<u64>() + lost < sent {
        assert!(Instant::now() < deadline, "{counts:?} and {lost} lost of {sent}; has ended: {has_ended}");
        let mut last = None;
        let mut sink = |observed: Observed| {
            last = observed.position.or(last);
            match observed.what {
                Observation::ProcessExited(exit) if exit.process.pid == pid => has_ended = true,
                Observation::Activity(one)
                    if one.event_type == EventType::Signal
                        && one.actor.map(Actor::pid) == Some(pid)
                        && value(&one, Field::SignalNumber) == Some(&Value::Integer(18)) =>
                {
                    counts.push(match value(&one, Field::EventCount) {
                        Some(Value::Integer(count)) => u64::try_from(*count).unwrap(),
                        _ => 1,
                    });
                }
                Observation::Lost(loss) if loss.what == "signal" => lost += loss.count.unwrap(),
                _ => {}
            }
        };
        sensor.poll(Duration::from_millis(5), &mut sink).unwrap();
        if let Some(position) = last {
            sensor.commit(position);
        }
        if has_ended && let Some(acting) = acting.take() {
            let numbers = acting.finish();
            sent = numbers.get("sent").into();
            most = 1 + numbers.get("milliseconds") / 1_000;
        }
    }
    assert!((1..=most as usize).contains(&counts.len()), "one for each second, of {most}: {counts:?}");
    let told: u64 = counts.iter().sum();
    assert!(told <= sent, "{counts:?} of {sent}");
}

#[test]
fn a_change_of_user_is_seen_with_old_and_new() {
    let Some(mut seen) = Seen::open() else { return };
    let acting = Acting::start("privileges", "");
    let pid = acting.pid();
    acting.finish();
    let activity = seen.wait(
        pid,
        EventType::PrivilegeChange,
        &[(Field::AccessMethod, text("setresgid")), outcome(SUCCESS)],
    );
    assert_eq!(text_of(&activity, Field::ChangeNew), "uid=0 euid=0 suid=0 gid=65534 egid=65534 sgid=65534");
    let activity = seen.wait(
        pid,
        EventType::PrivilegeChange,
        &[(Field::AccessMethod, text("capset")), outcome(SUCCESS)],
    );
    assert_ne!(text_of(&activity, Field::ChangeOld), text_of(&activity, Field::ChangeNew));
    assert!(text_of(&activity, Field::ChangeNew).starts_with("effective=00000000000000c0 "), "{activity:?}");
    let activity = seen.wait(
        pid,
        EventType::PrivilegeChange,
        &[(Field::AccessMethod, text("setuid")), outcome(SUCCESS)],
    );
    assert_eq!(text_of(&activity, Field::ChangeOld), "uid=0 euid=0 suid=0 gid=65534 egid=65534 sgid=65534");
    assert_eq!(
        text_of(&activity, Field::ChangeNew),
        "uid=65534 euid=65534 suid=65534 gid=65534 egid=65534 sgid=65534"
    );
    assert_eq!(value(&activity, Field::ChangedFields), Some(&list(&["uid", "euid", "suid"])));
    assert_eq!(text_of(&activity, Field::UserTargetId), "65534");
    let back = [
        (Field::AccessMethod, text("setuid")),
        (Field::EventErrno, Value::Integer(1)),
        (Field::UserTargetId, text("0")),
    ];
    seen.wait(pid, EventType::PrivilegeChange, &back);
}

#[test]
fn mounts_are_seen_with_source_target_and_type() {
    let Some(mut seen) = Seen::open() else { return };
    let here = tempfile::tempdir().unwrap();
    let path = here.path().canonicalize().unwrap();
    let acting = Acting::start("mounts", path.to_str().unwrap());
    let pid = acting.pid();
    acting.finish();
    let target = |name: &str| (Field::MountTarget, text(path.join(name).to_str().unwrap()));
    let action = |action: &str| (Field::EventAction, text(action));
    let activity = seen.wait(pid, EventType::Mount, &[action("mount"), target("a"), outcome(SUCCESS)]);
    assert_eq!(text_of(&activity, Field::MountSource), "source");
    assert_eq!(text_of(&activity, Field::MountType), "tmpfs");
    assert_eq!(value(&activity, Field::MountFlags), Some(&list(&["MS_NOSUID", "MS_NODEV"])));
    // Given as `b`, from the directory that the process is in.
    let activity = seen.wait(pid, EventType::Mount, &[action("mount"), target("b"), outcome(SUCCESS)]);
    assert_eq!(value(&activity, Field::MountFlags), Some(&list(&["MS_BIND"])));
    // By the calls that came with Linux 5.2.
    let activity = seen.wait(pid, EventType::Mount, &[action("mount"), target("c"), outcome(SUCCESS)]);
    assert_eq!(text_of(&activity, Field::MountType), "tmpfs");
    seen.wait(pid, EventType::Mount, &[action("unmount"), target("b"), outcome(SUCCESS)]);
    let failed = [action("unmount"), target("missing"), (Field::EventErrno, Value::Integer(2))];
    seen.wait(pid, EventType::Mount, &failed);
    seen.wait(pid, EventType::Namespace, &[action("unshare"), (Field::NamespaceKinds, list(&["mnt"]))]);
}

#[test]
fn namespaces_that_are_made_or_entered_are_seen() {
    let Some(mut seen) = Seen::open() else { return };
    let acting = Acting::start("namespaces", "");
    let pid = acting.pid();
    let numbers = acting.finish();
    let fields = |action: &str| [(Field::EventAction, text(action)), outcome(SUCCESS)];
    let activity = seen.wait(pid, EventType::Namespace, &fields("unshare"));
    assert_eq!(value(&activity, Field::NamespaceKinds), Some(&list(&["uts", "ipc"])));
    let activity = seen.wait(pid, EventType::Namespace, &fields("setns"));
    let kind = format!("uts:{}", numbers.get("uts"));
    assert_eq!(value(&activity, Field::NamespaceKinds), Some(&list(&[&kind])));
    let activity = seen.wait(pid, EventType::Namespace, &fields("clone"));
    assert_eq!(value(&activity, Field::NamespaceKinds), Some(&list(&["uts", "net"])));
    assert_target(&activity, numbers.get("child"));
}

#[test]
fn bpf_programs_that_are_loaded_and_attached_are_seen() {
    let Some(mut seen) = Seen::open() else { return };
    let acting = Acting::start("bpf", "");
    let pid = acting.pid();
    acting.finish();
    let fields = |action: &str, kind: &str, end| {
        [(Field::EventAction, text(action)), (Field::BpfType, text(kind)), outcome(end)]
    };
    let activity = seen.wait(pid, EventType::BpfLoad, &fields("prog_load", "raw_tracepoint", SUCCESS));
    assert_eq!(text_of(&activity, Field::BpfName), "harmless");
    let id = value(&activity, Field::BpfId).cloned();
    assert!(matches!(id, Some(Value::Integer(id)) if id > 0));
    assert_eq!(text_of(&activity, Field::BpfTag).len(), 16);
    let activity =
        seen.wait(pid, EventType::BpfLoad, &fields("raw_tracepoint_open", "raw_tracepoint", SUCCESS));
    assert_eq!(value(&activity, Field::BpfId).cloned(), id);
    assert_eq!(text_of(&activity, Field::BpfAttachPoint), "sched_process_hang");
    let activity = seen.wait(pid, EventType::BpfLoad, &fields("prog_load", "socket_filter", FAILURE));
    assert_eq!(text_of(&activity, Field::BpfName), "refused");
    let own = activities(&seen.all)
        .any(|one| one.event_type == EventType::BpfLoad && one.actor == Some(seen.agent()));
    assert!(!own, "the agent's own programs are not told");
}

#[test]
fn attempts_to_load_a_module_are_seen() {
    let Some(mut seen) = Seen::open() else { return };
    let here = tempfile::tempdir().unwrap();
    let path = here.path().canonicalize().unwrap().join("no-module.ko");
    std::fs::write(&path, "not a module").unwrap();
    let acting = Acting::start("modules", path.to_str().unwrap());
    let pid = acting.pid();
    acting.finish();
    let fields = |how: &str| [(Field::AccessMethod, text(how)), outcome(FAILURE)];
    let activity = seen.wait(pid, EventType::ModuleLoad, &fields("finit_module"));
    assert_eq!(text_of(&activity, Field::ModuleName), "no_module");
    assert_eq!(text_of(&activity, Field::FilePath), path.to_str().unwrap());
    let activity = seen.wait(pid, EventType::ModuleLoad, &fields("init_module"));
    assert_eq!(value(&activity, Field::FileSize), Some(&Value::Integer(9)));
    let activity = seen.wait(pid, EventType::ModuleLoad, &fields("delete_module"));
    assert_eq!(text_of(&activity, Field::ModuleName), "no_such_module");
    assert_eq!(text_of(&activity, Field::EventAction), "unload");
}

#[test]
fn libraries_are_seen_with_what_is_odd_about_them() {
    let Some(mut seen) = Seen::open() else { return };
    let here = tempfile::tempdir().unwrap();
    let path = here.path().canonicalize().unwrap();
    for name in ["plain.so", "open.so", "gone.so"] {
        std::fs::copy("/bin/true", path.join(name)).unwrap();
    }
    std::fs::set_permissions(path.join("open.so"), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
    let acting = Acting::start("libraries", path.to_str().unwrap());
    let pid = acting.pid();
    acting.finish();
    let library = |name: &str| (Field::LibraryPath, text(path.join(name).to_str().unwrap()));
    let activity = seen.wait(pid, EventType::ImageLoad, &[library("plain.so")]);
    assert_eq!(value(&activity, Field::LibraryOrigin), None);
    let file = std::fs::metadata(path.join("plain.so")).unwrap();
    use std::os::unix::fs::MetadataExt;
    let number = |number: u64| Value::Integer(i64::try_from(number).unwrap());
    assert_eq!(value(&activity, Field::FileInode), Some(&number(file.ino())));
    assert_eq!(value(&activity, Field::FileDevice), Some(&number(file.dev())));
    let activity = seen.wait(pid, EventType::ImageLoad, &[library("open.so")]);
    assert_eq!(text_of(&activity, Field::LibraryOrigin), "world_writable");
    let activity = seen.wait(pid, EventType::ImageLoad, &[library("gone.so")]);
    assert_eq!(text_of(&activity, Field::LibraryOrigin), "deleted");
    let activity = seen.wait(pid, EventType::ImageLoad, &[(Field::LibraryOrigin, text("memfd"))]);
    assert!(text_of(&activity, Field::LibraryPath).contains("memfd:library"));
}

#[test]
fn a_program_loads_its_libraries_once_for_all_its_processes() {
    let Some(mut seen) = Seen::open() else { return };
    let here = tempfile::tempdir().unwrap();
    let program = here.path().canonicalize().unwrap().join("program");
    // By another process: what a test beside forks may hold on to a file that this one had open.
    assert!(Command::new("cp").arg("/bin/true").arg(&program).status().unwrap().success());
    let mut pids = Vec::new();
    for _ in 0..5 {
        let mut child = Command::new(&program).spawn().unwrap();
        child.wait().unwrap();
        pids.push(child.id());
    }
    let first = seen.wait(pids[0], EventType::ImageLoad, &[]);
    assert!(text_of(&first, Field::LibraryPath).contains("libc"), "{first:?}");
    // Behind all that they did.
    let pid = Acting::start("rename", "").finish().get("renamed");
    seen.wait(pid, EventType::ProcessTamper, &[]);
    let told: usize = pids[1..].iter().map(|pid| seen.count(*pid, EventType::ImageLoad)).sum();
    assert_eq!(told, 0);
    assert!(seen.folded("image_load") >= 4);
}

#[test]
fn connections_to_unix_sockets_are_seen() {
    let Some(mut seen) = Seen::open() else { return };
    let here = tempfile::tempdir().unwrap();
    let path = here.path().canonicalize().unwrap();
    let _listener = UnixListener::bind(path.join("here.sock")).unwrap();
    let name = format!("rampart-test-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let acting = Acting::start("unix_sockets", &format!("{}\n{name}", path.display()));
    let pid = acting.pid();
    acting.finish();
    let socket = |path: &str| (Field::UnixSocketPath, text(path));
    let whole = path.join("here.sock");
    // Given from the directory that the process is in; the kernel knows where it is.
    let fields = [socket(whole.to_str().unwrap()), outcome(SUCCESS)];
    assert_eq!(seen.wait(pid, EventType::UnixConnect, &fields).target, Some(seen.agent()));
    seen.wait(pid, EventType::UnixConnect, &[socket(&format!("@{name}")), outcome(SUCCESS)]);
    let missing = path.join("missing.sock");
    let fields =
        [socket(missing.to_str().unwrap()), outcome(FAILURE), (Field::EventErrno, Value::Integer(2))];
    seen.wait(pid, EventType::UnixConnect, &fields);
}

#[test]
fn a_connection_to_a_unix_socket_whose_address_is_changed_meanwhile_is_seen() {
    let Some(mut seen) = Seen::open() else { return };
    let here = tempfile::tempdir().unwrap();
    let path = here.path().canonicalize().unwrap();
    let acting = Acting::start("changed_addresses", &path.display().to_string());
    let pid = acting.pid();
    acting.finish();
    for index in 0..acts::CHANGED {
        let socket = path.join(format!("{index}.sock"));
        let fields = [(Field::UnixSocketPath, text(socket.to_str().unwrap())), outcome(SUCCESS)];
        assert_eq!(seen.wait(pid, EventType::UnixConnect, &fields).target.map(Actor::pid), Some(pid));
    }
}

#[test]
fn scripts_that_really_run_are_told_with_their_text() {
    let Some(mut seen) = Seen::open() else { return };
    let (feed, source) = sensor_linux::content().unwrap();
    let (sender, queue) = observation_queue(10_000);
    let threads = SourceThreads::start(vec![source], &sender).unwrap();
    let here = tempfile::tempdir().unwrap();
    let path = here.path().canonicalize().unwrap().join("run");
    let mark = contract::unique("script");
    let script = format!("#!/bin/sh\n# {mark}\nexit 0\n");
    std::fs::write(&path, &script).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // Through a shell, as a fork elsewhere may still hold the script open for writing.
    let inline = format!("until {}; do :; done; : {mark}", path.display());
    let mut shell = Command::new("/bin/sh").args(["-c", &inline]).stderr(Stdio::null()).spawn().unwrap();
    assert!(shell.wait().unwrap().success());

    let mut scripts: Vec<ObservedActivity> = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while scripts.len() < 2 {
        assert!(Instant::now() < deadline, "{scripts:?}");
        seen.sensor.poll(Duration::from_millis(5), &mut |observed| feed.offer(&observed)).unwrap();
        queue.take(1_000, &mut |observed| {
            let told = activities(std::slice::from_ref(&observed)).cloned();
            scripts.extend(told.filter(|one| {
                one.fields.iter().any(|(field, value)| {
                    *field == Field::ScriptText && matches!(value, Value::Text(text) if text.contains(&mark))
                })
            }));
        });
    }
    threads.stop();
    let shell_image = std::fs::canonicalize("/bin/sh").unwrap();
    for activity in &scripts {
        assert_eq!(text_of(activity, Field::ScriptInterpreter), shell_image.to_str().unwrap());
        assert!(EventType::ScriptContent.spec().needs.iter().all(|need| value(activity, *need).is_some()));
    }
    let inline_event = scripts.iter().find(|one| value(one, Field::ScriptPath).is_none()).unwrap();
    assert_eq!(inline_event.actor.map(Actor::pid), Some(shell.id()));
    assert_eq!(text_of(inline_event, Field::ScriptText), inline);
    let file_event = scripts.iter().find(|one| value(one, Field::ScriptPath).is_some()).unwrap();
    assert_eq!(text_of(file_event, Field::ScriptPath), path.to_str().unwrap());
    assert_eq!(text_of(file_event, Field::ScriptText), script);
}

#[test]
fn every_type_of_behaviour_has_a_source_here() {
    let Some(seen) = Seen::open() else { return };
    let provisions = seen.sensor.provisions();
    for event_type in [
        EventType::ProcessAccess,
        EventType::ProcessTamper,
        EventType::MemfdCreate,
        EventType::Signal,
        EventType::PrivilegeChange,
        EventType::Mount,
        EventType::Namespace,
        EventType::BpfLoad,
        EventType::ModuleLoad,
        EventType::ImageLoad,
        EventType::UnixConnect,
    ] {
        let of_type: Vec<_> = provisions.iter().filter(|one| one.event_type == event_type).collect();
        assert_eq!(of_type.len(), 1, "{of_type:?}");
        assert_eq!(of_type[0].missing, None, "{}", of_type[0].describe());
    }
    // Where the kernel has no modules, their source is dear, and only there if asked for.
    let tracepoint = "events/syscalls/sys_exit_finit_module";
    if !std::path::Path::new("/sys/kernel/tracing").join(tracepoint).exists() {
        let plain = ebpf(LinuxSensorOptions::default()).unwrap().provisions();
        let modules = plain.iter().find(|one| one.event_type == EventType::ModuleLoad).unwrap();
        assert!(modules.missing.as_ref().is_some_and(|reason| reason.contains("left out")), "{modules:?}");
    }
}
