//! The table of event types: the one source of their words, numbers, ECS
//! categories, and of what each of them must tell.

use crate::field::Field;
use crate::words;

/// One row of the table.
#[derive(Debug)]
pub struct EventTypeSpec {
    /// Number on the wire; never changes its meaning.
    pub number: u32,
    /// ECS `event.category` (allowed values: ECS 8.17 field reference).
    pub category: &'static str,
    /// ECS `event.type`.
    pub ecs_type: &'static str,
    /// What it belongs to when the agent has to do less.
    pub class: EventClass,
    /// Fields that every event of this type has, besides who and when; without
    /// one of them an analyst could not use it.
    pub needs: &'static [Field],
}

words! {
    /// How much an event is worth when the agent's CPU budget is short. Classes
    /// are shed from the last to the first; [`EventClass::Protected`] never.
    EventClass {
        /// Never shed: process starts, signals, injection, persistence, accounts, the agent itself.
        Protected = "protected",
        /// Logons, DNS, new listeners and connections.
        Network = "network",
        /// Creation, renaming, removal and attributes of files.
        File = "file",
        /// What comes in masses and says little alone: ends of connections, writes, loaded libraries.
        Bulk = "bulk",
    }
}

macro_rules! event_types {
    ($($number:literal $variant:ident $word:literal $category:literal $ecs_type:literal $class:ident [$($need:ident)*] $doc:literal;)*) => {
        words! {
            /// The type of an event; its word is the event's `rampart.event.type`.
            EventType {
                $(#[doc = $doc] $variant = $word,)*
            }
        }

        impl EventType {
            /// The type's row.
            pub const fn spec(self) -> &'static EventTypeSpec {
                match self {
                    $(Self::$variant => &EventTypeSpec {
                        number: $number,
                        category: $category,
                        ecs_type: $ecs_type,
                        class: EventClass::$class,
                        needs: &[$(Field::$need,)*],
                    },)*
                }
            }

            /// Its number on the wire.
            pub const fn number(self) -> u32 {
                self.spec().number
            }

            /// The type with this wire number, if this version knows it.
            pub fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

event_types! {
    1 ProcessStart "process_start" "process" "start" Protected [ProcessArgs ProcessArgsBytes]
        "A process began to run an image, or was forked and runs its parent's.";
    2 ProcessExit "process_exit" "process" "end" Protected [ProcessRunTime]
        "A process ended.";
    3 ExecutionGate "execution_gate" "process" "info" Protected [EventAction]
        "A program was kept from running (`denied`), or the gate that judges programs before they run says how it is: `late`, `suspended`, `resumed`, `unwatched`, `down`.";

    10 FileCreate "file_create" "file" "creation" File [FilePath FileOperation]
        "A file was made.";
    11 FileModify "file_modify" "file" "change" Bulk [FilePath FileOperation]
        "A file's content was changed; one event for each time it was open for writing.";
    12 FileDelete "file_delete" "file" "deletion" File [FilePath FileOperation]
        "A name of a file was removed.";
    13 FileRename "file_rename" "file" "change" File [FilePath FileOldPath FileOperation]
        "A file got another name.";
    14 FileAttribute "file_attribute" "file" "change" File [FilePath FileOperation]
        "Mode, owner, times or an extended attribute of a file were set.";
    15 FileLink "file_link" "file" "creation" File [FilePath FileTargetPath FileOperation]
        "A hard or symbolic link was made.";

    20 UserLogon "user_logon" "authentication" "start" Protected [UserName LogonService]
        "A user was let in.";
    21 UserLogoff "user_logoff" "authentication" "end" Protected [UserName LogonService]
        "A user's session ended.";
    22 UserLogonFailed "user_logon_failed" "authentication" "start" Protected [LogonService EventReason]
        "A user was not let in.";
    25 ScriptContent "script_content" "process" "info" Protected [ScriptInterpreter ScriptText ScriptSha256]
        "An interpreter was given a script; its text.";

    30 NetworkConnect "network_connect" "network" "start" Network [SourceAddress DestinationAddress DestinationPort NetworkTransport NetworkDirection]
        "A process opened a connection, or tried to.";
    31 NetworkAccept "network_accept" "network" "start" Network [SourceAddress SourcePort DestinationAddress DestinationPort NetworkTransport NetworkDirection]
        "A process took a connection in.";
    32 NetworkClose "network_close" "network" "end" Bulk [SourceAddress DestinationAddress DestinationPort NetworkTransport]
        "A connection ended; what it carried.";
    33 NetworkListen "network_listen" "network" "start" Network [SourceAddress SourcePort NetworkTransport]
        "A process began to wait for connections.";
    34 DnsQuery "dns_query" "network" "protocol" Network [DnsName DnsType]
        "A name was asked for, and what came of it.";

    40 ScheduledTask "scheduled_task" "configuration" "change" Protected [EventAction FilePath TaskName TaskCommand]
        "A cron table, an at job or a timer was made, changed or removed.";
    41 Service "service" "configuration" "change" Protected [EventAction ServiceName FilePath]
        "A service was made, changed or removed.";
    42 Persistence "persistence" "configuration" "change" Protected [EventAction PersistenceKind FilePath]
        "A file from which things are started by themselves was made, changed or removed.";
    45 AccountCreate "account_create" "iam" "creation" Protected [UserTargetName UserTargetId]
        "An account was made.";
    46 AccountModify "account_modify" "iam" "change" Protected [UserTargetName ChangedFields]
        "An account was changed.";
    47 AccountDelete "account_delete" "iam" "deletion" Protected [UserTargetName UserTargetId]
        "An account was removed.";

    50 ModuleLoad "module_load" "driver" "start" Protected [ModuleName AccessMethod]
        "A kernel module was loaded, or tried to be.";
    51 ImageLoad "image_load" "library" "start" Bulk [LibraryPath]
        "A library was mapped for execution.";
    52 BpfLoad "bpf_load" "driver" "start" Protected [BpfType]
        "A BPF program was loaded or attached.";
    53 RawAccessRead "raw_access_read" "driver" "access" Protected [FilePath AccessMode]
        "A disk or the memory of the kernel was opened past the file system.";
    54 ProcessAccess "process_access" "process" "access" Protected [TargetPid AccessMethod]
        "A process looked into another one.";
    55 ProcessTamper "process_tamper" "process" "change" Protected [TargetPid AccessMethod]
        "A process changed another one's memory, or its own in the way that injected code does.";
    56 MemfdCreate "memfd_create" "process" "info" Protected [MemfdName]
        "A file in memory was made.";
    57 Signal "signal" "process" "change" Protected [TargetPid SignalNumber]
        "A process sent another one a signal that ends or stops it.";
    58 PrivilegeChange "privilege_change" "process" "change" Protected [AccessMethod]
        "A process changed whom it runs as, or its capabilities.";

    60 Mount "mount" "configuration" "change" Protected [EventAction MountTarget]
        "A file system was mounted, moved or unmounted.";
    61 Namespace "namespace" "process" "change" Protected [EventAction NamespaceKinds]
        "A process made or entered namespaces.";
    62 ContainerStart "container_start" "process" "start" Protected [ContainerId]
        "The first process of a container.";
    65 PipeCreate "pipe_create" "file" "creation" File [PipeName]
        "A named pipe was made.";
    66 UnixConnect "unix_connect" "network" "start" Bulk [UnixSocketPath]
        "A process connected to a unix socket.";
    67 UsbDevice "usb_device" "host" "info" Protected [EventAction DeviceName]
        "A USB device was plugged in or out.";

    100 AgentStart "agent_start" "host" "start" Protected [AgentVersion]
        "The agent began its work.";
    101 AgentStop "agent_stop" "host" "end" Protected [AgentStopReason]
        "The agent was asked to stop and did.";
    102 AgentHealth "agent_health" "host" "info" Protected [AgentVersion]
        "The agent's own figures, each minute.";
    103 Gap "gap" "host" "info" Protected [GapSensor GapReason GapWhat]
        "Something was lost, here is what is known of it.";
    104 AgentTamper "agent_tamper" "host" "change" Protected [AgentTampered]
        "Somebody signalled the agent, or touched its files, rules, unit or kernel side.";
    105 HostSilent "host_silent" "host" "info" Protected [EventReason]
        "The server hears nothing of a host that should report. Made by the server, not by an agent.";

    110 FileScan "file_scan" "malware" "info" Protected [FilePath FileSha256 ScanTrigger]
        "A file was scanned, and a YARA rule or an indicator of its hash matched.";

    // What only Windows has; their numbers are those of their groups.
    43 RegistryChange "registry_change" "registry" "change" Protected [RegistryPath RegistryKey RegistryOperation]
        "A key or value of the Windows registry was made, set or removed.";
    70 EventLogRecord "event_log" "host" "info" Protected [LogEventId LogChannel LogProvider]
        "A record of the Windows event log, of a channel and id that are collected.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_number_means_one_type() {
        let mut seen = HashSet::new();
        for event_type in EventType::ALL {
            let number = event_type.spec().number;
            assert!(seen.insert(number), "{event_type}: {number} is taken");
            assert_eq!(EventType::from_number(number), Some(*event_type));
        }
    }
}
