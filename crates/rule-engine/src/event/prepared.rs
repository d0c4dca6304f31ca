//! What judging needs of an event: its texts without case, and where each field's values are.

use super::{EventBuffer, FieldId};

/// One event prepared for judging; texts are folded as [`crate::fold`] does it. Its memory is used
/// again for the next event.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    text: String,
    ranges: Vec<(u32, u32)>,
    /// By field: place of its first value. Only fields in `fields` have one.
    first: Vec<u32>,
    fields: Vec<FieldId>,
    /// By place: that of the next value of the same field.
    next: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Prepared {
    /// Takes an event.
    pub(crate) fn take(&mut self, event: &EventBuffer) {
        self.take_places(event);
        self.take_texts(event);
    }

    fn take_places(&mut self, event: &EventBuffer) {
        for field in self.fields.drain(..) {
            self.first[field.index()] = NONE;
        }
        self.next.clear();
        self.next.resize(event.len(), NONE);
        // From the last to the first, so that each chain is in the order of the event.
        for (place, field) in event.fields().enumerate().rev() {
            if field == FieldId::UNNAMED {
                continue;
            }
            let index = field.index();
            if self.first.len() <= index {
                self.first.resize(index + 1, NONE);
            }
            if self.first[index] == NONE {
                self.fields.push(field);
            }
            self.next[place] = self.first[index];
            self.first[index] = u32::try_from(place).unwrap_or(NONE);
        }
    }

    /// The place of a field's first value.
    pub(crate) fn first_place(&self, field: FieldId) -> Option<usize> {
        self.first.get(field.index()).filter(|place| **place != NONE).map(|place| *place as usize)
    }

    /// The place of the next value of the same field.
    pub(crate) fn place_behind(&self, place: usize) -> Option<usize> {
        self.next.get(place).filter(|place| **place != NONE).map(|place| *place as usize)
    }

    fn take_texts(&mut self, event: &EventBuffer) {
        self.text.clear();
        self.ranges.clear();
        let (all, ranges) = event.all_texts();
        if all.is_ascii() {
            // Nothing changes its length: all of it is folded at one go.
            self.text.push_str(all);
            self.text.make_ascii_lowercase();
            self.ranges.extend(ranges);
            return;
        }
        for (start, end) in ranges {
            let part = all.get(start as usize..end as usize).unwrap_or_default();
            let from = self.text.len();
            if part.is_ascii() {
                self.text.push_str(part);
                self.text[from..].make_ascii_lowercase();
            } else {
                fold_into(part, &mut self.text);
            }
            // Folding makes a text at most three times as long, and events are far below a third of 4 GiB.
            let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
            self.ranges.push((number(from), number(self.text.len())));
        }
    }

    /// The text at a place of the event.
    pub(crate) fn text(&self, place: usize) -> &str {
        let Some((start, end)) = self.ranges.get(place) else { return "" };
        self.text.get(*start as usize..*end as usize).unwrap_or_default()
    }

    /// All texts, one behind the other.
    pub(crate) fn all(&self) -> &str {
        &self.text
    }
}

/// Most of a text that is not ASCII is: `Microsoft® Windows® Operating System`.
fn fold_into(text: &str, out: &mut String) {
    let mut rest = text;
    while !rest.is_empty() {
        let plain = rest.bytes().position(|byte| !byte.is_ascii()).unwrap_or(rest.len());
        let from = out.len();
        out.push_str(&rest[..plain]);
        out[from..].make_ascii_lowercase();
        let mut characters = rest[plain..].chars();
        if let Some(character) = characters.next() {
            out.extend(character.to_lowercase());
        }
        rest = characters.as_str();
    }
}
