//! The sensor and the sources of this system.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use protocol::enrollment::{sha256, to_hex};
use sensor_api::{Sensor, SensorPosition, Source};
use sensor_linux::{LinuxSensorOptions, SourceOptions};

use crate::options::Options;

pub(crate) use sensor_linux::{ContentFeed, RemoteMounts, content};

/// Settings that are for other systems.
pub(crate) const SETTINGS_WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("regs", "there is a registry only on Windows"),
    ("collect", "event tracing and Sysmon are Windows' own"),
];

/// The kernel's ring, all of which is resident: room for some seconds of a fork bomb while the agent is busy or away.
const RING_BYTES: u32 = 8 << 20;

/// Opens the process sensor; its kernel side outlives the agent where there is a state directory.
pub(crate) fn open_sensor(
    options: &Options,
    state_dir: Option<&Path>,
    resume_after: Option<SensorPosition>,
) -> anyhow::Result<Box<dyn Sensor>> {
    let options = LinuxSensorOptions {
        pin_dir: state_dir.map(pin_dir),
        resume_after,
        ring_bytes: RING_BYTES,
        module_attempts: options.module_attempts,
    };
    let (sensor, notes) = sensor_linux::open(options).context("no process sensor can run here")?;
    for note in notes {
        eprintln!("note: {note}");
    }
    Ok(sensor)
}

/// What the sensor's kernel side is pinned to, where it is.
pub(crate) fn pins(state_dir: &Path) -> Option<PathBuf> {
    Some(pin_dir(state_dir)).filter(|dir| dir.exists())
}

/// One directory in bpffs for each state directory, so that two agents don't meet.
fn pin_dir(state_dir: &Path) -> PathBuf {
    let real = std::fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    let id = to_hex(&sha256(real.as_os_str().as_encoded_bytes())[..8]);
    PathBuf::from(format!("/sys/fs/bpf/rampart-{id}"))
}

/// The sources beside it. `kept` is where they may keep something.
pub(crate) fn sources(options: &Options, kept: Option<PathBuf>) -> Vec<Box<dyn Source>> {
    let mut source_options =
        SourceOptions { state_dir: kept, integrity_dirs: options.dirs.clone(), ..SourceOptions::default() };
    if let Some(interval) = options.interval {
        source_options.scan_interval = interval;
    }
    sensor_linux::sources(&source_options)
}
