//! What a sensor is.
//!
//! A [`Sensor`] hands out [`Observed`] facts in kernel order. It knows nothing of
//! rules, hosts or numbers; the agent turns observations into events. Two duties
//! make loss visible and crashes harmless:
//!
//! - whatever the kernel could not hand over comes as [`Observation::Lost`], with
//!   the count where the kernel counted;
//! - an observation stays with the sensor until the agent has
//!   [committed](Sensor::commit) its position, so an agent that dies in between
//!   sees it again, and with the position that it last stored it knows where to
//!   go on.

#![deny(missing_docs)]

pub mod contract;
mod doorbell;
mod queue;
mod replay;
mod source;
mod stop;

use std::sync::Arc;
use std::time::Duration;

use event_model::{BlockedBy, EventClass, EventType, Field, GapReason, ImageFile, Value};

pub use doorbell::{CpuDoorbell, DoorbellPlace, Doorbells, StreamDoorbell};
pub use queue::{ObservationQueue, ObservationSender, observation_queue};
pub use replay::ReplaySensor;
pub use source::{Provision, Source, SourceThreads};
pub use stop::{StopHandle, StopSignal, boot_ns, stop_signal};

/// One life of one process as the kernel names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey {
    /// PID (thread group id) in the initial PID namespace.
    pub pid: u32,
    /// Start in nanoseconds since boot, suspend included.
    pub start_ns: u64,
}

/// Place of an observation in its sensor's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SensorPosition {
    /// The stream; a new stream (after a reboot, a new ring) has another number.
    pub stream: u64,
    /// Grows along the stream. The position of an observation lies behind it: all
    /// before `offset` has been handed out.
    pub offset: u64,
}

/// An observation with its time and place.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// When it happened, in nanoseconds since boot, suspend included.
    pub at_ns: u64,
    /// Its place; `None` where the sensor can't hand it out again.
    pub position: Option<SensorPosition>,
    /// What happened.
    pub what: Observation,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// A process was already there when the sensor started.
    ProcessExisting(Box<ObservedImage>),
    /// A process was forked.
    ProcessForked(ObservedFork),
    /// A process began to run an image.
    ProcessExecuted(Box<ObservedImage>),
    /// A process (its last thread) ended.
    ProcessExited(ObservedExit),
    /// Anything else that was done or found.
    Activity(Box<ObservedActivity>),
    /// Something could not be handed over.
    Lost(ObservedLoss),
}

/// A process was forked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedFork {
    /// The new process.
    pub child: ProcessKey,
    /// Its parent.
    pub parent: ProcessKey,
}

/// A process and the image that it runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObservedImage {
    /// PID (thread group id).
    pub pid: u32,
    /// Start in nanoseconds since boot.
    pub start_ns: u64,
    /// PID of the parent; 0 for a process that has none.
    pub parent_pid: u32,
    /// Start of the parent in nanoseconds since boot.
    pub parent_start_ns: u64,
    /// Absolute path of the image. Bytes that are not UTF-8 stand as `\xNN`.
    pub executable: String,
    /// Arguments. Bytes that are not UTF-8 stand as `\xNN`.
    pub args: Vec<String>,
    /// Full length of the arguments in bytes, ends included.
    pub args_bytes: u64,
    /// The command line as one text, where the system has it so; else it is the arguments joined by spaces.
    pub command_line: Option<String>,
    /// True where `args` is less than all.
    pub args_truncated: bool,
    /// Working directory.
    pub working_directory: Option<String>,
    /// Real user id; on Windows the last part of the SID.
    pub uid: u32,
    /// Name of the user, where the sensor knows it.
    pub user_name: Option<String>,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
    /// The user who logged in; `None` where nobody did.
    pub login_uid: Option<u32>,
    /// PID of the session leader.
    pub session_id: Option<u32>,
    /// Controlling terminal.
    pub tty: Option<String>,
    /// The image's file.
    pub image: Option<ImageFile>,
    /// The image had no name in any directory.
    pub image_deleted: bool,
    /// Cgroup path.
    pub cgroup_path: Option<String>,
    /// True for a thread of the kernel itself.
    pub kernel_thread: bool,
    /// Effective capabilities by name, `ALL` for the whole set.
    pub capabilities: Arc<[String]>,
    /// Variables of the environment that change what is run, as `NAME=value`.
    pub environment: Vec<String>,
    /// The image is a file in memory that never had a name.
    pub memfd: bool,
    /// Namespaces other than the host's, as `kind:inode`.
    pub namespaces: Vec<String>,
    /// The kernel side ended it before its first instruction, as [`Sensor::block`] asked.
    pub blocked: Option<BlockedBy>,
}

impl ObservedImage {
    /// The process's key.
    pub fn key(&self) -> ProcessKey {
        ProcessKey { pid: self.pid, start_ns: self.start_ns }
    }

    /// The parent's key; `None` where there is no parent.
    pub fn parent_key(&self) -> Option<ProcessKey> {
        (self.parent_pid != 0).then_some(ProcessKey { pid: self.parent_pid, start_ns: self.parent_start_ns })
    }
}

/// What may not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// Whatever has a file of this name, in any folder.
    Name(String),
    /// The file at this absolute path, as the process's own mount namespace has it.
    Path(String),
    /// This file, as long as nobody changes it.
    Image(ImageFile),
}

/// Something that was done or found, with its fields as the table of fields has them.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedActivity {
    /// What kind of thing.
    pub event_type: EventType,
    /// Who did it; `None` where nobody knows.
    pub actor: Option<Actor>,
    /// To whom it was done.
    pub target: Option<Actor>,
    /// What there is to tell besides who and when, each field at most once.
    pub fields: Vec<(Field, Value)>,
}

impl ObservedActivity {
    /// What it belongs to when the agent has to do less. That is its type's class, unless it was done to something that is
    /// watched on purpose: a file of the directories of `-dirs`, the agent's own, a shell's history, and logs that are
    /// emptied, removed, moved or given other times. A flood of something else must not hide those.
    pub fn class(&self) -> EventClass {
        let class = self.event_type.spec().class;
        if !matches!(class, EventClass::File | EventClass::Bulk) {
            return class;
        }
        let text = |wanted: Field| {
            self.fields.iter().find_map(|(field, value)| match value {
                Value::Text(text) if *field == wanted => Some(text.as_str()),
                _ => None,
            })
        };
        let of_dirs =
            matches!(text(Field::EventProvider), Some("integrity" | "file_baseline" | "file_watch"));
        let is_protected = match text(Field::FileObject) {
            _ if of_dirs => true,
            Some("shell_history" | "agent") => true,
            Some("log") => matches!(
                text(Field::FileOperation),
                Some("truncate" | "delete" | "rename" | "exchange" | "times" | "symlink")
            ),
            _ => false,
        };
        if is_protected { EventClass::Protected } else { class }
    }

    /// How many acts it stands for: a source may have merged like ones.
    pub fn acts(&self) -> u64 {
        let count = self.fields.iter().find_map(|(field, value)| match (field, value) {
            (Field::EventCount, Value::Integer(count)) => u64::try_from(*count).ok(),
            _ => None,
        });
        count.unwrap_or(1).max(1)
    }
}

/// A process as a sensor knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// Exactly this life.
    Life(ProcessKey),
    /// Whoever had this PID (in the initial namespace) at the time of the act, as far as
    /// the agent remembers.
    Pid(u32),
}

impl Actor {
    /// The PID.
    pub fn pid(self) -> u32 {
        match self {
            Self::Life(key) => key.pid,
            Self::Pid(pid) => pid,
        }
    }
}

/// A process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedExit {
    /// The process.
    pub process: ProcessKey,
    /// Its wait status, as wait(2) gives it, on Windows its exit code; `None` where nobody could ask.
    pub wait_status: Option<u32>,
}

/// Something could not be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedLoss {
    /// Why.
    pub reason: GapReason,
    /// What: the word of an event type, `process_fork`, or `observations`.
    pub what: &'static str,
    /// How many; `None` where nobody counted.
    pub count: Option<u64>,
    /// Start of the span, in nanoseconds since boot.
    pub from_ns: u64,
    /// End of the span.
    pub until_ns: u64,
}

/// A sensor failed.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    /// It can't run on this host; another may.
    #[error("{sensor} is not available here: {reason}; hint: {hint}")]
    Unavailable {
        /// The sensor.
        sensor: &'static str,
        /// What is missing.
        reason: String,
        /// What would help.
        hint: &'static str,
    },
    /// The system refused a call while the sensor ran.
    #[error("{sensor}: {doing} failed")]
    System {
        /// The sensor.
        sensor: &'static str,
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Tells which life of a PID is alive now, for use by the response from any thread.
pub trait ProcessClock: Send + Sync {
    /// Start of the process that has this PID now, in nanoseconds since boot;
    /// `None` where there is none. Exact to the nanosecond only if
    /// [`precision_ns`](Self::precision_ns) is 1.
    fn start_ns(&self, pid: u32) -> Option<u64>;

    /// Two lives that started less than this apart may look the same.
    fn precision_ns(&self) -> u64;
}

/// A source of observations.
pub trait Sensor: Send {
    /// Its name in events and messages, for example `ebpf`.
    fn name(&self) -> &'static str;

    /// Waits until there are observations, or for `timeout`, and hands out what
    /// there is, in kernel order. A full stream must not keep it from returning:
    /// it hands out at most a few thousand at a time.
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Observed)) -> Result<(), SensorError>;

    /// Hands out what is there without waiting, at most so much where the sensor can be asked for that.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    fn take_some(&mut self, _most: usize, sink: &mut dyn FnMut(Observed)) -> Result<(), SensorError> {
        self.poll(Duration::ZERO, sink)
    }

    /// Everything up to `position` is stored; the sensor may forget it.
    fn commit(&mut self, position: SensorPosition);

    /// Whether process starts must wake the reader at once (a rule may act on
    /// them) or may wait for a batch.
    fn wake_on_process_start(&mut self, at_once: bool);

    /// How process starts that must not wait call for whoever polls, where the sensor has more than `poll` for that.
    /// They ring only while [`wake_on_process_start`](Self::wake_on_process_start) asks for it.
    /// A wait at one of them ends when `stop` is asked for.
    ///
    /// # Errors
    /// If the system refuses it; `poll` does without.
    fn take_doorbells(&mut self, _stop: &StopSignal) -> Result<Option<Doorbells>, SensorError> {
        Ok(None)
    }

    /// Whether what happens waits as it was until it is polled. A sensor that only hears of it, and looks at it when
    /// polled, does not: what ends soon is gone by then.
    fn keeps_observations(&self) -> bool {
        false
    }

    /// From now on ends whatever of this begins to run, before its first instruction,
    /// until it is shut down or the agent has not polled for some seconds. The start is
    /// handed out like any other, with [`ObservedImage::blocked`].
    ///
    /// # Errors
    /// If this sensor can't do that, or not for one of these; the others stand.
    fn block(&mut self, _what: &[Block]) -> Result<(), SensorError> {
        Err(SensorError::Unavailable {
            sensor: self.name(),
            reason: "it can't end a program before it runs".to_owned(),
            hint: "blocking takes the eBPF sensor",
        })
    }

    /// From now on the classes of which nothing is wanted, for the CPU budget's sake. A
    /// sensor that can leave them out at their source counts what it leaves out and
    /// tells it as [`Observation::Lost`] with [`GapReason::Budget`], at least each second.
    /// What comes all the same is left out and counted by the agent.
    fn shed(&mut self, _classes: &[EventClass]) {}

    /// Looks whether its kernel side is whole; what is missing, in words. Called each second.
    fn check(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Where each type of event that it makes comes from, or why there is none.
    fn provisions(&self) -> Vec<Provision> {
        Vec::new()
    }

    /// The response's view of which processes live.
    fn process_clock(&self) -> Arc<dyn ProcessClock>;

    /// Ends for good: nothing keeps watching after this. (A sensor that is merely
    /// dropped may leave its kernel side at work, for an agent that comes back.)
    fn shut_down(self: Box<Self>) -> Result<(), SensorError>;
}
