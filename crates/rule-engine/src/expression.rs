//! A condition, compiled, and how it is judged.
//!
//! A [`Test`] of a field that the event does not have is false, whatever its
//! operator; `not` then makes it true. So `user != 'root'` asks for a user that
//! is another, and `not user = 'root'` is also true where nobody knows the user.

use std::borrow::Cow;
use std::cell::OnceCell;

use event_model::{Field, FieldSource, Timestamp, ValueRef};
use memchr::memmem::Finder;
use regex::Regex;

use crate::fold::fold;

/// A regular expression sees this much of a text's start and as much of its end:
/// its cost grows with the text, and whoever starts a process chooses the text.
const REGEX_TEXT_LIMIT: usize = 32 * 1024;

#[derive(Debug, Clone)]
pub(crate) enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Test(Test),
}

#[derive(Debug, Clone)]
pub(crate) struct Test {
    field: Field,
    /// Place of the field in the views of the rule's group.
    slot: usize,
    check: Check,
    /// For `!=` and `not in`.
    negated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Equal,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
}

impl Order {
    fn holds<T: Ord>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Greater => left > right,
            Self::Less => left < right,
            Self::GreaterOrEqual => left >= right,
            Self::LessOrEqual => left <= right,
        }
    }
}

/// What a value is compared with. Texts are folded already.
#[derive(Debug, Clone)]
pub(crate) enum Check {
    Equals(Box<str>),
    /// Sorted.
    In(Vec<Box<str>>),
    Contains(Box<Finder<'static>>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Matches(Regex),
    Number(Order, i64),
    /// Sorted.
    NumberIn(Vec<i64>),
    Truth(bool),
    Time(Order, Timestamp),
}

impl Expression {
    /// Gives each test the slot of its field.
    pub(crate) fn place(&mut self, slot_of: &mut impl FnMut(Field) -> usize) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter_mut().for_each(|part| part.place(slot_of)),
            Self::Not(inner) => inner.place(slot_of),
            Self::Test(test) => test.slot = slot_of(test.field),
        }
    }

    /// Roughly what judging it costs, in steps of comparing a short text.
    pub(crate) fn cost(&self) -> u32 {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().map(Self::cost).fold(0, |sum, cost| sum.saturating_add(cost))
            }
            Self::Not(inner) => inner.cost(),
            Self::Test(test) => match test.check {
                Check::Matches(_) => 20,
                Check::Contains(_) => 4,
                Check::In(_) | Check::NumberIn(_) => 2,
                _ => 1,
            },
        }
    }

    pub(crate) fn holds(&self, view: &EventView<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(view)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(view)),
            Self::Not(inner) => !inner.holds(view),
            Self::Test(test) => test.holds(view),
        }
    }
}

impl Test {
    pub(crate) fn new(field: Field, check: Check, negated: bool) -> Self {
        Self { field, slot: 0, check, negated }
    }

    fn holds(&self, view: &EventView<'_>) -> bool {
        view.value(self.slot).is_some_and(|value| self.check.accepts(value) != self.negated)
    }
}

impl Check {
    pub(crate) fn contains(needle: &str) -> Self {
        Self::Contains(Box::new(Finder::new(needle).into_owned()))
    }

    fn accepts(&self, value: &ViewedValue<'_>) -> bool {
        match self {
            Self::Equals(text) => value.any_folded(|own| own == &**text),
            Self::In(texts) => {
                value.any_folded(|own| texts.binary_search_by(|text| (**text).cmp(own)).is_ok())
            }
            Self::Contains(finder) => value.any_folded(|own| finder.find(own.as_bytes()).is_some()),
            Self::StartsWith(text) => value.any_folded(|own| own.starts_with(&**text)),
            Self::EndsWith(text) => value.any_folded(|own| own.ends_with(&**text)),
            Self::Matches(regex) => value.any_text(|own| found_within_limit(regex, own)),
            Self::Number(order, number) => {
                matches!(&value.value, ValueRef::Integer(own) if order.holds(own, number))
            }
            Self::NumberIn(numbers) => {
                matches!(&value.value, ValueRef::Integer(own) if numbers.binary_search(own).is_ok())
            }
            Self::Truth(truth) => matches!(&value.value, ValueRef::Boolean(own) if own == truth),
            Self::Time(order, time) => matches!(&value.value, ValueRef::Time(own) if order.holds(own, time)),
        }
    }
}

fn found_within_limit(regex: &Regex, text: &str) -> bool {
    if text.len() <= 2 * REGEX_TEXT_LIMIT {
        return regex.is_match(text);
    }
    let head = text.floor_char_boundary(REGEX_TEXT_LIMIT);
    let tail = text.ceil_char_boundary(text.len() - REGEX_TEXT_LIMIT);
    regex.is_match(&text[..head]) || regex.is_match(&text[tail..])
}

/// An event as the rules of one group see it: each field is read once, each text
/// folded once, and only if a rule asks.
pub(crate) struct EventView<'a> {
    event: &'a dyn FieldSource,
    fields: &'a [Field],
    values: Vec<OnceCell<Option<ViewedValue<'a>>>>,
}

struct ViewedValue<'a> {
    value: ValueRef<'a>,
    folded: OnceCell<Folded>,
    /// An integer's digits, for text operators.
    digits: OnceCell<String>,
}

/// The folded texts of a value; `Same` where folding changes nothing.
enum Folded {
    Same,
    One(String),
    Many(Vec<String>),
}

impl<'a> EventView<'a> {
    pub(crate) fn new(event: &'a dyn FieldSource, fields: &'a [Field]) -> Self {
        Self { event, fields, values: std::iter::repeat_with(OnceCell::new).take(fields.len()).collect() }
    }

    fn value(&self, slot: usize) -> Option<&ViewedValue<'a>> {
        let read = || {
            let value = self.event.value(*self.fields.get(slot)?)?;
            Some(ViewedValue { value, folded: OnceCell::new(), digits: OnceCell::new() })
        };
        self.values.get(slot)?.get_or_init(read).as_ref()
    }
}

impl ViewedValue<'_> {
    /// True if the test holds for the text, or for any text of a list.
    fn any_text(&self, holds: impl Fn(&str) -> bool) -> bool {
        match &self.value {
            ValueRef::Text(text) => holds(text),
            ValueRef::TextList(texts) => texts.iter().any(|text| holds(text)),
            ValueRef::Integer(number) => holds(self.digits.get_or_init(|| number.to_string())),
            ValueRef::Boolean(_) | ValueRef::Time(_) => false,
        }
    }

    /// The same over folded texts.
    fn any_folded(&self, holds: impl Fn(&str) -> bool) -> bool {
        match self.folded.get_or_init(|| self.fold()) {
            Folded::Same => self.any_text(holds),
            Folded::One(text) => holds(text),
            Folded::Many(texts) => texts.iter().any(|text| holds(text)),
        }
    }

    fn fold(&self) -> Folded {
        match &self.value {
            ValueRef::Text(text) => match fold(text) {
                Cow::Borrowed(_) => Folded::Same,
                Cow::Owned(text) => Folded::One(text),
            },
            ValueRef::TextList(texts) if texts.iter().all(|text| matches!(fold(text), Cow::Borrowed(_))) => {
                Folded::Same
            }
            ValueRef::TextList(texts) => {
                Folded::Many(texts.iter().map(|text| fold(text).into_owned()).collect())
            }
            ValueRef::Integer(_) | ValueRef::Boolean(_) | ValueRef::Time(_) => Folded::Same,
        }
    }
}
