//! Rules, compiled: what an agent judges each event with.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event_model::{ActionKind, EventType, FieldSource, ResponseMode, RuleId, RuleScope, resolve_field};

use crate::behaviour::{BehaviourFile, BehaviourSet};
use crate::correlation::{CorrelationCounters, Correlations};
use crate::diagnostic::{Diagnostic, DiagnosticCode, DiagnosticSeverity};
use crate::event::{EventBuffer, FieldId, FieldNames};
use crate::expression::{Expression, FieldRef, Slot, View};
use crate::group::{Group, GroupParts, Groups, SYSMON_HASHES};
use crate::log_source::{LogSource, LogSources, Router, SourceId};
use crate::matcher::{Desk, RuleIndex};
use crate::rule::{FilterTargets, HostNames, ParsedRule, Role, RuleHead};

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
    /// rules for others don't judge them. Without it, rules for every system do, and rules for
    /// live events are compiled only when one comes.
    pub live_product: Option<String>,
    /// The host whose events are judged; without it, exceptions for some hosts only don't count.
    pub host: Option<HostNames>,
    /// Behaviours of process trees, the earlier file first.
    pub behaviours: Vec<BehaviourFile>,
    /// What all correlations together may remember, in bytes; without it 256 MiB.
    pub correlation_bytes: Option<usize>,
}

/// Rules grouped by the events that they judge. Shared between threads.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// Rules, and behind them the conditions of behaviours.
    pub(crate) rules: Vec<LoadedRule>,
    /// How many are rules.
    alerting: usize,
    behaviours: Arc<BehaviourSet>,
    names: FieldNames,
    searches_all_values: bool,
    log_sources: LogSources,
    router: Option<Router>,
    groups: Groups,
    filters: usize,
    has_correlations: bool,
    correlations: Mutex<Correlations>,
    /// Memory of judging live events, used again.
    spare: Mutex<Vec<(EventBuffer, Desk)>>,
}

#[derive(Debug)]
pub(crate) struct LoadedRule {
    pub(crate) rule: ParsedRule,
    /// Shared with the set before or after this one, where that has the same rule.
    work: Arc<Work>,
    /// Events that sets before this one judged it on.
    evaluations_before: u64,
}

#[derive(Debug, Default)]
struct Work {
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

/// What a live event is.
#[derive(Debug, Default)]
pub struct Verdicts<'a> {
    /// The rules that match, in the order they were given.
    pub matches: Vec<RuleMatch<'a>>,
    /// The behaviours that it shows by conditions of their own: places in the set.
    pub(crate) behaviours: Vec<u32>,
    /// The correlations among the matches, as places in the set: one event may complete one several times.
    completed: HashSet<usize>,
    /// The rules that matched, as places in the set, also those that match only for correlations.
    held: Vec<usize>,
}

impl Verdicts<'_> {
    /// True where no rule matches and no behaviour is shown.
    pub fn is_empty(&self) -> bool {
        self.matches.is_empty() && self.behaviours.is_empty()
    }
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
        let CompileOptions { log_sources, live_product, host, behaviours, correlation_bytes } = options;
        let (rules, mut diagnostics) = without_duplicate_ids(rules);
        let (mut filters, mut rules): (Vec<_>, Vec<_>) = rules.into_iter().partition(ParsedRule::is_filter);
        // One that is switched off hides nothing.
        filters.retain(|filter| filter.head.is_active());
        for filter in &filters {
            diagnostics.extend(add_filter(filter, &mut rules));
        }
        let (mut correlations, refused) = Correlations::new(&mut rules);
        correlations.set_limit(correlation_bytes.unwrap_or_default());
        diagnostics.extend(refused);
        let alerting = rules.len();
        // Behind the rules: nothing that a rule refers to by id or number is a behaviour.
        let (behaviours, of_behaviours, refused) = BehaviourSet::of_files(behaviours);
        diagnostics.extend(refused);
        rules.extend(of_behaviours);
        for rule in &mut rules {
            rule.exceptions.retain(|exception| exception.is_for(host.as_ref()));
        }
        let mut names = FieldNames::default();
        let router = Router::new(&log_sources, &mut names);
        Groups::intern_names(&rules, &log_sources, &mut names);
        let has_live_events = live_product.is_some();
        let groups = Groups::new(&log_sources, live_product);
        let loaded = |rule| LoadedRule { rule, work: Arc::default(), evaluations_before: 0 };
        let set = Self {
            searches_all_values: rules.iter().any(ParsedRule::searches_all_values),
            rules: rules.into_iter().map(loaded).collect(),
            alerting,
            behaviours: Arc::new(behaviours),
            names,
            log_sources,
            router: Some(router),
            groups,
            filters: filters.len(),
            has_correlations: !correlations.is_empty(),
            correlations: Mutex::new(correlations),
            spare: Mutex::default(),
        };
        if has_live_events {
            // No event is to wait for it.
            set.groups.all_live(set.group_parts()).for_each(drop);
        }
        CompileOutcome { rules: set, diagnostics }
    }

    /// The rules of the phase that match the event, in the order they were given.
    /// A rule that an exception silences is not among them.
    pub fn evaluate<'a>(&'a self, event: &dyn FieldSource, phase: Phase) -> Vec<RuleMatch<'a>> {
        self.verdicts(event, phase).matches
    }

    /// The rules of the phase that match a live event, and the behaviours that it shows.
    pub fn verdicts<'a>(&'a self, event: &dyn FieldSource, phase: Phase) -> Verdicts<'a> {
        let mut verdicts = Verdicts::default();
        let Some(group) = self.live_group(event.event_type()) else { return verdicts };
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (mut buffer, mut desk) = spare.unwrap_or_default();
        group.fill(event, phase, &mut buffer);
        self.judge_group(group, phase, &buffer, &mut desk, &mut verdicts);
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push((buffer, desk));
        verdicts
    }

    /// The behaviours that were compiled with the rules.
    pub fn behaviours(&self) -> &Arc<BehaviourSet> {
        &self.behaviours
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

    /// A log source whose records a rule with this log source judges: for events that don't say what they are,
    /// and whose fields are called as the rule calls them.
    pub fn source_judged_by(&self, log_source: &LogSource) -> Option<SourceId> {
        Router::judged_by(&self.log_sources, log_source)
    }

    /// The rules that match a record of that log source, in the order they were given. Allocates
    /// nothing where none does. The first record of a source has its rules compiled.
    pub fn judge<'a>(&'a self, event: &EventBuffer, source: SourceId, desk: &mut Desk) -> Vec<RuleMatch<'a>> {
        self.judge_as_each(event, std::slice::from_ref(&source), desk)
    }

    /// Likewise for a record of several log sources. A rule that judges records of more than one of them matches, and
    /// counts for correlations, once.
    pub fn judge_as_each<'a>(
        &'a self,
        event: &EventBuffer,
        sources: &[SourceId],
        desk: &mut Desk,
    ) -> Vec<RuleMatch<'a>> {
        let mut verdicts = Verdicts::default();
        for group in sources.iter().filter_map(|source| self.group_of(*source)) {
            self.judge_group(group, Phase::All, event, desk, &mut verdicts);
        }
        verdicts.matches
    }

    pub(crate) fn group_of(&self, source: SourceId) -> Option<&Group> {
        self.groups.of_source(source, self.group_parts())
    }

    pub(crate) fn live_group(&self, event_type: EventType) -> Option<&Group> {
        self.groups.live(event_type, self.group_parts())
    }

    fn group_parts(&self) -> GroupParts<'_> {
        GroupParts { rules: &self.rules, sources: &self.log_sources, names: &self.names }
    }

    fn judge_group<'a>(
        &'a self,
        group: &Group,
        phase: Phase,
        event: &EventBuffer,
        desk: &mut Desk,
        verdicts: &mut Verdicts<'a>,
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
        let held_before = verdicts.held.len();
        for index in indices {
            index.candidates(event, desk, |place, view| {
                let Some(loaded) = self.rules.get(place) else { return };
                // As a record of another log source.
                if verdicts.held.iter().take(held_before).any(|held| *held == place) {
                    return;
                }
                let start = is_timed.then(std::time::Instant::now);
                let holds = loaded.rule.holds(view) && !loaded.rule.is_excepted(view, event.time());
                loaded.work.candidates.fetch_add(1, Ordering::Relaxed);
                if let Some(start) = start {
                    let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    loaded.work.cost_ns.fetch_add(nanos.saturating_mul(COST_SAMPLE), Ordering::Relaxed);
                }
                if !holds {
                    return;
                }
                loaded.work.matches.fetch_add(1, Ordering::Relaxed);
                verdicts.held.push(place);
                match loaded.rule.role {
                    Role::Behaviour(behaviour) => verdicts.behaviours.push(behaviour),
                    _ => self.matched(place, view, verdicts),
                }
            });
        }
    }

    /// Puts in what a rule's match is: itself, and correlations that it completes and that are not yet in.
    fn matched<'a>(&'a self, place: usize, view: View<'_>, verdicts: &mut Verdicts<'a>) {
        let own = |place: usize| self.rules.get(place).map(|loaded| &loaded.rule);
        let mut fired = Vec::new();
        let mut is_silent = false;
        if self.has_correlations {
            let mut correlations = self.correlations.lock().unwrap_or_else(PoisonError::into_inner);
            if correlations.has_part(place) {
                is_silent = correlations.is_silent(place);
                fired = correlations.take(place, view);
                fired.retain(|place| !correlations.is_silent(*place) && verdicts.completed.insert(*place));
            }
        }
        if !is_silent && let Some(rule) = own(place) {
            verdicts.matches.push(RuleMatch { rule: &rule.head, matched: rule.matched_conditions(view) });
        }
        for rule in fired.into_iter().filter_map(own).filter(|rule| rule.head.is_active()) {
            let matched = rule.head.conditions.iter().map(String::as_str).collect();
            verdicts.matches.push(RuleMatch { rule: &rule.head, matched });
        }
    }

    /// Whether rules remember earlier events: then only one thread gives the same detections each time.
    pub fn has_correlations(&self) -> bool {
        self.has_correlations
    }

    /// What correlations remember, and had to forget.
    pub fn correlation_counters(&self) -> CorrelationCounters {
        self.correlations.lock().unwrap_or_else(PoisonError::into_inner).counters()
    }

    /// Takes over from the set that this one replaces what the same correlations counted so far, and the work of
    /// the same rules. Both go on with it together, so that nothing is lost of what is judged meanwhile.
    pub fn take_over(&mut self, before: &Self) {
        let id_in = |rules: &[LoadedRule], place: usize| Some(rules.get(place)?.rule.head.id.clone());
        let Self { rules, correlations, .. } = self;
        let own = correlations.get_mut().unwrap_or_else(PoisonError::into_inner);
        let others = before.correlations.lock().unwrap_or_else(PoisonError::into_inner);
        own.take_over(&others, |place| id_in(rules, place), |place| id_in(&before.rules, place));
        drop(others);
        let mut evaluations = vec![0_u64; before.rules.len()];
        before.groups.add_evaluations(&mut evaluations);
        let worked = before.rules.iter().zip(evaluations);
        let by_id: HashMap<&RuleId, (&LoadedRule, u64)> =
            worked.map(|(loaded, evaluations)| (&loaded.rule.head.id, (loaded, evaluations))).collect();
        for loaded in rules {
            let same =
                by_id.get(&loaded.rule.head.id).filter(|(other, _)| other.rule.text == loaded.rule.text);
            if let Some((other, evaluations)) = same {
                loaded.work = Arc::clone(&other.work);
                loaded.evaluations_before = other.evaluations_before + evaluations;
            }
        }
    }

    /// The rules that match only for correlations, so that their own match is told of nowhere and does nothing.
    pub fn silent_rules(&self) -> HashSet<RuleId> {
        let correlations = self.correlations.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = correlations.silent_rules().filter_map(|place| self.rules.get(place));
        silent.map(|loaded| loaded.rule.head.id.clone()).collect()
    }

    /// How many Sigma filters were added to rules; they are not among [`Self::rules`].
    pub fn filters(&self) -> usize {
        self.filters
    }

    /// Every rule that loaded, also those that are switched off; no behaviours.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = &ParsedRule> {
        self.rules[..self.alerting].iter().map(|loaded| &loaded.rule)
    }

    /// How many rules loaded, also those that are switched off; no behaviours.
    pub fn len(&self) -> usize {
        self.alerting
    }

    /// True where none loaded.
    pub fn is_empty(&self) -> bool {
        self.alerting == 0
    }

    /// Whether an active rule or a behaviour needs the image's hash on events of this type.
    pub fn needs_hash(&self, event_type: EventType) -> bool {
        self.live_group(event_type).is_some_and(|group| !group.with_hash.is_empty())
    }

    /// Whether an active rule may end a process at once on events of this type,
    /// so that they must not wait.
    pub fn may_terminate_on(&self, event_type: EventType) -> bool {
        let ends_process =
            |action: &ActionKind| matches!(action, ActionKind::TerminateProcess | ActionKind::KillTree);
        self.live_group(event_type).is_some_and(|group| {
            group.without_hash.rules().chain(group.with_hash.rules()).any(|place| {
                let head = self.rules[place].rule.head();
                head.mode == ResponseMode::Auto && head.actions.iter().any(ends_process)
            })
        })
    }

    /// Whether an active rule may do more than tell of what it matches, by itself or when asked to.
    pub fn may_act(&self) -> bool {
        let acts = |action: &ActionKind| *action != ActionKind::Alert;
        let heads = self.rules.iter().map(|loaded| loaded.rule.head());
        heads.filter(|head| head.mode != ResponseMode::Detect).any(|head| head.actions.iter().any(acts))
    }

    /// The active rules that no live event can reach where only these types are collected, each with the
    /// reason. Correlations are left out: what they count are matches of other rules.
    pub fn without_source(&self, collected: &[EventType]) -> Vec<(&ParsedRule, String)> {
        let mut types_of: Vec<Vec<EventType>> = vec![Vec::new(); self.rules.len()];
        for (event_type, group) in self.groups.all_live(self.group_parts()) {
            for place in group.without_hash.rules().chain(group.with_hash.rules()) {
                if let Some(types) = types_of.get_mut(place) {
                    types.push(event_type);
                }
            }
        }
        let judging = self
            .rules()
            .zip(types_of)
            .filter(|(rule, _)| matches!(rule.role, Role::Events) && rule.head.is_active());
        let starved = judging.filter(|(_, types)| !types.iter().any(|own| collected.contains(own)));
        let with_reason = |(rule, types): (_, Vec<EventType>)| {
            let rule: &ParsedRule = rule;
            let what = match (types.as_slice(), rule.log_source()) {
                ([], Some(log_source)) => format!("events of {log_source}"),
                ([], None) => rule.telemetry.describe().to_owned(),
                (types, _) => {
                    let words: Vec<&str> = types.iter().map(|it| it.as_str()).collect();
                    format!("{} events", words.join(" or "))
                }
            };
            (rule, format!("no source of {what}"))
        };
        starved.map(with_reason).collect()
    }

    /// Fields that active Sigma rules name and none of the live events has that they judge, of these types; with
    /// each the name that is nearest to it. What judges no such event is left out.
    pub fn without_field(&self, collected: &[EventType]) -> Vec<(&ParsedRule, &str, Option<&'static str>)> {
        let mut scopes_of: Vec<Vec<RuleScope>> = vec![Vec::new(); self.alerting];
        let live = self.groups.all_live(self.group_parts());
        for (_, group) in live.filter(|(event_type, _)| collected.contains(event_type)) {
            for place in group.without_hash.rules().chain(group.with_hash.rules()) {
                if let Some(scopes) = scopes_of.get_mut(place) {
                    scopes.extend(group.scope);
                }
            }
        }
        let mut unknown = Vec::new();
        for (rule, scopes) in self.rules().zip(scopes_of) {
            let names = rule.fields.iter().filter_map(|field| match field {
                FieldRef::Named(name) if &**name != SYSMON_HASHES => Some(&**name),
                _ => None,
            });
            for name in names {
                let found: Vec<_> = scopes.iter().map(|scope| resolve_field(*scope, name)).collect();
                if !found.is_empty() && found.iter().all(Result::is_err) {
                    let nearest =
                        found.iter().find_map(|found| found.as_ref().err().and_then(|it| it.nearest));
                    unknown.push((rule, name, nearest));
                }
            }
        }
        unknown
    }

    /// The work of each active rule since the set was compiled, or since one that it took over from was.
    pub fn counters(&self) -> impl Iterator<Item = RuleCounters<'_>> {
        self.counters_of(0..self.alerting)
    }

    /// The work of the conditions of each behaviour since the set was compiled.
    pub fn behaviour_counters(&self) -> impl Iterator<Item = RuleCounters<'_>> {
        self.counters_of(self.alerting..self.rules.len())
    }

    fn counters_of(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = RuleCounters<'_>> {
        let mut evaluations = vec![0_u64; self.rules.len()];
        self.groups.add_evaluations(&mut evaluations);
        let own = self.rules.iter().zip(evaluations).take(range.end).skip(range.start);
        let active = own.filter(|(loaded, _)| loaded.rule.head.is_active());
        active.map(|(loaded, evaluations)| RuleCounters {
            rule: loaded.rule.head(),
            evaluations: loaded.evaluations_before + evaluations,
            candidates: loaded.work.candidates.load(Ordering::Relaxed),
            matches: loaded.work.matches.load(Ordering::Relaxed),
            cost: Duration::from_nanos(loaded.work.cost_ns.load(Ordering::Relaxed)),
        })
    }
}

/// Adds a filter's conditions to each rule that it is for; a warning where there is none.
fn add_filter(filter: &ParsedRule, rules: &mut [ParsedRule]) -> Option<Diagnostic> {
    let (Role::Filter(targets), Some(log_source)) = (&filter.role, &filter.log_source) else { return None };
    let is_for = |rule: &ParsedRule| match targets {
        FilterTargets::Any => true,
        FilterTargets::Rules(names) => {
            let is_named = |name: &String| rule.head.id.as_str() == name || rule.name.as_ref() == Some(name);
            names.iter().any(is_named)
        }
    };
    let mut has_any = false;
    for rule in rules {
        let Some(own) = &rule.log_source else { continue };
        if !log_source.contains(own) || !is_for(rule) {
            continue;
        }
        has_any = true;
        let slots: Vec<Slot> =
            filter.fields.iter().map(|field| field.clone().slot_in(&mut rule.fields)).collect();
        let mut condition = Expression::any(filter.conditions.clone());
        condition.move_slots(&mut |slot| slots.get(usize::from(slot.0)).copied().unwrap_or(slot));
        rule.filters.push(condition);
        rule.needs_hash |= filter.needs_hash;
    }
    let reason = format!("filter `{}` is for no rule that is loaded", filter.head.name);
    let hint = Some("its `rules` name ids, and its logsource is to be as wide as theirs or wider".to_owned());
    let (severity, code) = (DiagnosticSeverity::Warning, DiagnosticCode::BadReference);
    (!has_any).then(|| Diagnostic::new(severity, code, &filter.place, reason, hint))
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
