//! One event as rules see it, in memory that the next event uses again.

use std::fmt::Write as _;

use event_model::{Timestamp, ValueRef};

use super::FieldId;

/// Texts of one event in bytes. What is beyond is left out, and [`EventBuffer::is_cut`] says so.
pub const EVENT_TEXT_LIMIT: usize = 32 * 1024 * 1024;
/// Values of one event. What is beyond is left out.
pub const EVENT_VALUE_LIMIT: usize = 65_536;

/// An event: values with their fields, several where the field is a list. A list matches
/// where one of its values does.
#[derive(Debug, Default, Clone)]
pub struct EventBuffer {
    text: String,
    values: Vec<StoredValue>,
    time: Option<Timestamp>,
    is_cut: bool,
}

#[derive(Debug, Clone, Copy)]
struct StoredValue {
    field: FieldId,
    start: u32,
    end: u32,
    kind: StoredKind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum StoredKind {
    Null,
    Text,
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Time(Timestamp),
}

impl EventBuffer {
    /// An empty event.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.text.clear();
        self.time = None;
        self.is_cut = false;
    }

    /// Says when it happened: correlations count by this time, and exceptions expire by it.
    pub fn set_time(&mut self, time: Timestamp) {
        self.time = Some(time);
    }

    /// When it happened, where that is known.
    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// True where something was left out, see [`EVENT_TEXT_LIMIT`].
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Adds a text. A field that has a value already becomes a list.
    pub fn push_text(&mut self, field: FieldId, text: &str) {
        if text.len() > EVENT_TEXT_LIMIT - self.text.len() {
            self.is_cut = true;
            return;
        }
        let start = self.text.len();
        self.text.push_str(text);
        self.push(field, start, StoredKind::Text);
    }

    /// Adds a whole number. It equals the text of its digits.
    pub fn push_integer(&mut self, field: FieldId, number: i64) {
        let start = self.text.len();
        push_digits(&mut self.text, number);
        self.push(field, start, StoredKind::Integer(number));
    }

    /// As [`Self::push_integer`], where the digits are at hand; they must be those of `number.to_string()`.
    pub fn push_written_integer(&mut self, field: FieldId, number: i64, written: &str) {
        debug_assert_eq!(number.to_string(), written);
        let start = self.text.len();
        self.text.push_str(written);
        self.push(field, start, StoredKind::Integer(number));
    }

    /// Adds a number that is not whole.
    pub fn push_float(&mut self, field: FieldId, number: f64) {
        let start = self.text.len();
        let _ = write!(self.text, "{number}");
        self.push(field, start, StoredKind::Float(number));
    }

    /// Adds `true` or `false`; it equals the text of that word.
    pub fn push_boolean(&mut self, field: FieldId, truth: bool) {
        let start = self.text.len();
        self.text.push_str(if truth { "true" } else { "false" });
        self.push(field, start, StoredKind::Boolean(truth));
    }

    /// Adds a null: the field is there and has no value.
    pub fn push_null(&mut self, field: FieldId) {
        self.push(field, self.text.len(), StoredKind::Null);
    }

    /// Adds a time.
    pub fn push_time(&mut self, field: FieldId, time: Timestamp) {
        let start = self.text.len();
        let _ = write!(self.text, "{time}");
        self.push(field, start, StoredKind::Time(time));
    }

    /// Adds a value of the event model; a list of texts as each of them.
    pub fn push_value(&mut self, field: FieldId, value: &ValueRef<'_>) {
        match value {
            ValueRef::Text(text) => self.push_text(field, text),
            ValueRef::Integer(number) => self.push_integer(field, *number),
            ValueRef::Boolean(truth) => self.push_boolean(field, *truth),
            ValueRef::TextList(texts) => texts.iter().for_each(|text| self.push_text(field, text)),
            ValueRef::Time(time) => self.push_time(field, *time),
        }
    }

    /// The texts of a field's values, numbers as digits; a null is left out.
    pub fn texts(&self, field: FieldId) -> impl Iterator<Item = &str> {
        let own =
            self.values.iter().filter(move |value| value.field == field && value.kind != StoredKind::Null);
        own.map(|value| self.text_of(value))
    }

    /// The first value's text.
    pub fn first_text(&self, field: FieldId) -> Option<&str> {
        self.texts(field).next()
    }

    /// Whether the field is there, be it null.
    pub fn has(&self, field: FieldId) -> bool {
        self.values.iter().any(|value| value.field == field)
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The field of each value.
    pub(super) fn fields(&self) -> impl DoubleEndedIterator<Item = FieldId> + ExactSizeIterator {
        self.values.iter().map(|value| value.field)
    }

    pub(crate) fn kind_at(&self, place: usize) -> Option<StoredKind> {
        self.values.get(place).map(|value| value.kind)
    }

    pub(crate) fn text_at(&self, place: usize) -> &str {
        self.values.get(place).map_or("", |value| self.text_of(value))
    }

    fn text_of(&self, value: &StoredValue) -> &str {
        self.text.get(value.start as usize..value.end as usize).unwrap_or_default()
    }

    /// All texts, one behind the other, and the range of each value in them.
    pub(super) fn all_texts(&self) -> (&str, impl Iterator<Item = (u32, u32)>) {
        (&self.text, self.values.iter().map(|value| (value.start, value.end)))
    }

    fn push(&mut self, field: FieldId, start: usize, kind: StoredKind) {
        if self.values.len() >= EVENT_VALUE_LIMIT {
            self.text.truncate(start);
            self.is_cut = true;
            return;
        }
        // Both limits are far below what these numbers hold.
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (start, end) = (number(start), number(self.text.len()));
        self.values.push(StoredValue { field, start, end, kind });
    }
}

/// The number in decimal; nearly all events have some, and formatting is several times as slow.
fn push_digits(text: &mut String, number: i64) {
    // 2^63 has 19 digits.
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut left = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        text.push('-');
    }
    // Digits are text.
    text.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use event_model::Field;

    use super::*;

    #[test]
    fn a_field_with_several_values_is_a_list_and_clearing_forgets_all() {
        let mut event = EventBuffer::new();
        let (pid, name) = (FieldId::of(Field::ProcessPid), FieldId::of(Field::ProcessName));
        event.push_text(name, "a");
        event.push_integer(pid, 7);
        event.push_null(name);
        event.push_text(name, "b");
        event.push_text(FieldId::UNNAMED, "c");
        assert_eq!(event.texts(name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(event.first_text(pid), Some("7"));
        assert_eq!(event.values.len(), 5);
        event.clear();
        assert_eq!((event.first_text(name), event.first_text(pid)), (None, None));
        event.push_text(name, "d");
        assert_eq!(event.texts(name).collect::<Vec<_>>(), ["d"]);
    }

    #[test]
    fn numbers_are_written_as_everywhere() {
        for number in [0, 1, -1, 9, 10, 4_688, -99_999, i64::MAX, i64::MIN] {
            let mut text = String::new();
            push_digits(&mut text, number);
            assert_eq!(text, number.to_string());
        }
    }

    #[test]
    fn what_is_too_long_is_left_out_and_said() {
        let mut event = EventBuffer::new();
        event.push_text(FieldId::of(Field::ProcessName), &"a".repeat(EVENT_TEXT_LIMIT + 1));
        assert!(event.is_cut());
        assert_eq!(event.first_text(FieldId::of(Field::ProcessName)), None);
    }
}
