//! Rules that judge the same events.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use event_model::{EventType, Field, FieldSource, RuleScope, ValueKind, ValueRef, resolve_field};

use crate::event::{EventBuffer, FieldId, FieldNames};
use crate::expression::FieldRef;
use crate::log_source::{LogSources, SourceEntry, SourceId};
use crate::matcher::RuleIndex;
use crate::rule::{ParsedRule, Role, is_hash_field};
use crate::rule_set::{LoadedRule, Phase};
use crate::telemetry::Telemetry;

/// The active rules for one kind of events.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) without_hash: RuleIndex,
    pub(crate) with_hash: RuleIndex,
    /// Whose names of fields hold for live events that Sigma knows.
    pub(crate) scope: Option<RuleScope>,
    /// What live events are asked for, in each phase.
    asks_without_hash: Vec<(FieldId, Asked)>,
    asks_with_hash: Vec<(FieldId, Asked)>,
    /// Every rule of an index is judged as often as the index: two counters for all.
    evaluations_without_hash: AtomicU64,
    evaluations_with_hash: AtomicU64,
}

/// What a live event is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Field(Field),
    /// Sysmon's `Hashes`: `SHA256=` and the hash in capital letters.
    Hashes,
}

/// The name under which Sigma rules ask for hashes as Sysmon writes them.
pub(crate) const SYSMON_HASHES: &str = "Hashes";

impl Group {
    /// Counts an event of this phase; how many there were before it.
    pub(crate) fn count(&self, phase: Phase) -> u64 {
        let mut before = 0;
        if phase != Phase::HashOnly {
            before = self.evaluations_without_hash.fetch_add(1, Ordering::Relaxed);
        }
        if phase != Phase::WithoutHash {
            before = self.evaluations_with_hash.fetch_add(1, Ordering::Relaxed);
        }
        before
    }

    /// Puts into the buffer what the rules of the phase ask a live event for.
    pub(crate) fn fill(&self, event: &dyn FieldSource, phase: Phase, buffer: &mut EventBuffer) {
        buffer.clear();
        buffer.set_time(event.observed_at());
        let (without_hash, with_hash) = (&self.asks_without_hash[..], &self.asks_with_hash[..]);
        let asks = match phase {
            Phase::WithoutHash => [without_hash, &[]],
            Phase::HashOnly => [&[], with_hash],
            Phase::All => [without_hash, with_hash],
        };
        for (id, asked) in asks.into_iter().flatten() {
            if buffer.has(*id) {
                continue;
            }
            match asked {
                Asked::Field(field) => {
                    if let Some(value) = event.value(*field) {
                        buffer.push_value(*id, &value);
                    }
                }
                Asked::Hashes => {
                    if let Some(ValueRef::Text(hash)) = event.value(Field::ProcessSha256) {
                        buffer.push_text(*id, &format!("SHA256={}", hash.to_ascii_uppercase()));
                    }
                }
            }
        }
    }
}

/// The groups of a rule set, each compiled when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// By event type; `None` where no rule judges such events.
    live: Vec<(EventType, OnceLock<Option<Group>>)>,
    /// For each event type its place in `live`.
    live_places: Vec<Option<u8>>,
    live_product: Option<String>,
    /// By number of the log source.
    of_sources: Vec<OnceLock<Group>>,
}

/// What groups are compiled from.
#[derive(Clone, Copy)]
pub(crate) struct GroupParts<'s> {
    pub(crate) rules: &'s [LoadedRule],
    pub(crate) sources: &'s LogSources,
    pub(crate) names: &'s FieldNames,
}

impl Groups {
    /// Gives an id to every name that a rule may be asked by.
    pub(crate) fn intern_names(rules: &[ParsedRule], sources: &LogSources, names: &mut FieldNames) {
        for field in rules.iter().flat_map(|rule| &rule.fields) {
            match field {
                FieldRef::Typed(field) => {
                    field.spec().sigma.iter().for_each(|name| {
                        names.intern(name);
                    });
                }
                FieldRef::Named(name) => {
                    names.intern(name);
                }
            }
        }
        for name in sources.entries().iter().flat_map(SourceEntry::event_names) {
            names.intern(name);
        }
    }

    /// Place for the groups. `live_product` is the system that live events come from.
    pub(crate) fn new(sources: &LogSources, live_product: Option<String>) -> Self {
        let live: Vec<_> = EventType::ALL.iter().map(|event_type| (*event_type, OnceLock::new())).collect();
        let mut live_places = Vec::new();
        for (place, (event_type, _)) in live.iter().enumerate() {
            let kind = *event_type as usize;
            live_places.resize((kind + 1).max(live_places.len()), None);
            live_places[kind] = u8::try_from(place).ok();
        }
        let of_sources = sources.entries().iter().map(|_| OnceLock::new()).collect();
        Self { live, live_places, live_product, of_sources }
    }

    /// The group of live events of this type, if it has any rule.
    pub(crate) fn live(&self, event_type: EventType, parts: GroupParts<'_>) -> Option<&Group> {
        let place = self.live_places.get(event_type as usize).copied().flatten()?;
        let (_, group) = self.live.get(usize::from(place))?;
        group.get_or_init(|| build_live(event_type, self.live_product.as_deref(), parts)).as_ref()
    }

    /// Every group of live events that has a rule.
    pub(crate) fn all_live<'s>(
        &'s self,
        parts: GroupParts<'s>,
    ) -> impl Iterator<Item = (EventType, &'s Group)> {
        let types = self.live.iter().map(|(event_type, _)| *event_type);
        types.filter_map(move |event_type| Some((event_type, self.live(event_type, parts)?)))
    }

    /// The group of a log source.
    pub(crate) fn of_source(&self, source: SourceId, parts: GroupParts<'_>) -> Option<&Group> {
        let place = source.0 as usize;
        let entry = parts.sources.entries().get(place)?;
        let compile = || {
            let is_asked = |rule: &ParsedRule| match rule.log_source() {
                None => is_in_logs(rule.telemetry, entry),
                Some(asked) => entry.is_asked_for(asked, None),
            };
            let id_of = |rule: &ParsedRule, field: &FieldRef| {
                let by_category = rule.log_source().is_none_or(|asked| asked.category.is_some());
                match field {
                    FieldRef::Named(name) => parts.names.get(entry.name_of(name, by_category)),
                    FieldRef::Typed(field) => {
                        let name = field.spec().sigma.first();
                        name.and_then(|name| parts.names.get(entry.name_of(name, by_category)))
                            .or(Some(FieldId::of(*field)))
                    }
                }
            };
            // A log has its hashes or has none: nothing comes later.
            // Records of logs have no process that their trees could be known by.
            let judges = |rule: &ParsedRule| matches!(rule.role, Role::Events);
            build(parts.rules, |rule| judges(rule) && is_asked(rule), id_of, |_| false)
        };
        Some(self.of_sources.get(place)?.get_or_init(compile))
    }

    /// Adds to each rule's number how many events its groups judged.
    pub(crate) fn add_evaluations(&self, evaluations: &mut [u64]) {
        let of_sources = self.of_sources.iter().filter_map(OnceLock::get);
        let live = self.live.iter().filter_map(|(_, group)| group.get()?.as_ref());
        for group in live.chain(of_sources) {
            let counted = [
                (&group.without_hash, &group.evaluations_without_hash),
                (&group.with_hash, &group.evaluations_with_hash),
            ];
            for (index, counter) in counted {
                let count = counter.load(Ordering::Relaxed);
                for rule in index.rules() {
                    if let Some(evaluations) = evaluations.get_mut(rule) {
                        *evaluations += count;
                    }
                }
            }
        }
    }
}

/// Whether keywords look into a field of live events: its value is text that somebody chose. Ids are none,
/// and hashes would make every rule wait for them.
fn is_searched(field: Field) -> bool {
    let spec = field.spec();
    let is_id =
        spec.ecs.ends_with("entity_id") || (spec.ecs.starts_with("user.") && spec.ecs.ends_with(".id"));
    spec.kind == ValueKind::Text && !spec.scopes.is_empty() && !is_id && !is_hash_field(field)
}

/// Whether native rules for this telemetry judge records of a log source.
fn is_in_logs(telemetry: Telemetry, entry: &SourceEntry) -> bool {
    let categories: &[&str] = match telemetry {
        Telemetry::ProcessStart => &["process_creation"],
        Telemetry::ProcessExit => &["process_termination"],
        Telemetry::Network => &["network_connection"],
        Telemetry::File => &["file_event", "file_delete", "file_change", "file_rename"],
        Telemetry::Registry => &["registry_event"],
        Telemetry::EventLog => return entry.product.as_deref() == Some("windows"),
        Telemetry::Task | Telemetry::Activity => &[],
    };
    entry.categories.iter().any(|own| categories.contains(&own.as_str()))
}

fn build_live(event_type: EventType, live_product: Option<&str>, parts: GroupParts<'_>) -> Option<Group> {
    let GroupParts { rules, sources, names } = parts;
    let entry = sources.entries().iter().find(|entry| entry.live.is_some_and(|(own, _)| own == event_type));
    let is_asked = |rule: &ParsedRule| match rule.log_source() {
        None => Telemetry::of_event(event_type) == Some(rule.telemetry),
        Some(asked) => entry.is_some_and(|entry| entry.is_asked_for(asked, live_product)),
    };
    // Looking for a name that isn't there looks for the nearest one too.
    let known: RefCell<HashMap<Box<str>, Option<FieldId>>> = RefCell::default();
    let id_of = |_: &ParsedRule, field: &FieldRef| match field {
        FieldRef::Typed(field) => Some(FieldId::of(*field)),
        FieldRef::Named(name) if &**name == SYSMON_HASHES => names.get(name),
        FieldRef::Named(name) => {
            if let Some(id) = known.borrow().get(name) {
                return *id;
            }
            let scope = entry.and_then(|entry| entry.live).map(|(_, scope)| scope);
            let field = scope.and_then(|scope| resolve_field(scope, name).ok());
            let id = field.map(FieldId::of).or_else(|| names.get(name));
            known.borrow_mut().insert(name.clone(), id);
            id
        }
    };
    let judges = |rule: &ParsedRule| matches!(rule.role, Role::Events | Role::Behaviour(_));
    let mut group = build(rules, |rule| judges(rule) && is_asked(rule), id_of, |rule| rule.needs_hash);
    if group.without_hash.is_empty() && group.with_hash.is_empty() {
        return None;
    }
    let asks = |index: &RuleIndex| {
        let mut asks: Vec<(FieldId, Asked)> = Vec::new();
        let mut searched = index.rules().filter_map(|place| rules.get(place));
        if searched.any(|loaded| loaded.rule.searches_all_values()) {
            let fields = Field::ALL.iter().filter(|field| is_searched(**field));
            asks.extend(fields.map(|field| (FieldId::of(*field), Asked::Field(*field))));
        }
        for id in index.fields_used() {
            let field = Field::ALL.iter().find(|field| FieldId::of(**field) == id);
            let asked = match field {
                Some(field) => Asked::Field(*field),
                None if names.name(id) == Some(SYSMON_HASHES) => Asked::Hashes,
                None => continue,
            };
            if !asks.contains(&(id, asked)) {
                asks.push((id, asked));
            }
        }
        asks
    };
    group.scope = entry.and_then(|entry| entry.live).map(|(_, scope)| scope);
    group.asks_without_hash = asks(&group.without_hash);
    group.asks_with_hash = asks(&group.with_hash);
    Some(group)
}

fn build(
    rules: &[LoadedRule],
    is_asked: impl Fn(&ParsedRule) -> bool,
    id_of: impl Fn(&ParsedRule, &FieldRef) -> Option<FieldId>,
    waits_for_hash: impl Fn(&ParsedRule) -> bool,
) -> Group {
    let (mut without_hash, mut with_hash) = (Vec::new(), Vec::new());
    for (place, LoadedRule { rule, .. }) in rules.iter().enumerate() {
        if !rule.head.is_active() || !is_asked(rule) {
            continue;
        }
        // Every name was given an id before.
        let ids = rule.fields.iter().map(|field| id_of(rule, field).unwrap_or(FieldId::UNNAMED));
        let list = if waits_for_hash(rule) { &mut with_hash } else { &mut without_hash };
        list.push((place, rule, ids.collect()));
    }
    Group {
        without_hash: RuleIndex::new(without_hash),
        with_hash: RuleIndex::new(with_hash),
        ..Group::default()
    }
}
