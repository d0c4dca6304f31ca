//! Going through the watched directories bit by bit.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::Dir;

use super::tree::{DirId, MOST_NAMES};

/// Of one core, a scan takes this part: a twentieth, as the agent as a whole may.
const SHARE: u32 = 20;

/// Work done before the next rest.
pub(super) const TURN: Duration = Duration::from_millis(5);

/// A scan that is under way.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Directories still to come.
    queue: Vec<DirId>,
    pub(super) current: Option<Current>,
    /// It goes through everything, so that what it finds is a whole baseline.
    pub(super) is_full: bool,
    rest_until: Option<Instant>,
}

/// The directory that is gone through.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) dir: DirId,
    /// `None` where it is gone.
    pub(super) fd: Option<OwnedFd>,
    names: Vec<Vec<u8>>,
}

impl Current {
    /// All names that are there or were.
    pub(super) fn new<'a>(dir: DirId, fd: Option<OwnedFd>, known: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut names: BTreeSet<Vec<u8>> = known.map(<[u8]>::to_vec).collect();
        if let Some(listing) = fd.as_ref().and_then(|fd| Dir::read_from(fd).ok()) {
            for entry in listing.take(MOST_NAMES).map_while(Result::ok) {
                let name = entry.file_name().to_bytes();
                if !matches!(name, b"." | b"..") {
                    names.insert(name.to_vec());
                }
            }
        }
        Self { dir, fd, names: names.into_iter().collect() }
    }

    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        self.names.pop()
    }
}

impl Scan {
    pub(super) fn add(&mut self, dir: DirId) {
        self.queue.push(dir);
    }

    pub(super) fn is_active(&self) -> bool {
        self.current.is_some() || !self.queue.is_empty()
    }

    pub(super) fn next_dir(&mut self) -> Option<DirId> {
        self.queue.pop()
    }

    /// How long still to rest.
    pub(super) fn rest(&self) -> Option<Duration> {
        let rest = self.rest_until?.saturating_duration_since(Instant::now());
        (!rest.is_zero()).then_some(rest)
    }

    /// So much was done; rest in proportion.
    pub(super) fn did(&mut self, work: Duration) {
        self.rest_until = Some(Instant::now() + work * (SHARE - 1));
    }
}
