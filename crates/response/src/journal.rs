//! What was begun and what became of it, on disk: at most once, also after a crash.
//!
//! One file for each order. It is written and synced before anything is done, so
//! that after a crash it is known what may have happened, and how to undo it.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use event_model::Timestamp;
use os_files::{DirBuilderExt as _, Folder, OpenCautiously as _, OpenOptionsExt as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::action::Action;
use crate::order::{Order, Receipt};

/// Entries that are kept. Older ones go, except those that can still come again.
const MOST_ENTRIES: usize = 10_000;

/// A larger file is not ours. A list of processes is the largest result.
const MOST_BYTES: u64 = 16 << 20;

/// One order and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) order: Order,
    pub(crate) plan: Vec<String>,
    pub(crate) undo: Option<Action>,
    /// `None`: begun, and no more is known.
    pub(crate) receipt: Option<Receipt>,
}

/// The journal of one host.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    /// Expiry of each order that is known, and whether it came to its end.
    known: HashMap<Uuid, (Timestamp, bool)>,
}

impl Journal {
    /// Opens it, and gives what was begun and did not come to its end. A file that can't be
    /// read is told of in `notes` and left where it is.
    pub(crate) fn open(dir: &Path, notes: &mut Vec<String>) -> io::Result<(Self, Vec<Entry>)> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut known = HashMap::new();
        let mut open = Vec::new();
        for file in fs::read_dir(dir)? {
            let path = file?.path();
            let id = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")?.parse().ok());
            let Some(id) = id else { continue };
            match read(&path) {
                Ok(entry) => {
                    known.insert(id, (entry.order.expires_at, entry.receipt.is_some()));
                    if entry.receipt.is_none() {
                        open.push(entry);
                    }
                }
                Err(error) => {
                    // It may have been acted on: it must not be acted on again.
                    known.insert(id, (Timestamp::from_nanos(i64::MAX), true));
                    notes.push(format!("response journal {}: {error}; it is left out", path.display()));
                }
            }
        }
        Ok((Self { dir: dir.to_owned(), known }, open))
    }

    /// What became of that order; `None` if it never came here.
    pub(crate) fn find(&self, id: Uuid) -> Option<io::Result<Entry>> {
        self.known.contains_key(&id).then(|| read(&self.path(id)))
    }

    /// Writes an entry, whole and synced.
    pub(crate) fn write(&mut self, entry: &Entry) -> io::Result<()> {
        write_whole(&self.path(entry.order.id), &serde_json::to_vec(entry)?)?;
        self.known.insert(entry.order.id, (entry.order.expires_at, entry.receipt.is_some()));
        Ok(())
    }

    /// Forgets the oldest of too many that ended and can't come again, since they have expired.
    pub(crate) fn prune(&mut self, now: Timestamp) {
        if self.known.len() <= MOST_ENTRIES {
            return;
        }
        let mut over: Vec<(Timestamp, Uuid)> = self
            .known
            .iter()
            .filter(|(_, (expires_at, ended))| *ended && *expires_at < now)
            .map(|(id, (expires_at, _))| (*expires_at, *id))
            .collect();
        over.sort_unstable();
        for (_, id) in over.into_iter().take(self.known.len() - MOST_ENTRIES) {
            if fs::remove_file(self.path(id)).is_ok() {
                self.known.remove(&id);
            }
        }
    }

    fn path(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

fn read(path: &Path) -> io::Result<Entry> {
    let mut text = Vec::new();
    let file = OpenOptions::new().read(true).cautiously().open(path)?;
    file.take(MOST_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Writes beside the file, syncs, renames into place and syncs the folder; mode 0600.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).cautiously().open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), |dir| Folder::open(dir)?.sync_all())
}
