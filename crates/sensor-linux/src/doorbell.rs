//! A small ring for each CPU, which calls for the thread that waits there.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use sensor_api::{CpuDoorbell, DoorbellPlace, StopSignal, StreamDoorbell as Stream};

use crate::ring::{Next, RingReader, WakeUp};

/// One place for each CPU that this thread may run on, by number in `doorbells`.
///
/// # Errors
/// If the system does not say on which it may, or gives no descriptor.
pub(crate) fn places(doorbells: &MapHandle, stop: &StopSignal) -> io::Result<Vec<DoorbellPlace>> {
    let allowed = sched_getaffinity(None)?;
    let possible = doorbells.max_entries().min(u32::try_from(CpuSet::MAX_CPU).unwrap_or(u32::MAX));
    let cpus = (0..possible).filter(|cpu| allowed.is_set(*cpu as usize));
    cpus.map(|cpu| {
        let doorbells = MapHandle::try_from(doorbells).map_err(io::Error::other)?;
        let stop = stop.clone();
        let hang = move || -> io::Result<Box<dyn CpuDoorbell>> {
            let mut here = CpuSet::new();
            here.set(cpu as usize);
            sched_setaffinity(None, &here)?;
            put_this_thread_first();
            Ok(Box::new(Doorbell::hang(doorbells, cpu, stop)?))
        };
        Ok(DoorbellPlace { cpu, hang: Box::new(hang) })
    })
    .collect()
}

/// Takes off what an agent left that was ended by force: nobody hears it any more.
pub(crate) fn take_all_off(doorbells: &MapHandle) {
    for cpu in 0..doorbells.max_entries() {
        let key = cpu.to_ne_bytes();
        if matches!(doorbells.lookup(&key, MapFlags::ANY), Ok(Some(_)))
            && let Err(error) = doorbells.delete(&key)
        {
            tracing::warn!(cpu, %error, "a doorbell that nobody hears could not be taken off");
        }
    }
}

/// At the lowest real-time priority: the process that has started must not run before it is judged.
/// Not where nothing bounds that class, nor where an administrator chose another.
#[allow(unsafe_code, reason = "no safe wrapper gives sched_setscheduler(2)")]
fn put_this_thread_first() {
    let bound = std::fs::read_to_string("/proc/sys/kernel/sched_rt_runtime_us").unwrap_or_default();
    // SAFETY: nothing is handed over but a number; 0 is this thread.
    let class = unsafe { libc::sched_getscheduler(0) };
    if bound.trim() == "-1" || class != libc::SCHED_OTHER {
        return;
    }
    let lowest = libc::sched_param { sched_priority: 1 };
    let class = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel reads what the pointer names, which lives until then. 0 is this thread.
    if unsafe { libc::sched_setscheduler(0, class, &raw const lowest) } != 0 {
        let error = io::Error::last_os_error();
        tracing::info!(%error, "process starts are answered without a real-time priority");
    }
}

/// The one of a CPU.
struct Doorbell {
    cpu: u32,
    ring: RingReader,
    /// Gives back the map that it hangs in.
    hanging: Option<JoinHandle<MapHandle>>,
    /// What else ends a wait; it must stay open as long.
    _stop: StopSignal,
}

impl Doorbell {
    fn hang(doorbells: MapHandle, cpu: u32, stop: StopSignal) -> io::Result<Self> {
        let page = u32::try_from(rustix::param::page_size()).map_err(io::Error::other)?;
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            ..Default::default()
        };
        let map = MapHandle::create(MapType::RingBuf, Some("doorbell"), 0, 0, page, &options)
            .map_err(io::Error::other)?;
        let ring = RingReader::new(map.as_fd(), page)?;
        ring.wake_up().comes_from(&stop)?;
        let descriptor = map.as_fd().as_raw_fd();
        // It rings at once, but the kernel lets go of whoever hangs it some ten milliseconds later, when no program can have
        // the one before in hand. Starts must be answered meanwhile.
        let hang = move || {
            if let Err(error) = doorbells.update(&cpu.to_ne_bytes(), &descriptor.to_ne_bytes(), MapFlags::ANY)
            {
                tracing::warn!(cpu, %error, "a doorbell could not be hung, process starts there wake the stream's reader");
            }
            drop(map);
            doorbells
        };
        let hanging = Some(Builder::new().name(format!("hang-{cpu}")).spawn(hang)?);
        Ok(Self { cpu, ring, hanging, _stop: stop })
    }
}

impl CpuDoorbell for Doorbell {
    fn wait(&mut self) -> io::Result<()> {
        self.ring.wake_up().wait(None)?;
        // What is written there only makes it ring.
        while self.ring.next() != Next::Empty {}
        self.ring.commit(self.ring.read_to());
        Ok(())
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        let Some(Ok(doorbells)) = self.hanging.take().map(JoinHandle::join) else { return };
        // Its CPU's starts wake the reader of the stream again.
        if let Err(error) = doorbells.delete(&self.cpu.to_ne_bytes()) {
            tracing::debug!(cpu = self.cpu, %error, "a doorbell could not be taken off");
        }
    }
}

/// That of the stream.
pub(crate) struct StreamDoorbell(pub(crate) WakeUp);

impl Stream for StreamDoorbell {
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.0.wait(Some(timeout))
    }
}
