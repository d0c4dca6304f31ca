//! Behaviours of all files, compiled.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use event_model::{RuleId, Severity};

use super::read::{
    BehaviourFile, BehaviourSpec, SeenBy, SequenceSpec, SettingsSpec, parse_behaviours, warning,
};
use crate::diagnostic::{Diagnostic, DiagnosticCode, DiagnosticSeverity};
use crate::rule::{ParsedRule, Role};

/// What every set begins with. No file has a name with a blank in it on the server.
const BUILT_IN: &[(&str, &str)] = &[
    ("built-in linux", include_str!("../../data/behaviour/linux.behaviour.json")),
    ("built-in windows", include_str!("../../data/behaviour/windows.behaviour.json")),
];

const DEFAULT_HALF_LIFE: Duration = Duration::from_secs(600);
const DEFAULT_LEVELS: u32 = 6;
const DEFAULT_THRESHOLDS: [(Severity, f64); 3] =
    [(Severity::Medium, 50.0), (Severity::High, 80.0), (Severity::Critical, 130.0)];

/// A behaviour of the set.
#[derive(Debug)]
pub(super) struct Behaviour {
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) weight: f64,
    pub(super) attack: Vec<String>,
    /// The sequences it is part of, and as which step.
    pub(super) steps: Vec<(u32, usize)>,
}

#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) spec: SequenceSpec,
    pub(super) within_ns: i64,
    /// What it counts for itself.
    pub(super) behaviour: Option<u32>,
}

/// How scores are made and judged.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) half_life: Duration,
    pub(super) half_life_ns: i64,
    pub(super) ancestor_levels: u32,
    thresholds: Vec<(Severity, f64)>,
    boundaries: HashSet<String>,
    /// Beginnings of names.
    boundary_stems: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            half_life: DEFAULT_HALF_LIFE,
            half_life_ns: nanos(DEFAULT_HALF_LIFE),
            ancestor_levels: DEFAULT_LEVELS,
            thresholds: DEFAULT_THRESHOLDS.to_vec(),
            boundaries: HashSet::new(),
            boundary_stems: Vec::new(),
        }
    }
}

impl Settings {
    fn add(&mut self, spec: &SettingsSpec) {
        self.half_life = spec.half_life.unwrap_or(self.half_life);
        self.half_life_ns = nanos(self.half_life);
        self.ancestor_levels = spec.ancestor_levels.unwrap_or(self.ancestor_levels);
        // A threshold alone would leave it open how the others were meant.
        if !spec.thresholds.is_empty() {
            self.thresholds.clone_from(&spec.thresholds);
        }
        for name in &spec.boundaries {
            match name.strip_suffix('*') {
                Some(stem) => self.boundary_stems.push(stem.to_owned()),
                None => {
                    self.boundaries.insert(name.clone());
                }
            }
        }
    }

    pub(super) fn threshold(&self, severity: Severity) -> Option<f64> {
        self.thresholds.iter().find(|(own, _)| *own == severity).map(|(_, threshold)| *threshold)
    }

    pub(super) fn is_boundary(&self, executable: &str) -> bool {
        let name = executable.rsplit(['/', '\\']).next().unwrap_or(executable);
        let name = name.to_lowercase();
        self.boundaries.contains(&name) || self.boundary_stems.iter().any(|stem| name.starts_with(stem))
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// What is known of a behaviour or sequence, for people and APIs.
#[derive(Debug, Clone, PartialEq)]
pub struct BehaviourHead {
    /// Its id.
    pub id: Arc<str>,
    /// What was done.
    pub name: Arc<str>,
    /// What it adds to a score.
    pub weight: f64,
    /// ATT&CK techniques.
    pub attack: Vec<String>,
    /// False where it is switched off.
    pub enabled: bool,
    /// What shows it: `conditions`, a `rule`, or a complete `sequence`.
    pub shown_by: &'static str,
    /// The file that it is from.
    pub file: Arc<str>,
}

/// What files say, the later ones taken into account.
struct Merged {
    settings: Settings,
    specs: Vec<BehaviourSpec>,
    sequences: Vec<SequenceSpec>,
    diagnostics: Vec<Diagnostic>,
}

impl Merged {
    fn of_files(files: impl IntoIterator<Item = BehaviourFile>) -> Self {
        let mut own = Self {
            settings: Settings::default(),
            specs: Vec::new(),
            sequences: Vec::new(),
            diagnostics: Vec::new(),
        };
        files.into_iter().for_each(|file| own.add(file));
        own
    }

    fn add(&mut self, file: BehaviourFile) {
        self.settings.add(&file.settings);
        let mut of_file: HashSet<Arc<str>> = HashSet::new();
        for spec in file.behaviours {
            if !of_file.insert(Arc::clone(&spec.id)) {
                let reason = format!("behaviour id `{}` stands twice in one file", spec.id);
                let (severity, code) = (DiagnosticSeverity::Error, DiagnosticCode::DuplicateId);
                let hint = Some("give each behaviour and sequence its own id".to_owned());
                self.diagnostics.push(Diagnostic::new(severity, code, &spec.place, reason, hint));
                continue;
            }
            let own_steps = format!("{}#", spec.id);
            // The steps of a sequence stand before it, under ids of its own.
            self.specs.retain(|known| {
                known.id != spec.id && (of_file.contains(&known.id) || !known.id.starts_with(&own_steps))
            });
            self.specs.push(spec);
        }
        for sequence in file.sequences {
            self.sequences.retain(|known| known.id != sequence.id);
            self.sequences.push(sequence);
        }
        for change in file.overrides {
            let own_steps = format!("{}#", change.id);
            let mut is_known = false;
            for spec in &mut self.specs {
                let is_it = spec.id == change.id;
                is_known |= is_it;
                if is_it || spec.id.starts_with(&own_steps) {
                    spec.enabled = change.enabled.unwrap_or(spec.enabled);
                }
                if is_it {
                    spec.weight = change.weight.unwrap_or(spec.weight);
                }
            }
            if !is_known {
                let reason =
                    format!("the override of `{}` changes nothing: no behaviour has that id", change.id);
                let hint = "an override is for a behaviour or sequence of an earlier file, or of its own";
                self.diagnostics.push(warning(&change.place, DiagnosticCode::BadReference, reason, hint));
            }
        }
    }
}

/// Behaviours and sequences, compiled. Shared between threads; what was seen is kept by
/// [`BehaviourEngine`](super::BehaviourEngine).
#[derive(Debug, Default)]
pub struct BehaviourSet {
    pub(super) behaviours: Vec<Behaviour>,
    pub(super) sequences: Vec<Sequence>,
    pub(super) settings: Settings,
    pub(super) by_id: HashMap<Arc<str>, u32>,
    pub(super) by_rule: HashMap<RuleId, Vec<u32>>,
}

impl BehaviourSet {
    /// The files that come with the product.
    pub fn built_in() -> Vec<BehaviourFile> {
        BUILT_IN.iter().map(|(name, text)| parse_behaviours(name, text).0).collect()
    }

    /// What is there of behaviours and sequences once files are put together, as [`RuleSet`](crate::RuleSet) does it:
    /// those that are switched off too.
    pub fn heads(files: impl IntoIterator<Item = BehaviourFile>) -> Vec<BehaviourHead> {
        let Merged { specs, .. } = Merged::of_files(files);
        let own = specs.into_iter().filter(|spec| !spec.id.contains('#'));
        own.map(|spec| BehaviourHead {
            shown_by: match spec.seen_by {
                SeenBy::Conditions(_) => "conditions",
                SeenBy::Rule(_) => "rule",
                SeenBy::Sequence => "sequence",
            },
            id: spec.id,
            name: spec.name,
            weight: spec.weight,
            attack: spec.attack,
            enabled: spec.enabled,
            file: spec.place.file,
        })
        .collect()
    }

    /// Puts files together. What a later one has replaces what an earlier one has under the same id, and an entry that
    /// is not `enabled` takes it away. Gives, besides, the conditions as rules for the matcher, and what was left out,
    /// each with the reason.
    pub(crate) fn of_files(
        files: impl IntoIterator<Item = BehaviourFile>,
    ) -> (Self, Vec<ParsedRule>, Vec<Diagnostic>) {
        let Merged { settings, mut specs, mut sequences, mut diagnostics } = Merged::of_files(files);
        // What replaced a sequence by a plain behaviour took the sequence away too, and so does who switches it off.
        let is_sequence = |spec: &&BehaviourSpec| matches!(spec.seen_by, SeenBy::Sequence) && spec.enabled;
        let of_sequences: HashSet<Arc<str>> =
            specs.iter().filter(is_sequence).map(|spec| Arc::clone(&spec.id)).collect();
        sequences.retain(|sequence| of_sequences.contains(&sequence.id));
        specs.retain(|spec| spec.enabled);

        let mut set = Self { settings, ..Self::default() };
        let mut rules = Vec::new();
        for spec in specs {
            let place = u32::try_from(set.behaviours.len()).unwrap_or(u32::MAX);
            match spec.seen_by {
                SeenBy::Conditions(rule) => rules.push(ParsedRule { role: Role::Behaviour(place), ..*rule }),
                SeenBy::Rule(id) => set.by_rule.entry(id).or_default().push(place),
                SeenBy::Sequence => {}
            }
            set.by_id.insert(Arc::clone(&spec.id), place);
            let BehaviourSpec { id, name, weight, attack, .. } = spec;
            set.behaviours.push(Behaviour { id, name, weight, attack, steps: Vec::new() });
        }
        for spec in sequences {
            if let Some(missing) = spec.steps.iter().flatten().find(|step| !set.by_id.contains_key(*step)) {
                let reason =
                    format!("sequence `{}` is left out: no behaviour has the id `{missing}`", spec.id);
                let hint =
                    "a step names a behaviour that is loaded and enabled, or has conditions of its own";
                diagnostics.push(warning(&spec.place, DiagnosticCode::BadReference, reason, hint));
                continue;
            }
            let number = u32::try_from(set.sequences.len()).unwrap_or(u32::MAX);
            let steps = spec.steps.iter().enumerate();
            for (step, id) in steps.flat_map(|(step, ids)| ids.iter().map(move |id| (step, id))) {
                if let Some(behaviour) = set.by_id.get(id).and_then(|at| set.behaviours.get_mut(*at as usize))
                {
                    behaviour.steps.push((number, step));
                }
            }
            let behaviour = set.by_id.get(&spec.id).copied();
            set.sequences.push(Sequence { within_ns: nanos(spec.within), behaviour, spec });
        }
        (set, rules, diagnostics)
    }

    /// How many behaviours and sequences it has.
    pub fn len(&self) -> usize {
        self.behaviours.len()
    }

    /// True where nothing loaded.
    pub fn is_empty(&self) -> bool {
        self.behaviours.is_empty()
    }
}
