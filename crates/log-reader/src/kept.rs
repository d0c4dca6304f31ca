//! The few values of an event that the reader itself looks at: its head, and what
//! derived fields are made from.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use event_model::{EventType, Timestamp};

use crate::consumer::{EventHead, LogConsumer, Origin};
use crate::layout::{DerivedField, EcsCategory, FieldLayout};
use crate::time::parse_event_time;

/// Names that make an event's head; a slot is the index into them, and behind them the
/// names that derived fields use.
const HEAD: &[&str] = &[
    "Channel",
    "EventID",
    "EventRecordID",
    "rampart.event.type",
    "event.kind",
    "event.category",
    "event.type",
    "event.action",
    "host.os.type",
    "process.executable",
    "logsource.product",
    "logsource.service",
    "logsource.category",
    "Provider_Name",
    "@timestamp",
    "TimeCreated_SystemTime",
    "TimeCreated",
    "UtcTime",
    "EventTime",
    "timestamp",
    "time",
];
const TIMES: std::ops::Range<usize> = 14..21;

/// Which of [`KeptNames`] a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeptSlot(u16);

#[derive(Debug)]
pub(crate) struct KeptNames {
    slots: HashMap<String, KeptSlot>,
}

impl KeptNames {
    pub(crate) fn new(layout: &FieldLayout) -> Self {
        let head = HEAD.iter().map(|name| (*name).to_owned());
        let derived = layout.derived.iter().flat_map(|field| {
            field.from.iter().chain(&field.registry_type).chain(std::iter::once(&field.to)).cloned()
        });
        let mut slots = HashMap::new();
        for name in head.chain(derived) {
            let next = slots.len();
            slots.entry(name).or_insert(KeptSlot(u16::try_from(next).unwrap_or(u16::MAX)));
        }
        Self { slots }
    }

    pub(crate) fn slot(&self, name: &str) -> Option<KeptSlot> {
        self.slots.get(name).copied()
    }
}

/// A derived field with the slots of what it is made from.
#[derive(Debug)]
struct Derivation<F> {
    rule: DerivedField,
    channel: String,
    from: Vec<KeptSlot>,
    own: Option<KeptSlot>,
    registry_type: Option<KeptSlot>,
    field: Option<F>,
}

/// The values, and what to make of them.
#[derive(Debug)]
pub(crate) struct Kept<F> {
    names: KeptNames,
    text: String,
    /// Start and end of each slot's values: an index into `values` of the last one.
    last: Vec<u32>,
    values: Vec<KeptValue>,
    /// By event id, sorted: there are few.
    derivations: Vec<(u32, Vec<Derivation<F>>)>,
    ecs: Vec<EcsCategory>,
    scratch: String,
}

#[derive(Debug, Clone, Copy)]
struct KeptValue {
    start: u32,
    end: u32,
    /// The value of the same slot before this one.
    before: u32,
    slot: KeptSlot,
}

const NONE: u32 = u32::MAX;
/// An event with more values in the slots is strange; the rest is not looked at.
const VALUES_LIMIT: usize = 1_024;

impl<F: Copy> Kept<F> {
    pub(crate) fn new<C: LogConsumer<Field = F>>(layout: &FieldLayout, consumer: &mut C) -> Self {
        let names = KeptNames::new(layout);
        let mut derivations: BTreeMap<u32, Vec<Derivation<F>>> = BTreeMap::new();
        for rule in &layout.derived {
            let from = rule.from.iter().filter_map(|name| names.slot(name)).collect();
            derivations.entry(rule.event_id).or_default().push(Derivation {
                channel: rule.channel.clone(),
                from,
                own: names.slot(&rule.to),
                registry_type: rule.registry_type.as_deref().and_then(|name| names.slot(name)),
                field: consumer.field(&rule.to),
                rule: rule.clone(),
            });
        }
        let last = vec![NONE; names.slots.len()];
        let derivations = derivations.into_iter().collect();
        let (text, values, scratch) = (String::new(), Vec::new(), String::new());
        Self { names, text, last, values, derivations, ecs: layout.ecs.clone(), scratch }
    }

    pub(crate) fn names(&self) -> &KeptNames {
        &self.names
    }

    pub(crate) fn clear(&mut self) {
        for value in &self.values {
            if let Some(last) = self.last.get_mut(value.slot.0 as usize) {
                *last = NONE;
            }
        }
        self.values.clear();
        self.text.clear();
        self.text.shrink_to(1 << 16);
    }

    pub(crate) fn push(&mut self, slot: KeptSlot, value: &str) {
        let start = self.text.len();
        self.text.push_str(value);
        self.keep_from(start, slot);
    }

    /// Keeps a value as it is written.
    pub(crate) fn push_shown(&mut self, slot: KeptSlot, value: impl std::fmt::Display) {
        let start = self.text.len();
        // A String takes every write.
        let _ = write!(self.text, "{value}");
        self.keep_from(start, slot);
    }

    /// Keeps what stands at the end of the text as a value, or takes it away where there are too many.
    fn keep_from(&mut self, start: usize, slot: KeptSlot) {
        let place = u32::try_from(self.values.len()).unwrap_or(NONE);
        let range = (u32::try_from(start), u32::try_from(self.text.len()));
        let last = self.last.get_mut(slot.0 as usize).filter(|_| self.values.len() < VALUES_LIMIT);
        let ((Ok(start), Ok(end)), Some(last)) = (range, last) else {
            self.text.truncate(start);
            return;
        };
        self.values.push(KeptValue { start, end, before: *last, slot });
        *last = place;
    }

    /// The values of a slot, the last first.
    fn all(&self, slot: usize) -> impl Iterator<Item = &str> {
        let mut next = self.last.get(slot).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let value = self.values.get(next as usize)?;
            next = value.before;
            self.text.get(value.start as usize..value.end as usize)
        })
    }

    /// The first value of a slot.
    fn first(&self, slot: usize) -> Option<&str> {
        self.all(slot).last()
    }

    /// The first value of a head's name.
    fn head_value(&self, name: &str) -> Option<&str> {
        HEAD.iter().position(|known| *known == name).and_then(|slot| self.first(slot))
    }

    /// Adds the derived fields to the event.
    pub(crate) fn derive<C: LogConsumer<Field = F>>(&mut self, consumer: &mut C) {
        let Some(event_id) = self.first(1).and_then(|text| text.parse::<u32>().ok()) else { return };
        let place = self.derivations.binary_search_by_key(&event_id, |(id, _)| *id);
        let Some((_, derivations)) = place.ok().and_then(|place| self.derivations.get(place)) else { return };
        let mut scratch = std::mem::take(&mut self.scratch);
        let channel = self.first(0).unwrap_or_default();
        for derivation in derivations {
            let Some(field) = derivation.field else { continue };
            let has_it = derivation.own.is_some_and(|own| self.first(own.0.into()).is_some());
            if !has_it
                && derivation.channel.eq_ignore_ascii_case(channel)
                && let Some(value) = self.made(derivation, &mut scratch)
            {
                consumer.text(field, value);
            }
        }
        self.scratch = scratch;
    }

    fn made<'a>(&'a self, derivation: &'a Derivation<F>, scratch: &'a mut String) -> Option<&'a str> {
        scratch.clear();
        for (index, slot) in derivation.from.iter().enumerate() {
            let value = self.first(slot.0.into()).filter(|value| !value.is_empty() && *value != "-");
            match value {
                None if index == 0 => return None,
                None => {}
                Some(value) => {
                    if index > 0 {
                        scratch.push_str(&derivation.rule.join);
                    }
                    scratch.push_str(value);
                }
            }
        }
        if !derivation.rule.values.is_empty() {
            return derivation.rule.values.get(scratch.as_str()).map(String::as_str);
        }
        for (prefix, instead) in &derivation.rule.prefixes {
            let start = scratch.get(..prefix.len());
            if start.is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
                scratch.replace_range(..prefix.len(), instead);
                break;
            }
        }
        if let Some(kind) = derivation.registry_type.and_then(|slot| self.first(slot.0.into())) {
            as_sysmon_details(kind, scratch);
        }
        Some(scratch)
    }

    /// The event's head; `record` is where it stands, unless it says so itself and
    /// `own_record` asks for that.
    pub(crate) fn head(&self, record: u64, own_record: bool, time: Option<Timestamp>) -> EventHead<'_> {
        let own = || self.first(2).and_then(|text| text.parse().ok());
        let record = if own_record { own().unwrap_or(record) } else { record };
        let time = time.or_else(|| TIMES.filter_map(|slot| self.first(slot)).find_map(parse_event_time));
        EventHead { record, time, origin: self.origin() }
    }

    fn origin(&self) -> Origin<'_> {
        // Nearly all events of logs have a channel: the shortest way for them.
        if self.first(0).is_some() {
            return Origin::Fields;
        }
        if let Some(word) = self.head_value("rampart.event.type") {
            return Origin::Rampart(EventType::from_word(word));
        }
        let product = self.head_value("logsource.product");
        let service = self.head_value("logsource.service");
        let category = self.head_value("logsource.category");
        if product.is_some() || service.is_some() || category.is_some() {
            return Origin::Stated { product, service, category };
        }
        if self.head_value("event.category").is_none() && self.head_value("process.executable").is_none() {
            return Origin::Fields;
        }
        Origin::Ecs { product: self.product(), category: self.ecs_category() }
    }

    fn product(&self) -> Option<&str> {
        if let Some(product) = self.head_value("host.os.type") {
            return Some(product);
        }
        let path = self.head_value("process.executable")?.as_bytes();
        match path {
            [b'/', ..] => Some("linux"),
            [b'\\', ..] | [_, b':', ..] => Some("windows"),
            _ => None,
        }
    }

    fn ecs_category(&self) -> Option<&str> {
        let values = |name: &str| {
            let slot = HEAD.iter().position(|known| *known == name).unwrap_or(usize::MAX);
            self.all(slot)
        };
        let fits = |rule: &&EcsCategory| {
            values("event.category").any(|value| value == rule.category)
                && values("event.type")
                    .chain(values("event.action"))
                    .any(|value| rule.types.iter().any(|it| it == value))
        };
        self.ecs.iter().find(fits).map(|rule| rule.sigma.as_str())
    }
}

/// Registry data as Sysmon writes it. The types are the message numbers of event 4657
/// (`%%1872` none … `%%1883` a 64-bit number).
fn as_sysmon_details(kind: &str, value: &mut String) {
    let number = match value.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => value.parse().ok(),
    };
    match (kind, number) {
        ("%%1876", Some(number)) => *value = format!("DWORD (0x{number:08x})"),
        ("%%1883", Some(number)) => {
            *value = format!("QWORD (0x{:08x}-0x{:08x})", number >> 32, number & 0xffff_ffff);
        }
        ("%%1875", _) => "Binary Data".clone_into(value),
        _ => {}
    }
}
