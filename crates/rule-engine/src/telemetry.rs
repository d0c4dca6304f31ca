//! Which events a rule judges.
//!
//! A rule's type allows some sources of events; the rule judges the first of them
//! whose events carry every field that the rule uses. A `process` rule that uses
//! `exit_code` so judges process ends, any other one process starts.

use event_model::{EventType, Field, RuleScope};

/// A source of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Telemetry {
    /// Starts of processes.
    ProcessStart,
    /// Ends of processes.
    ProcessExit,
    /// Connections and DNS.
    Network,
    /// Changes of files.
    File,
    /// Changes of the Windows registry.
    Registry,
    /// Scheduled tasks.
    Task,
    /// Everything else that was done or found: injection, modules, logons, accounts, persistence.
    Activity,
    /// Windows event log records.
    EventLog,
}

/// What only a process that has ended has.
const EXIT_ONLY: &[Field] =
    &[Field::ProcessEnd, Field::ProcessExitCode, Field::ProcessExitSignal, Field::ProcessRunTime];

/// What is read at the start of a process and not carried again at its end.
const START_ONLY: &[Field] = &[
    Field::EventAction,
    Field::ProcessArgs,
    Field::ProcessArgsBytes,
    Field::ProcessArgsTruncated,
    Field::ProcessWorkingDirectory,
    Field::ProcessTty,
    Field::ProcessSessionId,
    Field::ProcessInode,
    Field::ProcessDevice,
    Field::ProcessImageDeleted,
    Field::ProcessSha256,
    Field::ProcessHashSkipped,
    Field::ProcessMd5,
    Field::ProcessSha1,
    Field::ProcessTlsh,
    Field::ProcessEntropy,
    Field::ProcessImageSize,
    Field::ProcessImageHeader,
    Field::ProcessImageType,
    Field::ProcessCapabilities,
    Field::ProcessEnvironment,
    Field::ProcessMemfd,
    Field::ProcessNamespaces,
    Field::ProcessBlocked,
    Field::ContainerId,
    Field::ContainerRuntime,
    Field::ContainerName,
    Field::ContainerImage,
    Field::ContainerLabels,
    Field::PodName,
    Field::PodNamespace,
    Field::PodUid,
    Field::CgroupPath,
];

impl Telemetry {
    /// What rules of a type can judge, in the order of preference.
    pub(crate) fn of_scope(scope: RuleScope) -> &'static [Self] {
        match scope {
            RuleScope::Process => &[Self::ProcessStart, Self::ProcessExit],
            RuleScope::Attack => {
                &[Self::ProcessStart, Self::ProcessExit, Self::File, Self::Task, Self::Activity]
            }
            RuleScope::Network => &[Self::Network],
            RuleScope::File => &[Self::File],
            RuleScope::Registry => &[Self::Registry],
            RuleScope::EventLog => &[Self::EventLog],
        }
    }

    /// The events that a category of Sigma is about; log records where it is another, or none.
    pub(crate) fn of_category(category: Option<&str>) -> Self {
        match category {
            Some("process_creation") => Self::ProcessStart,
            Some("process_termination") => Self::ProcessExit,
            Some("network_connection" | "dns_query" | "dns" | "firewall") => Self::Network,
            Some(category) if category.starts_with("file_") => Self::File,
            Some(category) if category.starts_with("registry_") => Self::Registry,
            Some("image_load" | "driver_load" | "process_access" | "raw_access_thread" | "pipe_created") => {
                Self::Activity
            }
            _ => Self::EventLog,
        }
    }

    /// Whether its events can have the field.
    pub(crate) fn carries(self, field: Field) -> bool {
        let in_scope = |scope| field.spec().scopes.contains(&scope);
        match self {
            Self::ProcessStart => of_process(field) && !EXIT_ONLY.contains(&field),
            Self::ProcessExit => of_process(field) && !START_ONLY.contains(&field),
            Self::Network => in_scope(RuleScope::Network),
            Self::File => in_scope(RuleScope::File),
            Self::Registry => in_scope(RuleScope::Registry),
            // What every event has that a process caused, and the task itself.
            Self::Task => {
                matches!(field, Field::TaskName | Field::TaskCommand)
                    || (in_scope(RuleScope::Attack) && in_scope(RuleScope::Registry))
            }
            Self::Activity => {
                in_scope(RuleScope::Attack)
                    && (!of_process(field) || !(START_ONLY.contains(&field) || EXIT_ONLY.contains(&field)))
            }
            Self::EventLog => in_scope(RuleScope::EventLog),
        }
    }

    /// What judges events of this type; `None` where no rule can.
    pub fn of_event(event_type: EventType) -> Option<Self> {
        match event_type {
            EventType::ProcessStart => Some(Self::ProcessStart),
            EventType::ProcessExit => Some(Self::ProcessExit),
            EventType::FileCreate
            | EventType::FileModify
            | EventType::FileDelete
            | EventType::FileRename
            | EventType::FileAttribute
            | EventType::FileLink => Some(Self::File),
            EventType::NetworkConnect
            | EventType::NetworkAccept
            | EventType::NetworkClose
            | EventType::NetworkListen
            | EventType::DnsQuery => Some(Self::Network),
            EventType::ScheduledTask | EventType::Service => Some(Self::Task),
            EventType::RegistryChange => Some(Self::Registry),
            EventType::EventLogRecord => Some(Self::EventLog),
            EventType::AgentStart
            | EventType::AgentStop
            | EventType::AgentHealth
            | EventType::Gap
            | EventType::HostSilent => None,
            _ => Some(Self::Activity),
        }
    }

    /// Whether one of these types of events is judged by it.
    pub fn is_fed_by(self, collected: &[EventType]) -> bool {
        collected.iter().any(|event_type| Self::of_event(*event_type) == Some(self))
    }

    /// Its events in words.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::ProcessStart => "process start events",
            Self::ProcessExit => "process exit events",
            Self::Network => "network events",
            Self::File => "file events",
            Self::Registry => "registry events",
            Self::Task => "scheduled task and service events",
            Self::Activity => "events of injection, modules, logons, accounts and persistence",
            Self::EventLog => "Windows event log records",
        }
    }
}

fn of_process(field: Field) -> bool {
    field.spec().scopes.contains(&RuleScope::Process)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use event_model::{
        BootId, Container, EventBody, FileFacts, Image, ImageFile, Process, ProcessEntityId, ProcessExit,
        ProcessStart, StartKind, Timestamp, User,
    };

    use super::*;

    fn process_of(image: Image) -> Process {
        Process {
            entity_id: ProcessEntityId::new(BootId::from_uuid(uuid::Uuid::from_u128(1)), 2, 3),
            start: Timestamp::from_nanos(4),
            image: Arc::new(Image {
                executable: "/bin/a".into(),
                command_line: "a".into(),
                user: User {
                    id: 1,
                    name: Some("a".into()),
                    effective_id: 1,
                    group_id: 1,
                    login_id: Some(1),
                    login_name: Some("a".into()),
                },
                ..image
            }),
        }
    }

    fn process() -> Process {
        process_of(Image::default())
    }

    #[test]
    fn what_is_said_of_process_events_is_what_they_carry() {
        let image = Image {
            args: vec!["a".into()],
            args_bytes: 2,
            working_directory: Some("/".into()),
            tty: Some("pts0".into()),
            session_id: Some(1),
            file: Some(ImageFile::default()),
            container_id: Some("0".into()),
            cgroup_path: Some("/".into()),
            container: Some(Arc::new(Container {
                runtime: Some("docker"),
                name: Some("a".into()),
                image: Some("a".into()),
                pod: Some("a".into()),
                pod_namespace: Some("a".into()),
                pod_uid: Some("a".into()),
                labels: vec!["a=b".into()],
            })),
            capabilities: ["ALL".into()].into(),
            environment: vec!["LD_PRELOAD=a".into()],
            memfd: true,
            namespaces: vec!["pid:1".into()],
            blocked: Some(event_model::BlockedBy::Name),
            ..Image::default()
        };
        let start = EventBody::ProcessStart(Box::new(ProcessStart {
            kind: StartKind::Exec,
            process: process_of(image),
            parent: Some(process()),
            facts: Some(Arc::new(FileFacts {
                md5: "00".into(),
                sha1: "00".into(),
                sha256: "00".into(),
                tlsh: Some("00".into()),
                entropy_milli: 1,
                size: 1,
                header: "00".into(),
                content_type: "data",
            })),
            hash_skipped: Some("changed"),
        }));
        let exit = EventBody::ProcessExit(Box::new(ProcessExit {
            process: process(),
            parent: Some(process()),
            end: Timestamp::from_nanos(5),
            exit_code: Some(0),
            exit_signal: Some(9),
            run_time_ns: 1,
        }));
        for field in Field::ALL {
            if field.spec().scopes.contains(&RuleScope::Process) {
                assert_eq!(
                    Telemetry::ProcessStart.carries(*field),
                    start.value(*field).is_some(),
                    "start: {field:?}"
                );
                assert_eq!(
                    Telemetry::ProcessExit.carries(*field),
                    exit.value(*field).is_some(),
                    "exit: {field:?}"
                );
            }
        }
    }

    #[test]
    fn every_field_that_rules_can_use_is_carried_by_some_events() {
        for scope in RuleScope::ALL {
            for field in Field::ALL.iter().filter(|field| field.spec().scopes.contains(&scope)) {
                let carried = Telemetry::of_scope(scope).iter().any(|telemetry| telemetry.carries(*field));
                assert!(carried, "{scope}: {field:?}");
            }
        }
    }
}
