//! Rules that act, on a real host: a match in, the tree ended, the file in the vault, the
//! evidence in an archive, each with a receipt in the output.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]
#![allow(clippy::disallowed_methods, reason = "conditions are looked at again and again, with a deadline")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt as _;
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
    test_support::copy_program("/bin/bash", &path, "");
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
        assert!(began.elapsed() < Duration::from_secs(60), "waited 60 s for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The agent with the rules of that folder, once it runs; `None` where it can't. `within` comes before it on
/// the command line; its limit is in percent of a core, 0 is none.
fn started(root: &Path, output: &Path, within: &[String], cpu_limit: &str) -> Option<Owned> {
    let agent = env!("CARGO_BIN_EXE_edr-agent").to_owned();
    let line: Vec<String> = within.iter().cloned().chain([agent]).collect();
    let mut agent = Command::new(&line[0])
        .args(&line[1..])
        .args(["-standalone", "-cpulimit", cpu_limit, "-rules"])
        .arg(root.join("rules"))
        .arg("-output")
        .arg(output)
        .arg("-state")
        .arg(root.join("state"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (lines, errors) = mpsc::channel();
    let stderr = BufReader::new(agent.stderr.take().unwrap());
    let agent = Owned(agent);
    // Read to the end, also when nobody listens any more: a closed pipe would be the agent's trouble.
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
    loop {
        let line = errors.recv_timeout(Duration::from_secs(60)).unwrap();
        if line.contains("no process sensor can run here") {
            test_support::skip(&line);
            return None;
        }
        if line.starts_with("agent is running") {
            return Some(agent);
        }
    }
}

/// A network namespace that this test made, and how to run something in it.
struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["-n", "sh", "-c", "echo ready; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        Self { holder }
    }

    fn inside(&self) -> Vec<String> {
        let pid = self.holder.id().to_string();
        ["nsenter", "-t", &pid, "-n"].map(str::to_owned).to_vec()
    }

    fn run(&self, program: &str, arguments: &str) -> String {
        let line = self.inside();
        let mut command = Command::new(&line[0]);
        let output = command.args(&line[1..]).arg(program).args(arguments.split(' ')).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn rules_block_an_address_and_isolate_the_host_in_its_own_network() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    fs::create_dir(root.join("rules")).unwrap();
    let connecting = root.join("rampart-connects").display().to_string();
    let block = json!({
        "id": "block", "name": "block", "description": "Test", "type": "network", "severity": "high", "enabled": true,
        "mode": "auto", "conditions": [format!("process.executable = '{connecting}'")], "actions": ["alert", "block_connection"],
    });
    fs::write(root.join("rules/block.json"), block.to_string()).unwrap();
    let isolate = rule("isolate", "auto", "rampart-isolates", &["alert", "isolate_host"]);
    fs::write(root.join("rules/isolate.json"), isolate).unwrap();
    let (network, peer) = (Namespace::new(), Namespace::new());
    network.run("ip", "link set lo up");
    network.run("ip", &format!("link add cable0 type veth peer name cable1 netns {}", peer.holder.id()));
    network.run("ip", "addr add 10.88.0.1/24 dev cable0");
    network.run("ip", "link set cable0 up");
    peer.run("ip", "addr add 10.88.0.7/24 dev cable1");
    peer.run("ip", "link set cable1 up");
    let listening = "import socket, time; s = socket.create_server(('10.88.0.7', 7445)); print('ready', flush=True); time.sleep(600)";
    let line = peer.inside();
    let mut server = Command::new(&line[0])
        .args(&line[1..])
        .args(["python3", "-c", listening])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let _server = Owned(server);
    assert_eq!(ready.trim(), "ready");
    let output = root.join("out.ndjson");
    let Some(_agent) = started(&root, &output, &network.inside(), "0") else { return };

    let program_of = program(&root, "rampart-connects");
    let line = network.inside();
    let mut attempt = Command::new(&line[0])
        .args(&line[1..])
        .arg(&program_of)
        .args(["-c", "exec 3<>/dev/tcp/10.88.0.7/7445; sleep 60"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let receipt = wait_for("the block's receipt", || receipt_of(&output, "block_connection", "block"));
    let _ = attempt.kill();
    let _ = attempt.wait();
    assert_eq!(receipt["rampart"]["response"]["state"], "verified", "{receipt:#}");
    let rules = network.run("nft", "list ruleset");
    assert!(rules.contains("10.88.0.7") && rules.contains("rampart_block"), "{rules}");

    let isolates = program(&root, "rampart-isolates");
    let _ = Command::new(&isolates).args(["-c", "exit 0"]).status();
    let receipt = wait_for("the isolation's receipt", || receipt_of(&output, "isolate_host", "isolate"));
    assert_eq!(receipt["rampart"]["response"]["state"], "verified", "{receipt:#}");
    let rules = network.run("nft", "list ruleset");
    assert!(
        rules.contains("table inet rampart_isolation") && rules.contains("table netdev rampart_isolation")
    );
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
        ("ask", "ask", "rampart-ask", &["alert", "terminate_process"]),
        ("shadow", "shadow", "rampart-shadow", &["alert", "kill_tree", "quarantine_file"]),
    ] {
        fs::write(rules.join(format!("{id}.json")), rule(id, mode, marker, actions)).unwrap();
    }
    let output = root.join("out.ndjson");
    let Some(_agent) = started(&root, &output, &[], "0") else { return };

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

    // Whoever is asked for waits for a person, and lives on.
    let ask = program(&root, "rampart-ask");
    // It lives until its input ends.
    let mut child =
        Command::new(&ask).args(["-c", "read -r line; exit 8"]).stdin(Stdio::piped()).spawn().unwrap();
    let receipt = wait_for("the asking", || receipt_of(&output, "terminate_process", "ask"));
    assert_eq!(receipt["rampart"]["response"]["state"], "approval_needed", "{receipt:#}");
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(8));

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

/// A short budget makes the agent rest and leave out what is not protected, but no answer.
#[test]
fn a_rule_acts_while_the_budget_is_used_up() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let rules = root.join("rules");
    fs::create_dir(&rules).unwrap();
    fs::write(rules.join("ends.json"), rule("ends", "auto", "rampart-ends", &["terminate_process"])).unwrap();
    let output = root.join("out.ndjson");
    let Some(_agent) = started(&root, &output, &[], "0.5") else { return };
    // target/release/deps/<test> and target/release/examples/storm
    let storm = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/storm");
    let short_storm = || Command::new(&storm).args(["3", "800"]).spawn().unwrap();
    wait_for("the budget to be used up", || {
        assert!(short_storm().wait().unwrap().success());
        fs::read_to_string(&output).unwrap().contains(r#""budget_step":"sleeping""#).then_some(())
    });
    let victim = root.join("rampart-ends");
    test_support::copy_program("/bin/sleep", &victim, "");
    let mut others = short_storm();
    for _ in 0..5 {
        let status = Command::new(&victim).arg("600").status().unwrap();
        assert_eq!(status.signal(), Some(15));
    }
    assert!(others.wait().unwrap().success());
    let receipt = wait_for("the receipt", || receipt_of(&output, "terminate_process", "ends"));
    assert_eq!(receipt["rampart"]["response"]["state"], "verified", "{receipt:#}");
}
