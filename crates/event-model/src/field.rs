//! The table of fields: the one source of all spellings.
//!
//! Rules (the seed's names, ECS, Sigma), the wire, the event store's columns,
//! the API's filters, the console's column picker and the reference in `docs/`
//! are all made from [`Field::ALL`].
//!
//! To add a field: append a row with the next free number of its group. A number
//! or an ECS name never changes its meaning: old agents and stored events use it.

use crate::field_lookup::RuleScope::{self, Attack, EventLog, File, Network, Process, Registry};
use crate::value::ValueKind::{self, Boolean, Integer, Text, TextList, Time};

/// One row of the table.
#[derive(Debug)]
pub struct FieldSpec {
    /// The field.
    pub field: Field,
    /// Its number on the wire.
    pub number: u32,
    /// The kind of its values.
    pub kind: ValueKind,
    /// Its name in the Elastic Common Schema 8.17, dotted; names under
    /// `rampart.` are ours, where ECS has none.
    pub ecs: &'static str,
    /// Its short names in native rules, valid in the scopes of `home`.
    pub seed: &'static [&'static str],
    /// The rule scopes in which the short names mean this field.
    pub home: &'static [RuleScope],
    /// Its names in Sigma rules (Sysmon's field names).
    pub sigma: &'static [&'static str],
    /// The rule scopes whose events can carry the field; empty where rules can't use it.
    pub scopes: &'static [RuleScope],
    /// What it holds, with its unit.
    pub doc: &'static str,
}

macro_rules! fields {
    ($($number:literal $variant:ident $kind:ident $ecs:literal
       seed $seed:tt home $home:tt sigma $sigma:tt scopes $scopes:expr, $doc:literal;)*) => {
        /// A field of an event; see the table's rows for what each one holds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Field {
            $(#[doc = $doc] $variant = $number,)*
        }

        impl Field {
            /// Every field, in the order of the table.
            pub const ALL: &'static [Field] = &[$(Field::$variant,)*];

            /// The field's row.
            pub fn spec(self) -> &'static FieldSpec {
                match self {
                    $(Self::$variant => {
                        const SPEC: &FieldSpec = &FieldSpec {
                            field: Field::$variant,
                            number: $number,
                            kind: $kind,
                            ecs: $ecs,
                            seed: &$seed,
                            home: &$home,
                            sigma: &$sigma,
                            scopes: $scopes,
                            doc: $doc,
                        };
                        SPEC
                    })*
                }
            }

            /// The field with this wire number, if this version knows it.
            pub fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

/// Whatever a process did carries who did it.
const WHO: &[RuleScope] = &[Process, Attack, Network, File, Registry];
const STARTED: &[RuleScope] = &[Process, Attack];
const NOT_IN_RULES: &[RuleScope] = &[];

fields! {
    // The process itself: 1 to 59.
    1 ProcessEntityId Text "process.entity_id" seed ["entity_id"] home [Process, Attack]
        sigma ["ProcessGuid"] scopes WHO, "One life of one process: boot prefix, PID and start in ns since boot.";
    2 ProcessPid Integer "process.pid" seed ["pid"] home [Process, Attack]
        sigma ["ProcessId"] scopes WHO, "Process id (thread group id).";
    3 ProcessName Text "process.name" seed ["name", "process_name"] home [Process, Attack]
        sigma [] scopes WHO, "Last part of the executable's path.";
    4 ProcessExecutable Text "process.executable" seed ["path", "exe", "image"] home [Process, Attack]
        sigma ["Image"] scopes WHO, "Absolute path of the executable; bytes that are not UTF-8 as `\\xNN`.";
    5 ProcessCommandLine Text "process.command_line" seed ["cmdline", "command", "command_line"] home [Process, Attack]
        sigma ["CommandLine"] scopes WHO, "The arguments joined by spaces.";
    6 ProcessArgs TextList "process.args" seed ["args"] home [Process, Attack]
        sigma [] scopes STARTED, "The arguments one by one, the program's own name first.";
    7 ProcessArgsTruncated Boolean "rampart.process.args_truncated" seed ["args_truncated"] home [Process, Attack]
        sigma [] scopes STARTED, "True where the arguments were longer than what was read.";
    8 ProcessArgsBytes Integer "rampart.process.args_bytes" seed ["args_bytes"] home [Process, Attack]
        sigma [] scopes STARTED, "Full length of the arguments in bytes, also where they were cut.";
    9 ProcessWorkingDirectory Text "process.working_directory" seed ["cwd", "working_directory"] home [Process, Attack]
        sigma ["CurrentDirectory"] scopes STARTED, "Working directory at the start.";
    10 ProcessStart Time "process.start" seed ["start_time"] home [Process, Attack]
        sigma [] scopes WHO, "When the process was created.";
    11 ProcessEnd Time "process.end" seed ["end_time"] home [Process, Attack]
        sigma [] scopes STARTED, "When the process ended.";
    12 ProcessExitCode Integer "process.exit_code" seed ["exit_code"] home [Process, Attack]
        sigma [] scopes STARTED, "Exit code, 0 to 255; absent where a signal ended the process.";
    13 ProcessExitSignal Integer "rampart.process.exit_signal" seed ["exit_signal"] home [Process, Attack]
        sigma [] scopes STARTED, "The signal that ended the process.";
    14 ProcessRunTime Integer "rampart.process.run_time_ns" seed ["run_time_ns"] home [Process, Attack]
        sigma [] scopes STARTED, "From start to end in nanoseconds.";
    15 ProcessSha256 Text "process.hash.sha256" seed ["sha256", "hash"] home [Process, Attack]
        sigma ["Hashes", "sha256"] scopes STARTED, "SHA-256 of the executable, lower-case hex.";
    16 ProcessInode Integer "rampart.process.inode" seed ["inode"] home [Process, Attack]
        sigma [] scopes STARTED, "Inode of the executable.";
    17 ProcessDevice Integer "rampart.process.device" seed ["device"] home [Process, Attack]
        sigma [] scopes STARTED, "Device number of the executable's file system.";
    18 ProcessImageDeleted Boolean "rampart.process.image_deleted" seed ["image_deleted"] home [Process, Attack]
        sigma [] scopes STARTED, "True where the executable had no name in any directory (deleted or memfd).";
    19 ProcessTty Text "rampart.process.tty" seed ["tty"] home [Process, Attack]
        sigma [] scopes STARTED, "Controlling terminal, for example `pts0`.";
    20 ProcessSessionId Integer "process.session_leader.pid" seed ["session_id"] home [Process, Attack]
        sigma ["TerminalSessionId"] scopes STARTED, "PID of the session leader.";
    21 ProcessStartKind Text "event.action" seed ["start_kind"] home [Process, Attack]
        sigma [] scopes STARTED, "`exec`, or `fork` for a process that runs its parent's image.";
    22 ProcessHashSkipped Text "rampart.process.hash_skipped" seed ["hash_skipped"] home [Process, Attack]
        sigma [] scopes STARTED, "Why there is no hash: `too_large`, `unreadable`, `changed`.";

    // The parent: 60 to 79.
    60 ParentEntityId Text "process.parent.entity_id" seed ["parent_entity_id"] home [Process, Attack]
        sigma ["ParentProcessGuid"] scopes WHO, "The parent's entity id.";
    61 ParentPid Integer "process.parent.pid" seed ["ppid", "parent_pid"] home [Process, Attack]
        sigma ["ParentProcessId"] scopes WHO, "The parent's PID.";
    62 ParentName Text "process.parent.name" seed ["parent", "parent_name"] home [Process, Attack]
        sigma [] scopes WHO, "Last part of the parent's executable path.";
    63 ParentExecutable Text "process.parent.executable" seed ["parent_path", "parent_exe", "parent_image"] home [Process, Attack]
        sigma ["ParentImage"] scopes WHO, "The parent's executable.";
    64 ParentCommandLine Text "process.parent.command_line" seed ["parent_cmdline", "parent_command", "parent_command_line"] home [Process, Attack]
        sigma ["ParentCommandLine"] scopes WHO, "The parent's arguments joined by spaces.";

    // Who: 80 to 99.
    80 UserName Text "user.name" seed ["user", "username"] home [Process, Attack, Network, File, Registry, EventLog]
        sigma ["User"] scopes &[Process, Attack, Network, File, Registry, EventLog], "Name of the real user.";
    81 UserId Text "user.id" seed ["uid", "user_id"] home [Process, Attack, Network, File, Registry]
        sigma [] scopes WHO, "Real user id: a number on Linux, a SID on Windows.";
    82 UserEffectiveId Text "user.effective.id" seed ["euid"] home [Process, Attack]
        sigma [] scopes STARTED, "Effective user id.";
    83 UserGroupId Text "user.group.id" seed ["gid"] home [Process, Attack]
        sigma [] scopes STARTED, "Real group id.";
    84 UserLoginId Text "user.audit.id" seed ["loginuid", "auid"] home [Process, Attack]
        sigma [] scopes STARTED, "The user who logged in, whatever became of the user id since; absent where nobody did.";
    85 UserLoginName Text "user.audit.name" seed ["login_user"] home [Process, Attack]
        sigma [] scopes STARTED, "Name of the user who logged in.";

    // Where: 100 to 109.
    100 ContainerId Text "container.id" seed ["container", "container_id"] home [Process, Attack, Network, File]
        sigma [] scopes &[Process, Attack, Network, File], "Container id, 64 hex digits as the runtime gives it.";
    101 CgroupPath Text "rampart.cgroup.path" seed ["cgroup"] home [Process, Attack]
        sigma [] scopes STARTED, "Path of the process's cgroup.";

    // The agent about itself: 120 to 149. Rules can't use these.
    120 AgentVersion Text "agent.version" seed [] home [] sigma [] scopes NOT_IN_RULES, "Version of the agent.";
    121 AgentSensor Text "rampart.agent.sensor" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "Source of process events: `ebpf`, `proc_connector`.";
    122 AgentConfigHash Text "rampart.agent.config_hash" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "SHA-256 of the agent's resolved configuration.";
    123 AgentRulesVersion Integer "rampart.agent.rules_version" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "Version of the rule bundle in force.";
    124 AgentRulesLoaded Integer "rampart.agent.rules_loaded" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "How many rules are in force.";
    125 AgentPreviousEnd Text "rampart.agent.previous_end" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "How the agent's run before this one ended: `first_start`, `clean`, `crash`, `reboot`.";
    126 AgentStopReason Text "rampart.agent.stop_reason" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "Why the agent stopped: `signal`, `error`.";
    127 AgentStopSignal Integer "rampart.agent.stop_signal" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "The signal that asked the agent to stop.";
    128 AgentProduced Integer "rampart.agent.records_produced" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "Records numbered in this boot so far.";
    129 AgentDropped Integer "rampart.agent.records_dropped" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "Numbered records that were dropped in this boot so far; each stands in a gap record.";
    130 AgentKernelLost Integer "rampart.agent.kernel_lost" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "Observations that the kernel could not hand over in this boot so far.";
    131 AgentSpoolBytes Integer "rampart.agent.spool_bytes" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "Size of the spool on disk in bytes.";
    132 AgentMemoryBytes Integer "rampart.agent.memory_bytes" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "Resident memory of the agent in bytes.";
    133 AgentCpuMillis Integer "rampart.agent.cpu_ms" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "CPU time of the agent since its start in milliseconds.";
    134 AgentProcessesTracked Integer "rampart.agent.processes_tracked" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "Live processes that the agent knows.";

    // Loss: 150 to 159.
    150 GapSensor Text "rampart.gap.sensor" seed [] home [] sigma [] scopes NOT_IN_RULES, "Where the loss happened, for example `ebpf`.";
    151 GapReason Text "rampart.gap.reason" seed [] home [] sigma [] scopes NOT_IN_RULES, "Why something was lost.";
    152 GapCount Integer "rampart.gap.count" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "How many were lost; absent where nobody can know.";
    153 GapFrom Time "rampart.gap.from" seed [] home [] sigma [] scopes NOT_IN_RULES, "Start of the span in which the loss happened.";
    154 GapUntil Time "rampart.gap.until" seed [] home [] sigma [] scopes NOT_IN_RULES, "End of that span.";
    155 GapWhat Text "rampart.gap.what" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "What was lost: an event type, or `records` for records of any type.";

    // Network: 200 to 219. Their events come with a later sensor; rules load today.
    200 SourceAddress Text "source.ip" seed ["local_addr", "local_ip", "local_address"] home [Network]
        sigma ["SourceIp"] scopes &[Network], "Local address of an outgoing connection.";
    201 SourcePort Integer "source.port" seed ["local_port"] home [Network]
        sigma ["SourcePort"] scopes &[Network], "Local port of an outgoing connection.";
    202 DestinationAddress Text "destination.ip" seed ["remote_addr", "remote_ip", "remote_address"] home [Network]
        sigma ["DestinationIp"] scopes &[Network], "Remote address of an outgoing connection.";
    203 DestinationPort Integer "destination.port" seed ["remote_port", "port"] home [Network]
        sigma ["DestinationPort"] scopes &[Network], "Remote port of an outgoing connection.";
    204 NetworkTransport Text "network.transport" seed ["protocol"] home [Network]
        sigma ["Protocol"] scopes &[Network], "`tcp` or `udp`.";
    205 NetworkDirection Text "network.direction" seed ["direction"] home [Network]
        sigma [] scopes &[Network], "`egress` or `ingress`.";
    206 DestinationDomain Text "destination.domain" seed ["domain", "remote_host"] home [Network]
        sigma ["DestinationHostname"] scopes &[Network], "Name of the remote host where it is known.";

    // Files: 220 to 239.
    220 FilePath Text "file.path" seed ["path", "file_path"] home [File]
        sigma ["TargetFilename"] scopes &[File, Attack], "Absolute path of the file.";
    221 FileName Text "file.name" seed ["name", "file_name"] home [File]
        sigma [] scopes &[File, Attack], "Last part of the file's path.";
    222 FileExtension Text "file.extension" seed ["extension", "ext"] home [File]
        sigma [] scopes &[File], "Extension without the dot.";
    223 FileSize Integer "file.size" seed ["size"] home [File]
        sigma [] scopes &[File], "Size in bytes.";
    224 FileSha256 Text "file.hash.sha256" seed ["hash", "sha256"] home [File]
        sigma [] scopes &[File], "SHA-256 of the file.";
    225 FileOperation Text "rampart.file.operation" seed ["operation", "action"] home [File]
        sigma [] scopes &[File], "`create`, `modify`, `delete`, `rename`.";

    // Windows registry: 240 to 249.
    240 RegistryPath Text "registry.path" seed ["path"] home [Registry]
        sigma ["TargetObject"] scopes &[Registry], "Hive, key and value.";
    241 RegistryKey Text "registry.key" seed ["key"] home [Registry]
        sigma [] scopes &[Registry], "The key.";
    242 RegistryValue Text "registry.value" seed ["value", "value_name", "name"] home [Registry]
        sigma [] scopes &[Registry], "Name of the value.";
    243 RegistryData Text "registry.data.strings" seed ["data"] home [Registry]
        sigma ["Details"] scopes &[Registry], "The value's data as text.";
    244 RegistryOperation Text "rampart.registry.operation" seed ["operation", "action"] home [Registry]
        sigma ["EventType"] scopes &[Registry], "`create`, `set`, `delete`, `rename`.";

    // Windows event log: 250 to 259.
    250 LogEventId Integer "winlog.event_id" seed ["event_id", "id"] home [EventLog]
        sigma ["EventID"] scopes &[EventLog], "Event id within its provider.";
    251 LogChannel Text "winlog.channel" seed ["channel", "log", "log_name"] home [EventLog]
        sigma ["Channel"] scopes &[EventLog], "Channel, for example `Security`.";
    252 LogProvider Text "winlog.provider_name" seed ["provider", "source"] home [EventLog]
        sigma ["Provider_Name"] scopes &[EventLog], "Provider.";
    253 LogLevel Text "log.level" seed ["level"] home [EventLog]
        sigma ["Level"] scopes &[EventLog], "Level as the log gives it.";
    254 LogMessage Text "message" seed ["message"] home [EventLog]
        sigma ["Message"] scopes &[EventLog], "The rendered message.";
    255 LogComputer Text "winlog.computer_name" seed ["computer"] home [EventLog]
        sigma ["Computer"] scopes &[EventLog], "Name of the computer that wrote the event.";

    // Scheduled tasks: 260 to 269.
    260 TaskName Text "rampart.task.name" seed ["task", "task_name"] home [Attack]
        sigma ["TaskName"] scopes &[Attack, EventLog], "Name of a scheduled task.";
    261 TaskCommand Text "rampart.task.command" seed ["task_command"] home [Attack]
        sigma ["TaskContent"] scopes &[Attack, EventLog], "What the task runs.";
}

impl Field {
    /// The field's column name in stores: its ECS name with `.` as `_`.
    pub fn column(self) -> String {
        self.spec().ecs.replace('.', "_")
    }
}
