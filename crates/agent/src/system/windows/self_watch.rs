//! Watches what the agent itself stands on: its program, its configuration, its rules, and what it keeps.
//! Windows tells that something was done, not by whom.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use event_model::{EventType, Field, GapReason, Value};
use sensor_api::{ObservationSender, ObservedActivity, ObservedLoss, Provision, Source, StopSignal, boot_ns};
use win32::folder_watch::{Act, FolderWatch, Seen};

use crate::folder::ends_in;
use crate::rules::is_rule_file;
use crate::state_file;
use crate::yara_book::YARA_EXTENSIONS;

/// How often it is looked whether something was done.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Acts told in any minute; of the others it tells how many they were.
const MOST_TOLD: u32 = 100;
/// What the agent keeps under these names, and never removes.
const KEPT: [&str; 6] =
    ["identity.json", "run.json", "server.json", "policy.bin", "policy.previous.bin", "dropped"];

/// What is watched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched {
    /// The configuration file.
    pub(crate) configuration: Option<PathBuf>,
    /// The directory of rules.
    pub(crate) rules: Option<PathBuf>,
    /// The state directory.
    pub(crate) state: Option<PathBuf>,
    /// Nothing of the agent is in the kernel.
    pub(crate) pins: Option<PathBuf>,
}

enum Names {
    One(PathBuf),
    Rules,
    Kept,
}

/// The source of what was done to the agent's own files.
pub(crate) struct SelfWatch {
    watched: Watched,
    told: (Instant, u32),
    untold: u64,
}

impl SelfWatch {
    /// A watch over these.
    pub(crate) fn new(watched: Watched) -> Self {
        Self { watched, told: (Instant::now(), 0), untold: 0 }
    }

    fn places(&self) -> Vec<(PathBuf, Names, &'static str)> {
        let file = |path: &Path, what| {
            let path = std::path::absolute(path).ok()?;
            Some((path.parent()?.to_owned(), Names::One(path), what))
        };
        let program = std::env::current_exe().ok().and_then(|path| file(&path, "binary"));
        let configuration =
            self.watched.configuration.as_deref().and_then(|path| file(path, "configuration"));
        let rules = self.watched.rules.clone().map(|dir| (dir, Names::Rules, "rules"));
        let state = self.watched.state.clone().map(|dir| (dir, Names::Kept, "state"));
        // There are none; the pins of other systems are watched like these.
        let pins = self.watched.pins.clone().map(|dir| (dir, Names::Kept, "pins"));
        [program, configuration, rules, state, pins].into_iter().flatten().collect()
    }

    fn tell(&mut self, sender: &ObservationSender, what: &'static str, path: &Path, operation: &str) {
        if self.told.0.elapsed() >= Duration::from_secs(60) {
            self.tell_untold(sender);
            self.told = (Instant::now(), 0);
        }
        self.told.1 += 1;
        if self.told.1 > MOST_TOLD {
            self.untold += 1;
            return;
        }
        let fields = vec![
            (Field::AgentTampered, Value::Text(what.to_owned())),
            (Field::FilePath, Value::Text(path.to_string_lossy().into_owned())),
            (Field::EventReason, Value::Text(operation.to_owned())),
        ];
        let event_type = EventType::AgentTamper;
        sender.send(boot_ns(), ObservedActivity { event_type, actor: None, target: None, fields });
    }

    fn tell_untold(&mut self, sender: &ObservationSender) {
        let count = std::mem::take(&mut self.untold);
        if count > 0 {
            sender.lost(lost(Some(count)));
        }
    }
}

impl Source for SelfWatch {
    fn name(&self) -> &'static str {
        "self_watch"
    }

    fn provisions(&self) -> Vec<Provision> {
        let mut source = "self_watch (changes of the agent's files)".to_owned();
        let places = self.places();
        let problems: Vec<String> = places.iter().filter_map(|(dir, ..)| refused(dir)).collect();
        let missing = (problems.len() == places.len()).then(|| problems.join(", "));
        if missing.is_none() && !problems.is_empty() {
            source.push_str(&format!("; not watched: {}", problems.join(", ")));
        }
        vec![Provision { event_type: EventType::AgentTamper, source, missing }]
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        let mut watches = Vec::new();
        for (dir, names, what) in self.places() {
            match FolderWatch::begin(&dir) {
                Ok(watch) => watches.push((watch, dir, names, what)),
                Err(error) => {
                    tracing::warn!(dir = %dir.display(), %error, "can't be watched");
                    sender.lost(lost(None));
                }
            }
        }
        while !stop.asked_within(LOOK_EVERY) {
            for (watch, dir, names, what) in &mut watches {
                match watch.take() {
                    Ok(Seen::Changes(changes)) => {
                        // One act is several changes to the system.
                        let acts: BTreeSet<(PathBuf, &str)> = changes
                            .into_iter()
                            .filter_map(|(act, name)| {
                                let path = dir.join(name);
                                counts(names, &path, act, dir).map(|operation| (path, operation))
                            })
                            .collect();
                        for (path, operation) in acts {
                            self.tell(sender, what, &path, operation);
                        }
                    }
                    Ok(Seen::Overflow) => sender.lost(lost(None)),
                    // Nothing yet; or the folder is gone, which its own rules or state would have told.
                    Ok(Seen::Nothing) | Err(_) => {}
                }
            }
        }
        self.tell_untold(sender);
    }
}

/// Why a folder can't be watched.
fn refused(dir: &Path) -> Option<String> {
    let error = FolderWatch::begin(dir).err()?;
    Some(format!("{}: {error}", dir.display()))
}

fn lost(count: Option<u64>) -> ObservedLoss {
    let (now, what) = (boot_ns(), EventType::AgentTamper.as_str());
    ObservedLoss { reason: GapReason::QueueFull, what, count, from_ns: now, until_ns: now }
}

/// What was done, in words, if it counts.
fn counts(names: &Names, path: &Path, act: Act, dir: &Path) -> Option<&'static str> {
    let operation = match act {
        Act::Removed | Act::RenamedFrom => "deleted or moved away",
        Act::RenamedTo => "replaced",
        Act::Added | Act::Modified => "written",
    };
    let counts = match names {
        Names::One(one) => one.as_os_str().eq_ignore_ascii_case(path.as_os_str()),
        Names::Rules => is_rule_file(path) || ends_in(path.as_os_str(), &YARA_EXTENSIONS),
        // The agent writes beside and renames, which is to the system that the old one is removed: only a
        // file that is not there, or is not as the agent wrote it, is another's doing.
        Names::Kept => {
            let kept = KEPT.iter().any(|kept| dir.join(kept) == path) && !path.ends_with("dropped");
            kept && if path.exists() {
                act == Act::RenamedTo && state_file::is_anothers(path)
            } else {
                act == Act::Removed
            }
        }
    };
    counts.then_some(operation)
}
