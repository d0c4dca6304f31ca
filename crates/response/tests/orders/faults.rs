//! Every action fails, and the agent ends, at each of its steps: no receipt says success
//! without it, and nothing is left half done.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use response::{
    Action, AddressTarget, Checkpoint, EvidenceRequest, Failure, Isolation, Item, Order, OrderState,
    ServiceTarget,
};

use crate::bench::{Owned, command, open, rounds, target, wait_until};
use crate::files::file;
use crate::network::in_namespace;
use crate::processes::{below, lives, state_of};

/// A fault at the step of that number, counted from 0; none if there are fewer.
fn fault_at(number: usize) -> (Checkpoint, Arc<Mutex<Vec<String>>>) {
    let (passed, told) = (AtomicUsize::new(0), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&told);
    let checkpoint: Checkpoint = Box::new(move |step: &str| {
        seen.lock().unwrap().push(step.to_owned());
        if passed.fetch_add(1, Ordering::Relaxed) == number {
            return Err(Failure::System { doing: step.to_owned(), error: "injected".to_owned() });
        }
        Ok(())
    });
    (checkpoint, told)
}

/// What an action is tried on, and whether its end state is there.
struct Case {
    action: Action,
    reached: Box<dyn Fn() -> bool>,
    /// What nobody would put right any more.
    is_half_done: Box<dyn Fn() -> bool>,
    /// Kept until the case is over.
    _kept: Option<Box<dyn std::any::Any>>,
}

/// A file outside of the test's own folder, removed with the case.
struct Outside(PathBuf);

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn never() -> Box<dyn Fn() -> bool> {
    Box::new(|| false)
}

fn process_case(make: impl FnOnce(response::ProcessTarget) -> Action, wanted: &'static str) -> Case {
    let child = Owned(Command::new("sleep").arg("618").spawn().unwrap());
    let pid = child.0.id();
    let state = move || -> String {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1[..1].to_owned()
    };
    let reached = Box::new(move || wanted.contains(&state()));
    Case { action: make(target(pid)), reached, is_half_done: never(), _kept: Some(Box::new(child)) }
}

/// A process with children of its own: all of them end, or all go on.
struct Tree {
    _root: Owned,
    below: Vec<u32>,
}

impl Drop for Tree {
    fn drop(&mut self) {
        for pid in self.below.iter().filter(|pid| lives(**pid)) {
            let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn tree_case() -> Case {
    let script = "sleep 619 & (sleep 620 & wait) & wait";
    let root = Owned(Command::new("bash").args(["-c", script]).spawn().unwrap());
    let pid = root.0.id();
    wait_until("the tree of four", || below(pid).len() == 3);
    let below = below(pid);
    let all: Vec<u32> = below.iter().copied().chain([pid]).collect();
    let stand = all.clone();
    Case {
        action: Action::KillTree(target(pid)),
        reached: Box::new(move || !all.iter().any(|pid| lives(*pid))),
        is_half_done: Box::new(move || stand.iter().any(|pid| state_of(*pid) == Some('T'))),
        _kept: Some(Box::new(Tree { _root: root, below })),
    }
}

fn quarantine_case(dir: &Path) -> Case {
    let path = dir.join("evil");
    fs::write(&path, "content").unwrap();
    let action = Action::QuarantineFile(file(&path));
    Case { action, reached: Box::new(move || !path.exists()), is_half_done: never(), _kept: None }
}

fn restore_case(dir: &Path) -> Case {
    let path = dir.join("evil");
    fs::write(&path, "content").unwrap();
    let (mut responder, _) = open(dir, None);
    let receipt = responder.run(command(Action::QuarantineFile(file(&path))));
    let reached = Box::new(move || fs::read(&path).is_ok_and(|content| content == b"content"));
    Case { action: receipt.undo.unwrap(), reached, is_half_done: never(), _kept: None }
}

fn nft_has(text: &str) -> bool {
    let output = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains(text)
}

fn block_case() -> Case {
    let address = AddressTarget { address: "192.0.2.7".parse().unwrap(), ttl_seconds: 600 };
    let _ = Command::new("nft").args(["flush", "ruleset"]).status();
    Case {
        action: Action::BlockAddress(address),
        reached: Box::new(|| nft_has("192.0.2.7")),
        is_half_done: never(),
        _kept: None,
    }
}

fn isolate_case() -> Case {
    let isolation = Isolation { ttl_seconds: 600, keep: Vec::new(), release_hash: None };
    let _ = Command::new("nft").args(["flush", "ruleset"]).status();
    Case {
        action: Action::IsolateHost(isolation),
        reached: Box::new(|| nft_has("rampart_isolation")),
        is_half_done: never(),
        _kept: None,
    }
}

fn resume_case(dir: &Path) -> Case {
    let case = process_case(Action::SuspendProcess, "RSD");
    let (mut responder, _) = open(dir, None);
    let receipt = responder.run(command(case.action));
    Case { action: receipt.undo.unwrap(), ..case }
}

/// What lifts a block or an isolation that is in force.
fn lift_case(dir: &Path, case: Case, text: &'static str) -> Case {
    let (mut responder, _) = open(dir, None);
    let receipt = responder.run(command(case.action));
    Case { action: receipt.undo.unwrap(), reached: Box::new(move || !nft_has(text)), ..case }
}

fn evidence_case(dir: &Path) -> Case {
    let folder = dir.join("responses/evidence");
    let reached = Box::new(move || {
        let has_tar = |entry: fs::DirEntry| entry.path().extension().is_some_and(|end| end == "tar");
        fs::read_dir(&folder).is_ok_and(|entries| entries.flatten().any(has_tar))
    });
    Case {
        action: Action::CollectEvidence(EvidenceRequest::default()),
        reached,
        is_half_done: never(),
        _kept: None,
    }
}

fn delete_case(dir: &Path) -> Case {
    let path = dir.join("evil");
    fs::write(&path, "content").unwrap();
    let (mut responder, _) = open(dir, None);
    let item = responder.run(command(Action::QuarantineFile(file(&path)))).id;
    let sealed = dir.join(format!("responses/vault/{item}.sealed"));
    assert!(sealed.exists());
    let reached = Box::new(move || !sealed.exists());
    Case { action: Action::DeleteQuarantinedFile(Item { item }), reached, is_half_done: never(), _kept: None }
}

/// A comment only: it does nothing as long as it is there.
fn task_case() -> Case {
    let path = PathBuf::from(format!("/etc/cron.d/rampart-test-{}", uuid::Uuid::new_v4()));
    fs::write(&path, "# a test of rampart\n").unwrap();
    let (action, kept) = (Action::DeleteScheduledTask(file(&path)), Outside(path.clone()));
    Case {
        action,
        reached: Box::new(move || !path.exists()),
        is_half_done: never(),
        _kept: Some(Box::new(kept)),
    }
}

fn service_case() -> Case {
    let unit = format!("rampart-test-{}.service", uuid::Uuid::new_v4());
    let path = Path::new("/etc/systemd/system").join(&unit);
    fs::write(&path, "[Service]\nExecStart=/bin/true\n").unwrap();
    let (action, kept) = (Action::DeleteService(ServiceTarget { unit }), Outside(path.clone()));
    Case {
        action,
        reached: Box::new(move || !path.exists()),
        is_half_done: never(),
        _kept: Some(Box::new(kept)),
    }
}

fn restore_service_case(dir: &Path) -> Case {
    let case = service_case();
    let Action::DeleteService(ServiceTarget { unit }) = &case.action else { unreachable!() };
    let path = Path::new("/etc/systemd/system").join(unit);
    let (mut responder, _) = open(dir, None);
    let receipt = responder.run(command(case.action));
    Case { action: receipt.undo.unwrap(), reached: Box::new(move || path.exists()), ..case }
}

fn allow_case(dir: &Path) -> Case {
    let (mut responder, _) = open(dir, None);
    let receipt = responder.run(command(Action::StopResponses {}));
    let file = dir.join("responses/stopped");
    Case {
        action: receipt.undo.unwrap(),
        reached: Box::new(move || !file.exists()),
        is_half_done: never(),
        _kept: None,
    }
}

/// What only looks has no end state but its list.
fn look_case(action: Action) -> Case {
    Case { action, reached: Box::new(|| true), is_half_done: never(), _kept: None }
}

fn cases(name: &str, dir: &Path) -> Case {
    match name {
        "terminate" => process_case(Action::TerminateProcess, "ZX"),
        "kill_tree" => tree_case(),
        "suspend" => process_case(Action::SuspendProcess, "T"),
        "quarantine" => quarantine_case(dir),
        "restore" => restore_case(dir),
        "resume" => resume_case(dir),
        "block" => block_case(),
        "unblock" => lift_case(dir, block_case(), "192.0.2.7"),
        "isolate" => isolate_case(),
        "release" => lift_case(dir, isolate_case(), "rampart_isolation"),
        "evidence" => evidence_case(dir),
        "delete_quarantined" => delete_case(dir),
        "task" => task_case(),
        "service" => service_case(),
        "restore_service" => restore_service_case(dir),
        "allow" => allow_case(dir),
        "processes" => look_case(Action::ListProcesses {}),
        "connections" => look_case(Action::ListConnections {}),
        "switch" => {
            let file = dir.join("responses/stopped");
            let reached = Box::new(move || file.exists());
            Case { action: Action::StopResponses {}, reached, is_half_done: never(), _kept: None }
        }
        other => panic!("no case {other}"),
    }
}

const NAMES: &[&str] = &[
    "terminate",
    "kill_tree",
    "suspend",
    "resume",
    "quarantine",
    "restore",
    "block",
    "unblock",
    "isolate",
    "release",
    "evidence",
    "switch",
    "allow",
    "delete_quarantined",
    "task",
    "service",
    "restore_service",
    "processes",
    "connections",
];

/// Some 120 runs are one round of all actions; the long tests make a thousand of them and more.
const LONG_ROUNDS: usize = 15;

/// Folders that are not everywhere.
fn is_possible(name: &str) -> bool {
    match name {
        "task" => Path::new("/etc/cron.d").is_dir(),
        "service" | "restore_service" => Path::new("/etc/systemd/system").is_dir(),
        _ => true,
    }
}

#[test]
fn a_fault_at_any_step_is_never_told_as_success() {
    in_namespace(|| {
        let mut runs = 0;
        let names = NAMES.iter().filter(|name| is_possible(name));
        for name in std::iter::repeat_n(names, rounds(1, LONG_ROUNDS)).flatten() {
            let mut without_fault = false;
            for number in 0..40 {
                let dir = tempfile::tempdir().unwrap();
                let root = dir.path().canonicalize().unwrap();
                let case = cases(name, &root);
                let (checkpoint, told) = fault_at(number);
                let (mut responder, _) = open(&root, Some(checkpoint));
                let receipt = responder.run(command(case.action));
                runs += 1;
                let steps = told.lock().unwrap().clone();
                let reached = (case.reached)();
                let about = format!("{name}, fault {number} of {steps:?}: {}", receipt.reason);
                if receipt.state == OrderState::Verified {
                    assert!(reached, "success without it: {about}");
                }
                let only_noting = steps.get(number).is_some_and(|step| step == "journal: end");
                if steps.len() > number && !only_noting && *name != "block" {
                    assert_eq!(receipt.state, OrderState::Failed, "{about}");
                }
                if matches!(*name, "quarantine") && receipt.state == OrderState::Failed && !reached {
                    assert_eq!(fs::read(root.join("evil")).unwrap(), b"content", "{about}");
                }
                assert!(!(case.is_half_done)(), "left half done: {about}");
                if steps.len() <= number {
                    assert_eq!(receipt.state, OrderState::Verified, "{about}");
                    without_fault = true;
                    break;
                }
            }
            assert!(without_fault, "{name} has more steps than were tried");
        }
        assert!(rounds(0, 1) == 0 || runs >= 1_000, "{runs} runs are not the thousand that were asked for");
        println!("{runs} runs with a fault at each step, 0 false successes");
    });
}

const CRASH: &str = "RAMPART_TEST_CRASH";

/// Not a test by itself: the one below starts it, and it ends itself without a word.
#[test]
fn crashes_at_a_step() {
    let Some(told) = std::env::var_os(CRASH) else { return };
    let told = told.into_string().unwrap();
    let (number, dir) = told.split_once(' ').unwrap();
    let (number, dir): (usize, _) = (number.parse().unwrap(), Path::new(dir));
    let order: Order = serde_json::from_slice(&fs::read(dir.join("order.json")).unwrap()).unwrap();
    let passed = AtomicUsize::new(0);
    let checkpoint: Checkpoint = Box::new(move |_: &str| {
        if passed.fetch_add(1, Ordering::Relaxed) == number {
            std::process::abort();
        }
        Ok(())
    });
    let (mut responder, _) = open(dir, Some(checkpoint));
    let receipt = responder.run(order);
    fs::write(dir.join("done"), receipt.state.as_str()).unwrap();
}

#[test]
fn after_a_crash_at_any_step_the_next_agent_knows_what_is_so() {
    in_namespace(|| {
        let mut runs = 0;
        let names = [
            "terminate",
            "kill_tree",
            "suspend",
            "resume",
            "quarantine",
            "restore",
            "delete_quarantined",
            "task",
            "block",
            "unblock",
            "isolate",
            "release",
            "evidence",
            "service",
            "restore_service",
        ];
        for name in names.into_iter().filter(|name| is_possible(name)) {
            for number in 0..40 {
                let dir = tempfile::tempdir().unwrap();
                let root = dir.path().canonicalize().unwrap();
                let case = cases(name, &root);
                let order = command(case.action);
                fs::write(root.join("order.json"), serde_json::to_vec(&order).unwrap()).unwrap();
                let status = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "faults::crashes_at_a_step", "--test-threads=1"])
                    .env(CRASH, format!("{number} {}", root.display()))
                    .output()
                    .unwrap()
                    .status;
                if status.success() {
                    assert_eq!(fs::read_to_string(root.join("done")).unwrap(), "verified", "{name}");
                    assert!(number > 2, "{name} has no steps");
                    break;
                }
                runs += 1;
                let (mut next, found) = open(&root, None);
                let reached = (case.reached)();
                assert!(!(case.is_half_done)(), "{name} {number}: left half done");
                for receipt in &found.receipts {
                    let verified = receipt.state == OrderState::Verified;
                    assert_eq!(receipt.id, order.id);
                    assert!(!verified || reached, "{name} {number}: {}", receipt.reason);
                    assert!(receipt.reason.contains("the agent ended while acting"), "{}", receipt.reason);
                }
                if name == "quarantine" && !reached {
                    assert_eq!(fs::read(root.join("evil")).unwrap(), b"content", "{name} {number}");
                }
                let beside = fs::read_dir(&root).unwrap().flatten();
                let aside =
                    beside.filter(|entry| entry.file_name().to_string_lossy().starts_with(".rampart"));
                assert_eq!(aside.count(), 0, "{name} {number}: nothing is left aside");
                // What was begun is not begun again.
                if let Some(receipt) = found.receipts.first() {
                    assert_eq!(next.run(order), *receipt);
                }
            }
        }
        println!("{runs} crashes, 0 false successes, nothing half done");
    });
}
