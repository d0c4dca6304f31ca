//! The folder of definitions, watched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use event_model::{EventType, GapReason};
use sensor_api::{ObservationSender, ObservedLoss, Provision, Source, StopSignal, boot_ns};
use win32::folder_watch::{FolderWatch, Seen};

use super::change::Changes;
use super::definition::Definition;

/// How often it is looked whether something was done, and, where the folder can't be watched, whether it can.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A definition that somebody holds so that nobody can read it is tried again so often.
const TRY_EVERY: Duration = Duration::from_secs(2);
/// So many of them are tried again.
const MOST_HELD: usize = 1_024;
/// A definition is a few KiB.
const MOST_BYTES: u64 = 1 << 20;
/// Folders below, so that a loop of them ends.
const MOST_DEPTH: usize = 16;

/// The source of scheduled tasks.
pub struct TaskWatch {
    folder: PathBuf,
    changes: Changes,
    watch: Result<FolderWatch, String>,
    /// Those that can't be read, and whether they were there when the watch began.
    held: BTreeMap<String, bool>,
}

impl Default for TaskWatch {
    fn default() -> Self {
        let folder = win32::host::system_folder().join("Tasks");
        // Begun before the first look, so that nothing falls in between.
        let watch = FolderWatch::begin(&folder).map_err(|error| error.to_string());
        let mut new = Self { folder, changes: Changes::default(), watch, held: BTreeMap::new() };
        for name in new.names() {
            match new.definition(&name) {
                Some(definition) => new.changes.know(name, definition),
                None if new.path(&name).is_file() => new.hold(&name, true),
                None => {}
            }
        }
        new
    }
}

impl TaskWatch {
    /// The names of all there are now.
    fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut folders = vec![(self.folder.clone(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && depth < MOST_DEPTH => {
                        folders.push((entry.path(), depth + 1))
                    }
                    Ok(kind) if kind.is_file() => names.extend(name_of(&entry.path(), &self.folder)),
                    _ => {}
                }
            }
        }
        names
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name.trim_start_matches('\\'))
    }

    /// `None` where it is gone, or no file.
    fn definition(&self, name: &str) -> Option<Definition> {
        let file = fs::File::open(self.path(name)).ok()?;
        let mut bytes = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
        Some(Definition::read(&text_of(&bytes)))
    }

    fn look(&mut self, name: &str, sender: &ObservationSender) {
        let (now, path) = (self.definition(name), self.path(name));
        // Somebody may hold it so that nobody can read it: it is there all the same.
        if now.is_none() && path.is_file() {
            if !self.held.contains_key(name) {
                self.hold(name, false);
                sender.lost(lost());
            }
            return;
        }
        let was_there = self.held.remove(name).unwrap_or(false);
        if let Some(definition) = now.as_ref().filter(|_| was_there) {
            return self.changes.know(name.to_owned(), definition.clone());
        }
        if let Some(event) = self.changes.look(name, &path.to_string_lossy(), now) {
            sender.send(boot_ns(), event);
        }
    }

    /// Takes note of one that can't be read.
    fn hold(&mut self, name: &str, was_there: bool) {
        tracing::warn!(task = name, "its definition can't be read; it is tried again");
        if self.held.len() < MOST_HELD {
            self.held.insert(name.to_owned(), was_there);
        }
    }

    fn look_at_all(&mut self, sender: &ObservationSender) {
        let mut names = self.names();
        names.extend(self.changes.names());
        for name in names {
            self.look(&name, sender);
        }
    }
}

impl Source for TaskWatch {
    fn name(&self) -> &'static str {
        "task_files"
    }

    fn provisions(&self) -> Vec<Provision> {
        let missing = self
            .watch
            .as_ref()
            .err()
            .map(|error| format!("{} can't be watched: {error}", self.folder.display()));
        let source = "task_files (definitions of scheduled tasks)".to_owned();
        vec![Provision { event_type: EventType::ScheduledTask, source, missing }]
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        if !self.held.is_empty() {
            sender.lost(lost());
        }
        let mut tried = Instant::now();
        while !stop.asked_within(LOOK_EVERY) {
            if tried.elapsed() >= TRY_EVERY {
                tried = Instant::now();
                for name in self.held.keys().cloned().collect::<Vec<_>>() {
                    self.look(&name, sender);
                }
            }
            let Ok(watch) = &mut self.watch else {
                self.watch = FolderWatch::begin(&self.folder).map_err(|error| error.to_string());
                if self.watch.is_ok() {
                    self.look_at_all(sender);
                }
                continue;
            };
            match watch.take() {
                Ok(Seen::Nothing) => {}
                Ok(Seen::Changes(changes)) => {
                    let names: BTreeSet<String> = changes
                        .into_iter()
                        .map(|(_, name)| format!(r"\{}", name.to_string_lossy()))
                        .collect();
                    for name in names {
                        self.look(&name, sender);
                    }
                }
                // What came and went meanwhile is lost; what is there is found.
                Ok(Seen::Overflow) => {
                    sender.lost(lost());
                    self.look_at_all(sender);
                }
                Err(error) => {
                    tracing::warn!(folder = %self.folder.display(), %error, "can't be watched any more; it is tried again");
                    sender.lost(lost());
                    self.watch = Err(error.to_string());
                }
            }
        }
    }
}

fn name_of(path: &Path, folder: &Path) -> Option<String> {
    path.strip_prefix(folder).ok().map(|rest| format!(r"\{}", rest.display()))
}

/// UTF-16 with its mark, as the scheduler writes it, or UTF-8.
fn text_of(bytes: &[u8]) -> String {
    match bytes {
        [0xff, 0xfe, rest @ ..] => {
            let units: Vec<u16> =
                rest.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
            win32::shown(&units)
        }
        other => String::from_utf8_lossy(other).into_owned(),
    }
}

fn lost() -> ObservedLoss {
    let (now, what) = (boot_ns(), EventType::ScheduledTask.as_str());
    ObservedLoss { reason: GapReason::QueueFull, what, count: None, from_ns: now, until_ns: now }
}
