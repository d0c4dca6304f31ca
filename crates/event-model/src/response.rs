//! What was done about a detection, and the proof.

use serde::{Deserialize, Serialize};

use crate::{DetectionId, ProcessEntityId, Timestamp, words};
use uuid::Uuid;

words! {
    /// What a rule can ask for.
    ActionKind {
        /// Tell someone. Every rule that matches does, if it lists it.
        Alert = "alert",
        /// Record the event in the agent's log.
        Log = "log",
        /// End the process, gracefully first.
        TerminateProcess = "terminate_process",
        /// Move the file into the sealed vault.
        QuarantineFile = "quarantine_file",
        /// Cut the connection and refuse its address.
        BlockConnection = "block_connection",
        /// End the process and all that it started.
        KillTree = "kill_tree",
        /// Cut the host off from all but the server.
        IsolateHost = "isolate_host",
        /// Gather what an investigation needs.
        CollectEvidence = "collect_evidence",
    }
}

words! {
    /// How far an action came.
    ReceiptState {
        /// Begun.
        Sent = "sent",
        /// Done as far as the system said; not yet proved.
        Applied = "applied",
        /// The end state was read back and is as wanted.
        Verified = "verified",
        /// Not done, or not proved.
        Failed = "failed",
        /// A guard rail stood against it; nothing was done.
        Refused = "refused",
        /// It waits for a person's yes; nothing was done.
        ApprovalNeeded = "approval_needed",
    }
}

/// The process that an action was aimed at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseTarget {
    /// One life of one process.
    pub entity_id: ProcessEntityId,
    /// Its image.
    pub executable: String,
}

/// One thing that was done on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptStep {
    /// When.
    pub at: Timestamp,
    /// What, for example `sent SIGTERM`.
    pub what: String,
}

/// The proof of an action, or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseReceipt {
    /// Id of this action.
    pub id: Uuid,
    /// The detection that asked for it.
    pub detection_id: DetectionId,
    /// What was asked for.
    pub action: ActionKind,
    /// At whom.
    pub target: ResponseTarget,
    /// How far it came.
    pub state: ReceiptState,
    /// In words: the proof, or the reason.
    pub reason: String,
    /// Each step with its time.
    pub steps: Vec<ReceiptStep>,
    /// What a person is asked to approve: rule, action and parameters as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<String>,
}
