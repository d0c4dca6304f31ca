//! Every row of the Linux part of the telemetry list: a real act on this machine,
//! the event that it gave in the server, with all that an analyst needs of it.
//!
//! `make telemetry` shows the table. The acts that touch the system's files happen in
//! a mount namespace of their own, over copies of `/etc`, `/var/log` and the like; server
//! and agent run in it, too, so nothing of this machine is changed.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in tests a failed expectation is the report")]

mod acts;
mod rows;
mod stage;

use std::time::{Duration, Instant};

use end_to_end::Installation;
use serde_json::Value;
use test_support::{pause, tell};

use rows::{ROWS, Row};

/// From an act to its event in the server, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a child of this test does; as a test of its own it does nothing.
#[test]
fn role() {
    if let Ok(role) = std::env::var(acts::ROLE) {
        acts::play(&role);
    }
}

#[test]
fn every_row_gives_its_event() {
    if !stage::enter() {
        return;
    }
    // The kernel may have no modules; the attempt is what is acted then. And an agent that has just started
    // may leave out hashes to stay within its budget, which is not what is asked here.
    let arguments = ["-module-attempts", "-cpulimit=0"];
    let Some(mut installation) = Installation::start_with(&arguments) else { return };
    let _log = stage::Syslog::start();
    let host = installation.host();
    assert_eq!(host["online"], true);
    let mut scores = Vec::new();
    for row in ROWS {
        if row.act == acts::Act::StopAgent {
            let options = installation.agent.take().unwrap().stop();
            installation.start_agent(options);
        } else {
            acts::perform(row.act);
        }
        scores.push((row, event_of(row, &installation)));
    }
    report(&scores);
    let missing: Vec<_> = scores
        .iter()
        .filter_map(|(row, found)| found.as_ref().err().map(|why| format!("{}: {why}", row.name)))
        .collect();
    assert!(missing.is_empty(), "rows without their event:\n{}", missing.join("\n"));
}

/// The event that the row's act gave, or why there is none.
fn event_of(row: &Row, installation: &Installation) -> Result<Value, String> {
    let deadline = Instant::now() + PATIENCE;
    let path = format!("/events?type={}&limit=500", row.event_type);
    loop {
        let events = installation.api.get(&path).map_err(|error| format!("{error:?}"))?;
        let events = events["items"].as_array().cloned().unwrap_or_default();
        let of_row: Vec<&Value> = events.iter().filter(|event| row.is_of_act(event)).collect();
        let why = match of_row.first() {
            None => format!("no {} event with {}", row.event_type, row.matching_text()),
            Some(_) => match of_row.iter().find(|event| row.lacks(event).is_empty()) {
                Some(event) => return Ok((*event).clone()),
                None => format!("its {} event lacks {}", row.event_type, row.lacks(of_row[0]).join(", ")),
            },
        };
        if Instant::now() > deadline {
            return Err(why);
        }
        pause(Duration::from_millis(100));
    }
}

fn report(scores: &[(&Row, Result<Value, String>)]) {
    let mut sum = 0;
    tell("weight  row                          event in the server");
    for (row, found) in scores {
        let weight = f64::from(row.tenths) / 10.0;
        match found {
            Ok(event) => {
                sum += row.tenths;
                let id = event["event"]["id"].as_str().unwrap_or_default();
                tell(&format!(
                    "  {weight:>4}  {:<28} {} {id} {}",
                    row.name,
                    row.event_type,
                    row.shown(event)
                ));
            }
            Err(why) => tell(&format!("  {weight:>4}  {:<28} MISSING: {why}", row.name)),
        }
    }
    let all: u32 = scores.iter().map(|(row, _)| row.tenths).sum();
    tell(&format!("score {:.1} of {:.1}", f64::from(sum) / 10.0, f64::from(all) / 10.0));
}
