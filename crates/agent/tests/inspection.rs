//! The real agent with indicators and YARA rules: a program whose hash is an indicator is run, files that
//! rules match are written and run, and lists and rules change meanwhile.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

/// Long enough for a busy machine; what is waited for comes within a second on an idle one.
const PATIENCE: Duration = Duration::from_secs(120);

struct Agent {
    child: Child,
    lines: mpsc::Receiver<String>,
    output: PathBuf,
}

impl Agent {
    /// Starts with the rules of `dir/rules`; `None` where no sensor can run.
    fn start(dir: &Path) -> Option<Self> {
        let output = dir.join("events.ndjson");
        let mut child = Command::new(env!("CARGO_BIN_EXE_edr-agent"))
            .args(["-standalone", "-cpulimit=0", "-rules"])
            .arg(dir.join("rules"))
            .arg("-output")
            .arg(&output)
            .arg("-state")
            .arg(dir.join("state"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let agent = Self { child, lines, output };
        loop {
            let line = agent.lines.recv_timeout(PATIENCE).unwrap();
            if line.contains("no process sensor can run here") {
                test_support::skip(&line);
                return None;
            }
            if line.starts_with("agent is running") {
                return Some(agent);
            }
        }
    }

    fn records(&self) -> Vec<Json> {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Does `act` again and again until a detection of that rule about that file or program is written.
    fn detection(&self, rule: &str, about: &Path, mut act: impl FnMut()) -> Json {
        let deadline = Instant::now() + PATIENCE;
        loop {
            act();
            let round = Instant::now() + Duration::from_secs(2);
            while Instant::now() < round {
                let about = about.to_str().unwrap();
                let found = self.records().into_iter().find(|record| {
                    let is_about =
                        record["file"]["path"] == about || record["process"]["executable"] == about;
                    record["rule"]["id"] == rule && is_about
                });
                if let Some(found) = found {
                    return found;
                }
                test_support::pause(Duration::from_millis(20));
            }
            assert!(Instant::now() < deadline, "no detection of {rule} about {}", about.display());
        }
    }

    /// Waits for a line on standard error.
    fn says(&self, part: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap();
            if line.contains(part) {
                return line;
            }
        }
    }

    fn stop(mut self) -> Vec<Json> {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "a clean stop");
        self.records()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn detections_of<'a>(records: &'a [Json], rule: &str) -> Vec<&'a Json> {
    records.iter().filter(|record| record["rule"]["id"] == rule).collect()
}

/// A program that does nothing, with a hash of its own.
fn program(path: &Path, mark: &str) {
    test_support::copy_program("/bin/true", path, mark);
}

fn run(path: &Path) {
    assert!(Command::new(path).status().unwrap().success());
}

fn sha256(path: &Path) -> String {
    file_scan::ContentFacts::of(&fs::read(path).unwrap()).sha256_hex()
}

#[test]
fn a_program_and_a_file_on_the_lists_are_told_of_and_lists_change_while_the_agent_runs() {
    let dir = tempfile::tempdir().unwrap();
    let lists = dir.path().join("rules/indicators");
    fs::create_dir_all(&lists).unwrap();
    let (bad, was_bad, later) =
        (dir.path().join("bad_tool"), dir.path().join("was_bad"), dir.path().join("later_bad"));
    [(&bad, "one"), (&was_bad, "two"), (&later, "three")]
        .iter()
        .for_each(|(path, mark)| program(path, &format!("{mark} {}", dir.path().display())));
    let csv = format!(
        "value,severity,confidence,description,expires\n{},critical,95,miner of test,2100-01-01\n\
         {},high,95,no more,2020-01-01\n",
        sha256(&bad),
        sha256(&was_bad)
    );
    fs::write(lists.join("feed.csv"), csv).unwrap();
    fs::write(lists.join("broken.txt"), "evil.example\nthis is no indicator\n").unwrap();
    let Some(agent) = Agent::start(dir.path()) else { return };

    let rule = format!("indicator.sha256.{}", sha256(&bad));
    run(&was_bad);
    let alert = agent.detection(&rule, &bad, || run(&bad));
    assert_eq!(alert["event"]["kind"], "alert");
    assert_eq!(alert["rampart"]["rule"]["severity"], "critical");
    let matched = alert["rampart"]["detection"]["matched"][0].as_str().unwrap();
    assert!(matched.starts_with("process.hash.sha256 = ") && matched.contains("source feed, confidence 95"));
    assert!(alert["rule"]["description"].as_str().unwrap().starts_with("miner of test"));

    // A copy is known by its hash as soon as it is written.
    let copy = dir.path().join("copied_tool");
    let alert = agent.detection(&rule, &copy, || assert!(fs::copy(&bad, &copy).unwrap() > 0));
    assert_eq!(alert["rampart"]["scan"]["trigger"], "write");

    // A list that comes while the agent runs.
    fs::write(lists.join("new.txt"), format!("{}\nnonsense here\n", sha256(&later))).unwrap();
    assert!(agent.says("new.txt:2:").contains("indicator"), "the bad line is told");
    agent.detection(&format!("indicator.sha256.{}", sha256(&later)), &later, || run(&later));
    let records = agent.stop();
    let expired = detections_of(&records, &format!("indicator.sha256.{}", sha256(&was_bad)));
    assert!(expired.is_empty(), "an indicator that has expired: {expired:?}");
}

#[test]
fn files_that_yara_rules_match_are_told_of_when_they_are_written_and_when_they_run() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::create_dir(&rules).unwrap();
    let rule = |name: &str, mark: &str| {
        format!(
            "rule {name} : T1059_004 {{ meta: description = \"a test\" severity = \"critical\" \
             strings: $mark = \"{mark}\" condition: $mark }}\n"
        )
    };
    fs::write(rules.join("malware.yar"), rule("written_mark", "rampart-written-mark")).unwrap();
    let ran = dir.path().join("marked_tool");
    program(&ran, "rampart-executed-mark");
    let Some(agent) = Agent::start(dir.path()) else { return };

    let script = dir.path().join("dropped.sh");
    let text = "#!/bin/sh\n# rampart-written-mark\n";
    let alert = agent.detection("yara.malware/written_mark", &script, || fs::write(&script, text).unwrap());
    assert_eq!(
        (&alert["rule"]["name"], &alert["event"]["kind"]),
        (&"YARA: written_mark".into(), &"alert".into())
    );
    let detection = &alert["rampart"]["detection"];
    assert_eq!(alert["rampart"]["rule"]["severity"], "critical");
    assert_eq!(alert["threat"]["technique"]["id"][0], "T1059.004");
    assert_eq!(detection["matched"][0], "$mark at 0xc, 20 bytes: \"rampart-written-mark\"");
    assert_eq!(alert["process"]["pid"], std::process::id(), "who wrote it");
    assert_eq!(alert["file"]["hash"]["sha256"], sha256(&script).as_str());

    // A rule that comes while the agent runs, with one that is broken.
    let broken = "rule broken { condition: $nothing }\n";
    fs::write(rules.join("more.yara"), format!("{}{broken}", rule("run_mark", "rampart-executed-mark")))
        .unwrap();
    let alert = agent.detection("yara.more/run_mark", &ran, || run(&ran));
    assert_eq!(alert["rampart"]["scan"]["trigger"], "execution");
    assert_eq!(alert["process"]["executable"], ran.to_str().unwrap());
    // Also when its result is known already.
    let before = detections_of(&agent.records(), "yara.more/run_mark").len();
    let deadline = Instant::now() + PATIENCE;
    run(&ran);
    while detections_of(&agent.records(), "yara.more/run_mark").len() <= before {
        assert!(Instant::now() < deadline, "the second run is told too");
        test_support::pause(Duration::from_millis(20));
    }

    // What no rule matches is scanned and not told.
    let clean = dir.path().join("clean.sh");
    fs::write(&clean, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&clean, fs::Permissions::from_mode(0o755)).unwrap();
    let records = agent.stop();
    let scans: Vec<&Json> =
        records.iter().filter(|record| record["rampart"]["event"]["type"] == "file_scan").collect();
    assert!(!scans.is_empty() && scans.iter().all(|scan| scan["file"]["path"] != clean.to_str().unwrap()));
    assert!(scans.iter().any(|scan| scan["rampart"]["yara"]["rules"][0] == "malware/written_mark"));
}
