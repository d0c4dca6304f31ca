//! What an attacker leaves so that he comes back, and what is done about it.

use std::fs;
use std::process::Command;

use serde_json::json;
use test_support::tell;

use crate::installation::{Installation, text};

const DEFINITION: &str = "<?xml version=\"1.0\"?><Task version=\"1.2\" \
     xmlns=\"http://schemas.microsoft.com/windows/2004/02/mit/task\"><Triggers><LogonTrigger/></Triggers>\
     <Principals><Principal id=\"a\"><UserId>S-1-5-18</UserId></Principal></Principals><Settings/>\
     <Actions Context=\"a\"><Exec><Command>C:\\evil.exe</Command><Arguments>-a &amp; b</Arguments></Exec></Actions></Task>";

/// A task that is made, changed, deleted with a backup, and put back.
#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn a_task_is_told_deleted_and_put_back() {
    let Some(mut on) = Installation::start() else { return };
    const NAME: &str = r"\Vendor\Update";
    fs::write(on.wine.drive("task.xml"), DEFINITION).expect("written");
    // The first who asks Wine's scheduler starts it, and is told that it does not run.
    on.wait("the scheduler takes the task", || {
        on.wine.said("schtasks", &["/create", "/f", "/tn", NAME, "/xml", r"C:\task.xml"]).0.then_some(())
    });
    let told = |action: &str, count: usize| {
        on.wait(&format!("a task is told: {action}"), || {
            let all = on.events("scheduled_task");
            let mut of_it = all.into_iter().filter(|event| {
                text(event, &["rampart", "task", "name"]).eq_ignore_ascii_case(NAME)
                    && text(event, &["event", "action"]) == action
            });
            of_it.nth(count - 1)
        })
    };
    told("create", 1);
    // Wine's scheduler keeps nothing of what a task runs: it is written as Windows' would.
    let file = on.wine.drive("windows/system32/tasks/Vendor/Update");
    fs::write(&file, DEFINITION).expect("written");
    let changed = on.event("scheduled_task", |event| {
        text(event, &["rampart", "task", "command"]) == r"C:\evil.exe -a & b"
    });
    assert_eq!(text(&changed, &["rampart", "task", "schedule"]), "LogonTrigger", "{changed}");
    assert_eq!(text(&changed, &["rampart", "task", "owner"]), "S-1-5-18", "{changed}");

    let path = text(&changed, &["file", "path"]);
    let deleted = on.ordered("delete_scheduled_task", &json!({ "path": path }), false);
    assert_eq!((&deleted["state"], file.exists()), (&json!("verified"), false), "{deleted}");
    told("delete", 1);
    let back = on.undone(&deleted);
    assert_eq!((&back["state"], file.exists()), (&json!("verified"), true), "{back}");
    let other = on.ordered("delete_scheduled_task", &json!({ "path": r"C:\bin\waits.exe" }), false);
    assert_eq!(other["state"], "refused", "{other}");
    tell("tasks: one that was made and changed was told, deleted with a backup, and put back");
    on.still_runs();
}

/// A service that is made, removed with a backup, and put back.
#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn a_service_is_told_removed_and_put_back() {
    let Some(mut on) = Installation::start() else { return };
    let line = "C:\\bin\\service.exe \"Rampart test\"";
    on.wine.run("sc", &["create", "Rampart test", "binPath=", line, "start=", "demand"]);
    on.wine.run("sc", &["start", "Rampart test"]);
    let told = |action: &str| {
        on.event("service", |event| {
            text(event, &["service", "name"]) == "Rampart test" && text(event, &["event", "action"]) == action
        })
    };
    let made = told("create");
    assert_eq!(text(&made, &["rampart", "service", "command"]), line, "{made}");
    let target = json!({ "unit": "Rampart test" });
    let planned = on.ordered("delete_service", &target, true);
    assert_eq!(planned["state"], "planned", "{planned}");
    let removed = on.ordered("delete_service", &target, false);
    assert_eq!(removed["state"], "verified", "{removed}");
    told("delete");
    let again = on.ordered("delete_service", &target, false);
    assert_eq!(again["state"], "refused", "it is gone: {again}");
    let back = on.undone(&removed);
    assert_eq!(back["state"], "verified", "{back}");
    on.wait("the service is told again", || {
        let all = on.events("service");
        let made = all.iter().filter(|event| {
            text(event, &["service", "name"]) == "Rampart test"
                && text(event, &["event", "action"]) == "create"
        });
        (made.count() == 2).then_some(())
    });
    let steps = back["steps"].to_string();
    assert!(steps.contains("started it"), "it ran before, so it runs again: {back}");
    // The agent's own program is protected, whatever service runs it.
    on.wine.run("sc", &["create", "Rampart own", "binPath=", r"C:\bin\edr-agent.exe -x", "start=", "demand"]);
    let own = on.ordered("delete_service", &json!({ "unit": "Rampart own" }), false);
    assert_eq!(own["state"], "refused", "{own}");
    assert!(text(&own, &["reason"]).contains("protected"), "{own}");
    tell(
        "services: one that ran was told, removed with a backup, and put back as it was; the agent's own is protected",
    );
    on.still_runs();
}

/// An archive that tar reads, with the lists, a file and what was left out.
#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn evidence_is_collected_and_signed() {
    let Some(mut on) = Installation::start() else { return };
    fs::write(on.wine.drive("watched/trace.bin"), "a trace").expect("written");
    let line = "C:\\bin\\service.exe \"Rampart test\"";
    on.wine.run("sc", &["create", "Rampart test", "binPath=", line, "start=", "demand"]);
    let wanted = json!({ "files": [r"C:\watched\trace.bin", r"C:\watched\nothing.bin"] });
    let collected = on.ordered("collect_evidence", &wanted, false);
    assert_eq!(collected["state"], "verified", "{collected}");
    assert_eq!(collected["result"]["signed"], true, "{collected}");
    assert!(collected["result"]["left_out"].to_string().contains("nothing.bin"), "{collected}");
    let archive = on.wine.drive(&format!("state/responses/evidence/{}.tar", text(&collected, &["id"])));
    let tar = |arguments: &[&str]| {
        let output = Command::new("tar").args(arguments).arg("-f").arg(&archive).output().expect("tar runs");
        assert!(output.status.success(), "tar {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let listed = tar(&["-t"]);
    for name in
        ["processes.json", "connections.json", "services.json", "tasks.json", "manifest.json", "manifest.sig"]
    {
        assert!(listed.lines().any(|line| line == name), "{name}: {listed}");
    }
    assert_eq!(tar(&["-xO", "files/C/watched/trace.bin"]), "a trace");
    assert!(tar(&["-xO", "services.json"]).contains("Rampart test"));
    tell("evidence: an archive with lists, a file, and its manifest signed");
    on.still_runs();
}

/// Wine has no firewall, and a `netsh` that is content with everything. Nothing may be called done.
#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn what_no_firewall_holds_is_not_called_done() {
    let Some(mut on) = Installation::start() else { return };
    let orders = [
        ("block_address", json!({ "address": "192.0.2.7", "ttl_seconds": 60 })),
        ("isolate_host", json!({ "ttl_seconds": 60 })),
    ];
    for (action, parameters) in &orders {
        for dry_run in [true, false] {
            let refused = on.ordered(action, parameters, dry_run);
            assert_eq!(refused["state"], "refused", "{refused}");
            assert!(text(&refused, &["reason"]).contains("the Windows firewall is not there"), "{refused}");
        }
    }
    // With a service in the firewall's place the rules are asked for, and are not there afterwards.
    on.wine.run("sc", &["create", "MpsSvc", "binPath=", r"C:\bin\service.exe MpsSvc", "start=", "demand"]);
    on.wine.run("sc", &["start", "MpsSvc"]);
    for (action, parameters) in &orders {
        let planned = on.ordered(action, parameters, true);
        assert_eq!(planned["state"], "planned", "{planned}");
        let failed = on.ordered(action, parameters, false);
        assert_eq!(failed["state"], "failed", "{failed}");
        assert!(text(&failed, &["reason"]).contains("the firewall has no such rule in force"), "{failed}");
        assert!(failed["steps"].to_string().contains("made the task"), "{failed}");
    }
    let tasks = on.wine.drive("windows/system32/tasks/Rampart");
    let left: Vec<_> = fs::read_dir(&tasks).into_iter().flatten().collect();
    assert!(left.is_empty(), "the tasks that lift what was not done are gone: {left:?}");
    assert!(!on.wine.drive("state/responses/isolation.json").exists(), "nothing is in force");
    let released = on.ordered("release_host", &json!({}), false);
    assert_eq!(released["state"], "verified", "{released}");

    // A `netsh` that never ends holds up nothing for longer than a minute.
    let overrides = r"HKCU\Software\Wine\DllOverrides";
    on.wine.run("reg", &["add", overrides, "/v", "netsh.exe", "/d", "native", "/f"]);
    fs::copy(on.wine.drive("bin/waits.exe"), on.wine.drive("windows/system32/netsh.exe")).expect("copied");
    let (action, parameters) = &orders[0];
    let failed = on.ordered(action, parameters, false);
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(text(&failed, &["reason"]).contains("it had not ended after 60 s"), "{failed}");
    tell(
        "firewall: where there is none, or none that keeps its word, a block and an isolation are refused or fail, and leave nothing",
    );
    on.still_runs();
}
