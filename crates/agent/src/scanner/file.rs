//! Scanning one file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use file_scan::{
    ContentFacts, ContentUnread, FileIdentity, FileKind, FileType, LastSymlink, RegularFile, ScanLimits,
    ScanSubject, YaraScan,
};
use sensor_api::Actor;

use super::{Found, Job};
use crate::image_facts::{REMOTE, as_event_carries, identity, may_not_answer};
use crate::indicator_book::ActiveIndicators;
use crate::system::observing::RemoteMounts;
use crate::system::paths::{image_of, is_executable};
use crate::yara_book::ActiveYara;

/// Larger files are not scanned.
pub const MAX_SCANNED_BYTES: u64 = 32 << 20;

/// A scan is given up after this.
const TIMEOUT: Duration = Duration::from_secs(5);

/// First bytes by which a written file is known to be of interest.
const HEAD_BYTES: usize = 4_096;

/// How long what is known of mounts counts.
const MOUNTS_FOR: Duration = Duration::from_secs(10);

/// What interpreters run, by its name alone: such files often have no `#!` line.
const SCRIPT_EXTENSIONS: [&str; 18] = [
    "sh", "bash", "zsh", "ksh", "py", "pyc", "pl", "rb", "php", "phtml", "js", "mjs", "lua", "jsp", "jar",
    "ps1", "vbs", "so",
];

/// What became of a file.
pub(super) enum Scanned {
    /// It was scanned to the end.
    Complete(Option<Arc<Found>>),
    /// Something may have been missed, for this reason.
    Incomplete(&'static str, Option<Arc<Found>>),
    /// Neither executable nor a script nor in a watched directory.
    OfNoInterest,
    /// Larger than [`MAX_SCANNED_BYTES`].
    TooLarge,
    /// It can't be read, for this reason.
    Unreadable(&'static str),
}

/// What scans files.
pub(super) struct Scanning {
    watched: Vec<PathBuf>,
    mounts: (Instant, RemoteMounts),
    limits: ScanLimits,
}

impl Scanning {
    pub(super) fn new(watched: Vec<PathBuf>) -> Self {
        let limits = ScanLimits { max_bytes: MAX_SCANNED_BYTES, timeout: TIMEOUT, ..ScanLimits::default() };
        Self { watched, mounts: (Instant::now(), RemoteMounts::read()), limits }
    }

    pub(super) fn scan(&mut self, job: &Job, yara: &ActiveYara, indicators: &ActiveIndicators) -> Scanned {
        let file = match self.open(job) {
            Ok(file) => file,
            Err(reason) => return Scanned::Unreadable(reason),
        };
        let path = Path::new(&job.path);
        let mut head = vec![0; HEAD_BYTES];
        let read = file.read_at(&mut head, 0).unwrap_or(0);
        let file_type = FileType::of(&head[..read]);
        if job.image.is_none() && !self.is_of_interest(path, file_type.kind) {
            return Scanned::OfNoInterest;
        }
        let bytes = match file.read_all(self.limits.max_bytes) {
            Ok(bytes) => bytes,
            Err(ContentUnread::TooLarge) => return Scanned::TooLarge,
            Err(reason) => return Scanned::Unreadable(reason.as_str()),
        };
        let subject =
            ScanSubject { path: Some(path), file_type: file_type.kind.as_str(), ..ScanSubject::default() };
        let YaraScan { matches, incomplete } = match &yara.rules {
            Some(rules) => rules.scan_bytes(&bytes, subject, &self.limits),
            None => YaraScan::default(),
        };
        let incomplete = incomplete.map(|reason| reason.as_str());
        // The hash of an image is looked up with its start.
        let looks_up = job.image.is_none() && indicators.has_hashes();
        let mut found = None;
        if looks_up || !matches.is_empty() {
            let facts = ContentFacts::of(&bytes);
            let is_known = looks_up && indicators.knows_hash(&facts.md5, &facts.sha1, &facts.sha256);
            if is_known || !matches.is_empty() {
                found = Some(Arc::new(Found { facts: as_event_carries(facts), matches, incomplete }));
            }
        }
        match incomplete {
            None => Scanned::Complete(found),
            Some(reason) => Scanned::Incomplete(reason, found),
        }
    }

    fn open(&mut self, job: &Job) -> Result<RegularFile, &'static str> {
        let path = Path::new(&job.path);
        let Some(image) = &job.image else {
            self.refuse_remote(path)?;
            return RegularFile::open(path, LastSymlink::Refuse).map_err(ContentUnread::as_str);
        };
        // By now another file may have that path; what the kernel ran is known by its identity.
        let wanted: FileIdentity = identity(image);
        let pid = match job.actor {
            Some(Actor::Life(key)) => key.pid,
            _ => 0,
        };
        if may_not_answer(pid, &job.path, image) {
            return Err(REMOTE);
        }
        let link = image_of(pid);
        if let Ok(file) = RegularFile::open(Path::new(&link), LastSymlink::Follow)
            && file.identity() == wanted
        {
            return Ok(file);
        }
        self.refuse_remote(path)?;
        let file = RegularFile::open(path, LastSymlink::Refuse).map_err(ContentUnread::as_str)?;
        if file.identity() == wanted { Ok(file) } else { Err(ContentUnread::Changed.as_str()) }
    }

    /// A dead network mount, or a file system of an attacker's own, may not answer for ever.
    fn refuse_remote(&mut self, path: &Path) -> Result<(), &'static str> {
        if self.mounts.0.elapsed() >= MOUNTS_FOR {
            self.mounts = (Instant::now(), RemoteMounts::read());
        }
        if self.mounts.1.hold(path.as_os_str().as_encoded_bytes()) { Err(REMOTE) } else { Ok(()) }
    }

    fn is_of_interest(&self, path: &Path, kind: FileKind) -> bool {
        let is_script =
            |end: &std::ffi::OsStr| SCRIPT_EXTENSIONS.iter().any(|one| end.eq_ignore_ascii_case(one));
        use FileKind::{Elf, JavaClass, MachO, Mz, Pe, Script};
        matches!(kind, Elf | Pe | Mz | MachO | JavaClass | Script)
            || path.extension().is_some_and(is_script)
            || self.watched.iter().any(|dir| path.starts_with(dir))
            || is_executable(path)
    }
}
