//! Rules, compiled: what an agent judges each event with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use event_model::{ActionKind, EventType, Field, FieldSource, ResponseMode, RuleId};

use crate::diagnostic::{Diagnostic, DiagnosticCode, DiagnosticSeverity};
use crate::expression::EventView;
use crate::rule::{ParsedRule, RuleHead};
use crate::telemetry::Telemetry;

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

/// Rules grouped by the type of event that they judge. Shared between threads.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<LoadedRule>,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct LoadedRule {
    rule: ParsedRule,
    matches: AtomicU64,
}

/// The active rules for one kind of events, as indices.
#[derive(Debug)]
struct Group {
    telemetry: Telemetry,
    /// The fields that they use; a test's slot is an index into it.
    fields: Vec<Field>,
    without_hash: Vec<usize>,
    with_hash: Vec<usize>,
    /// Every rule of a list is judged as often as the list: two counters for all.
    evaluations_without_hash: AtomicU64,
    evaluations_with_hash: AtomicU64,
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
    /// Events it matched, exceptions taken off.
    pub matches: u64,
}

impl Group {
    fn slot_of(&mut self, field: Field) -> usize {
        self.fields.iter().position(|known| *known == field).unwrap_or_else(|| {
            self.fields.push(field);
            self.fields.len() - 1
        })
    }
}

impl RuleSet {
    /// Builds a set. Of rules with the same id the first stays.
    pub fn compile(rules: impl IntoIterator<Item = ParsedRule>) -> CompileOutcome {
        let (rules, diagnostics) = without_duplicate_ids(rules);
        let mut set = Self::default();
        for mut rule in rules {
            let index = set.rules.len();
            if rule.head.is_active() {
                let group = set.group_mut(rule.telemetry);
                rule.place_fields(|field| group.slot_of(field));
                let list = if rule.needs_hash { &mut group.with_hash } else { &mut group.without_hash };
                list.push(index);
            }
            set.rules.push(LoadedRule { rule, matches: AtomicU64::new(0) });
        }
        CompileOutcome { rules: set, diagnostics }
    }

    fn group_mut(&mut self, telemetry: Telemetry) -> &mut Group {
        let place = self.groups.iter().position(|group| group.telemetry == telemetry).unwrap_or_else(|| {
            self.groups.push(Group {
                telemetry,
                fields: Vec::new(),
                without_hash: Vec::new(),
                with_hash: Vec::new(),
                evaluations_without_hash: AtomicU64::new(0),
                evaluations_with_hash: AtomicU64::new(0),
            });
            self.groups.len() - 1
        });
        &mut self.groups[place]
    }

    fn group(&self, event_type: EventType) -> Option<&Group> {
        let telemetry = Telemetry::of_event(event_type)?;
        self.groups.iter().find(|group| group.telemetry == telemetry)
    }

    /// The rules of the phase that match the event, in the order they were given.
    /// A rule that an exception silences is not among them.
    pub fn evaluate<'a>(&'a self, event: &dyn FieldSource, phase: Phase) -> Vec<RuleMatch<'a>> {
        let mut matches = Vec::new();
        let Some(group) = self.group(event.event_type()) else { return matches };
        let (without_hash, with_hash) = match phase {
            Phase::WithoutHash => (group.without_hash.as_slice(), [].as_slice()),
            Phase::HashOnly => ([].as_slice(), group.with_hash.as_slice()),
            Phase::All => (group.without_hash.as_slice(), group.with_hash.as_slice()),
        };
        if phase != Phase::HashOnly {
            group.evaluations_without_hash.fetch_add(1, Ordering::Relaxed);
        }
        if phase != Phase::WithoutHash {
            group.evaluations_with_hash.fetch_add(1, Ordering::Relaxed);
        }
        if without_hash.is_empty() && with_hash.is_empty() {
            return matches;
        }
        let view = EventView::new(event, &group.fields);
        for index in without_hash.iter().chain(with_hash) {
            let loaded = &self.rules[*index];
            if loaded.rule.holds(&view) && !loaded.rule.is_excepted(&view, event.observed_at()) {
                loaded.matches.fetch_add(1, Ordering::Relaxed);
                let matched = loaded.rule.matched_conditions(&view);
                matches.push(RuleMatch { rule: &loaded.rule.head, matched });
            }
        }
        matches
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
        self.group(event_type).is_some_and(|group| !group.with_hash.is_empty())
    }

    /// Whether an active rule may end a process at once on events of this type,
    /// so that they must not wait.
    pub fn may_terminate_on(&self, event_type: EventType) -> bool {
        let ends_process =
            |action: &ActionKind| matches!(action, ActionKind::TerminateProcess | ActionKind::KillTree);
        self.group(event_type).is_some_and(|group| {
            group.without_hash.iter().chain(&group.with_hash).any(|index| {
                let head = self.rules[*index].rule.head();
                head.mode == ResponseMode::Auto && head.actions.iter().any(ends_process)
            })
        })
    }

    /// The work of each active rule since the set was compiled.
    pub fn counters(&self) -> impl Iterator<Item = RuleCounters<'_>> {
        self.groups.iter().flat_map(move |group| {
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let (without, with) =
                (count(&group.evaluations_without_hash), count(&group.evaluations_with_hash));
            let without = group.without_hash.iter().map(move |index| (*index, without));
            let all = without.chain(group.with_hash.iter().map(move |index| (*index, with)));
            all.map(move |(index, evaluations)| {
                let loaded = &self.rules[index];
                RuleCounters { rule: loaded.rule.head(), evaluations, matches: count(&loaded.matches) }
            })
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
