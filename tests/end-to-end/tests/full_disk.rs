//! A full disk where the agent keeps its state: it must not be enough to fill a disk and kill the agent.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::time::Duration;

use test_support::{AgentOptions, AgentProcess, ServerProcess, SmallDisk, can_load_bpf, skip, wait_for};

#[test]
fn an_agent_that_was_killed_on_a_full_disk_starts_and_sees_again() {
    if !can_load_bpf() {
        return skip("needs root and /sys/kernel/btf/vmlinux");
    }
    let Some(disk) = SmallDisk::mount(8 << 10) else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(folder.path());
    let api = server.api("administrator");
    let agent =
        AgentProcess::start(AgentOptions { state: disk.path().join("agent"), arguments: server.enrolling() });
    disk.fill("filler");
    let options = agent.kill();
    let agent = AgentProcess::start(options);
    std::fs::remove_file(disk.path().join("filler")).unwrap();

    let program = folder.path().join("after-the-full-disk");
    test_support::copy_program("/bin/true", &program, "");
    let is_stored = || {
        assert!(std::process::Command::new(&program).status().unwrap().success());
        let path =
            format!("/events?type=process_start&field=process.executable:{}&limit=1", program.display());
        (!api.all(&path).is_empty()).then_some(())
    };
    wait_for("a start after the full disk is stored", Duration::from_secs(60), is_stored);
    agent.stop();
}
