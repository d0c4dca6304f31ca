//! What people ask for: done once by one of several responders, and told to the server.

use serde_json::{Value, json};
use test_support::{Api, wait_for};

use crate::place::{LIMIT, Place};

/// Nothing triggers it but a person.
const PLAYBOOK: &str = "id: by-hand
name: By hand
mode: auto
trigger: {severity: high, rules: [nobodys-rule]}
steps:
  - {id: one, do: run_script, with: {name: write.sh, arguments: [one]}}
  - {id: two, do: run_script, with: {name: write.sh, arguments: [two]}, after: [one]}
";

fn in_state(api: &Api, run: &Value, state: &str) -> Value {
    let path = format!("/playbook-runs/{}", run["id"].as_str().expect("an id"));
    wait_for(&format!("the run is {state}"), LIMIT, || {
        api.get(&path).ok().filter(|run| run["state"] == state)
    })
}

#[test]
fn a_run_that_a_person_asks_for_is_done_once_and_a_dry_run_not_at_all() {
    let Some(place) = Place::new() else { return };
    place.write_playbook("by-hand", PLAYBOOK);
    let file = place.folder.path().join("written");
    place.write_script("write.sh", &format!("cat > /dev/null\necho \"$1\" >> {}", file.display()));
    let api = place.server.api("administrator");
    let alert = place.alert(1, 4_000).to_string();
    let ask = |playbook: &str, dry_run: bool| {
        let body = json!({ "alert_id": alert, "playbook": playbook, "dry_run": dry_run });
        api.post("/playbook-runs", &body).expect("it is asked for")
    };
    // Asked for while no responder runs: it waits.
    let dry = ask("by-hand", true);
    assert_eq!((&dry["state"], &dry["responder"]), (&json!("requested"), &json!("")), "{dry}");
    let (first, second) = (place.start_responder("first"), place.start_responder("second"));
    let dry = in_state(&api, &dry, "completed");
    let outcomes = |run: &Value| -> Vec<Value> {
        run["steps"].as_array().expect("steps").iter().map(|step| step["outcome"].clone()).collect()
    };
    assert_eq!(outcomes(&dry), ["shadowed", "shadowed"], "{dry}");
    assert!(dry["steps"][1]["detail"].as_str().is_some_and(|text| text.contains("write.sh two")), "{dry}");
    assert!(!file.exists(), "a dry run runs no script");
    assert!(place.journals("first").is_empty() && place.journals("second").is_empty(), "and is no run");

    let run = in_state(&api, &ask("by-hand", false), "completed");
    assert_eq!(outcomes(&run), ["succeeded", "succeeded"], "{run}");
    assert_eq!(run["compared"]["same"], true, "{run}");
    let journals = [place.journals("first"), place.journals("second")].concat();
    assert_eq!(journals.len(), 1, "one of the two did it");
    assert_eq!(std::fs::read_to_string(&file).expect("written"), "one\ntwo\n", "each step once");

    // A script can't be undone: that is asked for, tried once, and said.
    api.post(&format!("/playbook-runs/{}/undo", run["id"].as_str().expect("an id")), &json!({}))
        .expect("asked");
    in_state(&api, &run, "undone");
    // One that no responder has waits on, and keeps nobody from the others.
    ask("nobodys", false);
    let other = place.alert(2, 4_001).to_string();
    let body = json!({ "alert_id": other, "playbook": "by-hand", "dry_run": false });
    let next = api.post("/playbook-runs", &body).expect("it is asked for");
    in_state(&api, &next, "completed");
    assert_eq!(std::fs::read_to_string(&file).expect("written"), "one\ntwo\none\ntwo\n");
    let waiting = api.get("/playbook-runs?waiting=true").expect("a list");
    let waiting: Vec<&Value> =
        waiting["items"].as_array().expect("items").iter().map(|run| &run["playbook"]).collect();
    assert_eq!(waiting, ["nobodys"]);
    first.stop();
    second.stop();
}

/// Who asks for a run is not one of those who agree to its steps.
#[test]
fn who_asks_for_a_run_does_not_approve_its_steps() {
    let Some(place) = Place::new() else { return };
    place.write_playbook(
        "asks",
        "id: asks
name: Asks
mode: auto
trigger: {severity: high, rules: [nobodys-rule]}
steps:
  - {id: ok, do: wait_for_approval, with: {people: 1}}
",
    );
    let responder = place.start_responder("first");
    let eve = place.server.api("administrator").person("eve", "administrator");
    let alert = place.alert(1, 4_000);
    let body = json!({ "alert_id": alert.to_string(), "playbook": "asks", "dry_run": false });
    let run = eve.post("/playbook-runs", &body).expect("it is asked for");
    wait_for("it waits for people", LIMIT, || {
        place.journals("first").iter().any(|run| run.contains("step_started")).then_some(())
    });
    place.note_as("Eve", alert, "approve asks/ok");
    place.note_as("ada", alert, "approve asks/ok");
    let done = in_state(&eve, &run, "completed");
    assert_eq!(done["steps"][0]["detail"], "approved by ada", "{done}");
    responder.stop();
}
