//! From an alert to the act by a playbook: the bus, the responder, the server's order, the real agent, the proof.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command};
use std::time::Duration;

use end_to_end::Installation;
use serde_json::{Value, json};
use test_support::{Broker, BrokerKind, ResponderOptions, ResponderProcess, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

const PLAYBOOK: &str = "id: end
name: End the victim
mode: auto
trigger: {severity: high, rules: [playbook-victim]}
steps:
  - {id: kill, do: kill_tree}
  - {id: gather, do: collect_evidence, with: {include: [processes, maps]}}
";

/// Nothing triggers it but a person.
const ASKED_FOR: &str = "id: by-hand
name: End the victim and take its program away
mode: auto
trigger: {severity: high, rules: [nobodys-rule]}
steps:
  - {id: gather, do: collect_evidence, with: {include: [processes, maps]}}
  - {id: kill, do: kill_tree, after: [gather]}
  - {id: take, do: quarantine_file, after: [kill]}
";

struct Stage {
    installation: Installation,
    broker: Broker,
    responder: ResponderProcess,
}

/// Server, agent, broker and responder, with a rule for the program of that name and one playbook.
fn stage(program: &str, playbook: &str) -> Option<Stage> {
    let mut installation = Installation::start()?;
    let folder = installation.folder().to_owned();
    let broker = Broker::start(BrokerKind::Redis, &folder.join("redis"))?;
    let mut options = installation.stop_server();
    options.arguments.push(format!("-bus={}", broker.url()));
    installation.start_server(options);
    let rule = json!({
        "id": program, "name": "Victim of a playbook", "description": "For a test.", "type": "process",
        "severity": "high", "enabled": true, "conditions": [format!("name = '{program}'")], "actions": ["alert"],
    });
    installation.add_rule(&rule);
    fs::create_dir(folder.join("playbooks")).expect("our own folder");
    fs::write(folder.join("playbooks/one.yml"), playbook).expect("our own folder");
    let server = installation.server.as_ref().expect("it runs");
    let arguments = [
        ("bus", broker.url()),
        ("server", server.url()),
        ("ca", server.ca_file().display().to_string()),
        ("playbooks", folder.join("playbooks").display().to_string()),
    ];
    let responder = ResponderProcess::start(ResponderOptions {
        arguments: arguments.iter().map(|(flag, value)| format!("-{flag}={value}")).collect(),
        token: server.api_token("playbooks", "playbook_runner"),
        environment: Vec::new(),
        state: folder.join("runs"),
    });
    Some(Stage { installation, broker, responder })
}

fn start_victim(installation: &Installation, name: &str) -> Child {
    let image = installation.folder().join(name);
    test_support::copy_program("/bin/sleep", &image, "");
    Command::new(&image).arg("600").spawn().expect("it starts")
}

/// A run once it is in that state.
fn run_in_state(installation: &Installation, run: &Value, state: &str) -> Value {
    let path = format!("/playbook-runs/{}", run["id"].as_str().expect("an id"));
    wait_for(&format!("the run is {state}"), LIMIT, || {
        let now = installation.api.get(&path).ok()?;
        // What the agents say of its orders comes on another road.
        let has_all = now["steps"].as_array()?.iter().all(|step| {
            step["response_id"].is_null()
                || !["queued", "sent"].contains(&step["response_state"].as_str().unwrap_or("sent"))
        });
        (now["state"] == state && has_all).then_some(now)
    })
}

/// A person has a playbook tried, run and undone from the API: the dry run does nothing and says to the letter what
/// the run then does.
#[test]
fn a_dry_run_says_precisely_what_the_run_does_and_the_run_is_undone() {
    let Some(Stage { installation, broker: _broker, responder }) = stage("victim-by-hand", ASKED_FOR) else {
        return;
    };
    let api = &installation.api;
    let mut victim = start_victim(&installation, "victim-by-hand");
    let image = installation.folder().join("victim-by-hand");
    let content = fs::read(&image).expect("our own file");
    let alert = wait_for("the alert", LIMIT, || {
        let alerts = api.all("/alerts");
        alerts.into_iter().find(|alert| alert["rule"]["id"] == "victim-by-hand")
    });
    let ask = |dry_run: bool| {
        let body = json!({ "alert_id": alert["id"], "playbook": "by-hand", "dry_run": dry_run });
        api.post("/playbook-runs", &body).expect("it is asked for")
    };
    let dry = run_in_state(&installation, &ask(true), "completed");
    for step in dry["steps"].as_array().expect("steps") {
        assert_eq!(
            (&step["outcome"], &step["response_state"]),
            (&json!("shadowed"), &json!("planned")),
            "{dry}"
        );
        assert!(step["plan"].as_array().is_some_and(|plan| !plan.is_empty()), "{dry}");
    }
    assert!(victim.try_wait().expect("can be asked").is_none() && image.exists(), "a dry run does nothing");
    assert_eq!(dry["can_undo"], false);

    let done = run_in_state(&installation, &ask(false), "completed");
    assert_eq!(
        done["compared"],
        json!({ "dry_run_id": dry["id"], "same": true, "differing_steps": [] }),
        "{done}"
    );
    let status = wait_for("the victim has ended", LIMIT, || victim.try_wait().expect("our own child"));
    assert_eq!(status.signal(), Some(9));
    assert!(!image.exists(), "its program is in the vault");
    let again = json!({ "alert_id": alert["id"], "playbook": "by-hand", "dry_run": false });
    assert_eq!(api.post("/playbook-runs", &again).expect_err("once").status, 409);

    let undo = format!("/playbook-runs/{}/undo", done["id"].as_str().expect("an id"));
    api.post(&undo, &json!({})).expect("it is asked for");
    let undone = run_in_state(&installation, &done, "undone");
    assert_eq!(fs::read(&image).expect("it is back"), content);
    let outcome = |id: &str| {
        let steps = undone["steps"].as_array().expect("steps").iter();
        steps.clone().find(|step| step["id"] == id).map(|step| step["undone"].clone())
    };
    assert_eq!(outcome("take"), Some(json!(true)), "{undone}");
    assert_eq!(api.post(&undo, &json!({})).expect_err("once").status, 409);
    // An end is an end, and the page says so rather than that all is as before.
    assert_ne!(outcome("kill"), Some(json!(true)), "{undone}");
    responder.stop();
}

/// The same by clicks in the console: what its page says of the dry run is what it then says of the run.
#[test]
fn a_dry_run_in_the_console_says_what_the_run_then_does() {
    let Some(Stage { installation, broker: _broker, responder }) = stage("victim-of-click", ASKED_FOR) else {
        return;
    };
    let mut victim = start_victim(&installation, "victim-of-click");
    let image = installation.folder().join("victim-of-click");
    let alert = wait_for("the alert", LIMIT, || {
        let alerts = installation.api.all("/alerts");
        alerts.into_iter().find(|alert| alert["rule"]["id"] == "victim-of-click")
    });
    installation.in_a_browser(
        "playbook-run.mjs",
        &[
            ("RAMPART_ALERT", alert["id"].as_str().expect("an id").to_owned()),
            ("RAMPART_PLAYBOOK", "by-hand".to_owned()),
            ("RAMPART_STEPS", "3".to_owned()),
            ("RAMPART_VICTIM", image.display().to_string()),
            ("RAMPART_VICTIM_PID", victim.id().to_string()),
        ],
    );
    let status = wait_for("the victim has ended", LIMIT, || victim.try_wait().expect("our own child"));
    assert_eq!(status.signal(), Some(9));
    responder.stop();
}

#[test]
fn a_playbook_ends_the_process_of_an_alert_and_proves_it() {
    let Some(Stage { installation, broker: _broker, responder }) = stage("playbook-victim", PLAYBOOK) else {
        return;
    };
    let mut victim = start_victim(&installation, "playbook-victim");
    let status = wait_for("the victim has ended", LIMIT, || victim.try_wait().expect("our own child"));
    assert_eq!(status.signal(), Some(9));
    let orders = wait_for("both orders are proved", LIMIT, || {
        let orders = installation.api.get("/responses").ok()?["items"].as_array()?.clone();
        (orders.len() == 2 && orders.iter().all(|order| order["state"] == "verified")).then_some(orders)
    });
    let mut actions: Vec<_> = orders.iter().filter_map(|order| order["action"].as_str()).collect();
    actions.sort_unstable();
    assert_eq!(actions, ["collect_evidence", "kill_tree"]);
    responder.stop();
}
