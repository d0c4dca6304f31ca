//! Scans files as they come to the host or run: with YARA rules, and by their hashes
//! among the indicators.
//!
//! Opening and reading somebody's file can take long, and a scan takes milliseconds, so
//! all of it is done on a thread of its own, within a part of the agent's CPU budget.
//! What runs goes before what is only written. What is not scanned is counted: with a
//! gap where there was no room or no time, else in the agent's figures.

mod allowance;
mod file;
mod known;

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_model::{EventType, Field, FileFacts, GapReason, ImageFile, Value};
use file_scan::YaraMatch;
use sensor_api::{
    Actor, Observation, ObservationSender, Observed, ObservedActivity, ObservedLoss, Provision, Source,
    StopSignal,
};

use self::allowance::Allowance;
pub use self::file::MAX_SCANNED_BYTES;
use self::file::{Scanned, Scanning};
use self::known::KnownScans;
use crate::indicator_book::IndicatorBook;
use crate::system::bell::Bell;
use crate::system::paths;
use crate::yara_book::YaraBook;

/// Files of either kind that may wait.
const QUEUE: usize = 2_048;
/// Findings that may wait for the pipeline.
const FINDINGS: usize = 256;
/// Losses are told no more often.
const LOSSES_EVERY: Duration = Duration::from_secs(1);
/// After the request to stop, what waits may still be scanned for so long.
const LAST_SCANS: Duration = Duration::from_secs(1);
/// What a loss is a loss of.
const WHAT: EventType = EventType::FileScan;

/// Why a file was scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A process began to run it, or its interpreter to read it.
    Execution,
    /// It was written.
    Write,
    /// It got this name.
    Rename,
}

impl Trigger {
    /// The word that events carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Execution => "execution",
            Self::Write => "write",
            Self::Rename => "rename",
        }
    }
}

/// A file in which something was found.
#[derive(Debug, Clone)]
pub struct Finding {
    /// When it was run or written, in nanoseconds since boot.
    pub at_ns: u64,
    /// Who did that.
    pub actor: Option<Actor>,
    /// Why it was scanned.
    pub trigger: Trigger,
    /// Path of the file.
    pub path: String,
    /// What it is.
    pub found: Arc<Found>,
}

/// What was found in a file.
#[derive(Debug, Clone)]
pub struct Found {
    /// Hashes, size and type.
    pub facts: FileFacts,
    /// The YARA rules that matched; none where only its hash is known.
    pub matches: Vec<YaraMatch>,
    /// Why other rules may have been missed.
    pub incomplete: Option<&'static str>,
}

/// A file that waits.
#[derive(Debug)]
struct Job {
    at_ns: u64,
    actor: Option<Actor>,
    trigger: Trigger,
    path: String,
    /// What the kernel ran, for an image.
    image: Option<ImageFile>,
}

/// Where the pipeline puts what it observes, and takes findings from. The default one
/// leads nowhere.
#[derive(Debug, Clone, Default)]
pub struct ScanFeed {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    yara: Arc<YaraBook>,
    indicators: Arc<IndicatorBook>,
    /// The agent's own files: what it keeps there changes all the time.
    own: Vec<PathBuf>,
    waiting: Mutex<Waiting>,
    /// Readable while something waits.
    bell: Bell,
}

#[derive(Debug, Default)]
struct Waiting {
    executions: VecDeque<Job>,
    writes: VecDeque<Job>,
    /// Paths of `writes`: a file that is written again while it waits is scanned once.
    paths: HashSet<String>,
    known: KnownScans,
    findings: VecDeque<Finding>,
    lost: Vec<ObservedLoss>,
    told: Option<Instant>,
    counts: Counts,
}

/// What became of files since the agent's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Scanned to the end.
    pub scanned: u64,
    /// Something was found.
    pub found: u64,
    /// Written, and neither executable nor a script nor in a watched directory.
    pub of_no_interest: u64,
    /// Larger than [`MAX_SCANNED_BYTES`].
    pub too_large: u64,
    /// Gone, changed meanwhile, not readable, or on a file system that may not answer.
    pub unreadable: u64,
    /// The scan ended early or left rules out.
    pub incomplete: u64,
}

impl Counts {
    /// As the agent's figures list them, `what=count`.
    pub fn lines(&self) -> Vec<String> {
        let Self { scanned, found, of_no_interest, too_large, unreadable, incomplete } = *self;
        let all = [
            ("scanned", scanned),
            ("found", found),
            ("of_no_interest", of_no_interest),
            ("too_large", too_large),
            ("unreadable", unreadable),
            ("incomplete", incomplete),
        ];
        all.into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{what}={count}"))
            .collect()
    }
}

impl Waiting {
    fn count_lost(&mut self, reason: GapReason, at_ns: u64) {
        match self.lost.iter_mut().find(|loss| loss.reason == reason) {
            Some(loss) => {
                loss.count = loss.count.map(|count| count.saturating_add(1));
                loss.from_ns = loss.from_ns.min(at_ns);
                loss.until_ns = loss.until_ns.max(at_ns);
            }
            None => {
                let (what, from_ns, until_ns) = (WHAT.as_str(), at_ns, at_ns);
                self.lost.push(ObservedLoss { reason, what, count: Some(1), from_ns, until_ns });
            }
        }
    }

    fn find(&mut self, finding: Finding) {
        self.counts.found += 1;
        if self.findings.len() < FINDINGS {
            self.findings.push_back(finding);
        } else {
            self.count_lost(GapReason::QueueFull, finding.at_ns);
        }
    }

    fn next(&mut self) -> Option<Job> {
        let job = self.executions.pop_front().or_else(|| self.writes.pop_front())?;
        self.paths.remove(&job.path);
        Some(job)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ScanFeed {
    /// Takes what is run or written, and nothing else. Cheap for all other observations,
    /// and for all where there is nothing to look for; never waits. With `short`, the CPU
    /// budget is: what is only written is left out then, and counted.
    pub fn offer(&self, observed: &Observed, short: bool) {
        let Some(shared) = &self.shared else { return };
        let is_candidate = match &observed.what {
            Observation::ProcessExecuted(_) => true,
            Observation::Activity(activity) => {
                use EventType::{FileCreate, FileLink, FileModify, FileRename, ScriptContent};
                matches!(activity.event_type, FileCreate | FileLink | FileModify | FileRename | ScriptContent)
            }
            _ => false,
        };
        if !is_candidate {
            return;
        }
        let yara = shared.yara.active();
        let has_hashes = shared.indicators.active().has_hashes();
        if yara.rules.is_none() && !has_hashes {
            return;
        }
        let Some(job) = job_of(observed) else { return };
        let mut waiting = shared.lock();
        if let Some(image) = &job.image {
            if yara.rules.is_none() {
                // The hash of an image is looked up with its start.
                return;
            }
            match waiting.known.get(image, &yara) {
                Some(None) => return,
                Some(Some(found)) => {
                    let Job { at_ns, actor, trigger, path, .. } = job;
                    return waiting.find(Finding { at_ns, actor, trigger, path, found });
                }
                None => {}
            }
        }
        let path = std::path::Path::new(&job.path);
        if shared.own.iter().any(|own| path.starts_with(own)) {
            return;
        }
        let at_ns = job.at_ns;
        if job.trigger == Trigger::Execution {
            if waiting.executions.len() >= QUEUE {
                return waiting.count_lost(GapReason::QueueFull, at_ns);
            }
            waiting.executions.push_back(job);
        } else {
            if waiting.paths.contains(&job.path) {
                return;
            }
            if short {
                return waiting.count_lost(GapReason::Budget, at_ns);
            }
            if waiting.writes.len() >= QUEUE {
                return waiting.count_lost(GapReason::QueueFull, at_ns);
            }
            waiting.paths.insert(job.path.clone());
            waiting.writes.push_back(job);
        }
        shared.bell.ring();
    }

    /// What was found since the last time.
    pub fn take_findings(&self) -> Vec<Finding> {
        let Some(shared) = &self.shared else { return Vec::new() };
        shared.lock().findings.drain(..).collect()
    }

    /// What was not scanned since the last time, at most once a second.
    pub fn take_losses(&self) -> Vec<ObservedLoss> {
        let Some(shared) = &self.shared else { return Vec::new() };
        let mut waiting = shared.lock();
        if waiting.lost.is_empty() || waiting.told.is_some_and(|told| told.elapsed() < LOSSES_EVERY) {
            return Vec::new();
        }
        waiting.told = Some(Instant::now());
        std::mem::take(&mut waiting.lost)
    }

    /// All losses, with what still waits; for the end.
    pub fn end(&self) -> Vec<ObservedLoss> {
        let Some(shared) = &self.shared else { return Vec::new() };
        let mut waiting = shared.lock();
        while let Some(job) = waiting.next() {
            waiting.count_lost(GapReason::QueueFull, job.at_ns);
        }
        std::mem::take(&mut waiting.lost)
    }

    /// What became of files since the agent's start.
    pub fn counts(&self) -> Counts {
        self.shared.as_ref().map(|shared| shared.lock().counts).unwrap_or_default()
    }
}

fn job_of(observed: &Observed) -> Option<Job> {
    let at_ns = observed.at_ns;
    match &observed.what {
        Observation::ProcessExecuted(image) => Some(Job {
            at_ns,
            actor: Some(Actor::Life(image.key())),
            trigger: Trigger::Execution,
            path: image.executable.clone(),
            image: Some(image.image?),
        }),
        Observation::Activity(activity) => {
            let (field, trigger) = match activity.event_type {
                EventType::FileModify => (Field::FilePath, Trigger::Write),
                EventType::FileCreate if came_whole(activity) => (Field::FilePath, Trigger::Write),
                // A name more for content that may have been written where nobody looked.
                EventType::FileLink if text_of(activity, Field::FileOperation) == Some("link") => {
                    (Field::FilePath, Trigger::Rename)
                }
                EventType::FileRename => (Field::FilePath, Trigger::Rename),
                EventType::ScriptContent => (Field::ScriptPath, Trigger::Execution),
                _ => return None,
            };
            let path = text_of(activity, field)?;
            // Files of these are made by the kernel while they are read.
            if !paths::is_scanned(path) {
                return None;
            }
            let path = path.to_owned();
            Some(Job { at_ns, actor: activity.actor, trigger, path, image: None })
        }
        _ => None,
    }
}

/// Whether no other event follows that tells of the content. A file that is made is written afterwards, and told
/// again then; one that was moved in, or was found by comparing, was looked at with its content, and comes once.
fn came_whole(activity: &ObservedActivity) -> bool {
    let has = |wanted: Field| activity.fields.iter().any(|(field, _)| *field == wanted);
    let is_watched_alone = text_of(activity, Field::EventProvider)
        .is_some_and(|provider| matches!(provider, "file_watch" | "file_baseline"));
    is_watched_alone && (has(Field::FileSha256) || has(Field::FileHashSkipped))
}

fn text_of(activity: &ObservedActivity, field: Field) -> Option<&str> {
    activity.fields.iter().find_map(|(own, value)| match value {
        Value::Text(text) if *own == field => Some(text.as_str()),
        _ => None,
    })
}

/// What the scanner works with.
#[derive(Debug, Clone, Default)]
pub struct ScannerOptions {
    /// Rules that may change.
    pub yara: Arc<YaraBook>,
    /// Indicators that may change.
    pub indicators: Arc<IndicatorBook>,
    /// Directories of which every written file is scanned.
    pub watched: Vec<PathBuf>,
    /// Directories of the agent itself, whose files are not scanned.
    pub own: Vec<PathBuf>,
    /// CPU that the agent may use, in thousandths of a core. The scanner takes half of it.
    pub cpu_permille: Option<u32>,
}

/// A feed, and the source that scans what is put into it.
///
/// # Errors
/// If the system gives no descriptor.
pub fn scanner(options: ScannerOptions) -> std::io::Result<(ScanFeed, Box<dyn Source>)> {
    let bell = Bell::new()?;
    let ScannerOptions { yara, indicators, watched, own, cpu_permille } = options;
    let shared = Arc::new(Shared { yara, indicators, own, waiting: Mutex::default(), bell });
    let source = Scanner {
        shared: Arc::clone(&shared),
        scanning: Scanning::new(watched),
        allowance: Allowance::new(cpu_permille),
    };
    Ok((ScanFeed { shared: Some(shared) }, Box::new(source)))
}

struct Scanner {
    shared: Arc<Shared>,
    scanning: Scanning,
    allowance: Allowance,
}

impl Source for Scanner {
    fn name(&self) -> &'static str {
        "scanner"
    }

    fn provisions(&self) -> Vec<Provision> {
        let source = "YARA rules and indicators on what is run and written".to_owned();
        vec![Provision { event_type: WHAT, source, missing: None }]
    }

    fn run(&mut self, _: &ObservationSender, stop: &StopSignal) {
        loop {
            let job = self.shared.lock().next();
            let wait = match job {
                Some(job) => {
                    self.scan(job);
                    self.allowance.rest()
                }
                None => Duration::from_secs(1),
            };
            // While it rests, the bell may ring.
            let resting = !wait.is_zero() && self.allowance.is_overdrawn();
            if self.shared.bell.stops(stop, wait, !resting) {
                break;
            }
        }
        let deadline = Instant::now() + LAST_SCANS;
        while Instant::now() < deadline {
            let Some(job) = self.shared.lock().next() else { return };
            self.scan(job);
        }
    }
}

impl Scanner {
    fn scan(&mut self, job: Job) {
        let (yara, indicators) = (self.shared.yara.active(), self.shared.indicators.active());
        let scanned = self.scanning.scan(&job, &yara, &indicators);
        let mut waiting = self.shared.lock();
        let counts = &mut waiting.counts;
        let found = match scanned {
            Scanned::Complete(found) => {
                counts.scanned += 1;
                found
            }
            Scanned::Incomplete(reason, found) => {
                counts.incomplete += 1;
                tracing::debug!(path = job.path, reason, "a scan is incomplete");
                found
            }
            Scanned::OfNoInterest => {
                counts.of_no_interest += 1;
                return;
            }
            Scanned::TooLarge => {
                counts.too_large += 1;
                tracing::debug!(path = job.path, "too large to be scanned");
                return;
            }
            Scanned::Unreadable(reason) => {
                counts.unreadable += 1;
                tracing::debug!(path = job.path, reason, "not scanned");
                return;
            }
        };
        if let Some(image) = &job.image {
            waiting.known.keep(image, &yara, found.clone());
        }
        if let Some(found) = found {
            let Job { at_ns, actor, trigger, path, .. } = job;
            waiting.find(Finding { at_ns, actor, trigger, path, found });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(event_type: EventType, fields: &[(Field, &str)]) -> Option<Trigger> {
        let path = (Field::FilePath, Value::Text("/srv/dropped".to_owned()));
        let fields = fields.iter().map(|(field, text)| (*field, Value::Text((*text).to_owned())));
        let fields = std::iter::once(path).chain(fields).collect();
        let activity = ObservedActivity { event_type, actor: None, target: None, fields };
        let what = Observation::Activity(Box::new(activity));
        job_of(&Observed { at_ns: 1, position: None, what }).map(|job| job.trigger)
    }

    #[test]
    fn a_file_that_came_with_its_content_is_scanned_as_one_that_was_written() {
        use Field::{EventProvider, FileHashSkipped, FileOperation, FileSha256};
        let watched = (EventProvider, "file_watch");
        let create = |fields: &[(Field, &str)]| trigger(EventType::FileCreate, fields);
        assert_eq!(create(&[watched, (FileSha256, "aa")]), Some(Trigger::Write));
        assert_eq!(create(&[(EventProvider, "file_baseline"), (FileSha256, "aa")]), Some(Trigger::Write));
        assert_eq!(create(&[watched, (FileHashSkipped, "too_large")]), Some(Trigger::Write));
        // The kernel tells that it was written as well.
        assert_eq!(create(&[(FileOperation, "create")]), None);
        assert_eq!(create(&[(EventProvider, "integrity"), (FileSha256, "aa")]), None);
        let link = |operation| trigger(EventType::FileLink, &[(FileOperation, operation)]);
        assert_eq!(link("link"), Some(Trigger::Rename));
        assert_eq!(link("symlink"), None);
        assert_eq!(trigger(EventType::FileModify, &[]), Some(Trigger::Write));
        assert_eq!(trigger(EventType::FileDelete, &[]), None);
    }
}
