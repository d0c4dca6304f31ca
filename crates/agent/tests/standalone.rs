//! The real agent without a server: sees a process, judges it, ends it, and writes all of it down.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

/// The first rule of the product's description, in mode `auto`.
const SEED_RULE: &str = r#"{
    "id": 1,
    "name": "可疑进程名称",
    "description": "检测常见的恶意软件进程名称",
    "type": "process",
    "severity": "high",
    "enabled": true,
    "mode": "auto",
    "conditions": ["name contains 'backdoor'", "name contains 'trojan'", "name contains 'keylogger'"],
    "actions": ["alert", "log", "terminate_process"]
}"#;

struct Agent {
    child: Child,
    errors: mpsc::Receiver<String>,
}

impl Agent {
    fn start(arguments: &[&str], dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_edr-agent"))
            .args(arguments)
            .arg("-state")
            .arg(dir.join("state"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, errors) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        Self { child, errors }
    }

    /// The lines up to the one that says that the agent runs; `None` if it can't run here.
    fn running(&self) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let line = self.errors.recv_timeout(Duration::from_secs(30)).ok()?;
            if line.contains("no process sensor can run here") {
                eprintln!("skipped: {line}");
                return None;
            }
            let done = line.starts_with("agent is running");
            lines.push(line);
            if done {
                return Some(lines);
            }
        }
    }

    fn stop(&mut self) -> Option<i32> {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn records(path: &Path) -> Vec<Json> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn event_type(record: &Json) -> &str {
    record["rampart"]["event"]["type"].as_str().unwrap_or_default()
}

#[test]
fn a_process_named_like_a_trojan_is_ended_within_its_first_second_and_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::create_dir(&rules).unwrap();
    fs::write(rules.join("1-seed.json"), SEED_RULE).unwrap();
    fs::write(rules.join("2-broken.json"), "{ \"id\": 2,\n  \"name\": }").unwrap();
    let output = dir.path().join("events.ndjson");
    let arguments = ["-standalone", "-rules", rules.to_str().unwrap(), "-output", output.to_str().unwrap()];
    let mut agent = Agent::start(&arguments, dir.path());
    let Some(lines) = agent.running() else { return };
    assert!(lines.iter().any(|line| line.contains("2-broken.json:2:")), "the broken rule's place: {lines:?}");
    assert!(lines.last().unwrap().ends_with("1 rules"), "the good rule loads: {lines:?}");

    let trojan = dir.path().join("my_trojan_x");
    fs::copy("/bin/sleep", &trojan).unwrap();
    let begun = Instant::now();
    let mut victim = Command::new(&trojan).arg("60").spawn().unwrap();
    let pid = victim.id();
    let status = victim.wait().unwrap();
    assert_eq!(status.signal(), Some(15));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    // A process with an innocent name lives.
    assert!(Command::new("true").status().unwrap().success());

    assert_eq!(agent.stop(), Some(0), "a clean stop");
    let records = records(&output);
    let of_victim: Vec<&Json> = records.iter().filter(|record| record["process"]["pid"] == pid).collect();
    let start = of_victim
        .iter()
        .find(|record| event_type(record) == "process_start" && record["process"]["name"] == "my_trojan_x")
        .expect("the event");
    assert_eq!(start["process"]["executable"], trojan.to_str().unwrap());
    assert_eq!(start["process"]["hash"]["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(start["process"]["parent"]["pid"], std::process::id());
    let alert = of_victim.iter().find(|record| record["event"]["kind"] == "alert").expect("the alert");
    assert_eq!((&alert["rule"]["id"], &alert["rule"]["name"]), (&"1".into(), &"可疑进程名称".into()));
    let receipt = of_victim.iter().find(|record| event_type(record) == "response").expect("the receipt");
    assert_eq!(receipt["rampart"]["response"]["state"], "verified", "{receipt}");
    assert!(of_victim.iter().any(|record| event_type(record) == "process_exit"), "the end");
    let sequences: Vec<u64> =
        records.iter().map(|record| record["event"]["sequence"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (1..=sequences.len() as u64).collect();
    assert_eq!(sequences, expected, "numbered without a hole");
    assert_eq!(records.last().map(event_type), Some("agent_stop"));
}

#[test]
fn a_rule_in_mode_detect_only_reports() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::create_dir(&rules).unwrap();
    // A word of its own: the agent of the other test acts on the whole host.
    let rule = SEED_RULE.replace("\"mode\": \"auto\",", "").replace("trojan", "only_reported");
    fs::write(rules.join("seed.json"), rule).unwrap();
    let output = dir.path().join("events.ndjson");
    let arguments = ["-standalone", "-rules", rules.to_str().unwrap(), "-output", output.to_str().unwrap()];
    let mut agent = Agent::start(&arguments, dir.path());
    if agent.running().is_none() {
        return;
    }
    let trojan = dir.path().join("my_only_reported_y");
    fs::copy("/bin/sleep", &trojan).unwrap();
    assert!(Command::new(&trojan).arg("0.3").status().unwrap().success(), "it lives to its end");
    assert_eq!(agent.stop(), Some(0));
    let records = records(&output);
    assert!(records.iter().any(|record| record["event"]["kind"] == "alert"));
    assert!(!records.iter().any(|record| event_type(record) == "response"));
}

#[test]
fn what_cannot_work_is_refused_with_a_clear_message() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("agent.json");
    fs::write(&config, r#"{"server_adr": "https://x:8443"}"#).unwrap();
    let config = config.to_str().unwrap();
    for (arguments, part) in [
        (vec!["-sever=https://x"], "did you mean `-server`"),
        (vec!["-config", config], "did you mean `server_addr`"),
        (vec!["-standalone", "-server=https://x"], "-standalone"),
        (vec!["-insecure"], "-pubkey"),
        (vec![], "not enrolled yet"),
        (vec!["-token", "rampart-nonsense"], "not an enrolment token"),
    ] {
        let mut agent = Agent::start(&arguments, dir.path());
        let mut lines = String::new();
        while let Ok(line) = agent.errors.recv_timeout(Duration::from_secs(30)) {
            lines += &line;
        }
        assert!(lines.contains(part), "{arguments:?}: {lines}");
        assert!(agent.child.wait().unwrap().code().is_some_and(|code| code != 0));
    }
    let mut help = String::new();
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_edr-agent")).arg("-help").stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_to_string(&mut help).unwrap();
    assert!(child.wait().unwrap().success() && help.contains("-cpulimit"));
}

#[test]
fn what_is_on_the_block_list_is_ended_and_that_is_proved_without_any_rule() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let (by_path, by_hash) = (dir.join("by_path"), dir.join("by_hash"));
    for (path, more) in [(&by_path, "1"), (&by_hash, "2")] {
        fs::copy("/bin/sleep", path).unwrap();
        // A content of its own, so that no other program on this machine is meant.
        let mut content = fs::read(path).unwrap();
        content.extend(format!("{more} {}", dir.display()).as_bytes());
        fs::write(path, content).unwrap();
    }
    let sum = Command::new("sha256sum").arg(&by_hash).output().unwrap().stdout;
    let sha256 = String::from_utf8(sum).unwrap().split_whitespace().next().unwrap().to_owned();
    let list = dir.join("block.json");
    let content = serde_json::json!({ "names": ["sshd"], "paths": [by_path], "sha256": [sha256] });
    fs::write(&list, content.to_string()).unwrap();
    let output = dir.join("events.ndjson");
    let arguments =
        ["-standalone", "-blocklist", list.to_str().unwrap(), "-output", output.to_str().unwrap()];
    let mut agent = Agent::start(&arguments, &dir);
    let Some(lines) = agent.running() else { return };
    assert!(lines.iter().any(|line| line.contains("`sshd` is not blocked")), "{lines:?}");

    let run = |path: &Path| {
        let mut child = Command::new(path).arg("60").spawn().unwrap();
        let pid = child.id();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match child.try_wait().unwrap() {
                Some(status) => break (pid, status.signal()),
                None if Instant::now() > deadline => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    panic!("{} lives", path.display());
                }
                None => std::thread::yield_now(),
            }
        }
    };
    let (pid, signal) = run(&by_path);
    assert_eq!(signal, Some(9));
    let mut starts = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    // The first start tells the hash; when the kernel knows the file too, it is the one that acts.
    let blocked_of = |records: &[Json], pid: u32| -> Json {
        let is_start = |record: &&Json| {
            event_type(record) == "process_start"
                && record["process"]["pid"] == pid
                && record["process"]["name"] == "by_hash"
                && record["rampart"].get("rule").is_none()
        };
        records
            .iter()
            .find(is_start)
            .map_or(Json::Null, |start| start["rampart"]["process"]["blocked"].clone())
    };
    loop {
        let (pid, signal) = run(&by_hash);
        assert_eq!(signal, Some(9), "by whomever, it is ended");
        starts.push(pid);
        if starts.iter().any(|pid| blocked_of(&records(&output), *pid) == "hash") {
            break;
        }
        assert!(Instant::now() < deadline, "the kernel was never told of the file");
    }
    assert_eq!(agent.stop(), Some(0), "a clean stop");

    let records = records(&output);
    let of_victim: Vec<&Json> = records.iter().filter(|record| record["process"]["pid"] == pid).collect();
    let start = of_victim
        .iter()
        .find(|record| event_type(record) == "process_start" && record["process"]["name"] == "by_path");
    assert_eq!(start.expect("the event")["rampart"]["process"]["blocked"], "path");
    let texts: Vec<String> = records.iter().map(Json::to_string).collect();
    let detections = texts.iter().filter(|text| text.contains("rampart.block_list")).count();
    assert!(detections > starts.len(), "{detections} detections of {} starts", starts.len() + 1);
    let receipts = texts.iter().filter(|text| text.contains("reported its end by SIGKILL")).count();
    assert!(receipts >= 2, "one by path and one by hash at least: {texts:#?}");
}
