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
            let line = self.errors.recv_timeout(Duration::from_secs(60)).unwrap();
            if line.contains("no process sensor can run here") {
                test_support::skip(&line);
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
    test_support::copy_program("/bin/sleep", &trojan, "");
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
    test_support::copy_program("/bin/sleep", &trojan, "");
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

#[test]
fn a_pipe_among_the_rules_stops_neither_the_judging_nor_later_rules() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::create_dir(&rules).unwrap();
    let output = dir.path().join("events.ndjson");
    let arguments = ["-standalone", "-rules", rules.to_str().unwrap(), "-output", output.to_str().unwrap()];
    let mut agent = Agent::start(&arguments, dir.path());
    if agent.running().is_none() {
        return;
    }
    // Nobody ever writes to it: whoever opens it waits for ever.
    assert!(Command::new("mkfifo").arg(rules.join("a.json")).status().unwrap().success());
    // Agents of other tests end what the seed's rule is about.
    let rule = SEED_RULE.replace("\"auto\"", "\"detect\"").replace("keylogger", "later_rule");
    fs::write(rules.join("b.json"), rule).unwrap();
    let program = dir.path().join("my_later_rule");
    test_support::copy_program("/bin/true", &program, "");
    let deadline = Instant::now() + Duration::from_secs(60);
    let alert = |record: &Json| record["rule"]["id"] == "1" && record["process"]["name"] == "my_later_rule";
    while !records(&output).iter().any(alert) {
        assert!(Instant::now() < deadline, "the later rule is not in force");
        assert!(Command::new(&program).status().unwrap().success());
        // The agent may say something meanwhile, or nothing.
        let _ = agent.errors.recv_timeout(Duration::from_millis(200));
    }
    assert_eq!(agent.stop(), Some(0));
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
        (vec!["-standalone", "-rules=/no/such/rules"], "-rules /no/such/rules: there is no such directory"),
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

/// Twenty seconds of a storm under a small limit; with `RAMPART_LONG_TESTS` thirty minutes of one that asks for
/// about twice the limit, and then the figures are held against it.
#[test]
fn a_storm_under_a_limit_sheds_nothing_that_is_protected() {
    const LIMIT: f64 = 3.0;
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("events.ndjson");
    let limit = LIMIT.to_string();
    let arguments = ["-standalone", "-cpulimit", &limit, "-output", output.to_str().unwrap()];
    let mut agent = Agent::start(&arguments, dir.path());
    if agent.running().is_none() {
        return;
    }
    let long = std::env::var_os("RAMPART_LONG_TESTS").is_some();
    let (seconds, rate) = if long { ("1800", "800") } else { ("20", "200") };
    // target/release/deps/<test> and target/release/examples/storm
    let storm = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/storm");
    assert!(storm.exists(), "not built; hint: cargo build --release -p agent --example storm");
    let pid = agent.child.id();
    let mut storm = Command::new(&storm).args([seconds, rate]).spawn().unwrap();
    // (share of a core, MB resident) for each span of a minute, or what there is of one.
    let mut spans = Vec::new();
    let (begun, before) = (Instant::now(), cpu_seconds(pid));
    let (mut since, mut cpu) = (begun, before);
    loop {
        test_support::pause(Duration::from_millis(100));
        let ended = storm.try_wait().unwrap();
        if ended.is_some() || since.elapsed() >= Duration::from_secs(60) {
            let now = cpu_seconds(pid);
            spans.push(((now - cpu) / since.elapsed().as_secs_f64() * 100.0, resident_megabytes(pid)));
            (since, cpu) = (Instant::now(), now);
        }
        if let Some(status) = ended {
            assert!(status.success());
            break;
        }
    }
    let used = (cpu_seconds(pid) - before) / begun.elapsed().as_secs_f64() * 100.0;
    eprintln!("storm of {seconds} s: {used:.2} % of a core");
    for (minute, (share, megabytes)) in spans.iter().enumerate() {
        eprintln!("  minute {minute}: {share:.2} % of a core, {megabytes:.1} MB resident");
    }
    assert_eq!(agent.stop(), Some(0));
    // Two gigabytes after half an hour: line by line.
    let lines = BufReader::new(fs::File::open(&output).unwrap()).lines().map_while(Result::ok);
    let gaps = lines
        .filter(|line| line.contains(r#""budget""#))
        .map(|line| serde_json::from_str::<Json>(&line).unwrap());
    let shed = gaps.filter(|record| record["rampart"]["gap"]["reason"] == "budget");
    for gap in shed {
        let what = gap["rampart"]["gap"]["what"].as_str().unwrap();
        let class = event_model::EventType::from_word(what).map(|event_type| event_type.spec().class);
        assert!(class.is_some_and(|class| class != event_model::EventClass::Protected), "{gap}");
    }
    if long {
        assert!(used <= LIMIT * 1.1, "more than a tenth above the limit: {used}");
        let most = |spans: &[(f64, f64)]| spans.iter().map(|(_, megabytes)| *megabytes).fold(0.0, f64::max);
        let (first, last) = (most(&spans[..10]), most(&spans[spans.len() - 10..]));
        assert!(last <= first * 1.1, "memory grows: {first} MB in the first ten minutes, {last} in the last");
    }
}

/// Of all threads of a process.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn resident_megabytes(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

#[test]
fn what_is_on_the_block_list_is_ended_and_that_is_proved_without_any_rule() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let (by_path, by_hash) = (dir.join("by_path"), dir.join("by_hash"));
    for (path, more) in [(&by_path, "1"), (&by_hash, "2")] {
        // A content of its own, so that no other program on this machine is meant.
        test_support::copy_program("/bin/sleep", path, &format!("{more} {}", dir.display()));
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

/// Whoever starts programs that take long to hash must not keep the rules from anything.
#[test]
fn a_rule_acts_while_large_images_wait_for_their_hash() {
    const IMAGES: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::create_dir(&rules).unwrap();
    fs::write(rules.join("1-seed.json"), SEED_RULE).unwrap();
    let output = dir.path().join("events.ndjson");
    let rules = rules.to_str().unwrap();
    let arguments = ["-standalone", "-cpulimit=0", "-rules", rules, "-output", output.to_str().unwrap()];
    let mut agent = Agent::start(&arguments, dir.path());
    if agent.running().is_none() {
        return;
    }
    // Just below what is too large to be hashed; holes cost no disk.
    let script =
        "for n in $(seq $1); do cp /bin/true $2/large-image-$n; truncate -s 31M $2/large-image-$n; done";
    let dir_text = dir.path().to_str().unwrap();
    let made = Command::new("/bin/sh").args(["-c", script, "sh", &IMAGES.to_string(), dir_text]).status();
    assert!(made.unwrap().success());
    for n in 1..=IMAGES {
        assert!(Command::new(dir.path().join(format!("large-image-{n}"))).status().unwrap().success());
    }
    let trojan = dir.path().join("my_trojan_x");
    test_support::copy_program("/bin/sleep", &trojan, "");
    let status = Command::new(&trojan).arg("600").status().unwrap();
    assert_eq!(status.signal(), Some(15));
    let starts = || -> Vec<Json> {
        let of_images = |record: &Json| {
            event_type(record) == "process_start"
                && record["process"]["name"].as_str().is_some_and(|name| name.starts_with("large-image-"))
        };
        records(&output).into_iter().filter(of_images).collect()
    };
    let hashed = starts().iter().filter(|start| start["process"]["hash"]["sha256"].is_string()).count();
    assert!(hashed < IMAGES, "nothing waited: the images are too small for this machine");
    assert_eq!(agent.stop(), Some(0), "it does not stay to hash them all");
    assert_eq!(starts().len(), IMAGES, "each once, with its hash or without");
    let late = |start: &&Json| start["rampart"]["process"]["hash_skipped"] == "late";
    assert!(starts().iter().filter(late).count() > 0);
}

/// A chain of harmless acts: together they are what no single rule would alert on.
#[test]
fn a_script_that_acts_a_chain_gives_one_explained_behaviour_alert() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::create_dir(&rules).unwrap();
    // Names of this test's own: the agent sees the whole machine.
    let program = dir.path().join("fetched-by-chain-test");
    fs::copy("/bin/true", dir.path().join("source")).unwrap();
    // The built-in ones would see this too, as the folder is one that everybody may write to.
    let off = |id: &str| serde_json::json!({ "id": id, "name": "off", "weight": 0, "conditions": ["name = 'x'"], "enabled": false });
    let behaviours = serde_json::json!({
        "settings": { "half_life": "10m", "ancestor_levels": 2, "thresholds": { "high": 60 } },
        "behaviours": [
            off("linux-made-executable"),
            off("linux-run-from-writable"),
            { "id": "chain-copy", "name": "Copied the program", "weight": 25, "attack": ["T1105"],
              "conditions": ["name = 'cp' and cmdline contains 'fetched-by-chain-test'"] },
            { "id": "chain-chmod", "name": "Made it executable", "weight": 20, "attack": ["T1222.002"],
              "conditions": ["name = 'chmod' and cmdline contains 'fetched-by-chain-test'"] },
            { "id": "chain-run", "name": "Ran it", "weight": 30, "attack": ["T1204.002"],
              "conditions": ["name = 'fetched-by-chain-test' and start_kind = 'exec'"] },
        ],
        "sequences": [{
            "id": "chain", "name": "Copied, made executable, run", "severity": "medium", "within": "5m",
            "steps": [{ "behaviour": "chain-copy" }, { "behaviour": "chain-chmod" }, { "behaviour": "chain-run" }],
        }],
    });
    fs::write(rules.join("chain.behaviour.json"), behaviours.to_string()).unwrap();
    let output = dir.path().join("events.ndjson");
    let arguments = ["-standalone", "-rules", rules.to_str().unwrap(), "-output", output.to_str().unwrap()];
    let mut agent = Agent::start(&arguments, dir.path());
    if agent.running().is_none() {
        return;
    }
    let script = dir.path().join("chain.sh");
    let run = program.display();
    let copy = format!("cp {} {run}\nchmod 755 {run}\n", dir.path().join("source").display());
    fs::write(&script, format!("{copy}{run}\n{run}\n{run}\n")).unwrap();
    let mut shell = Command::new("/bin/sh").arg(&script).spawn().unwrap();
    let shell_pid = shell.id();
    assert!(shell.wait().unwrap().success());
    let alert = wait_for_record(&output, "the behaviour alert", |record| {
        record["rule"]["id"] == "rampart.behaviour.high"
    });
    assert_eq!(agent.stop(), Some(0));
    let matched: Vec<&str> = alert["rampart"]["detection"]["matched"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Json::as_str)
        .collect();
    assert!(matched[0].contains(&format!("[{shell_pid}] reaches 60 (high)")), "whose tree: {matched:?}");
    for (line, part) in [(1, "of 25: Copied"), (2, "of 20: Made"), (3, "of 30: Ran it (chain-run)")] {
        assert!(matched[line].contains(part) && matched[line].starts_with('+'), "{line}: {matched:?}");
    }
    assert_eq!(alert["threat"]["technique"]["id"], serde_json::json!(["T1105", "T1222.002", "T1204.002"]));
    let alerts = |id: &str| records(&output).iter().filter(|record| record["rule"]["id"] == id).count();
    assert_eq!(alerts("rampart.behaviour.high"), 1, "three runs, one alert");
    assert_eq!(alerts("chain"), 1, "and one for the sequence");
}
