//! An outside subscriber of the Pub/Sub channel, written as they are: Python, redis-py and psutil.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use test_support::{skip, wait_for};

use crate::place::{LIMIT, Place};

/// Takes one message and ends the process it names; reads only the keys that were always there.
const SUBSCRIBER: &str = r#"
import json, sys
import psutil, redis

pubsub = redis.Redis(port=int(sys.argv[1]), decode_responses=True).pubsub()
pubsub.subscribe("high_severity_alerts")
for message in pubsub.listen():
    if message["type"] == "subscribe":
        print("ready", flush=True)
    if message["type"] != "message":
        continue
    alert = json.loads(message["data"])
    print(json.dumps(alert), flush=True)
    process = psutil.Process(alert["actionable_pid"])
    process.terminate()
    break
"#;

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Python with both modules.
fn python() -> Option<&'static str> {
    ["/usr/bin/python3", "python3"].into_iter().find(|python| {
        let mut check = Command::new(python);
        check.args(["-c", "import redis, psutil"]).stderr(Stdio::null());
        check.status().is_ok_and(|status| status.success())
    })
}

#[test]
fn a_python_subscriber_gets_the_alert_and_ends_the_process() {
    let Some(python) = python() else {
        return skip("no Python with redis and psutil (scripts/install-dependencies.sh test)");
    };
    let Some(place) = Place::new() else { return };
    let mut marked = Ended(Command::new("sleep").arg("1000").spawn().expect("as the test needs it"));
    let script = place.folder.path().join("subscriber.py");
    std::fs::File::create(&script)
        .expect("as the test needs it")
        .write_all(SUBSCRIBER.as_bytes())
        .expect("as the test needs it");
    let output = place.folder.path().join("said");
    let mut command = Command::new(python);
    command
        .arg(&script)
        .arg(place.broker.port().to_string())
        .stdout(std::fs::File::create(&output).expect("as the test needs it"));
    let _subscriber = Ended(command.spawn().expect("as the test needs it"));
    let said = || std::fs::read_to_string(&output).expect("as the test needs it");
    wait_for("the subscriber", LIMIT, || said().contains("ready").then_some(()));

    place.alert(1, marked.0.id());
    let status =
        wait_for("the marked process ends", LIMIT, || marked.0.try_wait().expect("as the test needs it"));
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15), "{status}");
    let alert = said().lines().find(|line| line.starts_with('{')).expect("as the test needs it").to_owned();
    let alert: serde_json::Value = serde_json::from_str(&alert).expect("as the test needs it");
    assert_eq!(alert["level"], "HIGH");
    assert_eq!(alert["title"], "Reverse shell");
    assert_eq!(alert["details"], "命令行: shell 1");
    assert_eq!(alert["actionable_pid"], marked.0.id());
    assert!(alert["timestamp"].is_string() && alert["description"].is_string());
}
