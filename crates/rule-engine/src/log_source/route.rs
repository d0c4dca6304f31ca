//! From an event to its log source.

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
    /// For each channel the entries that ask for it or for none, in their order.
    by_channel: Vec<(Box<str>, Vec<u32>)>,
    /// The entries that ask for no certain channel.
    rest: Vec<u32>,
    conditions: Vec<Vec<(FieldId, Wanted)>>,
}

impl Router {
    pub(crate) fn new(sources: &LogSources, names: &mut FieldNames) -> Self {
        let channel = names.intern("Channel");
        let mut own = Self { channel, by_channel: Vec::new(), rest: Vec::new(), conditions: Vec::new() };
        let mut asking: Vec<(u32, &[Box<str>])> = Vec::new();
        for (number, entry) in (0_u32..).zip(sources.entries()) {
            let conditions = entry.when.iter().map(|(name, values)| (names.intern(name), values.clone()));
            own.conditions.push(conditions.collect());
            if entry.when.is_empty() {
                continue;
            }
            let channels = entry.when.iter().find(|(name, values)| &**name == "Channel" && values.is_some());
            match channels.and_then(|(_, values)| values.as_deref()) {
                Some(channels) => asking.push((number, channels)),
                None => own.rest.push(number),
            }
        }
        for (number, channels) in asking {
            for channel in channels {
                let known = own.by_channel.iter_mut().find(|(name, _)| name == channel);
                match known {
                    Some((_, entries)) => entries.push(number),
                    None => own.by_channel.push((channel.clone(), vec![number])),
                }
            }
        }
        for (_, entries) in &mut own.by_channel {
            entries.extend(&own.rest);
            entries.sort_unstable();
        }
        own
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
        entries.unwrap_or(&self.rest).iter().find(|entry| fits(entry)).map(|entry| SourceId(*entry))
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
