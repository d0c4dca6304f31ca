//! Who asks for an action, and what became of it.

use event_model::{DetectionId, ReceiptStep, ResponseMode, RuleId, Timestamp, words};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::action::Action;
use crate::approval::Consent;

words! {
    /// How far an order came.
    OrderState {
        /// A dry run: this is what would be done.
        Planned = "planned",
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
        /// A guard rail asks for a person's consent; nothing was done.
        ApprovalNeeded = "approval_needed",
        /// Taken back before it began.
        Cancelled = "cancelled",
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Origin {
    /// A rule on this host.
    Rule {
        /// The rule.
        rule_id: RuleId,
        /// Its match.
        detection_id: DetectionId,
        /// What the rule may do.
        mode: ResponseMode,
    },
    /// A person or a playbook, through the server, which signed it.
    Command {
        /// Name of the user; `rule:ID` where a rule asked and people agreed.
        user: String,
        /// What it rests on besides.
        #[serde(flatten)]
        consent: Consent,
    },
}

/// One action that is asked for, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id: an order that comes again is not done again.
    pub id: Uuid,
    /// What.
    pub action: Action,
    /// Who asks.
    pub origin: Origin,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Not to be begun after this time.
    pub expires_at: Timestamp,
}

/// What became of an order: the proof, or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The order's id.
    pub id: Uuid,
    /// Word of the action.
    pub action: String,
    /// How far it came.
    pub state: OrderState,
    /// In words: the proof, or the reason.
    pub reason: String,
    /// What was planned, exactly.
    pub plan: Vec<String>,
    /// What was done, with its time.
    pub steps: Vec<ReceiptStep>,
    /// What undoes it, if it was done.
    pub undo: Option<Action>,
    /// What was asked for, of actions that look (lists, the place and hash of an archive).
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub result: serde_json::Value,
}

impl Receipt {
    pub(crate) fn of(order: &Order, state: OrderState, reason: impl Into<String>) -> Self {
        Self {
            id: order.id,
            action: order.action.word().to_owned(),
            state,
            reason: reason.into(),
            plan: Vec::new(),
            steps: Vec::new(),
            undo: None,
            result: serde_json::Value::Null,
        }
    }
}
