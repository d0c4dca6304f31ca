//! The nouns of Rampart: events, ids, detections, response receipts, and the
//! one table in which every field has all its names.
//!
//! A sensor makes typed events ([`EventBody`]). Everything behind the sensor
//! (rules, wire, storage, API, console) works on *fields*: a [`Field`] is a row
//! of the table in [`field`], with a wire number, a value kind, its ECS name and
//! its spellings in the seed's rule language and in Sigma. So a new event type
//! is one struct and its rows; no codec, column list or mapping has to follow.
//!
//! Invariants: this crate knows no operating system and does no I/O; wire
//! numbers and ECS names in the table never change their meaning.

#![deny(missing_docs)]

mod account;
mod activity;
mod body;
mod detection;
mod ecs;
mod event_type;
pub mod field;
mod field_lookup;
mod ids;
mod image;
mod number_hashing;
mod record;
mod response;
mod timestamp;
mod value;
mod visit;
mod words;

pub use account::{KindFigures, RecordKind};
pub use activity::{Activity, Who};
pub use body::{
    AgentHealth, AgentStart, AgentStop, EventBody, Gap, GapReason, ProcessExit, ProcessStart, SignalSender,
    StartKind,
};
pub use detection::{Detection, ProcessSummary, ResponseMode, RuleReference, Severity};
pub use ecs::{ECS_VERSION, EcsContext, EcsDocument, detection_to_ecs, event_to_ecs, receipt_to_ecs};
pub use event_type::{EventClass, EventType, EventTypeSpec};
pub use field::{Field, FieldSpec};
pub use field_lookup::{RuleScope, UnknownField, resolve_field, spellings_in_scope};
pub use ids::{BootId, DetectionId, EventId, HostId, ParseIdError, ProcessEntityId, RuleId};
pub use image::{BlockedBy, Container, FileFacts, Image, ImageFile, ParentProcess, Process, User};
pub use number_hashing::{NumberHasher, NumberHashing};
pub use record::{EventHeader, EventRecord, FieldSource, Record, RecordBody};
pub use response::{ActionKind, ReceiptState, ReceiptStep, ResponseReceipt, ResponseTarget};
pub use timestamp::Timestamp;
pub use value::{Value, ValueKind, ValueRef};
