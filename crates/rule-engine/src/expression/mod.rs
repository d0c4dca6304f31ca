//! A condition, compiled, and how it is judged. Rules of every language end here.
//!
//! A [`Test`] of a field that the event does not have is false, whatever its
//! operator (but for [`Check::Null`]); `not` then makes it true. So in a native rule
//! `user != 'root'` asks for a user that is another, and `not user = 'root'` is also true
//! where nobody knows the user. A field with several values passes a test if one of them does.

mod describe;
mod glob;
mod text;
mod value;

use event_model::{Field, Timestamp};

pub use describe::ExplainedPart;
pub(crate) use describe::{name_of, quoted};
pub(crate) use glob::{Element, Glob};
pub(crate) use text::{Pattern, TextPart, TextTest};
pub(crate) use value::{AddressRange, TimeUnit};

use crate::event::{EventBuffer, FieldId, Prepared, StoredKind};

#[derive(Debug, Clone)]
pub(crate) enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Test(Test),
}

/// A field as a rule names it, before it is known in which events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FieldRef {
    /// A row of the field table.
    Typed(Field),
    /// A name of the log that the rule is for.
    Named(Box<str>),
}

impl FieldRef {
    /// Its place in a rule's list of fields, at whose end it is put where it is new.
    pub(crate) fn slot_in(self, fields: &mut Vec<Self>) -> Slot {
        let place = fields.iter().position(|known| *known == self).unwrap_or_else(|| {
            fields.push(self);
            fields.len() - 1
        });
        // A rule with more fields can't be written within the limits of its text.
        Slot(u16::try_from(place).unwrap_or(u16::MAX - 1))
    }
}

/// A place in the rule's own list of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u16);

impl Slot {
    /// Every value of the event, whatever its field.
    pub(crate) const ANY_FIELD: Self = Self(u16::MAX);
}

#[derive(Debug, Clone)]
pub(crate) struct Test {
    pub(crate) slot: Slot,
    pub(crate) check: Check,
    /// For `!=` and `not in` of native rules.
    pub(crate) negated: bool,
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
    pub(crate) fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Greater => left > right,
            Self::Less => left < right,
            Self::GreaterOrEqual => left >= right,
            Self::LessOrEqual => left <= right,
        }
    }
}

/// What a value is compared with.
#[derive(Debug, Clone)]
pub(crate) enum Check {
    /// Its text; numbers as digits.
    Text(TextTest),
    /// A whole number.
    Number(Order, i64),
    /// A whole number that is one of these, sorted.
    NumberIn(Vec<i64>),
    /// A number, or a text that is one.
    Quantity(Order, f64),
    /// True or false.
    Truth(bool),
    /// A time.
    Time(Order, Timestamp),
    /// A part of a time, in UTC.
    TimePart(TimeUnit, Order, i64),
    /// An address within a range.
    Address(AddressRange),
    /// The text of another field of the same event.
    SameAs {
        /// The other field.
        other: Slot,
        /// Where in this field's text the other's stands.
        anchor: Anchor,
        /// Whether case counts.
        cased: bool,
    },
    /// The field has no value: it is missing, or null.
    Null,
    /// The field is there.
    Exists,
}

/// Where a part stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Anchor {
    Whole,
    Start,
    End,
    Anywhere,
}

/// An event with what judging needs of it.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) event: &'a EventBuffer,
    pub(crate) prepared: &'a Prepared,
    /// The field of each slot of the rule.
    pub(crate) fields: &'a [FieldId],
}

impl Expression {
    pub(crate) fn test(slot: Slot, check: Check) -> Self {
        Self::Test(Test { slot, check, negated: false })
    }

    /// One that no event fulfils.
    pub(crate) fn never() -> Self {
        Self::Any(Vec::new())
    }

    /// Both; flat where one is `All` already.
    pub(crate) fn all(parts: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Self::All(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { Self::All(flat) }
    }

    /// Either; flat where one is `Any` already.
    pub(crate) fn any(parts: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Self::Any(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { Self::Any(flat) }
    }

    /// Gives each test another slot.
    pub(crate) fn move_slots(&mut self, slot_of: &mut impl FnMut(Slot) -> Slot) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter_mut().for_each(|part| part.move_slots(slot_of)),
            Self::Not(inner) => inner.move_slots(slot_of),
            Self::Test(test) => {
                test.slot = slot_of(test.slot);
                if let Check::SameAs { other, .. } = &mut test.check {
                    *other = slot_of(*other);
                }
            }
        }
    }

    /// Whether a test looks at all values of an event.
    pub(crate) fn searches_all_values(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::searches_all_values),
            Self::Not(inner) => inner.searches_all_values(),
            Self::Test(test) => test.slot == Slot::ANY_FIELD,
        }
    }

    /// Whether it is true for every event that has its fields, whatever their values.
    pub(crate) fn is_always_true(&self) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(Self::is_always_true),
            Self::Any(parts) => parts.iter().any(Self::is_always_true),
            // What holds for everything that has a field says something where it doesn't hold.
            Self::Not(_) => false,
            Self::Test(test) => match &test.check {
                Check::Exists => !test.negated,
                Check::Text(text) => !test.negated && text.part.accepts_everything(),
                _ => false,
            },
        }
    }

    /// How many tests it has.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::count).sum(),
            Self::Not(inner) => inner.count(),
            Self::Test(_) => 1,
        }
    }

    /// Puts the cheap parts first: tests have no effects.
    pub(crate) fn sort_by_cost(&mut self) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter_mut().for_each(Self::sort_by_cost);
                parts.sort_by_key(Self::cost);
            }
            Self::Not(inner) => inner.sort_by_cost(),
            Self::Test(_) => {}
        }
    }

    /// Roughly what judging it costs, in steps of comparing a short text.
    pub(crate) fn cost(&self) -> u32 {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().map(Self::cost).fold(0, |sum, cost| sum.saturating_add(cost))
            }
            Self::Not(inner) => inner.cost(),
            Self::Test(test) => {
                let cost = match &test.check {
                    Check::Text(text) => text.cost(),
                    Check::Address(_) | Check::TimePart(..) => 4,
                    Check::NumberIn(_) | Check::SameAs { .. } => 2,
                    _ => 1,
                };
                if test.slot == Slot::ANY_FIELD { cost * 20 } else { cost }
            }
        }
    }

    pub(crate) fn holds(&self, view: View<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(view)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(view)),
            Self::Not(inner) => !inner.holds(view),
            Self::Test(test) => test.holds(view),
        }
    }
}

impl Test {
    fn holds(&self, view: View<'_>) -> bool {
        match &self.check {
            Check::Null => {
                let mut values = view.values(self.slot);
                !values.any(|(_, kind)| kind != StoredKind::Null)
            }
            Check::Exists => view.values(self.slot).next().is_some(),
            check if self.negated => {
                // Natively a field is unlike something only if it is there.
                let mut values = view.values(self.slot).filter(|(_, kind)| *kind != StoredKind::Null);
                values.clone().next().is_some() && !values.any(|value| check.accepts(view, value))
            }
            check => {
                view.values(self.slot).any(|value| value.1 != StoredKind::Null && check.accepts(view, value))
            }
        }
    }
}

impl Check {
    /// Whether one value passes.
    fn accepts(&self, view: View<'_>, (place, kind): (usize, StoredKind)) -> bool {
        match self {
            Self::Text(test) => test.accepts(view.prepared.text(place), view.event.text_at(place)),
            Self::Number(order, number) => {
                matches!(kind, StoredKind::Integer(own) if order.holds(&own, number))
            }
            Self::NumberIn(numbers) => {
                matches!(kind, StoredKind::Integer(own) if numbers.binary_search(&own).is_ok())
            }
            Self::Quantity(order, number) => {
                value::quantity(kind, view.event.text_at(place)).is_some_and(|own| order.holds(&own, number))
            }
            Self::Truth(truth) => kind == StoredKind::Boolean(*truth),
            Self::Time(order, time) => matches!(kind, StoredKind::Time(own) if order.holds(&own, time)),
            Self::TimePart(unit, order, number) => value::time(kind, view.event.text_at(place))
                .is_some_and(|time| order.holds(&unit.of(time), number)),
            Self::Address(range) => range.contains(view.event.text_at(place)),
            Self::SameAs { other, anchor, cased } => {
                view.values(*other).filter(|(_, kind)| *kind != StoredKind::Null).any(|(other, _)| {
                    let text =
                        |place| if *cased { view.event.text_at(place) } else { view.prepared.text(place) };
                    let (own, other) = (text(place), text(other));
                    match anchor {
                        Anchor::Whole => own == other,
                        Anchor::Start => own.starts_with(other),
                        Anchor::End => own.ends_with(other),
                        Anchor::Anywhere => memchr::memmem::find(own.as_bytes(), other.as_bytes()).is_some(),
                    }
                })
            }
            Self::Null | Self::Exists => false,
        }
    }
}

impl<'a> View<'a> {
    /// The values of a slot: place in the event, and kind.
    fn values(&self, slot: Slot) -> Values<'a> {
        if slot == Slot::ANY_FIELD {
            return Values::Every { event: self.event, next: 0 };
        }
        let field = self.fields.get(usize::from(slot.0)).copied().unwrap_or(FieldId::UNNAMED);
        Values::OfField { view: *self, next: self.prepared.first_place(field) }
    }
}

/// Places of values in an event.
#[derive(Clone)]
enum Values<'a> {
    Every { event: &'a EventBuffer, next: usize },
    OfField { view: View<'a>, next: Option<usize> },
}

impl Iterator for Values<'_> {
    type Item = (usize, StoredKind);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Every { event, next } => {
                let place = *next;
                *next += 1;
                Some((place, event.kind_at(place)?))
            }
            Self::OfField { view, next } => {
                let place = (*next)?;
                *next = view.prepared.place_behind(place);
                Some((place, view.event.kind_at(place)?))
            }
        }
    }
}
