//! What the services say of logons, from the files of systemd-journald.
//!
//! The files are read as systemd's description of the format has them
//! (<https://systemd.io/JOURNAL_FILE_FORMAT/>): a header, then objects; the entries
//! stand in a chain of arrays, in the order in which they were written, and an
//! entry is entered there only once it is complete. That is all a follower needs,
//! so no `journalctl` has to run beside the agent for good.
//!
//! Only entries of the facilities `auth` (4) and `authpriv` (10) are looked into.

mod file;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use file::JournalFile;

/// More files than that are not followed at once: each user may have one.
const MOST_FILES: usize = 64;

/// Files looked at in one listing.
const MOST_LISTED: usize = 4_096;

/// An entry of interest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Wall-clock nanoseconds since the Unix epoch.
    pub(super) at_ns: i64,
    pub(super) program: String,
    pub(super) message: String,
    pub(super) pid: Option<u32>,
    /// Who wrote it, by the kernel's word.
    pub(super) uid: Option<u32>,
    /// The writer's command name, by the kernel's word.
    pub(super) command_name: Option<String>,
    /// The message was cut, or is packed in a way that can't be read here.
    pub(super) incomplete: Option<&'static str>,
}

/// How far the journal was read; what a restart needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Entries read of each file, by the file's id.
    files: HashMap<String, u64>,
    /// Wall-clock microseconds of the newest entry that was read.
    until_us: u64,
}

/// The journal of this host.
#[derive(Debug)]
pub(super) struct Journal {
    folders: Vec<PathBuf>,
    files: Vec<JournalFile>,
    place: Place,
    /// What is there now is not news.
    first: bool,
    /// Files that are there now may have been read by a run before this one.
    resuming: bool,
}

impl Journal {
    /// Goes on at `place`, or at the present end where there is none.
    pub(super) fn new(root: &Path, place: Option<Place>) -> Self {
        let id = fs::read_to_string(root.join("etc/machine-id")).unwrap_or_default();
        let id = id.trim();
        let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let folders = ["var/log/journal", "run/log/journal"];
        let folders = folders.iter().filter(|_| is_id).map(|folder| root.join(folder).join(id)).collect();
        let (first, resuming) = (place.is_none(), place.is_some());
        Self { folders, files: Vec::new(), place: place.unwrap_or_default(), first, resuming }
    }

    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Looks for files that came and went. To be called every few seconds.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        for folder in self.folders.clone() {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    result = Err(error);
                    continue;
                }
                Ok(entries) => entries,
            };
            for entry in entries.flatten().take(MOST_LISTED) {
                let path = entry.path();
                let is_journal = path.extension().is_some_and(|extension| extension == "journal");
                if is_journal && self.files.len() < MOST_FILES {
                    self.take_up(&path);
                }
            }
        }
        (self.first, self.resuming) = (false, false);
        // Of files that are gone nothing has to be remembered.
        let open: Vec<String> = self.files.iter().map(|file| file.id().to_owned()).collect();
        if self.place.files.len() > 4 * MOST_FILES {
            self.place.files.retain(|id, _| open.contains(id));
        }
        result
    }

    fn take_up(&mut self, path: &Path) {
        // One that can't be read is damaged or of a version that nobody here knows.
        let Ok(mut file) = JournalFile::open(path) else { return };
        if self.files.iter().any(|known| known.id() == file.id()) {
            return;
        }
        let read = match self.place.files.get(file.id()) {
            Some(read) => *read,
            None if self.first => file.entries(),
            // Archives of before.
            None if file.newest_us() <= self.place.until_us => file.entries(),
            None => 0,
        };
        if file.is_archived() && read >= file.entries() {
            return;
        }
        let known = self.place.files.contains_key(file.id());
        file.go_to(read);
        if self.resuming && !known {
            file.skip_until(self.place.until_us);
        }
        self.place.files.insert(file.id().to_owned(), read);
        self.files.push(file);
    }

    /// Hands out what is new; true if there is more right now.
    pub(super) fn read(&mut self, each: &mut dyn FnMut(Entry)) -> bool {
        let mut more = false;
        let place = &mut self.place;
        self.files.retain_mut(|file| {
            match file.read(each) {
                Ok(unread) => more |= unread,
                // Damaged: journald begins a new file then, and this one is not looked at again.
                Err(_) => file.go_to(file.entries()),
            }
            place.files.insert(file.id().to_owned(), file.read_so_far());
            place.until_us = place.until_us.max(file.until_us());
            !(file.is_archived() && file.read_so_far() >= file.entries())
        });
        more
    }
}

#[cfg(test)]
mod tests;
