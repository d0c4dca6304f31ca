//! The typed events, as sensors and the agent make them.
//!
//! Each struct answers [`EventBody::value`] for the fields it has; what stands
//! behind that (wire, store, rules, ECS) never looks at the structs.

use std::borrow::Cow;
use std::sync::Arc;

use crate::{
    Activity, BootId, EventType, Field, FileFacts, ParentProcess, Process, ProcessEntityId, Timestamp,
    ValueRef, Who, words,
};

words! {
    /// How a process came to run its image.
    StartKind {
        /// It called execve or a relative.
        Exec = "exec",
        /// It was forked and never called execve.
        Fork = "fork",
    }
}

words! {
    /// Why something was lost.
    GapReason {
        /// The kernel's ring buffer was full.
        KernelRingFull = "kernel_ring_full",
        /// A netlink socket overflowed.
        NetlinkOverflow = "netlink_overflow",
        /// A process ended before its facts could be read from /proc.
        ProcessGone = "process_gone",
        /// The spool reached its size limit and gave up its oldest batches.
        SpoolFull = "spool_full",
        /// The spool's disk refused a write.
        SpoolWriteFailed = "spool_write_failed",
        /// A spooled batch was damaged on disk.
        SpoolCorrupt = "spool_corrupt",
        /// The server refused a batch for good.
        ServerRefused = "server_refused",
        /// A queue inside the agent was full.
        QueueFull = "queue_full",
        /// The CPU or memory budget had this class of events left out.
        Budget = "budget",
        /// The agent was not running and nothing kept watch for it.
        AgentDown = "agent_down",
        /// The kernel handed over a record that can't be read.
        MalformedRecord = "malformed_record",
        /// The kernel did not run a program that was running already on that processor.
        KernelSkipped = "kernel_skipped",
        /// One rule matched so often that only some of its detections were made.
        Flood = "flood",
    }
}

/// A process began to run an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessStart {
    /// Exec or fork.
    pub kind: StartKind,
    /// The process.
    pub process: Process,
    /// Its parent, where it is known.
    pub parent: Option<ParentProcess>,
    /// What its content is.
    pub facts: Option<Arc<FileFacts>>,
    /// Why there is no hash.
    pub hash_skipped: Option<&'static str>,
}

/// A process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessExit {
    /// The process.
    pub process: Process,
    /// Its parent, where it is known.
    pub parent: Option<ParentProcess>,
    /// When it ended (wall clock).
    pub end: Timestamp,
    /// Exit code, where it ended by itself. At most 255, except on Windows.
    pub exit_code: Option<u32>,
    /// The signal that ended it.
    pub exit_signal: Option<u8>,
    /// From start to end in nanoseconds.
    pub run_time_ns: u64,
}

/// The agent began its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentStart {
    /// Version of the agent.
    pub version: String,
    /// Source of process events.
    pub sensor: String,
    /// SHA-256 of the resolved configuration.
    pub config_hash: String,
    /// Rule bundle in force.
    pub rules_version: u64,
    /// Rules in force.
    pub rules_loaded: u64,
    /// How the run before ended.
    pub previous_end: &'static str,
    /// Where each type of event comes from, as `type=source`.
    pub sources: Vec<String>,
    /// What else is known of that.
    pub previous_cause: Option<String>,
}

/// The agent was asked to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentStop {
    /// Version of the agent.
    pub version: String,
    /// `signal`, `error` or `memory`.
    pub reason: &'static str,
    /// The signal.
    pub signal: Option<u8>,
    /// Who sent it, where the kernel says so.
    pub by: Option<SignalSender>,
}

/// Who sent a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalSender {
    /// PID.
    pub pid: u32,
    /// Real user id.
    pub uid: u32,
    /// The process, where the agent knows it.
    pub who: Option<Who>,
}

/// The agent's own figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentHealth {
    /// Version of the agent.
    pub version: String,
    /// Source of process events.
    pub sensor: String,
    /// Rule bundle in force.
    pub rules_version: u64,
    /// Rules in force.
    pub rules_loaded: u64,
    /// Records numbered in this boot.
    pub records_produced: u64,
    /// Numbered records dropped in this boot.
    pub records_dropped: u64,
    /// Observations that the kernel could not hand over in this boot.
    pub kernel_lost: u64,
    /// Spool size in bytes.
    pub spool_bytes: u64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// CPU time since the agent's start in milliseconds.
    pub cpu_ms: u64,
    /// Live processes that the agent knows.
    pub processes_tracked: u64,
    /// The account of the boot, see [`Field::AgentAccount`].
    pub account: Vec<String>,
    /// CPU of the last ten seconds in thousandths of one core.
    pub cpu_permille: u64,
    /// What is done to stay within the budget, see [`Field::AgentBudgetStep`].
    pub budget_step: &'static str,
    /// Classes of events that are left out now.
    pub shed: Vec<String>,
    /// What became of files that were run or written, see [`Field::AgentScans`].
    pub scans: Vec<String>,
    /// What detection had to forget, see [`Field::AgentForgotten`].
    pub forgotten: Vec<String>,
}

/// Something was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Where.
    pub sensor: &'static str,
    /// Why.
    pub reason: GapReason,
    /// What: the word of a [`RecordKind`](crate::RecordKind).
    pub what: &'static str,
    /// How many acts; `None` where nobody can know.
    pub count: Option<u64>,
    /// How many numbered records that were.
    pub records: Option<u64>,
    /// Number of the last of them, where it is known.
    pub through: Option<u64>,
    /// The boot whose records they were, where it is not the one of this event, or where
    /// they were numbered as another host.
    pub boot: Option<BootId>,
    /// Start of the span in which it happened.
    pub from: Timestamp,
    /// End of that span.
    pub until: Timestamp,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventBody {
    /// A process began to run an image.
    ProcessStart(Box<ProcessStart>),
    /// A process ended.
    ProcessExit(Box<ProcessExit>),
    /// The agent began its work.
    AgentStart(AgentStart),
    /// The agent was asked to stop.
    AgentStop(AgentStop),
    /// The agent's own figures.
    AgentHealth(AgentHealth),
    /// Something was lost.
    Gap(Gap),
    /// Anything else.
    Activity(Box<Activity>),
}

impl EventBody {
    /// Its type.
    pub fn event_type(&self) -> EventType {
        match self {
            Self::ProcessStart(_) => EventType::ProcessStart,
            Self::ProcessExit(_) => EventType::ProcessExit,
            Self::AgentStart(_) => EventType::AgentStart,
            Self::AgentStop(_) => EventType::AgentStop,
            Self::AgentHealth(_) => EventType::AgentHealth,
            Self::Gap(_) => EventType::Gap,
            Self::Activity(body) => body.event_type,
        }
    }

    /// The value of a field, where this event has it.
    pub fn value(&self, field: Field) -> Option<ValueRef<'_>> {
        match self {
            Self::ProcessStart(body) => body.value(field),
            Self::ProcessExit(body) => body.value(field),
            Self::AgentStart(body) => body.value(field),
            Self::AgentStop(body) => body.value(field),
            Self::AgentHealth(body) => body.value(field),
            Self::Gap(body) => body.value(field),
            Self::Activity(body) => body.value(field),
        }
    }

    /// The process that did it, as far as there is still one: the end of a process leaves nobody to act on.
    pub fn actor(&self) -> Option<&Process> {
        match self {
            Self::ProcessStart(body) => Some(&body.process),
            Self::Activity(body) => body.who.as_ref().map(|who| &who.process),
            Self::ProcessExit(_)
            | Self::AgentStart(_)
            | Self::AgentStop(_)
            | Self::AgentHealth(_)
            | Self::Gap(_) => None,
        }
    }

    /// The process that did it, or its parent, by the field that has its id.
    pub fn entity(&self, field: Field) -> Option<ProcessEntityId> {
        let (process, parent) = match self {
            Self::ProcessStart(body) => (&body.process, &body.parent),
            Self::ProcessExit(body) => (&body.process, &body.parent),
            Self::Activity(body) => body.who.as_ref().map(|who| (&who.process, &who.parent))?,
            Self::AgentStart(_) | Self::AgentStop(_) | Self::AgentHealth(_) | Self::Gap(_) => return None,
        };
        match field {
            Field::ProcessEntityId => Some(process.entity_id),
            Field::ParentEntityId => parent.as_ref().map(|parent| parent.entity_id),
            _ => None,
        }
    }
}

impl ProcessStart {
    fn value(&self, field: Field) -> Option<ValueRef<'_>> {
        let image = &*self.process.image;
        Some(match field {
            Field::EventAction => text(self.kind.as_str()),
            Field::ProcessArgs => ValueRef::TextList(&image.args),
            Field::ProcessArgsBytes => integer(image.args_bytes),
            Field::ProcessArgsTruncated => ValueRef::Boolean(image.args_truncated),
            Field::ProcessWorkingDirectory => text(image.working_directory.as_deref()?),
            Field::ProcessTty => text(image.tty.as_deref()?),
            Field::ProcessSessionId => integer(image.session_id?),
            Field::ProcessInode => integer(image.file?.inode),
            Field::ProcessDevice => integer(image.file?.device),
            Field::ProcessImageDeleted => ValueRef::Boolean(image.image_deleted),
            Field::ProcessMemfd => ValueRef::Boolean(image.memfd),
            Field::ProcessCapabilities => list(&image.capabilities)?,
            Field::ProcessEnvironment => list(&image.environment)?,
            Field::ProcessNamespaces => list(&image.namespaces)?,
            Field::ProcessBlocked => text(image.blocked?.as_str()),
            Field::ProcessMd5 => text(present(&self.facts.as_ref()?.md5)?),
            Field::ProcessSha1 => text(present(&self.facts.as_ref()?.sha1)?),
            Field::ProcessSha256 => text(&self.facts.as_ref()?.sha256),
            Field::ProcessTlsh => text(self.facts.as_ref()?.tlsh.as_deref()?),
            Field::ProcessEntropy => integer(self.facts.as_ref()?.entropy_milli),
            Field::ProcessImageSize => integer(self.facts.as_ref()?.size),
            Field::ProcessImageHeader => text(present(&self.facts.as_ref()?.header)?),
            Field::ProcessImageType => text(present(self.facts.as_ref()?.content_type)?),
            Field::ContainerRuntime => text(image.container.as_ref()?.runtime?),
            Field::ContainerName => text(image.container.as_ref()?.name.as_deref()?),
            Field::ContainerImage => text(image.container.as_ref()?.image.as_deref()?),
            Field::PodName => text(image.container.as_ref()?.pod.as_deref()?),
            Field::PodNamespace => text(image.container.as_ref()?.pod_namespace.as_deref()?),
            Field::PodUid => text(image.container.as_ref()?.pod_uid.as_deref()?),
            Field::ContainerLabels => list(&image.container.as_ref()?.labels)?,
            Field::ProcessHashSkipped => text(self.hash_skipped?),
            Field::ContainerId => text(image.container_id.as_deref()?),
            Field::CgroupPath => text(image.cgroup_path.as_deref()?),
            _ => return who(&self.process, self.parent.as_ref(), field),
        })
    }
}

impl ProcessExit {
    fn value(&self, field: Field) -> Option<ValueRef<'_>> {
        Some(match field {
            Field::ProcessEnd => ValueRef::Time(self.end),
            Field::ProcessExitCode => integer(self.exit_code?),
            Field::ProcessExitSignal => integer(self.exit_signal?),
            Field::ProcessRunTime => integer(self.run_time_ns),
            _ => return who(&self.process, self.parent.as_ref(), field),
        })
    }
}

impl AgentStart {
    fn value(&self, field: Field) -> Option<ValueRef<'_>> {
        Some(match field {
            Field::AgentVersion => text(&self.version),
            Field::AgentSensor => text(&self.sensor),
            Field::AgentConfigHash => text(&self.config_hash),
            Field::AgentRulesVersion => integer(self.rules_version),
            Field::AgentRulesLoaded => integer(self.rules_loaded),
            Field::AgentPreviousEnd => text(self.previous_end),
            Field::AgentSources => list(&self.sources)?,
            Field::AgentPreviousCause => text(self.previous_cause.as_deref()?),
            _ => return None,
        })
    }
}

impl AgentStop {
    fn value(&self, field: Field) -> Option<ValueRef<'_>> {
        Some(match field {
            Field::AgentVersion => text(&self.version),
            Field::AgentStopReason => text(self.reason),
            Field::AgentStopSignal => integer(self.signal?),
            _ => return self.by.as_ref()?.value(field),
        })
    }
}

impl SignalSender {
    fn value(&self, field: Field) -> Option<ValueRef<'_>> {
        if let Some(one) = &self.who {
            return who(&one.process, one.parent.as_ref(), field);
        }
        Some(match field {
            Field::ProcessPid => integer(self.pid),
            Field::UserId => string(self.uid),
            _ => return None,
        })
    }
}

impl AgentHealth {
    fn value(&self, field: Field) -> Option<ValueRef<'_>> {
        Some(match field {
            Field::AgentVersion => text(&self.version),
            Field::AgentSensor => text(&self.sensor),
            Field::AgentRulesVersion => integer(self.rules_version),
            Field::AgentRulesLoaded => integer(self.rules_loaded),
            Field::AgentProduced => integer(self.records_produced),
            Field::AgentDropped => integer(self.records_dropped),
            Field::AgentKernelLost => integer(self.kernel_lost),
            Field::AgentSpoolBytes => integer(self.spool_bytes),
            Field::AgentMemoryBytes => integer(self.memory_bytes),
            Field::AgentCpuMillis => integer(self.cpu_ms),
            Field::AgentProcessesTracked => integer(self.processes_tracked),
            Field::AgentAccount => list(&self.account)?,
            Field::AgentCpuPermille => integer(self.cpu_permille),
            Field::AgentBudgetStep => text(self.budget_step),
            Field::AgentShed => list(&self.shed)?,
            Field::AgentScans => list(&self.scans)?,
            Field::AgentForgotten => list(&self.forgotten)?,
            _ => return None,
        })
    }
}

impl Gap {
    /// Of what never got a number; times are to be filled in.
    pub fn of_observations(
        sensor: &'static str,
        reason: GapReason,
        what: &'static str,
        count: Option<u64>,
    ) -> Self {
        let (from, until) = (Timestamp::default(), Timestamp::default());
        Self { sensor, reason, what, count, records: None, through: None, boot: None, from, until }
    }

    fn value(&self, field: Field) -> Option<ValueRef<'_>> {
        Some(match field {
            Field::GapSensor => text(self.sensor),
            Field::GapReason => text(self.reason.as_str()),
            Field::GapWhat => text(self.what),
            Field::GapCount => integer(self.count?),
            Field::GapRecords => integer(self.records?),
            Field::GapThrough => integer(self.through?),
            Field::GapBoot => string(self.boot?),
            Field::GapFrom => ValueRef::Time(self.from),
            Field::GapUntil => ValueRef::Time(self.until),
            _ => return None,
        })
    }
}

/// The fields that every event of a process has.
pub(crate) fn who<'a>(
    process: &'a Process,
    parent: Option<&'a ParentProcess>,
    field: Field,
) -> Option<ValueRef<'a>> {
    let (image, user) = (&*process.image, &process.image.user);
    Some(match field {
        Field::ProcessEntityId => entity(process.entity_id),
        Field::ProcessPid => integer(process.entity_id.pid()),
        Field::ProcessName => text(process.name()),
        Field::ProcessExecutable => text(&image.executable),
        Field::ProcessCommandLine => text(&image.command_line),
        Field::ProcessStart => ValueRef::Time(process.start),
        Field::ParentEntityId => entity(parent?.entity_id),
        Field::ParentPid => integer(parent?.entity_id.pid()),
        Field::ParentName => text(parent?.name()),
        Field::ParentExecutable => text(&parent?.image.executable),
        Field::ParentCommandLine => text(&parent?.image.command_line),
        Field::UserId => string(user.id),
        Field::UserName => text(user.name.as_deref()?),
        Field::UserEffectiveId => string(user.effective_id),
        Field::UserGroupId => string(user.group_id),
        Field::UserLoginId => string(user.login_id?),
        Field::UserLoginName => text(user.login_name.as_deref()?),
        _ => return None,
    })
}

/// Last part of a path of either system, without Linux's ` (deleted)`.
pub(crate) fn name_of(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

fn present(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// `None` for an empty list: an event does not carry what is not there.
fn list(list: &[String]) -> Option<ValueRef<'_>> {
    (!list.is_empty()).then_some(ValueRef::TextList(list))
}

pub(crate) fn text(text: &str) -> ValueRef<'_> {
    ValueRef::Text(Cow::Borrowed(text))
}

pub(crate) fn string(value: impl ToString) -> ValueRef<'static> {
    ValueRef::Text(Cow::Owned(value.to_string()))
}

pub(crate) fn entity(id: ProcessEntityId) -> ValueRef<'static> {
    ValueRef::Text(Cow::Owned(id.to_text()))
}

/// Numbers beyond 2^63 (no counter gets there) stand at the largest value.
fn integer(number: impl TryInto<i64>) -> ValueRef<'static> {
    ValueRef::Integer(number.try_into().unwrap_or(i64::MAX))
}
