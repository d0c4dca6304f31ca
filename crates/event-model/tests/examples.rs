//! One example of each kind of record, as it goes outward: `schema/examples/`.
//!
//! The files are what integrators read and what later versions must still
//! understand. `RAMPART_UPDATE=1 cargo test -p event-model` writes them anew; a
//! change in them is a change of the contract.

use std::path::Path;
use std::sync::Arc;

use event_model::*;
use uuid::Uuid;

const CONTEXT: EcsContext<'_> = EcsContext { host_name: "web-01", agent_version: Some("0.1.0") };

fn boot() -> BootId {
    BootId::from_uuid(Uuid::from_u128(0x1a2b3c4d_0000_4000_8000_000000000001))
}

fn header(sequence: u64) -> EventHeader {
    EventHeader {
        host_id: HostId::from_uuid(Uuid::from_u128(0x9f1c_0000_0000_4000_8000_0000_0000_0042)),
        boot_id: boot(),
        sequence,
        observed_at: Timestamp::from_nanos(1_795_296_903_000_000_042),
        monotonic_ns: 98_765_432_201,
    }
}

fn process_of(image: Image) -> Process {
    Process {
        entity_id: ProcessEntityId::new(boot(), 4711, 98_765_432_101),
        start: Timestamp::from_nanos(1_795_296_902_999_999_942),
        image: Arc::new(Image {
            executable: "/usr/bin/dash".into(),
            command_line: "sh -c id".into(),
            user: user(),
            ..image
        }),
    }
}

fn process() -> Process {
    process_of(Image::default())
}

fn parent() -> Process {
    Process {
        entity_id: ProcessEntityId::new(boot(), 812, 4_000_000_000),
        start: Timestamp::from_nanos(1_795_296_808_000_000_000),
        image: Arc::new(Image {
            executable: "/usr/sbin/nginx".into(),
            command_line: "nginx: worker process".into(),
            user: user(),
            ..Image::default()
        }),
    }
}

fn user() -> User {
    User {
        id: 33,
        name: Some("www-data".into()),
        effective_id: 33,
        group_id: 33,
        login_id: Some(1000),
        login_name: Some("alice".into()),
    }
}

fn start() -> ProcessStart {
    let image = Image {
        args: vec!["sh".into(), "-c".into(), "id".into()],
        args_bytes: 9,
        args_truncated: false,
        working_directory: Some("/var/www".into()),
        tty: Some("pts0".into()),
        session_id: Some(700),
        file: Some(ImageFile { inode: 131_099, device: 65_024, ..ImageFile::default() }),
        image_deleted: false,
        container_id: Some("4f3c".repeat(16)),
        cgroup_path: Some("/system.slice/nginx.service".into()),
        container: Some(Arc::new(Container {
            runtime: Some("docker"),
            name: Some("shop".into()),
            image: Some("nginx:1.27".into()),
            labels: vec!["team=shop".into()],
            ..Container::default()
        })),
        capabilities: ["CAP_NET_BIND_SERVICE".into()].into(),
        environment: vec!["LD_LIBRARY_PATH=/opt/lib".into()],
        memfd: false,
        namespaces: vec!["mnt:4026532201".into(), "pid:4026532204".into()],
        blocked: Some(BlockedBy::Path),
        ..Image::default()
    };
    ProcessStart {
        kind: StartKind::Exec,
        process: process_of(image),
        parent: Some(parent()),
        facts: Some(Arc::new(FileFacts {
            md5: "1c9b1d0c4e1f5ad4ae42d4ac0eb6a8f1".into(),
            sha1: "5b4e1e1fa70f70d0d1a6c7ff0d7e2f77e1ae4b52".into(),
            sha256: "9a271f2a916b0b6ee6cecb2426f0b3206ef074578be55d9bc94f6f3fe3ab86aa".into(),
            tlsh: Some("T1".to_owned() + &"5A".repeat(35)),
            entropy_milli: 6_112,
            size: 125_688,
            header: "7f454c46020101000000000000000000".into(),
            content_type: "elf",
        })),
        hash_skipped: None,
    }
}

/// Who did it, what was done, and to whom, with a value for whatever the type needs
/// and for what else it usually tells.
fn activity(event_type: EventType) -> EventBody {
    let spec = event_type.spec();
    let found = matches!(spec.category, "iam" | "authentication" | "configuration" | "host");
    let who = Who { process: process(), parent: Some(parent()) };
    let at_somebody = spec.needs.contains(&Field::TargetPid);
    let mut fields: Vec<Field> = spec.needs.to_vec();
    fields.extend_from_slice(match spec.category {
        "file" => &[Field::FileName, Field::FileInode, Field::EventOutcome],
        "network" => &[Field::NetworkType, Field::NetworkConnectionId],
        "iam" | "configuration" => &[Field::ChangeOld, Field::ChangeNew, Field::EventProvider],
        _ => &[Field::EventProvider],
    });
    fields.retain(|&field| field != Field::TargetPid);
    EventBody::Activity(Box::new(Activity {
        event_type,
        who: (!found).then_some(who),
        target: at_somebody.then(|| Who { process: parent(), parent: None }),
        fields: fields.into_iter().map(|field| (field, sample(field))).collect(),
    }))
}

/// A value as it might really stand there.
fn sample(field: Field) -> Value {
    let text = match field {
        Field::FilePath => "/etc/cron.d/backup",
        Field::FileName => "backup",
        Field::FileOldPath => "/etc/cron.d/.backup.new",
        Field::FileTargetPath => "/etc/shadow",
        Field::FileOperation | Field::EventAction => "create",
        Field::ScanTrigger => "write",
        Field::SourceAddress => "192.0.2.17",
        Field::DestinationAddress => "198.51.100.9",
        Field::NetworkTransport => "tcp",
        Field::NetworkDirection => "egress",
        Field::NetworkType => "ipv4",
        Field::UserName | Field::UserTargetName => "alice",
        Field::UserTargetId => "1000",
        Field::LogonService => "sshd",
        Field::EventReason => "Failed password",
        Field::EventOutcome => "success",
        Field::EventProvider => "ebpf",
        Field::DnsName => "example.org",
        Field::DnsType => "A",
        Field::TaskName | Field::ServiceName => "backup",
        Field::TaskCommand => "/usr/local/bin/backup",
        Field::PersistenceKind => "authorized_keys",
        Field::AccessMethod => "ptrace",
        Field::ModuleName => "nf_nat",
        Field::LibraryPath => "/usr/lib/x86_64-linux-gnu/libc.so.6",
        Field::ScriptInterpreter => "/usr/bin/dash",
        Field::ScriptText => "#!/bin/sh\nid\n",
        Field::FileSha256 | Field::ScriptSha256 => {
            "3f0c0b4d0ef24f5a5f3a3c7e2d4b8a0b3ef3c4f0c9d5a1b2c3d4e5f60718293a"
        }
        _ => "example",
    };
    match field.spec().kind {
        ValueKind::Text => Value::Text(text.into()),
        ValueKind::Integer => Value::Integer(443),
        ValueKind::Boolean => Value::Boolean(true),
        ValueKind::TextList => Value::TextList(vec![text.into()]),
        ValueKind::Time => Value::Time(Timestamp::from_nanos(1_795_296_900_000_000_000)),
    }
}

/// An example of every event type.
fn body(event_type: EventType) -> EventBody {
    match event_type {
        EventType::ProcessStart => EventBody::ProcessStart(Box::new(start())),
        EventType::ProcessExit => EventBody::ProcessExit(Box::new(ProcessExit {
            process: process(),
            parent: Some(parent()),
            end: Timestamp::from_nanos(1_795_296_903_500_000_000),
            exit_code: None,
            exit_signal: Some(9),
            run_time_ns: 500_000_058,
        })),
        EventType::AgentStart => EventBody::AgentStart(AgentStart {
            version: "0.1.0".into(),
            sensor: "ebpf".into(),
            config_hash: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".into(),
            rules_version: 1_795_296_000_000,
            rules_loaded: 12,
            previous_end: "crash",
            previous_cause: Some("signal 9".into()),
            sources: vec![
                "process_start=ebpf process".into(),
                "user_logon=none: no log to read (journal)".into(),
            ],
        }),
        EventType::AgentStop => EventBody::AgentStop(AgentStop {
            version: "0.1.0".into(),
            reason: "signal",
            signal: Some(15),
            by: Some(SignalSender {
                pid: 4711,
                uid: 33,
                who: Some(Who { process: process(), parent: Some(parent()) }),
            }),
        }),
        EventType::AgentHealth => EventBody::AgentHealth(AgentHealth {
            version: "0.1.0".into(),
            sensor: "ebpf".into(),
            rules_version: 1_795_296_000_000,
            rules_loaded: 12,
            records_produced: 40_210,
            records_dropped: 0,
            kernel_lost: 0,
            spool_bytes: 18_432,
            memory_bytes: 21_000_192,
            cpu_ms: 830,
            processes_tracked: 143,
            account: vec![
                "process_start=20051".into(),
                "file_modify=9000".into(),
                "file_modify!budget=812".into(),
            ],
            cpu_permille: 52,
            budget_step: "shedding",
            shed: vec!["bulk".into()],
            scans: vec!["scanned=812".into(), "too_large=3".into()],
            forgotten: vec!["behaviour_processes=2048".into()],
        }),
        EventType::Gap => EventBody::Gap(Gap {
            sensor: "ebpf",
            reason: GapReason::KernelRingFull,
            what: "process_start",
            count: Some(17),
            records: None,
            through: None,
            boot: None,
            from: Timestamp::from_nanos(1_795_296_900_000_000_000),
            until: Timestamp::from_nanos(1_795_296_900_100_000_000),
        }),
        other => activity(other),
    }
}

fn detection(event: EventRecord) -> Detection {
    let rule = RuleReference {
        id: RuleId::new("1003"),
        name: "Shell started by a web server".into(),
        description: "A web server process started a command shell.".into(),
        severity: Severity::High,
        attack: vec!["T1505.003".into(), "T1059.004".into()],
        mode: ResponseMode::Auto,
    };
    let summary = |process: &Process, user: &str| ProcessSummary {
        entity_id: process.entity_id,
        pid: process.entity_id.pid(),
        executable: process.image.executable.clone(),
        command_line: process.image.command_line.clone(),
        user: user.into(),
        start: process.start,
    };
    Detection {
        id: DetectionId::of_match(event.header.event_id(), &rule.id),
        rule,
        event,
        ancestry: vec![summary(&process(), "www-data"), summary(&parent(), "www-data")],
        matched: vec!["parent_name in ('nginx', 'httpd') and name in ('sh', 'bash')".into()],
        actions: vec![ActionKind::Alert, ActionKind::TerminateProcess],
    }
}

fn receipt(detection: &Detection) -> ResponseReceipt {
    let step = |nanos, what: &str| ReceiptStep { at: Timestamp::from_nanos(nanos), what: what.into() };
    ResponseReceipt {
        asks: None,
        id: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001),
        detection_id: detection.id,
        action: ActionKind::TerminateProcess,
        target: ResponseTarget {
            entity_id: process().entity_id,
            executable: process().image.executable.clone(),
        },
        state: ReceiptState::Verified,
        reason: "the process is gone".into(),
        steps: vec![
            step(1_795_296_903_000_200_000, "identity checked"),
            step(1_795_296_903_000_210_000, "sent SIGTERM"),
            step(1_795_296_903_000_900_000, "the process ended"),
        ],
    }
}

#[test]
fn the_examples_are_what_the_code_makes() {
    let mut examples = Vec::new();
    for (event_type, sequence) in EventType::ALL.iter().zip(1..) {
        let event = EventRecord::from_body(header(sequence), &body(*event_type));
        let system = match event_type {
            EventType::RegistryChange | EventType::EventLogRecord => "windows",
            _ => "linux",
        };
        examples.push((format!("{event_type}_{system}.json"), event_to_ecs(&event, CONTEXT).to_json()));
    }
    let event = EventRecord::from_body(header(1), &body(EventType::ProcessStart));
    let detection = detection(event);
    examples
        .push(("detection_linux.json".into(), detection_to_ecs(&header(8), &detection, CONTEXT).to_json()));
    examples.push((
        "response_linux.json".into(),
        receipt_to_ecs(&header(9), &receipt(&detection), CONTEXT).to_json(),
    ));

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/examples");
    let mut differing = Vec::new();
    for (name, document) in &examples {
        let made = format!("{}\n", serde_json::to_string_pretty(document).expect("JSON"));
        let path = folder.join(name);
        if std::env::var_os("RAMPART_UPDATE").is_some() {
            std::fs::write(&path, &made).expect("the example can be written");
        } else if std::fs::read_to_string(&path).unwrap_or_default() != made {
            differing.push(name);
        }
    }
    assert!(
        differing.is_empty(),
        "differs from schema/examples: {differing:?}; if it is meant: RAMPART_UPDATE=1"
    );
}

#[test]
fn every_field_of_a_typed_event_has_the_kind_that_the_table_says() {
    for event_type in EventType::ALL {
        let body = body(*event_type);
        let present: Vec<_> = Field::ALL.iter().filter_map(|&f| Some((f, body.value(f)?))).collect();
        assert!(!present.is_empty(), "{event_type} has no field");
        for (field, value) in present {
            assert_eq!(value.kind(), field.spec().kind, "{event_type}: {field:?}");
        }
    }
}

#[test]
fn every_example_tells_what_its_type_must_tell() {
    for event_type in EventType::ALL {
        let body = body(*event_type);
        for field in event_type.spec().needs {
            assert!(body.value(*field).is_some(), "{event_type}: {field:?}");
        }
        let record = EventRecord::from_body(header(1), &body);
        for field in Field::ALL {
            let value = body.value(*field).map(|value| value.to_owned());
            assert_eq!(
                FieldSource::value(&record, *field).map(|value| value.to_owned()),
                value,
                "{event_type}: {field:?}"
            );
        }
    }
}
