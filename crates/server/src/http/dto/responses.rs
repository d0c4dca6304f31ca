//! Actions on hosts.

use event_model::Timestamp;
use serde::{Deserialize, Serialize};
use state_store::ResponseState;
use utoipa::{IntoParams, ToSchema};

use super::words::{ResponseActionWord, ResponseStateWord, TimeText};

/// An action to be ordered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponseCreate {
    /// Which.
    #[schema(value_type = ResponseActionWord)]
    pub action: String,
    /// Its parameters; which there are depends on the action.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub parameters: serde_json::Value,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Why; for the audit log. A person must give it, but for dry runs and for what only looks.
    #[serde(default)]
    pub comment: String,
    /// Seconds until an agent must have begun it, at most 86400; 600 by default.
    pub expires_in_seconds: Option<u32>,
    /// The run of a playbook that it is part of; for responders. The run is running, is about the host, has a step that
    /// does this, and was told of with the same token. Where a person asked for it, it is ordered in his name: he does
    /// not approve it.
    pub run_id: Option<String>,
}

/// A person's word on an action that waits for it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponseDecide {
    /// Yes or no. One no is enough.
    pub approve: bool,
    /// Why.
    #[serde(default)]
    pub comment: String,
}

/// What lets an isolated host go on the spot: `edr-agent -release CODE` on the host.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReleaseCode {
    /// The code.
    pub code: String,
}

/// What a person said.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResponseDecision {
    /// Who.
    pub by: String,
    /// When.
    #[schema(value_type = TimeText)]
    pub at: Timestamp,
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub comment: String,
}

/// An ordered action.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Response {
    /// Its id.
    pub id: String,
    /// The host.
    pub host_id: String,
    /// When it was ordered.
    #[schema(value_type = TimeText)]
    pub created_at: Timestamp,
    /// Who ordered it.
    pub created_by: String,
    /// What.
    #[schema(value_type = ResponseActionWord)]
    pub action: String,
    /// Its parameters.
    #[schema(value_type = Object)]
    pub parameters: serde_json::Value,
    /// Only to say what would be done.
    pub dry_run: bool,
    /// Why.
    pub comment: String,
    /// Not begun after this time.
    #[schema(value_type = TimeText)]
    pub expires_at: Timestamp,
    /// The response that this one undoes.
    #[schema(required)]
    pub undo_of: Option<String>,
    /// How far it came.
    #[schema(value_type = ResponseStateWord)]
    pub state: ResponseState,
    /// Since when.
    #[schema(value_type = TimeText)]
    pub state_at: Timestamp,
    /// The proof or the reason, in words; empty before the agent has answered.
    pub reason: String,
    /// What was planned, exactly.
    pub plan: Vec<String>,
    /// What was done.
    pub steps: Vec<ResponseStep>,
    /// What was asked for: a list, or where the evidence is; null for what only acts.
    #[schema(value_type = Object, nullable, required)]
    pub result: serde_json::Value,
    /// Whether it can be undone.
    pub can_undo: bool,
    /// How many people must agree, besides who ordered it.
    pub approvals_needed: u32,
    /// Hosts on which the action was ordered within an hour, this one included.
    pub fleet_hosts: u32,
    /// What people said.
    pub decisions: Vec<ResponseDecision>,
    /// The alert whose rule asks for it.
    #[schema(required)]
    pub alert_id: Option<String>,
}

/// One thing that was done on the way.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResponseStep {
    /// When.
    #[schema(value_type = TimeText)]
    pub at: Timestamp,
    /// What.
    pub what: String,
}

impl From<state_store::Response> for Response {
    fn from(stored: state_store::Response) -> Self {
        let order: serde_json::Value = serde_json::from_str(&stored.order).unwrap_or_default();
        let receipt: Option<response::Receipt> =
            stored.receipt.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let can_undo = stored.state == ResponseState::Verified
            && !stored.is_undone
            && serde_json::from_str::<response::Action>(&stored.order)
                .is_ok_and(|action| action.inverse(stored.id).is_some());
        let (reason, plan, steps, result) = receipt
            .map(|receipt| (receipt.reason, receipt.plan, receipt.steps, receipt.result))
            .unwrap_or_default();
        Self {
            id: stored.id.to_string(),
            host_id: stored.host.to_string(),
            created_at: stored.created_at,
            created_by: stored.created_by,
            action: stored.action,
            parameters: order["parameters"].clone(),
            dry_run: stored.dry_run,
            comment: stored.comment,
            expires_at: stored.expires_at,
            undo_of: stored.undo_of.map(|id| id.to_string()),
            state: stored.state,
            state_at: stored.state_at,
            reason,
            plan,
            steps: steps.into_iter().map(|step| ResponseStep { at: step.at, what: step.what }).collect(),
            result,
            can_undo,
            approvals_needed: stored.approvals_needed,
            fleet_hosts: stored.fleet_hosts,
            decisions: stored
                .decisions
                .into_iter()
                .map(|one| ResponseDecision {
                    by: one.by,
                    at: one.at,
                    approve: one.approve,
                    comment: one.comment,
                })
                .collect(),
            alert_id: stored.alert.map(|id| id.to_string()),
        }
    }
}

/// Where the switch for the response of all hosts is to stand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FleetStopTurn {
    /// True: no host acts any more. False: they may again.
    pub stopped: bool,
    /// Why; it stands in the audit log and in each host's order.
    #[schema(min_length = 1, max_length = 1000)]
    pub reason: String,
}

/// Where the switch for the response of all hosts stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FleetStop {
    /// Whether no host acts.
    pub stopped: bool,
    /// Who turned it last, `server:breaker` where the server did; empty where nobody ever has.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    #[schema(value_type = Option<TimeText>, required)]
    pub at: Option<Timestamp>,
}

impl From<Option<crate::app::FleetStop>> for FleetStop {
    fn from(stop: Option<crate::app::FleetStop>) -> Self {
        match stop {
            Some(stop) => {
                Self { stopped: stop.is_stopped, by: stop.by, reason: stop.reason, at: Some(stop.at) }
            }
            None => Self { stopped: false, by: String::new(), reason: String::new(), at: None },
        }
    }
}

super::page!(
    /// Ordered actions, the latest first.
    ResponsePage of Response
);

/// Which ordered actions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponseQuery {
    /// Id of a host.
    pub host: Option<String>,
    /// In one state, for example `pending`.
    #[param(value_type = Option<ResponseStateWord>)]
    pub state: Option<ResponseState>,
    /// From the page before.
    pub cursor: Option<String>,
    /// At most 500; 100 by default.
    #[serde(default, deserialize_with = "super::number")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}
