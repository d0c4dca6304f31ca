//! Journals of runs on disk: one file for each run, each entry on disk before what it tells of is done.
//!
//! The first line says what the run is, each other line is an entry. A line that was not written whole
//! is the end of a crash; what it would have told of was not begun.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use event_model::Timestamp;
use playbook::{Alert, Entry};
use serde::{Deserialize, Serialize};

/// Largest journal, in bytes: an alert and some hundred entries.
const JOURNAL_LIMIT: u64 = 32 << 20;

/// How long the journal of a run that ended is kept. Longer than the bus remembers who ran it.
const KEPT: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3_600);

/// Which run: an alert has one of each playbook each time it is told of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    /// Id of the alert.
    pub alert: String,
    /// Id of the playbook.
    pub playbook: String,
    /// Which telling of the alert: 0 for the first.
    pub generation: u32,
}

/// As the bus knows who has it. The first telling reads as it did before there were others.
impl std::fmt::Display for RunKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.alert, self.playbook)?;
        if self.generation > 0 { write!(f, "/{}", self.generation) } else { Ok(()) }
    }
}

/// What a run is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Header {
    /// Its playbook.
    pub playbook: String,
    /// The playbook's text, as a fingerprint.
    pub fingerprint: String,
    /// When it began.
    pub began: Timestamp,
    /// The person who asked for it; empty where the alert began it. What he asked for he does not approve.
    #[serde(default)]
    pub requested_by: String,
    /// The alert.
    pub alert: Alert,
}

impl Header {
    /// Which run it is.
    pub fn key(&self) -> RunKey {
        RunKey {
            alert: self.alert.id.clone(),
            playbook: self.playbook.clone(),
            generation: self.alert.generation,
        }
    }
}

/// The folder of journals.
#[derive(Debug)]
pub struct Journals {
    folder: PathBuf,
    instance: String,
    /// Held as long as this process lives, so that two never write the same journals.
    _lock: File,
}

/// A run's journal, open for writing.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// What the run is.
    pub header: Header,
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// A journal can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system said no.
    #[error("{}: {doing}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was to be done.
        doing: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another responder uses the folder.
    #[error("{}: another edr-responder uses this folder; hint: give each its own -state", .0.display())]
    InUse(PathBuf),
    /// What is in it is none.
    #[error("{}:{line}: not a journal: {reason}; hint: look at it, and move it away", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// Why not.
        reason: String,
    },
}

type Result<T> = std::result::Result<T, JournalError>;

fn io<'p>(path: &'p Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> JournalError + use<'p> {
    move |source| JournalError::Io { path: path.to_owned(), doing, source }
}

impl Journals {
    /// Opens the folder; makes it where it is missing.
    ///
    /// # Errors
    /// [`JournalError`]; [`JournalError::InUse`] while another process has it.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(folder).map_err(io(folder, "can't be made"))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(io(&path, "can't be made"))?;
        lock.try_lock().map_err(|_| JournalError::InUse(folder.to_owned()))?;
        let instance = instance(&folder.join("instance"))?;
        Ok(Self { folder: folder.to_owned(), instance, _lock: lock })
    }

    /// This responder's name among others; it stays over restarts.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    fn path_of(&self, key: &RunKey) -> PathBuf {
        let safe = |text: &str| -> String {
            let is_good = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
            text.chars().take(100).map(|character| if is_good(character) { character } else { '_' }).collect()
        };
        // No id has a `~`: no other playbook's journal has the name of a later telling.
        let generation = if key.generation > 0 { format!("~{}", key.generation) } else { String::new() };
        self.folder.join(format!("{}--{}{generation}.run", safe(&key.alert), safe(&key.playbook)))
    }

    /// Begins a run; `None` if it was begun before.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn begin(&self, header: Header) -> Result<Option<Journal>> {
        let path = self.path_of(&header.key());
        if path.exists() {
            return Ok(None);
        }
        // Whole or not at all: a crash in the middle leaves a file of another name.
        let new = path.with_extension("new");
        let mut file = private(&new, true).map_err(io(&new, "can't be made"))?;
        let line = serde_json::to_string(&header).map_err(|error| JournalError::Damaged {
            path: new.clone(),
            line: 1,
            reason: error.to_string(),
        })?;
        file.write_all(format!("{line}\n").as_bytes()).map_err(io(&new, "can't be written"))?;
        file.sync_all().map_err(io(&new, "can't be written"))?;
        std::fs::rename(&new, &path).map_err(io(&path, "can't be made"))?;
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io(&self.folder, "can't be written"))?;
        Ok(Some(Journal { path, file, header, entries: Vec::new() }))
    }

    /// A run that was begun.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn find(&self, key: &RunKey) -> Result<Option<Journal>> {
        let path = self.path_of(key);
        if path.exists() { Journal::open(path).map(Some) } else { Ok(None) }
    }

    /// Forgets runs that ended long ago: no message of their alerts comes any more. Gives how many.
    ///
    /// # Errors
    /// [`JournalError`] if the folder can't be read.
    pub fn forget_old(&self, now: std::time::SystemTime) -> Result<usize> {
        let mut forgotten = 0;
        for entry in std::fs::read_dir(&self.folder).map_err(io(&self.folder, "can't be read"))? {
            let entry = entry.map_err(io(&self.folder, "can't be read"))?;
            let path = entry.path();
            let changed = entry.metadata().and_then(|file| file.modified());
            let is_old = changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|age| age > KEPT));
            if !is_old || path.extension().is_none_or(|extension| extension != "run") {
                continue;
            }
            if Journal::open(path.clone()).is_ok_and(|journal| journal.has_ended()) {
                std::fs::remove_file(&path).map_err(io(&path, "can't be removed"))?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    /// Every run that has not ended. One that can't be read is given as its error.
    ///
    /// # Errors
    /// [`JournalError`] if the folder can't be read.
    pub fn open_runs(&self) -> Result<Vec<Result<Journal>>> {
        let mut runs = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(io(&self.folder, "can't be read"))? {
            let path = entry.map_err(io(&self.folder, "can't be read"))?.path();
            if path.extension().is_none_or(|extension| extension != "run") {
                continue;
            }
            match Journal::open(path) {
                Ok(journal) if journal.has_ended() => {}
                other => runs.push(other),
            }
        }
        Ok(runs)
    }
}

fn instance(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(path, "can't be read")(error)),
    }
    let name = uuid::Uuid::new_v4().to_string();
    let new = path.with_extension("new");
    std::fs::write(&new, &name).map_err(io(path, "can't be written"))?;
    std::fs::rename(&new, path).map_err(io(path, "can't be written"))?;
    Ok(name)
}

fn private(path: &Path, is_new: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    if is_new {
        // What a crash left of the same run goes.
        let _ = std::fs::remove_file(path);
        options.create_new(true);
    }
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl Journal {
    fn open(path: PathBuf) -> Result<Self> {
        let mut file = private(&path, false).map_err(io(&path, "can't be opened"))?;
        let mut text = String::new();
        let mut limited = (&mut file).take(JOURNAL_LIMIT);
        limited.read_to_string(&mut text).map_err(io(&path, "can't be read"))?;
        // A line without its end was not written whole.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(io(&path, "can't be cut"))?;
            file.sync_all().map_err(io(&path, "can't be cut"))?;
        }
        let damaged = |line: usize, error: &dyn std::fmt::Display| JournalError::Damaged {
            path: path.clone(),
            line,
            reason: error.to_string(),
        };
        let mut lines = text[..whole].lines().enumerate();
        let (_, first) = lines.next().ok_or_else(|| damaged(1, &"it is empty"))?;
        let header = serde_json::from_str(first).map_err(|error| damaged(1, &error))?;
        let mut entries = Vec::new();
        for (number, line) in lines {
            entries.push(serde_json::from_str(line).map_err(|error| damaged(number + 1, &error))?);
        }
        Ok(Self { path, file, header, entries })
    }

    /// Adds an entry; it is on disk when this returns.
    ///
    /// # Errors
    /// [`JournalError`]; then nothing that the entry tells of may be done.
    pub fn append(&mut self, entry: Entry) -> Result<()> {
        let line = serde_json::to_string(&entry).map_err(|error| JournalError::Damaged {
            path: self.path.clone(),
            line: self.entries.len() + 2,
            reason: error.to_string(),
        })?;
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(io(&self.path, "can't be written"))?;
        self.file.sync_data().map_err(io(&self.path, "can't be written"))?;
        self.entries.push(entry);
        Ok(())
    }

    /// Whether nothing was done yet: it may not even be this responder's run.
    pub fn is_untouched(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes away the journal of a run that is another responder's.
    ///
    /// # Errors
    /// [`JournalError`]; the journal may be there after the next start, and is looked at again then.
    pub fn withdraw(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(io(&self.path, "can't be removed"))?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder, "can't be written"))
    }

    fn has_ended(&self) -> bool {
        use playbook::EntryKind;
        // An undoing that was asked for after the end opens it again.
        let last = self
            .entries
            .iter()
            .rev()
            .find(|entry| matches!(entry.kind, EntryKind::RunFinished { .. } | EntryKind::UndoRequested));
        last.is_some_and(|entry| matches!(entry.kind, EntryKind::RunFinished { .. }))
    }
}

#[cfg(test)]
mod tests {
    use playbook::{EntryKind, RunEnd};

    use super::*;

    #[test]
    fn each_run_has_a_journal_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let journals = Journals::open(folder.path()).expect("it opens");
        let path = |playbook: &str, generation| {
            journals.path_of(&RunKey { alert: "a".to_owned(), playbook: playbook.to_owned(), generation })
        };
        assert_ne!(path("p", 1), path("p--1", 0));
        assert_ne!(path("p", 1), path("p~1", 0), "an id has no such character, and it would be replaced");
        assert_eq!(path("p", 0).file_name().and_then(|name| name.to_str()), Some("a--p.run"), "as before");
    }

    #[test]
    fn only_runs_that_ended_long_ago_are_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let journals = Journals::open(folder.path()).expect("it opens");
        let alert = |id: &str| {
            let text = format!(
                r#"{{"id":"{id}","time":"2026-11-26T06:00:00Z","host_id":"h","host_name":"web-1",
                    "rule":{{"id":"1","name":"r","severity":"high"}}}}"#
            );
            Alert::from_json(text.as_bytes()).expect("an alert")
        };
        let begin = |id: &str| {
            let began = Timestamp::from_nanos(1);
            let header = Header {
                playbook: "p".to_owned(),
                fingerprint: "f".to_owned(),
                began,
                requested_by: String::new(),
                alert: alert(id),
            };
            journals.begin(header).expect("begun").expect("new")
        };
        let mut ended = begin("ended");
        let kind = EntryKind::RunFinished { end: RunEnd::Completed, detail: String::new() };
        ended.append(Entry { at: Timestamp::from_nanos(2), by: "x".to_owned(), kind }).expect("written");
        drop(begin("open"));
        let now = std::time::SystemTime::now();
        assert_eq!(journals.forget_old(now).expect("a look"), 0, "it ended just now");
        let later = now + KEPT + std::time::Duration::from_secs(60);
        assert_eq!(journals.forget_old(later).expect("a look"), 1);
        let key = |alert: &str| RunKey { alert: alert.to_owned(), playbook: "p".to_owned(), generation: 0 };
        assert!(journals.find(&key("ended")).expect("a look").is_none());
        assert!(journals.find(&key("open")).expect("a look").is_some(), "it may go on");
    }
}
