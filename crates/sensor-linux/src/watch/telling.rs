//! Puts together one event about a watched file.

use event_model::{EventType, Field, Value};
use sensor_api::ObservedActivity;

use super::known::Known;
use super::lines;
use crate::escape;

/// Longest text of a field in bytes. What is cut is marked.
const LONGEST: usize = 8 << 10;

/// Longest list of a field.
const MOST_ITEMS: usize = 256;

/// What happened to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Create,
    Modify,
    Delete,
}

impl Act {
    /// From whether it was there and is there; `None` if it never was.
    pub(super) fn of<Thing>(old: Option<Thing>, new: Option<Thing>) -> Option<Self> {
        match (old, new) {
            (None, Some(_)) => Some(Self::Create),
            (Some(_), Some(_)) => Some(Self::Modify),
            (Some(_), None) => Some(Self::Delete),
            (None, None) => None,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Modify => "modify",
            Self::Delete => "delete",
        }
    }
}

/// One event with the moment of its notice.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) at_ns: u64,
    pub(super) activity: ObservedActivity,
}

/// An event in the making.
#[derive(Debug)]
pub(super) struct Telling {
    at_ns: u64,
    event_type: EventType,
    fields: Vec<(Field, Value)>,
    incomplete: Vec<String>,
}

impl Telling {
    pub(super) fn new(event_type: EventType, at_ns: u64) -> Self {
        let provider = (Field::EventProvider, Value::Text(super::NAME.to_owned()));
        Self { at_ns, event_type, fields: vec![provider], incomplete: Vec::new() }
    }

    /// A text from outside.
    pub(super) fn text(mut self, field: Field, bytes: &[u8]) -> Self {
        let text = self.bounded(field, bytes);
        self.fields.push((field, Value::Text(text)));
        self
    }

    /// A text from outside where there is one.
    pub(super) fn some(self, field: Field, bytes: Option<&[u8]>) -> Self {
        match bytes {
            Some(bytes) => self.text(field, bytes),
            None => self,
        }
    }

    pub(super) fn number(mut self, field: Field, number: u64) -> Self {
        self.fields.push((field, Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))));
        self
    }

    /// A list where it is not empty.
    pub(super) fn list<Item: AsRef<[u8]>>(
        mut self,
        field: Field,
        items: impl IntoIterator<Item = Item>,
    ) -> Self {
        let mut list = Vec::new();
        for item in items {
            if list.len() == MOST_ITEMS {
                self.incomplete.push(format!("{}: more than {MOST_ITEMS}", field.spec().ecs));
                break;
            }
            list.push(self.bounded(field, item.as_ref()));
        }
        if !list.is_empty() {
            self.fields.push((field, Value::TextList(list)));
        }
        self
    }

    pub(super) fn act(self, act: Act) -> Self {
        self.text(Field::EventAction, act.as_str().as_bytes())
    }

    /// What stood there and what stands there, where it is known.
    pub(super) fn old_new(self, old: Option<&[u8]>, new: Option<&[u8]>) -> Self {
        self.some(Field::ChangeOld, old.filter(|text| !text.is_empty()))
            .some(Field::ChangeNew, new.filter(|text| !text.is_empty()))
    }

    /// The lines in which two states of a file differ, or the targets of a link.
    pub(super) fn file_change(self, old: Option<&Known>, new: Option<&Known>) -> Self {
        let telling = self.shortages(old, new);
        let content = |known: Option<&Known>| {
            known.and_then(|known| known.text().map(<[u8]>::to_vec).or_else(|| link(known)))
        };
        let (old, new) = (content(old), content(new));
        match (&old, &new) {
            (Some(old), Some(new)) => {
                let (old, new) = lines::changed(old, new);
                telling.old_new(Some(old), Some(new))
            }
            (old, new) => telling.old_new(
                old.as_deref().map(|text| text.strip_suffix(b"\n").unwrap_or(text)),
                new.as_deref().map(|text| text.strip_suffix(b"\n").unwrap_or(text)),
            ),
        }
    }

    /// Marks what of a file was and is not known.
    pub(super) fn shortages(self, old: Option<&Known>, new: Option<&Known>) -> Self {
        self.shortage(Field::ChangeOld, old).shortage(Field::ChangeNew, new)
    }

    fn shortage(mut self, field: Field, known: Option<&Known>) -> Self {
        if let Some(shortage) = known.and_then(|known| known.shortage) {
            self.incomplete.push(format!("{}: {}", field.spec().ecs, shortage.as_str()));
        }
        self
    }

    pub(super) fn finish(mut self) -> Told {
        if !self.incomplete.is_empty() {
            self.fields.push((Field::EventIncomplete, Value::TextList(self.incomplete)));
        }
        let Self { at_ns, event_type, fields, .. } = self;
        Told { at_ns, activity: ObservedActivity { event_type, actor: None, target: None, fields } }
    }

    fn bounded(&mut self, field: Field, bytes: &[u8]) -> String {
        if bytes.len() <= LONGEST {
            return escape::text(bytes);
        }
        self.incomplete.push(format!("{}: cut at {LONGEST} bytes of {}", field.spec().ecs, bytes.len()));
        // A character that the cut goes through is left out whole.
        let end = (LONGEST - 3..=LONGEST).rev().find(|end| bytes[*end] & 0xc0 != 0x80).unwrap_or(LONGEST);
        escape::text(&bytes[..end])
    }
}

/// The target of a link, as `ls` shows it.
fn link(known: &Known) -> Option<Vec<u8>> {
    match &known.content {
        super::known::Content::Link(target) => Some([b"-> ", target.as_slice()].concat()),
        _ => None,
    }
}

/// The permission bits and the owner, as text.
pub(super) fn access(known: &Known) -> String {
    let identity = known.identity;
    format!("mode {:04o} owner {}:{}", identity.permissions(), identity.uid, identity.gid)
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Last part of a path.
pub(super) fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// The path without its last part.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |end| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut_and_marked() {
        let long = [b"x".repeat(LONGEST - 1), "é".as_bytes().to_vec(), b"tail".to_vec()].concat();
        let told = Telling::new(EventType::Persistence, 1)
            .text(Field::ChangeNew, &long)
            .list(Field::ChangedFields, (0..MOST_ITEMS + 1).map(|at| at.to_string()))
            .text(Field::FilePath, b"/\xff")
            .finish();
        let value = |field| {
            told.activity
                .fields
                .iter()
                .find(|(own, _)| *own == field)
                .map(|(_, value)| value.clone())
                .unwrap()
        };
        assert_eq!(value(Field::ChangeNew), Value::Text("x".repeat(LONGEST - 1)));
        let Value::TextList(items) = value(Field::ChangedFields) else { panic!("a list") };
        assert_eq!(items.len(), MOST_ITEMS);
        assert_eq!(value(Field::FilePath), Value::Text("/\\xff".to_owned()));
        let Value::TextList(marks) = value(Field::EventIncomplete) else { panic!("a list") };
        assert_eq!(marks.len(), 2, "{marks:?}");
        assert!(marks[0].starts_with("rampart.change.new: cut"), "{marks:?}");
    }
}
