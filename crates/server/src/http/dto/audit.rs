//! The audit log.

use event_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::words::TimeText;

/// Something that someone did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditEntry {
    /// Its place in the log, from 1.
    pub sequence: u64,
    /// When.
    #[schema(value_type = TimeText)]
    pub at: Timestamp,
    /// Who: a user, `token:<name>`, `host:<id>`, `edr` or `server`.
    pub who: String,
    /// What, for example `rule.update`.
    pub what: String,
    /// On what.
    pub subject: String,
    /// More; empty where there is nothing more.
    pub detail: String,
    /// From where; empty where there is none.
    pub address: String,
}

super::page!(
    /// The audit log, the latest first.
    AuditPage of AuditEntry
);

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// From the page before.
    pub cursor: Option<String>,
    /// At most 500; 100 by default.
    #[serde(default, deserialize_with = "super::number")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}
