//! What reads the events of a log, and what it is told of each.

use std::ops::ControlFlow;

use event_model::{EventType, Timestamp};

use crate::problem::Problem;

/// Takes the events of a log: first the values of one, then [`LogConsumer::event`].
/// Nothing is allocated for an event on its way.
pub trait LogConsumer {
    /// A field name as the consumer knows it.
    type Field: Copy;

    /// The field that a name means; `None` where nobody asks for it. Asked once for
    /// each name that a log uses.
    fn field(&mut self, name: &str) -> Option<Self::Field>;

    /// Where values go that [`LogConsumer::field`] doesn't want under any of their names, if
    /// anywhere: a search over all values looks at them.
    fn unnamed(&mut self) -> Option<Self::Field>;

    /// A new event begins; values so far are none of its.
    fn begin(&mut self);

    /// A text of the event. A field that comes again is a list.
    fn text(&mut self, field: Self::Field, value: &str);

    /// A whole number.
    fn integer(&mut self, field: Self::Field, value: i64);

    /// A whole number with its digits as all numbers are written, for whoever keeps texts.
    fn written_integer(&mut self, field: Self::Field, value: i64, written: &str) {
        let _ = written;
        self.integer(field, value);
    }

    /// A number with a fraction, or beyond 64 bits.
    fn float(&mut self, field: Self::Field, value: f64);

    /// True or false.
    fn boolean(&mut self, field: Self::Field, value: bool);

    /// The field is there and has no value.
    fn null(&mut self, field: Self::Field);

    /// The event is whole. `Break` ends the reading.
    fn event(&mut self, head: &EventHead<'_>) -> ControlFlow<()>;

    /// Something in the log can't be read; the rest goes on.
    fn problem(&mut self, problem: Problem);
}

/// What is known of an event besides its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHead<'a> {
    /// Its place in the file: the event record id (EVTX, event XML), the number of the
    /// line (NDJSON; auditd: of its first line) or of the element (JSON array), from 1.
    pub record: u64,
    /// When it happened, where the log says it readably.
    pub time: Option<Timestamp>,
    /// Where it comes from, as far as the reader knows.
    pub origin: Origin<'a>,
}

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// Its fields tell: channel and event id, or whatever the log-source mapping looks at.
    Fields,
    /// Rampart's own output: an event of this type under its ECS names. `None` for what is
    /// no telemetry (detections, receipts).
    Rampart(Option<EventType>),
    /// A record of the Linux audit log.
    Auditd(AuditKind),
    /// The event says it itself, in Sigma's words (`logsource.product` and so on).
    Stated {
        /// For example `windows`.
        product: Option<&'a str>,
        /// For example `sysmon`.
        service: Option<&'a str>,
        /// For example `process_creation`.
        category: Option<&'a str>,
    },
    /// An ECS document that names no channel: `host.os.type`, and Sigma's category for
    /// its `event.category` and `event.type`.
    Ecs {
        /// For example `linux`; where the document does not say it, what its paths look like.
        product: Option<&'a str>,
        /// For example `process_creation`.
        category: Option<&'a str>,
    },
}

/// What an audit event is besides a record of auditd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditKind {
    /// A program was executed.
    ProcessCreation,
    /// A file was created.
    FileCreation,
    /// A socket was connected.
    NetworkConnection,
    /// Anything else.
    Other,
}

impl AuditKind {
    /// The Sigma category whose field names the event carries besides auditd's own.
    pub fn category(self) -> Option<&'static str> {
        match self {
            Self::ProcessCreation => Some("process_creation"),
            Self::FileCreation => Some("file_event"),
            Self::NetworkConnection => Some("network_connection"),
            Self::Other => None,
        }
    }
}
