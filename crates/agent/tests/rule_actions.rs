//! Rules that act, on a real host: a match in, the tree ended, the file in the vault, the
//! evidence in an archive, each with a receipt in the output.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]
#![allow(clippy::disallowed_methods, reason = "conditions are looked at again and again, with a deadline")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // A clean end, so that nothing stays in the kernel.
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let began = Instant::now();
        while self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            if began.elapsed() > Duration::from_secs(10) {
                let _ = self.0.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn rule(id: &str, mode: &str, marker: &str, actions: &[&str]) -> String {
    json!({
        "id": id, "name": id, "description": "Test", "type": "process", "severity": "high", "enabled": true,
        "mode": mode, "conditions": [format!("name = '{marker}'")], "actions": actions,
    })
    .to_string()
}

/// A program of that name: a copy of the shell, so that it is nobody's file but the test's.
fn program(dir: &Path, name: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    fs::copy(fs::canonicalize("/bin/bash").unwrap(), &path).unwrap();
    path
}

fn receipt_of(output: &Path, action: &str, rule: &str) -> Option<Value> {
    let text = fs::read_to_string(output).unwrap_or_default();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let has = |line: &Value, what: &str| line.to_string().contains(&format!("\"{what}\""));
    // The receipt names its detection, which names the rule.
    let detections: Vec<String> = lines
        .iter()
        .filter(|line| has(line, rule))
        .filter_map(|line| line["rampart"]["detection"]["id"].as_str().map(str::to_owned))
        .collect();
    lines.into_iter().find(|line| {
        line["event"]["action"] == action
            && line["rampart"]["response"]["detection_id"]
                .as_str()
                .is_some_and(|id| detections.iter().any(|one| one == id))
    })
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "waited 30 s for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn rules_in_auto_act_and_those_in_shadow_say_what_they_would_do() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let rules = root.join("rules");
    fs::create_dir(&rules).unwrap();
    for (id, mode, marker, actions) in [
        ("tree", "auto", "rampart-tree", ["alert", "kill_tree"].as_slice()),
        ("file", "auto", "rampart-file", &["alert", "quarantine_file", "collect_evidence"]),
        ("shadow", "shadow", "rampart-shadow", &["alert", "kill_tree", "quarantine_file"]),
    ] {
        fs::write(rules.join(format!("{id}.json")), rule(id, mode, marker, actions)).unwrap();
    }
    let output = root.join("out.ndjson");
    let mut agent = Command::new(env!("CARGO_BIN_EXE_edr-agent"))
        .args(["-standalone", "-cpulimit", "0", "-rules"])
        .arg(&rules)
        .arg("-output")
        .arg(&output)
        .arg("-state")
        .arg(root.join("state"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (lines, errors) = mpsc::channel();
    let stderr = BufReader::new(agent.stderr.take().unwrap());
    let _agent = Owned(agent);
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    loop {
        let line = errors.recv_timeout(Duration::from_secs(60)).unwrap();
        if line.contains("no process sensor can run here") {
            eprintln!("skipped: {line}");
            return;
        }
        if line.starts_with("agent is running") {
            break;
        }
    }

    // It starts others before it is judged and while it is ended; all of them end.
    let tree = program(&root, "rampart-tree");
    let marker = root.join("go-on");
    fs::write(&marker, "").unwrap();
    let script = format!("while [ -e {} ]; do sleep 631 & sleep 0.05; done", marker.display());
    let mut child = Command::new(&tree).args(["-c", &script]).spawn().unwrap();
    let receipt = wait_for("the tree's receipt", || receipt_of(&output, "kill_tree", "tree"));
    assert_eq!(receipt["rampart"]["response"]["state"], "verified", "{receipt:#}");
    let _ = child.wait();
    let left = Command::new("pgrep").args(["-f", "^sleep 631$"]).output().unwrap().stdout;
    assert_eq!(String::from_utf8_lossy(&left), "", "branches of the tree are left");

    let file = program(&root, "rampart-file");
    let content = fs::read(&file).unwrap();
    let _ = Command::new(&file).args(["-c", "sleep 0.2"]).status();
    let receipt = wait_for("the file's receipt", || receipt_of(&output, "quarantine_file", "file"));
    assert_eq!(receipt["rampart"]["response"]["state"], "verified", "{receipt:#}");
    assert!(!file.exists() && !content.is_empty());
    let receipt = wait_for("the evidence's receipt", || receipt_of(&output, "collect_evidence", "file"));
    assert_eq!(receipt["rampart"]["response"]["state"], "verified", "{receipt:#}");
    let evidence = root.join("state/responses/evidence");
    let archives = fs::read_dir(evidence).unwrap().flatten();
    assert_eq!(archives.filter(|one| one.path().extension().is_some_and(|end| end == "tar")).count(), 1);

    let shadow = program(&root, "rampart-shadow");
    let mut child = Command::new(&shadow).args(["-c", "sleep 1; exit 7"]).spawn().unwrap();
    for action in ["kill_tree", "quarantine_file"] {
        let receipt = wait_for("the shadow's receipt", || receipt_of(&output, action, "shadow"));
        assert_eq!(receipt["rampart"]["response"]["state"], "refused", "{receipt:#}");
        let reason = receipt["rampart"]["response"]["reason"].as_str().unwrap();
        assert!(reason.starts_with("mode is `shadow`: would"), "{reason}");
    }
    assert!(shadow.exists());
    assert_eq!(child.wait().unwrap().code(), Some(7));
}
