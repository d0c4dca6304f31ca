//! The account of loss: for each host, boot and kind of record
//! `produced = stored + in the spool + dropped(reason)`.
//!
//! The unit is the *act*: one that was observed, whether it became a record of its
//! own, was merged into one with like acts ([`EventRecord::acts`]), or was lost
//! before it became one.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer, de};

use crate::{EventRecord, EventType, Field, GapReason, RecordBody};

/// A row of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// Events of a type.
    Event(EventType),
    /// Detections.
    Detection,
    /// Receipts of responses.
    Response,
    /// Forks that the kernel could not hand over. Seen forks become starts.
    Fork,
    /// Lost, and nobody knows what it was.
    Unknown,
}

impl RecordKind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        let events = EventType::ALL.iter().map(|&event_type| Self::Event(event_type));
        events.chain([Self::Detection, Self::Response, Self::Fork, Self::Unknown])
    }

    /// Its number on the wire, in headers and in stores; never changes its meaning.
    /// That of an event type is the type's.
    pub const fn number(self) -> u16 {
        match self {
            // The table's numbers are small; a test holds them to it.
            Self::Event(event_type) => event_type.number() as u16,
            Self::Detection => 900,
            Self::Response => 901,
            Self::Fork => 902,
            Self::Unknown => 903,
        }
    }

    /// From its number. What this version does not know is [`Unknown`](Self::Unknown).
    pub fn from_number(number: u16) -> Self {
        match number {
            900 => Self::Detection,
            901 => Self::Response,
            902 => Self::Fork,
            other => EventType::from_number(other.into()).map_or(Self::Unknown, Self::Event),
        }
    }

    /// Its word, as gap records name what was lost.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event(event_type) => event_type.as_str(),
            Self::Detection => "detection",
            Self::Response => "response",
            Self::Fork => "process_fork",
            Self::Unknown => "unknown",
        }
    }

    /// From a word of a gap record. A word of no kind (`records`, `observations`) is
    /// [`Unknown`](Self::Unknown).
    pub fn from_word(word: &str) -> Self {
        match word {
            "detection" => Self::Detection,
            "response" => Self::Response,
            "process_fork" => Self::Fork,
            other => EventType::from_word(other).map_or(Self::Unknown, Self::Event),
        }
    }

    /// The kind of a record.
    pub fn of(body: &RecordBody) -> Self {
        match body {
            RecordBody::Event(event) => Self::Event(event.event_type),
            RecordBody::Detection(_) => Self::Detection,
            RecordBody::Receipt(_) => Self::Response,
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for RecordKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RecordKind {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_word(&String::deserialize(deserializer)?))
    }
}

/// What an agent says of one kind: cumulative figures of a boot, in acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindFigures {
    /// The kind.
    pub kind: RecordKind,
    /// Observed or made: as a record, as part of one, or known only as lost.
    pub produced: u64,
    /// Of these, lost; each reason once.
    pub dropped: Vec<(GapReason, u64)>,
}

impl RecordBody {
    /// How many acts the record stands for.
    pub fn acts(&self) -> u64 {
        match self {
            Self::Event(event) => event.acts(),
            Self::Detection(_) | Self::Receipt(_) => 1,
        }
    }
}

impl EventRecord {
    /// How many like acts the event stands for; 1 where it does not say.
    pub fn acts(&self) -> u64 {
        let count = self.integer(Field::EventCount).and_then(|count| u64::try_from(count).ok());
        count.unwrap_or(1).max(1)
    }
}

impl GapReason {
    /// Its number in files of the agent; never changes its meaning.
    pub const fn number(self) -> u8 {
        match self {
            Self::KernelRingFull => 1,
            Self::NetlinkOverflow => 2,
            Self::ProcessGone => 3,
            Self::SpoolFull => 4,
            Self::SpoolWriteFailed => 5,
            Self::SpoolCorrupt => 6,
            Self::ServerRefused => 7,
            Self::QueueFull => 8,
            Self::Budget => 9,
            Self::AgentDown => 10,
            Self::MalformedRecord => 11,
            Self::KernelSkipped => 12,
            Self::Flood => 20,
        }
    }

    /// From its number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.number() == number)
    }

    /// True where what was lost had been numbered, so that it is also missing from the sequence.
    pub fn is_of_records(self) -> bool {
        match self {
            Self::SpoolFull | Self::SpoolWriteFailed | Self::SpoolCorrupt | Self::ServerRefused => true,
            Self::KernelRingFull
            | Self::NetlinkOverflow
            | Self::ProcessGone
            | Self::QueueFull
            | Self::Budget
            | Self::AgentDown
            | Self::MalformedRecord
            | Self::KernelSkipped
            | Self::Flood => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_and_words_mean_one_kind_each() {
        let (mut numbers, mut words) = (HashSet::new(), HashSet::new());
        for kind in RecordKind::all() {
            assert!(numbers.insert(kind.number()), "{kind}");
            assert!(words.insert(kind.as_str()), "{kind}");
            assert_eq!(RecordKind::from_number(kind.number()), kind);
            assert_eq!(RecordKind::from_word(kind.as_str()), kind);
        }
        let most = EventType::ALL.iter().map(|event_type| event_type.number()).max();
        assert!(most < Some(900), "event types may not reach the numbers of the other kinds");
        assert_eq!(RecordKind::from_word("records"), RecordKind::Unknown);
    }
}
