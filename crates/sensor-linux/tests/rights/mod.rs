//! Sensors for tests, where this process may open them.

#![allow(dead_code, reason = "each test file uses its part")]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sensor_api::SensorError;
use sensor_linux::{
    EbpfSensor, LinuxSensorOptions, ProcConnectorSensor, open_ebpf, open_proc_connector, remove_pins,
};

thread_local! {
    /// The pins of the sensors that a test (a thread of its own) opened. Closing the links
    /// of a sensor that is not pinned takes seconds, as the kernel waits for each; with
    /// pins it does that on its own time.
    static PINS: RefCell<Vec<PinDir>> = const { RefCell::new(Vec::new()) };
}

/// An eBPF sensor; `None`, said aloud, where there can't be one.
pub(crate) fn ebpf(mut options: LinuxSensorOptions) -> Option<EbpfSensor> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if options.pin_dir.is_none() {
        let pins = PinDir::new(&format!("own-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        options.pin_dir = Some(pins.path().to_owned());
        PINS.with_borrow_mut(|all| all.push(pins));
    }
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
            assert!(std::env::var_os("RAMPART_NO_SKIP").is_none(), "must not be skipped here: {error}");
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
