//! The anomaly detector of this host, and where it keeps what it learnt.
//!
//! The file is `anomaly.bin` in the state directory: a line that says what it is, the SHA-256 of what follows, and the
//! detector's own bytes. A file that is damaged is set aside and told of, and learning begins anew. It is written
//! every ten minutes by a thread of its own, as the pipeline waits for no disk, and at the end.

use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event_model::FieldSource;
use protocol::enrollment::sha256;
use rule_engine::{AnomalyCounters, AnomalyDetector, AnomalyFinding, AnomalyOptions, AnomalyStateError};

use crate::state_file;

const FILE: &str = "anomaly.bin";
const MAGIC: &[u8] = b"rampart anomaly 1\n";
const HASH_BYTES: usize = 32;
/// A detector's state is under a mebibyte.
const MOST_BYTES: u64 = 4 << 20;
const SAVE_EVERY: Duration = Duration::from_secs(600);

/// Why a kept state is not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it can't be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("it is no state of the anomaly detector, or is damaged: its checksum is wrong")]
    Damaged,
    #[error(transparent)]
    State(#[from] AnomalyStateError),
}

/// A detector with its place on disk.
pub struct Anomalies {
    detector: AnomalyDetector,
    path: Option<PathBuf>,
    saved: Instant,
    writer: Option<JoinHandle<()>>,
}

impl Anomalies {
    /// Goes on from what is kept in that directory; without one, nothing is kept.
    pub fn open(learning: Duration, state_dir: Option<&Path>) -> Self {
        // The keys of the standard library's hash tables are random.
        let seed = RandomState::new().build_hasher().finish();
        let options = AnomalyOptions { learning, seed };
        let path = state_dir.map(|dir| dir.join(FILE));
        let detector = match path.as_deref().map(|path| read(path, options)) {
            Some(Ok(Some(detector))) => detector,
            None | Some(Ok(None)) => AnomalyDetector::new(options),
            Some(Err(error)) => {
                set_aside(path.as_deref(), &error);
                AnomalyDetector::new(options)
            }
        };
        Self { detector, path, saved: Instant::now(), writer: None }
    }

    /// Learns from an event in its final form; what is unusual about it.
    pub fn notice(&mut self, event: &dyn FieldSource) -> Vec<AnomalyFinding> {
        self.detector.observe(event)
    }

    /// What is known and was given up.
    pub fn counters(&self) -> AnomalyCounters {
        self.detector.counters()
    }

    /// Has the state written, where it was not for a while.
    pub fn save_if_due(&mut self) {
        if self.saved.elapsed() < SAVE_EVERY
            || self.writer.as_ref().is_some_and(|writer| !writer.is_finished())
        {
            return;
        }
        self.saved = Instant::now();
        let Some(path) = self.path.clone() else { return };
        let content = sealed(&self.detector);
        let writer = std::thread::Builder::new().name("anomaly-state".into());
        match writer.spawn(move || write(&path, &content)) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => tracing::warn!(%error, "what is usual on this host could not be kept"),
        }
    }

    /// Writes the state at the end.
    pub fn finish(&mut self) {
        // Of two writers the slower one would win.
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::warn!("the thread that keeps what is usual on this host panicked");
        }
        if let Some(path) = &self.path {
            write(path, &sealed(&self.detector));
        }
    }
}

fn sealed(detector: &AnomalyDetector) -> Vec<u8> {
    let state = detector.to_bytes();
    [MAGIC, &sha256(&state), &state].concat()
}

fn write(path: &Path, content: &[u8]) {
    if let Err(error) = state_file::write(path, content) {
        tracing::warn!(%error, path = %path.display(), "what is usual on this host could not be kept");
    }
}

fn read(path: &Path, options: AnomalyOptions) -> Result<Option<AnomalyDetector>, Unusable> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut content = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut content)?;
    let sealed = content.strip_prefix(MAGIC).and_then(|rest| rest.split_at_checked(HASH_BYTES));
    let (hash, state) = sealed.ok_or(Unusable::Damaged)?;
    if sha256(state) != hash {
        return Err(Unusable::Damaged);
    }
    Ok(Some(AnomalyDetector::restore(options, state)?))
}

fn set_aside(path: Option<&Path>, error: &Unusable) {
    let Some(path) = path else { return };
    let aside = path.with_extension("damaged");
    tracing::error!(
        path = %path.display(), %error, aside = %aside.display(),
        "what was learnt of this host is not used; learning begins anew and nothing unusual is told until it is over"
    );
    if let Err(error) = fs::rename(path, &aside) {
        tracing::warn!(%error, "the damaged file could not be set aside and will be written over");
    }
}

#[cfg(test)]
mod tests {
    use event_model::{BootId, EventHeader, EventRecord, EventType, Field, HostId, Timestamp, Value};
    use uuid::Uuid;

    use super::*;

    fn start(minute: i64, program: &str) -> EventRecord {
        let header = EventHeader {
            host_id: HostId::from_uuid(Uuid::from_u128(1)),
            boot_id: BootId::from_uuid(Uuid::from_u128(2)),
            sequence: 1,
            observed_at: Timestamp::from_nanos(minute * 60_000_000_000),
            monotonic_ns: 1,
        };
        let fields = vec![(Field::ProcessExecutable, Value::Text(program.to_owned()))];
        EventRecord::from_fields(header, EventType::ProcessStart, fields)
    }

    #[test]
    fn what_was_learnt_is_kept_and_damage_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Anomalies::open(Duration::from_secs(120), Some(dir.path()));
        let mut first = open();
        for minute in 1..=4 {
            assert_eq!(first.notice(&start(minute, "/bin/known")).len(), 0);
        }
        assert_eq!(first.notice(&start(4, "/bin/new")).len(), 1);
        first.finish();
        let mut second = open();
        assert_eq!(second.counters().learning_minutes_left, 0, "no learning anew");
        assert_eq!(second.notice(&start(5, "/bin/known")).len(), 0);
        assert_eq!(second.notice(&start(5, "/bin/new")).len(), 0);
        assert_eq!(second.notice(&start(5, "/bin/newer")).len(), 1);

        let path = dir.path().join(FILE);
        let mut content = fs::read(&path).unwrap();
        let last = content.len() - 1;
        content[last] ^= 1;
        fs::write(&path, &content).unwrap();
        let mut third = open();
        assert_eq!(third.notice(&start(6, "/bin/newest")).len(), 0, "it learns again");
        assert!(path.with_extension("damaged").exists() && !path.exists());
        third.finish();
        assert_eq!(open().counters().entries, 1, "and is kept again");
    }
}
