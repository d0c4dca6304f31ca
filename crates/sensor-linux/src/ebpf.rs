//! The eBPF sensor.

mod load;
mod snapshot;
mod uninterrupted;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_model::{EventClass, EventType, GapReason};
use libbpf_rs::{Link, MapCore as _, MapFlags};
use sensor_api::{
    Block, Doorbells, Observation, Observed, ObservedLoss, ProcessClock, Provision, Sensor, SensorError,
    SensorPosition, StopSignal,
};

use crate::LinuxSensorOptions;
use crate::block;
use crate::doorbell::{self, StreamDoorbell};
use crate::families;
use crate::losses::{KernelCount, Losses, left_out_bits};
use crate::pins::{Control, Maps, Pinned, remove_pins};
use crate::record;
use crate::ring::{Next, RingReader};

pub(crate) const SENSOR: &str = "ebpf";

/// Records don't wake the reader, so one that expects some looks this often.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// So far behind the ring's end the last wake-up is put to have the next record wake the reader: far beyond what
/// makes a wake-up due (`WAKE_BYTES` of `bpf/ring.h`), whatever is written meanwhile.
const LONG_AGO: u64 = 1 << 63;
/// Blocking goes on so long without a word from the agent, which gives one this often.
const BLOCKING_LASTS: Duration = Duration::from_secs(10);
const BLOCKING_RENEWED: Duration = Duration::from_secs(1);
/// Observations handed out in one go. What they are made into is held until they have all been taken: some 2 KB each.
/// The agent takes as many for a sign that more waits.
const BATCH: usize = 1_024;
/// How often the kernel's counters of losses are read: a call for each kind, which takes a fifth of a millisecond.
const CHECK_LOSSES_EVERY: Duration = Duration::from_millis(500);

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
    /// What stands in the map, unless somebody else writes there.
    written: Control,
    maps: Maps,
    losses: Losses,
    clock: Arc<dyn ProcessClock>,
    /// Handed out before anything of the ring: the snapshot, and what was lost with
    /// the pins of another version.
    first: std::vec::IntoIter<Observed>,
    losses_checked: Option<Instant>,
    /// Nothing came since the kernel side was first asked to wake the reader with the next record.
    awaits_first: bool,
    /// When the end of blocking was last put off; `None` while nothing is blocked.
    blocking_since: Option<Instant>,
    pin_dir: Option<PathBuf>,
    /// What keeps the programs attached, unless pins do.
    links: Vec<(String, Link)>,
    missing: Missing,
    /// What stood in the pin directory when the sensor opened it.
    pinned: Option<Pinned>,
    /// Links that were gone when the sensor opened, and what others wrote; told by the next check.
    tampered: Vec<String>,
}

/// Programs that are not attached, by name, with the reason.
type Missing = BTreeMap<&'static str, String>;

impl EbpfSensor {
    /// What a family's programs give of a type.
    fn provision(&self, family: &str, event_type: EventType, programs: &[&str]) -> Provision {
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
    }

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

    /// Hands out what is there, at most so much; the number.
    fn drain(&mut self, most: usize, sink: &mut dyn FnMut(Observed)) -> usize {
        let stream = self.control.stream;
        let mut count = 0;
        for observed in self.first.by_ref().take(most) {
            sink(observed);
            count += 1;
        }
        while count < most {
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
        if count != 0 {
            self.awaits_first = false;
        }
        count
    }

    /// Waits for records. Whoever has patience for no more than a look's time gets what came by then at once; else the
    /// first record ends the waiting, so that nothing has to be looked for meanwhile.
    fn wait(&mut self, patience: Duration) -> io::Result<()> {
        if patience <= LOOK_EVERY || !self.ask_for_first() {
            return self.ring.wake_up().wait(Some(patience.min(LOOK_EVERY)));
        }
        // A program may have decided before it was asked, and write its record only now, without waking anybody: one more
        // look. What is there and still being written is waited for as ever.
        let is_asked_anew = !std::mem::replace(&mut self.awaits_first, true);
        match (is_asked_anew, self.ring.has_more()) {
            (true, true) => Ok(()),
            (true, false) | (false, true) => self.ring.wake_up().wait(Some(LOOK_EVERY)),
            (false, false) => self.ring.wake_up().wait(Some(patience)),
        }
    }

    /// Asks the kernel side to wake the reader with the next record; false if it can't be asked. Each long wait asks: a record
    /// that found no room in the ring may have used up what was asked before.
    fn ask_for_first(&self) -> bool {
        let Some(woken) = &self.maps.woken else { return false };
        let long_ago = self.ring.produced().wrapping_sub(LONG_AGO);
        woken.update(&0_u32.to_ne_bytes(), &long_ago.to_ne_bytes(), MapFlags::ANY).is_ok()
    }

    /// Puts off the end of blocking, if it is time to. An agent that no longer comes here
    /// must not leave programs behind that can't be started.
    fn keep_blocking(&mut self) {
        if self.blocking_since.is_none_or(|at| at.elapsed() < BLOCKING_RENEWED) {
            return;
        }
        self.blocking_since = Some(Instant::now());
        self.control.block_until_ns = now_ns() + BLOCKING_LASTS.as_nanos() as u64;
        if let Err(error) = self.write_control() {
            tracing::warn!(%error, "could not put off the end of blocking");
        }
    }

    /// Tells the kernel side, and takes note if somebody else told it something meanwhile.
    fn write_control(&mut self) -> Result<(), libbpf_rs::Error> {
        self.look_at_control();
        self.control.write(&self.maps.control)?;
        self.written = self.control;
        Ok(())
    }

    /// Whether the control entry is not what the sensor wrote: root can write into a pinned map, and make the kernel side
    /// take another process for the agent, or leave things out.
    fn look_at_control(&mut self) -> bool {
        let found = Control::read(&self.maps.control);
        if found == Some(self.written) {
            return false;
        }
        let what =
            found.map_or_else(|| "it can't be read".to_owned(), |found| self.written.difference(&found));
        let what = format!("what the agent tells its kernel side was rewritten by another: {what}");
        if !self.tampered.contains(&what) {
            self.tampered.push(what);
        }
        true
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
        self.keep_blocking();
        loop {
            let count = self.drain(BATCH, sink);
            let lost = self.check_losses(sink)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if count != 0 || lost || left.is_zero() {
                return Ok(());
            }
            self.wait(left).map_err(|source| SensorError::System {
                sensor: SENSOR,
                doing: "waiting for the ring",
                source,
            })?;
        }
    }

    fn take_some(&mut self, most: usize, sink: &mut dyn FnMut(Observed)) -> Result<(), SensorError> {
        self.drain(most, sink);
        Ok(())
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
        if let Err(error) = self.write_control() {
            // It only makes an answer later by LOOK_EVERY.
            tracing::warn!(%error, "could not tell the kernel side to wake the agent on process starts");
        }
    }

    fn take_doorbells(&mut self, stop: &StopSignal) -> Result<Option<Doorbells>, SensorError> {
        let Some(doorbells) = &self.maps.doorbells else { return Ok(None) };
        let of_cpus = doorbell::places(doorbells, stop).map_err(|source| SensorError::System {
            sensor: SENSOR,
            doing: "looking for a place for a doorbell at each CPU",
            source,
        })?;
        Ok(Some(Doorbells { of_cpus, of_stream: Box::new(StreamDoorbell(self.ring.wake_up().clone())) }))
    }

    fn keeps_observations(&self) -> bool {
        true
    }

    fn block(&mut self, what: &[Block]) -> Result<(), SensorError> {
        let result = block::enter(&self.maps, what);
        if self.blocking_since.is_none() {
            self.blocking_since = Some(Instant::now());
            self.control.block_until_ns = now_ns() + BLOCKING_LASTS.as_nanos() as u64;
            self.write_control().map_err(|error| failed("beginning to block", error))?;
        }
        result.map_err(|source| SensorError::System { sensor: SENSOR, doing: "blocking", source })
    }

    fn shed(&mut self, classes: &[EventClass]) {
        let left_out = left_out_bits(classes);
        if self.control.left_out == left_out {
            return;
        }
        self.control.left_out = left_out;
        if let Err(error) = self.write_control() {
            // The agent leaves them out itself, at a higher price.
            tracing::warn!(%error, "could not tell the kernel side what to leave out");
        }
    }

    fn check(&mut self) -> Vec<String> {
        if self.look_at_control()
            && let Err(error) = self.write_control()
        {
            tracing::warn!(%error, "could not write back what the kernel side is told");
        }
        let mut missing = std::mem::take(&mut self.tampered);
        missing.extend(self.pinned.iter().flat_map(Pinned::changed));
        missing
    }

    fn provisions(&self) -> Vec<Provision> {
        let all = std::iter::once(families::process()).chain(families::optional());
        let mut provisions: Vec<Provision> = Vec::new();
        for family in all {
            for (event_type, programs) in family.makes {
                let new = self.provision(family.name, *event_type, programs);
                match provisions.iter_mut().find(|known| known.event_type == *event_type) {
                    None => provisions.push(new),
                    // One family's hooks are enough for a type; where several have some, all are named.
                    Some(known) => match (&known.missing, &new.missing) {
                        (Some(_), None) => *known = new,
                        (None, None) => known.source.push_str(&format!(" and {}", new.source)),
                        (Some(before), Some(more)) => known.missing = Some(format!("{before}; {more}")),
                        (None, Some(_)) => {}
                    },
                }
            }
        }
        provisions
    }

    fn process_clock(&self) -> Arc<dyn ProcessClock> {
        Arc::clone(&self.clock)
    }

    fn shut_down(mut self: Box<Self>) -> Result<(), SensorError> {
        self.control.block_until_ns = 0;
        if let Err(error) = self.write_control() {
            tracing::warn!(%error, "could not end blocking; it ends by itself within seconds");
        }
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
    SensorError::System { sensor: SENSOR, doing, source: io::Error::other(error) }
}

/// Now, in nanoseconds since boot, suspend included.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.cast_unsigned().saturating_mul(1_000_000_000).saturating_add(now.tv_nsec.cast_unsigned())
}
