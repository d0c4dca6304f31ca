//! A server with a bus, and alerts in its database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use event_model::{
    BootId, Detection, DetectionId, EventHeader, EventRecord, EventType, Field, HostId, ProcessEntityId,
    ResponseMode, RuleId, RuleReference, Severity, Timestamp, Value,
};
use state_store::{
    AlertId, AlertStore as _, AlertUpdate, Certificate, DetectionInput, Findings, HostStore as _,
    NewEnrollmentToken, NewHost, SecretDigest, SqliteStateStore,
};
use tempfile::TempDir;
use test_support::{Broker, BrokerKind, ResponderOptions, ResponderProcess, ServerOptions, ServerProcess};
use uuid::Uuid;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) broker: Broker,
    pub(crate) server: ServerProcess,
}

impl Place {
    /// `None` where the broker is not installed; the test is skipped then.
    pub(crate) fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("as the test needs it");
        let broker = Broker::start(BrokerKind::Redis, &folder.path().join("redis"))?;
        let server = ServerProcess::start_with(server_options(folder.path(), &broker.url()));
        Some(Self { folder, broker, server })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).expect("as the test needs it");
        path
    }

    pub(crate) fn write_playbook(&self, name: &str, text: &str) {
        std::fs::write(self.path("playbooks").join(format!("{name}.yml")), text)
            .expect("as the test needs it");
    }

    /// A script that appends a line with its argument and the alert's id.
    pub(crate) fn write_script(&self, name: &str, body: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path("scripts").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("as the test needs it");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))
            .expect("as the test needs it");
    }

    pub(crate) fn responder_options(&self, name: &str) -> ResponderOptions {
        let arguments = [
            ("bus", self.broker.url()),
            ("server", self.server.url()),
            ("ca", self.server.ca_file().display().to_string()),
            ("playbooks", self.path("playbooks").display().to_string()),
            ("scripts", self.path("scripts").display().to_string()),
        ];
        ResponderOptions {
            arguments: arguments.iter().map(|(flag, value)| format!("-{flag}={value}")).collect(),
            token: self.server.api_token(name, "playbook_runner"),
            environment: Vec::new(),
            state: self.folder.path().join(name),
        }
    }

    pub(crate) fn start_responder(&self, name: &str) -> ResponderProcess {
        ResponderProcess::start(self.responder_options(name))
    }

    pub(crate) fn alert(&self, number: u64, pid: u32) -> AlertId {
        record_alert(&self.server.database(), number, pid)
    }

    /// Enrols the host that the alerts are of. No agent of it ever connects.
    pub(crate) fn enroll_host(&self) {
        let store = SqliteStateStore::open(&self.server.database()).expect("as the test needs it");
        let (secret, expires_at) = (SecretDigest::of("a host's token"), Timestamp::from_nanos(i64::MAX));
        let token = NewEnrollmentToken { secret, uses: 1, expires_at, created_by: "test".to_owned() };
        store.create_enrollment_token(&token, now()).expect("as the test needs it");
        let host = NewHost {
            id: HostId::from_uuid(Uuid::from_u128(7)),
            name: "web-1".to_owned(),
            os: "Debian GNU/Linux 12".to_owned(),
            kernel: "6.1.0".to_owned(),
            agent_version: "0.1.0".to_owned(),
            certificate: Certificate { fingerprint: [7; 32], expires_at },
        };
        store.redeem_token(&secret, &host, now()).expect("as the test needs it");
    }

    /// What the runs in a responder's folder wrote down, one text for each run.
    pub(crate) fn journals(&self, name: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder.path().join(name)) else { return Vec::new() };
        let runs = entries.map(|entry| entry.expect("as the test needs it").path());
        let runs = runs.filter(|path| path.extension().is_some_and(|extension| extension == "run"));
        runs.map(|path| std::fs::read_to_string(path).expect("as the test needs it")).collect()
    }

    /// Writes a note on an alert as a person does.
    pub(crate) fn note_as(&self, person: &str, alert: AlertId, text: &str) {
        let store = SqliteStateStore::open(&self.server.database()).expect("as the test needs it");
        let update = AlertUpdate { note: Some(text.to_owned()), ..AlertUpdate::default() };
        store.update_alert(alert, &update, person, now()).expect("as the test needs it");
    }
}

pub(crate) fn server_options(folder: &Path, bus: &str) -> ServerOptions {
    let data = folder.join("server");
    std::fs::create_dir_all(&data).expect("as the test needs it");
    ServerOptions { folder: data, address: "127.0.0.1:0".to_owned(), arguments: vec![format!("-bus={bus}")] }
}

pub(crate) fn now() -> Timestamp {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("as the test needs it");
    Timestamp::from_nanos(i64::try_from(since.as_nanos()).expect("as the test needs it"))
}

/// Puts an alert into the database in the transaction in which the server does it.
pub(crate) fn record_alert(database: &Path, number: u64, pid: u32) -> AlertId {
    // Each with a rule of its own, so that none is another's repeat.
    record_detection(database, number, number, pid)
}

/// The same with a detection of that rule: the first opens the alert, others repeat it.
pub(crate) fn record_detection(database: &Path, rule: u64, number: u64, pid: u32) -> AlertId {
    let host = HostId::from_uuid(Uuid::from_u128(7));
    let boot = BootId::from_uuid(Uuid::from_u128(0x1a2b << 96));
    let process = ProcessEntityId::new(boot, pid, number * 1_000);
    let header = EventHeader {
        host_id: host,
        boot_id: boot,
        sequence: number,
        observed_at: now(),
        monotonic_ns: number,
    };
    let rule = RuleReference {
        id: RuleId::new(format!("rule-{rule}")),
        name: "Reverse shell".to_owned(),
        description: String::new(),
        severity: Severity::High,
        attack: vec!["T1059.004".to_owned()],
        mode: ResponseMode::Detect,
    };
    let fields = vec![
        (Field::ProcessEntityId, Value::Text(process.to_string())),
        (Field::ProcessPid, Value::Integer(pid.into())),
        (Field::ProcessExecutable, Value::Text("/tmp/shell".to_owned())),
        (Field::ProcessCommandLine, Value::Text(format!("shell {number}"))),
    ];
    let detection = Detection {
        id: DetectionId::of_match(header.event_id(), &rule.id),
        rule,
        event: EventRecord::from_fields(header, EventType::ProcessStart, fields),
        ancestry: Vec::new(),
        matched: Vec::new(),
        actions: Vec::new(),
    };
    let input = DetectionInput { detection: &detection, host_name: "web-1", agent_version: None };
    let findings = Findings { host, detections: vec![input], receipts: Vec::new() };
    let store = SqliteStateStore::open(database).expect("as the test needs it");
    store.record_findings(&findings, now()).expect("as the test needs it");
    AlertId::opened_by(host, detection.id)
}
