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
    let facts = file_scan::ContentFacts::of(&fs::read("/bin/sleep").unwrap());
    let hash = &start["process"]["hash"];
    assert_eq!((&hash["md5"], &hash["sha1"]), (&facts.md5_hex().into(), &facts.sha1_hex().into()));
    assert_eq!((&hash["sha256"], &hash["tlsh"]), (&facts.sha256_hex().into(), &facts.tlsh.clone().into()));
    let ours = &start["rampart"]["process"];
    assert_eq!((&ours["image_type"], &ours["image_size"]), (&"elf".into(), &facts.size.into()));
    assert_eq!(
        (&ours["image_header"], &ours["entropy_milli"]),
        (&facts.header_hex().into(), &facts.entropy_milli().into())
    );
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

/// Waits for a record of the running agent.
fn wait_for_record(output: &Path, what: &str, wanted: impl Fn(&Json) -> bool) -> Json {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(record) = records(output).into_iter().find(&wanted) {
            return record;
        }
        assert!(Instant::now() < deadline, "{what}: not written");
        std::thread::yield_now();
    }
}

#[test]
fn whoever_signals_the_agent_or_touches_its_rules_is_told_of_without_any_rule() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::create_dir(&rules).unwrap();
    let output = dir.path().join("events.ndjson");
    let arguments = ["-standalone", "-rules", rules.to_str().unwrap(), "-output", output.to_str().unwrap()];
    let mut agent = Agent::start(&arguments, dir.path());
    if agent.running().is_none() {
        return;
    }
    let kill = |signal: &str| {
        let status = Command::new("kill").args([signal, &agent.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    };
    kill("-USR1");
    let tampered = |what: &'static str| {
        move |record: &Json| {
            event_type(record) == "agent_tamper" && record["rampart"]["agent"]["tampered"] == what
        }
    };
    let signalled = wait_for_record(&output, "the signal", tampered("signal"));
    assert_eq!(signalled["rampart"]["signal"]["number"], 10, "{signalled}");
    assert_eq!(signalled["user"]["id"], "0", "{signalled}");
    let alert = wait_for_record(&output, "the alert", |record| record["rule"]["id"] == "rampart.tamper");
    assert_eq!(alert["event"]["kind"], "alert");
    // Stopped and gone on with: what was done meanwhile can't be seen, that it was done can.
    kill("-STOP");
    kill("-CONT");
    wait_for_record(&output, "the stop that is over", |record| {
        record["rampart"]["signal"]["number"] == 18 && event_type(record) == "agent_tamper"
    });
    fs::write(rules.join("planted.json"), "{}").unwrap();
    wait_for_record(&output, "the touched rules", tampered("rules"));
    assert_eq!(agent.stop(), Some(0));
    let stop = records(&output).pop().unwrap();
    assert_eq!(event_type(&stop), "agent_stop");
    assert_eq!(stop["user"]["id"], "0", "by whom: {stop}");
    assert!(stop["process"]["pid"].is_u64(), "{stop}");
}

/// Where the test fails, the supervisor is killed and leaves an agent behind.
struct Orphan(u32);

impl Drop for Orphan {
    fn drop(&mut self) {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0)).unwrap_or_default();
        for child in children.split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", child]).status();
        }
    }
}

#[test]
fn a_supervised_agent_that_is_killed_starts_again_and_says_how_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("events.ndjson");
    let arguments = ["-standalone", "-supervise", "-output", output.to_str().unwrap()];
    let mut supervisor = Agent::start(&arguments, dir.path());
    if supervisor.running().is_none() {
        return;
    }
    let id = supervisor.child.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let child = children.split_whitespace().next().expect("the agent itself").to_owned();
    assert!(Command::new("kill").args(["-KILL", &child]).status().unwrap().success());
    let _orphan = Orphan(id);
    let again = wait_for_record(&output, "the second start", |record| {
        event_type(record) == "agent_start" && record["rampart"]["agent"]["previous_cause"].is_string()
    });
    assert_eq!(again["rampart"]["agent"]["previous_cause"], "signal 9");
    assert_eq!(supervisor.stop(), Some(0), "asked to stop, it stops the agent and does not start it again");
    assert_eq!(records(&output).last().map(event_type), Some("agent_stop"));
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

/// Twenty seconds of a storm under a small limit; with `RAMPART_LONG_TESTS` thirty minutes, and then the
/// figures are held against the limit.
#[test]
fn a_storm_under_a_limit_sheds_nothing_that_is_protected() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("events.ndjson");
    let arguments = ["-standalone", "-cpulimit", "3", "-output", output.to_str().unwrap()];
    let mut agent = Agent::start(&arguments, dir.path());
    if agent.running().is_none() {
        return;
    }
    let long = std::env::var_os("RAMPART_LONG_TESTS").is_some();
    let (seconds, rate) = if long { ("1800", "100") } else { ("20", "200") };
    // target/release/deps/<test> and target/release/examples/storm
    let storm = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/storm");
    assert!(storm.exists(), "not built; hint: cargo build --release -p agent --example storm");
    let begun = Instant::now();
    let cpu = |pid: u32| -> f64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    };
    let before = cpu(agent.child.id());
    assert!(Command::new(&storm).args([seconds, rate]).status().unwrap().success());
    let used = (cpu(agent.child.id()) - before) / begun.elapsed().as_secs_f64() * 100.0;
    let resident = fs::read_to_string(format!("/proc/{}/statm", agent.child.id())).unwrap();
    eprintln!("storm of {seconds} s: {used:.2} % of a core, statm {}", resident.trim());
    assert_eq!(agent.stop(), Some(0));
    let records = records(&output);
    let shed = records.iter().filter(|record| record["rampart"]["gap"]["reason"] == "budget");
    for gap in shed {
        let what = gap["rampart"]["gap"]["what"].as_str().unwrap();
        let class = event_model::EventType::from_word(what).map(|event_type| event_type.spec().class);
        assert!(class.is_some_and(|class| class != event_model::EventClass::Protected), "{gap}");
    }
    if long {
        assert!(used <= 3.3, "more than a tenth above the limit: {used}");
    }
}
