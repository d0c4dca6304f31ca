//! What is seen: registry, files, processes, connections.

use std::fs;
use std::net::TcpListener;

use end_to_end::in_a_browser;
use serde_json::{Value, json};
use test_support::{tell, wait_for};

use crate::installation::{Installation, LONG, text};
use crate::{OWN_KEY, RUN};

/// An autostart that comes, changes and goes: told with old and new, and an alert.
#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn registry_values_are_told_with_old_and_new() {
    let Some(mut on) = Installation::start() else { return };
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
    let server = on.server.as_ref().expect("it runs");
    let shown = [
        ("RAMPART_ALERT", text(&alert, &["id"]).to_owned()),
        ("RAMPART_RULE", "autostart".to_owned()),
        ("RAMPART_OLD", r"C:\first.exe".to_owned()),
        ("RAMPART_NEW", r"C:\evil.exe".to_owned()),
    ];
    in_a_browser(server, "registry-alert.mjs", &shown);
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
    on.still_runs();
}

#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn files_are_told_with_their_hashes() {
    let Some(mut on) = Installation::start() else { return };
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
    on.still_runs();
}

/// The two rules of the seed, and the life of a process.
#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn processes_are_told_and_the_rules_of_the_seed_end_theirs() {
    let Some(mut on) = Installation::start() else { return };
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
        on.change_rules(|api| {
            api.patch(&format!("/rules/{rule}"), &json!({ "mode": "auto" })).expect("the mode changes");
        });
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
    on.still_runs();
}

#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn a_connection_is_told() {
    let Some(mut on) = Installation::start() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let guest = on.wine.start(r"C:\bin\waits.exe", &["300", "127.0.0.1", &port.to_string()]);
    let _peer = listener.accept().expect("it connects");
    let seen = on.event("network_connect", |event| event["destination"]["port"] == port);
    assert_eq!(seen["destination"]["ip"], "127.0.0.1", "{seen}");
    // Wine 8 does not say whose socket it is; Windows does.
    drop(guest);
    tell("network: a connection");
    on.still_runs();
}
