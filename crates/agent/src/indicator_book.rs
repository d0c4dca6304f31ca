//! The indicators in force: the files of the rules directory's `indicators/` and the
//! lists of the server's bundle, in one table.
//!
//! The table stands in the state directory and memory holds a filter over it. A change
//! of the files makes another table, which takes the place of the old one as a whole;
//! what is being judged meanwhile goes on with the old one. A file that can't be read
//! costs itself only.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use indicators::{
    BuiltTable, IndicatorDefaults, IndicatorTable, IndicatorValue, MAX_LIST_BYTES, ReadOutcome, TableBuilder,
    TableError, read_indicators,
};
use protocol::link::ContentFile;
use rule_engine::Diagnostic;

use crate::folder::{Stamp, files_with_extensions, read_bounded, stamp_of};
use crate::state_file;

/// Folder within the rules directory.
pub const INDICATOR_FOLDER: &str = "indicators";

/// What a file of indicators may end in.
pub const INDICATOR_EXTENSIONS: [&str; 6] = ["txt", "list", "csv", "tsv", "json", "stix"];

/// The table's file within the state directory.
const TABLE_FILE: &str = "indicators.table";

/// Errors that are kept; the first ones tell what is wrong.
const MAX_ERRORS: usize = 100;

/// What the pipeline looks things up in.
#[derive(Debug, Default)]
pub struct ActiveIndicators {
    /// The table; `None` where there are no indicators.
    pub(crate) table: Option<IndicatorTable>,
    /// Whether a hash is among them, so that files must be hashed.
    has_hashes: bool,
    /// One line for each file, line or value that could not be taken; at most 100.
    pub errors: Vec<String>,
    /// A look-up failed: the table is to be built again.
    damaged: AtomicBool,
}

impl ActiveIndicators {
    /// How many there are.
    pub fn len(&self) -> u64 {
        self.table.as_ref().map_or(0, IndicatorTable::len)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a hash is among them.
    pub fn has_hashes(&self) -> bool {
        self.has_hashes
    }

    /// A look-up failed. Said once for each table; the table is then built anew.
    pub(crate) fn failed(&self, error: &TableError) {
        if !self.damaged.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "indicators can't be looked up, the table is built anew");
        }
    }
}

/// Where indicators come from, and those in force.
#[derive(Debug, Default)]
pub struct IndicatorBook {
    active: ArcSwap<ActiveIndicators>,
    sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
struct Sources {
    dir: Option<PathBuf>,
    state_dir: PathBuf,
    stamp: Stamp,
    /// Version of the server's bundle, and its lists.
    bundle: (u64, Vec<ContentFile>),
}

impl IndicatorBook {
    /// With the files of the rules directory's `indicators/`; the table goes to the state
    /// directory, which is made where there are indicators. What is wrong with the files
    /// goes to standard error.
    pub fn open(rules_dir: Option<&Path>, state_dir: &Path) -> Self {
        let dir = rules_dir.map(|dir| dir.join(INDICATOR_FOLDER));
        let stamp = stamp(dir.as_deref());
        let sources = Sources { dir, state_dir: state_dir.to_owned(), stamp, ..Sources::default() };
        let book = Self { active: ArcSwap::default(), sources: Mutex::new(sources) };
        book.build();
        book
    }

    /// The indicators in force.
    pub fn active(&self) -> Arc<ActiveIndicators> {
        self.active.load_full()
    }

    /// Takes the lists of a bundle, if it is another than the last one. True if it was.
    pub fn take_bundle(&self, version: u64, lists: &[ContentFile]) -> bool {
        let mut sources = self.lock();
        if sources.bundle.0 == version {
            return false;
        }
        let changed = sources.bundle.1 != lists;
        sources.bundle = (version, lists.to_vec());
        drop(sources);
        if changed {
            self.build();
        }
        changed
    }

    /// Builds the table again if a file changed or the table is damaged; true if it did.
    pub fn reload_if_changed(&self) -> bool {
        let mut sources = self.lock();
        let now = stamp(sources.dir.as_deref());
        if now == sources.stamp && !self.active.load().damaged.load(Ordering::Relaxed) {
            return false;
        }
        sources.stamp = now;
        drop(sources);
        self.build();
        true
    }

    fn build(&self) {
        let sources = self.lock();
        let mut gathering = Gathering::new();
        for list in &sources.bundle.1 {
            let name = format!("indicator list {} of the server", list.name);
            gathering.take(&name, &list.name, list.text.as_bytes());
        }
        for path in files(sources.dir.as_deref(), &mut gathering.errors) {
            gathering.take_file(&path);
        }
        let path = sources.state_dir.join(TABLE_FILE);
        let active = gathering.finish(&path);
        self.active.store(Arc::new(active));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Indicators on their way from texts into a table.
struct Gathering {
    builder: TableBuilder,
    taken: u64,
    has_hashes: bool,
    /// The table takes no more; said once.
    full: bool,
    errors: Vec<String>,
}

impl Gathering {
    fn new() -> Self {
        let mut seed = [0; 8];
        // Without it, somebody who knows this could make values that cost look-ups, and nothing else.
        if aws_lc_rs::rand::fill(&mut seed).is_err() {
            tracing::warn!("no random numbers: the indicators' table has a seed that can be guessed");
        }
        Self {
            builder: TableBuilder::new(u64::from_le_bytes(seed)),
            taken: 0,
            has_hashes: false,
            full: false,
            errors: Vec::new(),
        }
    }

    fn take_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        match read_bounded(path, MAX_LIST_BYTES) {
            Ok(bytes) => {
                let source = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
                self.take(&name, &source.unwrap_or_default(), &bytes);
            }
            Err(reason) => self.refuse(format!("{name}: {reason}")),
        }
    }

    fn take(&mut self, name: &str, source: &str, bytes: &[u8]) {
        let defaults = IndicatorDefaults::of_source(source);
        let Self { builder, taken, has_hashes, full, .. } = self;
        let mut refused = None;
        let mut add = |indicator: indicators::Indicator| {
            if *full {
                return;
            }
            match builder.add(&indicator) {
                Ok(()) => {
                    *taken += 1;
                    let hash = matches!(
                        indicator.value,
                        IndicatorValue::Md5(_) | IndicatorValue::Sha1(_) | IndicatorValue::Sha256(_)
                    );
                    *has_hashes |= hash;
                }
                Err(error) => {
                    *full = true;
                    refused = Some(error);
                }
            }
        };
        let ReadOutcome { diagnostics, .. } = read_indicators(name, bytes, None, &defaults, &mut add);
        if let Some(error) = refused {
            self.refuse(format!("{name}: {error}; the indicators after these are not looked for"));
        }
        for diagnostic in &diagnostics {
            // What is only skipped was never to be looked for; it is told, and is no error.
            if diagnostic.is_error() {
                let Diagnostic { file, line, column, reason, .. } = diagnostic;
                self.refuse(format!("{file}:{line}:{column}: {reason}"));
            } else {
                tracing::warn!(file = name, line = diagnostic.line, reason = diagnostic.reason, "indicator");
            }
        }
    }

    fn refuse(&mut self, line: String) {
        if self.errors.len() < MAX_ERRORS {
            eprintln!("{line}");
            self.errors.push(line);
        }
    }

    fn finish(mut self, path: &Path) -> ActiveIndicators {
        if self.taken == 0 {
            // What is left of an earlier table is used by nobody.
            let _ = fs::remove_file(path);
            return ActiveIndicators { errors: self.errors, ..ActiveIndicators::default() };
        }
        let builder = std::mem::replace(&mut self.builder, TableBuilder::new(0));
        let table = write_table(builder, path);
        let table = match table {
            Ok((table, built)) => {
                tracing::info!(
                    indicators = built.indicators,
                    repeated = built.repeated,
                    memory = table.memory_bytes(),
                    "indicators are in force"
                );
                Some(table)
            }
            Err(error) => {
                self.refuse(format!(
                    "{error}; no indicator is looked for; hint: name a directory that can be written with -state"
                ));
                None
            }
        };
        let has_hashes = self.has_hashes && table.is_some();
        ActiveIndicators { table, has_hashes, errors: self.errors, damaged: AtomicBool::new(false) }
    }
}

fn write_table(builder: TableBuilder, path: &Path) -> Result<(IndicatorTable, BuiltTable), TableError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    state_file::make_dir(dir).map_err(|source| TableError::Io { path: dir.display().to_string(), source })?;
    let built = builder.write(path)?;
    Ok((IndicatorTable::open(path)?, built))
}

fn files(dir: Option<&Path>, errors: &mut Vec<String>) -> Vec<PathBuf> {
    let Some(dir) = dir else { return Vec::new() };
    match files_with_extensions(dir, &INDICATOR_EXTENSIONS) {
        Ok(files) => files,
        // Nobody has to have indicators.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            let line = format!("{}: indicators can't be read: {error}", dir.display());
            eprintln!("{line}");
            errors.push(line);
            Vec::new()
        }
    }
}

fn stamp(dir: Option<&Path>) -> Stamp {
    stamp_of(&files(dir, &mut Vec::new()))
}

#[cfg(test)]
mod tests {
    use indicators::Observable;

    use super::*;

    fn finds(book: &IndicatorBook, name: &str) -> bool {
        let active = book.active();
        let Some(table) = &active.table else { return false };
        table.lookup(Observable::Domain(name), jiff::Timestamp::now()).unwrap().is_some()
    }

    #[test]
    fn files_are_read_changes_are_seen_and_a_bad_one_costs_itself_only() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(INDICATOR_FOLDER);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("good.txt"), "evil.example\n").unwrap();
        fs::write(folder.join("bad.json"), "{\"type\": \"bundle\",\n \"objects\": [}").unwrap();
        fs::write(folder.join("README.md"), "other.example\n").unwrap();
        let state = dir.path().join("state");
        let book = IndicatorBook::open(Some(dir.path()), &state);
        assert!(finds(&book, "www.evil.example") && !finds(&book, "other.example"));
        let errors = &book.active().errors;
        assert!(errors.len() == 1 && errors[0].contains("bad.json:2:"), "file and line: {errors:?}");
        assert!(!book.active().has_hashes() && !book.reload_if_changed());

        let lines = "evil.example\nworse.example\nnot an indicator\n44d88612fea8a8f36de82e1278abb02f\n";
        fs::write(folder.join("good.txt"), lines).unwrap();
        fs::remove_file(folder.join("bad.json")).unwrap();
        assert!(book.reload_if_changed());
        assert!(finds(&book, "worse.example") && book.active().has_hashes());
        let errors = &book.active().errors;
        assert!(errors.len() == 1 && errors[0].contains("good.txt:3:"), "{errors:?}");

        fs::remove_dir_all(&folder).unwrap();
        assert!(book.reload_if_changed());
        assert!(book.active().is_empty() && !state.join(TABLE_FILE).exists());
    }

    #[test]
    fn a_damaged_table_is_built_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(INDICATOR_FOLDER);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.csv"), "value,confidence\nevil.example,90\n").unwrap();
        let book = IndicatorBook::open(Some(dir.path()), &dir.path().join("state"));
        // In place, so that the open table sees it.
        let path = dir.path().join("state").join(TABLE_FILE);
        let length = fs::metadata(&path).unwrap().len();
        fs::File::options().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
        let active = book.active();
        let table = active.table.as_ref().unwrap();
        let error = table.lookup(Observable::Domain("evil.example"), jiff::Timestamp::now()).unwrap_err();
        active.failed(&error);
        assert!(book.reload_if_changed() && finds(&book, "evil.example"));
    }

    #[test]
    fn lists_of_the_server_are_taken_once_for_each_version() {
        let dir = tempfile::tempdir().unwrap();
        let book = IndicatorBook::open(None, &dir.path().join("state"));
        let list = ContentFile { name: "feed".to_owned(), text: "evil.example\n".to_owned() };
        assert!(book.take_bundle(4, std::slice::from_ref(&list)) && finds(&book, "evil.example"));
        assert!(!book.take_bundle(4, &[]) && !book.take_bundle(5, &[list]), "the same lists again");
        assert!(book.take_bundle(6, &[]) && !finds(&book, "evil.example"));
    }
}
