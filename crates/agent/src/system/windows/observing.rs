//! The sensor and the sources of this system.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sensor_api::{Sensor, SensorPosition, Source};
use sensor_windows::SourceOptions;

use crate::options::{Collection, Options};

pub(crate) use sensor_windows::{ContentFeed, RemoteMounts, content};

/// Settings that are for other systems.
pub(crate) const SETTINGS_WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("execgate", "only a driver could ask before a program runs"),
    ("blocklist", "no sensor for Windows can end a program before it runs"),
    ("module-attempts", "it is about Linux kernel modules"),
    ("supervise", "the service's recovery options start an agent again"),
];

/// Opens the process sensor.
pub(crate) fn open_sensor(
    options: &Options,
    _: Option<&Path>,
    _: Option<SensorPosition>,
) -> anyhow::Result<Box<dyn Sensor>> {
    if let Err(error) = win32::privilege::enable_debug_privilege() {
        tracing::warn!(%error, "processes of other users can't be opened; hint: run as administrator or as a service");
    }
    // Before the first look: starts of processes are counted from the boot that it fixes.
    super::host::boot_id()?;
    sensor_windows::open(collection(options)).context("no process sensor can run here")
}

fn collection(options: &Options) -> sensor_windows::Collection {
    match options.collection {
        Collection::Etw => sensor_windows::Collection::Etw,
        Collection::Sysmon => sensor_windows::Collection::Sysmon,
        Collection::Both => sensor_windows::Collection::Both,
    }
}

/// Nothing of the agent stays in the kernel.
pub(crate) fn pins(_: &Path) -> Option<PathBuf> {
    None
}

/// The sources beside it. `kept` is where they may keep something.
pub(crate) fn sources(options: &Options, kept: Option<PathBuf>) -> Vec<Box<dyn Source>> {
    let defaults = SourceOptions::default();
    sensor_windows::sources(&SourceOptions {
        state_dir: kept,
        dirs: options.dirs.clone(),
        registry_keys: options.registry_keys.clone(),
        scan_interval: options.interval.unwrap_or(defaults.scan_interval),
        collection: collection(options),
    })
}
