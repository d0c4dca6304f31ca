//! The kernel's proc connector: the sensor for hosts without eBPF.
//!
//! Netlink says that a process forked, executed or exited, and nothing else. The
//! facts are read from /proc at once, and a process that ended before that is
//! counted as lost ([`GapReason::ProcessGone`]). Starts are known to a clock tick
//! (10 ms). Nothing of this can be read again after a restart, so observations have
//! no position.

mod message;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_model::GapReason;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};
use sensor_api::{
    Observation, Observed, ObservedExit, ObservedFork, ObservedImage, ObservedLoss, ProcessClock, ProcessKey,
    Sensor, SensorError, SensorPosition,
};

use self::message::{Message, What};
use crate::clock::ProcClock;
use crate::ebpf::now_ns;
use crate::procfs::{self, Stat};

const SENSOR: &str = "proc_connector";
/// Room for about 50,000 messages until they are read.
const SOCKET_BUFFER: usize = 16 << 20;
const BATCH: usize = 4_096;
/// PID of kthreadd, the parent of all kernel threads.
const KTHREADD: u32 = 2;

/// Opens the proc connector and lists the processes that are there.
///
/// # Errors
/// [`SensorError::Unavailable`] without CAP_NET_ADMIN, outside of the initial
/// namespaces, or where the kernel has no connector.
pub fn open_proc_connector() -> Result<ProcConnectorSensor, SensorError> {
    let socket = listen().map_err(|error| SensorError::Unavailable {
        sensor: SENSOR,
        reason: format!("subscribing to the kernel's process events: {error}"),
        hint: "it needs CAP_NET_ADMIN in the host's own namespaces and a kernel with CONFIG_PROC_EVENTS",
    })?;
    let mut sensor = ProcConnectorSensor {
        socket,
        buffer: vec![0; 8 << 10],
        alive: HashMap::new(),
        kernel_threads: HashSet::new(),
        leaderless: HashMap::new(),
        first: Vec::new().into_iter(),
        last_at_ns: now_ns(),
    };
    sensor.list_existing()?;
    Ok(sensor)
}

fn listen() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(netlink::CONNECTOR),
    )?;
    // Without CAP_NET_ADMIN the system's limit stands; then ENOBUFS comes sooner.
    if sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER)?;
    }
    rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, message::GROUP))?;
    rustix::net::send(&socket, &message::listen(std::process::id()), SendFlags::empty())?;
    // The kernel answers with an error or 0 before it sends events.
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut buffer = vec![0_u8; 8 << 10];
    while Instant::now() < deadline {
        wait(&socket, Duration::from_millis(50))?;
        let length = match rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((length, _)) => length,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        match Message::read(buffer.get(..length).unwrap_or_default()).map(|message| message.what) {
            Some(What::Answer(0) | What::Fork { .. } | What::Exec { .. } | What::Exit { .. }) => {
                return Ok(socket);
            }
            Some(What::Answer(error)) => return Err(io::Error::from_raw_os_error(error.cast_signed())),
            _ => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer"))
}

fn wait(socket: &OwnedFd, timeout: Duration) -> io::Result<()> {
    let timeout =
        Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Process starts and ends from the proc connector.
pub struct ProcConnectorSensor {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// Start of each live process that is known.
    alive: HashMap<u32, u64>,
    /// They end without being reported, as they start.
    kernel_threads: HashSet<u32>,
    /// Processes whose first thread ended before others, with its wait status.
    leaderless: HashMap<u32, u32>,
    first: std::vec::IntoIter<Observed>,
    /// When the last message was read: a loss lies behind it.
    last_at_ns: u64,
}

impl ProcConnectorSensor {
    fn list_existing(&mut self) -> Result<(), SensorError> {
        let pids = procfs::pids().map_err(|source| SensorError::System {
            sensor: SENSOR,
            doing: "listing /proc",
            source,
        })?;
        let at_ns = now_ns();
        let mut existing = Vec::new();
        for image in pids.into_iter().filter_map(procfs::image) {
            if image.kernel_thread {
                self.kernel_threads.insert(image.pid);
            } else {
                self.alive.insert(image.pid, image.start_ns);
            }
            let what = Observation::ProcessExisting(Box::new(image));
            existing.push(Observed { at_ns, position: None, what });
        }
        self.first = existing.into_iter();
        Ok(())
    }

    /// Reads one message; false if there is none.
    fn read(&mut self, sink: &mut dyn FnMut(Observed)) -> Result<bool, SensorError> {
        let length = match rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
            Ok((length, _)) => length,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(false),
            Err(rustix::io::Errno::NOBUFS) => {
                sink(self.lost(now_ns(), GapReason::NetlinkOverflow, "observations", None));
                return Ok(true);
            }
            Err(error) => {
                return Err(SensorError::System {
                    sensor: SENSOR,
                    doing: "reading the socket",
                    source: error.into(),
                });
            }
        };
        if let Some(message) = Message::read(self.buffer.get(..length).unwrap_or_default()) {
            let at_ns = since_boot(message.monotonic_ns);
            if let Some(what) = self.observe(message.what, at_ns) {
                let observed = match what {
                    Ok(what) => Observed { at_ns, position: None, what },
                    Err(Gone(what)) => self.lost(at_ns, GapReason::ProcessGone, what, Some(1)),
                };
                sink(observed);
            }
            self.last_at_ns = at_ns;
        }
        Ok(true)
    }

    fn lost(&self, until_ns: u64, reason: GapReason, what: &'static str, count: Option<u64>) -> Observed {
        let loss = ObservedLoss { reason, what, count, from_ns: self.last_at_ns.min(until_ns), until_ns };
        Observed { at_ns: until_ns, position: None, what: Observation::Lost(loss) }
    }

    fn observe(&mut self, what: What, at_ns: u64) -> Option<Result<Observation, Gone>> {
        match what {
            What::Fork { parent, child } => self.forked(parent, child, at_ns).map(Ok),
            What::Exec { pid } => self.executed(pid),
            What::Exit { pid, thread, wait_status } => self.exited(pid, thread, wait_status),
            What::Answer(_) | What::Other => None,
        }
    }

    fn forked(&mut self, parent: u32, child: u32, at_ns: u64) -> Option<Observation> {
        self.leaderless.remove(&child);
        if parent == KTHREADD {
            self.kernel_threads.insert(child);
            return None;
        }
        self.kernel_threads.remove(&child);
        // A child that is gone already started a moment before the message.
        let start_ns = Stat::read(child).map_or(at_ns - at_ns % procfs::tick_ns(), |stat| stat.start_ns);
        self.alive.insert(child, start_ns);
        let parent_start_ns = self.start_of(parent).unwrap_or(0);
        Some(Observation::ProcessForked(ObservedFork {
            child: ProcessKey { pid: child, start_ns },
            parent: ProcessKey { pid: parent, start_ns: parent_start_ns },
        }))
    }

    fn executed(&mut self, pid: u32) -> Option<Result<Observation, Gone>> {
        self.kernel_threads.remove(&pid);
        let Some(mut image) = procfs::image(pid).filter(|image| self.is_same(image)) else {
            return Some(Err(Gone("process_start")));
        };
        let start_ns = *self.alive.entry(pid).or_insert(image.start_ns);
        image.start_ns = start_ns;
        if let Some(parent_start_ns) = self.alive.get(&image.parent_pid) {
            image.parent_start_ns = *parent_start_ns;
        }
        Some(Ok(Observation::ProcessExecuted(Box::new(image))))
    }

    /// A zombie shows nothing of what it ran, and a PID may have gone to another.
    fn is_same(&self, image: &ObservedImage) -> bool {
        let known = self.alive.get(&image.pid);
        let same_start = known.is_none_or(|start| start.abs_diff(image.start_ns) <= procfs::tick_ns());
        same_start && !image.executable.is_empty()
    }

    fn exited(&mut self, pid: u32, thread: u32, wait_status: u32) -> Option<Result<Observation, Gone>> {
        if pid == thread {
            if self.kernel_threads.remove(&pid) {
                return None;
            }
            // The first thread may end before the others; the process ends with the last.
            if Stat::read(pid).is_ok_and(|stat| stat.threads > 1) {
                self.leaderless.insert(pid, wait_status);
                return None;
            }
            self.leaderless.remove(&pid);
            return Some(self.ended(pid, wait_status));
        }
        let leader_status = *self.leaderless.get(&pid)?;
        if Stat::read(pid).is_ok_and(|stat| stat.threads > 1) {
            return None;
        }
        self.leaderless.remove(&pid);
        Some(self.ended(pid, leader_status))
    }

    fn ended(&mut self, pid: u32, wait_status: u32) -> Result<Observation, Gone> {
        let start_ns = self.alive.remove(&pid).ok_or(Gone("process_exit"))?;
        let process = ProcessKey { pid, start_ns };
        Ok(Observation::ProcessExited(ObservedExit { process, wait_status: Some(wait_status) }))
    }

    fn start_of(&mut self, pid: u32) -> Option<u64> {
        if let Some(start_ns) = self.alive.get(&pid) {
            return Some(*start_ns);
        }
        let start_ns = Stat::read(pid).ok()?.start_ns;
        self.alive.insert(pid, start_ns);
        Some(start_ns)
    }
}

/// The process ended before its facts were read; what is missing.
struct Gone(&'static str);

/// The connector's clock does not count suspended time; observations do.
fn since_boot(monotonic_ns: u64) -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now =
        now.tv_sec.cast_unsigned().saturating_mul(1_000_000_000).saturating_add(now.tv_nsec.cast_unsigned());
    now_ns().saturating_sub(now.saturating_sub(monotonic_ns))
}

impl Sensor for ProcConnectorSensor {
    fn name(&self) -> &'static str {
        SENSOR
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Observed)) -> Result<(), SensorError> {
        let mut count = 0;
        for observed in self.first.by_ref().take(BATCH) {
            sink(observed);
            count += 1;
        }
        if count == 0 {
            wait(&self.socket, timeout).map_err(|source| SensorError::System {
                sensor: SENSOR,
                doing: "waiting for the socket",
                source,
            })?;
        }
        while count < BATCH && self.read(sink)? {
            count += 1;
        }
        Ok(())
    }

    fn commit(&mut self, _position: SensorPosition) {}

    /// Each message wakes the reader.
    fn wake_on_process_start(&mut self, _at_once: bool) {}

    fn process_clock(&self) -> Arc<dyn ProcessClock> {
        Arc::new(ProcClock)
    }

    fn shut_down(self: Box<Self>) -> Result<(), SensorError> {
        Ok(())
    }
}
