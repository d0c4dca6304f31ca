//! Watched folders: told by the system as they change, and compared now and then with what is known.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use event_model::{EventType, GapReason};
use sensor_api::{ObservationSender, ObservedLoss, Provision, Source, StopSignal, boot_ns};
use win32::event::{Event, wait_any};
use win32::folder_watch::{Act, FolderWatch, Seen};

use super::baseline::{Baseline, Facts, Found, MOST_FILES, describe};
use crate::SourceOptions;

/// Larger files are not hashed.
const MOST_HASHED: u64 = 32 << 20;
/// A file that is written again and again is looked at once it rests for so long, or at the latest after
/// ten times as long.
const RESTS: Duration = Duration::from_millis(200);
/// A stop is noticed after this at the latest.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A folder that is not there is looked for this often.
const SEEK_EVERY: Duration = Duration::from_secs(2);
/// Folders within folders.
const MOST_DEPTH: usize = 64;
/// `FILE_FLAG_OPEN_REPARSE_POINT`.
const OPEN_REPARSE_POINT: u32 = 0x0020_0000;

const MADE: [EventType; 5] = [
    EventType::FileCreate,
    EventType::FileModify,
    EventType::FileDelete,
    EventType::FileRename,
    EventType::FileAttribute,
];

/// The source of changes of files.
pub struct FileWatch {
    dirs: Vec<PathBuf>,
    kept: Option<PathBuf>,
    scan_interval: Duration,
    known: Baseline,
    /// Paths that changed: since when, and when for the last time.
    changed: BTreeMap<String, (Instant, Instant)>,
}

impl FileWatch {
    /// A watch over the folders of `options`.
    pub fn new(options: &SourceOptions) -> Self {
        Self {
            dirs: options.dirs.clone(),
            kept: options.state_dir.as_ref().map(|dir| dir.join("files.json")),
            scan_interval: options.scan_interval,
            known: Baseline::default(),
            changed: BTreeMap::new(),
        }
    }
}

struct Folder {
    path: PathBuf,
    watch: Option<FolderWatch>,
    tried: Option<Instant>,
    told: bool,
}

impl Source for FileWatch {
    fn name(&self) -> &'static str {
        "file_watch"
    }

    fn provisions(&self) -> Vec<Provision> {
        let missing =
            |dir: &PathBuf| FolderWatch::begin(dir).err().map(|error| format!("{}: {error}", dir.display()));
        let problems: Vec<String> = self.dirs.iter().filter_map(missing).collect();
        let mut source = format!("file_watch ({} folders; who changed a file is not known)", self.dirs.len());
        if !problems.is_empty() {
            source.push_str(&format!("; not watched yet: {}", problems.join(", ")));
        }
        let none = (problems.len() == self.dirs.len()).then(|| problems.join(", "));
        let provision = |event_type| Provision { event_type, source: source.clone(), missing: none.clone() };
        MADE.into_iter().map(provision).collect()
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        let mut folders: Vec<Folder> = self
            .dirs
            .iter()
            .map(|dir| Folder { path: dir.clone(), watch: None, tried: None, told: false })
            .collect();
        let had_baseline = self.load();
        // Watched before it is compared, so that nothing falls in between.
        folders.iter_mut().for_each(Folder::begin);
        self.compare_all(if had_baseline { Some(sender) } else { None }, stop);
        self.keep();
        let mut compared = Instant::now();
        let mut read_to_ns = boot_ns();
        while !stop.asked_within(Duration::ZERO) {
            let events: Vec<&Event> =
                folders.iter().filter_map(|folder| Some(folder.watch.as_ref()?.event())).collect();
            if events.is_empty() || wait_any(&events, LOOK_EVERY).is_err() {
                stop.asked_within(LOOK_EVERY);
            }
            let mut overflow = false;
            for folder in &mut folders {
                folder.begin();
                overflow |= self.take(folder, sender);
            }
            if overflow {
                let now = boot_ns();
                tracing::warn!("more changes of files than can be told, the folders are compared");
                for event_type in [EventType::FileCreate, EventType::FileModify, EventType::FileDelete] {
                    let (reason, what) = (GapReason::QueueFull, event_type.as_str());
                    sender.lost(ObservedLoss {
                        reason,
                        what,
                        count: None,
                        from_ns: read_to_ns,
                        until_ns: now,
                    });
                }
            }
            read_to_ns = boot_ns();
            self.tell_rested(sender, false);
            if overflow || compared.elapsed() >= self.scan_interval {
                self.compare_all(Some(sender), stop);
                self.keep();
                compared = Instant::now();
            }
        }
        self.tell_rested(sender, true);
        self.keep();
    }
}

impl Folder {
    fn begin(&mut self) {
        if self.watch.is_some() || self.tried.is_some_and(|at| at.elapsed() < SEEK_EVERY) {
            return;
        }
        self.tried = Some(Instant::now());
        match FolderWatch::begin(&self.path) {
            Ok(watch) => {
                self.watch = Some(watch);
                self.told = false;
            }
            Err(error) if !self.told => {
                tracing::warn!(dir = %self.path.display(), %error, "a folder can't be watched; it is tried again");
                self.told = true;
            }
            Err(_) => {}
        }
    }
}

impl FileWatch {
    /// Takes what the system told of a folder; true if it told that it can't tell all.
    fn take(&mut self, folder: &mut Folder, sender: &ObservationSender) -> bool {
        let Some(watch) = &mut folder.watch else { return false };
        let mut renamed_from: Option<String> = None;
        loop {
            let changes = match watch.take() {
                Ok(Seen::Nothing) => break,
                Ok(Seen::Overflow) => return true,
                Ok(Seen::Changes(changes)) => changes,
                Err(error) => {
                    tracing::warn!(dir = %folder.path.display(), %error, "a folder is not watched any more");
                    folder.watch = None;
                    return true;
                }
            };
            for (act, name) in changes {
                let path = folder.path.join(name).to_string_lossy().into_owned();
                match (act, renamed_from.take()) {
                    (Act::RenamedFrom, old) => {
                        old.into_iter().for_each(|old| self.note(old));
                        renamed_from = Some(path);
                    }
                    (Act::RenamedTo, Some(old)) => self.rename(&old, &path, sender),
                    // Removals are told at once: the name may be another's soon.
                    (Act::Removed, old) => {
                        old.into_iter().for_each(|old| self.note(old));
                        self.look(&path, sender, false);
                    }
                    (_, old) => {
                        old.into_iter().for_each(|old| self.note(old));
                        // That a file came is news at once; its content may not be there yet.
                        if act == Act::Added {
                            self.look(&path, sender, false);
                        } else {
                            self.note(path);
                        }
                    }
                }
            }
        }
        renamed_from.into_iter().for_each(|old| self.note(old));
        false
    }

    fn note(&mut self, path: String) {
        let now = Instant::now();
        self.changed.entry(path).and_modify(|(_, last)| *last = now).or_insert((now, now));
    }

    fn tell_rested(&mut self, sender: &ObservationSender, all: bool) {
        let rested = |(first, last): &(Instant, Instant)| {
            all || last.elapsed() >= RESTS || first.elapsed() >= RESTS * 10
        };
        let due: Vec<String> =
            self.changed.iter().filter(|(_, times)| rested(times)).map(|(path, _)| path.clone()).collect();
        for path in due {
            self.changed.remove(&path);
            self.look(&path, sender, false);
        }
    }

    /// Looks at one path and tells what became of it.
    fn look(&mut self, path: &str, sender: &ObservationSender, by_comparing: bool) {
        let now = facts_of(Path::new(path), self.known.get(path));
        // A folder that went takes all below it with it, without a word for each.
        let below = if now.is_none() { self.known.below(path) } else { Vec::new() };
        for gone in below.iter().filter(|below| *below != path) {
            let found = self.known.take(gone, None);
            tell(gone, found, sender, by_comparing);
        }
        let found = self.known.take(path, now);
        tell(path, found, sender, by_comparing);
    }

    fn rename(&mut self, old: &str, new: &str, sender: &ObservationSender) {
        self.changed.remove(old);
        let now = facts_of(Path::new(new), self.known.get(old));
        let found = self.known.rename(old, new, now);
        tell(new, found, sender, false);
    }

    /// Compares all that is there with all that is known. Without a sender it is only taken note of.
    fn compare_all(&mut self, sender: Option<&ObservationSender>, stop: &StopSignal) {
        for dir in self.dirs.clone() {
            // What is not there at all may be a drive that comes later.
            if !dir.exists() && sender.is_none() {
                continue;
            }
            let mut there = HashSet::new();
            let mut waiting = vec![(dir.clone(), 0)];
            while let Some((folder, depth)) = waiting.pop() {
                let Ok(entries) = fs::read_dir(&folder) else { continue };
                for entry in entries.flatten() {
                    if there.len() >= MOST_FILES || stop.asked_within(Duration::ZERO) {
                        return;
                    }
                    let path = entry.path().to_string_lossy().into_owned();
                    let now = facts_of(Path::new(&path), self.known.get(&path));
                    let is_folder = now.as_ref().is_some_and(|now| now.folder);
                    // What is being written is told when it rests.
                    if !self.changed.contains_key(&path) {
                        let found = self.known.take(&path, now);
                        sender.into_iter().for_each(|sender| tell(&path, found.clone(), sender, true));
                    }
                    // Junctions lead elsewhere, or in a circle.
                    let goes_on = is_folder
                        && depth < MOST_DEPTH
                        && entry.file_type().is_ok_and(|kind| !kind.is_symlink());
                    there.insert(path);
                    if goes_on {
                        waiting.push((entry.path(), depth + 1));
                    }
                }
            }
            let root = dir.to_string_lossy().into_owned();
            for path in
                self.known.below(&root).into_iter().filter(|path| *path != root && !there.contains(path))
            {
                let found = self.known.take(&path, None);
                sender.into_iter().for_each(|sender| tell(&path, found.clone(), sender, true));
            }
        }
        let left_out = std::mem::take(&mut self.known.left_out);
        if left_out > 0 {
            tracing::warn!(
                files = left_out,
                "more files than are remembered; their changes are told without what they were"
            );
        }
    }

    /// What an agent before this one knew; false if there is nothing.
    fn load(&mut self) -> bool {
        let Some(path) = &self.kept else { return false };
        let read = fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let found = read.is_some();
        self.known = read.unwrap_or_default();
        found
    }

    fn keep(&self) {
        let Some(path) = &self.kept else { return };
        let beside = path.with_extension("new");
        let written = serde_json::to_vec(&self.known)
            .map_err(io::Error::from)
            .and_then(|text| fs::write(&beside, text))
            .and_then(|()| fs::rename(&beside, path));
        if let Err(error) = written {
            tracing::warn!(file = %path.display(), %error, "what is known of files could not be kept");
        }
    }
}

fn tell(path: &str, found: Option<Found>, sender: &ObservationSender, by_comparing: bool) {
    // Folders come and go with what is in them.
    let is_folder = |facts: &Facts| facts.folder;
    let skipped = match &found {
        Some(Found::Created(facts) | Found::Deleted(facts)) => is_folder(facts),
        _ => false,
    };
    if let (Some(found), false) = (found, skipped) {
        sender.send(boot_ns(), describe(path, &found, by_comparing));
    }
}

/// What stands at a path; its hash is read only where it may have changed.
fn facts_of(path: &Path, before: Option<&Facts>) -> Option<Facts> {
    let asked = win32::file::facts_at(path).ok()?;
    let mut facts = Facts {
        size: asked.size,
        modified_ns: asked.modified_ns,
        index: asked.index,
        folder: asked.is_folder(),
        ..Facts::default()
    };
    if facts.folder {
        // Its times change with what is in it.
        return Some(Facts { folder: true, index: facts.index, ..Facts::default() });
    }
    if asked.is_reparse_point() {
        facts.hash_skipped = Some("not_regular".to_owned());
    } else if facts.size > MOST_HASHED {
        facts.hash_skipped = Some("too_large".to_owned());
    } else {
        match hash(path) {
            Ok(hash) => facts.sha256 = Some(hash),
            // Somebody has it open for himself alone: as it was, until it can be read.
            Err(_) => {
                facts.hash_skipped = Some("unreadable".to_owned());
                facts.sha256 = before
                    .filter(|before| before.size == facts.size && before.modified_ns == facts.modified_ns)
                    .and_then(|before| before.sha256.clone());
            }
        }
    }
    Some(facts)
}

fn hash(path: &Path) -> io::Result<String> {
    let file = fs::OpenOptions::new().read(true).custom_flags(OPEN_REPARSE_POINT).open(path)?;
    let mut context = Context::new(&SHA256);
    read_whole(file, &mut context)?;
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn read_whole(file: File, context: &mut Context) -> io::Result<()> {
    let mut file = file.take(MOST_HASHED + 1);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => context.update(&buffer[..read]),
        }
    }
}
