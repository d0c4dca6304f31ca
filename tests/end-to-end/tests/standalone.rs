//! The agent alone, with the seed's first rule in mode `auto`.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use test_support::{AgentOptions, AgentProcess, can_load_bpf, wait_for};

/// The first rule of the text that the product was asked to be, with a mode.
const SEED_RULE: &str = r#"{
  "id": 1,
  "name": "可疑进程名称",
  "description": "检测常见的恶意软件进程名称",
  "type": "process",
  "severity": "high",
  "enabled": true,
  "mode": "auto",
  "conditions": [
    "name contains 'backdoor'",
    "name contains 'trojan'",
    "name contains 'keylogger'"
  ],
  "actions": ["alert", "log", "terminate_process"]
}"#;

#[test]
fn the_seeds_first_rule_kills_a_trojan_within_its_first_second() {
    if !can_load_bpf() {
        println!("skipped: needs root and /sys/kernel/btf/vmlinux");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rules = folder.path().join("rules");
    std::fs::create_dir(&rules).expect("a folder");
    std::fs::write(rules.join("seed.json"), SEED_RULE).expect("a file");
    let output = folder.path().join("out.ndjson");
    let _agent = AgentProcess::start(AgentOptions {
        state: folder.path().join("state"),
        arguments: vec![
            "-standalone".into(),
            format!("-rules={}", rules.display()),
            format!("-output={}", output.display()),
        ],
    });

    let trojan = folder.path().join("my_trojan_x");
    std::fs::copy("/bin/sleep", &trojan).expect("/bin/sleep can be copied");
    let started = Instant::now();
    let status = Command::new(&trojan).arg("30").status().expect("it starts");
    let lived = started.elapsed();
    assert!(status.signal().is_some(), "it ended with {status}");
    assert!(lived < Duration::from_secs(1), "it lived for {lived:?}");

    let records = wait_for("event, alert and receipt are written", Duration::from_secs(10), || {
        let text = std::fs::read_to_string(&output).ok()?;
        let records: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let has = |kind: &str| {
            records.iter().any(|r| {
                r["rampart"]["event"]["type"] == kind
                    && r["process"]["executable"] == *trojan.to_string_lossy()
            })
        };
        (has("process_start") && has("detection") && has("response")).then_some(records)
    });
    let of_type = |kind: &str| {
        records.iter().find(|r| {
            r["rampart"]["event"]["type"] == kind && r["process"]["executable"] == *trojan.to_string_lossy()
        })
    };
    let detection = of_type("detection").expect("just seen");
    assert_eq!(detection["event"]["kind"], "alert");
    assert_eq!(detection["rule"]["id"], "1");
    assert_eq!(detection["rule"]["name"], "可疑进程名称");
    let response = of_type("response").expect("just seen");
    assert_eq!(response["rampart"]["response"]["state"], "verified", "{response:#}");
}
