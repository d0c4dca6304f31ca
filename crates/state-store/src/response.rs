//! Actions that were ordered on hosts, and what became of them.

use event_model::{HostId, Timestamp, words};
use serde::Serialize;
use uuid::Uuid;

words! {
    /// How far an ordered action came.
    ResponseState {
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
    /// Word of the action.
    pub action: String,
    /// Action and parameters, as JSON.
    pub order: String,
    /// Only to say what would be done.
    pub dry_run: bool,
    /// Why, in the words of who orders it.
    pub comment: String,
    /// Not to be begun after this time.
    pub expires_at: Timestamp,
    /// The response that it undoes.
    pub undo_of: Option<Uuid>,
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
}
