//! From an event to its log source.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::{LogSource, LogSources, Wanted};
use crate::event::{EventBuffer, FieldId, FieldNames};
use crate::fold::fold;
use crate::matcher::TextHasher;

/// Only files of log sources fill it.
type ByText<V> = HashMap<Box<str>, V, BuildHasherDefault<TextHasher>>;

/// A log source of a rule set, as [`crate::RuleSet::route`] finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(pub(crate) u32);

/// Finds the first entry that fits an event.
#[derive(Debug)]
pub(crate) struct Router {
    channel: FieldId,
    event_id: FieldId,
    /// For each channel, folded, the entries that ask for it or for none.
    by_channel: ByText<Entries>,
    /// The entries that ask for no certain channel.
    rest: Entries,
    conditions: Vec<Vec<(FieldId, Wanted)>>,
}

/// Entries in their order, and which of them an event of one id can fit: a channel has dozens, most for one id each.
#[derive(Debug, Default)]
struct Entries {
    all: Vec<Fitting>,
    by_event_id: ByText<Vec<Fitting>>,
    /// For the ids that no entry asks for.
    other_ids: Vec<Fitting>,
}

/// An entry that may fit.
#[derive(Debug, Clone)]
struct Fitting {
    entry: u32,
    /// Places of the conditions that are still to be looked at: whoever came here fulfils the others.
    open: Box<[u32]>,
}

impl Entries {
    /// Of events that have this channel, where one is named.
    fn new(
        all: Vec<u32>,
        channel: Option<(FieldId, &str)>,
        conditions: &[Vec<(FieldId, Wanted)>],
        event_id: FieldId,
    ) -> Self {
        let of = |entry: u32| conditions.get(entry as usize).map(Vec::as_slice).unwrap_or_default();
        let has_channel = |(field, values): &(FieldId, Wanted)| {
            channel.is_some_and(|(own, name)| {
                own == *field && values.as_ref().is_none_or(|values| values.iter().any(|it| **it == *name))
            })
        };
        let has_id = |(field, values): &(FieldId, Wanted), id: &str| {
            *field == event_id && values.as_ref().is_none_or(|values| values.iter().any(|it| **it == *id))
        };
        let fitting = |entry: u32, is_met: &dyn Fn(&(FieldId, Wanted)) -> bool| {
            let open = (0_u32..).zip(of(entry)).filter(|(_, condition)| !is_met(condition));
            Fitting { entry, open: open.map(|(place, _)| place).collect() }
        };
        // The lists of ids that an entry asks for: all of them must have the event's.
        let asked = |entry: u32| {
            let own = of(entry).iter();
            own.filter(|(field, _)| *field == event_id).filter_map(|(_, values)| values.as_deref())
        };
        let of_id = |id: Option<&str>| -> Vec<Fitting> {
            let has = |values: &[Box<str>]| id.is_some_and(|id| values.iter().any(|value| **value == *id));
            let is_met = |condition: &(FieldId, Wanted)| {
                has_channel(condition) || id.is_some_and(|id| has_id(condition, id))
            };
            let own = all.iter().filter(|entry| asked(**entry).all(has));
            own.map(|entry| fitting(*entry, &is_met)).collect()
        };
        let ids = all.iter().flat_map(|entry| asked(*entry)).flatten();
        let by_event_id = ids.map(|id| (id.clone(), of_id(Some(&**id)))).collect();
        let other_ids = of_id(None);
        let all = all.iter().map(|entry| fitting(*entry, &has_channel)).collect();
        Self { all, by_event_id, other_ids }
    }

    /// Those that an event with these ids can fit.
    fn of_event<'s, 'e>(&'s self, mut ids: impl Iterator<Item = &'e str>) -> &'s [Fitting] {
        match (ids.next(), ids.next()) {
            // What is no number may be written in other ways and still be the same.
            (Some(id), None) if id.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.by_event_id.get(id).unwrap_or(&self.other_ids)
            }
            _ => &self.all,
        }
    }
}

/// Names of channels up to this length are folded without allocating; the longest of Windows' own has some 90 bytes.
const CHANNEL_BYTES: usize = 128;

impl Router {
    pub(crate) fn new(sources: &LogSources, names: &mut FieldNames) -> Self {
        let (channel, event_id) = (names.intern("Channel"), names.intern("EventID"));
        let mut conditions = Vec::new();
        let mut by_channel: ByText<Vec<u32>> = ByText::default();
        let mut rest = Vec::new();
        for (number, entry) in (0_u32..).zip(sources.entries()) {
            let own = entry.when.iter().map(|(name, values)| (names.intern(name), values.clone()));
            conditions.push(own.collect());
            if entry.when.is_empty() {
                continue;
            }
            let channels = entry.when.iter().find(|(name, values)| &**name == "Channel" && values.is_some());
            match channels.and_then(|(_, values)| values.as_deref()) {
                Some(channels) => {
                    for name in channels {
                        by_channel.entry(name.clone()).or_default().push(number);
                    }
                }
                None => rest.push(number),
            }
        }
        let by_channel = by_channel.into_iter().map(|(name, mut entries)| {
            entries.extend(&rest);
            entries.sort_unstable();
            entries.dedup();
            let entries = Entries::new(entries, Some((channel, &name)), &conditions, event_id);
            (name, entries)
        });
        let by_channel = by_channel.collect();
        let rest = Entries::new(rest, None, &conditions, event_id);
        Self { channel, event_id, by_channel, rest, conditions }
    }

    pub(crate) fn route(&self, event: &EventBuffer) -> Option<SourceId> {
        let entries = event.first_text(self.channel).and_then(|channel| self.of_channel(channel));
        let fits = |fitting: &&Fitting| {
            let all = self.conditions.get(fitting.entry as usize).map(Vec::as_slice).unwrap_or_default();
            let mut open = fitting.open.iter().filter_map(|place| all.get(*place as usize));
            open.all(|(field, values)| match values {
                None => event.has(*field),
                Some(values) => {
                    event.texts(*field).any(|text| values.iter().any(|value| is_same(text, value)))
                }
            })
        };
        let entries = entries.unwrap_or(&self.rest).of_event(event.texts(self.event_id));
        entries.iter().find(fits).map(|fitting| SourceId(fitting.entry))
    }

    fn of_channel(&self, channel: &str) -> Option<&Entries> {
        let mut folded = [0; CHANNEL_BYTES];
        match folded.get_mut(..channel.len()) {
            Some(folded) if channel.is_ascii() => {
                folded.copy_from_slice(channel.as_bytes());
                folded.make_ascii_lowercase();
                // Of ASCII it is text.
                self.by_channel.get(std::str::from_utf8(folded).unwrap_or_default())
            }
            _ => self.by_channel.get(&*fold(channel)),
        }
    }

    /// The first entry of records that a rule asks for; one that has the rule's names of fields before others.
    pub(crate) fn judged_by(sources: &LogSources, asked: &LogSource) -> Option<SourceId> {
        let entries = || (0_u32..).zip(sources.entries());
        let is_asked =
            |(_, entry): &(u32, &super::SourceEntry)| entry.live.is_none() && entry.is_asked_for(asked, None);
        let as_named = entries().find(|entry| is_asked(entry) && entry.1.fields.is_empty());
        as_named.or_else(|| entries().find(is_asked)).map(|(number, _)| SourceId(number))
    }

    /// The first entry with exactly these parts.
    pub(crate) fn named(sources: &LogSources, wanted: &LogSource) -> Option<SourceId> {
        let is_wanted = |(_, entry): &(u32, &super::SourceEntry)| {
            entry.live.is_none()
                && entry.product == wanted.product
                && entry.service == wanted.service
                && match &wanted.category {
                    None => entry.categories.is_empty(),
                    Some(category) => entry.categories.contains(category),
                }
        };
        let mut entries = (0_u32..).zip(sources.entries());
        entries.find(is_wanted).map(|(number, _)| SourceId(number))
    }
}

/// Whether a text is that folded one.
fn is_same(text: &str, folded: &str) -> bool {
    text.eq_ignore_ascii_case(folded) || (!text.is_ascii() && fold(text) == folded)
}
