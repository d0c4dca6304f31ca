//! The account by kind under faults: a fork bomb before a stopped agent, and kills.

use std::process::Command;
use std::time::Duration;

use end_to_end::{Installation, assert_every_kind_balances};
use test_support::{tell, wait_for};

/// Forks that do nothing, from a shell, so many at a time: bounded, and gone when this returns.
fn fork_bomb(forks: u32) {
    let script = format!("i=0; while [ $i -lt {forks} ]; do (:); i=$((i+1)); done");
    let workers: Vec<_> =
        (0..2).map(|_| Command::new("/bin/sh").args(["-c", &script]).spawn().expect("a shell")).collect();
    for mut worker in workers {
        assert!(worker.wait().expect("a shell ends").success());
    }
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status().expect("kill runs");
    assert!(sent.success());
}

#[test]
fn a_fork_bomb_before_a_stopped_agent_and_a_killed_one_is_accounted_for_by_kind() {
    let Some(mut installation) = Installation::start() else { return };
    let forks = if std::env::var_os("RAMPART_LONG_TESTS").is_some() { 100_000 } else { 20_000 };
    fork_bomb(forks / 10);
    let pid = installation.agent.as_mut().expect("the agent runs").pid();
    signal(pid, "-STOP");
    fork_bomb(forks);
    signal(pid, "-CONT");
    // While it catches up it is killed, and catches up anew.
    let options = installation.kill_agent();
    fork_bomb(forks / 10);
    installation.start_agent(options);
    let limit = Duration::from_secs(180);
    let exits = u64::from(forks) * 2;
    let lost = wait_for("every fork's end is stored or counted", limit, || {
        let lost = assert_every_kind_balances(&installation.api, limit);
        let hosts = installation.api.get("/hosts").ok()?;
        let id = hosts["items"][0]["id"].as_str()?.to_owned();
        let account = installation.api.get(&format!("/hosts/{id}/account")).ok()?;
        let row = account["kinds"].as_array()?.iter().find(|row| row["kind"] == "process_exit")?.clone();
        (row["produced"].as_u64()? >= exits).then_some(lost)
    });
    tell(&format!("{exits} forks before a stopped agent; lost by kind: {lost:?}"));
}
