//! What is opened, and what is said, where rights are missing.

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]

mod rights;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use sensor_api::{Sensor, SensorError, contract};
use sensor_linux::{LinuxSensorOptions, open};

type Opened = Result<(Box<dyn Sensor>, Vec<String>), SensorError>;

/// Opens a sensor on a thread that has given up some of its capabilities; `None` if
/// it never had them.
fn open_without(dropped: CapabilitySet) -> Option<Opened> {
    let thread = std::thread::spawn(move || {
        let mut sets = capabilities(None).unwrap();
        if !sets.effective.contains(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN) {
            println!("skipped: this process has no rights that could be dropped");
            return None;
        }
        sets.effective -= dropped;
        sets.permitted -= dropped;
        set_capabilities(None, sets).unwrap();
        Some(open(LinuxSensorOptions::default()))
    });
    thread.join().unwrap()
}

#[test]
fn without_bpf_rights_the_proc_connector_stands_in_and_says_why() {
    let bpf = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN;
    let Some(opened) = open_without(bpf) else { return };
    let (mut sensor, notes) = opened.unwrap();
    assert_eq!(sensor.name(), "proc_connector");
    let [note] = notes.as_slice() else { panic!("one note: {notes:?}") };
    println!("{note}");
    for part in ["CAP_BPF", "hint: ", "proc connector"] {
        assert!(note.contains(part), "`{part}` is missing in: {note}");
    }
    contract::a_process_is_seen_from_fork_to_exit(sensor.as_mut());
}
