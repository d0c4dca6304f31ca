//! From an event to its log source.

use std::collections::HashMap;

use super::{LogSource, LogSources, Wanted};
use crate::event::{EventBuffer, FieldId, FieldNames};
use crate::fold::fold;

/// A log source of a rule set, as [`crate::RuleSet::route`] finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(pub(crate) u32);

/// Finds the first entry that fits an event.
#[derive(Debug)]
pub(crate) struct Router {
    channel: FieldId,
    event_id: FieldId,
    /// For each channel the entries that ask for it or for none.
    by_channel: Vec<(Box<str>, Entries)>,
    /// The entries that ask for no certain channel.
    rest: Entries,
    conditions: Vec<Vec<(FieldId, Wanted)>>,
}

/// Entries in their order, and which of them an event of one id can fit: a channel has dozens, most for one id each.
#[derive(Debug, Default)]
struct Entries {
    all: Vec<u32>,
    by_event_id: HashMap<Box<str>, Vec<u32>>,
    /// For the ids that no entry asks for.
    other_ids: Vec<u32>,
}

impl Entries {
    fn new(all: Vec<u32>, conditions: &[Vec<(FieldId, Wanted)>], event_id: FieldId) -> Self {
        // The lists of ids that an entry asks for: all of them must have the event's.
        let asked = |entry: u32| {
            let own = conditions.get(entry as usize).map(Vec::as_slice).unwrap_or_default();
            own.iter().filter(|(field, _)| *field == event_id).filter_map(|(_, values)| values.as_deref())
        };
        let fitting = |id: Option<&str>| -> Vec<u32> {
            let has = |values: &[Box<str>]| id.is_some_and(|id| values.iter().any(|value| **value == *id));
            all.iter().copied().filter(|entry| asked(*entry).all(has)).collect()
        };
        let ids = all.iter().flat_map(|entry| asked(*entry)).flatten();
        let by_event_id = ids.map(|id| (id.clone(), fitting(Some(&**id)))).collect();
        let other_ids = fitting(None);
        Self { all, by_event_id, other_ids }
    }

    /// Those that an event with these ids can fit.
    fn of_event<'s, 'e>(&'s self, mut ids: impl Iterator<Item = &'e str>) -> &'s [u32] {
        match (ids.next(), ids.next()) {
            // What is no number may be written in other ways and still be the same.
            (Some(id), None) if id.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.by_event_id.get(id).unwrap_or(&self.other_ids)
            }
            _ => &self.all,
        }
    }
}

impl Router {
    pub(crate) fn new(sources: &LogSources, names: &mut FieldNames) -> Self {
        let (channel, event_id) = (names.intern("Channel"), names.intern("EventID"));
        let mut every_condition = Vec::new();
        let (mut by_channel, mut rest): (Vec<(Box<str>, Vec<u32>)>, _) = (Vec::new(), Vec::new());
        let mut asking: Vec<(u32, &[Box<str>])> = Vec::new();
        for (number, entry) in (0_u32..).zip(sources.entries()) {
            let conditions = entry.when.iter().map(|(name, values)| (names.intern(name), values.clone()));
            every_condition.push(conditions.collect());
            if entry.when.is_empty() {
                continue;
            }
            let channels = entry.when.iter().find(|(name, values)| &**name == "Channel" && values.is_some());
            match channels.and_then(|(_, values)| values.as_deref()) {
                Some(channels) => asking.push((number, channels)),
                None => rest.push(number),
            }
        }
        for (number, channels) in asking {
            for channel in channels {
                let known = by_channel.iter_mut().find(|(name, _)| name == channel);
                match known {
                    Some((_, entries)) => entries.push(number),
                    None => by_channel.push((channel.clone(), vec![number])),
                }
            }
        }
        let by_channel = by_channel.into_iter().map(|(channel, mut entries)| {
            entries.extend(&rest);
            entries.sort_unstable();
            (channel, Entries::new(entries, &every_condition, event_id))
        });
        let by_channel = by_channel.collect();
        let rest = Entries::new(rest, &every_condition, event_id);
        Self { channel, event_id, by_channel, rest, conditions: every_condition }
    }

    pub(crate) fn route(&self, event: &EventBuffer) -> Option<SourceId> {
        let entries = event.first_text(self.channel).and_then(|channel| {
            self.by_channel.iter().find(|(name, _)| is_same(channel, name)).map(|(_, entries)| entries)
        });
        // Entry after entry asks for the same field, most often the event id: it is looked up once.
        let mut known: Option<(FieldId, Option<&str>)> = None;
        let mut fits = |entry: &&u32| {
            let conditions = self.conditions.get(**entry as usize).map(Vec::as_slice).unwrap_or_default();
            conditions.iter().all(|(field, values)| {
                let Some(values) = values else { return event.has(*field) };
                let is_one = |text: &str| values.iter().any(|value| is_same(text, value));
                let only = match known {
                    Some((known, only)) if known == *field => only,
                    _ => {
                        let mut texts = event.texts(*field);
                        let only = texts.next().filter(|_| texts.next().is_none());
                        known = Some((*field, only));
                        only
                    }
                };
                match only {
                    Some(text) => is_one(text),
                    // None at all, or several.
                    None => event.texts(*field).any(is_one),
                }
            })
        };
        let entries = entries.unwrap_or(&self.rest).of_event(event.texts(self.event_id));
        entries.iter().find(|entry| fits(entry)).map(|entry| SourceId(*entry))
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
