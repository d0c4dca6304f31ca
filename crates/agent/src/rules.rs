//! The rules in force: those of `-rules DIR` and the server's signed bundle.
//!
//! They are swapped as one: the pipeline loads an [`ActiveRules`] and judges by it,
//! whatever changes meanwhile. A bad rule costs itself only. A bundle is kept on
//! disk when it is taken (with the one before it), so that an agent judges by it
//! from its start, with or without a server.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use event_model::{ActionKind, EventType, ResponseMode, Timestamp};
use prost::Message as _;
use protocol::bundle::{BundleRefusal, verify_bundle, verify_stored_bundle};
use protocol::link::{PolicyBundle, SignedBundle};
use rule_engine::{
    BehaviourFile, BehaviourSet, CompileOptions, Diagnostic, HostNames, ParsedRule, RULE_FILE_LIMIT, RuleSet,
    SigmaOptions, Telemetry, is_behaviour_file, is_placeholder_file, is_sigma_file, parse_behaviours,
    parse_rule_text, parse_rules_bytes_with,
};
use tokio::sync::Notify;

use crate::folder::read_bounded;
use crate::indicator_book::INDICATOR_FOLDER;
use crate::run_state::Caution;
use crate::state_file;

/// What the pipeline judges by.
#[derive(Debug, Default)]
pub struct ActiveRules {
    /// The rules and the behaviours, those that are built in among them.
    pub set: RuleSet,
    /// Those of them that may keep a program from running, where there is a gate before executions.
    pub gate: RuleSet,
    /// Version of the server's bundle; 0 without one.
    pub version: u64,
    /// One line for each rule that could not be loaded.
    pub errors: Vec<String>,
}

impl ActiveRules {
    /// Whether a process start must reach the agent at once, because a rule may act on it.
    pub fn may_act_on_start(&self) -> bool {
        self.set.may_terminate_on(EventType::ProcessStart)
    }

    /// Whether a rule may act on anything that is observed, so that nothing observed is left waiting.
    pub fn may_act(&self) -> bool {
        self.set.may_act()
    }

    /// Whether anything is judged by the hash of a starting process's image.
    pub fn needs_hash(&self) -> bool {
        self.set.needs_hash(EventType::ProcessStart)
    }
}

/// A bundle was not put into force.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It does not verify.
    #[error(transparent)]
    Refused(#[from] BundleRefusal),
    /// Its rules made the agent crash before.
    #[error(
        "version {0} was in force when the agent crashed repeatedly; hint: change the rules, a newer version is taken"
    )]
    SetAside(u64),
}

/// Where rules come from, and what of them is in force.
pub struct RuleBook {
    active: ArcSwap<ActiveRules>,
    /// What the pipeline judges by: `active`, a round later.
    in_use: ArcSwapOption<ActiveRules>,
    taken_up: Notify,
    /// What is wrong with indicators and YARA files, to be told to the server with the rest.
    content_errors: ArcSwap<Vec<String>>,
    sources: Mutex<Sources>,
    /// Rules that were in force and that others may still judge by: to free thousands of rules takes long, and
    /// whoever lets go of them last would have to.
    retired: Mutex<Vec<Arc<ActiveRules>>>,
}

#[derive(Default)]
struct Sources {
    /// Whether the behaviours that are built in count.
    built_in: bool,
    /// Whether there is a gate before executions.
    gate: bool,
    /// For exceptions that are for some hosts only.
    host: Option<HostNames>,
    dir: Option<PathBuf>,
    dir_stamp: Vec<(PathBuf, Option<SystemTime>, u64)>,
    bundle: Option<Arc<PolicyBundle>>,
    /// Not taken again, see [`BundleError::SetAside`].
    set_aside: u64,
    kept: Option<Kept>,
}

/// What correlations may remember, in bytes: a part of what the agent may use of the host's memory.
const CORRELATION_BYTES: usize = 32 << 20;

/// Where bundles are kept and whose signature counts.
struct Kept {
    state_dir: PathBuf,
    command_key: Vec<u8>,
}

impl RuleBook {
    /// With the rules of that directory, if there is one, and all built-in behaviours. What is wrong with them goes to
    /// standard error.
    pub fn open(dir: Option<PathBuf>) -> Self {
        Self::open_with(dir, true)
    }

    /// As [`Self::open`], or without the behaviours that are built in.
    pub fn open_with(dir: Option<PathBuf>, built_in: bool) -> Self {
        let sources = Sources { dir_stamp: stamp(dir.as_deref()), dir, built_in, ..Sources::default() };
        let book = Self {
            active: ArcSwap::default(),
            in_use: ArcSwapOption::empty(),
            taken_up: Notify::new(),
            content_errors: ArcSwap::default(),
            sources: Mutex::new(sources),
            retired: Mutex::default(),
        };
        book.compile();
        book
    }

    /// On the host that is so called: exceptions that are for some hosts only are judged by that.
    #[must_use]
    pub fn on_host(self, host: HostNames) -> Self {
        self.lock().host = Some(host);
        self.compile();
        self
    }

    /// Also with the rules that judge programs before they run.
    pub fn keep_gate(&self) {
        self.lock().gate = true;
        self.compile();
    }

    /// Also with the server's bundles: those signed by `command_key`, kept in `state_dir`.
    /// After repeated crashes a bundle above `good_version` gives way to the one before it.
    pub fn keep_bundles(&self, state_dir: &Path, command_key: Vec<u8>, caution: Caution, good_version: u64) {
        let current = read_bundle(&state_dir.join("policy.bin"), &command_key);
        let version = current.as_ref().map_or(0, |bundle| bundle.version);
        let mut sources = self.lock();
        if caution == Caution::Normal || version <= good_version {
            sources.bundle = current.map(Arc::new);
        } else {
            let previous = read_bundle(&state_dir.join("policy.previous.bin"), &command_key);
            match (previous, caution) {
                // Nothing is known to be good. Crashes have many causes; rules that
                // are not the cause should go on detecting, but not for ever.
                (None, Caution::LastKnownGood) => sources.bundle = current.map(Arc::new),
                (previous, _) => {
                    sources.set_aside = version;
                    sources.bundle = previous.map(Arc::new);
                }
            }
        }
        sources.kept = Some(Kept { state_dir: state_dir.to_owned(), command_key });
        drop(sources);
        self.compile();
    }

    /// The rules in force.
    pub fn active(&self) -> Arc<ActiveRules> {
        self.active.load_full()
    }

    /// The pipeline judges by these from now on.
    pub fn take_up(&self, rules: &Arc<ActiveRules>) {
        self.in_use.store(Some(Arc::clone(rules)));
        self.taken_up.notify_one();
    }

    /// What the pipeline judges by; `None` before it has begun to.
    pub fn in_use(&self) -> Option<Arc<ActiveRules>> {
        self.in_use.load_full()
    }

    /// Waits until the pipeline has taken up other rules since the last call. For one who waits.
    pub async fn taken_up(&self) {
        self.taken_up.notified().await;
    }

    /// What is wrong with indicators and YARA files.
    pub fn content_errors(&self) -> Arc<Vec<String>> {
        self.content_errors.load_full()
    }

    /// Tells what is wrong with indicators and YARA files, in the place of what was told before.
    pub fn set_content_errors(&self, errors: Vec<String>) {
        self.content_errors.store(Arc::new(errors));
    }

    /// The server's bundle in force, for what is no rule of the engine: indicators and YARA.
    pub fn bundle(&self) -> Option<Arc<PolicyBundle>> {
        self.lock().bundle.clone()
    }

    /// Verifies a bundle and puts it into force.
    ///
    /// # Errors
    /// The bundle in force stays.
    pub fn take_bundle(&self, signed: &SignedBundle, now: Timestamp) -> Result<(), BundleError> {
        let mut sources = self.lock();
        let Some(kept) = &sources.kept else { return Err(BundleRefusal::BadSignature.into()) };
        let in_force = sources.bundle.as_ref().map_or(0, |bundle| bundle.version);
        let bundle = verify_bundle(signed, &kept.command_key, in_force, now)?;
        if bundle.version <= sources.set_aside {
            return Err(BundleError::SetAside(bundle.version));
        }
        let path = kept.state_dir.join("policy.bin");
        if sources.set_aside == 0 {
            // With a version set aside, the one before it stays the good one.
            let previous = kept.state_dir.join("policy.previous.bin");
            let copied = fs::read(&path).and_then(|bytes| state_file::write(&previous, &bytes));
            if let Err(error) = copied
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "the rules before these could not be kept");
            }
        }
        if let Err(error) = state_file::write(&path, &signed.encode_to_vec()) {
            tracing::warn!(%error, "the rules could not be kept on disk, the next start begins without them");
        }
        sources.bundle = Some(Arc::new(bundle));
        drop(sources);
        self.compile();
        Ok(())
    }

    /// Frees the rules that nobody judges by any more. Not for a thread that must not wait.
    pub fn free_retired(&self) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|rules| Arc::strong_count(rules) > 1);
    }

    /// Loads the directory again if a file in it changed; true if it did. Takes as long as reading and compiling all
    /// rules does.
    pub fn reload_if_changed(&self) -> bool {
        let mut sources = self.lock();
        let now = stamp(sources.dir.as_deref());
        if now == sources.dir_stamp {
            return false;
        }
        sources.dir_stamp = now;
        drop(sources);
        self.compile();
        true
    }

    fn compile(&self) {
        let sources = self.lock();
        let mut rules: Vec<ParsedRule> = Vec::new();
        let mut behaviours = if sources.built_in { BehaviourSet::built_in() } else { Vec::new() };
        let mut errors = Vec::new();
        for rule in sources.bundle.iter().flat_map(|bundle| &bundle.rules) {
            let name = format!("rule {} of the server", rule.id);
            let outcome = parse_rule_text(&name, &rule.json);
            report(&outcome.diagnostics, &rule.json, &mut errors);
            rules.extend(outcome.rules);
        }
        if let Some(dir) = &sources.dir {
            load_dir(dir, &mut rules, &mut behaviours, &mut errors);
        }
        // Of behaviours the later file wins: what the server says counts for every host.
        for file in sources.bundle.iter().flat_map(|bundle| &bundle.behaviours) {
            let name = format!("behaviour file {} of the server", file.name);
            let (behaviour, diagnostics) = parse_behaviours(&name, &file.text);
            report(&diagnostics, &file.text, &mut errors);
            behaviours.push(behaviour);
        }
        let version = sources.bundle.as_ref().map_or(0, |bundle| bundle.version);
        let live_product = Some(std::env::consts::OS.to_owned());
        let host = sources.host.clone();
        let options = CompileOptions {
            live_product,
            host,
            behaviours,
            correlation_bytes: Some(CORRELATION_BYTES),
            ..CompileOptions::default()
        };
        let mut of_gate: Vec<ParsedRule> = Vec::new();
        if sources.gate {
            of_gate.extend(rules.iter().filter(|rule| rule.is_filter() || may_deny(rule)).cloned());
        }
        let gate_options = CompileOptions { behaviours: Vec::new(), ..options.clone() };
        let mut outcome = RuleSet::compile_with(rules, options);
        report(&outcome.diagnostics, "", &mut errors);
        // What matches only for a correlation does nothing by itself.
        let silent = outcome.rules.silent_rules();
        of_gate.retain(|rule| !silent.contains(&rule.head().id));
        let gate = if sources.gate {
            // What is wrong with them is told of the whole set.
            RuleSet::compile_with(of_gate, gate_options).rules
        } else {
            RuleSet::default()
        };
        outcome.rules.take_over(&self.active.load().set);
        let before = self.active.swap(Arc::new(ActiveRules { set: outcome.rules, gate, version, errors }));
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(before);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a rule by itself may end a process for what it starts as: it may then keep it from starting.
fn may_deny(rule: &ParsedRule) -> bool {
    let head = rule.head();
    let ends = |action: &ActionKind| matches!(action, ActionKind::TerminateProcess | ActionKind::KillTree);
    head.mode == ResponseMode::Auto
        && head.actions.iter().any(ends)
        && rule.telemetry() == Telemetry::ProcessStart
        && !rule.is_correlation()
        && !rule.is_filter()
}

fn load_dir(
    dir: &Path,
    rules: &mut Vec<ParsedRule>,
    behaviours: &mut Vec<BehaviourFile>,
    errors: &mut Vec<String>,
) {
    let files = match rule_files(dir) {
        Ok(files) => files,
        Err(error) => {
            let line = format!("{}: rules can't be read: {error}", dir.display());
            eprintln!("{line}");
            errors.push(line);
            return;
        }
    };
    // Values first: the rules of all files may ask for them.
    let (values, files): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|path| is_placeholder_file(&path.to_string_lossy()));
    let mut sigma = SigmaOptions::default();
    for path in values.into_iter().chain(files) {
        let name = path.display().to_string();
        match read_bounded(&path, RULE_FILE_LIMIT) {
            Ok(bytes) if is_placeholder_file(&name) => {
                if let Err(diagnostic) = sigma.add_placeholder_bytes(&name, &bytes) {
                    report(&[diagnostic], &String::from_utf8_lossy(&bytes), errors);
                }
            }
            Ok(bytes) if is_behaviour_file(&name) => {
                // What is not UTF-8 is no JSON either, and is told as such.
                let text = String::from_utf8_lossy(&bytes);
                let (file, diagnostics) = parse_behaviours(&name, &text);
                report(&diagnostics, &text, errors);
                behaviours.push(file);
            }
            Ok(bytes) => {
                let outcome = parse_rules_bytes_with(&name, &bytes, &sigma);
                report(&outcome.diagnostics, &String::from_utf8_lossy(&bytes), errors);
                rules.extend(outcome.rules);
            }
            Err(reason) => {
                let line = format!("{name}: {reason}");
                eprintln!("{line}");
                errors.push(line);
            }
        }
    }
}

fn report(diagnostics: &[Diagnostic], source: &str, errors: &mut Vec<String>) {
    for diagnostic in diagnostics {
        eprint!("{}", diagnostic.render(source));
        if diagnostic.is_error() {
            let Diagnostic { file, line, column, reason, .. } = diagnostic;
            errors.push(format!("{file}:{line}:{column}: {reason}"));
        }
    }
}

/// Whether a file of that name holds rules, behaviours or values of placeholders.
pub(crate) fn is_rule_file(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    // In a pack, a rule's test stands beside it.
    is_sigma_file(&name) || (name.ends_with(".json") && !name.ends_with(".test.json"))
}

/// The rule files of a directory, in the order of their names.
fn rule_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if is_rule_file(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// What is to be said of a directory of which only the folders within hold rules, which are not read.
pub(crate) fn hint_of_folders(dir: &Path) -> Option<String> {
    // Values of placeholders are no rules by themselves.
    let has_rules = |dir: &Path| {
        rule_files(dir)
            .is_ok_and(|files| files.iter().any(|path| !is_placeholder_file(&path.to_string_lossy())))
    };
    if has_rules(dir) {
        return None;
    }
    let mut folders: Vec<String> = fs::read_dir(dir)
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name() != INDICATOR_FOLDER)
        .filter(|entry| has_rules(&entry.path()))
        .map(|entry| format!("`-rules {}`", entry.path().display()))
        .take(MOST_NAMED)
        .collect();
    folders.sort();
    let (dir, folders) = (dir.display(), folders.join(" or "));
    (!folders.is_empty())
        .then(|| format!("{dir} holds no rules, and folders within it are not read; hint: give {folders}"))
}

/// Folders that a hint names.
const MOST_NAMED: usize = 5;

fn stamp(dir: Option<&Path>) -> Vec<(PathBuf, Option<SystemTime>, u64)> {
    let files = dir.and_then(|dir| rule_files(dir).ok()).unwrap_or_default();
    let stamped = files.into_iter().map(|path| {
        let file = fs::metadata(&path).ok();
        let modified = file.as_ref().and_then(|file| file.modified().ok());
        (path, modified, file.map_or(0, |file| file.len()))
    });
    stamped.collect()
}

fn read_bundle(path: &Path, command_key: &[u8]) -> Option<PolicyBundle> {
    let bytes = fs::read(path).ok()?;
    let bundle = SignedBundle::decode(bytes.as_slice())
        .map_err(|_| BundleRefusal::Malformed)
        .and_then(|signed| verify_stored_bundle(&signed, command_key));
    match bundle {
        Ok(bundle) => Some(bundle),
        Err(refusal) => {
            tracing::error!(path = %path.display(), %refusal, "the kept rules are not used");
            None
        }
    }
}

#[cfg(test)]
mod tests;
