//! Settings, counters, the audit log and the outbox.

use event_model::Timestamp;
use serde::Serialize;

/// How long things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// Events, in days.
    pub events_days: u32,
    /// Alerts, in days.
    pub alerts_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { events_days: 30, alerts_days: 365 }
    }
}

/// One kind of refused input, counted since the database was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedCount {
    /// The kind, for example `bad_envelope`.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// The last one.
    pub last_at: Timestamp,
}

/// Something that someone did, to be appended to the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Who: a user, `token:<name>`, `host:<id>`, `edr` or `server`.
    pub who: String,
    /// What, for example `rule.update`.
    pub what: String,
    /// On what: an id.
    pub subject: String,
    /// More, as JSON or text; empty where there is nothing more.
    pub detail: String,
    /// From where: an address; empty where there is none.
    pub address: String,
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    /// Its place in the log, from 1.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// What.
    pub what: String,
    /// On what.
    pub subject: String,
    /// More.
    pub detail: String,
    /// From where.
    pub address: String,
}

/// A message to the outside, written in the transaction that made its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its place, from 1.
    pub sequence: u64,
    /// For whom, for example `alert.new`.
    pub topic: String,
    /// JSON.
    pub payload: String,
    /// When.
    pub created_at: Timestamp,
}
