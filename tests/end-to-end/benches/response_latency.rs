//! How long it takes from an alert to the proof that its process is gone, over the whole way: database, bus,
//! responder, order, agent, receipt. Each hop is told. `make bench-response` runs it, after the local way of
//! `kill_latency`; the machine should be idle otherwise.
//!
//! The times are those that the parts wrote down themselves, all by the clock of this machine: the server's log
//! of what it published, the journal of the responder, the order with its receipt.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use end_to_end::Installation;
use event_model::Timestamp;
use serde_json::{Value, json};
use test_support::{Broker, BrokerKind, ResponderOptions, ResponderProcess, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
const VICTIMS: usize = 200;

const PLAYBOOK: &str = "id: end
name: End the victim
mode: auto
trigger: {severity: high, rules: [bench-victim]}
limit: {of_host: 1000}
steps:
  - {id: kill, do: kill_tree}
";

/// Where the times of one alert are taken, in order; each hop is from the one before.
const HOPS: [&str; 7] = [
    "process started -> alert stored by the server",
    "alert stored -> on the bus",
    "on the bus -> run begun by the responder",
    "run begun -> order signed by the server",
    "order signed -> first act of the agent",
    "first act -> end state read back by the agent",
    "read back -> receipt stored by the server",
];

fn main() {
    // `cargo test --benches` asks for a run without measuring.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let Some(mut installation) = Installation::start() else { return };
    let folder = installation.folder().to_owned();
    let Some(broker) = Broker::start(BrokerKind::Redis, &folder.join("redis")) else { return };
    let mut options = installation.stop_server();
    options.arguments.extend([format!("-bus={}", broker.url()), "-debug".to_owned()]);
    installation.start_server(options);
    let rule = json!({
        "id": "bench-victim", "name": "Victim", "description": "For a benchmark.", "type": "process", "severity": "high",
        "enabled": true, "conditions": ["name startswith 'bench-victim-'"], "actions": ["alert"],
    });
    installation.add_rule(&rule);
    fs::create_dir(folder.join("playbooks")).unwrap();
    fs::write(folder.join("playbooks/end.yml"), PLAYBOOK).unwrap();
    let server = installation.server.as_ref().unwrap();
    let arguments = [
        ("bus", broker.url()),
        ("server", server.url()),
        ("ca", server.ca_file().display().to_string()),
        ("playbooks", folder.join("playbooks").display().to_string()),
    ];
    let responder = ResponderProcess::start(ResponderOptions {
        arguments: arguments.iter().map(|(flag, value)| format!("-{flag}={value}")).collect(),
        token: server.api_token("bench", "playbook_runner"),
        environment: Vec::new(),
        state: folder.join("runs"),
    });

    fs::copy("/bin/sleep", folder.join("sleep")).unwrap();
    for number in 0..VICTIMS {
        if number > 0 && number % 50 == 0 {
            println!("{number} of {VICTIMS} victims have ended");
        }
        // Each a program of its own: what repeats is one alert.
        let image = folder.join(format!("bench-victim-{number}"));
        fs::hard_link(folder.join("sleep"), &image).unwrap();
        let mut victim = Command::new(&image).arg("600").spawn().unwrap();
        let ended = wait_for("the victim has ended", LIMIT, || victim.try_wait().unwrap());
        assert!(!ended.success());
    }
    let mut orders = Vec::new();
    let mut open = BTreeMap::new();
    for _ in 0..LIMIT.as_secs() {
        orders = installation.api.all("/responses");
        open.clear();
        for order in &orders {
            *open.entry(order["state"].as_str().unwrap_or_default().to_owned()).or_insert(0) += 1;
        }
        if open.get("verified") == Some(&VICTIMS) {
            break;
        }
        test_support::pause(Duration::from_secs(1));
    }
    // What stands still is named, with the reason that an operator sees.
    let stuck = orders.iter().find(|order| order["state"] != "verified");
    assert_eq!(open.get("verified"), Some(&VICTIMS), "{open:?}, for example {stuck:?}");
    let published = published(&server.output());
    let observed: BTreeMap<String, i64> = installation
        .api
        .all("/alerts?limit=500")
        .iter()
        .map(|alert| (alert["id"].as_str().unwrap().to_owned(), nanos(&alert["time"])))
        .collect();
    responder.stop();

    let mut hops = vec![Vec::with_capacity(VICTIMS); HOPS.len()];
    let (mut whole, mut from_start) = (Vec::with_capacity(VICTIMS), Vec::with_capacity(VICTIMS));
    for (alert, began, response) in runs(&folder.join("runs")) {
        let order = orders.iter().find(|order| order["id"] == response.as_str()).unwrap();
        let steps = order["steps"].as_array().unwrap();
        let step = |place: Option<&Value>| nanos(&place.unwrap()["at"]);
        let (stored, on_the_bus) = published[&alert];
        let times = [
            observed[&alert],
            stored,
            on_the_bus,
            began,
            nanos(&order["created_at"]),
            step(steps.first()),
            step(steps.last()),
            nanos(&order["state_at"]),
        ];
        for (hop, pair) in hops.iter_mut().zip(times.windows(2)) {
            hop.push(pair[1] - pair[0]);
        }
        whole.push(times[7] - times[1]);
        from_start.push(times[7] - times[0]);
    }
    for (title, times) in HOPS.iter().zip(hops) {
        report(title, times);
    }
    report("alert -> proved, whole (goal: p99 < 100 ms)", whole);
    report("process started -> proved, whole", from_start);
}

/// When each alert was stored and when the bus had it, as the server's log has it.
fn published(log: &str) -> BTreeMap<String, (i64, i64)> {
    let value = |line: &str, key: &str| -> Option<String> {
        let rest = line.split_once(&format!("{key}="))?.1;
        Some(rest.split_whitespace().next()?.trim_matches('"').to_owned())
    };
    let of_line = |line: &str| {
        let time = |key| Some(value(line, key)?.parse::<Timestamp>().ok()?.as_nanos());
        Some((value(line, "alert")?, (time("stored_at")?, time("published_at")?)))
    };
    log.lines().filter(|line| line.contains("alert published")).filter_map(of_line).collect()
}

/// Alert, beginning and response of each run in a folder of journals.
fn runs(folder: &Path) -> Vec<(String, i64, String)> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let journals = files.filter(|path| path.extension().is_some_and(|end| end == "run"));
    let run = journals.map(|path| {
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let response = lines.iter().find_map(|line| line["response"].as_str()).unwrap();
        (lines[0]["alert"]["id"].as_str().unwrap().to_owned(), nanos(&lines[0]["began"]), response.to_owned())
    });
    run.collect()
}

fn nanos(time: &Value) -> i64 {
    time.as_str().unwrap().parse::<Timestamp>().unwrap().as_nanos()
}

fn report(title: &str, mut times: Vec<i64>) {
    times.sort_unstable();
    let at = |share: f64| {
        let place = (times.len() as f64 * share) as usize;
        times[place.min(times.len() - 1)] as f64 / 1_000_000.0
    };
    println!(
        "{title}: n {}, p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        times.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}
