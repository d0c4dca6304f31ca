//! From an alert to the act by a playbook: the bus, the responder, the server's order, the real agent, the proof.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use end_to_end::Installation;
use serde_json::json;
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

#[test]
fn a_playbook_ends_the_process_of_an_alert_and_proves_it() {
    let Some(mut installation) = Installation::start() else { return };
    let folder = installation.folder().to_owned();
    let Some(broker) = Broker::start(BrokerKind::Redis, &folder.join("redis")) else { return };
    let mut options = installation.stop_server();
    options.arguments.push(format!("-bus={}", broker.url()));
    installation.start_server(options);
    let before = installation.host()["rules_version"].clone();
    let rule = json!({
        "id": "playbook-victim", "name": "Victim of a playbook", "description": "For a test.", "type": "process",
        "severity": "high", "enabled": true, "conditions": ["name = 'playbook-victim'"], "actions": ["alert"],
    });
    installation.api.post("/rules", &json!({ "text": rule.to_string() })).expect("a good rule");
    wait_for("the agent has the rule", LIMIT, || {
        (installation.host()["rules_version"] != before).then_some(())
    });

    fs::create_dir(folder.join("playbooks")).expect("our own folder");
    fs::write(folder.join("playbooks/end.yml"), PLAYBOOK).expect("our own folder");
    let server = installation.server.as_ref().expect("it runs");
    let arguments = [
        ("bus", broker.url()),
        ("server", server.url()),
        ("ca", server.ca_file().display().to_string()),
        ("playbooks", folder.join("playbooks").display().to_string()),
    ];
    let responder = ResponderProcess::start(ResponderOptions {
        arguments: arguments.iter().map(|(flag, value)| format!("-{flag}={value}")).collect(),
        token: server.api_token("playbooks", "responder"),
        environment: Vec::new(),
        state: folder.join("runs"),
    });

    let image = folder.join("playbook-victim");
    test_support::copy_program("/bin/sleep", &image, "");
    let mut victim = Command::new(&image).arg("600").spawn().expect("it starts");
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
