//! Rules over the matches of other rules.
//!
//! What is counted is kept for each group of values (`group-by`) as long as the timespan; time is that of
//! the events. When a group fulfils the condition, the rule matches and the group begins anew, so that one
//! burst is one match. All of it is bounded: see [`window`].

mod window;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use window::{Entry, Windows};

use crate::diagnostic::{Diagnostic, DiagnosticCode, DiagnosticSeverity};
use crate::event::StoredKind;
use crate::expression::{FieldRef, Order, Slot, View};
use crate::rule::{ParsedRule, Role};
use crate::sigma::ConditionTree;

/// A correlation as it was read.
#[derive(Debug)]
pub(crate) struct Correlation {
    pub(crate) kind: CorrelationKind,
    /// Ids or names.
    pub(crate) rules: Vec<String>,
    pub(crate) group_by: Vec<String>,
    pub(crate) timespan_ns: i64,
    /// For each name in `group_by` that is none of a field, the field it is in each rule.
    pub(crate) aliases: Vec<(String, Vec<(String, String)>)>,
    /// Whether the rules it refers to also match by themselves.
    pub(crate) generate: bool,
}

#[derive(Debug)]
pub(crate) enum CorrelationKind {
    /// A number with its bounds.
    Measured(Measure, Vec<Bound>),
    /// All rules, or as the condition has it.
    Together(Option<ConditionTree>),
    /// All rules, in their order.
    Ordered,
}

/// What is measured; of several fields, the values together.
#[derive(Debug)]
pub(crate) enum Measure {
    Events,
    Distinct(Vec<String>),
    Sum(Vec<String>),
    Average(Vec<String>),
    /// By the nearest rank.
    Percentile(Vec<String>, f64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    Is(Order, f64),
    Not(f64),
}

impl Bound {
    fn holds(self, number: f64) -> bool {
        match self {
            Self::Is(order, bound) => order.holds(&number, &bound),
            Self::Not(bound) => number.partial_cmp(&bound) != Some(std::cmp::Ordering::Equal),
        }
    }

    /// Whether more events can make it false.
    fn is_from_above(self) -> bool {
        !matches!(self, Self::Is(Order::Greater | Order::GreaterOrEqual, _))
    }
}

/// The correlations of a rule set and what they remember.
#[derive(Debug, Default)]
pub(crate) struct Correlations {
    active: Vec<Active>,
    /// For each rule of the set, the correlations it is part of: which, and as which of its rules.
    parts: HashMap<usize, Vec<(usize, usize)>>,
    /// Rules that match only for correlations.
    silent: HashSet<usize>,
    /// What all of them may remember together, in bytes; 0 for as much as a log of a day needs.
    limit: usize,
}

/// What correlations may remember where nobody says so, in bytes.
const DEFAULT_BYTES: usize = 256 << 20;

/// What correlations remember, and had to forget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CorrelationCounters {
    /// What is remembered takes so many bytes, roughly.
    pub bytes: u64,
    /// Matches that were forgotten because there were too many.
    pub evicted: u64,
}

#[derive(Debug)]
struct Active {
    /// Number of the correlation's own rule in the set.
    rule: usize,
    spec: Arc<Correlation>,
    /// For each rule it refers to, where the values of the group are.
    keys: Vec<Source>,
    /// Likewise for the values that are measured.
    values: Vec<Source>,
    windows: Windows,
}

/// Where values come from.
#[derive(Debug, Clone)]
enum Source {
    /// Slots of a rule that judges events.
    Slots(Vec<Slot>),
    /// Places in the group of another correlation; `None` where it has no such value.
    Group(Vec<Option<usize>>),
}

/// What matched: an event, or a group of another correlation.
#[derive(Clone, Copy)]
enum Matched<'a> {
    Event(View<'a>),
    Group(&'a [String]),
}

impl Correlations {
    /// Resolves what the correlations among the rules refer to, and adds to those rules the fields they
    /// need. A correlation that refers to nothing, or to itself in a circle, is taken out of the rules.
    pub(crate) fn new(rules: &mut Vec<ParsedRule>) -> (Self, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        loop {
            let (own, refused) = Self::resolve(rules);
            if refused.is_empty() {
                return (own, diagnostics);
            }
            // Numbers of rules have changed then, and others may have referred to these.
            let mut place = 0;
            rules.retain(|_| {
                place += 1;
                !refused.iter().any(|(refused, _)| *refused == place - 1)
            });
            diagnostics.extend(refused.into_iter().map(|(_, diagnostic)| diagnostic));
        }
    }

    fn resolve(rules: &mut [ParsedRule]) -> (Self, Vec<(usize, Diagnostic)>) {
        let mut own = Self::default();
        let mut diagnostics = Vec::new();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        for (place, rule) in rules.iter().enumerate() {
            by_name.entry(rule.head.id.to_string()).or_insert(place);
            if let Some(name) = &rule.name {
                by_name.entry(name.clone()).or_insert(place);
            }
        }
        let mut resolved: HashMap<usize, Vec<usize>> = HashMap::new();
        for (place, rule) in rules.iter().enumerate() {
            let Role::Correlation(spec) = &rule.role else { continue };
            let found: Vec<Option<usize>> =
                spec.rules.iter().map(|name| by_name.get(name).copied()).collect();
            match found.iter().zip(&spec.rules).find(|(found, _)| found.is_none()) {
                Some((_, name)) => {
                    let reason = format!(
                        "correlation `{}` refers to `{name}`, and no rule has that id or name",
                        rule.head.id
                    );
                    diagnostics
                        .push((place, refusal(rule, reason, "load the rule it refers to together with it")));
                }
                None => {
                    resolved.insert(place, found.into_iter().flatten().collect());
                }
            }
        }
        // Those that only refer to what stands already, until no more do.
        let mut waiting: Vec<usize> = resolved.keys().copied().collect();
        waiting.sort_unstable();
        loop {
            let stands = |own: &Self, place: usize| {
                !matches!(rules[place].role, Role::Correlation(_))
                    || own.active.iter().any(|it| it.rule == place)
            };
            let (ready, left): (Vec<usize>, Vec<usize>) =
                waiting.iter().partition(|place| resolved[*place].iter().all(|member| stands(&own, *member)));
            if ready.is_empty() {
                for place in left {
                    let rule = &rules[place];
                    let reason = format!(
                        "correlation `{}` refers to itself, or to one that was refused",
                        rule.head.id
                    );
                    diagnostics
                        .push((place, refusal(rule, reason, "correlations can be chained, not in a circle")));
                }
                break;
            }
            for place in ready {
                own.add(rules, place, &resolved[&place]);
            }
            waiting = left;
        }
        (own, diagnostics)
    }

    fn add(&mut self, rules: &mut [ParsedRule], place: usize, members: &[usize]) {
        let Role::Correlation(spec) = &rules[place].role else { return };
        let spec = Arc::clone(spec);
        let number = self.active.len();
        let measured: &[String] = match &spec.kind {
            CorrelationKind::Measured(
                Measure::Distinct(fields)
                | Measure::Sum(fields)
                | Measure::Average(fields)
                | Measure::Percentile(fields, _),
                _,
            ) => fields,
            _ => &[],
        };
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (nth, member) in members.iter().enumerate() {
            let reference = &spec.rules[nth];
            let name_in = |name: &String| {
                let alias = spec.aliases.iter().find(|(alias, _)| alias == name).map(|(_, fields)| fields);
                let of_rule = alias.and_then(|fields| fields.iter().find(|(rule, _)| rule == reference));
                of_rule.map_or_else(|| name.clone(), |(_, field)| field.clone())
            };
            let inner =
                self.active.iter().find(|active| active.rule == *member).map(|it| Arc::clone(&it.spec));
            let mut source = |names: &[String]| match &inner {
                Some(inner) => Source::Group(
                    names
                        .iter()
                        .map(|name| inner.group_by.iter().position(|own| *own == name_in(name)))
                        .collect(),
                ),
                None => {
                    let fields = &mut rules[*member].fields;
                    let slot = |name| FieldRef::Named(name_in(name).replace(' ', "").into()).slot_in(fields);
                    Source::Slots(names.iter().map(slot).collect())
                }
            };
            keys.push(source(&spec.group_by));
            values.push(source(measured));
            self.parts.entry(*member).or_default().push((number, nth));
        }
        let windows = Windows::new(spec.timespan_ns);
        self.active.push(Active { rule: place, spec, keys, values, windows });
        self.silent = members_without_own_match(&self.active, &self.parts);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Lets all of them together remember so many bytes.
    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    pub(crate) fn counters(&self) -> CorrelationCounters {
        let mut counters = CorrelationCounters::default();
        for active in &self.active {
            counters.bytes += active.windows.bytes() as u64;
            counters.evicted += active.windows.evicted();
        }
        counters
    }

    /// Whoever remembers most forgets something until all is within the limit.
    fn stay_within_limit(&mut self) {
        let limit = if self.limit == 0 { DEFAULT_BYTES } else { self.limit };
        while self.active.iter().map(|active| active.windows.bytes()).sum::<usize>() > limit {
            let largest = self.active.iter_mut().max_by_key(|active| active.windows.bytes());
            let Some(largest) = largest else { return };
            let before = largest.windows.bytes();
            largest.windows.forget_quietest();
            if largest.windows.bytes() >= before {
                return;
            }
        }
    }

    /// Whether a rule is part of a correlation.
    pub(crate) fn has_part(&self, rule: usize) -> bool {
        self.parts.contains_key(&rule)
    }

    /// Whether a rule matches only for correlations.
    pub(crate) fn is_silent(&self, rule: usize) -> bool {
        self.silent.contains(&rule)
    }

    /// Takes over what the same correlations counted in another set: those with the same id and text,
    /// as `texts` and `texts_before` tell them by number of the rule.
    pub(crate) fn take_over(
        &mut self,
        before: &mut Self,
        texts: impl Fn(usize) -> Option<(String, String)>,
        texts_before: impl Fn(usize) -> Option<(String, String)>,
    ) {
        for active in &mut self.active {
            let own = texts(active.rule);
            let same = before.active.iter_mut().find(|other| texts_before(other.rule) == own);
            if let Some(other) = same {
                std::mem::swap(&mut active.windows, &mut other.windows);
            }
        }
    }

    /// Takes a match of a rule. Gives the correlations that match now, as numbers of rules in the set.
    pub(crate) fn take(&mut self, rule: usize, view: View<'_>) -> Vec<usize> {
        let mut fired = Vec::new();
        // Without a time nobody knows what it is near to.
        if let Some(time) = view.event.time() {
            self.spread(rule, Matched::Event(view), time.as_nanos(), &mut fired);
            self.stay_within_limit();
        }
        fired
    }

    fn spread(&mut self, rule: usize, matched: Matched<'_>, time: i64, fired: &mut Vec<usize>) {
        let parts = self.parts.get(&rule).cloned().unwrap_or_default();
        for (number, nth) in parts {
            let Some(active) = self.active.get_mut(number) else { continue };
            let Some(group) = texts_of(&active.keys[nth], matched) else { continue };
            // What has nothing to measure doesn't count.
            let Some(values) = texts_of(&active.values[nth], matched) else { continue };
            let value = values.join("\u{1f}");
            let entry = Entry { time, nth, value };
            let fulfilled = active.windows.take(&active.spec.kind, &active.spec.rules, group, entry);
            if let Some(group) = fulfilled {
                let own = active.rule;
                fired.push(own);
                // A circle was refused, so this ends.
                self.spread(own, Matched::Group(&group), time, fired);
            }
        }
    }
}

/// Rules that are part of correlations of which none lets them match by themselves.
fn members_without_own_match(
    active: &[Active],
    parts: &HashMap<usize, Vec<(usize, usize)>>,
) -> HashSet<usize> {
    let is_silent =
        |parts: &Vec<(usize, usize)>| parts.iter().all(|(number, _)| !active[*number].spec.generate);
    parts.iter().filter(|(_, parts)| is_silent(parts)).map(|(rule, _)| *rule).collect()
}

/// The values, without case; `None` where one is missing.
fn texts_of(source: &Source, matched: Matched<'_>) -> Option<Vec<String>> {
    match (source, matched) {
        (Source::Slots(slots), Matched::Event(view)) => {
            slots.iter().map(|slot| view.first_text(*slot)).collect()
        }
        (Source::Group(places), Matched::Group(group)) => {
            places.iter().map(|place| place.and_then(|place| group.get(place)).cloned()).collect()
        }
        _ => None,
    }
}

fn refusal(rule: &ParsedRule, reason: String, hint: &str) -> Diagnostic {
    let (severity, code) = (DiagnosticSeverity::Error, DiagnosticCode::BadReference);
    Diagnostic::new(severity, code, &rule.place, reason, Some(hint.to_owned()))
}

impl View<'_> {
    /// The first value of a slot that is not null, folded.
    fn first_text(&self, slot: Slot) -> Option<String> {
        let field = self.fields.get(usize::from(slot.0))?;
        let mut next = self.prepared.first_place(*field);
        while let Some(place) = next {
            if self.event.kind_at(place) != Some(StoredKind::Null) {
                return Some(self.prepared.text(place).to_owned());
            }
            next = self.prepared.place_behind(place);
        }
        None
    }
}
