//! The Linux process sensors.
//!
//! [`open`] gives the best that this host allows: eBPF programs that hand over
//! fork, exec and exit through one ring ([`EbpfSensor`]), else the kernel's proc
//! connector, filled in from /proc ([`ProcConnectorSensor`]).
//!
//! Both first start to listen and then hand out what is already there
//! ([`ProcessExisting`](sensor_api::Observation::ProcessExisting)), so no process
//! falls in between; one may be seen both ways. Kernel threads are handed out
//! among the existing processes only; later ones are not reported.
//!
//! The eBPF sensor is lossless as long as its ring has room. Room is what has been
//! [committed](sensor_api::Sensor::commit): an agent that neither reads nor
//! commits for long makes the kernel count losses, which come out as
//! [`Lost`](sensor_api::Observation::Lost) with exact figures.

#![deny(missing_docs)]

mod act;
mod block;
mod boot_clock;
mod clock;
mod connector;
mod content;
mod doorbell;
mod ebpf;
mod escape;
mod families;
mod gate;
mod integrity;
mod logon;
mod losses;
mod pins;
mod procfs;
mod record;
mod ring;
mod skipped;
mod standing;
mod state_file;
mod usb;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use sensor_api::{Sensor, SensorError, SensorPosition, Source};

pub use connector::{ProcConnectorSensor, open_proc_connector};
pub use content::{ContentFeed, content};
pub use ebpf::{EbpfSensor, open_ebpf};
pub use gate::{
    ExecutionGate, GateJudge, GatePlaces, KEEPER_ARGUMENT, Outcome, Question, Refusal, serve as keep_gate,
};
pub use integrity::IntegritySource;
pub use logon::LogonSource;
pub use losses::KernelCount;
pub use pins::remove_pins;
pub use usb::UsbSource;
pub use watch::mounts::RemoteMounts;

/// What a sensor is to be opened with.
#[derive(Debug, Clone)]
pub struct LinuxSensorOptions {
    /// Directory in bpffs under which programs and maps are pinned, so that they go
    /// on watching while the agent is away; `None` keeps them with the process.
    /// Its parent must exist once bpffs is mounted, and one sensor at a time may use it.
    pub pin_dir: Option<PathBuf>,
    /// Behind which position nothing is stored yet. What lies before it is not
    /// handed out again; a position of another stream says nothing.
    pub resume_after: Option<SensorPosition>,
    /// Size of the ring in bytes; made a power of two of at least one page.
    pub ring_bytes: u32,
    /// Where the kernel has no modules, look at every system call of every process, so
    /// that attempts to load one are seen. That makes starting a process some 5 % dearer
    /// (docs/adr/0014), for an act that can't succeed there; kernels with modules show it for nothing.
    pub module_attempts: bool,
}

impl Default for LinuxSensorOptions {
    fn default() -> Self {
        Self { pin_dir: None, resume_after: None, ring_bytes: 8 << 20, module_attempts: false }
    }
}

/// Opens the eBPF sensor, or the proc connector where eBPF is not available.
///
/// The texts are for the operator: what is missing or weaker than it could be, and
/// what would help.
///
/// # Errors
/// If neither sensor can run here; the error says why of both.
pub fn open(options: LinuxSensorOptions) -> Result<(Box<dyn Sensor>, Vec<String>), SensorError> {
    let no_ebpf = match open_ebpf(options) {
        Ok(mut sensor) => {
            let notes = sensor.take_notes();
            return Ok((Box::new(sensor), notes));
        }
        Err(error) => chain(&error),
    };
    match open_proc_connector() {
        Ok(sensor) => {
            let note = format!(
                "{no_ebpf}; the proc connector stands in for it: it misses the facts of processes that end at once, and \
                 all that happens while the agent is away"
            );
            Ok((Box::new(sensor), vec![note]))
        }
        Err(no_connector) => Err(neither(&no_ebpf, &chain(&no_connector))),
    }
}

/// What the sources beside the kernel's stream are to watch.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// Directory under which all paths of the system are looked for: `/`, or a
    /// directory with a system of its own in tests.
    pub root: PathBuf,
    /// Where a source may keep, with mode 0600, what it must know after a restart;
    /// `None` keeps all in memory. Exists already.
    pub state_dir: Option<PathBuf>,
    /// Directories whose files are watched for changes of content (`-dirs`).
    pub integrity_dirs: Vec<PathBuf>,
    /// How often they are compared with their baseline (`-interval`).
    pub scan_interval: Duration,
}

/// As the seed's configuration has it.
const DEFAULT_SCAN_INTERVAL: Duration = Duration::from_secs(30);

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/"),
            state_dir: None,
            integrity_dirs: Vec::new(),
            scan_interval: DEFAULT_SCAN_INTERVAL,
        }
    }
}

/// The sources beside the kernel's stream, each for a thread of its own.
pub fn sources(options: &SourceOptions) -> Vec<Box<dyn Source>> {
    let mut sources: Vec<Box<dyn Source>> = vec![
        Box::new(LogonSource::new(options)),
        Box::new(UsbSource::new(options)),
        Box::new(watch::FileWatch::new(options)),
    ];
    if !options.integrity_dirs.is_empty() {
        sources.push(Box::new(IntegritySource::new(options)));
    }
    sources
}

fn neither(no_ebpf: &str, no_connector: &str) -> SensorError {
    SensorError::Unavailable {
        sensor: "process sensor",
        reason: format!("{no_ebpf}; {no_connector}"),
        hint: "run the agent as root, outside of containers",
    }
}

/// The error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_any_sensor_both_reasons_are_told() {
        let error =
            neither("ebpf is not available here: no BTF", "proc_connector is not available here: no netlink");
        let text = error.to_string();
        assert!(text.contains("no BTF") && text.contains("no netlink") && text.contains("hint: "), "{text}");
    }
}
