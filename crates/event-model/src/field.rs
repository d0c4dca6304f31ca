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
/// Acts that are neither starts nor ends of processes, nor files, nor network.
const ATTACK: &[RuleScope] = &[Attack];
/// Whatever somebody did, starts and ends of processes aside.
const ACTED: &[RuleScope] = &[Network, File, Attack];
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
        sigma ["CommandLine"] scopes WHO, "The arguments joined by spaces; on Windows the command line as it was given.";
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
        sigma [] scopes STARTED, "Exit code, 0 to 255, on Windows 0 to 4294967295; absent where a signal ended the process.";
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
    21 EventAction Text "event.action" seed ["start_kind"] home [Process, Attack]
        sigma [] scopes STARTED, "What was done, where the event's type leaves it open: `exec` or `fork` (a process that runs its parent's image), `create`, `modify`, `delete`, and so on.";
    22 ProcessHashSkipped Text "rampart.process.hash_skipped" seed ["hash_skipped"] home [Process, Attack]
        sigma [] scopes STARTED, "Why there is no hash: `too_large`, `unreadable`, `changed`, `budget` (CPU was short), `late` (the event could not wait for it; rules on the hash judged it all the same), `remote` (on a file system that may never answer).";
    23 ProcessMd5 Text "process.hash.md5" seed ["md5"] home [Process, Attack]
        sigma ["md5"] scopes STARTED, "MD5 of the executable, lower-case hex.";
    24 ProcessSha1 Text "process.hash.sha1" seed ["sha1"] home [Process, Attack]
        sigma ["sha1"] scopes STARTED, "SHA-1 of the executable, lower-case hex.";
    25 ProcessTlsh Text "process.hash.tlsh" seed ["tlsh"] home [Process, Attack]
        sigma [] scopes STARTED, "TLSH of the executable: near values mean like content. Absent where it is too small or uniform for one.";
    26 ProcessEntropy Integer "rampart.process.entropy_milli" seed ["entropy_milli"] home [Process, Attack]
        sigma [] scopes STARTED, "Shannon entropy of the executable in thousandths of a bit per byte, 0 to 8000.";
    27 ProcessImageSize Integer "rampart.process.image_size" seed ["image_size"] home [Process, Attack]
        sigma [] scopes STARTED, "Size of the executable in bytes.";
    28 ProcessImageHeader Text "rampart.process.image_header" seed ["image_header"] home [Process, Attack]
        sigma [] scopes STARTED, "The first bytes of the executable, at most 16, as hex.";
    29 ProcessImageType Text "rampart.process.image_type" seed ["image_type"] home [Process, Attack]
        sigma [] scopes STARTED, "What the executable's first bytes say it is, for example `elf`, `script`.";
    30 ProcessCapabilities TextList "process.thread.capabilities.effective" seed ["capabilities"] home [Process, Attack]
        sigma [] scopes STARTED, "Effective capabilities as capabilities(7) names them; `ALL` for the kernel's whole set.";
    31 ProcessEnvironment TextList "process.env_vars" seed ["env"] home [Process, Attack]
        sigma [] scopes STARTED, "Environment variables that change what is run (`LD_PRELOAD=…`, `LD_LIBRARY_PATH=…`, …); the others are not read.";
    32 ProcessMemfd Boolean "rampart.process.memfd" seed ["memfd"] home [Process, Attack]
        sigma [] scopes STARTED, "True where the executable is a file in memory that never had a name.";
    33 ProcessNamespaces TextList "rampart.process.namespaces" seed ["namespaces"] home [Process, Attack]
        sigma [] scopes STARTED, "Namespaces other than the host's own, as `kind:inode`.";
    34 ProcessBlocked Text "rampart.process.blocked" seed ["blocked"] home [Process, Attack]
        sigma [] scopes STARTED, "What of it stands on the block list, so that it was ended before its first instruction: `name`, `path` or `hash`.";

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
        sigma [] scopes &[Process, Attack, Network, File], "Container id: 64 hex digits where the runtime gives such, else its name (LXC, systemd-nspawn).";
    101 CgroupPath Text "rampart.cgroup.path" seed ["cgroup"] home [Process, Attack]
        sigma [] scopes STARTED, "Path of the process's cgroup.";
    102 ContainerRuntime Text "container.runtime" seed ["container_runtime"] home [Process, Attack]
        sigma [] scopes STARTED, "The runtime, as far as its cgroup names tell: `docker`, `containerd`, `cri-o`, `podman`, `lxc`, `systemd-nspawn`.";
    103 ContainerName Text "container.name" seed ["container_name"] home [Process, Attack]
        sigma [] scopes STARTED, "The container's name, where the runtime's files are readable.";
    104 ContainerImage Text "container.image.name" seed ["container_image"] home [Process, Attack]
        sigma [] scopes STARTED, "The container's image, where the runtime's files are readable.";
    105 PodName Text "orchestrator.resource.name" seed ["pod"] home [Process, Attack]
        sigma [] scopes STARTED, "Kubernetes pod.";
    106 PodNamespace Text "orchestrator.namespace" seed ["pod_namespace"] home [Process, Attack]
        sigma [] scopes STARTED, "Kubernetes namespace of the pod.";
    107 PodUid Text "rampart.pod.uid" seed ["pod_uid"] home [Process, Attack]
        sigma [] scopes STARTED, "Kubernetes uid of the pod, from the cgroup's name.";
    108 ContainerLabels TextList "rampart.container.labels" seed ["container_labels"] home [Process, Attack]
        sigma [] scopes STARTED, "Labels of container or pod as `name=value`, where the runtime's files are readable.";

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
        "Why the agent stopped: `signal`, `error`, `memory` (it begins anew).";
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
    135 AgentSources TextList "rampart.agent.sources" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "Where each type of event comes from, as `type=source`; `type=none: reason` where there is no source.";
    136 AgentShed TextList "rampart.agent.shed" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "Classes of events that the CPU budget keeps from being recorded now.";
    137 AgentCpuPermille Integer "rampart.agent.cpu_permille" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "CPU that the agent took in the last ten seconds, in thousandths of one core.";
    138 AgentTampered Text "rampart.agent.tampered" seed ["tampered"] home [Attack] sigma [] scopes ATTACK,
        "What of the agent was touched: `signal`, `bpf_link`, `binary`, `unit`, `rules`, `configuration`, `state`, `supervisor`, `event_tracing`, `event_log`; or what was done to its response: `isolation_released`, `release_code_wrong`, `isolation_changed`, `command_refused`.";
    139 AgentAccount TextList "rampart.agent.account" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "The account of this boot so far: `type=produced`, and `type!reason=dropped` for what is lost.";
    140 AgentBudgetStep Text "rampart.agent.budget_step" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "What the agent does to stay within its budget: `normal`, `less_work`, `shedding`, `sleeping`.";
    141 AgentPreviousCause Text "rampart.agent.previous_cause" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "What is known of how the run before ended, for example `signal 9`, `exit code 101`, `memory limit`.";
    142 AgentOrder Text "rampart.agent.order" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "Id of the response that was interfered with.";

    // Loss: 150 to 159.
    150 GapSensor Text "rampart.gap.sensor" seed [] home [] sigma [] scopes NOT_IN_RULES, "Where the loss happened, for example `ebpf`.";
    151 GapReason Text "rampart.gap.reason" seed [] home [] sigma [] scopes NOT_IN_RULES, "Why something was lost.";
    152 GapCount Integer "rampart.gap.count" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "How many were lost; absent where nobody can know.";
    153 GapFrom Time "rampart.gap.from" seed [] home [] sigma [] scopes NOT_IN_RULES, "Start of the span in which the loss happened.";
    154 GapUntil Time "rampart.gap.until" seed [] home [] sigma [] scopes NOT_IN_RULES, "End of that span.";
    155 GapWhat Text "rampart.gap.what" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "What was lost: an event type, `detection`, `response`, or `unknown`.";
    156 GapRecords Integer "rampart.gap.records" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "How many numbered records that were; absent for what was lost before it got a number.";
    157 GapBoot Text "rampart.gap.boot_id" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "The boot whose records are lost, where it is not this one.";
    158 GapThrough Integer "rampart.gap.through" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "Number of the last record that was lost, in its boot; absent for what was lost before it got a number.";

    // Whom it was done to: 160 to 169.
    160 TargetEntityId Text "rampart.target.entity_id" seed ["target_entity_id"] home [Attack]
        sigma ["TargetProcessGuid"] scopes ATTACK, "The entity id of the process that something was done to.";
    161 TargetPid Integer "rampart.target.pid" seed ["target_pid"] home [Attack]
        sigma ["TargetProcessId"] scopes ATTACK, "Its PID.";
    162 TargetName Text "rampart.target.name" seed ["target_name"] home [Attack]
        sigma [] scopes ATTACK, "Last part of its executable's path.";
    163 TargetExecutable Text "rampart.target.executable" seed ["target_path", "target_image"] home [Attack]
        sigma ["TargetImage"] scopes ATTACK, "Its executable.";
    164 TargetCommandLine Text "rampart.target.command_line" seed ["target_cmdline"] home [Attack]
        sigma [] scopes ATTACK, "Its arguments joined by spaces.";
    165 TargetUserId Text "rampart.target.user_id" seed ["target_uid"] home [Attack]
        sigma [] scopes ATTACK, "The real user id that it runs as.";

    // How it was done: 170 to 199.
    170 AccessMethod Text "rampart.access.method" seed ["method", "how"] home [Attack]
        sigma [] scopes ATTACK, "The call or file by which it was done, for example `ptrace`, `process_vm_readv`, `/proc/pid/mem`.";
    171 AccessMode Text "rampart.access.mode" seed ["access_mode"] home [Attack]
        sigma ["GrantedAccess"] scopes ATTACK, "What for: `read`, `write`, `attach`, or the request's name.";
    172 AccessBytes Integer "rampart.access.bytes" seed ["access_bytes"] home [Attack]
        sigma [] scopes ATTACK, "How many bytes.";
    173 AccessAddress Text "rampart.access.address" seed ["address"] home [Attack]
        sigma [] scopes ATTACK, "Where in the target's memory, as hex.";
    174 MemoryProtection Text "rampart.memory.protection" seed ["protection"] home [Attack]
        sigma [] scopes ATTACK, "Protection of the memory: `rwx`, `r-x` and so on.";
    175 SignalNumber Integer "rampart.signal.number" seed ["signal"] home [Attack]
        sigma [] scopes ATTACK, "Number of the signal.";
    178 EventDuration Integer "event.duration" seed ["duration_ns"] home [Network, Attack]
        sigma [] scopes &[Network, Attack], "How long it lasted in nanoseconds.";
    179 EventStart Time "event.start" seed ["since"] home [Network, File, Attack]
        sigma [] scopes ACTED, "When it happened by the log that tells it, where that is not the event's own time (before this boot, or by a clock that was set).";
    180 EventOutcome Text "event.outcome" seed ["outcome"] home [Network, File, Attack]
        sigma [] scopes ACTED, "`success` or `failure`.";
    181 EventErrno Integer "rampart.event.errno" seed ["errno"] home [Network, File, Attack]
        sigma [] scopes ACTED, "Why it failed, as errno(3) numbers it.";
    182 EventCount Integer "rampart.event.count" seed ["count"] home [Network, File, Attack]
        sigma [] scopes ACTED, "How many like acts the event stands for; absent for one.";
    183 EventReason Text "event.reason" seed ["reason"] home [Network, File, Attack]
        sigma [] scopes ACTED, "Why, in the words of whoever refused or did it.";
    184 EventProvider Text "event.provider" seed ["seen_by"] home [Network, File, Attack]
        sigma [] scopes ACTED, "The source that saw it, for example `ebpf`, `journal`, `file_watch`.";
    185 ChangeOld Text "rampart.change.old" seed ["old"] home [File, Registry, Attack]
        sigma [] scopes &[File, Registry, Attack], "What stood there before; long values are cut and marked.";
    186 ChangeNew Text "rampart.change.new" seed ["new"] home [File, Registry, Attack]
        sigma [] scopes &[File, Registry, Attack], "What stands there now; long values are cut and marked.";
    187 ChangedFields TextList "rampart.change.fields" seed ["changed"] home [File, Attack]
        sigma [] scopes &[File, Attack], "The names of what changed.";
    188 EventIncomplete TextList "rampart.event.incomplete" seed ["incomplete"] home [Network, File, Attack]
        sigma [] scopes ACTED, "What could not be read or was cut, each as `field: why`.";
    189 EventUntil Time "event.end" seed ["until"] home [Network, File, Attack]
        sigma [] scopes ACTED, "Time of the last of the acts that the event stands for.";
    190 BpfType Text "rampart.bpf.type" seed ["bpf_type"] home [Attack]
        sigma [] scopes ATTACK, "Type of the BPF program or map, for example `kprobe`, `tracing`.";
    191 BpfName Text "rampart.bpf.name" seed ["bpf_name"] home [Attack]
        sigma [] scopes ATTACK, "Name that the loader gave it.";
    192 BpfId Integer "rampart.bpf.id" seed ["bpf_id"] home [Attack]
        sigma [] scopes ATTACK, "The kernel's id of the program.";
    193 BpfTag Text "rampart.bpf.tag" seed ["bpf_tag"] home [Attack]
        sigma [] scopes ATTACK, "The kernel's hash over the instructions.";
    194 BpfAttachPoint Text "rampart.bpf.attach_point" seed ["bpf_attach_point"] home [Attack]
        sigma [] scopes ATTACK, "Where the program is attached.";

    // Network: 200 to 219.
    200 SourceAddress Text "source.ip" seed ["local_addr", "local_ip", "local_address"] home [Network]
        sigma ["SourceIp"] scopes &[Network, Attack], "Address that a connection or logon came from: the local one of an outgoing connection. The local one of a listening socket, too.";
    201 SourcePort Integer "source.port" seed ["local_port"] home [Network]
        sigma ["SourcePort"] scopes &[Network, Attack], "Port that a connection or logon came from.";
    202 DestinationAddress Text "destination.ip" seed ["remote_addr", "remote_ip", "remote_address"] home [Network]
        sigma ["DestinationIp"] scopes &[Network], "Address that a connection went to: the remote one of an outgoing connection.";
    203 DestinationPort Integer "destination.port" seed ["remote_port", "port"] home [Network]
        sigma ["DestinationPort"] scopes &[Network], "Port that a connection went to.";
    204 NetworkTransport Text "network.transport" seed ["protocol"] home [Network]
        sigma ["Protocol"] scopes &[Network], "`tcp`, `udp`, `unix`, or another protocol by its name or number, for example `sctp`.";
    205 NetworkDirection Text "network.direction" seed ["direction"] home [Network]
        sigma [] scopes &[Network], "`egress` or `ingress`.";
    206 DestinationDomain Text "destination.domain" seed ["domain", "remote_host"] home [Network]
        sigma ["DestinationHostname"] scopes &[Network], "Name of the remote host where it is known.";
    207 SourceBytes Integer "source.bytes" seed ["bytes_sent"] home [Network]
        sigma [] scopes &[Network], "Bytes that the connecting side sent.";
    208 DestinationBytes Integer "destination.bytes" seed ["bytes_received"] home [Network]
        sigma [] scopes &[Network], "Bytes that the accepting side sent.";
    209 NetworkType Text "network.type" seed ["family"] home [Network]
        sigma [] scopes &[Network], "`ipv4` or `ipv6`.";
    210 NetworkConnectionId Integer "rampart.network.connection_id" seed ["connection_id"] home [Network]
        sigma [] scopes &[Network], "The same in all events of one connection within one boot.";
    211 SourceDomain Text "source.domain" seed ["source_host"] home [Network]
        sigma ["SourceHostname"] scopes &[Network, Attack], "Name of the host that a connection or logon came from, where it is known by a name.";
    212 DnsName Text "dns.question.name" seed ["query", "dns_name"] home [Network]
        sigma ["QueryName", "query"] scopes &[Network], "The name that was asked for, lower case, without a dot at the end.";
    213 DnsType Text "dns.question.type" seed ["query_type"] home [Network]
        sigma ["record_type"] scopes &[Network], "Type of the record that was asked for, for example `AAAA`.";
    214 DnsAnswers TextList "rampart.dns.answers" seed ["answers"] home [Network]
        sigma ["QueryResults", "answer"] scopes &[Network], "The data of the answers.";
    215 DnsResponseCode Text "dns.response_code" seed ["response_code"] home [Network]
        sigma ["QueryStatus"] scopes &[Network], "`NOERROR`, `NXDOMAIN` and so on.";
    216 DnsId Integer "dns.id" seed ["dns_id"] home [Network]
        sigma [] scopes &[Network], "The query's id on the wire.";
    217 UnixSocketPath Text "rampart.network.unix_path" seed ["unix_path"] home [Network]
        sigma [] scopes &[Network, Attack], "Path of a unix socket; an abstract one begins with `@`.";

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
        sigma [] scopes &[File, Attack], "SHA-256 of the file.";
    225 FileOperation Text "rampart.file.operation" seed ["operation", "action"] home [File]
        sigma [] scopes &[File], "`create`, `modify`, `delete`, `rename`, `link`, `symlink`, `mode`, `owner`, `times`, `truncate`, `xattr`.";
    226 FileMode Text "file.mode" seed ["mode"] home [File]
        sigma [] scopes &[File, Attack], "Mode in octal, for example `0644`.";
    227 FileOwnerId Text "file.uid" seed ["file_uid"] home [File]
        sigma [] scopes &[File], "User id of the owner.";
    228 FileGroupId Text "file.gid" seed ["file_gid"] home [File]
        sigma [] scopes &[File], "Group id of the owner.";
    229 FileInode Integer "rampart.file.inode" seed ["file_inode"] home [File]
        sigma [] scopes &[File, Attack], "Inode.";
    230 FileDevice Integer "rampart.file.device" seed ["file_device"] home [File]
        sigma [] scopes &[File, Attack], "Device number of the file system.";
    231 FileOldPath Text "rampart.file.old_path" seed ["old_path"] home [File]
        sigma ["SourceFilename"] scopes &[File], "Path before a rename.";
    232 FileTargetPath Text "file.target_path" seed ["target_path"] home [File]
        sigma [] scopes &[File], "What a link points to.";
    233 FileMd5 Text "file.hash.md5" seed ["md5"] home [File]
        sigma [] scopes &[File, Attack], "MD5 of the file.";
    234 FileSha1 Text "file.hash.sha1" seed ["sha1"] home [File]
        sigma [] scopes &[File, Attack], "SHA-1 of the file.";
    235 FileTlsh Text "file.hash.tlsh" seed ["tlsh"] home [File]
        sigma [] scopes &[File], "TLSH of the file.";
    236 FileEntropy Integer "rampart.file.entropy_milli" seed ["entropy_milli"] home [File]
        sigma [] scopes &[File], "Shannon entropy of the file in thousandths of a bit per byte, 0 to 8000.";
    237 FileHeader Text "rampart.file.header" seed ["header"] home [File]
        sigma [] scopes &[File], "The file's first bytes, at most 16, as hex.";
    238 FileContentType Text "rampart.file.content_type" seed ["content_type"] home [File]
        sigma [] scopes &[File], "What the first bytes say it is, for example `elf`, `script`.";
    239 FileObject Text "rampart.file.object" seed ["object"] home [File]
        sigma [] scopes &[File], "What the file is to the system, where that matters: `kernel_module`, `log`, `shell_history`, `agent`, and so on.";

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
    245 RegistryType Text "registry.data.type" seed ["value_type"] home [Registry]
        sigma [] scopes &[Registry], "Type of the value, for example `REG_SZ`.";

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
    262 TaskSchedule Text "rampart.task.schedule" seed ["schedule"] home [Attack]
        sigma [] scopes ATTACK, "When the task runs, as its table says it.";
    263 TaskOwner Text "rampart.task.owner" seed ["task_owner"] home [Attack]
        sigma [] scopes ATTACK, "The user that the task runs as.";

    // More of files: 270 to 279.
    270 FileOldSize Integer "rampart.file.before.size" seed ["old_size"] home [File]
        sigma [] scopes &[File], "Size in bytes before the change.";
    271 FileOldSha256 Text "rampart.file.before.sha256" seed ["old_sha256"] home [File]
        sigma [] scopes &[File], "SHA-256 before the change.";
    272 FileOldMode Text "rampart.file.before.mode" seed ["old_mode"] home [File]
        sigma [] scopes &[File], "Mode in octal before the change.";
    273 FileOldOwner Text "rampart.file.before.owner" seed ["old_owner"] home [File]
        sigma [] scopes &[File], "Owner before the change, as `uid:gid`.";
    274 FileModified Time "file.mtime" seed ["mtime"] home [File]
        sigma ["CreationUtcTime"] scopes &[File], "Time of modification, as the file now says it.";
    275 FileOldModified Time "rampart.file.before.mtime" seed ["old_mtime"] home [File]
        sigma ["PreviousCreationUtcTime"] scopes &[File], "Time of modification before the change.";
    276 FileHashSkipped Text "rampart.file.hash_skipped" seed ["hash_skipped"] home [File]
        sigma [] scopes &[File], "Why there is no hash: `too_large`, `unreadable`, `changed`, `not_regular`, `not_local` (in a cloud).";
    277 FileAttributeName Text "rampart.file.attribute" seed ["attribute"] home [File]
        sigma [] scopes &[File], "Name of an extended attribute.";

    // Logons and accounts: 280 to 299.
    280 LogonCommand Text "rampart.logon.command" seed ["logon_command"] home [Attack]
        sigma [] scopes ATTACK, "The command for which the user was let in, as sudo logs it.";
    281 UserTargetName Text "user.target.name" seed ["target_user"] home [Attack]
        sigma ["TargetUserName"] scopes ATTACK, "The account that was made, changed, removed or switched to.";
    282 UserTargetId Text "user.target.id" seed ["target_user_id"] home [Attack]
        sigma [] scopes ATTACK, "Its user id.";
    283 AccountShell Text "rampart.account.shell" seed ["shell"] home [Attack]
        sigma [] scopes ATTACK, "Login shell.";
    284 AccountHome Text "rampart.account.home" seed ["home"] home [Attack]
        sigma [] scopes ATTACK, "Home directory.";
    285 AccountGroups TextList "rampart.account.groups" seed ["groups"] home [Attack]
        sigma [] scopes ATTACK, "Groups of the account.";
    286 LogonService Text "rampart.logon.service" seed ["service", "logon_service"] home [Attack]
        sigma [] scopes ATTACK, "What let the user in: `sshd`, `su`, `sudo`, `login`, `cron` and so on.";
    287 LogonMethod Text "rampart.logon.method" seed ["logon_method"] home [Attack]
        sigma [] scopes ATTACK, "How the user proved it: `password`, `publickey` and so on.";
    288 LogonSession Text "rampart.logon.session" seed ["logon_session"] home [Attack]
        sigma ["LogonId"] scopes ATTACK, "The session's id.";
    289 LogonTerminal Text "rampart.logon.terminal" seed ["terminal"] home [Attack]
        sigma [] scopes ATTACK, "Terminal of the session.";

    // What stays: 300 to 309.
    300 PersistenceKind Text "rampart.persistence.kind" seed ["persistence"] home [Attack]
        sigma [] scopes ATTACK, "`shell_profile`, `rc_file`, `authorized_keys`, `ssh_rc`, `sshd_config`, `ld_preload`, `ld_config`, `pam`, `udev`, `sudoers`, `module_config`, `environment`, `autostart`, `motd`, `package_hook`, `git_config`, `network_hook`, `systemd_generator`, `binfmt`, `group`, `account_file`; on Windows also what a registry key is for (`service`, `ifeo`, `lsa`, …) and `wmi_filter`, `wmi_consumer`, `wmi_binding`.";
    301 ServiceName Text "service.name" seed ["service_name"] home [Attack]
        sigma ["ServiceName"] scopes ATTACK, "Name of the service's unit.";
    302 ServiceCommand Text "rampart.service.command" seed ["service_command"] home [Attack]
        sigma ["ServiceFileName"] scopes ATTACK, "What the service runs.";
    303 ServiceUser Text "rampart.service.user" seed ["service_user"] home [Attack]
        sigma [] scopes ATTACK, "The user that the service runs as.";

    // Code that is loaded: 310 to 329.
    310 ModuleName Text "rampart.module.name" seed ["module"] home [Attack]
        sigma [] scopes ATTACK, "Name of the kernel module.";
    311 ModuleSigned Boolean "rampart.module.signed" seed ["signed"] home [Attack]
        sigma ["Signed"] scopes ATTACK, "True where the module's file ends with a signature.";
    312 LibraryPath Text "dll.path" seed ["library"] home [Attack]
        sigma ["ImageLoaded"] scopes ATTACK, "Path of the library that was mapped for execution.";
    313 LibrarySha256 Text "dll.hash.sha256" seed ["library_sha256"] home [Attack]
        sigma [] scopes ATTACK, "SHA-256 of the library.";
    314 LibraryOrigin Text "rampart.dll.origin" seed ["library_origin"] home [Attack]
        sigma [] scopes ATTACK, "What is odd about its file: `deleted`, `memfd`, `world_writable`; absent where nothing is.";
    320 ScriptInterpreter Text "rampart.script.interpreter" seed ["interpreter"] home [Attack]
        sigma [] scopes ATTACK, "The interpreter's executable.";
    321 ScriptPath Text "rampart.script.path" seed ["script_path"] home [Attack]
        sigma [] scopes ATTACK, "Path of the script; absent for text that was given inline.";
    322 ScriptText Text "rampart.script.text" seed ["script", "script_text"] home [Attack]
        sigma ["ScriptBlockText"] scopes ATTACK, "The script's text, at most 64 KiB.";
    323 ScriptSha256 Text "rampart.script.sha256" seed ["script_sha256"] home [Attack]
        sigma [] scopes ATTACK, "SHA-256 of the whole script.";
    324 ScriptBytes Integer "rampart.script.bytes" seed ["script_bytes"] home [Attack]
        sigma [] scopes ATTACK, "Length of the whole script in bytes.";

    // The kernel's other objects: 330 to 349.
    330 MountSource Text "rampart.mount.source" seed ["mount_source"] home [Attack]
        sigma [] scopes ATTACK, "What was mounted.";
    331 MountTarget Text "rampart.mount.target" seed ["mount_target"] home [Attack]
        sigma [] scopes ATTACK, "Where it was mounted.";
    332 MountType Text "rampart.mount.type" seed ["mount_type"] home [Attack]
        sigma [] scopes ATTACK, "Type of the file system.";
    333 MountFlags TextList "rampart.mount.flags" seed ["mount_flags"] home [Attack]
        sigma [] scopes ATTACK, "Flags as mount(2) names them.";
    334 NamespaceKinds TextList "rampart.namespace.kinds" seed ["namespace_kinds"] home [Attack]
        sigma [] scopes ATTACK, "Kinds of namespaces that were made or entered: `mnt`, `pid`, `net`, `user` and so on.";
    335 MemfdName Text "rampart.memfd.name" seed ["memfd_name"] home [Attack]
        sigma [] scopes ATTACK, "Name that the process gave its file in memory.";
    336 MemfdFlags TextList "rampart.memfd.flags" seed ["memfd_flags"] home [Attack]
        sigma [] scopes ATTACK, "Flags as memfd_create(2) names them.";
    337 PipeName Text "rampart.pipe.name" seed ["pipe"] home [Attack]
        sigma ["PipeName"] scopes ATTACK, "Path of a named pipe.";
    338 DeviceName Text "rampart.device.name" seed ["device_name"] home [Attack]
        sigma [] scopes ATTACK, "Name of a device, as the system shows it.";
    339 DeviceVendorId Text "rampart.device.vendor_id" seed ["vendor_id"] home [Attack]
        sigma [] scopes ATTACK, "USB vendor id, four hex digits.";
    340 DeviceProductId Text "rampart.device.product_id" seed ["product_id"] home [Attack]
        sigma [] scopes ATTACK, "USB product id, four hex digits.";
    341 DeviceSerial Text "rampart.device.serial" seed ["serial"] home [Attack]
        sigma [] scopes ATTACK, "Serial number of a device.";

    // Scans of files: 400 to 409.
    400 ScanTrigger Text "rampart.scan.trigger" seed ["scan_trigger"] home [Attack]
        sigma [] scopes ATTACK, "Why a file was scanned: `execution`, `write`, `rename`.";
    401 YaraRules TextList "rampart.yara.rules" seed ["yara_rule"] home [Attack]
        sigma [] scopes ATTACK, "The YARA rules that matched, as `namespace/rule`.";
    402 YaraStrings TextList "rampart.yara.strings" seed ["yara_string"] home [Attack]
        sigma [] scopes ATTACK, "Some of the strings that matched: rule, identifier, offset in the file, length, first bytes.";
    403 ScanIncomplete Text "rampart.scan.incomplete" seed ["scan_incomplete"] home [Attack]
        sigma [] scopes ATTACK, "Why other YARA rules may have been missed: `timed_out`, `too_many_matches`, `scanner_failed`, `slow_rules_skipped`.";
    404 AgentScans TextList "rampart.agent.scans" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "What became of files since the agent's start, as `what=count`: `scanned`, `found`, `of_no_interest`, `too_large`, `unreadable`, `incomplete`.";
    420 AgentForgotten TextList "rampart.agent.forgotten" seed [] home [] sigma [] scopes NOT_IN_RULES,
        "What detection had to forget since the agent's start because a table was full, as `what=count`: `behaviour_processes`, `behaviour_scores`, `behaviour_evidence`, `anomaly_entries`, `correlation_matches`.";
}

impl Field {
    /// The field's column name in stores: its ECS name with `.` as `_`.
    pub fn column(self) -> String {
        self.spec().ecs.replace('.', "_")
    }
}
