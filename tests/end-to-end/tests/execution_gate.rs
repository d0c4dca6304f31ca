//! The gate before executions, with the real agent and the kernel: what a rule forbids does not run one instruction,
//! and whoever hangs (agent or keeper) holds nobody up for long.
//!
//! All on a file system of the test's own: no program of the host waits for it.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::ffi::CString;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use test_support::{AgentOptions, AgentProcess, can_load_bpf, copy_program, skip, wait_for};

const PATIENCE: Duration = Duration::from_secs(120);
/// So often a verdict may be late on a busy host.
const TRIES: u32 = 5;

/// A tmpfs of the test's own.
struct Place {
    dir: tempfile::TempDir,
    mounted: PathBuf,
}

impl Place {
    fn new() -> Option<Self> {
        if !can_load_bpf() || !has_execution_permission_events() {
            skip(
                "the kernel asks nobody before executions here (CONFIG_FANOTIFY_ACCESS_PERMISSIONS), or this is not root",
            );
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mounted = dir.path().join("mounted");
        fs::create_dir(&mounted).unwrap();
        let status = Command::new("mount").args(["-t", "tmpfs", "gate-test"]).arg(&mounted).status().unwrap();
        assert!(status.success());
        fs::create_dir(dir.path().join("rules")).unwrap();
        let place = Self { dir, mounted };
        copy_program("/bin/touch", place.file("tool"), "");
        copy_program("/bin/cp", place.file("by-hash"), "marked");
        fs::write(place.file("script"), "#!/bin/sh -u\ntouch \"$2\"\n").unwrap();
        Command::new("chmod").arg("+x").arg(place.file("script")).status().unwrap();
        Some(place)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.mounted.join(name)
    }

    fn output(&self) -> PathBuf {
        self.dir.path().join("output.ndjson")
    }

    fn rule(&self, id: &str, condition: &str) {
        let rule = json!({
            "id": id, "name": id, "description": "Test", "type": "process", "severity": "high", "enabled": true,
            "mode": "auto", "conditions": [condition], "actions": ["alert", "terminate_process"],
        });
        fs::write(self.dir.path().join("rules").join(format!("{id}.json")), rule.to_string()).unwrap();
    }

    fn agent(&self) -> AgentProcess {
        let argument = |flag: &str, path: &Path| format!("-{flag}={}", path.display());
        AgentProcess::start(AgentOptions {
            state: self.dir.path().join("state"),
            arguments: vec![
                "-standalone".to_owned(),
                "-cpulimit=0".to_owned(),
                argument("rules", &self.dir.path().join("rules")),
                argument("output", &self.output()),
                argument("execgate", &self.mounted),
            ],
        })
    }

    fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.output()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn gate_event(&self, action: &str) -> Option<Value> {
        self.records().into_iter().find(|one| is_of_gate(one) && one["event"]["action"] == action)
    }

    /// Runs it; `None` where it was not let.
    fn run(&self, program: &str, arguments: &[&str]) -> Option<Output> {
        match Command::new(self.file(program)).args(arguments).current_dir(self.dir.path()).output() {
            Ok(output) => Some(output),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
                None
            }
        }
    }

    /// Programs that ran before they were judged, as far as it is told.
    fn told_late(&self) -> u64 {
        let late = |one: &Value| is_of_gate(one) && one["event"]["action"] == "late";
        let records = self.records();
        records
            .iter()
            .filter(|one| late(one))
            .filter_map(|one| one["rampart"]["event"]["count"].as_u64())
            .sum()
    }

    /// That what is tried is refused (true). What is not must be told as late, and is tried again.
    fn is_kept(&self, what: &str, mut try_it: impl FnMut() -> bool) {
        let kept = (0..TRIES).any(|_| {
            let before = self.told_late();
            let refused = try_it();
            if !refused {
                let told = || (self.told_late() > before).then_some(());
                wait_for(&format!("{what}: ran, so it is told as late"), PATIENCE, told);
            }
            refused
        });
        assert!(kept, "{what}: late each time");
    }

    /// Runs it until it is not let: the gate is shut.
    fn wait_until_shut(&self, program: &str, arguments: &[&str]) {
        wait_for("the gate is shut", PATIENCE, || self.run(program, arguments).is_none().then_some(()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.mounted).status().unwrap();
    }
}

fn has_execution_permission_events() -> bool {
    // The keeper says by itself what does not work; this only tells a kernel without them from a fault.
    fs::metadata("/proc/sys/fs/fanotify").is_ok()
}

/// Not of a start: those before the gate was shut are judged as ever.
fn is_of_gate(record: &Value) -> bool {
    record["rampart"]["event"]["type"] == "execution_gate"
}

/// The process that keeps the gate of an agent.
fn keeper(agent: &mut AgentProcess) -> Option<Pid> {
    let pid = agent.pid();
    let children = fs::read_dir(format!("/proc/{pid}/task"))
        .ok()?
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let children: Vec<String> = children.collect();
    children.iter().flat_map(|list| list.split_ascii_whitespace()).find_map(|child| {
        let line = fs::read_to_string(format!("/proc/{child}/cmdline")).ok()?;
        line.contains("keep-execution-gate").then(|| Pid::from_raw(child.parse().ok()?)).flatten()
    })
}

#[test]
fn what_a_rule_forbids_does_not_run_one_instruction() {
    let Some(place) = Place::new() else { return };
    place.rule("no-bad", "name = 'tool' and command_line contains 'bad'");
    place.rule("no-library", "name = 'tool' and env contains 'LD_LIBRARY_PATH=/forbidden'");
    place.rule("no-script", "name in ('sh', 'dash') and command_line contains 'forbidden'");
    let agent = place.agent();
    let bad = place.file("made-by-bad");
    let bad_text = bad.to_str().unwrap();
    place.wait_until_shut("tool", &[bad_text]);
    if bad.exists() {
        // Made before the gate was shut.
        fs::remove_file(&bad).unwrap();
    }
    // Sixty refusals of one program by one rule in a minute are the limit of all response.
    for _ in 0..40 {
        place.is_kept("the tool", || {
            let refused = place.run("tool", &[bad_text]).is_none();
            // Not made where it was refused.
            refused == fs::remove_file(&bad).is_err() && refused
        });
    }
    let good = place.file("good");
    assert!(place.run("tool", &[good.to_str().unwrap()]).unwrap().status.success() && good.exists());

    // By the environment that it would have, not by that of who starts it.
    let with_library =
        |path: &str| Command::new(place.file("tool")).arg("--version").env("LD_LIBRARY_PATH", path).output();
    place.is_kept("with a library", || {
        with_library("/forbidden").is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    });
    assert!(with_library("/permitted").unwrap().status.success());

    // A script is judged as what its interpreter will be given.
    let by_script = place.file("by-script");
    let by_script = by_script.to_str().unwrap();
    place.is_kept("the script", || {
        let refused = place.run("script", &["forbidden", by_script]).is_none();
        refused == fs::remove_file(by_script).is_err() && refused
    });
    assert!(place.run("script", &["permitted", by_script]).unwrap().status.success());
    assert!(Path::new(by_script).exists());

    let event = wait_for("the event", PATIENCE, || {
        place
            .records()
            .into_iter()
            .find(|one| one["event"]["action"] == "denied" && one["event"]["reason"] == "no-script")
    });
    assert_eq!(event["event"]["outcome"], "failure", "{event}");
    let line = event["rampart"]["target"]["command_line"].as_str().unwrap();
    let interpreter = line.split(' ').next().unwrap();
    assert_eq!(interpreter, "/bin/sh", "{event}");
    assert!(
        line.ends_with(&format!("-u {} forbidden {by_script}", place.file("script").display())),
        "{line}"
    );
    let alert = wait_for("the detection", PATIENCE, || {
        place.records().into_iter().find(|one| {
            one["rule"]["id"] == "no-bad"
                && one["event"]["kind"] == "alert"
                && one["event"]["action"] == "denied"
        })
    });
    let id = alert["rampart"]["detection"]["id"].as_str().unwrap().to_owned();
    let receipt = wait_for("the receipt", PATIENCE, || {
        place.records().into_iter().find(|one| one["rampart"]["response"]["detection_id"] == id.as_str())
    });
    assert_eq!(receipt["rampart"]["response"]["state"], "verified", "{receipt}");
    agent.stop();
    assert!(place.run("tool", &[bad_text]).is_some(), "without an agent nobody is kept from anything");
}

#[test]
fn no_name_no_length_and_no_new_mount_leads_past_the_gate() {
    let Some(place) = Place::new() else { return };
    place.rule("no-bad", "name = 'tool' and command_line contains 'bad'");
    let agent = place.agent();
    place.wait_until_shut("tool", &["bad"]);
    let bad = place.file("made-by-bad");
    let by_shell = |script: &str| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script, "sh"]).arg(&bad).current_dir(&place.mounted).output().unwrap()
    };
    // Names that say nothing, or lead nowhere for anybody else.
    for script in [
        "exec 3<tool; exec /proc/self/fd/3 \"$1\"",
        "exec /proc/self/cwd/tool \"$1\"",
        "exec /proc/thread-self/cwd/./tool \"$1\"",
        "exec ./tool \"$1\"",
        "ln -sf tool link; exec ./link \"$1\"",
    ] {
        place.is_kept(script, || {
            let output = by_shell(script);
            let refused = !output.status.success();
            let is_said = String::from_utf8_lossy(&output.stderr).contains("not permitted");
            assert!(is_said || !refused, "{script}: {output:?}");
            refused == fs::remove_file(&bad).is_err() && refused
        });
    }
    // An argument that is cut is judged by its beginning.
    let long = format!("bad{}", "x".repeat(20_000));
    place.is_kept("a long argument", || place.run("tool", &[&long]).is_none());
    // What comes with a script comes with none that was refused.
    let script = place.file("script-of-tool");
    fs::write(&script, format!("#!{} bad\n", place.file("tool").display())).unwrap();
    Command::new("chmod").arg("+x").arg(&script).status().unwrap();
    let tool = fs::File::open(place.file("tool")).unwrap();
    place.is_kept("a script, then its interpreter", || {
        let refused = match script_then_interpreter(&place, &script, &tool, &bad) {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
                true
            }
        };
        refused == fs::remove_file(&bad).is_err() && refused
    });
    drop(tool);

    // Another file system at the same place, by the device number that the first one had.
    let status = Command::new("umount").arg("--lazy").arg(&place.mounted).status().unwrap();
    assert!(status.success());
    let status =
        Command::new("mount").args(["-t", "tmpfs", "gate-test"]).arg(&place.mounted).status().unwrap();
    assert!(status.success());
    copy_program("/bin/touch", place.file("tool"), "");
    place.wait_until_shut("tool", &["bad"]);
    agent.stop();
}

/// Executes a script, and where that is refused its interpreter: by the same thread, with the same pointers, by a name
/// that nobody else follows.
#[allow(unsafe_code, reason = "nothing else executes twice with the same pointers")]
fn script_then_interpreter(
    place: &Place,
    script: &Path,
    interpreter: &fs::File,
    argument: &Path,
) -> io::Result<Output> {
    let mut name = [0_u8; 4_096];
    let script = script.as_os_str().as_bytes();
    name[..script.len()].copy_from_slice(script);
    let argument = CString::new(argument.as_os_str().as_bytes()).unwrap();
    let number = interpreter.as_raw_fd();
    let mut command = Command::new("/bin/false");
    command.current_dir(&place.mounted);
    let instead = move || {
        let arguments = [c"tool".as_ptr(), argument.as_ptr(), std::ptr::null()];
        let environment = [std::ptr::null()];
        // SAFETY: the lists end with null, the texts with zero bytes, and all of them outlive the call.
        let execute = |name: &[u8]| unsafe {
            libc::execve(name.as_ptr().cast(), arguments.as_ptr(), environment.as_ptr());
            io::Error::last_os_error()
        };
        let refused = execute(&name);
        if refused.kind() != ErrorKind::PermissionDenied {
            return Err(refused);
        }
        name.fill(0);
        write!(&mut name[..], "/proc/{}/fd/{number}", std::process::id())?;
        Err(execute(&name))
    };
    // SAFETY: between fork(2) and execve(2) nothing is allocated, and no lock taken.
    unsafe { command.pre_exec(instead) };
    command.output()
}

#[test]
fn a_lease_on_a_program_holds_nobody_up() {
    let Some(place) = Place::new() else { return };
    place.rule("no-bad", "name = 'tool' and command_line contains 'bad'");
    let leased = place.file("leased");
    copy_program("/bin/touch", &leased, "leased");
    let mut agent = place.agent();
    place.wait_until_shut("tool", &["bad"]);

    let held = wait_for("a lease", PATIENCE, || hold_lease(&leased));
    let begun = Instant::now();
    let error = Command::new(&leased).arg("--version").output().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    place.is_kept("others are judged as ever", || place.run("tool", &["bad"]).is_none());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(held);
    // A child that another test is just starting may have the file, and with it the lease, for a moment longer.
    let runs = || Command::new(&leased).arg("--version").output().ok().filter(|run| run.status.success());
    wait_for("it runs again", PATIENCE, runs);
    wait_for("what nobody could open is told", PATIENCE, || place.gate_event("unopened"));
    assert!(keeper(&mut agent).is_some() && place.gate_event("down").is_none(), "the keeper goes on");
    agent.stop();
}

/// A lease on the file, which whoever opens it must wait for, as long as what is returned lives. Where others have it
/// open there is none.
#[allow(unsafe_code, reason = "rustix has no leases")]
fn hold_lease(path: &Path) -> Option<fs::File> {
    let file = fs::File::open(path).unwrap();
    // SAFETY: the calls take numbers, and the descriptor lives. SIGIO asks for the lease, and would end this process.
    let held = unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
        libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
    };
    (held == 0).then_some(file)
}

#[test]
fn rules_and_lists_change_what_is_let_through() {
    let Some(place) = Place::new() else { return };
    let hash = Command::new("sha256sum").arg(place.file("by-hash")).output().unwrap();
    let hash = String::from_utf8(hash.stdout).unwrap().split(' ').next().unwrap().to_owned();
    let agent = place.agent();
    assert!(place.run("by-hash", &["--version"]).is_some());
    place.rule("by-hash", &format!("sha256 = '{hash}'"));
    place.wait_until_shut("by-hash", &["--version"]);
    assert!(place.run("tool", &["--version"]).unwrap().status.success());
    fs::remove_file(place.dir.path().join("rules/by-hash.json")).unwrap();
    wait_for("the gate is open", PATIENCE, || place.run("by-hash", &["--version"]));
    agent.stop();
}

#[test]
fn an_agent_or_a_keeper_that_hangs_holds_nobody_up_for_long() {
    let Some(place) = Place::new() else { return };
    place.rule("no-bad", "name = 'tool' and command_line contains 'bad'");
    let mut agent = place.agent();
    place.wait_until_shut("tool", &["bad"]);

    // The agent stands still: each program waits for the deadline, and after some of them nobody is asked any more.
    let pid = Pid::from_raw(agent.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let begun = Instant::now();
    for _ in 0..40 {
        assert!(place.run("tool", &["--version"]).unwrap().status.success());
    }
    let held_up = begun.elapsed();
    kill_process(pid, Signal::CONT).unwrap();
    assert!(held_up < Duration::from_secs(60), "40 programs took {held_up:?}");
    let late = wait_for("what ran unjudged is told", PATIENCE, || place.gate_event("late"));
    assert!(late["rampart"]["event"]["count"].as_u64().unwrap() > 0, "{late}");
    wait_for("the suspension is told", PATIENCE, || place.gate_event("suspended"));
    place.wait_until_shut("tool", &["bad"]);

    // The keeper stands still: the agent ends it, and starts another.
    let stopped = wait_for("the keeper", PATIENCE, || keeper(&mut agent));
    kill_process(stopped, Signal::STOP).unwrap();
    assert!(place.run("tool", &["--version"]).unwrap().status.success());
    wait_for("the fault is told", PATIENCE, || place.gate_event("down"));
    place.wait_until_shut("tool", &["bad"]);
    assert!(wait_for("another keeper", PATIENCE, || keeper(&mut agent)) != stopped);

    // The agent is gone at once: nobody is asked.
    agent.kill();
    assert!(place.run("tool", &["--version"]).unwrap().status.success());
    wait_for("the gate is open", PATIENCE, || place.run("tool", &["bad-as-it-is"]));
    // What it left in the kernel goes with another one's end.
    place.agent().stop();
}
