//! Behaviours of process trees.

use rule_engine::BehaviourHead;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A behaviour, or a sequence of them.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Behaviour {
    /// Its id.
    pub id: String,
    /// What was done.
    pub name: String,
    /// What it adds to the score of a process tree.
    pub weight: f64,
    /// False where it is switched off.
    pub enabled: bool,
    /// ATT&CK techniques.
    pub attack: Vec<String>,
    /// What shows it: `conditions`, a `rule`, or a complete `sequence`.
    pub shown_by: String,
    /// The server's file that it is from; `built-in linux` or `built-in windows`, which no file can be called.
    pub file: String,
}

super::page!(
    /// Behaviours, those that are built in first.
    BehaviourPage of Behaviour
);

/// What to change of a behaviour.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BehaviourChange {
    /// Whether it counts.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// What it adds to a score, 0 to 1000.
    #[serde(default)]
    pub weight: Option<f64>,
}

impl From<BehaviourHead> for Behaviour {
    fn from(head: BehaviourHead) -> Self {
        let BehaviourHead { id, name, weight, attack, enabled, shown_by, file } = head;
        Self {
            id: id.to_string(),
            name: name.to_string(),
            weight,
            enabled,
            attack,
            shown_by: shown_by.to_owned(),
            file: file.to_string(),
        }
    }
}
