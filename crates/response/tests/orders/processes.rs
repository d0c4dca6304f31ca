//! Ending a tree, and making a process stand still.

use std::process::{Command, Stdio};
use std::time::Instant;

use event_model::ResponseMode;
use response::{Action, Guards, OrderState};

use crate::bench::{Owned, bench, command, of_rule, open_guarded, stat_of, target, wait_until};

pub(crate) fn state_of(pid: u32) -> Option<char> {
    stat_of(pid)?.chars().next()
}

pub(crate) fn lives(pid: u32) -> bool {
    state_of(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

#[test]
fn a_tree_ends_with_all_its_branches_and_nobody_else() {
    let mut bench = bench();
    let script = "sleep 611 & (sleep 612 & sleep 613 & wait) & wait";
    let root = Owned(Command::new("bash").args(["-c", script]).spawn().unwrap());
    let bystander = Owned(Command::new("sleep").arg("614").spawn().unwrap());
    let pid = root.0.id();
    wait_until("the tree of five", || below(pid).len() == 4);
    let branches = below(pid);

    let dry = response::Order { dry_run: true, ..command(Action::KillTree(target(pid))) };
    let planned = bench.responder.run(dry);
    assert_eq!(planned.state, OrderState::Planned, "{}", planned.reason);
    assert_eq!(planned.plan.len(), 6, "{:?}", planned.plan);
    assert!(lives(pid), "a dry run does nothing");

    let began = Instant::now();
    let receipt = bench.run(Action::KillTree(target(pid)));
    println!("a tree of five ended and verified in {} ms", began.elapsed().as_millis());
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    assert_eq!(receipt.result["ended"].as_array().unwrap().len(), 5);
    assert!(!branches.iter().any(|pid| lives(*pid)) && !lives(pid));
    assert!(lives(bystander.0.id()));
    assert_eq!(receipt.undo, None);
}

/// Whoever runs chooses its name, also one that is no text: it is listed, and ended with its tree.
#[test]
fn a_name_that_is_no_text_hides_nobody() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut bench = bench();
    // The kernel names a process by the last part of the path that was run, also where that is a link.
    let odd = bench.path("").join(std::ffi::OsStr::from_bytes(b"\xff) Z"));
    std::os::unix::fs::symlink(std::fs::canonicalize("/bin/bash").unwrap(), &odd).unwrap();
    let mut root = Command::new("bash");
    root.args(["-c", "\"$0\" -c 'sleep 621 & wait' & wait"]).arg(&odd);
    let root = Owned(root.spawn().unwrap());
    let pid = root.0.id();
    wait_until("the tree of three", || below(pid).len() == 2);
    let named =
        |pid: &u32| std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with(b"\xff) Z"));
    wait_until("its name", || below(pid).iter().any(named));
    let branches = below(pid);
    let named = *branches.iter().find(|pid| named(pid)).unwrap();

    let listed = bench.run(Action::ListProcesses {});
    let entry = listed.result.as_array().unwrap().iter().find(|one| one["pid"] == named).unwrap();
    assert_eq!((&entry["parent_pid"], entry["user_id"].is_null()), (&pid.into(), false), "{entry}");

    let receipt = bench.run(Action::KillTree(target(pid)));
    let left: Vec<&u32> = branches.iter().filter(|pid| lives(**pid)).collect();
    for pid in &left {
        let pid = rustix::process::Pid::from_raw(i32::try_from(**pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    assert!(left.is_empty(), "{left:?} live on: {}", receipt.reason);
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    assert_eq!(receipt.result["ended"].as_array().unwrap().len(), 3, "{}", receipt.result);
}

/// A service in the tree is spared with all that it started: otherwise whoever runs a session of sshd
/// below himself could never be ended.
#[test]
fn a_service_in_the_tree_is_spared_with_its_sessions_and_the_rest_ends() {
    let dir = tempfile::tempdir().unwrap();
    let service = dir.path().join("service");
    // By another process: what a test beside forks may hold on to a file that this one had open.
    assert!(Command::new("cp").arg("/bin/bash").arg(&service).status().unwrap().success());
    let mut guards = Guards::of_this_host();
    guards.protect([service.clone()]);
    let (mut responder, _) = open_guarded(dir.path(), guards);
    let script = format!("{0} -c 'sleep 617 & sleep 618 & wait' & sleep 619 & wait", service.display());
    let root = Owned(Command::new("bash").args(["-c", &script]).spawn().unwrap());
    let pid = root.0.id();
    wait_until("the tree of five", || below(pid).len() == 4);
    let runs = |pid: u32, what: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(what))
    };
    let tree = below(pid);
    let of_service = tree.iter().copied().find(|pid| runs(*pid, "service")).unwrap();
    let spared: Vec<u32> = below(of_service).into_iter().chain([of_service]).collect();

    let receipt = responder.run(command(Action::KillTree(target(pid))));
    let lived = spared.iter().all(|pid| lives(*pid));
    for pid in &spared {
        let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    assert!(lived, "the service and its sessions go on");
    assert_eq!(receipt.result["spared"].as_array().unwrap().len(), 3, "{}", receipt.result);
    assert!(!tree.iter().any(|pid| lives(*pid) && !spared.contains(pid)) && !lives(pid));
}

#[test]
fn what_forks_on_and_on_does_not_flee() {
    let mut bench = bench();
    // Each generation starts the next and ends; a marker file keeps it bounded in time.
    let marker = bench.path("run");
    std::fs::write(&marker, "").unwrap();
    let script = format!(
        "f() {{ while [ -e {0} ]; do sleep 0.01 & (sleep 0.02; true) & wait -n; done; }}; f & f & f & wait",
        marker.display()
    );
    let root = Owned(Command::new("bash").args(["-c", &script]).spawn().unwrap());
    wait_until("some branches", || below(root.0.id()).len() >= 6);
    let receipt = bench.responder.run(of_rule(Action::KillTree(target(root.0.id())), ResponseMode::Auto));
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    // Whoever fled would be told by the marker in its command line.
    let marker_text = marker.display().to_string();
    let fled = all_pids().into_iter().filter(|pid| {
        lives(*pid)
            && std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains(&marker_text))
    });
    assert_eq!(fled.count(), 0);
    std::fs::remove_file(marker).unwrap();
}

#[test]
fn a_suspended_process_stands_still_until_it_is_resumed() {
    let mut bench = bench();
    let child = Owned(Command::new("sleep").arg("615").stdout(Stdio::null()).spawn().unwrap());
    let pid = child.0.id();
    let receipt = bench.run(Action::SuspendProcess(target(pid)));
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    assert_eq!(state_of(pid), Some('T'));
    let receipt = bench.run(receipt.undo.unwrap());
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    assert_ne!(state_of(pid), Some('T'));
    let receipt = bench.run(Action::TerminateProcess(target(pid)));
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    assert!(!lives(pid));
}

pub(crate) fn all_pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

pub(crate) fn below(root: u32) -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> { stat_of(pid)?.split_ascii_whitespace().nth(1)?.parse().ok() };
    let all: Vec<(u32, u32)> = all_pids().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(one) = next.pop() {
        for (pid, _) in all.iter().filter(|(_, parent)| *parent == one) {
            found.push(*pid);
            next.push(*pid);
        }
    }
    found
}
