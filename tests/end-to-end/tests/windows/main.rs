//! The Windows agent under Wine, with the real server of this machine.
//!
//! `make test-windows` builds what is needed and runs these; without it they are ignored.

mod acting;
mod bad_input;
mod guest;
mod installation;
mod outage;
mod programs;
mod service;
mod takeover;
mod watching;

use std::fs;
use std::path::Path;

use installation::Installation;
use serde_json::json;
use test_support::tell;

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
fn every_source_says_whether_it_is_there() {
    let Some(mut on) = Installation::start() else { return };
    let start = on.event("agent_start", |_| true);
    let sources = start["rampart"]["agent"]["sources"].to_string();
    assert!(sources.contains("registry_change=registry_watch"), "{sources}");
    for missing in
        ["event_log", "dns_query", "image_load", "script_content", "process_access", "process_tamper"]
    {
        let told = format!("{missing}=none: source not available");
        assert!(sources.contains(&told), "Wine has no {missing}: {sources}");
    }
    let made = [
        "process_start=process_snapshot",
        "scheduled_task=task_files",
        "service=service_list",
        "network_connect=socket_table",
    ];
    assert!(made.iter().all(|source| sources.contains(source)), "{sources}");
    tell("sources: those that Wine has and those that it lacks are told");
    on.still_runs();
}
