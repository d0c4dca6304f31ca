//! What the spool remembers beside the segments: cursor, last header, losses.
//!
//! Two copies, each with a checksum. The new one is written beside them, synced,
//! and renamed into place after the old one was renamed to `state.previous`, so
//! one of the two can be read after a crash at any moment.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::SpoolError;
use crate::codec::BatchHeader;

/// At most so many damaged places are remembered; more means that the disk is gone.
const MAX_REMEMBERED: usize = 4_096;

/// Why batches were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossReason {
    /// The size limit was reached.
    Full,
    /// The bytes on disk are damaged.
    Corrupt,
}

/// Batches that were given up before they were acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Why.
    pub reason: LossReason,
    /// The boot whose records are lost; `None` where nothing readable tells it.
    pub boot_id: Option<[u8; 16]>,
    /// First and last lost number, where they are known.
    pub sequences: Option<(u64, u64)>,
    /// How many records are lost, where it is known.
    pub records: Option<u64>,
    /// Time of the earliest and the latest of them (see [`BatchHeader::span`]), where it is known.
    pub span: Option<(i64, i64)>,
    /// Segment and offset of the damage: the same damage is one loss, however often it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<(u64, u64)>,
}

impl Loss {
    /// Takes in a loss by the size limit that goes on where this one ends.
    fn absorb(&mut self, next: &Self) -> bool {
        let both_full = self.reason == LossReason::Full && next.reason == LossReason::Full;
        let (Some((from, end)), Some((start, to))) = (self.sequences, next.sequences) else { return false };
        if !both_full || self.boot_id != next.boot_id || end.checked_add(1) != Some(start) {
            return false;
        }
        self.sequences = Some((from, to));
        self.records = self.records.zip(next.records).map(|(a, b)| a + b);
        self.span = self.span.zip(next.span).map(|(a, b)| (a.0.min(b.0), a.1.max(b.1)));
        true
    }
}

/// The last batch that was appended; what an agent needs to go on where it stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBatch {
    /// Its header.
    pub header: BatchHeader,
    /// What the writer noted beside it.
    pub note: Vec<u8>,
    pub(crate) place: (u64, u64),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Segment and offset of the first batch that is not acknowledged.
    pub(crate) cursor: (u64, u64),
    /// The last batch that was appended, as of the last write of this file.
    pub(crate) last: Option<LastBatch>,
    /// Losses that the caller has not reported yet.
    pub(crate) losses: Vec<Loss>,
    /// Damaged places that have been reported.
    pub(crate) known_damage: Vec<(u64, u64)>,
}

impl State {
    /// Adds a loss, unless its place is known.
    pub(crate) fn add_loss(&mut self, loss: Loss) {
        let known = loss.place.is_some_and(|place| {
            self.known_damage.contains(&place) || self.losses.iter().any(|other| other.place == Some(place))
        });
        if known || self.losses.last_mut().is_some_and(|last| last.absorb(&loss)) {
            return;
        }
        if self.losses.len() < MAX_REMEMBERED {
            self.losses.push(loss);
        } else {
            tracing::warn!(
                ?loss,
                "too many separate losses in the spool, this one gets no record of its own"
            );
        }
    }

    /// Forgets losses that have been reported, and remembers their places while the segment lives.
    pub(crate) fn reported(&mut self, losses: &[Loss]) {
        self.losses.retain(|loss| !losses.contains(loss));
        self.known_damage.extend(losses.iter().filter_map(|loss| loss.place));
        let cursor = self.cursor;
        self.known_damage.retain(|place| place.0 >= cursor.0);
        self.known_damage.truncate(MAX_REMEMBERED);
    }

    /// From disk; the default if there is none that can be read.
    pub(crate) fn load(dir: &Path) -> Self {
        ["state", "state.previous"].iter().find_map(|name| read(&dir.join(name))).unwrap_or_default()
    }

    /// To disk; durable when this returns.
    pub(crate) fn store(&self, dir: &Path) -> Result<(), SpoolError> {
        self.try_store(dir).or_else(|_| {
            // On a full disk the second copy is the one thing that may go, so that
            // acknowledged segments can be deleted and space comes back.
            let _ = fs::remove_file(dir.join("state.previous"));
            self.try_store(dir)
        })
    }

    fn try_store(&self, dir: &Path) -> Result<(), SpoolError> {
        let [new, current, previous] = ["state.new", "state", "state.previous"].map(|name| dir.join(name));
        let json = serde_json::to_string(self)
            .map_err(io::Error::from)
            .map_err(SpoolError::io("encoding", &current))?;
        let text = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        written.map_err(SpoolError::io("writing", &new))?;
        match fs::rename(&current, &previous) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SpoolError::io("renaming", &current)(error));
            }
            _ => {}
        }
        fs::rename(&new, &current).map_err(SpoolError::io("renaming", &new))?;
        sync_dir(dir)
    }
}

fn read(path: &Path) -> Option<State> {
    let mut text = String::new();
    File::open(path).and_then(|mut file| file.read_to_string(&mut text)).ok()?;
    let (crc, json) = text.strip_suffix('\n')?.split_once(' ')?;
    if u32::from_str_radix(crc, 16) != Ok(crc32fast::hash(json.as_bytes())) {
        tracing::warn!(path = %path.display(), "spool state is damaged, its other copy is tried");
        return None;
    }
    serde_json::from_str(json).ok()
}

/// Makes new names and deletions in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), SpoolError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(SpoolError::io("syncing", dir))
}
