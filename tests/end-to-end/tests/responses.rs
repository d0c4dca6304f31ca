//! From the API to the act and back: orders on the real agent, with their proofs.

use std::process::Command;
use std::time::Duration;

use end_to_end::Installation;
use serde_json::{Value, json};
use test_support::{tell, wait_for};

fn ordered(installation: &Installation, action: &str, parameters: &Value, dry_run: bool) -> Value {
    let host = installation.host()["id"].as_str().expect("an id").to_owned();
    let body = json!({ "action": action, "parameters": parameters, "dry_run": dry_run });
    let made = installation.api.post(&format!("/hosts/{host}/responses"), &body).expect("it is ordered");
    ended(installation, &made)
}

fn ended(installation: &Installation, made: &Value) -> Value {
    let path = format!("/responses/{}", made["id"].as_str().expect("an id"));
    wait_for("the receipt", Duration::from_secs(30), || {
        let now = installation.api.get(&path).ok()?;
        (!["queued", "sent"].contains(&now["state"].as_str()?)).then_some(now)
    })
}

#[test]
fn orders_are_done_once_proved_and_undone() {
    let Some(mut installation) = Installation::start() else { return };

    let mut tree =
        Command::new("bash").args(["-c", "sleep 641 & sleep 642 & wait"]).spawn().expect("it starts");
    let mut other = Command::new("sleep").arg("643").spawn().expect("it starts");
    let listed = ordered(&installation, "list_processes", &json!({}), false);
    assert_eq!(listed["state"], "verified", "{listed}");
    let entity = |pid: u32| -> Value {
        let processes = listed["result"].as_array().expect("a list");
        processes.iter().find(|one| one["pid"] == pid).expect("it is listed")["entity_id"].clone()
    };
    let target = json!({ "entity_id": entity(tree.id()) });
    let planned = ordered(&installation, "kill_tree", &target, true);
    assert_eq!(planned["state"], "planned", "{planned}");
    assert_eq!(planned["plan"].as_array().map(Vec::len), Some(4), "{planned}");
    assert!(tree.try_wait().expect("can be asked").is_none(), "a dry run does nothing");
    let killed = ordered(&installation, "kill_tree", &target, false);
    assert_eq!(killed["state"], "verified", "{killed}");
    assert_eq!(killed["result"]["ended"].as_array().map(Vec::len), Some(3), "{killed}");
    tree.wait().expect("it ended");
    assert!(other.try_wait().expect("can be asked").is_none(), "nobody else ended");
    let gone = ordered(&installation, "kill_tree", &target, false);
    assert_eq!(gone["state"], "refused", "{gone}");

    // The agent itself is never a target.
    let agent = installation.agent.as_mut().expect("it runs").pid();
    let listed = ordered(&installation, "list_processes", &json!({}), false);
    let own = listed["result"].as_array().expect("a list").iter().find(|one| one["pid"] == agent).cloned();
    let own = json!({ "entity_id": own.expect("it is listed")["entity_id"] });
    let refused = ordered(&installation, "terminate_process", &own, false);
    assert_eq!(refused["state"], "refused", "{refused}");
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("protected")), "{refused}");

    let file = installation.folder().canonicalize().expect("it is there").join("evil");
    std::fs::write(&file, "harmless").expect("written");
    let taken = ordered(&installation, "quarantine_file", &json!({ "path": file }), false);
    assert_eq!((&taken["state"], file.exists()), (&json!("verified"), false), "{taken}");

    // The agent is restarted: what comes again is known, what was taken is still there.
    let options = installation.kill_agent();
    installation.agent = Some(test_support::AgentProcess::start(options));
    let id = taken["id"].as_str().expect("an id");
    let undo = installation.api.post(&format!("/responses/{id}/undo"), &json!({})).expect("ordered");
    let undone = ended(&installation, &undo);
    assert_eq!(undone["state"], "verified", "{undone}");
    assert_eq!(std::fs::read_to_string(&file).expect("it is back"), "harmless");
    other.kill().expect("our own child");
    other.wait().expect("our own child");
    let audit = installation.api.get("/audit?limit=100").expect("the log").to_string();
    assert!(audit.contains("response.order") && audit.contains("response.result"));
    tell("orders were done, proved and undone by the real agent");
}
