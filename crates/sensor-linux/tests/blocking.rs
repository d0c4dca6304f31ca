//! Programs on the block list end before their first instruction.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]

mod rights;

use std::collections::HashMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use event_model::BlockedBy;
use sensor_api::contract::read_until;
use sensor_api::{Block, Observation, Observed, Sensor};
use sensor_linux::{LinuxSensorOptions, open_ebpf};
use test_support::{Then, write_first_act_program};

use rights::{PinDir, ebpf};

/// Runs it once; how it ended, and whether it did what it does first.
fn run(victim: &Path, trace: &Path) -> (ExitStatus, bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    let status = loop {
        match Command::new(victim).arg(trace).status() {
            // On a busy machine a fork elsewhere may still hold the new file open for writing.
            Err(error)
                if error.kind() == std::io::ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {}
            other => break other.unwrap(),
        }
    };
    let acted = trace.exists();
    let _ = fs::remove_file(trace);
    (status, acted)
}

fn is_killed(victim: &Path, trace: &Path) -> bool {
    match run(victim, trace) {
        (status, false) if status.signal() == Some(9) => true,
        (status, true) if status.success() => false,
        other => panic!("neither killed nor run: {other:?}"),
    }
}

/// Forgets all that waits in the ring.
fn drain(sensor: &mut dyn Sensor) {
    loop {
        let (mut last, mut count) = (None, 0);
        sensor
            .poll(Duration::ZERO, &mut |observed| {
                last = observed.position.or(last);
                count += 1;
            })
            .unwrap();
        if let Some(position) = last {
            sensor.commit(position);
        }
        // Less than a storm beside it makes in a moment.
        if count < 64 {
            return;
        }
    }
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn victim(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        write_first_act_program(&path, Then::Ends).unwrap();
        path
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_blocked_program_never_does_its_first_act() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let times = if std::env::var_os("RAMPART_LONG_TESTS").is_some() { 10_000 } else { 300 };
    let place = Place::new();
    let (victim, trace) = (place.victim("victim"), place.path("trace"));
    assert!(!is_killed(&victim, &trace), "as long as it is not blocked, it acts");
    sensor.block(&[Block::Path(text(&victim))]).unwrap();
    let (mut starts, mut blocked, mut ends) = (0, 0, 0);
    let mut mine = HashMap::new();
    let mut count = |observed: Observed, last: &mut Option<_>| {
        *last = observed.position.or(*last);
        match observed.what {
            Observation::ProcessExecuted(image) if image.executable == text(&victim) => {
                starts += 1;
                blocked += u32::from(image.blocked == Some(BlockedBy::Path));
                mine.insert(image.key(), ());
            }
            Observation::ProcessExited(exit) if mine.remove(&exit.process).is_some() => {
                ends += u32::from(exit.wait_status.is_some_and(|status| status & 0x7f == 9));
            }
            _ => {}
        }
        (starts, blocked, ends)
    };
    for time in 0..times {
        assert!(is_killed(&victim, &trace), "it lived, at time {time}");
        let mut last = None;
        sensor
            .poll(Duration::ZERO, &mut |observed| {
                count(observed, &mut last);
            })
            .unwrap();
        if let Some(position) = last {
            sensor.commit(position);
        }
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut seen = (0, 0, 0);
    // The first start, which was not blocked, is among them.
    while seen.2 < times && Instant::now() < deadline {
        let mut last = None;
        sensor.poll(Duration::from_millis(5), &mut |observed| seen = count(observed, &mut last)).unwrap();
    }
    assert_eq!(seen, (times + 1, times, times), "starts, blocked among them, killed among them");
    Box::new(sensor).shut_down().unwrap();
    assert!(!is_killed(&victim, &trace), "a stopped agent leaves nothing behind");
}

#[test]
fn names_and_files_are_blocked_and_nothing_else_is() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let place = Place::new();
    fs::create_dir(place.path("sub")).unwrap();
    let trace = place.path("trace");
    let name = format!("blocked-{}", std::process::id());
    let (by_name, other) = (place.victim(&format!("sub/{name}")), place.victim("other"));
    sensor.block(&[Block::Name(name.clone())]).unwrap();
    assert!(is_killed(&by_name, &trace));
    assert!(!is_killed(&other, &trace));
    let longer = place.victim(&format!("{name}x"));
    assert!(!is_killed(&longer, &trace), "a name is the whole name");
    let as_path = place.victim("as_path");
    sensor.block(&[Block::Name(name), Block::Path("/as_path".to_owned())]).unwrap();
    assert!(!is_killed(&as_path, &trace), "a path is the whole path, and no name");

    // By what the kernel itself told of the file. The storms of the tests beside this one
    // fill its ring as well: room for the start that is looked for.
    drain(&mut sensor);
    let (status, acted) = run(&other, &trace);
    assert!(status.success() && acted);
    let mut seen = Vec::new();
    let image = |seen: &[Observed]| {
        seen.iter().rev().find_map(|observed| match &observed.what {
            Observation::ProcessExecuted(image) if image.executable == text(&other) => image.image,
            _ => None,
        })
    };
    read_until(&mut sensor, &mut seen, "exec", |seen| image(seen).is_some());
    let image = image(&seen).unwrap();
    sensor.block(&[Block::Image(image)]).unwrap();
    assert!(is_killed(&other, &trace));
    let moved = place.path("moved");
    fs::copy(&other, &moved).unwrap();
    assert!(!is_killed(&moved, &trace), "a copy is another file until its hash is known");
    // Whoever changes it makes another file of it.
    write_first_act_program(&other, Then::Ends).unwrap();
    assert!(!is_killed(&other, &trace));
}

#[test]
fn what_cannot_be_blocked_is_refused_and_the_rest_stands() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let place = Place::new();
    let (victim, trace) = (place.victim("victim"), place.path("trace"));
    let too_long = format!("/{}", "n/".repeat(200));
    let error = sensor.block(&[Block::Path(too_long), Block::Path(text(&victim))]).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("can't be blocked"), "{error}");
    assert!(is_killed(&victim, &trace));
}

#[test]
fn an_agent_that_is_gone_blocks_nothing_for_long() {
    let Some(_) = ebpf(LinuxSensorOptions::default()) else { return };
    let pins = PinDir::new("blocking");
    let place = Place::new();
    let (victim, trace) = (place.victim("victim"), place.path("trace"));
    let mut sensor = open_ebpf(pins.options()).unwrap();
    sensor.block(&[Block::Path(text(&victim))]).unwrap();
    assert!(is_killed(&victim, &trace));
    // Its kernel side goes on, as after a crash.
    drop(sensor);
    let begin = Instant::now();
    while is_killed(&victim, &trace) {
        assert!(begin.elapsed() < Duration::from_secs(30), "nobody puts the end off");
    }
    assert!(begin.elapsed() > Duration::from_secs(5), "an agent that restarts at once leaves no hole");
    let mut sensor = open_ebpf(pins.options()).unwrap();
    assert!(sensor.resumed);
    let other = place.victim("other");
    sensor.block(&[Block::Path(text(&other))]).unwrap();
    assert!(is_killed(&other, &trace));
    assert!(!is_killed(&victim, &trace), "the list of the agent before is forgotten");
    Box::new(sensor).shut_down().unwrap();
    assert!(!is_killed(&other, &trace));
}
