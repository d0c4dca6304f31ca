//! Going through the fields that an event has, without asking for every field of the table.

use crate::{Activity, EventBody, Field, Value, ValueRef};

/// What events take from a process, its parent and its user. Not every event has all of it.
const OF_A_PROCESS: [Field; 17] = [
    Field::ProcessEntityId,
    Field::ProcessPid,
    Field::ProcessName,
    Field::ProcessExecutable,
    Field::ProcessCommandLine,
    Field::ProcessStart,
    Field::ParentEntityId,
    Field::ParentPid,
    Field::ParentName,
    Field::ParentExecutable,
    Field::ParentCommandLine,
    Field::UserId,
    Field::UserName,
    Field::UserEffectiveId,
    Field::UserGroupId,
    Field::UserLoginId,
    Field::UserLoginName,
];

/// What a start has besides.
const OF_A_START: [Field; 33] = [
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
    Field::ProcessMemfd,
    Field::ProcessCapabilities,
    Field::ProcessEnvironment,
    Field::ProcessNamespaces,
    Field::ProcessBlocked,
    Field::ProcessMd5,
    Field::ProcessSha1,
    Field::ProcessSha256,
    Field::ProcessTlsh,
    Field::ProcessEntropy,
    Field::ProcessImageSize,
    Field::ProcessImageHeader,
    Field::ProcessImageType,
    Field::ContainerRuntime,
    Field::ContainerName,
    Field::ContainerImage,
    Field::PodName,
    Field::PodNamespace,
    Field::PodUid,
    Field::ContainerLabels,
    Field::ProcessHashSkipped,
    Field::ContainerId,
    Field::CgroupPath,
];

/// What an end has besides.
const OF_AN_END: [Field; 4] =
    [Field::ProcessEnd, Field::ProcessExitCode, Field::ProcessExitSignal, Field::ProcessRunTime];

/// What an event takes of whom it was done to.
const OF_A_TARGET: [Field; 6] = [
    Field::TargetEntityId,
    Field::TargetPid,
    Field::TargetName,
    Field::TargetExecutable,
    Field::TargetCommandLine,
    Field::TargetUserId,
];

impl EventBody {
    /// Gives each field that is present to `sink`, once, in no order.
    pub fn each_field(&self, sink: &mut dyn FnMut(Field, ValueRef<'_>)) {
        let mut ask = |fields: &[Field]| {
            for &field in fields {
                if let Some(value) = self.value(field) {
                    sink(field, value);
                }
            }
        };
        match self {
            Self::ProcessStart(_) => {
                ask(&OF_A_PROCESS);
                ask(&OF_A_START);
            }
            Self::ProcessExit(_) => {
                ask(&OF_A_PROCESS);
                ask(&OF_AN_END);
            }
            Self::Activity(activity) => activity.each_field(sink),
            Self::AgentStart(_) | Self::AgentStop(_) | Self::AgentHealth(_) | Self::Gap(_) => {
                ask(Field::ALL);
            }
        }
    }

    /// How many like acts the event stands for; 1 where it does not say.
    pub fn acts(&self) -> u64 {
        let Self::Activity(activity) = self else { return 1 };
        let count = activity.fields.iter().find_map(|(field, value)| match (field, value) {
            (Field::EventCount, Value::Integer(count)) => u64::try_from(*count).ok(),
            _ => None,
        });
        count.unwrap_or(1).max(1)
    }
}

impl Activity {
    fn each_field(&self, sink: &mut dyn FnMut(Field, ValueRef<'_>)) {
        let is_own = |field: Field| self.fields.iter().any(|(own, _)| *own == field);
        for (field, value) in &self.fields {
            sink(*field, value.as_ref());
        }
        if self.who.is_some() {
            let of_who = OF_A_PROCESS.iter().chain(&[Field::ContainerId]);
            for &field in of_who.filter(|field| !is_own(**field)) {
                if let Some(value) = self.of_who(field) {
                    sink(field, value);
                }
            }
        }
        if self.target.is_some() {
            for &field in OF_A_TARGET.iter().filter(|field| !is_own(**field)) {
                if let Some(value) = self.of_target(field) {
                    sink(field, value);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::{
        BlockedBy, BootId, Container, EventType, FileFacts, Image, ImageFile, Process, ProcessEntityId,
        ProcessExit, ProcessStart, StartKind, Timestamp, User, Who,
    };

    fn process_of(pid: u32, image: Image) -> Process {
        let boot = BootId::from_uuid(Uuid::from_u128(1));
        let some = || Some("root".to_owned());
        Process {
            entity_id: ProcessEntityId::new(boot, pid, 7),
            start: Timestamp::from_nanos(1),
            image: Arc::new(Image {
                executable: format!("/bin/{pid}"),
                command_line: format!("{pid} -x"),
                user: User { name: some(), login_id: Some(0), login_name: some(), ..User::default() },
                container_id: some(),
                ..image
            }),
        }
    }

    fn process(pid: u32) -> Process {
        process_of(pid, Image::default())
    }

    fn is_complete(body: &EventBody, least: usize) {
        let mut visited = Vec::new();
        body.each_field(&mut |field, value| visited.push((field, value.to_owned())));
        visited.sort_by_key(|(field, _)| *field);
        let asked: Vec<(Field, Value)> =
            Field::ALL.iter().filter_map(|&field| Some((field, body.value(field)?.to_owned()))).collect();
        assert_eq!(visited, asked);
        assert!(asked.len() >= least, "{} fields were filled in", asked.len());
    }

    #[test]
    fn what_is_visited_is_what_is_there() {
        let text = || Some("x".to_owned());
        let list = || vec!["x".to_owned()];
        let image = Image {
            args: list(),
            args_bytes: 2,
            working_directory: text(),
            tty: text(),
            session_id: Some(1),
            file: Some(ImageFile::default()),
            cgroup_path: text(),
            container: Some(Arc::new(Container {
                runtime: Some("docker"),
                name: text(),
                image: text(),
                pod: text(),
                pod_namespace: text(),
                pod_uid: text(),
                labels: list(),
            })),
            capabilities: list().into(),
            environment: list(),
            memfd: true,
            namespaces: list(),
            blocked: Some(BlockedBy::Hash),
            ..Image::default()
        };
        let start = ProcessStart {
            kind: StartKind::Exec,
            process: process_of(2, image),
            parent: Some(process(1)),
            facts: Some(Arc::new(FileFacts {
                md5: "a".to_owned(),
                sha1: "b".to_owned(),
                sha256: "c".to_owned(),
                tlsh: text(),
                header: "7f".to_owned(),
                content_type: "elf",
                ..FileFacts::default()
            })),
            hash_skipped: Some("budget"),
        };
        is_complete(&EventBody::ProcessStart(Box::new(start)), OF_A_PROCESS.len() + OF_A_START.len());
        let exit = ProcessExit {
            process: process(2),
            parent: Some(process(1)),
            end: Timestamp::from_nanos(3),
            exit_code: Some(0),
            exit_signal: Some(9),
            run_time_ns: 5,
        };
        is_complete(&EventBody::ProcessExit(Box::new(exit)), OF_A_PROCESS.len() + OF_AN_END.len());
        let who = |pid| Some(Who { process: process(pid), parent: Some(process(1)) });
        let own = vec![
            (Field::FilePath, Value::Text("/tmp/x".to_owned())),
            (Field::ProcessPid, Value::Integer(9)),
            (Field::TargetPid, Value::Integer(8)),
            (Field::EventCount, Value::Integer(3)),
        ];
        let activity =
            Activity { event_type: EventType::FileCreate, who: who(3), target: who(4), fields: own };
        let body = EventBody::Activity(Box::new(activity));
        assert_eq!(body.acts(), 3);
        // Of the process, all but its effective user and its group; and its container.
        is_complete(&body, OF_A_PROCESS.len() - 2 + 1 + OF_A_TARGET.len() + 2);
    }
}
