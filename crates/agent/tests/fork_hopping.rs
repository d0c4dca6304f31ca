//! A process that is to be ended and ignores SIGTERM forks on before its grace is over.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use test_support::{AgentOptions, AgentProcess, can_load_bpf, skip, wait_for};

const RULE: &str = r#"{
  "id": "hopping", "name": "A program that hops", "description": "", "type": "process", "severity": "high",
  "enabled": true, "mode": "auto", "conditions": ["name = 'rampart_hopper'"],
  "actions": ["alert", "terminate_process"]
}"#;

/// Each life counts for some tens of milliseconds and hands over to a fork; the last one would tell.
const HOPPING: &str = r#"
hop() {
    i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done
    if [ "$1" -ge 60 ]; then echo escaped > "$OUT"; exit; fi
    hop $(($1 + 1)) &
}
hop 0
"#;

#[test]
fn forking_on_is_no_way_out() {
    if !can_load_bpf() {
        skip("needs root and /sys/kernel/btf/vmlinux");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rules = folder.path().join("rules");
    std::fs::create_dir(&rules).expect("a folder");
    std::fs::write(rules.join("rule.json"), RULE).expect("a file");
    let _agent = AgentProcess::start(AgentOptions {
        state: folder.path().join("state"),
        arguments: vec![
            "-standalone".into(),
            format!("-rules={}", rules.display()),
            format!("-output={}", folder.path().join("out.ndjson").display()),
        ],
    });

    let hopper = folder.path().join("rampart_hopper");
    test_support::copy_program("/bin/sh", &hopper, "");
    let escaped = folder.path().join("escaped");
    // What is ignored stays ignored over the exec: the agent is too fast for a `trap` in the script.
    let mut first = Command::new("/bin/sh")
        .args(["-c", "trap '' TERM; exec \"$HOPPER\" -c \"$HOPPING\""])
        .env("HOPPER", &hopper)
        .env("HOPPING", HOPPING)
        .env("OUT", &escaped)
        .spawn()
        .expect("it starts");
    first.wait().expect("our own child");
    wait_for("no hopper lives", Duration::from_secs(20), || (!runs(&hopper)).then_some(()));
    assert!(!escaped.exists(), "it got through all its hops");
}

fn runs(image: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    processes
        .map(|process| process.path().join("exe"))
        .any(|exe| std::fs::read_link(exe).is_ok_and(|target| target == image))
}
