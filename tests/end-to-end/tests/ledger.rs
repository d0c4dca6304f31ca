//! The account by kind under faults: a fork bomb before a stopped agent, kills, a full disk.
//!
//! The acts are counted by who does them: of each kind the agent must have produced at least those, whatever became
//! of them, and all that it produced is stored or counted as lost.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use end_to_end::{Installation, assert_every_kind_balances};
use test_support::{
    AgentOptions, AgentProcess, Api, ServerProcess, SmallDisk, can_load_bpf, skip, tell, wait_for,
};

/// Acts by the kind of their event.
#[derive(Debug, Default)]
struct Made(BTreeMap<&'static str, u64>);

impl Made {
    fn add(&mut self, kind: &'static str, acts: u64) {
        *self.0.entry(kind).or_default() += acts;
    }

    /// So many of each: files made and removed, connections opened and taken in, programs run.
    fn work(&mut self, folder: &Path, times: u64) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        for number in 0..times {
            let path = folder.join(format!("made-{number}"));
            std::fs::write(&path, "x").expect("a file");
            std::fs::remove_file(&path).expect("it is there");
            let connection = TcpStream::connect(address).expect("a connection");
            drop(listener.accept().expect("the same from the other side"));
            drop(connection);
            let status = Command::new("/bin/true").stdin(Stdio::null()).status();
            assert!(status.expect("it starts").success());
        }
        for kind in ["file_create", "file_delete", "network_connect", "network_accept"] {
            self.add(kind, times);
        }
        for kind in ["process_start", "process_exit"] {
            self.add(kind, times);
        }
    }

    /// Waits until the server's account has all of it, and each kind balances; what was lost, by kind.
    fn wait_until_accounted_for(&self, api: &Api, limit: Duration) -> BTreeMap<String, u64> {
        wait_for(&format!("{self:?} is stored or counted"), limit, || {
            let lost = assert_every_kind_balances(api, limit);
            let hosts = api.get("/hosts").ok()?;
            let id = hosts["items"][0]["id"].as_str()?.to_owned();
            let account = api.get(&format!("/hosts/{id}/account")).ok()?;
            let rows = account["kinds"].as_array()?;
            let produced = |kind: &str| rows.iter().find(|row| row["kind"] == kind)?["produced"].as_u64();
            self.0.iter().all(|(kind, acts)| produced(kind).is_some_and(|own| own >= *acts)).then_some(lost)
        })
    }
}

/// Forks that do nothing, from two shells, so many from each: bounded, and gone when this returns.
fn fork_bomb(forks: u32, made: &mut Made) {
    let script = format!("i=0; while [ $i -lt {forks} ]; do (:); i=$((i+1)); done");
    let workers: Vec<_> =
        (0..2).map(|_| Command::new("/bin/sh").args(["-c", &script]).spawn().expect("a shell")).collect();
    for mut worker in workers {
        assert!(worker.wait().expect("a shell ends").success());
    }
    // The shells end, too.
    made.add("process_exit", 2 * u64::from(forks) + 2);
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status().expect("kill runs");
    assert!(sent.success());
}

#[test]
fn a_fork_bomb_before_a_stopped_agent_and_a_killed_one_is_accounted_for_by_kind() {
    let Some(mut installation) = Installation::start() else { return };
    let forks = if std::env::var_os("RAMPART_LONG_TESTS").is_some() { 100_000 } else { 20_000 };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut made = Made::default();
    fork_bomb(forks / 10, &mut made);
    made.work(folder.path(), 100);
    let pid = installation.agent.as_mut().expect("the agent runs").pid();
    signal(pid, "-STOP");
    made.work(folder.path(), 100);
    fork_bomb(forks, &mut made);
    made.work(folder.path(), 100);
    signal(pid, "-CONT");
    // While it catches up it is killed, and catches up anew.
    let options = installation.kill_agent();
    fork_bomb(forks / 10, &mut made);
    made.work(folder.path(), 100);
    installation.start_agent(options);
    let lost = made.wait_until_accounted_for(&installation.api, Duration::from_secs(180));
    tell(&format!("{made:?}, most of it before a stopped agent; lost by kind: {lost:?}"));
}

#[test]
fn what_is_done_while_the_disk_is_full_is_stored_or_counted_by_kind() {
    if !can_load_bpf() {
        return skip("needs root and /sys/kernel/btf/vmlinux");
    }
    let Some(disk) = SmallDisk::mount(8 << 10) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = ServerProcess::start(folder.path());
    let api = server.api("administrator");
    let agent =
        AgentProcess::start(AgentOptions { state: disk.path().join("agent"), arguments: server.enrolling() });
    let mut made = Made::default();
    made.work(folder.path(), 100);
    disk.fill("filler");
    made.work(folder.path(), 300);
    std::fs::remove_file(disk.path().join("filler")).expect("it was made");
    made.work(folder.path(), 100);
    let lost = made.wait_until_accounted_for(&api, Duration::from_secs(180));
    tell(&format!("{made:?}, most of it on a full disk; lost by kind: {lost:?}"));
    agent.stop();
}
