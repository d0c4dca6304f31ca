//! What the spool remembers beside the segments: cursor, last header, losses.
//!
//! Two copies, each with a checksum. The new one is written beside them, synced,
//! and renamed into place after the old one was renamed to `state.previous`, so
//! one of the two can be read after a crash at any moment.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use os_files::{Folder, OpenOptionsExt as _};
use serde::{Deserialize, Serialize};

use crate::SpoolError;
use crate::codec::{BatchHeader, StoredHeader};
use crate::tally::Tally;

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
    /// The server will never take it.
    Refused,
    /// The server took other records of the same boot by its numbers, from an agent whose spool was lost.
    NumbersTaken,
    /// It is sealed in the name of another host, as which this one was enrolled before.
    OtherHost,
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
    /// What is lost, by kind, where it is known.
    #[serde(default)]
    pub counts: Option<Tally>,
    /// Where the numbers were taken: the server has other records by those up to this one, so that only the ones above
    /// it are missing. Kept here, as who tells of the loss may be a later process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_through: Option<u64>,
    /// Its number; losses are told in the order of their numbers.
    #[serde(default)]
    pub(crate) number: u64,
    /// Segment and offset of the damage: the same damage is one loss, however often it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<(u64, u64)>,
}

impl Loss {
    /// Of a batch whose header can be read.
    pub(crate) fn of_batch(reason: LossReason, stored: &StoredHeader, place: Option<(u64, u64)>) -> Self {
        let header = &stored.header;
        Self {
            reason,
            boot_id: Some(header.boot_id),
            sequences: Some((header.first_sequence, header.last_sequence())),
            records: Some(u64::from(header.record_count)),
            span: Some(header.span),
            counts: stored.counts(),
            taken_through: None,
            number: 0,
            place,
        }
    }

    /// Of whatever stood between two batches: exact if both are of one boot.
    pub(crate) fn between(
        before: Option<&StoredHeader>,
        after: Option<&StoredHeader>,
        place: (u64, u64),
    ) -> Self {
        let boot_id = after.or(before).map(|stored| stored.header.boot_id);
        let of_one_boot = before.zip(after).filter(|(a, b)| a.header.boot_id == b.header.boot_id);
        let sequences = of_one_boot.map(|(before, after)| {
            (before.header.last_sequence() + 1, after.header.first_sequence.saturating_sub(1))
        });
        let counts =
            of_one_boot.and_then(|(before, after)| Some(after.before.as_ref()?.since(&before.through()?)));
        // Numbers that were never spooled may lie between, too, and are told elsewhere.
        let records = counts.as_ref().map(|counts| counts.total().records);
        let records = records.or(sequences.map(|(from, to)| (to + 1).saturating_sub(from)));
        let span = before.zip(after).map(|(before, after)| (before.header.span.1, after.header.span.0));
        let reason = LossReason::Corrupt;
        let (taken_through, number, place) = (None, 0, Some(place));
        Self { reason, boot_id, sequences, records, span, counts, taken_through, number, place }
    }

    /// Takes in a loss that goes on where this one ends, where a whole run of batches is lost for one reason.
    fn absorb(&mut self, next: &Self) -> bool {
        let in_runs =
            matches!(self.reason, LossReason::Full | LossReason::NumbersTaken | LossReason::OtherHost);
        let alike = in_runs && (self.reason, self.taken_through) == (next.reason, next.taken_through);
        let (Some((from, end)), Some((start, to))) = (self.sequences, next.sequences) else { return false };
        if !alike || self.boot_id != next.boot_id || end.checked_add(1) != Some(start) {
            return false;
        }
        self.sequences = Some((from, to));
        self.records = self.records.zip(next.records).map(|(a, b)| a + b);
        self.span = self.span.zip(next.span).map(|(a, b)| (a.0.min(b.0), a.1.max(b.1)));
        self.counts = self.counts.take().zip(next.counts.as_ref()).map(|(mut counts, more)| {
            counts.add_all(more);
            counts
        });
        true
    }
}

/// How much a batch tells of what was lost before it. It stands in its header, so
/// that the telling and the batch survive a crash together or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// The cursor at that time: what lies before it was acknowledged, or stands among
    /// the losses that were told.
    pub(crate) cursor: (u64, u64),
    /// The highest number of a loss that was told.
    pub(crate) loss: u64,
}

/// Losses that the next batch is to tell, see [`Spool::telling`](crate::Spool::telling).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// The losses.
    pub losses: Vec<Loss>,
    pub(crate) told: Told,
}

/// The last batch that was appended; what an agent needs to go on where it stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBatch {
    /// Its header.
    pub header: BatchHeader,
    /// What the writer noted beside it.
    pub note: Vec<u8>,
    pub(crate) place: (u64, u64),
    /// What the boot's batches held, this one included.
    #[serde(default)]
    pub(crate) through: Tally,
    #[serde(default)]
    pub(crate) told: Told,
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
    /// Number of the latest loss.
    #[serde(default)]
    pub(crate) latest_loss: u64,
    /// Losses up to this number are being told: nothing may be added to them any more.
    #[serde(skip)]
    pub(crate) closed_loss: u64,
    /// Losses up to this number are on disk.
    #[serde(skip)]
    pub(crate) stored_loss: u64,
}

impl State {
    /// Adds a loss, unless its place is known.
    pub(crate) fn add_loss(&mut self, loss: Loss) {
        let known = loss.place.is_some_and(|place| self.knows_damage(place));
        let closed = self.closed_loss;
        let open = self.losses.last_mut().filter(|last| last.number > closed);
        if known || open.is_some_and(|last| last.absorb(&loss)) {
            return;
        }
        if self.losses.len() < MAX_REMEMBERED {
            self.latest_loss += 1;
            self.losses.push(Loss { number: self.latest_loss, ..loss });
        } else {
            tracing::warn!(
                ?loss,
                "too many separate losses in the spool, this one gets no record of its own"
            );
        }
    }

    /// Whether a loss was made of the damage at this place.
    pub(crate) fn knows_damage(&self, place: (u64, u64)) -> bool {
        self.known_damage.contains(&place) || self.losses.iter().any(|loss| loss.place == Some(place))
    }

    /// What the last batch told.
    pub(crate) fn told(&self) -> Told {
        self.last.as_ref().map(|last| last.told).unwrap_or_default()
    }

    /// What the next batch is to tell. Damage waits until it is noted on disk, as it
    /// would be found a second time after a crash, and all else waits with it.
    pub(crate) fn telling(&mut self) -> Telling {
        let stored = self.stored_loss;
        if self.losses.iter().any(|loss| loss.place.is_some() && loss.number > stored) {
            return Telling { losses: Vec::new(), told: self.told() };
        }
        self.closed_loss = self.latest_loss;
        Telling { losses: self.losses.clone(), told: Told { cursor: self.cursor, loss: self.latest_loss } }
    }

    /// Forgets losses that have been told, and remembers their places while the segment lives.
    pub(crate) fn forget_told(&mut self, told: Told) {
        let (told_now, untold) = std::mem::take(&mut self.losses)
            .into_iter()
            .partition::<Vec<_>, _>(|loss| loss.number <= told.loss);
        self.losses = untold;
        self.latest_loss = self.latest_loss.max(told.loss);
        self.cursor = self.cursor.max(told.cursor);
        self.known_damage.extend(told_now.iter().filter_map(|loss| loss.place));
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
    Folder::open(dir).and_then(|dir| dir.sync_all()).map_err(SpoolError::io("syncing", dir))
}
