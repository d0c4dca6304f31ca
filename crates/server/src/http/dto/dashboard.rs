//! The dashboard, and the server's own state.

use event_model::{Severity, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::words::{SeverityWord, TimeText};
use super::{Alert, HistogramBucket};

/// What the dashboard shows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Dashboard {
    /// Hosts.
    pub hosts: HostCounts,
    /// Alerts that are not closed, worst first, every severity.
    pub alerts_by_severity: Vec<SeverityCount>,
    /// The last 60 minutes.
    pub events_per_minute: Vec<MinuteCount>,
    /// The last 24 hours.
    pub alerts_per_hour: Vec<HistogramBucket>,
    /// The rules that matched most in 24 hours.
    pub top_rules: Vec<RuleCount>,
    /// The latest ten.
    pub recent_alerts: Vec<Alert>,
    /// What is known to be missing.
    pub completeness: Completeness,
}

/// Hosts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HostCounts {
    /// Enrolled and not revoked.
    pub total: u64,
    /// Of them online.
    pub online: u64,
    /// Of them offline.
    pub offline: u64,
}

/// Alerts of a severity.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SeverityCount {
    /// Severity.
    #[schema(value_type = SeverityWord)]
    pub severity: Severity,
    /// Not closed.
    pub open: u64,
}

/// Events in a minute.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MinuteCount {
    /// Start of the minute.
    #[schema(value_type = TimeText)]
    pub minute: Timestamp,
    /// Events.
    pub count: u64,
}

/// Alerts of a rule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleCount {
    /// Id.
    pub rule_id: String,
    /// Name.
    pub name: String,
    /// Alerts, repeats included.
    pub count: u64,
}

/// What is known to be missing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Completeness {
    /// Gap records in 24 hours.
    pub gaps_24h: u64,
    /// What they count together; gaps of unknown size are not in it.
    pub lost_24h: u64,
}

/// The server answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    pub status: String,
    /// Version of the server.
    pub version: String,
}

/// What came in since the server started, and what was refused.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct IngestCounters {
    /// Agents that are connected now.
    pub connected_agents: u64,
    /// Batches that were stored.
    pub batches: u64,
    /// Records that were stored.
    pub records: u64,
    /// Batches that came again and were already stored.
    pub duplicate_batches: u64,
    /// Refused: the seal did not open (bit flipped, wrong key, made for another host).
    pub bad_envelope: u64,
    /// Refused: opened, but not a batch, or a record of it that can't be read.
    pub malformed: u64,
    /// Refused: larger than allowed, sealed or opened, or a record past a limit.
    pub oversize: u64,
    /// Refused: speaks for another host than its certificate's.
    pub wrong_agent: u64,
    /// Refused: enrolment with an unknown, expired or used token.
    pub bad_token: u64,
    /// Refused: handshakes with a certificate that is not from our CA, or out of its time.
    pub bad_certificate: u64,
    /// Refused: agents whose host is revoked or unknown.
    pub revoked: u64,
    /// Refused: connections that did not speak TLS.
    pub garbage_connections: u64,
    /// Refused: connections past the limit.
    pub too_many_connections: u64,
    /// Batches that could not be stored; their agents send them again.
    pub store_failures: u64,
}
