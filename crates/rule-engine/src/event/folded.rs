//! The texts of an event without case.

use super::EventBuffer;

/// The texts of one event, folded (see [`crate::fold`]), by place. Its memory is used again for the next.
#[derive(Debug, Default)]
pub(crate) struct FoldedTexts {
    text: String,
    ranges: Vec<(u32, u32)>,
}

impl FoldedTexts {
    /// Takes the texts of an event.
    pub(crate) fn take(&mut self, event: &EventBuffer) {
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
            self.text.extend(part.chars().flat_map(char::to_lowercase));
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
