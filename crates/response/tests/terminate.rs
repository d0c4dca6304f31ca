//! Ending real processes: the right ones, provably, and no others.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use event_model::{
    BootId, DetectionId, ProcessEntityId, ReceiptState, ResponseMode, ResponseReceipt, RuleId, Timestamp,
};
use response::{Guards, Limit, MAX_AUTOMATIC_PER_MINUTE, Plan, Refusal, Target, Terminator};
use sensor_api::ProcessClock;
use uuid::Uuid;

/// The precise clock of the eBPF sensor, stood in for by what /proc can tell.
struct ProcClock {
    precision_ns: u64,
}

impl ProcessClock for ProcClock {
    fn start_ns(&self, pid: u32) -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let ticks: u64 = rest.split_ascii_whitespace().nth(19)?.parse().ok()?;
        Some(ticks * 10_000_000)
    }

    fn precision_ns(&self) -> u64 {
        self.precision_ns
    }
}

struct Bench {
    terminator: Terminator,
    receipts: mpsc::Receiver<ResponseReceipt>,
    clock: ProcClock,
}

fn bench() -> Bench {
    bench_with(10_000_000)
}

fn bench_with(precision_ns: u64) -> Bench {
    let (sender, receipts) = mpsc::channel();
    let wall = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap())
    };
    let terminator = Terminator::new(Arc::new(ProcClock { precision_ns }), Arc::new(wall), sender).unwrap();
    Bench { terminator, receipts, clock: ProcClock { precision_ns } }
}

impl Bench {
    fn plan(&self, pid: u32, grace: Duration) -> Plan {
        let boot = BootId::from_uuid(Uuid::from_u128(1));
        let exe = format!("/proc/{pid}/exe");
        Plan {
            detection_id: DetectionId::from_uuid(Uuid::new_v4()),
            rule_id: RuleId::new("1"),
            target: Target {
                entity_id: ProcessEntityId::new(boot, pid, self.clock.start_ns(pid).unwrap_or(1)),
                executable: fs::read_link(&exe).map(|path| path.display().to_string()).unwrap_or_default(),
                image: fs::metadata(&exe).ok().map(|file| (file.dev(), file.ino())),
                kernel_thread: false,
            },
            grace,
        }
    }

    fn act(&self, plan: Plan) -> ResponseReceipt {
        let authorised = Guards::of_this_host().authorise(plan, ResponseMode::Auto).unwrap();
        self.terminator.act(authorised);
        self.receipts.recv_timeout(Duration::from_secs(20)).unwrap()
    }
}

fn sleeper() -> Child {
    Command::new("sleep").arg("600").spawn().unwrap()
}

fn steps(receipt: &ResponseReceipt) -> Vec<&str> {
    receipt.steps.iter().map(|step| step.what.as_str()).collect()
}

#[test]
fn a_process_that_heeds_sigterm_ends_gracefully_with_proof() {
    let bench = bench();
    let mut child = sleeper();
    let receipt = bench.act(bench.plan(child.id(), Duration::from_secs(1)));
    assert_eq!(receipt.state, ReceiptState::Verified, "{}", receipt.reason);
    assert_eq!(steps(&receipt), ["sent SIGTERM", "process ended"]);
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn a_process_that_ignores_sigterm_is_ended_by_force_after_the_grace() {
    let bench = bench();
    let script = "trap '' TERM; echo ready; while :; do read -t 60 x < /dev/zero; done";
    let mut child = Command::new("bash").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let receipt = bench.act(bench.plan(child.id(), Duration::from_secs(1)));
    assert_eq!(receipt.state, ReceiptState::Verified, "{}", receipt.reason);
    assert_eq!(steps(&receipt), ["sent SIGTERM", "sent SIGKILL", "process ended"]);
    let waited = receipt.steps[1].at.as_millis() - receipt.steps[0].at.as_millis();
    assert!((999..3_000).contains(&waited), "{waited} ms");
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

#[test]
fn without_grace_force_comes_at_once() {
    let bench = bench();
    let mut child = sleeper();
    let receipt = bench.act(bench.plan(child.id(), Duration::ZERO));
    assert_eq!(steps(&receipt), ["sent SIGKILL", "process ended"]);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

#[test]
fn a_process_that_is_gone_or_a_zombie_is_a_failure_with_its_reason() {
    let bench = bench();
    let mut child = sleeper();
    let plan = bench.plan(child.id(), Duration::ZERO);
    child.kill().unwrap();
    // Not waited for: once the pipe-less child is dead it stays as a zombie.
    let dead = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.contains(") Z ")
    };
    while !dead() {
        std::thread::yield_now();
    }
    let receipt = bench.act(plan.clone());
    assert_eq!(receipt.state, ReceiptState::Failed);
    assert!(receipt.reason.contains("already ended"), "{}", receipt.reason);
    child.wait().unwrap();
    let receipt = bench.act(plan);
    assert_eq!((receipt.state, receipt.steps.len()), (ReceiptState::Failed, 0));
    assert!(receipt.reason.contains("already ended"), "{}", receipt.reason);
}

#[test]
fn another_life_of_the_pid_is_never_hit() {
    for precision_ns in [1, 10_000_000] {
        let bench = bench_with(precision_ns);
        let mut innocent = sleeper();
        let mut plan = bench.plan(innocent.id(), Duration::ZERO);
        let target = plan.target.entity_id;
        let boot = BootId::from_uuid(Uuid::from_u128(1));
        plan.target.entity_id = ProcessEntityId::new(boot, target.pid(), target.start_ns() - 20_000_000);
        let receipt = bench.act(plan);
        assert_eq!(receipt.state, ReceiptState::Failed);
        assert!(receipt.reason.contains("another process"), "{}", receipt.reason);
        assert_eq!(innocent.try_wait().unwrap(), None, "the innocent lives");
        innocent.kill().unwrap();
        innocent.wait().unwrap();
    }
}

#[test]
fn with_a_coarse_clock_the_image_must_fit_too() {
    let bench = bench();
    let mut innocent = sleeper();
    let mut plan = bench.plan(innocent.id(), Duration::ZERO);
    plan.target.image = Some((1, 1));
    plan.target.executable = "/tmp/miner".to_owned();
    let receipt = bench.act(plan);
    assert_eq!(receipt.state, ReceiptState::Failed);
    assert_eq!(innocent.try_wait().unwrap(), None, "the innocent lives");
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

/// Runs inside a PID namespace of its own, where the next PID can be chosen.
#[test]
fn child_forces_pid_reuse() {
    if std::env::var_os("RESPONSE_REUSE_CHILD").is_none() {
        return;
    }
    let bench = bench();
    for round in 0..50 {
        let mut victim = sleeper();
        let pid = victim.id();
        let plan = bench.plan(pid, Duration::ZERO);
        victim.kill().unwrap();
        victim.wait().unwrap();
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        // Another program, so that even the coarse clock of /proc can tell.
        let mut innocent = Command::new("tail").args(["-f", "/dev/null"]).spawn().unwrap();
        assert_eq!(innocent.id(), pid, "round {round}: the PID was not reused");
        let receipt = bench.act(plan);
        assert_eq!(receipt.state, ReceiptState::Failed, "round {round}: {}", receipt.reason);
        assert_eq!(innocent.try_wait().unwrap(), None, "round {round}: the innocent was hit");
        innocent.kill().unwrap();
        innocent.wait().unwrap();
    }
    println!("reused 50 times");
}

#[test]
fn a_reused_pid_is_never_hit() {
    let child = Command::new("unshare")
        .args(["--fork", "--pid", "--mount-proc", "--kill-child"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_forces_pid_reuse", "--nocapture", "--test-threads=1"])
        .env("RESPONSE_REUSE_CHILD", "1")
        .output();
    match child {
        Ok(output) if output.status.success() => {
            assert!(String::from_utf8_lossy(&output.stdout).contains("reused 50 times"));
        }
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("unshare failed") => {
            eprintln!("skipped: a PID namespace of its own is not permitted here");
        }
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => eprintln!("skipped: unshare can't be run: {error}"),
    }
}

#[test]
fn the_protected_are_refused() {
    let bench = bench();
    let mut guards = Guards::of_this_host();
    for pid in [1, std::process::id(), std::os::unix::process::parent_id()] {
        let refused = guards.authorise(bench.plan(pid, Duration::ZERO), ResponseMode::Auto).unwrap_err();
        assert!(matches!(refused.0, Refusal::Protected { .. }), "{pid}");
        assert_eq!(refused.1.state, ReceiptState::Refused);
        assert!(refused.1.reason.contains("protected"), "{}", refused.1.reason);
    }
    // PID 2 is kthreadd wherever the kernel's threads can be seen.
    if fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n") {
        let refused = guards.authorise(bench.plan(2, Duration::ZERO), ResponseMode::Auto).unwrap_err();
        assert!(matches!(refused.0, Refusal::Protected { .. }));
    }
    let mut thread = bench.plan(std::process::id() + 1, Duration::ZERO);
    thread.target.kernel_thread = true;
    assert!(guards.authorise(thread, ResponseMode::Auto).is_err());
}

#[test]
fn only_mode_auto_acts_and_the_others_say_what_they_would_do() {
    let bench = bench();
    let mut child = sleeper();
    let mut guards = Guards::of_this_host();
    for mode in [ResponseMode::Off, ResponseMode::Detect, ResponseMode::Shadow, ResponseMode::Ask] {
        let refused = guards.authorise(bench.plan(child.id(), Duration::from_secs(1)), mode).unwrap_err();
        assert!(refused.1.reason.contains("would send SIGTERM"), "{}", refused.1.reason);
    }
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_breaker_refuses_past_the_cap_and_says_which() {
    let bench = bench();
    let mut guards = Guards::of_this_host();
    // No such PID: nothing could be hit even by mistake.
    let plan = |inode| {
        let mut plan = bench.plan(4_194_304, Duration::ZERO);
        plan.target.image = Some((1, inode));
        plan
    };
    for _ in 0..MAX_AUTOMATIC_PER_MINUTE {
        guards.authorise(plan(1), ResponseMode::Auto).unwrap();
    }
    let refused = guards.authorise(plan(1), ResponseMode::Auto).unwrap_err();
    assert_eq!(refused.0, Refusal::Breaker(Limit::SameImage));
    assert!(refused.1.reason.contains("one rule on the same image"), "{}", refused.1.reason);
    // The decoys left room for another image, up to the rule's own limit.
    for inode in 2..=MAX_AUTOMATIC_PER_MINUTE as u64 {
        guards.authorise(plan(inode), ResponseMode::Auto).unwrap();
    }
    let refused = guards.authorise(plan(1_000), ResponseMode::Auto).unwrap_err();
    assert_eq!(refused.0, Refusal::Breaker(Limit::Rule));
    let mut other = plan(1_000);
    other.rule_id = RuleId::new("another");
    guards.authorise(other, ResponseMode::Auto).unwrap();
}

/// A service's own file, run by `uid`; `None` if it does not run here.
fn service_run_as(uid: u32) -> Option<Child> {
    let path = Path::new("/usr/bin/dbus-daemon");
    if !path.exists() {
        return None;
    }
    let mut command = Command::new(path);
    command.args(["--session", "--nofork", "--nosyslog", "--print-address=1"]).uid(uid).gid(uid);
    // Abstract: no file is left when it is killed.
    let address = format!("--address=unix:abstract=rampart-test-{}-{uid}", std::process::id());
    let mut child =
        command.arg(address).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/").spawn().ok()?;
    // Once it tells its address it runs and stays.
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    if line.is_empty() {
        child.wait().ok()?;
        return None;
    }
    Some(child)
}

/// A cgroup of this test below that of `dbus.service`, where systemd would have put it.
#[derive(Debug)]
struct Unit {
    /// It and those above it that had to be made, the lowest first.
    made: Vec<PathBuf>,
}

impl Unit {
    /// `None` where cgroups of version 2 are not mounted or can't be made.
    fn of_the_bus() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = mounts.find(|mount| mount.get(2) == Some(&"cgroup2"))?.get(1).map(PathBuf::from)?;
        let slice = root.join("system.slice");
        let unit = slice.join("dbus.service");
        let own = unit.join(format!("rampart-test-{}", std::process::id()));
        let mut made = Self { made: Vec::new() };
        for folder in [slice, unit, own] {
            if !folder.exists() {
                fs::create_dir(&folder).ok()?;
                made.made.insert(0, folder);
            }
        }
        Some(made)
    }

    fn take_in(&self, pid: u32) {
        fs::write(self.made[0].join("cgroup.procs"), pid.to_string()).expect("root may move processes");
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // A process that was waited for is out of its cgroup.
        for folder in &self.made {
            let _ = fs::remove_dir(folder);
        }
    }
}

#[test]
fn a_file_of_a_service_protects_only_what_runs_as_root_or_in_its_unit() {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: only root can run a service as root and as nobody");
        return;
    }
    let bench = bench();
    let mut guards = Guards::of_this_host();
    let unit = Unit::of_the_bus();
    if unit.is_none() {
        eprintln!("skipped in part: a cgroup of dbus.service can't be made here");
    }
    let cases = [(65_534, None, false), (0, None, true), (65_534, unit.as_ref(), true)];
    for (uid, unit, protected) in cases.into_iter().take(if unit.is_some() { 3 } else { 2 }) {
        let Some(mut child) = service_run_as(uid) else {
            eprintln!("skipped: /usr/bin/dbus-daemon can't be run here");
            return;
        };
        if let Some(unit) = unit {
            unit.take_in(child.id());
        }
        let plan = bench.plan(child.id(), Duration::ZERO);
        assert!(plan.target.executable.ends_with("dbus-daemon"), "{}", plan.target.executable);
        let answer = guards.authorise(plan, ResponseMode::Auto);
        child.kill().unwrap();
        child.wait().unwrap();
        match answer {
            Ok(_) => assert!(!protected, "as {uid} in {unit:?}"),
            Err(refused) => {
                assert!(protected, "as {uid} in {unit:?}: {}", refused.1.reason);
                assert!(refused.1.reason.contains("system service"), "{}", refused.1.reason);
            }
        }
    }
}

/// A sensor whose map of processes was full.
struct Unknowing;

impl ProcessClock for Unknowing {
    fn start_ns(&self, _: u32) -> Option<u64> {
        None
    }

    fn precision_ns(&self) -> u64 {
        1
    }
}

#[test]
fn a_live_process_that_the_sensor_does_not_know_is_told_by_proc() {
    let (sender, receipts) = mpsc::channel();
    let clock = Arc::new(|| Timestamp::from_nanos(0));
    let terminator = Terminator::new(Arc::new(Unknowing), clock, sender).unwrap();
    let bench = Bench { terminator, receipts, clock: ProcClock { precision_ns: 1 } };

    let mut innocent = sleeper();
    let mut plan = bench.plan(innocent.id(), Duration::ZERO);
    plan.target.image = Some((1, 1));
    let receipt = bench.act(plan);
    assert!(receipt.reason.contains("another process"), "{}", receipt.reason);
    let mut plan = bench.plan(innocent.id(), Duration::ZERO);
    let target = plan.target.entity_id;
    let boot = BootId::from_uuid(Uuid::from_u128(1));
    plan.target.entity_id = ProcessEntityId::new(boot, target.pid(), target.start_ns() - 50_000_000);
    let receipt = bench.act(plan);
    assert!(receipt.reason.contains("another process"), "{}", receipt.reason);
    assert_eq!(innocent.try_wait().unwrap(), None, "the innocent lives");

    let receipt = bench.act(bench.plan(innocent.id(), Duration::ZERO));
    assert_eq!(receipt.state, ReceiptState::Verified, "{}", receipt.reason);
    assert_eq!(innocent.wait().unwrap().signal(), Some(9));
}
