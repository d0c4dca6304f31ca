//! What can be asked: one typed tree, the same for every store.

use std::fmt;
use std::str::FromStr;

use event_model::{EventRecord, EventType, Field, FieldSource, HostId, Timestamp, Value, ValueRef};
use serde::Serialize;

/// The fields that a substring search without a field's name looks into.
const TEXT_FIELDS: [Field; 4] =
    [Field::ProcessCommandLine, Field::ProcessExecutable, Field::ProcessName, Field::UserName];

/// What an event must be like. ASCII letters compare without case, as in rules.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// All of them; every event where there are none.
    All(Vec<Predicate>),
    /// At least one of them; no event where there are none.
    Any(Vec<Predicate>),
    /// Not this one.
    Not(Box<Predicate>),
    /// The field is present and has this value; of a list, an element has.
    /// A value of another kind than the field's matches nothing.
    Equals(Field, Value),
    /// The field is a text, or a list with a text, that has this in it.
    Contains(Field, String),
    /// The field is present.
    Present(Field),
}

impl Predicate {
    /// Every event.
    pub fn everything() -> Self {
        Self::All(Vec::new())
    }

    /// The text is in the command line, the executable, the process's name or the user's.
    pub fn text_anywhere(text: &str) -> Self {
        Self::Any(TEXT_FIELDS.iter().map(|&field| Self::Contains(field, text.to_owned())).collect())
    }

    /// The field's value reads `text`, whatever its kind; `None` if no value of
    /// the field's kind reads so (then no event can match).
    pub fn equals_text(field: Field, text: &str) -> Option<Self> {
        use event_model::ValueKind;
        let value = match field.spec().kind {
            ValueKind::Text | ValueKind::TextList => Value::Text(text.to_owned()),
            ValueKind::Integer => Value::Integer(text.parse().ok()?),
            ValueKind::Boolean => Value::Boolean(text.parse().ok()?),
            ValueKind::Time => Value::Time(text.parse().ok()?),
        };
        Some(Self::Equals(field, value))
    }

    /// Judges an event in memory, as every store judges its own. (Live streams filter with it.)
    pub fn matches(&self, event: &impl FieldSource) -> bool {
        match self {
            Self::All(inner) => inner.iter().all(|predicate| predicate.matches(event)),
            Self::Any(inner) => inner.iter().any(|predicate| predicate.matches(event)),
            Self::Not(inner) => !inner.matches(event),
            Self::Present(field) => event.value(*field).is_some(),
            Self::Contains(field, part) => match event.value(*field) {
                Some(ValueRef::Text(text)) => contains(&text, part),
                Some(ValueRef::TextList(list)) => list.iter().any(|text| contains(text, part)),
                _ => false,
            },
            Self::Equals(field, wanted) => match (event.value(*field), wanted) {
                (Some(ValueRef::Text(text)), Value::Text(wanted)) => text.eq_ignore_ascii_case(wanted),
                (Some(ValueRef::TextList(list)), Value::Text(wanted)) => {
                    list.iter().any(|text| text.eq_ignore_ascii_case(wanted))
                }
                (Some(value), wanted) => value == wanted.as_ref(),
                (None, _) => false,
            },
        }
    }
}

fn contains(text: &str, part: &str) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    part.is_empty() || text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

/// Which events.
#[derive(Debug, Clone, PartialEq)]
pub struct EventQuery {
    /// Of this host; of all where there is none.
    pub host: Option<HostId>,
    /// Of these types; of all where the list is empty.
    pub event_types: Vec<EventType>,
    /// What they must be like.
    pub filter: Predicate,
    /// Observed at or after.
    pub from: Option<Timestamp>,
    /// Observed before.
    pub until: Option<Timestamp>,
    /// Where the page before ended.
    pub cursor: Option<Cursor>,
    /// At most so many (1 to 1,000; others are brought into it).
    pub limit: usize,
}

impl EventQuery {
    /// The newest `limit` events of all hosts.
    pub fn newest(limit: usize) -> Self {
        Self {
            host: None,
            event_types: Vec::new(),
            filter: Predicate::everything(),
            from: None,
            until: None,
            cursor: None,
            limit,
        }
    }

    /// Judges an event in memory by host, type, time and filter; the cursor says nothing here.
    pub fn matches(&self, event: &EventRecord) -> bool {
        let at = event.header.observed_at;
        self.host.is_none_or(|host| host == event.header.host_id)
            && (self.event_types.is_empty() || self.event_types.contains(&event.event_type))
            && self.from.is_none_or(|from| at >= from)
            && self.until.is_none_or(|until| at < until)
            && self.filter.matches(event)
    }
}

/// A place in the order of events: newest first, and among events of one
/// nanosecond the one stored last first. It stays good while events come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) observed_at: Timestamp,
    pub(crate) place: i64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.observed_at.as_nanos(), self.place)
    }
}

/// The text is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a cursor\nhint: use `next_cursor` of the page before as it is")]
pub struct ParseCursorError(String);

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseCursorError(text.to_owned());
        let (at, place) = text.split_once('.').ok_or_else(bad)?;
        let observed_at = Timestamp::from_nanos(at.parse().map_err(|_| bad())?);
        Ok(Self { observed_at, place: place.parse().map_err(|_| bad())? })
    }
}

/// Some of the events, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// The events.
    pub events: Vec<EventRecord>,
    /// Where to go on; `None` at the end. It can stand on a page with fewer events
    /// than asked for, or none: then the call's share of work was used up, and the
    /// next call goes on from there.
    pub next: Option<Cursor>,
    /// How many stored events were looked at.
    pub scanned: u64,
}

/// Events of one span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HistogramBucket {
    /// Start of the span.
    pub start: Timestamp,
    /// Events observed in it.
    pub count: u64,
}

/// Which gap events: those whose spans overlap `from` to `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GapQuery {
    /// Of this host.
    pub host: Option<HostId>,
    /// From here …
    pub from: Timestamp,
    /// … to here, which is not in it.
    pub until: Timestamp,
    /// And not observed before.
    pub observed_from: Option<Timestamp>,
    /// And observed before.
    pub observed_until: Option<Timestamp>,
    /// At most so many (1 to 1,000).
    pub limit: usize,
}

/// Gap events.
#[derive(Debug, Clone, PartialEq)]
pub struct GapPage {
    /// The newest.
    pub gaps: Vec<EventRecord>,
    /// How many there are, with those past the limit.
    pub in_all: u64,
}

/// The gaps of a span, summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct GapTotals {
    /// Gap events.
    pub gaps: u64,
    /// What they say was lost, where they can say.
    pub lost: u64,
    /// Gap events that can't say how many.
    pub of_unknown_size: u64,
}
