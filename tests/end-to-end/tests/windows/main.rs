//! The Windows agent under Wine, with the real server of this machine.
//!
//! `make test-windows` builds what is needed and runs these; without it they are ignored.

mod bad_input;
mod guest;
mod installation;
mod service;
mod takeover;

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use installation::{Installation, LONG, text};
use serde_json::{Value, json};
use test_support::{ServerOptions, ServerProcess, tell, wait_for};

const RUN: &str = r"HKLM\Software\Microsoft\Windows\CurrentVersion\Run";
const OWN_KEY: &str = r"HKLM\Software\Rampart test";

/// A rule of this host alone. Those of the seed come from the server, which has them from its first start.
fn write_rules(dir: &Path) {
    let rule = json!({
        "id": 900, "name": "autostart", "description": "a program that starts by itself", "type": "registry",
        "severity": "medium", "enabled": true, "mode": "auto", "actions": ["alert", "log"],
        "conditions": ["key contains 'CurrentVersion' and data contains 'evil.exe'"],
    });
    fs::write(dir.join("autostart.json"), rule.to_string()).expect("written");
}

#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn a_windows_host_is_watched_judged_and_acted_on() {
    let Some(mut on) = Installation::start() else { return };
    let start = on.event("agent_start", |_| true);
    let sources = start["rampart"]["agent"]["sources"].to_string();
    assert!(sources.contains("registry_change=registry_watch"), "{sources}");
    for missing in ["event_log", "dns_query", "image_load", "script_content"] {
        let told = format!("{missing}=none: source not available");
        assert!(sources.contains(&told), "Wine has no {missing}: {sources}");
    }
    let made = ["process_start=process_snapshot", "scheduled_task=task_files", "service=service_list"];
    assert!(made.iter().all(|source| sources.contains(source)), "{sources}");

    registry(&on);
    files(&on);
    processes(&on);
    network(&on);
    responses(&on);
    bad_input::registry(&on);
    bad_input::targets(&on);
    takeover::tasks(&on);
    takeover::services(&on);
    takeover::evidence(&on);
    takeover::firewall(&on);
    outage(&mut on);
    assert!(!on.agent.ended(), "the agent ended:\n{}", on.log());
}

/// An autostart that comes, changes and goes: told with old and new, and an alert.
fn registry(on: &Installation) {
    // The watch stands once a change is seen.
    on.wine.run("reg", &["add", RUN, "/v", "Rampart", "/d", r"C:\first.exe", "/f"]);
    let is = |event: &Value, new: &str| {
        text(event, &["registry", "path"]).ends_with(r"CurrentVersion\Run\Rampart")
            && text(event, &["rampart", "change", "new"]) == new
    };
    on.event("registry_change", |event| is(event, r"C:\first.exe"));
    on.wine.run("reg", &["add", RUN, "/v", "Rampart", "/d", r"C:\evil.exe", "/f"]);
    let changed = on.event("registry_change", |event| is(event, r"C:\evil.exe"));
    assert_eq!(text(&changed, &["rampart", "change", "old"]), r"C:\first.exe", "{changed}");
    assert_eq!(changed["registry"]["data"]["type"], "REG_SZ", "{changed}");
    let alert = on.alert(900);
    assert!(text(&alert, &["event", "registry", "path"]).ends_with("Rampart"), "{alert}");
    on.wine.run("reg", &["delete", RUN, "/v", "Rampart", "/f"]);
    on.event("registry_change", |event| {
        text(event, &["registry", "path"]).ends_with(r"Run\Rampart")
            && text(event, &["rampart", "registry", "operation"]) == "delete"
            && text(event, &["rampart", "change", "old"]) == r"C:\evil.exe"
    });

    // A key that was asked for by `-regs` and was not there: it comes, has a value of each kind, and goes.
    on.wine.run("reg", &["add", OWN_KEY, "/v", "text", "/d", "a", "/f"]);
    on.wine.run("reg", &["add", OWN_KEY, "/v", "number", "/t", "REG_DWORD", "/d", "7", "/f"]);
    on.wine.run("reg", &["add", OWN_KEY, "/v", "bytes", "/t", "REG_BINARY", "/d", &"ab".repeat(3_000), "/f"]);
    for (name, new) in [("text", "a"), ("number", "DWORD (0x00000007)")] {
        on.event("registry_change", |event| {
            text(event, &["registry", "value"]) == name && text(event, &["rampart", "change", "new"]) == new
        });
    }
    let bytes = on.event("registry_change", |event| text(event, &["registry", "value"]) == "bytes");
    assert!(text(&bytes, &["rampart", "change", "new"]).ends_with('…'), "{bytes}");
    on.wine.run("reg", &["delete", OWN_KEY, "/f"]);
    on.event("registry_change", |event| {
        text(event, &["registry", "key"]).eq_ignore_ascii_case(OWN_KEY)
            && text(event, &["rampart", "registry", "operation"]) == "delete"
            && event["registry"]["value"].is_null()
    });
    tell("registry: an autostart was told with old and new and raised an alert; a key came and went");
}

fn files(on: &Installation) {
    let file = on.wine.drive("watched/note.txt");
    let path = r"C:\watched\note.txt";
    let is = |event: &Value| text(event, &["file", "path"]).eq_ignore_ascii_case(path);
    fs::write(&file, "one").expect("written");
    on.event("file_create", is);
    // By its hash: a create may have been told before the content was there.
    let one = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
    on.wait("the first content is known", || {
        let seen = ["file_create", "file_modify"].iter().any(|event_type| {
            on.events(event_type)
                .iter()
                .any(|event| is(event) && text(event, &["file", "hash", "sha256"]) == one)
        });
        seen.then_some(())
    });
    fs::write(&file, "two, longer").expect("written");
    let modified = on.event("file_modify", |event| {
        is(event) && text(event, &["rampart", "file", "before", "sha256"]) == one
    });
    assert_eq!(modified["file"]["size"], 11, "{modified}");
    let other = on.wine.drive("watched/other.txt");
    fs::rename(&file, &other).expect("renamed");
    let renamed = on.event("file_rename", |event| text(event, &["file", "path"]).ends_with("other.txt"));
    assert!(text(&renamed, &["rampart", "file", "old_path"]).eq_ignore_ascii_case(path), "{renamed}");
    fs::remove_file(&other).expect("removed");
    on.event("file_delete", |event| text(event, &["file", "path"]).ends_with("other.txt"));
    tell("files: create, modify with both hashes, rename, delete");
}

/// The two rules of the seed, and the life of a process.
fn processes(on: &Installation) {
    // Long enough to be seen by looking, on a machine that has other things to do as well.
    let mut plain = on.wine.start(r"C:\bin\waits.exe", &["17"]);
    let start = on.event("process_start", |event| {
        text(event, &["process", "command_line"]).ends_with(" 17")
            && text(event, &["process", "name"]) == "waits.exe"
    });
    assert_eq!(text(&start, &["process", "name"]), "waits.exe", "{start}");
    assert!(text(&start, &["process", "hash", "sha256"]).len() == 64, "{start}");
    assert!(!text(&start, &["user", "name"]).is_empty(), "{start}");
    let entity = text(&start, &["process", "entity_id"]).to_owned();
    let exit = on.event("process_exit", |event| text(event, &["process", "entity_id"]) == entity);
    assert_eq!(exit["process"]["exit_code"], 0, "{exit}");
    wait_for("it ended", LONG, || plain.ended().then_some(()));

    for rule in [1, 101] {
        let before = on.host()["rules_version"].clone();
        on.api.patch(&format!("/rules/{rule}"), &json!({ "mode": "auto" })).expect("the mode changes");
        on.wait("the agent has the change", || (on.host()["rules_version"] != before).then_some(()));
    }
    for (program, arguments, rule) in [
        (r"C:\bin\backdoor.exe", vec!["300"], 1),
        (r"C:\bin\powershell.exe", vec!["300", "-ExecutionPolicy", "Bypass", "-EncodedCommand", "AAAA"], 101),
    ] {
        let mut guest = on.wine.start(program, &arguments);
        on.alert(rule);
        wait_for("the process was ended", LONG, || guest.ended().then_some(()));
        on.wait("the kill is proved", || {
            let alert = on.alert(rule);
            let responses = alert["responses"].as_array()?;
            responses
                .iter()
                .any(|one| one["action"] == "terminate_process" && one["state"] == "verified")
                .then_some(())
        });
    }
    tell(
        "processes: start with hash, user and command line, exit code; both rules of the seed fired and ended theirs",
    );
}

fn network(on: &Installation) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let guest = on.wine.start(r"C:\bin\waits.exe", &["300", "127.0.0.1", &port.to_string()]);
    let _peer = listener.accept().expect("it connects");
    let seen = on.event("network_connect", |event| event["destination"]["port"] == port);
    assert_eq!(seen["destination"]["ip"], "127.0.0.1", "{seen}");
    // Wine 8 does not say whose socket it is; Windows does.
    drop(guest);
    tell("network: a connection");
}

fn responses(on: &Installation) {
    // A tree of two, by the API.
    let mut guest = on.wine.start("cmd", &["/c", r"C:\bin\waits.exe 731"]);
    let child = on.event("process_start", |event| {
        text(event, &["process", "command_line"]).ends_with("731")
            && text(event, &["process", "name"]) == "waits.exe"
    });
    let parent = text(&child, &["process", "parent", "entity_id"]).to_owned();
    assert!(text(&child, &["process", "parent", "name"]).eq_ignore_ascii_case("cmd.exe"), "{child}");
    let target = json!({ "entity_id": parent });
    let planned = on.ordered("kill_tree", &target, true);
    assert_eq!(planned["state"], "planned", "{planned}");
    assert!(!guest.ended(), "a dry run does nothing");
    let child_target = json!({ "entity_id": child["process"]["entity_id"] });
    for action in ["suspend_process", "resume_process"] {
        let done = on.ordered(action, &child_target, false);
        assert_eq!(done["state"], "verified", "{done}");
    }
    let killed = on.ordered("kill_tree", &target, false);
    assert_eq!(killed["state"], "verified", "{killed}");
    let gone = on.ordered("terminate_process", &child_target, false);
    assert_eq!(gone["state"], "refused", "the child ended with its parent: {gone}");
    wait_for("the tree ended", LONG, || guest.ended().then_some(()));

    // The agent itself is never a target.
    let listed = on.ordered("list_processes", &json!({}), false);
    let own = listed["result"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| text(one, &["executable"]).to_ascii_lowercase().ends_with("edr-agent.exe"));
    let own = json!({ "entity_id": own.expect("the agent is listed")["entity_id"] });
    let refused = on.ordered("terminate_process", &own, false);
    assert_eq!(refused["state"], "refused", "{refused}");
    assert!(text(&refused, &["reason"]).contains("protected"), "{refused}");

    let file = on.wine.drive("watched/evil.bin");
    fs::write(&file, "harmless").expect("written");
    let taken = on.ordered("quarantine_file", &json!({ "path": r"C:\watched\evil.bin" }), false);
    assert_eq!((&taken["state"], file.exists()), (&json!("verified"), false), "{taken}");
    let undone = on.undone(&taken);
    assert_eq!(undone["state"], "verified", "{undone}");
    assert_eq!(fs::read_to_string(&file).expect("it is back"), "harmless");
    tell("responses: dry run, suspend, resume, tree, the agent's own protection, quarantine and back");
}

/// The server goes and comes back; what happened meanwhile is stored, each once.
fn outage(on: &mut Installation) {
    let options: ServerOptions = on.server.take().expect("it runs").stop();
    for number in 0..20 {
        fs::write(on.wine.drive(&format!("watched/away-{number}.txt")), "x").expect("written");
    }
    for number in 0..3 {
        on.wine.run("reg", &["add", RUN, "/v", &format!("away-{number}"), "/d", "x", "/f"]);
    }
    on.server = Some(ServerProcess::start_with(options));
    on.wait("all is stored", || {
        let files = on.events("file_create");
        let stored = |number: usize| {
            let path = format!(r"C:\watched\away-{number}.txt");
            files.iter().filter(|event| text(event, &["file", "path"]).eq_ignore_ascii_case(&path)).count()
        };
        let values = on.events("registry_change");
        let set = |number: usize| {
            let name = format!("away-{number}");
            values.iter().filter(|event| text(event, &["registry", "value"]) == name).count()
        };
        let counts: Vec<usize> = (0..20).map(stored).chain((0..3).map(set)).collect();
        assert!(counts.iter().all(|count| *count <= 1), "doubled: {counts:?}");
        counts.iter().all(|count| *count == 1).then_some(())
    });
    let gaps = on.api.all("/events?type=gap&limit=500");
    assert!(gaps.is_empty(), "something was lost: {gaps:#?}");
    tell("outage: what happened while the server was away is stored, each once");
}
