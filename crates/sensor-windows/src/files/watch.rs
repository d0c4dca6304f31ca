//! Watched folders: told by the system as they change, and compared now and then with what is known.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest::{Context, SHA256};
use event_model::{EventType, GapReason};
use sensor_api::{ObservationSender, ObservedLoss, Provision, Source, StopSignal, boot_ns};
use win32::event::{Event, wait_any};
use win32::folder_watch::{Act, FolderWatch, Seen, path_shown, verbatim};

use super::baseline::{Baseline, Facts, Found, MOST_FILES, describe};
use crate::SourceOptions;
use crate::state_file::{self, Kept};

/// Larger files are not hashed.
const MOST_HASHED: u64 = 32 << 20;
/// A file that is written again and again is looked at once it rests for so long, or at the latest after
/// ten times as long.
const RESTS: Duration = Duration::from_millis(200);
/// Looks at a file that others write meanwhile, until it is told without a hash.
const MOST_LOOKS: usize = 3;
/// A stop is noticed after this at the latest.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A folder that is not there is looked for this often.
const SEEK_EVERY: Duration = Duration::from_secs(2);
/// Folders within folders.
const MOST_DEPTH: usize = 64;
/// Changes that are kept while the folders are compared.
const MOST_DRAINED: usize = 100_000;
/// Folders of which it is remembered that they can't be read.
const MOST_TOLD: usize = 4_096;
/// `ERROR_FILE_NOT_FOUND`, `ERROR_PATH_NOT_FOUND`.
const NOTHING_THERE: [i32; 2] = [2, 3];
/// Why there is no hash of a file that was written while it was read.
const CHANGED: &str = "changed";
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
    changed: BTreeMap<PathBuf, (Instant, Instant)>,
    drained: Drained,
    /// Folders that can't be read, or have too much in them, as far as it was told.
    told: HashSet<PathBuf>,
}

/// Changes that came while the folders were compared.
#[derive(Default)]
struct Drained {
    changes: Vec<(PathBuf, Act, OsString)>,
    /// What they are about: what is being changed is told by them.
    paths: HashSet<PathBuf>,
    overflow: bool,
}

impl FileWatch {
    /// A watch over the folders of `options`.
    pub fn new(options: &SourceOptions) -> Self {
        Self {
            dirs: options.dirs.iter().map(absolute).collect(),
            kept: options.state_dir.as_ref().map(|dir| dir.join("files.json")),
            scan_interval: options.scan_interval,
            known: Baseline::default(),
            changed: BTreeMap::new(),
            drained: Drained::default(),
            told: HashSet::new(),
        }
    }
}

/// Without `/`, `.` and `..`, which a verbatim path does not know.
fn absolute(dir: &PathBuf) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.clone())
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
        let had_baseline = self.load(sender);
        // Watched before it is compared, so that nothing falls in between.
        folders.iter_mut().for_each(Folder::begin);
        let mut overflow = self.compare_all(!had_baseline, sender, &mut folders, stop);
        self.keep();
        let mut compared = Instant::now();
        let mut read_to_ns = boot_ns();
        while !stop.asked_within(Duration::ZERO) {
            let events: Vec<&Event> =
                folders.iter().filter_map(|folder| Some(folder.watch.as_ref()?.event())).collect();
            if events.is_empty() || wait_any(&events, LOOK_EVERY).is_err() {
                stop.asked_within(LOOK_EVERY);
            }
            for folder in &mut folders {
                folder.begin();
                overflow |= self.take(folder, sender);
            }
            if overflow {
                tracing::warn!("more changes of files than can be told, the folders are compared");
                tell_lost(sender, read_to_ns);
            }
            read_to_ns = boot_ns();
            self.tell_rested(sender, false);
            if std::mem::take(&mut overflow) || compared.elapsed() >= self.scan_interval {
                overflow = self.compare_all(false, sender, &mut folders, stop);
                self.keep();
                compared = Instant::now();
            }
        }
        self.tell_rested(sender, true);
        self.keep();
    }
}

impl Folder {
    /// Takes what the system told; true if it told that it can't tell all.
    fn take(&mut self, changes: &mut Vec<(PathBuf, Act, OsString)>) -> bool {
        let Some(watch) = &mut self.watch else { return false };
        loop {
            match watch.take() {
                Ok(Seen::Nothing) => return false,
                Ok(Seen::Overflow) => return true,
                Ok(Seen::Changes(new)) => {
                    changes.extend(new.into_iter().map(|(act, name)| (self.path.clone(), act, name)));
                }
                Err(error) => {
                    tracing::warn!(dir = %self.path.display(), %error, "a folder is not watched any more");
                    self.watch = None;
                    return true;
                }
            }
        }
    }

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
        let mut changes = Vec::new();
        let overflow = folder.take(&mut changes);
        self.apply(changes, sender);
        overflow
    }

    /// Tells what was done, or takes note of it.
    fn apply(&mut self, changes: Vec<(PathBuf, Act, OsString)>, sender: &ObservationSender) {
        let mut renamed_from: Option<PathBuf> = None;
        for (folder, act, name) in changes {
            let path = folder.join(name);
            match (act, renamed_from.take()) {
                (Act::RenamedFrom, old) => {
                    old.into_iter().for_each(|old| self.note(old));
                    renamed_from = Some(path);
                }
                (Act::RenamedTo, Some(old)) => self.rename(&old, &path, sender),
                // Removals are told at once, as the name may be another's soon; and that a file came is news at
                // once, though its content may not be there yet.
                (Act::Removed | Act::Added, old) => {
                    old.into_iter().for_each(|old| self.note(old));
                    self.look(&path, sender);
                }
                (_, old) => {
                    old.into_iter().for_each(|old| self.note(old));
                    self.note(path);
                }
            }
        }
        renamed_from.into_iter().for_each(|old| self.note(old));
    }

    fn note(&mut self, path: PathBuf) {
        let now = Instant::now();
        self.changed.entry(path).and_modify(|(_, last)| *last = now).or_insert((now, now));
    }

    fn tell_rested(&mut self, sender: &ObservationSender, all: bool) {
        let rested = |(first, last): &(Instant, Instant)| {
            all || last.elapsed() >= RESTS || first.elapsed() >= RESTS * 10
        };
        let due: Vec<PathBuf> =
            self.changed.iter().filter(|(_, times)| rested(times)).map(|(path, _)| path.clone()).collect();
        for path in due {
            self.changed.remove(&path);
            self.look(&path, sender);
        }
    }

    /// Looks at one path, of which it was told that it changed, and tells what became of it.
    fn look(&mut self, path: &Path, sender: &ObservationSender) {
        let name = path_shown(path);
        let now = match facts_of(path, self.known.get(&name), Hashing::Always) {
            Ok(now) => now,
            Err(error) => {
                // Nobody knows: it is compared later.
                tracing::debug!(path = name, %error, "can't be looked at");
                return;
            }
        };
        // A folder that went takes all below it with it, without a word for each.
        let below = if now.is_none() { self.known.below(&name) } else { Vec::new() };
        for gone in below.iter().filter(|below| **below != name) {
            let found = self.known.take(gone, None);
            tell(gone, found, sender, false);
        }
        let found = self.known.take(&name, now);
        tell(&name, found, sender, false);
    }

    fn rename(&mut self, old: &Path, new: &Path, sender: &ObservationSender) {
        self.changed.remove(old);
        let (old, name) = (path_shown(old), path_shown(new));
        let now = facts_of(new, self.known.get(&old), Hashing::Always).unwrap_or_default();
        let found = self.known.rename(&old, &name, now);
        tell(&name, found, sender, false);
    }

    /// Compares all that is there with all that is known, and tells what differs unless it is `quiet`. What the
    /// system tells meanwhile is taken between the files, so that it finds room, and told afterwards; true if it
    /// was more than can be told.
    fn compare_all(
        &mut self,
        quiet: bool,
        sender: &ObservationSender,
        folders: &mut [Folder],
        stop: &StopSignal,
    ) -> bool {
        for dir in self.dirs.clone() {
            // What is not there at all may be a drive that comes later.
            if !dir.exists() && quiet {
                continue;
            }
            let Some(there) = self.compare(&dir, quiet, sender, folders, stop) else { break };
            let is_missing = |path: &String| !there.contains(path);
            for name in self.known.below(&path_shown(&dir)).into_iter().filter(is_missing) {
                self.drained.take(folders);
                let path = Path::new(&name);
                // Not listed is not gone: the list may have been refused or cut, or been overtaken.
                let is_gone = matches!(facts_of(path, self.known.get(&name), Hashing::Never), Ok(None));
                if path != dir && is_gone && !self.is_changing(path) {
                    let found = self.known.take(&name, None);
                    if !quiet {
                        tell(&name, found, sender, true);
                    }
                }
            }
        }
        let left_out = std::mem::take(&mut self.known.left_out);
        if left_out > 0 {
            tracing::warn!(
                files = left_out,
                "more files than are remembered; their changes are told without what they were"
            );
        }
        let drained = std::mem::take(&mut self.drained);
        self.apply(drained.changes, sender);
        drained.overflow
    }

    /// Compares what is in a folder, and gives the names of all that was found. `None` if it is to stop.
    fn compare(
        &mut self,
        dir: &Path,
        quiet: bool,
        sender: &ObservationSender,
        folders: &mut [Folder],
        stop: &StopSignal,
    ) -> Option<HashSet<String>> {
        let mut there = HashSet::new();
        let mut waiting = vec![(dir.to_owned(), 0)];
        while let Some((folder, depth)) = waiting.pop() {
            let entries = match fs::read_dir(verbatim(&folder)) {
                Ok(entries) => entries,
                Err(error) if is_nothing_there(&error) => continue,
                Err(error) => {
                    self.tell_once(
                        &folder,
                        &format!("can't be read ({error}): what changes in it is not seen"),
                        sender,
                    );
                    continue;
                }
            };
            for entry in entries.flatten() {
                if there.len() >= MOST_FILES {
                    self.tell_once(dir, "has more in it than is compared", sender);
                    return Some(there);
                }
                if stop.asked_within(Duration::ZERO) {
                    return None;
                }
                self.drained.take(folders);
                let path = folder.join(entry.file_name());
                let name = path_shown(&path);
                let now = facts_of(&path, self.known.get(&name), Hashing::IfTouched);
                let is_folder = match &now {
                    Ok(now) => now.as_ref().is_some_and(|now| now.folder),
                    Err(_) => false,
                };
                // What is being written is told when it rests.
                if let (Ok(now), false) = (now, self.is_changing(&path)) {
                    let found = self.known.take(&name, now);
                    if !quiet {
                        tell(&name, found, sender, true);
                    }
                }
                // Junctions lead elsewhere, or in a circle.
                let goes_on =
                    is_folder && depth < MOST_DEPTH && entry.file_type().is_ok_and(|kind| !kind.is_symlink());
                there.insert(name);
                if goes_on {
                    waiting.push((path, depth + 1));
                }
            }
        }
        Some(there)
    }

    fn is_changing(&self, path: &Path) -> bool {
        self.changed.contains_key(path) || self.drained.paths.contains(path)
    }

    fn tell_once(&mut self, folder: &Path, why: &str, sender: &ObservationSender) {
        if self.told.len() < MOST_TOLD && self.told.insert(folder.to_owned()) {
            tracing::warn!(folder = %folder.display(), "{why}");
            tell_lost(sender, boot_ns());
        }
    }

    /// What an agent before this one knew; false if there is nothing.
    fn load(&mut self, sender: &ObservationSender) -> bool {
        let kept = self.kept.as_deref().map_or(Kept::Nothing, state_file::read);
        let found = matches!(kept, Kept::Whole(_));
        self.known = match kept {
            Kept::Nothing => Baseline::default(),
            Kept::Whole(known) => known,
            Kept::Damaged(error) => {
                tracing::warn!(
                    error,
                    "what was known of files can't be read: what changed since is not told"
                );
                tell_gap(GapReason::AgentDown, sender, boot_ns());
                Baseline::default()
            }
        };
        // That there was nothing in a folder is worth keeping, too.
        self.known.differs |= !found;
        found
    }

    fn keep(&mut self) {
        let Some(path) = self.kept.as_deref().filter(|_| self.known.differs) else { return };
        match state_file::write(path, &self.known) {
            Ok(()) => self.known.differs = false,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "what is known of files could not be kept");
            }
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

impl Drained {
    fn take(&mut self, folders: &mut [Folder]) {
        for folder in folders {
            let before = self.changes.len();
            self.overflow |= folder.take(&mut self.changes);
            self.paths.extend(self.changes[before..].iter().map(|(dir, _, name)| dir.join(name)));
        }
        if self.changes.len() > MOST_DRAINED {
            self.overflow = true;
            self.changes.clear();
            self.paths.clear();
        }
    }
}

/// More was done since then than can be told.
fn tell_lost(sender: &ObservationSender, from_ns: u64) {
    tell_gap(GapReason::QueueFull, sender, from_ns);
}

fn tell_gap(reason: GapReason, sender: &ObservationSender, from_ns: u64) {
    for event_type in [EventType::FileCreate, EventType::FileModify, EventType::FileDelete] {
        let (what, until_ns) = (event_type.as_str(), boot_ns());
        sender.lost(ObservedLoss { reason, what, count: None, from_ns, until_ns });
    }
}

/// When the content is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hashing {
    Always,
    /// Where anything says that the file was touched.
    IfTouched,
    Never,
}

/// What stands at a path; `None` for nothing.
///
/// # Errors
/// Nobody knows: it may not be looked at.
fn facts_of(path: &Path, before: Option<&Facts>, hashing: Hashing) -> io::Result<Option<Facts>> {
    let place = verbatim(path);
    for _ in 1..MOST_LOOKS {
        let found = look_at(&place, before, hashing)?;
        if found.as_ref().is_none_or(|facts| facts.hash_skipped.as_deref() != Some(CHANGED)) {
            return Ok(found);
        }
    }
    look_at(&place, before, hashing)
}

fn look_at(place: &Path, before: Option<&Facts>, hashing: Hashing) -> io::Result<Option<Facts>> {
    let asked = match win32::file::facts_at(place) {
        Ok(asked) => asked,
        Err(error) if is_nothing_there(&error) => return Ok(None),
        Err(error) => return listed(place, before).map(Some).ok_or(error),
    };
    let mut facts = Facts {
        size: asked.size,
        modified_ns: asked.modified_ns,
        changed_ns: asked.changed_ns,
        index: asked.index,
        folder: asked.is_folder(),
        ..Facts::default()
    };
    if facts.folder {
        // Its times change with what is in it.
        return Ok(Some(Facts { folder: true, index: facts.index, ..Facts::default() }));
    }
    if asked.is_reparse_point() {
        facts.hash_skipped = Some("not_regular".to_owned());
    } else if asked.is_not_local() {
        facts.hash_skipped = Some("not_local".to_owned());
    } else if facts.size > MOST_HASHED {
        facts.hash_skipped = Some("too_large".to_owned());
    } else if hashing != Hashing::Always
        && let Some(hash) = facts.hash_before(before)
    {
        facts.sha256 = Some(hash);
    } else if hashing != Hashing::Never {
        match hash(place) {
            Ok(hash) if is_still(place, &facts) => facts.sha256 = Some(hash),
            // Size and times are of one content, the hash of another.
            Ok(_) => facts.hash_skipped = Some(CHANGED.to_owned()),
            Err(_) => unreadable(&mut facts, before),
        }
    }
    Ok(Some(facts))
}

/// Whether nobody has written since these facts were asked for.
fn is_still(place: &Path, facts: &Facts) -> bool {
    let now = win32::file::facts_at(place);
    now.is_ok_and(|now| {
        (now.size, now.modified_ns, now.index) == (facts.size, facts.modified_ns, facts.index)
    })
}

fn is_nothing_there(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| NOTHING_THERE.contains(&code))
}

/// Somebody has it open for himself alone, or it may not be opened: as it was, until it can be read.
fn unreadable(facts: &mut Facts, before: Option<&Facts>) {
    facts.hash_skipped = Some("unreadable".to_owned());
    facts.sha256 = before
        .filter(|before| before.size == facts.size && before.modified_ns == facts.modified_ns)
        .and_then(|before| before.sha256.clone());
}

/// What the folder's list says of one that can't be opened.
fn listed(place: &Path, before: Option<&Facts>) -> Option<Facts> {
    let listed = fs::symlink_metadata(place).ok()?;
    let since = listed.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let mut facts = Facts {
        size: listed.len(),
        modified_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        index: before.map_or(0, |before| before.index),
        folder: listed.is_dir(),
        ..Facts::default()
    };
    if facts.folder {
        return Some(Facts { folder: true, index: facts.index, ..Facts::default() });
    }
    unreadable(&mut facts, before);
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
