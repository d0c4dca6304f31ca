//! Parts of conditions in words, for people who ask why a rule did or did not match.

use super::{
    Anchor, Check, Element, Expression, FieldRef, Glob, Order, Slot, Test, TextPart, TimeUnit, View,
};
use crate::event::StoredKind;

/// Texts of a list that are shown; the others are counted.
const LIST_SHOWN: usize = 8;
/// Characters of one text that are shown.
const TEXT_SHOWN: usize = 160;
/// Values of a field that are shown.
const VALUES_SHOWN: usize = 8;

/// A part of a condition, and what became of it with one event.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ExplainedPart {
    /// `all of`, `one of`, `not`, or the test in words.
    pub text: String,
    /// Whether it was true.
    pub holds: bool,
    /// What the event has in the tested field; `None` for a part that is no test. Empty: the field is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
    /// What it is made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ExplainedPart>,
}

impl Expression {
    /// The expression with what each part of it is for the event. Nothing is left out because another
    /// part has decided already.
    pub(crate) fn explain(&self, view: View<'_>, fields: &[FieldRef]) -> ExplainedPart {
        let of_parts = |text: &str, parts: &[Self]| ExplainedPart {
            text: text.to_owned(),
            holds: self.holds(view),
            values: None,
            parts: parts.iter().map(|part| part.explain(view, fields)).collect(),
        };
        match self {
            Self::All(parts) => of_parts("all of", parts),
            Self::Any(parts) => of_parts("one of", parts),
            Self::Not(inner) => of_parts("not", std::slice::from_ref(inner)),
            Self::Test(test) => ExplainedPart {
                text: test.describe(fields),
                holds: test.holds(view),
                values: Some(values_of(test.slot, view)),
                parts: Vec::new(),
            },
        }
    }
}

impl Test {
    fn describe(&self, fields: &[FieldRef]) -> String {
        let name = name_of(self.slot, fields);
        let check = match &self.check {
            Check::Text(test) => {
                let case = if test.cased { " (case counts)" } else { "" };
                format!("{}{case}", describe_text(&test.part))
            }
            Check::Number(order, number) => format!("{} {number}", sign(*order)),
            Check::NumberIn(numbers) => format!("in {}", listed(numbers.iter().map(i64::to_string))),
            Check::Quantity(order, number) => format!("{} {number}", sign(*order)),
            Check::Truth(truth) => format!("= {truth}"),
            Check::Time(order, time) => format!("{} {time}", sign(*order)),
            Check::TimePart(unit, order, number) => format!("{} {} {number}", unit_name(*unit), sign(*order)),
            Check::Address(range) => format!("in network {}", range.describe()),
            Check::SameAs { other, anchor, cased } => {
                let case = if *cased { " (case counts)" } else { "" };
                let relation = match anchor {
                    Anchor::Whole => "equals",
                    Anchor::Start => "starts with",
                    Anchor::End => "ends with",
                    Anchor::Anywhere => "contains",
                };
                format!("{relation} field {}{case}", name_of(*other, fields))
            }
            Check::Null => "has no value".to_owned(),
            Check::Exists => "is there".to_owned(),
        };
        if self.negated { format!("{name} is there and is not {check}") } else { format!("{name} {check}") }
    }
}

fn describe_text(part: &TextPart) -> String {
    match part {
        TextPart::Equals(text) => format!("= {}", quoted(text)),
        TextPart::In(texts) => format!("in {}", listed(texts.iter().map(|text| quoted(text)))),
        TextPart::Contains(finder) => {
            format!("contains {}", quoted(&String::from_utf8_lossy(finder.needle())))
        }
        TextPart::StartsWith(text) => format!("starts with {}", quoted(text)),
        TextPart::EndsWith(text) => format!("ends with {}", quoted(text)),
        TextPart::Glob(glob) => format!("is like {}", quoted(&describe_glob(glob))),
        TextPart::Matches(pattern) => format!("matches {}", quoted(pattern.regex.as_str())),
        TextPart::LineOfAtLeast(length) => format!("has a line of at least {length} characters"),
    }
}

fn describe_glob(glob: &Glob) -> String {
    let runs = glob.runs.iter().map(|run| {
        let elements = run.iter().map(|element| match element {
            Element::Text(text) => &**text,
            Element::One => "?",
        });
        elements.collect::<String>()
    });
    let middle = runs.collect::<Vec<_>>().join("*");
    let (start, end) = (if glob.from_start { "" } else { "*" }, if glob.to_end { "" } else { "*" });
    format!("{start}{middle}{end}")
}

fn sign(order: Order) -> &'static str {
    match order {
        Order::Equal => "=",
        Order::Greater => ">",
        Order::Less => "<",
        Order::GreaterOrEqual => ">=",
        Order::LessOrEqual => "<=",
    }
}

fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Minute => "minute",
        TimeUnit::Hour => "hour",
        TimeUnit::Day => "day of the month",
        TimeUnit::Week => "week",
        TimeUnit::Month => "month",
        TimeUnit::Year => "year",
    }
}

/// How a field is called in the rule's language.
pub(crate) fn name_of(slot: Slot, fields: &[FieldRef]) -> &str {
    if slot == Slot::ANY_FIELD {
        return "some value";
    }
    match fields.get(usize::from(slot.0)) {
        Some(FieldRef::Typed(field)) => field.spec().ecs,
        Some(FieldRef::Named(name)) => name,
        None => "?",
    }
}

fn values_of(slot: Slot, view: View<'_>) -> Vec<String> {
    let values = view.values(slot).map(|(place, kind)| match kind {
        StoredKind::Null => "null".to_owned(),
        _ => shortened(view.event.text_at(place)),
    });
    values.take(VALUES_SHOWN).collect()
}

pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", shortened(text))
}

/// Control characters escaped: values come from whoever made the event.
fn shortened(text: &str) -> String {
    let mut short = String::new();
    for character in text.chars().take(TEXT_SHOWN) {
        if character.is_control() {
            short.extend(character.escape_default());
        } else {
            short.push(character);
        }
    }
    if text.chars().nth(TEXT_SHOWN).is_some() {
        short.push('…');
    }
    short
}

fn listed(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(LIST_SHOWN);
    let mut text = items.take(LIST_SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    format!("({text})")
}
