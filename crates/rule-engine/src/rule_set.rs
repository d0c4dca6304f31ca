//! Rules, compiled: what an agent judges each event with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use event_model::{ActionKind, EventType, FieldSource, ResponseMode, RuleId};

use crate::diagnostic::{Diagnostic, DiagnosticCode, DiagnosticSeverity};
use crate::event::{EventBuffer, FieldId, FieldNames};
use crate::group::{Group, Groups};
use crate::log_source::{LogSource, LogSources, Router, SourceId};
use crate::matcher::{Desk, RuleIndex};
use crate::rule::{ParsedRule, RuleHead};

/// Which rules to judge. Hashing an image takes longer than judging it, so that
/// rules which don't need the hash are judged first and can act at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The rules that don't use hash fields.
    WithoutHash,
    /// The rules that do.
    HashOnly,
    /// Both.
    All,
}

/// A set, and what was wrong with it as a whole.
#[derive(Debug)]
pub struct CompileOutcome {
    /// The rules that loaded.
    pub rules: RuleSet,
    /// Rules that were left out, each with the reason.
    pub diagnostics: Vec<Diagnostic>,
}

/// What rules are judged with.
#[derive(Debug, Clone, Default)]
pub struct CompileOptions {
    /// Which events are which log source.
    pub log_sources: LogSources,
    /// The system that live events come from, in Sigma's words (`linux`, `windows`, `macos`): Sigma
    /// rules for others don't judge them. Without it, rules for every system do.
    pub live_product: Option<String>,
}

/// Rules grouped by the events that they judge. Shared between threads.
#[derive(Debug, Default)]
pub struct RuleSet {
    pub(crate) rules: Vec<LoadedRule>,
    names: FieldNames,
    searches_all_values: bool,
    log_sources: LogSources,
    router: Option<Router>,
    groups: Groups,
    /// Memory of judging live events, used again.
    spare: Mutex<Vec<(EventBuffer, Desk)>>,
}

#[derive(Debug)]
pub(crate) struct LoadedRule {
    pub(crate) rule: ParsedRule,
    candidates: AtomicU64,
    matches: AtomicU64,
    cost_ns: AtomicU64,
}

/// One rule that matched.
#[derive(Debug)]
pub struct RuleMatch<'a> {
    /// The rule; [`RuleHead::reference`] is what a detection carries.
    pub rule: &'a RuleHead,
    /// The conditions that matched, as written.
    pub matched: Vec<&'a str>,
}

/// How much a rule worked since it was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleCounters<'a> {
    /// The rule.
    pub rule: &'a RuleHead,
    /// Events it was judged on.
    pub evaluations: u64,
    /// Those of them that had something the rule looks for, so that its conditions were computed.
    pub candidates: u64,
    /// Events it matched, exceptions taken off.
    pub matches: u64,
    /// Time spent on its conditions, from a sample of one event in 64.
    pub cost: Duration,
}

/// One event in so many is timed.
const COST_SAMPLE: u64 = 64;

impl RuleSet {
    /// Builds a set with the log sources that are built in. Of rules with the same id the first stays.
    pub fn compile(rules: impl IntoIterator<Item = ParsedRule>) -> CompileOutcome {
        Self::compile_with(rules, CompileOptions::default())
    }

    /// Builds a set.
    pub fn compile_with(
        rules: impl IntoIterator<Item = ParsedRule>,
        options: CompileOptions,
    ) -> CompileOutcome {
        let CompileOptions { log_sources, live_product } = options;
        let (rules, diagnostics) = without_duplicate_ids(rules);
        let mut names = FieldNames::default();
        let router = Router::new(&log_sources, &mut names);
        Groups::intern_names(&rules, &log_sources, &mut names);
        let groups = Groups::new(&rules, &log_sources, live_product, &names);
        let loaded = |rule| LoadedRule {
            rule,
            candidates: AtomicU64::new(0),
            matches: AtomicU64::new(0),
            cost_ns: AtomicU64::new(0),
        };
        let set = Self {
            searches_all_values: rules.iter().any(ParsedRule::searches_all_values),
            rules: rules.into_iter().map(loaded).collect(),
            names,
            log_sources,
            router: Some(router),
            groups,
            spare: Mutex::default(),
        };
        CompileOutcome { rules: set, diagnostics }
    }

    /// The rules of the phase that match the event, in the order they were given.
    /// A rule that an exception silences is not among them.
    pub fn evaluate<'a>(&'a self, event: &dyn FieldSource, phase: Phase) -> Vec<RuleMatch<'a>> {
        let mut matches = Vec::new();
        let Some(group) = self.groups.live(event.event_type()) else { return matches };
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (mut buffer, mut desk) = spare.unwrap_or_default();
        group.fill(event, phase, &mut buffer);
        self.judge_group(group, phase, &buffer, &mut desk, &mut matches);
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push((buffer, desk));
        matches
    }

    /// The id of a field, if any rule (or log source) names it; an event's other fields matter only
    /// where [`Self::searches_all_values`].
    pub fn field(&self, name: &str) -> Option<FieldId> {
        self.names.get(name)
    }

    /// The names of fields.
    pub fn field_names(&self) -> &FieldNames {
        &self.names
    }

    /// Whether a rule looks for something in all values, whatever their field.
    pub fn searches_all_values(&self) -> bool {
        self.searches_all_values
    }

    /// Scratch memory for [`Self::judge`], one for each thread.
    pub fn desk(&self) -> Desk {
        Desk::default()
    }

    /// The log source of a record, by its fields.
    pub fn route(&self, event: &EventBuffer) -> Option<SourceId> {
        self.router.as_ref()?.route(event)
    }

    /// The log source with exactly these parts, for readers that know it.
    pub fn source(&self, log_source: &LogSource) -> Option<SourceId> {
        Router::named(&self.log_sources, log_source)
    }

    /// The rules that match a record of that log source, in the order they were given. Allocates
    /// nothing where none does. The first record of a source has its rules compiled.
    pub fn judge<'a>(
        &'a self,
        event: &EventBuffer,
        source: SourceId,
        desk: &mut Desk,
    ) -> Vec<RuleMatch<'a>> {
        let mut matches = Vec::new();
        let rules = || self.rules.iter().map(|loaded| &loaded.rule);
        if let Some(group) = self.groups.of_source(source, rules, &self.log_sources, &self.names) {
            self.judge_group(group, Phase::All, event, desk, &mut matches);
        }
        matches
    }

    fn judge_group<'a>(
        &'a self,
        group: &Group,
        phase: Phase,
        event: &EventBuffer,
        desk: &mut Desk,
        matches: &mut Vec<RuleMatch<'a>>,
    ) {
        let evaluation = group.count(phase);
        let (without_hash, with_hash) = (&group.without_hash, &group.with_hash);
        let indices: &[&RuleIndex] = match phase {
            Phase::WithoutHash => &[without_hash],
            Phase::HashOnly => &[with_hash],
            Phase::All => &[without_hash, with_hash],
        };
        if indices.iter().all(|index| index.is_empty()) {
            return;
        }
        desk.take(event);
        let is_timed = evaluation.is_multiple_of(COST_SAMPLE);
        for index in indices {
            index.candidates(event, desk, |place, view| {
                let Some(loaded) = self.rules.get(place) else { return };
                let start = is_timed.then(std::time::Instant::now);
                let holds = loaded.rule.holds(view) && !loaded.rule.is_excepted(view, event.time());
                loaded.candidates.fetch_add(1, Ordering::Relaxed);
                if let Some(start) = start {
                    let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    loaded.cost_ns.fetch_add(nanos.saturating_mul(COST_SAMPLE), Ordering::Relaxed);
                }
                if holds {
                    loaded.matches.fetch_add(1, Ordering::Relaxed);
                    matches.push(RuleMatch {
                        rule: &loaded.rule.head,
                        matched: loaded.rule.matched_conditions(view),
                    });
                }
            });
        }
    }

    /// Every rule that loaded, also those that are switched off.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = &ParsedRule> {
        self.rules.iter().map(|loaded| &loaded.rule)
    }

    /// How many rules loaded, also those that are switched off.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// True where none loaded.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether an active rule needs the image's hash on events of this type.
    pub fn needs_hash(&self, event_type: EventType) -> bool {
        self.groups.live(event_type).is_some_and(|group| !group.with_hash.is_empty())
    }

    /// Whether an active rule may end a process at once on events of this type,
    /// so that they must not wait.
    pub fn may_terminate_on(&self, event_type: EventType) -> bool {
        let ends_process =
            |action: &ActionKind| matches!(action, ActionKind::TerminateProcess | ActionKind::KillTree);
        self.groups.live(event_type).is_some_and(|group| {
            group.without_hash.rules().chain(group.with_hash.rules()).any(|place| {
                let head = self.rules[place].rule.head();
                head.mode == ResponseMode::Auto && head.actions.iter().any(ends_process)
            })
        })
    }

    /// The work of each active rule since the set was compiled.
    pub fn counters(&self) -> impl Iterator<Item = RuleCounters<'_>> {
        let mut evaluations = vec![0_u64; self.rules.len()];
        self.groups.add_evaluations(&mut evaluations);
        let active = self.rules.iter().zip(evaluations).filter(|(loaded, _)| loaded.rule.head.is_active());
        active.map(|(loaded, evaluations)| RuleCounters {
            rule: loaded.rule.head(),
            evaluations,
            candidates: loaded.candidates.load(Ordering::Relaxed),
            matches: loaded.matches.load(Ordering::Relaxed),
            cost: Duration::from_nanos(loaded.cost_ns.load(Ordering::Relaxed)),
        })
    }
}

/// Leaves out each rule whose id an earlier one has.
pub(crate) fn without_duplicate_ids(
    rules: impl IntoIterator<Item = ParsedRule>,
) -> (Vec<ParsedRule>, Vec<Diagnostic>) {
    let mut kept: Vec<ParsedRule> = Vec::new();
    let mut place_of: HashMap<RuleId, usize> = HashMap::new();
    let mut diagnostics = Vec::new();
    for rule in rules {
        if let Some(first) = place_of.get(&rule.head.id) {
            let first = &kept[*first];
            let reason = format!(
                "rule id `{}` is taken by `{}` ({}:{}:{})",
                rule.head.id, first.head.name, first.place.file, first.place.line, first.place.column
            );
            let hint = Some("give each rule its own id".to_owned());
            let (severity, code) = (DiagnosticSeverity::Error, DiagnosticCode::DuplicateId);
            diagnostics.push(Diagnostic::new(severity, code, &rule.place, reason, hint));
        } else {
            place_of.insert(rule.head.id.clone(), kept.len());
            kept.push(rule);
        }
    }
    (kept, diagnostics)
}
