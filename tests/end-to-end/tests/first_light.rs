//! The main job, end to end: a harmless attack is seen, judged, stopped and shown.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use end_to_end::Installation;
use serde_json::{Value, json};
use test_support::{tell, wait_for};

/// The rules of `rules/linux-starter` that the tricks must raise, besides the miner's.
const ENCODED_COMMAND: &str = "1002";
const WEB_SERVER_SHELL: &str = "1003";

#[test]
fn an_attack_is_seen_judged_stopped_and_shown() {
    // Without a budget: on a busy machine its gaps would fill the page that the browser looks at.
    let Some(installation) = Installation::start_with(&["-cpulimit=0"]) else { return };
    let api = &installation.api;

    let rules = api.all("/rules?limit=200");
    let miner = rules
        .iter()
        .find(|rule| rule["name"].as_str().is_some_and(|name| name.to_lowercase().contains("miner")))
        .expect("the starter pack has a rule about miners");
    assert_eq!(miner["mode"], "detect", "no rule acts before somebody says so");
    let miner_id = miner["id"].as_str().expect("an id");

    // In `detect` the miner is reported and lives.
    let mut spared = miner_named(installation.folder(), "30").spawn().expect("it starts");
    let alert = wait_for_alert(&installation, miner_id, |_| true);
    assert_eq!(alert["responses"].as_array().map(Vec::len), Some(0), "detect does nothing: {alert}");
    assert!(spared.try_wait().expect("can be asked").is_none(), "detect kills nothing");
    spared.kill().expect("our own child");
    spared.wait().expect("our own child");

    // In `auto` it is killed, as soon as the host says that it has the change.
    let before = installation.host()["rules_version"].clone();
    api.patch(&format!("/rules/{miner_id}"), &json!({ "mode": "auto" })).expect("the mode changes");
    let changed = Instant::now();
    wait_for("the agent has the change", Duration::from_secs(30), || {
        (installation.host()["rules_version"] != before).then_some(())
    });
    tell(&format!("the agent had the new mode after {:?} (goal: 2 s)", changed.elapsed()));
    let status = miner_named(installation.folder(), "30").status().expect("it starts");
    assert_eq!(status.signal(), Some(15), "the miner was to be ended gracefully: {status}");
    let killed = wait_for_alert(&installation, miner_id, |alert| {
        alert["responses"].as_array().is_some_and(|responses| responses.iter().any(is_verified))
    });

    shell_tricks(installation.folder());
    // By id: any three alerts would do for a product that mistakes everything for an attack.
    for (rule, command_line) in [(ENCODED_COMMAND, "ZWNobyBoYXJtbGVzcwo="), (WEB_SERVER_SHELL, "id; true")] {
        wait_for_alert(&installation, rule, |alert| {
            alert["process"]["command_line"].as_str().is_some_and(|text| text.contains(command_line))
        });
    }

    // One alert, whole: the event, the ancestry up to this test, the proof.
    let id = killed["id"].as_str().expect("an id");
    let whole = api.get(&format!("/alerts/{id}")).expect("the alert");
    let ancestry = whole["ancestry"].as_array().expect("an ancestry");
    let this_test = u64::from(std::process::id());
    assert!(ancestry.iter().any(|process| process["pid"] == this_test), "{ancestry:#?}");
    assert_eq!(whole["event"]["process"]["parent"]["pid"], this_test);
    assert!(
        whole["event"]["process"]["hash"]["sha256"].is_string()
            || whole["event"]["rampart"]["process"]["hash_skipped"].is_string()
    );

    in_a_browser(&installation, id);
}

fn is_verified(response: &Value) -> bool {
    response["action"] == "terminate_process" && response["state"] == "verified"
}

fn wait_for_alert(installation: &Installation, rule: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_for(&format!("an alert of rule {rule}"), Duration::from_secs(30), || {
        let alerts = installation.api.get("/alerts?limit=100").ok()?;
        let mut alerts = alerts["items"].as_array()?.iter();
        alerts.find(|alert| alert["rule"]["id"] == rule && wanted(alert)).cloned()
    })
}

/// `sleep` under the name of a known miner.
fn miner_named(folder: &Path, seconds: &str) -> Command {
    let image = folder.join("xmrig");
    if !image.exists() {
        // By this process, which is alone here: the copying itself must not come up where the miner is looked for.
        std::fs::copy("/bin/sleep", &image).expect("/bin/sleep can be copied");
    }
    let mut command = Command::new(image);
    command.arg(seconds);
    command
}

/// An encoded command and a shell that a web server starts, both harmless.
fn shell_tricks(folder: &Path) {
    let encoded = Command::new("/bin/sh").args(["-c", "echo ZWNobyBoYXJtbGVzcwo= | base64 -d | sh"]).output();
    assert!(encoded.expect("it starts").status.success());
    let nginx = folder.join("nginx");
    std::fs::copy("/bin/sh", &nginx).expect("/bin/sh can be copied");
    let shell = Command::new(nginx).args(["-c", "sh -c 'id; true'; true"]).output();
    assert!(shell.expect("it starts").status.success());
}

/// The same in Chromium: sign in, find the alert, see the proof; pictures for the README.
fn in_a_browser(installation: &Installation, alert: &str) {
    let pictures: PathBuf =
        std::env::current_exe().expect("a path").ancestors().nth(3).expect("target").join("screenshots");
    installation.in_a_browser(
        "first-light.mjs",
        &[
            ("RAMPART_ALERT", alert.to_owned()),
            ("RAMPART_FOLDER", installation.folder().display().to_string()),
            ("RAMPART_PICTURES", pictures.display().to_string()),
        ],
    );
}
