//! A responder on this host, with a folder of its own.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use event_model::{BootId, DetectionId, ProcessEntityId, ResponseMode, RuleId, Timestamp};
use response::{
    Action, Checkpoint, Consent, Found, Guards, Linux, Order, Origin, ProcessTarget, Receipt, Responder,
    ResponderParts, Signer, Switch,
};
use sensor_api::ProcessClock;
use uuid::Uuid;

pub(crate) fn boot() -> BootId {
    BootId::from_uuid(Uuid::from_u128(0x1234_5678 << 96))
}

/// What /proc/PID/stat says behind the name, which may be of any bytes.
pub(crate) fn stat_of(pid: u32) -> Option<String> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    Some(String::from_utf8_lossy(&stat).rsplit_once(") ")?.1.to_owned())
}

/// The sensor's clock, stood in for by what /proc can tell.
pub(crate) struct ProcClock;

impl ProcessClock for ProcClock {
    fn start_ns(&self, pid: u32) -> Option<u64> {
        let ticks: u64 = stat_of(pid)?.split_ascii_whitespace().nth(19)?.parse().ok()?;
        Some(ticks * 10_000_000)
    }

    fn precision_ns(&self) -> u64 {
        10_000_000
    }
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap())
}

fn in_a_minute() -> Timestamp {
    Timestamp::from_nanos(now().as_nanos() + 60_000_000_000)
}

pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) responder: Responder,
}

pub(crate) fn open(dir: &Path, checkpoint: Option<Checkpoint>) -> (Responder, Found) {
    open_with(dir, checkpoint, Arc::new(ProcClock))
}

pub(crate) fn open_with(
    dir: &Path,
    checkpoint: Option<Checkpoint>,
    processes: Arc<dyn ProcessClock>,
) -> (Responder, Found) {
    Responder::open(ResponderParts { checkpoint, ..parts(dir, processes) }).unwrap()
}

pub(crate) fn open_guarded(dir: &Path, guards: Guards) -> (Responder, Found) {
    Responder::open(ResponderParts { guards, ..parts(dir, Arc::new(ProcClock)) }).unwrap()
}

pub(crate) fn open_signing(dir: &Path, signer: Signer) -> (Responder, Found) {
    let folder = dir.join("responses");
    let platform = Linux::new(Arc::new(ProcClock), boot(), folder.clone(), &folder.join("vault")).unwrap();
    let platform = Box::new(platform.sign_with(signer));
    Responder::open(ResponderParts { platform, ..parts(dir, Arc::new(ProcClock)) }).unwrap()
}

fn parts(dir: &Path, processes: Arc<dyn ProcessClock>) -> ResponderParts {
    let folder = dir.join("responses");
    ResponderParts {
        platform: Box::new(Linux::new(processes, boot(), folder.clone(), &folder.join("vault")).unwrap()),
        dir: folder,
        guards: Guards::of_this_host(),
        switch: Switch::default(),
        clock: Arc::new(now),
        checkpoint: None,
    }
}

pub(crate) fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (responder, _) = open(dir.path(), None);
    Bench { dir, responder }
}

impl Bench {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    pub(crate) fn run(&mut self, action: Action) -> Receipt {
        self.responder.run(command(action))
    }
}

/// An order of a person.
pub(crate) fn command(action: Action) -> Order {
    let origin = Origin::Command { user: "admin".to_owned(), consent: Consent::default() };
    Order { id: Uuid::new_v4(), action, origin, dry_run: false, expires_at: in_a_minute() }
}

/// An order of a rule.
pub(crate) fn of_rule(action: Action, mode: ResponseMode) -> Order {
    let detection_id = DetectionId::from_uuid(Uuid::new_v4());
    let origin = Origin::Rule { rule_id: RuleId::new("1"), detection_id, mode };
    Order { origin, ..command(action) }
}

pub(crate) fn target(pid: u32) -> ProcessTarget {
    let exe = format!("/proc/{pid}/exe");
    ProcessTarget {
        entity_id: ProcessEntityId::new(boot(), pid, ProcClock.start_ns(pid).unwrap_or(1)),
        executable: std::fs::read_link(&exe).ok().map(|path| path.display().to_string()),
        image: std::fs::metadata(&exe).ok().map(|file| (file.dev(), file.ino())),
    }
}

/// A child that is ended with the test, whatever becomes of it.
pub(crate) struct Owned(pub(crate) Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let began = Instant::now();
    while !reached() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited 60 s for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How many rounds a race is run: thousands only when asked for.
pub(crate) fn rounds(normal: usize, long: usize) -> usize {
    if std::env::var_os("RAMPART_LONG_TESTS").is_some() { long } else { normal }
}
