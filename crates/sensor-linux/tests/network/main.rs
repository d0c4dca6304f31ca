//! Connections, listening sockets and DNS, as a process on this machine makes them.
//!
//! A sensor does not tell what its own process does, so the acts are a child's: this
//! test's binary, started again for [`role`].

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]
#![allow(unsafe_code, reason = "some calls have no safe form")]

mod connections;
mod datagrams;
mod hidden;
mod io_uring;
#[path = "../rights/mod.rs"]
mod rights;
mod stage;

use event_model::{EventClass, EventType, GapReason};
use sensor_api::contract::read_until;
use sensor_api::{Observation, Sensor as _};
use sensor_linux::LinuxSensorOptions;

use rights::ebpf;
use stage::{act, free_port, of, read_to_end};

/// What the child does; as a test of its own it does nothing.
#[test]
fn role() {
    let Ok(role) = std::env::var("RAMPART_TEST_ROLE") else { return };
    let (name, argument) = role.split_once(": ").unwrap_or((&role, ""));
    let is_known = connections::perform(name, argument)
        || hidden::perform(name, argument)
        || datagrams::perform(name, argument);
    assert!(is_known, "{role}");
}

#[test]
fn what_is_shed_is_left_out_at_its_source_and_counted() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    sensor.shed(&[EventClass::Network]);
    let port = free_port();
    let pid = act(&format!("refused: {port}"));
    let mut seen = Vec::new();
    read_until(&mut sensor, &mut seen, "the loss", |seen| {
        seen.iter().any(|observed| {
            matches!(&observed.what, Observation::Lost(loss)
                if loss.reason == GapReason::Budget && loss.what == "network_connect")
        })
    });
    assert_eq!(of(pid, EventType::NetworkConnect, &seen), []);
    sensor.shed(&[]);
    let pid = act(&format!("refused: {port}"));
    let seen = read_to_end(&mut sensor, pid);
    assert_eq!(of(pid, EventType::NetworkConnect, &seen).len(), 1, "wanted again");
}

#[test]
fn every_type_of_this_family_has_a_source() {
    let Some(sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    for provision in sensor
        .provisions()
        .iter()
        .filter(|one| ["network", "dns"].iter().any(|family| one.source.contains(family)))
    {
        assert_eq!(provision.missing, None, "{}", provision.describe());
        assert!(!provision.source.contains("in part"), "{}", provision.describe());
    }
}
