//! The queue: append at the end, acknowledge at the front, recover at the start.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::{Arc, MutexGuard};

use os_files::{DirBuilderExt as _, FileExt as _, Folder, OpenOptionsExt as _};

use crate::SpoolError;
use crate::codec::{BatchHeader, MAX_NOTE, MAX_PAYLOAD, StoredHeader, encode};
use crate::disk::Disk;
use crate::reader::Reader;
use crate::segment::{Found, body, id_of, look, path_of};
use crate::state::{LastBatch, Loss, LossReason, State, Telling, sync_dir};
use crate::syncer::Syncer;
use crate::tally::Tally;

/// At most half of the limit, or so much in a small spool, may wait to be deleted.
const MAX_RETIRED: u64 = 64 << 20;

/// Limits of a spool.
#[derive(Debug, Clone, Copy)]
pub struct SpoolOptions {
    /// All segments together, in bytes. Past it the oldest segment is given up.
    pub max_bytes: u64,
    /// A segment is closed when the next batch would make it larger. Made smaller
    /// where `max_bytes` is: giving up costs a quarter of the spool at most.
    pub segment_bytes: u64,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self { max_bytes: 512 << 20, segment_bytes: 8 << 20 }
    }
}

/// What opening found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of an unfinished append that were cut off. They were never confirmed to anyone.
    pub torn_bytes: u64,
    /// Bytes behind the last readable batch that can't be read: batches that were
    /// confirmed may have stood there, with numbers that nothing tells any more.
    pub unreadable_tail_bytes: u64,
}

pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) file: Arc<File>,
    pub(crate) len: u64,
    /// A failed write left bytes behind `len` that could not be cut: nothing may follow them.
    closed: bool,
}

pub(crate) struct Inner {
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) state: State,
    next_id: u64,
    /// Acknowledged or given up, but not deleted yet: number and length.
    pub(crate) retired: Vec<(u64, u64)>,
    /// The state on disk is behind, and someone waits for it.
    pub(crate) unstored: bool,
}

/// A bounded, crash-safe queue of sealed batches in a directory.
pub struct Spool {
    disk: Arc<Disk>,
    folder: Arc<Folder>,
    max_bytes: u64,
    segment_bytes: u64,
    syncer: Syncer,
    _lock: File,
}

impl Spool {
    /// Opens the spool in `dir` (made with mode 0700 if missing), and recovers what is there.
    ///
    /// # Errors
    /// [`SpoolError::Locked`] if another process has it, [`SpoolError::Io`] if the system refuses.
    /// Damage in files is no error: see [`losses`](Self::losses).
    pub fn open(dir: &Path, options: SpoolOptions) -> Result<(Self, Recovery), SpoolError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(SpoolError::io("making", dir))?;
        let lock_path = dir.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        let lock = lock.map_err(SpoolError::io("opening", &lock_path))?;
        lock.try_lock().map_err(|_| SpoolError::Locked { path: dir.to_owned() })?;
        let folder = Arc::new(Folder::open(dir).map_err(SpoolError::io("opening", dir))?);
        let (inner, recovery) = recover(dir)?;
        let disk = Arc::new(Disk::new(dir.to_owned(), inner));
        // What is done with, and damage that was found. Where the disk is full it is tried again later.
        disk.tidy();
        let syncer =
            Syncer::start(disk.clone()).map_err(SpoolError::io("starting the sync thread for", dir))?;
        let spool = Self {
            disk,
            folder,
            max_bytes: options.max_bytes,
            segment_bytes: options.segment_bytes.min(options.max_bytes / 4),
            syncer,
            _lock: lock,
        };
        Ok((spool, recovery))
    }

    /// Appends a batch. It survives the end of this process when this returns.
    /// `note` comes back with [`last`](Self::last).
    ///
    /// At the size limit the oldest segments are given up and stand in [`losses`](Self::losses).
    /// Their files go a moment later, from another thread: this one never waits for the
    /// disk to sync. (A kill -9 in between brings what was given up back.)
    ///
    /// `told` are the losses that this batch tells of; they are forgotten with it, also
    /// in a crash.
    ///
    /// # Errors
    /// [`SpoolError::Io`], for example with no space left: nothing of the batch stays,
    /// and the next append may succeed. [`SpoolError::TooLarge`] if it can never fit.
    pub fn append(
        &self,
        header: &BatchHeader,
        note: &[u8],
        payload: &[u8],
        told: Option<&Telling>,
    ) -> Result<(), SpoolError> {
        for (part, limit) in [(payload, MAX_PAYLOAD), (note, MAX_NOTE)] {
            if part.len() > limit {
                return Err(SpoolError::TooLarge { bytes: part.len() as u64, limit: limit as u64 });
            }
        }
        let mut inner = self.lock();
        let before = inner.before(header);
        let told = told.map_or_else(|| inner.state.told(), |telling| telling.told);
        let bytes = encode(header, &before, told, note, payload);
        let size = bytes.len() as u64;
        if size > self.max_bytes {
            return Err(SpoolError::TooLarge { bytes: size, limit: self.max_bytes });
        }
        let full = inner.bytes() + size > self.max_bytes;
        if full && inner.retired_bytes() > (self.max_bytes / 2).max(MAX_RETIRED) {
            let source = io::ErrorKind::StorageFull.into();
            return Err(SpoolError::io("waiting for old segments to be deleted from", &self.disk.dir)(
                source,
            ));
        }
        while inner.bytes() + size > self.max_bytes && inner.give_up_oldest() {}
        if !inner.retired.is_empty() {
            self.syncer.tidy();
        }
        let full = inner
            .segments
            .back()
            .is_none_or(|last| last.closed || (last.len > 0 && last.len + size > self.segment_bytes));
        if full {
            self.add_segment(&mut inner)?;
        }
        let Some(active) = inner.segments.back_mut() else { return Ok(()) };
        let path = path_of(&self.disk.dir, active.id);
        if let Err(error) = active.file.write_all_at(&bytes, active.len) {
            active.closed = active.file.set_len(active.len).is_err();
            return Err(SpoolError::io("appending to", path)(error));
        }
        let place = (active.id, active.len);
        active.len += size;
        self.syncer.soon(&active.file);
        let mut through = before;
        through.add_all(&header.counts);
        inner.state.last =
            Some(LastBatch { header: header.clone(), note: note.to_vec(), place, through, told });
        if inner.state.losses.first().is_some_and(|first| first.number <= told.loss) {
            inner.state.forget_told(told);
            inner.unstored = true;
            drop(inner);
            self.syncer.tidy();
        }
        Ok(())
    }

    /// The last batch that was appended, also after it was acknowledged and deleted.
    pub fn last(&self) -> Option<LastBatch> {
        self.lock().state.last.clone()
    }

    /// A reader that starts at the first batch that is not acknowledged.
    pub fn reader(self: &Arc<Self>) -> Reader {
        Reader::new(Arc::clone(self), self.lock().state.cursor)
    }

    /// Acknowledges every batch up to the one that ends with `last_sequence` of that boot.
    /// Batches of another boot in front of it are not passed: they come first.
    ///
    /// # Errors
    /// [`SpoolError::Io`]: the segments stay and are deleted at a later call.
    pub fn ack(&self, boot_id: [u8; 16], last_sequence: u64) -> Result<(), SpoolError> {
        let mut inner = self.lock();
        inner
            .advance(|stored| {
                stored.header.boot_id == boot_id && stored.header.last_sequence() <= last_sequence
            })
            .map_err(SpoolError::io("reading", &self.disk.dir))?;
        inner.retire_acknowledged(self.segment_bytes / 8);
        let retired = !inner.retired.is_empty();
        drop(inner);
        if retired { self.disk.delete_retired() } else { Ok(()) }
    }

    /// The server will never take the oldest batch, whose header this is, for that reason: it
    /// becomes a loss, and is not sent again. Both or neither survive a crash.
    ///
    /// # Errors
    /// [`SpoolError::Io`] if a segment can't be read.
    pub fn refuse(&self, refused: &BatchHeader, reason: LossReason) -> Result<(), SpoolError> {
        self.give_up(refused, reason, None)
    }

    /// The same for a batch whose numbers the server took others by, all of them up to `through`.
    ///
    /// # Errors
    /// As [`refuse`](Self::refuse).
    pub fn refuse_taken(&self, refused: &BatchHeader, through: u64) -> Result<(), SpoolError> {
        self.give_up(refused, LossReason::NumbersTaken, Some(through))
    }

    fn give_up(
        &self,
        refused: &BatchHeader,
        reason: LossReason,
        taken_through: Option<u64>,
    ) -> Result<(), SpoolError> {
        let mut inner = self.lock();
        let mut given_up = None;
        inner
            .advance(|stored| {
                let is_it = stored.header == *refused && given_up.is_none();
                if is_it {
                    given_up = Some(Loss { taken_through, ..Loss::of_batch(reason, stored, None) });
                }
                is_it
            })
            .map_err(SpoolError::io("reading", &self.disk.dir))?;
        if let Some(loss) = given_up {
            inner.state.add_loss(loss);
        }
        Ok(())
    }

    /// What was given up and not yet told.
    pub fn losses(&self) -> Vec<Loss> {
        self.lock().state.losses.clone()
    }

    /// The losses that the next batch is to tell of. It goes to [`append`](Self::append) with that batch.
    pub fn telling(&self) -> Telling {
        self.lock().state.telling()
    }

    /// Size of all segments in bytes.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    /// True if every batch is acknowledged.
    pub fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.segments.back().is_none_or(|last| inner.state.cursor >= (last.id, last.len))
    }

    /// Makes everything durable now: batches, cursor, last header. For a clean stop.
    ///
    /// # Errors
    /// [`SpoolError::Io`] if the state could not be written.
    pub fn sync(&self) -> Result<(), SpoolError> {
        self.syncer.now();
        self.disk.store_state()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.disk.lock()
    }

    fn add_segment(&self, inner: &mut Inner) -> Result<(), SpoolError> {
        let id = inner.next_id;
        let path = path_of(&self.disk.dir, id);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = Arc::new(file.map_err(SpoolError::io("making", path))?);
        self.syncer.folder_soon(&self.folder);
        inner.next_id += 1;
        inner.segments.push_back(Segment { id, file, len: 0, closed: false });
        Ok(())
    }
}

impl Inner {
    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// What the boot of this batch has put in so far.
    fn before(&self, header: &BatchHeader) -> Tally {
        let last = self.state.last.as_ref().filter(|last| last.header.boot_id == header.boot_id);
        last.map(|last| last.through.clone()).unwrap_or_default()
    }

    fn retired_bytes(&self) -> u64 {
        self.retired.iter().map(|(_, len)| len).sum()
    }

    /// Moves the cursor over batches for which `pass` holds, and over damage in front of them.
    fn advance(&mut self, mut pass: impl FnMut(&StoredHeader) -> bool) -> io::Result<()> {
        for segment in &self.segments {
            if segment.id < self.state.cursor.0 {
                continue;
            }
            let mut offset = if segment.id == self.state.cursor.0 { self.state.cursor.1 } else { 0 };
            loop {
                match look(&segment.file, offset, segment.len)? {
                    Found::Batch(stored) if pass(&stored) => {
                        offset += stored.total_len();
                        self.state.cursor = (segment.id, offset);
                    }
                    // Its loss is told by itself; it keeps nothing behind it from being passed.
                    Found::Batch(stored) if self.state.knows_damage((segment.id, offset)) => {
                        offset += stored.total_len();
                    }
                    Found::Batch(_) => return Ok(()),
                    Found::Damage { next } => offset = next,
                    Found::Torn(_) | Found::TornHeader | Found::End => break,
                }
            }
        }
        Ok(())
    }

    /// Takes fully acknowledged segments out of the queue; the last one only once it has some size.
    fn retire_acknowledged(&mut self, keep_below: u64) {
        while let Some(first) = self.segments.front() {
            let passed = self.state.cursor.0 > first.id || self.state.cursor >= (first.id, first.len);
            let is_last = self.segments.len() == 1;
            if !passed || (is_last && first.len < keep_below.max(1)) {
                return;
            }
            self.retired.push((first.id, first.len));
            self.segments.pop_front();
        }
    }

    /// Gives up the oldest segment; false if there is none.
    fn give_up_oldest(&mut self) -> bool {
        let Some(oldest) = self.segments.pop_front() else { return false };
        let from = if oldest.id == self.state.cursor.0 { self.state.cursor.1 } else { 0 };
        if self.state.cursor.0 <= oldest.id {
            for loss in unacknowledged(&oldest, from) {
                self.state.add_loss(loss);
            }
            self.state.cursor = (oldest.id + 1, 0);
        }
        self.retired.push((oldest.id, oldest.len));
        self.unstored = true;
        true
    }
}

/// The batches of a segment from `offset` on, as losses.
fn unacknowledged(segment: &Segment, mut offset: u64) -> Vec<Loss> {
    let mut losses: Vec<Loss> = Vec::new();
    loop {
        match look(&segment.file, offset, segment.len) {
            Ok(Found::Batch(stored)) => {
                offset += stored.total_len();
                losses.push(Loss::of_batch(LossReason::Full, &stored, None));
            }
            // Damage has its own loss, made when it was first seen.
            Ok(Found::Damage { next }) => offset = next,
            Ok(Found::Torn(_) | Found::TornHeader | Found::End) => return losses,
            Err(error) => {
                tracing::warn!(%error, segment = segment.id, "spool segment can't be read, its batches are lost");
                let place = (segment.id, offset);
                losses.push(Loss { reason: LossReason::Full, ..Loss::between(None, None, place) });
                return losses;
            }
        }
    }
}

/// Reads what is on disk.
fn recover(dir: &Path) -> Result<(Inner, Recovery), SpoolError> {
    let mut state = State::load(dir);
    let known_before = state.latest_loss;
    let mut ids: Vec<u64> = fs::read_dir(dir)
        .map_err(SpoolError::io("listing", dir))?
        .filter_map(|entry| id_of(entry.ok()?.file_name().to_str()?))
        .collect();
    ids.sort_unstable();
    settle_told(dir, &ids, &mut state)?;
    let (old, ids): (Vec<u64>, Vec<u64>) = ids.into_iter().partition(|id| *id < state.cursor.0);
    let newest = ids.last().copied().into_iter().chain(state.last.as_ref().map(|last| last.place.0));
    let next_id = newest.max().map_or(1, |id| id + 1).max(state.cursor.0);
    let mut recovery = Recovery::default();
    let mut segments: VecDeque<Segment> = VecDeque::new();
    let mut previous: Option<StoredHeader> = None;
    let mut missing: Option<(u64, u64)> = None;
    for &id in &ids {
        let before = segments.back().map(|segment| segment.id);
        if before.is_some_and(|before| before + 1 < id) {
            missing = Some((id - 1, 0));
        }
        let path = path_of(dir, id);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = Arc::new(file.map_err(SpoolError::io("opening", &path))?);
        let len = file.metadata().map_err(SpoolError::io("reading", &path))?.len();
        let is_last = Some(&id) == ids.last();
        let mut segment = Segment { id, file, len, closed: false };
        let scanned = scan(&mut segment, is_last, &mut state, &mut previous, &mut missing, &mut recovery);
        scanned.map_err(SpoolError::io("reading", &path))?;
        // After a power cut a segment can be shorter than the state remembers. What
        // is appended must not land where it would look acknowledged.
        let end = (id, segment.len);
        if state.cursor.0 == id && state.cursor > end {
            state.cursor = end;
            segment.closed = true;
        }
        segment.closed |= state.last.as_ref().is_some_and(|last| last.place.0 == id && last.place >= end);
        segments.push_back(segment);
    }
    if state.cursor.0 == 0 {
        state.cursor = (ids.first().copied().unwrap_or(next_id), 0);
    }
    sync_dir(dir)?;
    let retired = old.into_iter().map(|id| (id, 0)).collect();
    let unstored = state.latest_loss != known_before;
    Ok((Inner { segments, state, next_id, retired, unstored }, recovery))
}

/// A batch that tells of losses may be on disk while the state that forgets them is not.
fn settle_told(dir: &Path, ids: &[u64], state: &mut State) -> Result<(), SpoolError> {
    state.stored_loss = state.latest_loss;
    let from = state.last.as_ref().map_or(0, |last| last.place.0);
    for &id in ids.iter().filter(|id| **id >= from) {
        let path = path_of(dir, id);
        let file = File::open(&path).map_err(SpoolError::io("opening", &path))?;
        let len = file.metadata().map_err(SpoolError::io("reading", &path))?.len();
        let mut offset = 0;
        loop {
            match look(&file, offset, len).map_err(SpoolError::io("reading", &path))? {
                Found::Batch(stored) => {
                    offset += stored.total_len();
                    state.forget_told(stored.told);
                }
                Found::Damage { next } => offset = next,
                Found::Torn(_) | Found::TornHeader | Found::End => break,
            }
        }
    }
    Ok(())
}

/// Walks one segment, notes damage and the last header, and cuts a torn tail.
fn scan(
    segment: &mut Segment,
    is_last: bool,
    state: &mut State,
    previous: &mut Option<StoredHeader>,
    missing: &mut Option<(u64, u64)>,
    recovery: &mut Recovery,
) -> io::Result<()> {
    let mut offset = 0;
    loop {
        let place = (segment.id, offset);
        match look(&segment.file, offset, segment.len)? {
            Found::Batch(stored) => {
                if let Some(place) = missing.take() {
                    state.add_loss(Loss::between(previous.as_ref(), Some(&stored), place));
                }
                // Older segments are checked when they are read for sending.
                let read =
                    if is_last { body(&segment.file, offset, &stored)? } else { Some(Default::default()) };
                let acknowledged = place < state.cursor;
                if read.is_none() && !acknowledged {
                    state.add_loss(Loss::of_batch(LossReason::Corrupt, &stored, Some(place)));
                }
                if state.last.as_ref().is_none_or(|last| last.place < place) {
                    let (note, _) = read.unwrap_or_default();
                    let (header, told) = (stored.header.clone(), stored.told);
                    let through = stored.through().unwrap_or_default();
                    state.last = Some(LastBatch { header, note, place, through, told });
                }
                offset += stored.total_len();
                *previous = Some(stored);
            }
            Found::Damage { next } => {
                if next == segment.len && is_last {
                    recovery.unreadable_tail_bytes = segment.len - offset;
                }
                // The number of records shows only at the next header.
                if missing.is_none() && place >= state.cursor {
                    *missing = Some(place);
                }
                offset = next;
            }
            Found::Torn(_) | Found::TornHeader if is_last => {
                recovery.torn_bytes = segment.len - offset;
                segment.file.set_len(offset)?;
                segment.len = offset;
            }
            Found::Torn(stored) => {
                state.add_loss(Loss::of_batch(LossReason::Corrupt, &stored, Some(place)));
                *previous = Some(stored);
                break;
            }
            Found::TornHeader | Found::End => break,
        }
    }
    if is_last && let Some(place) = missing.take() {
        state.add_loss(Loss::between(previous.as_ref(), None, place));
    }
    Ok(())
}
