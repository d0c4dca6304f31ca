//! YARA rules and indicators that are given to the server are looked for on a host, and what is found is an alert.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use end_to_end::Installation;
use serde_json::{Value, json};
use test_support::wait_for;

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn what_the_server_is_given_is_found_on_the_host() {
    let Some(installation) = Installation::start() else { return };
    let api = &installation.api;
    let folder = installation.folder();
    let tool = folder.join("bad_tool");
    let mark = format!("rampart-end-to-end {}", folder.display());
    test_support::copy_program("/bin/true", &tool, &mark);
    let hash = Command::new("sha256sum").arg(&tool).output().expect("coreutils");
    let hash = String::from_utf8_lossy(&hash.stdout).chars().take(64).collect::<String>();

    let before = installation.host()["rules_version"].clone();
    let csv = format!("value,severity,confidence,description\n{hash},high,90,from the server\n");
    api.put("/indicator-lists/feed", &json!({ "text": csv })).expect("the list is good");
    let rule = format!(
        "rule end_to_end {{ meta: severity = \"critical\" strings: $mark = \"{}\" condition: $mark }}\n",
        mark.replace('\\', "\\\\")
    );
    api.put("/yara-files/pack", &json!({ "text": rule })).expect("the file is good");
    wait_for("the agent has the change", LIMIT, || {
        (installation.host()["rules_version"] != before).then_some(())
    });

    let run = || assert!(Command::new(&tool).status().expect("it starts").success());
    let by_hash = alert_of(&installation, &format!("indicator.sha256.{hash}"), run);
    assert_eq!(
        (&by_hash["rule"]["severity"], &by_hash["process"]["executable"]),
        (&json!("high"), &json!(tool))
    );
    let script = folder.join("dropped.sh");
    let by_yara = alert_of(&installation, "yara.pack/end_to_end", || {
        fs::write(&script, format!("#!/bin/sh\n# {mark}\n")).expect("our own folder");
        run();
    });
    assert_eq!(by_yara["rule"]["severity"], "critical");
    let id = by_yara["id"].as_str().expect("an id");
    let whole = api.get(&format!("/alerts/{id}")).expect("the alert");
    assert_eq!(whole["event"]["rampart"]["event"]["type"], "file_scan");
    let path = whole["event"]["file"]["path"].as_str().expect("a path");
    assert!([&tool, &script].iter().any(|known| known.as_path() == Path::new(path)), "{path}");
    assert!(whole["matched"][0].as_str().is_some_and(|line| line.starts_with("$mark at 0x")), "{whole}");
}

/// Does `act` again and again until the rule has an alert.
fn alert_of(installation: &Installation, rule: &str, act: impl Fn()) -> Value {
    wait_for(&format!("an alert of {rule}"), LIMIT, || {
        act();
        let alerts = installation.api.get("/alerts?limit=100").ok()?;
        alerts["items"].as_array()?.iter().find(|alert| alert["rule"]["id"] == rule).cloned()
    })
}
