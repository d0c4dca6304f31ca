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
use crate::rule_set::Phase;
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

/// The groups of a rule set.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    live: Vec<(EventType, Group)>,
    /// For each event type the place of its group in `live`.
    live_places: Vec<Option<u8>>,
    /// By number of the log source; compiled when the first event of it comes.
    of_sources: Vec<OnceLock<Group>>,
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

    /// The groups of live events, and place for those of log sources.
    pub(crate) fn new(
        rules: &[ParsedRule],
        sources: &LogSources,
        live_product: Option<String>,
        names: &FieldNames,
    ) -> Self {
        let mut live = Vec::new();
        let mut live_places = Vec::new();
        for event_type in EventType::ALL {
            let entry =
                sources.entries().iter().find(|entry| entry.live.is_some_and(|(own, _)| own == *event_type));
            let is_asked = |rule: &ParsedRule| match rule.log_source() {
                None => Telemetry::of_event(*event_type) == Some(rule.telemetry),
                Some(asked) => entry.is_some_and(|entry| entry.is_asked_for(asked, live_product.as_deref())),
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
            let mut group =
                build(rules.iter(), |rule| judges(rule) && is_asked(rule), id_of, |rule| rule.needs_hash);
            let asks = |index: &RuleIndex| {
                let mut asks: Vec<(FieldId, Asked)> = Vec::new();
                let mut searched = index.rules().filter_map(|place| rules.get(place));
                if searched.any(ParsedRule::searches_all_values) {
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
            if !(group.without_hash.is_empty() && group.with_hash.is_empty()) {
                let kind = *event_type as usize;
                live_places.resize((kind + 1).max(live_places.len()), None);
                live_places[kind] = u8::try_from(live.len()).ok();
                live.push((*event_type, group));
            }
        }
        let of_sources = sources.entries().iter().map(|_| OnceLock::new()).collect();
        Self { live, live_places, of_sources }
    }

    /// The group of live events of this type, if it has any rule.
    pub(crate) fn live(&self, event_type: EventType) -> Option<&Group> {
        let place = self.live_places.get(event_type as usize).copied().flatten()?;
        self.live.get(usize::from(place)).map(|(_, group)| group)
    }

    /// Every group of live events that has a rule.
    pub(crate) fn all_live(&self) -> impl Iterator<Item = (EventType, &Group)> {
        self.live.iter().map(|(event_type, group)| (*event_type, group))
    }

    /// The group of a log source.
    pub(crate) fn of_source<'r, R: Iterator<Item = &'r ParsedRule>>(
        &self,
        source: SourceId,
        rules: impl Fn() -> R,
        sources: &LogSources,
        names: &FieldNames,
    ) -> Option<&Group> {
        let place = source.0 as usize;
        let entry = sources.entries().get(place)?;
        let compile = || {
            let is_asked = |rule: &ParsedRule| match rule.log_source() {
                None => is_in_logs(rule.telemetry, entry),
                Some(asked) => entry.is_asked_for(asked, None),
            };
            let id_of = |rule: &ParsedRule, field: &FieldRef| {
                let by_category = rule.log_source().is_none_or(|asked| asked.category.is_some());
                match field {
                    FieldRef::Named(name) => names.get(entry.name_of(name, by_category)),
                    FieldRef::Typed(field) => {
                        let name = field.spec().sigma.first();
                        name.and_then(|name| names.get(entry.name_of(name, by_category)))
                            .or(Some(FieldId::of(*field)))
                    }
                }
            };
            // A log has its hashes or has none: nothing comes later.
            // Records of logs have no process that their trees could be known by.
            let judges = |rule: &ParsedRule| matches!(rule.role, Role::Events);
            build(rules(), |rule| judges(rule) && is_asked(rule), id_of, |_| false)
        };
        Some(self.of_sources.get(place)?.get_or_init(compile))
    }

    /// Adds to each rule's number how many events its groups judged.
    pub(crate) fn add_evaluations(&self, evaluations: &mut [u64]) {
        let of_sources = self.of_sources.iter().filter_map(OnceLock::get);
        for group in self.live.iter().map(|(_, group)| group).chain(of_sources) {
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

fn build<'r>(
    rules: impl Iterator<Item = &'r ParsedRule>,
    is_asked: impl Fn(&ParsedRule) -> bool,
    id_of: impl Fn(&ParsedRule, &FieldRef) -> Option<FieldId>,
    waits_for_hash: impl Fn(&ParsedRule) -> bool,
) -> Group {
    let (mut without_hash, mut with_hash) = (Vec::new(), Vec::new());
    for (place, rule) in rules.enumerate() {
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
