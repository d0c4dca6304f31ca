//! `edr playbook`, run as people run it.

use std::path::Path;
use std::process::{Command, Output};

fn edr(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edr")).args(arguments).output().expect("edr runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../playbooks");

const ALERT: &str = r#"{"id": "a1", "time": "2026-11-26T06:00:00Z", "host_id": "h1", "host_name": "web-1",
    "rule": {"id": "1001", "name": "Miner", "severity": "high", "attack": ["T1496"]},
    "process": {"entity_id": "b:42:1", "pid": 42, "executable": "/tmp/xmrig", "command_line": "xmrig"},
    "event": {"destination": {"ip": "192.0.2.1"}}}"#;

#[test]
fn the_library_is_good_and_passes_its_tests() {
    let checked = edr(&["playbook", "check", LIBRARY]);
    assert!(checked.status.success(), "{}", text(&checked));
    assert!(text(&checked).contains("10 of 10 playbooks are good"), "{}", text(&checked));
    let tested = edr(&["playbook", "test", LIBRARY]);
    assert!(tested.status.success() && text(&tested).contains(" 0 failed"), "{}", text(&tested));
}

#[test]
fn a_bad_playbook_is_shown_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.yml");
    std::fs::write(&path, "id: p\nname: P\ntrigger: {severity: high}\nsteps:\n  - {id: a, do: kill_tre}\n")
        .unwrap();
    let checked = edr(&["playbook", "check", path.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(
        text(&checked).contains("p.yml:5:17: error[bad-value]")
            && text(&checked).contains("hint: did you mean `kill_tree`"),
        "{}",
        text(&checked)
    );
    let json = edr(&["playbook", "check", "--json", path.to_str().unwrap()]);
    let found: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((found["line"].as_u64(), found["column"].as_u64()), (Some(5), Some(17)));
    assert_eq!(edr(&["playbook", "check"]).status.code(), Some(2));
    assert!(text(&edr(&["playbook", "check", "/nonexistent"])).contains("can't be read"));
}

#[test]
fn a_case_that_does_not_hold_fails_the_test() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["crypto-miner.yml", "crypto-miner.test.json"] {
        let from = std::fs::read_to_string(Path::new(LIBRARY).join(name)).unwrap();
        let to = from.replace("\"quarantine\": \"skipped\"", "\"quarantine\": \"succeeded\"");
        std::fs::write(folder.path().join(name), to).unwrap();
    }
    let tested = edr(&["playbook", "test", folder.path().to_str().unwrap()]);
    assert_eq!(tested.status.code(), Some(1), "{}", text(&tested));
    assert!(text(&tested).contains("step `quarantine` is skipped, not succeeded"), "{}", text(&tested));
}

#[test]
fn a_dry_run_shows_exactly_what_would_be_done() {
    let folder = tempfile::tempdir().unwrap();
    let alert = folder.path().join("alert.json");
    std::fs::write(&alert, ALERT).unwrap();
    let alert = alert.to_str().unwrap();
    let planned = edr(&["playbook", "dry-run", alert, LIBRARY]);
    assert!(planned.status.success(), "{}", text(&planned));
    let shown = text(&planned);
    assert!(shown.contains("Crypto miner (crypto-miner, mode shadow)"), "{shown}");
    assert!(
        shown.contains(r#"kill_tree on host h1 with {"entity_id":"b:42:1","executable":"/tmp/xmrig"}"#),
        "{shown}"
    );
    assert!(
        shown.contains(r#"block_address on host h1 with {"address":"192.0.2.1","ttl_seconds":86400}"#),
        "{shown}"
    );
    assert!(!shown.contains("web-shell"), "{shown}");
    let json = edr(&["playbook", "dry-run", alert, LIBRARY, "--json"]);
    let plans: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(plans[0]["run"]["steps"][0]["step"], "kill");

    std::fs::write(alert, "{\"id\": 7}").unwrap();
    let refused = edr(&["playbook", "dry-run", alert, LIBRARY]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("line 1, column"), "{}", text(&refused));
}
