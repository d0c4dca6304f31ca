//! Rules over the matches of other rules.
//!
//! What is counted is kept for each group of values (`group-by`) as long as the timespan; time is that of
//! the events. When a group fulfils the condition, the rule matches and the group begins anew, so that one
//! burst is one match. All of it is bounded: see [`window`] and [`memory`].

mod definition;
mod memory;
mod together;
mod window;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use definition::{Bound, Correlation, CorrelationKind, Measure};
pub(crate) use memory::ENTRIES_LIMIT;
use memory::Entry;
use together::Together;
use window::Windows;

use event_model::RuleId;

use crate::diagnostic::{Diagnostic, DiagnosticCode, DiagnosticSeverity};
use crate::event::StoredKind;
use crate::expression::{FieldRef, Slot, View};
use crate::rule::{ParsedRule, Role};

/// The correlations of a rule set and what they remember.
#[derive(Debug, Default)]
pub(crate) struct Correlations {
    active: Vec<Active>,
    /// For each rule of the set, the correlations it is part of: which, and as which of its rules.
    parts: HashMap<usize, Arc<[(usize, usize)]>>,
    /// Rules that match only for correlations.
    silent: HashSet<usize>,
    /// What all of them may remember together, in bytes; 0 for as much as a log of a day needs.
    limit: usize,
    /// What they remember together, roughly: another set may share some of it.
    bytes: usize,
    /// Matches until `bytes` is counted anew.
    until_counted: u32,
    /// What correlations of sets before this one had to forget.
    evicted_before: u64,
}

/// So many matches are taken between two exact counts of what is remembered.
const COUNTED_EACH: u32 = 4_096;
/// Correlations that may refer to each other in a chain.
const DEPTH_LIMIT: usize = 32;
/// Correlations that one event may add to, through others that it completes.
const SPREAD_LIMIT: usize = 10_000;

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
    asked: Asked,
    /// For each rule it refers to, where the values of the group are.
    keys: Vec<Source>,
    /// Likewise for the values that are measured.
    values: Vec<Source>,
    /// Shared with the set before or after this one, where that has the same correlation: matches that are
    /// judged while one set replaces the other count in both.
    windows: Arc<Mutex<Windows>>,
}

/// What a correlation asks of each group.
#[derive(Debug)]
struct Asked {
    spec: Arc<Correlation>,
    /// How many rules it refers to.
    rules: usize,
    /// Which of them must be seen together, where it asks for that.
    together: Together,
}

/// What a correlation refers to: places of rules, and what it asks of them.
struct Resolved {
    members: Vec<usize>,
    together: Together,
}

impl Active {
    fn windows(&self) -> std::sync::MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            let (own, mut told, refused) = Self::resolve(rules);
            if refused.is_empty() {
                diagnostics.append(&mut told);
                return (own, diagnostics);
            }
            // Warnings of those that stay come again.
            diagnostics.extend(told.into_iter().filter(Diagnostic::is_error));
            // Numbers of rules have changed then, and others may have referred to these.
            let mut place = 0;
            rules.retain(|_| {
                place += 1;
                !refused.contains(&(place - 1))
            });
        }
    }

    /// The correlations, what is wrong with them, and the places of those that are refused.
    fn resolve(rules: &mut [ParsedRule]) -> (Self, Vec<Diagnostic>, HashSet<usize>) {
        let mut own = Self::default();
        let mut diagnostics = Vec::new();
        let mut warnings = Vec::new();
        let mut refused = HashSet::new();
        let mut refuse = |place: usize, diagnostic: Diagnostic| {
            refused.insert(place);
            diagnostics.push(diagnostic);
        };
        let by_name = places_by_name(rules);
        let mut resolved: HashMap<usize, Resolved> = HashMap::new();
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
                    refuse(place, refusal(rule, reason, "load the rule it refers to together with it"));
                }
                None => {
                    let mut members: Vec<usize> = found.into_iter().flatten().collect();
                    // In an order, a rule may be asked for again.
                    if spec.kind != CorrelationKind::Ordered {
                        let mut known = HashSet::new();
                        let (own, repeats): (Vec<_>, Vec<_>) = members
                            .into_iter()
                            .zip(&spec.rules)
                            .partition(|(member, _)| known.insert(*member));
                        warnings.extend(repeats.into_iter().map(|(_, name)| repeat_warning(rule, name)));
                        members = own.into_iter().map(|(member, _)| member).collect();
                    }
                    match condition_over(spec, &members, rules) {
                        Ok(together) => {
                            resolved.insert(place, Resolved { members, together });
                        }
                        Err(fault) => {
                            let reason = format!("the condition of `{}` {fault}", rule.head.id);
                            refuse(place, refusal(rule, reason, "write the ids or names of its `rules`"));
                        }
                    }
                }
            }
        }
        // Those that only refer to what stands already, until no more do.
        let mut waiting: Vec<usize> = resolved.keys().copied().collect();
        waiting.sort_unstable();
        let mut stands: Vec<bool> =
            rules.iter().map(|rule| !matches!(rule.role, Role::Correlation(_))).collect();
        let mut active_of: HashMap<usize, usize> = HashMap::new();
        let mut parts: HashMap<usize, Vec<(usize, usize)>> = HashMap::new();
        for depth in 0.. {
            let is_ready = |place: &&usize| resolved[*place].members.iter().all(|member| stands[*member]);
            let (ready, left): (Vec<usize>, Vec<usize>) = waiting.iter().partition(is_ready);
            if ready.is_empty() || depth == DEPTH_LIMIT {
                let is_too_deep = !ready.is_empty();
                for place in waiting {
                    let rule = &rules[place];
                    let reason = if is_too_deep {
                        format!(
                            "correlation `{}` is at the end of a chain of more than {DEPTH_LIMIT}, or in a circle",
                            rule.head.id
                        )
                    } else {
                        format!("correlation `{}` refers to itself, or to one that was refused", rule.head.id)
                    };
                    refuse(place, refusal(rule, reason, "correlations can be chained, not in a circle"));
                }
                break;
            }
            for place in ready {
                stands[place] = true;
                // What is switched off is there for others to name, and does nothing.
                if rules[place].head.is_active() {
                    let Some(Resolved { members, together }) = resolved.remove(&place) else { continue };
                    own.add(rules, place, (&members, together), &active_of, &by_name);
                    let number = own.active.len() - 1;
                    active_of.insert(place, number);
                    // From the last to the first: one event is one step of an order.
                    for (nth, member) in members.iter().enumerate().rev() {
                        parts.entry(*member).or_default().push((number, nth));
                    }
                }
            }
            waiting = left;
        }
        diagnostics.append(&mut warnings);
        diagnostics.extend(own.active.iter().flat_map(|active| unknown_aliases(active, rules, &by_name)));
        own.silent = members_without_own_match(&own.active, &parts);
        own.parts = parts.into_iter().map(|(rule, parts)| (rule, parts.into())).collect();
        (own, diagnostics, refused)
    }

    fn add(
        &mut self,
        rules: &mut [ParsedRule],
        place: usize,
        (members, together): (&[usize], Together),
        active_of: &HashMap<usize, usize>,
        by_name: &HashMap<String, usize>,
    ) {
        let Role::Correlation(spec) = &rules[place].role else { return };
        let spec = Arc::clone(spec);
        let measured: &[String] = match &spec.kind {
            CorrelationKind::Measured(
                Measure::Distinct(fields)
                | Measure::Sum(fields)
                | Measure::Average(fields)
                | Measure::Percentile(fields, _)
                | Measure::Median(fields),
                _,
            ) => fields,
            _ => &[],
        };
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for member in members {
            let name_in = |name: &String| {
                let alias = spec.aliases.iter().find(|(alias, _)| alias == name).map(|(_, fields)| fields);
                // By id or by name, whichever of the two `rules` has.
                let is_member = |rule: &String| by_name.get(rule) == Some(member);
                let of_rule = alias.and_then(|fields| fields.iter().find(|(rule, _)| is_member(rule)));
                of_rule.map_or_else(|| name.clone(), |(_, field)| field.clone())
            };
            let inner = active_of.get(member).map(|number| Arc::clone(&self.active[*number].asked.spec));
            let mut source = |names: &[String]| match (&inner, &rules[*member].role) {
                (Some(inner), _) => Source::Group(
                    names
                        .iter()
                        .map(|name| inner.group_by.iter().position(|own| *own == name_in(name)))
                        .collect(),
                ),
                // It is switched off: nothing comes from it.
                (None, Role::Correlation(_)) => Source::Group(vec![None; names.len()]),
                (None, _) => {
                    let fields = &mut rules[*member].fields;
                    let slot = |name| FieldRef::Named(name_in(name).replace(' ', "").into()).slot_in(fields);
                    Source::Slots(names.iter().map(slot).collect())
                }
            };
            keys.push(source(&spec.group_by));
            values.push(source(measured));
        }
        let windows = Arc::new(Mutex::new(Windows::new(spec.timespan_ns)));
        let asked = Asked { spec, rules: members.len(), together };
        self.active.push(Active { rule: place, asked, keys, values, windows });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Lets all of them together remember so many bytes.
    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    pub(crate) fn counters(&self) -> CorrelationCounters {
        let mut counters = CorrelationCounters { bytes: 0, evicted: self.evicted_before };
        for active in &self.active {
            let windows = active.windows();
            counters.bytes += windows.bytes() as u64;
            counters.evicted += windows.evicted();
        }
        counters
    }

    fn count_bytes(&mut self) {
        self.bytes = self.active.iter().map(|active| active.windows().bytes()).sum();
        self.until_counted = COUNTED_EACH;
    }

    /// Whoever remembers most forgets something until all is within the limit.
    fn stay_within_limit(&mut self, now: i64) {
        let limit = if self.limit == 0 { DEFAULT_BYTES } else { self.limit };
        match self.until_counted.checked_sub(1) {
            Some(left) if self.bytes <= limit => self.until_counted = left,
            _ => self.count_bytes(),
        }
        while self.bytes > limit {
            let largest = self.active.iter().max_by_key(|active| active.windows().bytes());
            let Some(largest) = largest else { return };
            let mut windows = largest.windows();
            let before = windows.bytes();
            windows.forget_quietest(&largest.asked, now);
            let freed = before.saturating_sub(windows.bytes());
            if freed == 0 {
                return;
            }
            self.bytes = self.bytes.saturating_sub(freed);
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

    /// The rules that match only for correlations.
    pub(crate) fn silent_rules(&self) -> impl Iterator<Item = usize> {
        self.silent.iter().copied()
    }

    /// Takes over what the same correlations counted in another set: those with the same id that ask for the
    /// same, as `ids` and `ids_before` tell the ids by number of the rule. From then on they count together.
    pub(crate) fn take_over(
        &mut self,
        before: &Self,
        ids: impl Fn(usize) -> Option<RuleId>,
        ids_before: impl Fn(usize) -> Option<RuleId>,
    ) {
        let mut others: HashMap<RuleId, &Active> =
            before.active.iter().filter_map(|active| Some((ids_before(active.rule)?, active))).collect();
        for active in &mut self.active {
            let Some(id) = ids(active.rule) else { continue };
            if others.get(&id).is_some_and(|other| other.asked.spec == active.asked.spec)
                && let Some(other) = others.remove(&id)
            {
                active.windows = Arc::clone(&other.windows);
            }
        }
        let lost: u64 = others.values().map(|active| active.windows().evicted()).sum();
        self.evicted_before = before.evicted_before.saturating_add(lost);
        self.count_bytes();
    }

    /// Takes a match of a rule. Gives the correlations that match now, as numbers of rules in the set.
    pub(crate) fn take(&mut self, rule: usize, view: View<'_>) -> Vec<usize> {
        let mut fired = Vec::new();
        // Without a time nobody knows what it is near to.
        if let Some(time) = view.event.time() {
            self.spread(rule, view, time.as_nanos(), &mut fired);
            self.stay_within_limit(time.as_nanos());
        }
        fired
    }

    /// Adds a match to the correlations it is part of, and their matches to those that they are part of. A
    /// circle was refused, and chains are short, so this ends; that it ends soon is for the limit to see to.
    fn spread(&mut self, rule: usize, view: View<'_>, time: i64, fired: &mut Vec<usize>) {
        let mut waiting: VecDeque<(usize, Option<Vec<String>>)> = VecDeque::from([(rule, None)]);
        let mut taken = 0;
        while let Some((rule, group)) = waiting.pop_front() {
            let matched = group.as_deref().map_or(Matched::Event(view), Matched::Group);
            let Some(parts) = self.parts.get(&rule) else { continue };
            let mut completed = None;
            for (place, (number, nth)) in parts.iter().copied().enumerate() {
                // What completes a chain doesn't begin the next one, too.
                if completed == Some(number) {
                    continue;
                }
                taken += 1;
                if taken > SPREAD_LIMIT {
                    let of = |rule: &usize| self.parts.get(rule).map_or(0, |parts| parts.len());
                    let left = parts.len() - place + waiting.iter().map(|(rule, _)| of(rule)).sum::<usize>();
                    self.evicted_before += left as u64;
                    return;
                }
                let Some(active) = self.active.get(number) else { continue };
                let Some(key) = texts_of(&active.keys[nth], matched) else { continue };
                // What has nothing to measure doesn't count.
                let Some(values) = texts_of(&active.values[nth], matched) else { continue };
                let entry = Entry { time, nth, value: values.join("\u{1f}") };
                let mut windows = active.windows();
                let before = windows.bytes();
                let fulfilled = windows.take(&active.asked, key, entry);
                self.bytes = (self.bytes + windows.bytes()).saturating_sub(before);
                drop(windows);
                if let Some(group) = fulfilled {
                    completed = Some(number);
                    fired.push(active.rule);
                    waiting.push_back((active.rule, Some(group)));
                }
            }
        }
    }
}

/// For each id and name, the first rule that has it.
fn places_by_name(rules: &[ParsedRule]) -> HashMap<String, usize> {
    let mut by_name: HashMap<String, usize> = HashMap::new();
    for (place, rule) in rules.iter().enumerate() {
        by_name.entry(rule.head.id.to_string()).or_insert(place);
        if let Some(name) = &rule.name {
            by_name.entry(name.clone()).or_insert(place);
        }
    }
    by_name
}

fn repeat_warning(rule: &ParsedRule, name: &str) -> Diagnostic {
    let reason = format!("correlation `{}` refers to the rule `{name}` more than once", rule.head.id);
    let hint = Some("it counts once; leave it out".to_owned());
    let (severity, code) = (DiagnosticSeverity::Warning, DiagnosticCode::BadReference);
    Diagnostic::new(severity, code, &rule.place, reason, hint)
}

/// What the correlation asks of its rules, which are these; the error is what is wrong with its condition.
fn condition_over(spec: &Correlation, members: &[usize], rules: &[ParsedRule]) -> Result<Together, String> {
    let tree = match &spec.kind {
        // One that is listed twice has been left out.
        CorrelationKind::Measured(Measure::Rules, bounds)
            if bounds.iter().any(|bound| bound.is_out_of_reach(members.len())) =>
        {
            return Err(format!("counts rules, and there are {}", members.len()));
        }
        CorrelationKind::Together(Some(tree)) => tree,
        _ => return Ok(Together::all_of(members.len())),
    };
    let called: Vec<Vec<&str>> = members
        .iter()
        .filter_map(|member| rules.get(*member))
        .map(|rule| std::iter::once(rule.head.id.as_str()).chain(rule.name.as_deref()).collect())
        .collect();
    Together::bind(tree, &called).map_err(|named| format!("names {named}, which is none of its rules"))
}

/// A warning for each alias of a rule that the correlation doesn't refer to.
fn unknown_aliases(
    active: &Active,
    rules: &[ParsedRule],
    by_name: &HashMap<String, usize>,
) -> Vec<Diagnostic> {
    let spec = &active.asked.spec;
    let members: HashSet<Option<&usize>> = spec.rules.iter().map(|name| by_name.get(name)).collect();
    let of_rules = spec.aliases.iter().flat_map(|(alias, fields)| fields.iter().map(move |own| (alias, own)));
    let is_unknown = |rule: &String| by_name.get(rule).is_none_or(|place| !members.contains(&Some(place)));
    let unknown = of_rules.filter(|(_, (rule, _))| is_unknown(rule));
    unknown
        .map(|(alias, (name, _))| {
            let rule = &rules[active.rule];
            let reason =
                format!("alias `{alias}` of `{}` names `{name}`, which is none of its rules", rule.head.id);
            let hint = Some("write the id or the name of one of its `rules`".to_owned());
            let (severity, code) = (DiagnosticSeverity::Warning, DiagnosticCode::BadReference);
            Diagnostic::new(severity, code, &rule.place, reason, hint)
        })
        .collect()
}

/// Rules that are part of correlations of which none lets them match by themselves.
fn members_without_own_match(
    active: &[Active],
    parts: &HashMap<usize, Vec<(usize, usize)>>,
) -> HashSet<usize> {
    let is_silent =
        |parts: &Vec<(usize, usize)>| parts.iter().all(|(number, _)| !active[*number].asked.spec.generate);
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
