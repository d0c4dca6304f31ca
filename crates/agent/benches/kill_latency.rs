//! Time from exec to the first signal, and to the proof of the end, for a rule in mode `auto`, on the real agent, and how
//! many victims did anything at all before.
//!
//! Starts the standalone agent with one rule, then victims one after another, and
//! reads from the agent's own output when the kernel saw the exec (event time) and
//! when the signal had been sent (receipt step). Both come from one clock. A victim's
//! first instructions make a file. `make bench-kill` runs it; the machine should be
//! idle otherwise: what happens on a busy one is measured beside threads that take
//! all CPUs and one more.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use event_model::Timestamp;
use serde_json::Value as Json;
use test_support::{Then, write_first_act_program};

const VICTIMS: usize = 300;
const VICTIMS_OF_AN_AGENT: usize = response::MAX_AUTOMATIC_PER_MINUTE - 10;

fn main() {
    // `cargo test --benches` asks for a run without measuring.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    for (signal, grace, place) in [
        ("SIGKILL", "0s", "idle machine"),
        ("SIGTERM", "1s", "idle machine"),
        ("SIGKILL", "0s", "busy machine"),
    ] {
        let _busy = (place == "busy machine").then(BusyThreads::start);
        let Some(measured) = measure(grace, signal) else {
            println!("skipped: the eBPF sensor can't run here");
            return;
        };
        println!("{place}, terminate_grace {grace}");
        report(
            &format!("  exec to {signal} sent (goal for SIGKILL on an idle machine: p99 200 µs)"),
            measured.sent,
        );
        report("  the same for the first victim of each agent", measured.first);
        report(&format!("  {signal} sent to end proved"), measured.proved);
        report("  exec to end proved (goal on an idle machine: p99 < 2 ms)", measured.whole);
        println!("  victims that did their first act: {} of {VICTIMS}", measured.acted);
    }
}

/// Threads that do nothing but run, one more than there are CPUs, until it is dropped.
struct BusyThreads {
    stop: Arc<AtomicBool>,
}

impl BusyThreads {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..=std::thread::available_parallelism().unwrap().get() {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self { stop }
    }
}

impl Drop for BusyThreads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Agent {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Nanoseconds for each victim.
#[derive(Default)]
struct Measured {
    /// From exec to the signal, for the first victim of each agent, which still takes in what ran before it.
    first: Vec<u64>,
    /// The same for all others.
    sent: Vec<u64>,
    /// From there to the proof.
    proved: Vec<u64>,
    /// Both together.
    whole: Vec<u64>,
    /// Victims that did their first act, of those that are not an agent's first.
    acted: usize,
}

fn measure(grace: &str, signal: &str) -> Option<Measured> {
    let step = format!("sent {signal}");
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    std::fs::create_dir(&rules).unwrap();
    let rule = format!(
        r#"{{"id": 1, "name": "bench", "description": "bench", "type": "process", "severity": "high",
            "enabled": true, "mode": "auto", "terminate_grace": "{grace}",
            "conditions": ["name = 'rampart_bench_victim'"], "actions": ["terminate_process"]}}"#
    );
    std::fs::write(rules.join("rule.json"), rule).unwrap();
    let victim = dir.path().join("rampart_bench_victim");
    write_first_act_program(&victim, Then::Waits).unwrap();
    let trace = dir.path().join("trace");

    let mut measured = Measured::default();
    // The breaker allows sixty kills a minute: a new agent is a new minute.
    for _ in 0..VICTIMS / VICTIMS_OF_AN_AGENT {
        let mut agent = start(&rules, dir.path())?;
        for round in 0..=VICTIMS_OF_AN_AGENT {
            let mut child = Command::new(&victim).arg(&trace).spawn().unwrap();
            child.wait().unwrap();
            let has_acted = std::fs::remove_file(&trace).is_ok();
            let (to_signal, to_end) = latency(&mut agent.output, child.id(), &step);
            if round == 0 {
                measured.first.push(to_signal);
                continue;
            }
            measured.acted += usize::from(has_acted);
            measured.sent.push(to_signal);
            measured.proved.push(to_end - to_signal);
            measured.whole.push(to_end);
        }
    }
    Some(measured)
}

fn start(rules: &Path, state: &Path) -> Option<Agent> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_edr-agent"))
        .args(["-standalone", "-output", "-", "-rules"])
        .arg(rules)
        .arg("-state")
        .arg(state)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("agent is running") {
        line.clear();
        if errors.read_line(&mut line).unwrap() == 0 {
            let _ = child.wait();
            return None;
        }
    }
    let ebpf = line.contains("sensor ebpf");
    // Read on, so that the agent never waits for its log.
    std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    let output = BufReader::new(child.stdout.take().unwrap());
    let agent = Agent { child, output };
    ebpf.then_some(agent)
}

/// Nanoseconds from the exec event to the step of the receipt, and to its last, for that process.
fn latency(output: &mut impl BufRead, pid: u32, step: &str) -> (u64, u64) {
    let mut execs: HashMap<String, i64> = HashMap::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut line = String::new();
    while Instant::now() < deadline {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "the agent ended");
        let record: Json = serde_json::from_str(&line).unwrap();
        if record["process"]["pid"] != pid {
            continue;
        }
        let entity = record["process"]["entity_id"].as_str().unwrap_or_default().to_owned();
        match record["rampart"]["event"]["type"].as_str() {
            Some("process_start") => {
                execs.insert(entity, nanos(&record["@timestamp"]));
            }
            Some("response") => {
                let steps = record["rampart"]["response"]["steps"].as_array().unwrap();
                let sent = steps.iter().find(|one| one["what"] == step);
                let sent = sent.unwrap_or_else(|| panic!("no `{step}` in {record}"));
                let ended = steps.iter().find(|one| one["what"] == "process ended");
                let ended = ended.unwrap_or_else(|| panic!("no end in {record}"));
                let since = |one: &Json| u64::try_from(nanos(&one["at"]) - execs[&entity]).unwrap();
                return (since(sent), since(ended));
            }
            _ => {}
        }
    }
    panic!("no receipt for {pid}");
}

fn nanos(time: &Json) -> i64 {
    time.as_str().unwrap().parse::<Timestamp>().unwrap().as_nanos()
}

fn report(title: &str, mut latencies: Vec<u64>) {
    latencies.sort_unstable();
    let at = |share: f64| {
        let place = (latencies.len() as f64 * share) as usize;
        latencies[place.min(latencies.len() - 1)] as f64 / 1_000.0
    };
    println!(
        "{title}: n {}, p50 {:.0} µs, p90 {:.0} µs, p99 {:.0} µs, max {:.0} µs",
        latencies.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}
