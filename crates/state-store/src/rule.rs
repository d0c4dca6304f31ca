//! Detection rules as their authors wrote them.

use event_model::{ResponseMode, RuleId, Severity, Timestamp};
use serde::Serialize;

use event_model::words;

words! {
    /// Where a rule came from.
    RuleOrigin {
        /// The starter pack.
        Starter = "starter",
        /// A user of this server.
        User = "user",
    }
}

/// What the rule's text says, as far as lists and filters need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleHead {
    /// Its id.
    pub id: RuleId,
    /// Its name.
    pub name: String,
    /// Its `type`.
    #[serde(rename = "type")]
    pub rule_type: String,
    /// Its severity.
    pub severity: Severity,
    /// Whether it is judged.
    pub enabled: bool,
    /// What its actions may do.
    pub mode: ResponseMode,
}

/// A rule to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRule {
    /// Its head.
    pub head: RuleHead,
    /// Its text as written.
    pub text: String,
}

/// A change of a rule's switches; `None` leaves what is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RulePatch {
    /// Whether it is judged.
    pub enabled: Option<bool>,
    /// What its actions may do.
    pub mode: Option<ResponseMode>,
    /// The text, where the switches stand in it too.
    pub text: Option<String>,
}

/// A kept rule. `head.enabled` and `head.mode` are in force, whatever the text says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its head.
    #[serde(flatten)]
    pub head: RuleHead,
    /// Its text as written.
    pub text: String,
    /// Where it came from.
    pub origin: RuleOrigin,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// By whom.
    pub updated_by: String,
}

/// All rules, and the version that they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleSet {
    /// Grows with every change of any rule; 0 where there never was a rule.
    pub version: u64,
    /// By id.
    pub rules: Vec<Rule>,
}
