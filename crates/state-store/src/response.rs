//! Actions that were ordered on hosts, and what became of them.

use std::time::Duration;

use event_model::{DetectionId, HostId, Timestamp, words};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::AlertId;

words! {
    /// How far an ordered action came.
    ResponseState {
        /// Waits until people agree.
        Pending = "pending",
        /// Somebody said no.
        Declined = "declined",
        /// Not sent to the agent yet; it can still be taken back.
        Queued = "queued",
        /// Sent to the agent, which has not answered yet.
        Sent = "sent",
        /// Done as far as the agent's system said; not yet proved.
        Applied = "applied",
        /// A dry run: the receipt says what would be done.
        Planned = "planned",
        /// Done, and the end state was read back.
        Verified = "verified",
        /// Not done, or not proved.
        Failed = "failed",
        /// A guard rail of the agent stood against it.
        Refused = "refused",
        /// A guard rail of the agent asks for a person's consent.
        ApprovalNeeded = "approval_needed",
        /// Taken back before it was sent.
        Cancelled = "cancelled",
        /// Its time was over before the agent began it.
        Expired = "expired",
    }
}

/// An action that is being ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewResponse {
    /// Its id; the agent does what comes under one id only once.
    pub id: Uuid,
    /// On which host.
    pub host: HostId,
    /// Who orders it.
    pub created_by: String,
    /// The API token that orders it, as `token:NAME`, whoever it is ordered for; empty for a person and a rule.
    pub via: String,
    /// Word of the action.
    pub action: String,
    /// Action and parameters, as JSON.
    pub order: String,
    /// Only to say what would be done.
    pub dry_run: bool,
    /// Why, in the words of who orders it.
    pub comment: String,
    /// How long the agent may take to begin it, from the order or, where people must agree, from their yes.
    pub life: Duration,
    /// The response that it undoes.
    pub undo_of: Option<Uuid>,
    /// How many people must agree in any case.
    pub approvals_needed: u32,
    /// Two must where the action was ordered on more hosts than that within an hour; `None`: never.
    pub mass_above: Option<u32>,
    /// The detection whose rule asks for it.
    pub detection: Option<DetectionId>,
    /// Of an isolation: what lets the host go on the spot.
    pub release_code: Option<String>,
}

/// What a person said about an action that waits for a yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub comment: String,
}

/// An ordered action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Response {
    /// Its id.
    pub id: Uuid,
    /// On which host.
    pub host: HostId,
    /// When it was ordered.
    pub created_at: Timestamp,
    /// Who ordered it.
    pub created_by: String,
    /// The API token that ordered it; empty for a person and a rule.
    pub via: String,
    /// Word of the action.
    pub action: String,
    /// Action and parameters, as JSON.
    pub order: String,
    /// Only to say what would be done.
    pub dry_run: bool,
    /// Why.
    pub comment: String,
    /// Not to be begun after this time.
    pub expires_at: Timestamp,
    /// The response that it undoes.
    pub undo_of: Option<Uuid>,
    /// How far it came.
    pub state: ResponseState,
    /// Since when.
    pub state_at: Timestamp,
    /// The agent's receipt, as JSON.
    pub receipt: Option<String>,
    /// How many people must agree.
    pub approvals_needed: u32,
    /// Hosts on which the action was ordered within an hour, this one included.
    pub fleet_hosts: u32,
    /// What people said.
    pub decisions: Vec<Decision>,
    /// The alert whose rule asks for it.
    pub alert: Option<AlertId>,
    /// What undoes it is done or under way.
    pub is_undone: bool,
}
