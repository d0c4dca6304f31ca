//! The eBPF sensor.

mod load;
mod snapshot;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_model::GapReason;
use libbpf_rs::Link;
use sensor_api::{
    Observation, Observed, ObservedLoss, ProcessClock, Provision, Sensor, SensorError, SensorPosition,
};

use crate::LinuxSensorOptions;
use crate::families;
use crate::losses::{KernelCount, Losses};
use crate::pins::{Control, Maps, remove_pins};
use crate::record;
use crate::ring::{Next, RingReader};

pub(crate) const SENSOR: &str = "ebpf";

/// Records don't wake the reader, so it looks this often.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Observations handed out in one go.
const BATCH: usize = 4_096;
/// How often the kernel's counters of losses are read.
const CHECK_LOSSES_EVERY: Duration = Duration::from_millis(100);

/// Opens the eBPF sensor: goes on with programs that an earlier run left pinned, or
/// loads them anew.
///
/// # Errors
/// [`SensorError::Unavailable`] with what is missing if this host can't run it.
pub fn open_ebpf(options: LinuxSensorOptions) -> Result<EbpfSensor, SensorError> {
    load::open(options)
}

/// Process starts and ends from eBPF programs.
///
/// Observations stay in the ring until they are committed. An agent that leaves more
/// than the ring's size uncommitted makes the kernel count losses.
///
/// Dropped while pinned, its kernel side goes on; [`Sensor::shut_down`] ends it.
pub struct EbpfSensor {
    /// True if the programs of an earlier run went on watching, so that nothing is
    /// missing since then but what comes as lost. False: nobody watched before now.
    pub resumed: bool,
    notes: Vec<String>,
    ring: RingReader,
    control: Control,
    maps: Maps,
    losses: Losses,
    clock: Arc<dyn ProcessClock>,
    /// Handed out before anything of the ring: the snapshot, and what was lost with
    /// the pins of another version.
    first: std::vec::IntoIter<Observed>,
    losses_checked: Option<Instant>,
    pin_dir: Option<PathBuf>,
    /// What keeps the programs attached, unless pins do.
    links: Vec<(String, Link)>,
    missing: Missing,
}

/// Programs that are not attached, by name, with the reason.
type Missing = BTreeMap<&'static str, String>;

impl EbpfSensor {
    /// What the operator should know; empty after the first call.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Whether the kernel side outlives this process.
    pub fn is_pinned(&self) -> bool {
        self.pin_dir.is_some()
    }

    /// The number of the stream of positions.
    pub fn stream(&self) -> u64 {
        self.control.stream
    }

    /// The kernel's own figures of records since the programs were loaded.
    ///
    /// # Errors
    /// If the kernel refuses to read the map.
    pub fn kernel_counts(&self) -> Result<Vec<KernelCount>, SensorError> {
        self.losses.counts().map_err(|error| failed("reading the counters", error))
    }

    /// Hands out what is there; the number.
    fn drain(&mut self, sink: &mut dyn FnMut(Observed)) -> usize {
        let stream = self.control.stream;
        let mut count = 0;
        for observed in self.first.by_ref().take(BATCH) {
            sink(observed);
            count += 1;
        }
        while count < BATCH {
            let (at_ns, what, offset) = match self.ring.next() {
                Next::Empty => break,
                Next::Record(bytes, end) => match record::decode(bytes) {
                    Ok((at_ns, what)) => (at_ns, what, end),
                    Err(record::Malformed) => {
                        let (at_ns, what) = malformed(Some(1));
                        (at_ns, what, end)
                    }
                },
                Next::Damaged => {
                    let (at_ns, what) = malformed(None);
                    (at_ns, what, self.ring.read_to())
                }
            };
            sink(Observed { at_ns, position: Some(SensorPosition { stream, offset }), what });
            count += 1;
        }
        count
    }

    /// Hands out new losses, if it is time to look for them; true if there were any.
    fn check_losses(&mut self, sink: &mut dyn FnMut(Observed)) -> Result<bool, SensorError> {
        if self.losses_checked.is_some_and(|at| at.elapsed() < CHECK_LOSSES_EVERY) {
            return Ok(false);
        }
        self.losses_checked = Some(Instant::now());
        let mut any = false;
        self.losses
            .check(now_ns(), self.ring.read_to(), &mut |observed| {
                any = true;
                sink(observed);
            })
            .map_err(|error| failed("reading the counters of losses", error))?;
        Ok(any)
    }
}

impl Sensor for EbpfSensor {
    fn name(&self) -> &'static str {
        SENSOR
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Observed)) -> Result<(), SensorError> {
        let deadline = Instant::now() + timeout;
        loop {
            let count = self.drain(sink);
            let lost = self.check_losses(sink)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if count != 0 || lost || left.is_zero() {
                return Ok(());
            }
            self.ring.wait(left.min(LOOK_EVERY)).map_err(|source| SensorError::System {
                sensor: SENSOR,
                doing: "waiting for the ring",
                source,
            })?;
        }
    }

    fn commit(&mut self, position: SensorPosition) {
        if position.stream != self.control.stream {
            return;
        }
        self.ring.commit(position.offset);
        if let Err(error) = self.losses.commit(position.offset, now_ns()) {
            tracing::warn!(%error, "could not write the ledger of losses");
        }
    }

    fn wake_on_process_start(&mut self, at_once: bool) {
        if self.control.wake_on_exec == at_once {
            return;
        }
        self.control.wake_on_exec = at_once;
        if let Err(error) = self.control.write(&self.maps.control) {
            // It only makes an answer later by LOOK_EVERY.
            tracing::warn!(%error, "could not tell the kernel side to wake the agent on process starts");
        }
    }

    fn provisions(&self) -> Vec<Provision> {
        let all = std::iter::once(families::process()).chain(families::optional());
        all.flat_map(|family| {
            family.makes.iter().map(move |(event_type, programs)| (family.name, *event_type, *programs))
        })
        .map(|(family, event_type, programs)| {
            let absent: Vec<String> = programs
                .iter()
                .filter_map(|program| Some(format!("{program}: {}", self.missing.get(program)?)))
                .collect();
            let source = if absent.is_empty() || absent.len() == programs.len() {
                format!("ebpf {family}")
            } else {
                format!("ebpf {family}, in part ({})", absent.join("; "))
            };
            let missing = (absent.len() == programs.len()).then(|| absent.join("; "));
            Provision { event_type, source, missing }
        })
        .collect()
    }

    fn process_clock(&self) -> Arc<dyn ProcessClock> {
        Arc::clone(&self.clock)
    }

    fn shut_down(mut self: Box<Self>) -> Result<(), SensorError> {
        self.links.clear();
        match &self.pin_dir {
            Some(dir) => remove_pins(dir).map_err(|source| SensorError::System {
                sensor: SENSOR,
                doing: "removing the pinned programs",
                source,
            }),
            None => Ok(()),
        }
    }
}

fn malformed(count: Option<u64>) -> (u64, Observation) {
    let now = now_ns();
    let loss = ObservedLoss {
        reason: GapReason::MalformedRecord,
        what: "observations",
        count,
        from_ns: now,
        until_ns: now,
    };
    (now, Observation::Lost(loss))
}

fn failed(doing: &'static str, error: libbpf_rs::Error) -> SensorError {
    SensorError::System { sensor: SENSOR, doing, source: std::io::Error::other(error) }
}

/// Now, in nanoseconds since boot, suspend included.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.cast_unsigned().saturating_mul(1_000_000_000).saturating_add(now.tv_nsec.cast_unsigned())
}
