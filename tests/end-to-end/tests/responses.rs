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

/// A rule in the mode `ask`: nothing is done until a person who may says yes, and then it is done and proved.
#[test]
fn what_a_rule_asks_for_is_done_when_a_person_agrees() {
    use std::os::unix::process::ExitStatusExt as _;
    let Some(installation) = Installation::start() else { return };
    let api = &installation.api;
    let rule = json!({
        "id": "asks", "name": "Asks", "description": "For a test.", "type": "process", "severity": "high",
        "enabled": true, "mode": "ask", "conditions": ["name = 'victim-of-ask'"], "actions": ["alert", "kill_tree"],
    });
    installation.add_rule(&rule);
    let image = installation.folder().join("victim-of-ask");
    test_support::copy_program("/bin/sleep", &image, "");
    let mut victim = Command::new(&image).arg("644").spawn().expect("it starts");
    let pending = wait_for("it asks", Duration::from_secs(60), || {
        api.get("/responses?state=pending").ok()?["items"].as_array()?.first().cloned()
    });
    assert_eq!(
        (&pending["created_by"], &pending["action"]),
        (&json!("rule:asks"), &json!("kill_tree")),
        "{pending}"
    );
    assert!(pending["alert_id"].is_string() && pending["approvals_needed"] == 1, "{pending}");
    assert!(victim.try_wait().expect("can be asked").is_none(), "nothing is done before a person agrees");
    let path = format!("/responses/{}/decision", pending["id"].as_str().expect("an id"));
    let yes = json!({ "approve": true, "comment": "seen" });
    // A script's word is nobody's, and who may not approve can't either.
    assert_eq!(api.post(&path, &yes).expect_err("a token").status, 422);
    let rita = api.person("rita", "responder");
    assert_eq!(rita.post(&path, &yes).expect_err("no approver").status, 403);
    assert!(victim.try_wait().expect("can be asked").is_none(), "still nothing is done");
    api.person("ada", "approver").post(&path, &yes).expect("she may");
    let done = ended(&installation, &pending);
    assert_eq!(done["state"], "verified", "{done}");
    assert_eq!(done["decisions"][0]["by"], "ada");
    let status = wait_for("the victim has ended", Duration::from_secs(60), || {
        victim.try_wait().expect("our own child")
    });
    assert_eq!(status.signal(), Some(9));
    tell("what a rule asked for was done after a person agreed");
}

#[test]
fn a_file_in_quarantine_is_deleted_for_good_by_an_order() {
    let Some(installation) = Installation::start() else { return };
    let file = installation.folder().canonicalize().expect("it is there").join("evil");
    std::fs::write(&file, "harmless").expect("written");
    let taken = ordered(&installation, "quarantine_file", &json!({ "path": file }), false);
    assert_eq!((&taken["state"], &taken["can_undo"]), (&json!("verified"), &json!(true)), "{taken}");
    let deleted = ordered(&installation, "delete_quarantined_file", &json!({ "item": taken["id"] }), false);
    assert_eq!((&deleted["state"], &deleted["can_undo"]), (&json!("verified"), &json!(false)), "{deleted}");
    let id = taken["id"].as_str().expect("an id");
    let vault = installation.folder().join(format!("agent/responses/vault/{id}.sealed"));
    assert!(!vault.exists(), "{}", vault.display());
    let undo = installation.api.post(&format!("/responses/{id}/undo"), &json!({})).expect("ordered");
    let undone = ended(&installation, &undo);
    assert_eq!(undone["state"], "refused", "{undone}");
    assert!(undone["reason"].as_str().is_some_and(|reason| reason.contains("for good")), "{undone}");
    let audit = installation.api.get("/audit?limit=100").expect("the log").to_string();
    assert!(audit.contains("delete_quarantined_file"), "{audit}");
}

const IN_NAMESPACE: &str = "RAMPART_TEST_IN_NAMESPACE";

/// In a network namespace of its own: server, agent and the person on the host.
#[test]
fn a_code_that_was_read_out_releases_an_isolated_host_and_the_server_hears_of_it() {
    let devices = "ip link set lo up && ip link add cable0 type veth peer name cable1 && ip link set cable0 up && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", devices, "sh"])
        .arg(std::env::current_exe().expect("a running test has a path"))
        .args(["--exact", "within_a_network_namespace", "--nocapture", "--test-threads=1"])
        .env(IN_NAMESPACE, "1")
        .status()
        .expect("unshare can be started");
    assert!(status.success(), "see above");
}

fn ruleset() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().expect("nft can be started");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Not a test by itself: the one above runs it.
#[test]
fn within_a_network_namespace() {
    if std::env::var_os(IN_NAMESPACE).is_none() {
        return;
    }
    let Some(installation) = Installation::start() else { return };
    let isolated = ordered(&installation, "isolate_host", &json!({ "ttl_seconds": 3_600 }), false);
    assert_eq!(isolated["state"], "verified", "{isolated}");
    assert!(ruleset().contains("rampart_isolation"));
    let id = isolated["id"].as_str().expect("an id");
    let code =
        installation.api.get(&format!("/responses/{id}/release-code")).expect("who may act may read it");
    let code = code["code"].as_str().expect("a code").to_owned();
    let release = |code: &str| {
        let mut command = Command::new(test_support::binary("edr-agent"));
        let state = format!("-state={}", installation.folder().join("agent").display());
        let output = command.arg(state).arg("-release").arg(code).output().expect("it can be started");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said.into_owned())
    };
    let (succeeded, said) = release("AAAAA-BBBBB-CCCCC-DDDDD");
    assert!(!succeeded && said.contains("not that of this isolation"), "{said}");
    assert!(ruleset().contains("rampart_isolation"), "a wrong code releases nobody");
    // As it is read out: small letters, spaces for dashes.
    let (succeeded, said) = release(&code.to_lowercase().replace('-', " "));
    assert!(succeeded, "{said}");
    assert!(!ruleset().contains("rampart_isolation"), "the host is free");
    let limit = Duration::from_secs(60);
    let told = wait_for("the server knows of the release", limit, || {
        let all = installation.api.all("/responses");
        all.into_iter().find(|one| one["created_by"] == "code:release")
    });
    assert_eq!((&told["undo_of"], &told["state"]), (&isolated["id"], &json!("verified")), "{told}");
    let alerts = wait_for("an alert tells of it", limit, || {
        let alerts = installation.api.all("/alerts");
        let of_agent: Vec<Value> = alerts
            .into_iter()
            .filter(|one| one["rule"]["id"].as_str().is_some_and(|id| id.contains("tamper")))
            .collect();
        (!of_agent.is_empty()).then_some(of_agent)
    });
    assert_eq!(alerts[0]["rule"]["severity"], "critical", "{alerts:?}");
    let events = installation.api.all("/events?type=agent_tamper&limit=500");
    let what: Vec<&str> =
        events.iter().filter_map(|event| event["rampart"]["agent"]["tampered"].as_str()).collect();
    assert!(what.contains(&"release_code_wrong") && what.contains(&"isolation_released"), "{what:?}");
    tell("a host was released by its code, and the server knows");
}
