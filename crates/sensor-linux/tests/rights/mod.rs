//! Sensors for tests, where this process may open them.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

use sensor_api::SensorError;
use sensor_linux::{
    EbpfSensor, LinuxSensorOptions, ProcConnectorSensor, open_ebpf, open_proc_connector, remove_pins,
};

/// An eBPF sensor; `None`, said aloud, where there can't be one.
pub(crate) fn ebpf(options: LinuxSensorOptions) -> Option<EbpfSensor> {
    opened(open_ebpf(options))
}

/// A proc connector; `None`, said aloud, where there can't be one.
pub(crate) fn proc_connector() -> Option<ProcConnectorSensor> {
    opened(open_proc_connector())
}

fn opened<Opened>(result: Result<Opened, SensorError>) -> Option<Opened> {
    match result {
        Ok(sensor) => Some(sensor),
        Err(error @ SensorError::Unavailable { .. }) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

/// A pin directory of its own that does not outlive the test.
pub(crate) struct PinDir(PathBuf);

impl PinDir {
    pub(crate) fn new(name: &str) -> Self {
        Self(PathBuf::from(format!("/sys/fs/bpf/rampart-test-{name}-{}", std::process::id())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn options(&self) -> LinuxSensorOptions {
        LinuxSensorOptions { pin_dir: Some(self.0.clone()), ..LinuxSensorOptions::default() }
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        if let Err(error) = remove_pins(&self.0) {
            eprintln!("pins are left at {}: {error}", self.0.display());
        }
    }
}
