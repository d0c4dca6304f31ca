//! What is done to processes and files.

use std::fs;

use serde_json::json;
use test_support::{tell, wait_for};

use crate::installation::{Installation, LONG, text};

#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn orders_are_done_proved_and_undone() {
    let Some(mut on) = Installation::start() else { return };
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

    // One that is read only goes as well, and a restore never goes over another file.
    let mut closed = fs::metadata(&file).expect("it is there").permissions();
    closed.set_readonly(true);
    fs::set_permissions(&file, closed).expect("set");
    let taken = on.ordered("quarantine_file", &json!({ "path": r"C:\watched\evil.bin" }), false);
    assert_eq!((&taken["state"], file.exists()), (&json!("verified"), false), "{taken}");
    fs::write(&file, "another").expect("written");
    let refused = on.undone(&taken);
    assert_eq!(refused["state"], "refused", "{refused}");
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "another");
    tell("responses: dry run, suspend, resume, tree, the agent's own protection, quarantine and back");
    on.still_runs();
}

/// A process whose parent has ended is of the tree of its grandparent.
#[test]
#[ignore = "takes Wine and a cross build: `make test-windows`"]
fn a_tree_is_ended_past_a_parent_that_is_gone() {
    let Some(mut on) = Installation::start() else { return };
    // Long enough to be seen on the way.
    let between = r"C:\bin\waits.exe 8 run C:\bin\waits.exe 751";
    let mut guest = on.wine.start("cmd", &["/c", &format!(r"{between} & C:\bin\waits.exe 752")]);
    let started = |end: &str| {
        on.event("process_start", |event| {
            text(event, &["process", "command_line"]).ends_with(end)
                && text(event, &["process", "name"]) == "waits.exe"
                && !text(event, &["process", "command_line"]).contains(" run ")
        })
    };
    let (orphan, beside) = (started("751"), started("752"));
    let parent = text(&orphan, &["process", "parent", "entity_id"]);
    assert!(!parent.is_empty(), "{orphan}");
    on.event("process_exit", |event| text(event, &["process", "entity_id"]) == parent);
    let root = json!({ "entity_id": beside["process"]["parent"]["entity_id"] });
    let killed = on.ordered("kill_tree", &root, false);
    assert_eq!((&killed["state"], &killed["result"]["ended"]), (&json!("verified"), &json!(3)), "{killed}");
    let orphan = json!({ "entity_id": orphan["process"]["entity_id"] });
    let gone = on.ordered("terminate_process", &orphan, false);
    assert_eq!(gone["state"], "refused", "it ended with the tree: {gone}");
    assert!(text(&gone, &["reason"]).contains("had already ended"), "{gone}");
    wait_for("the tree ended", LONG, || guest.ended().then_some(()));
    tell("responses: a tree was ended past a parent that was gone");
    on.still_runs();
}
