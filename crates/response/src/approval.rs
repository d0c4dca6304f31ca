//! Whose consent an order needs: counted by the server before it signs, and by the agent before it acts.

use event_model::{RuleId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::action::Action;

/// Hosts that may be isolated within an hour by one person's word.
pub const MASS_ISOLATION_ABOVE: u32 = 5;

/// Hosts that any other action may change within an hour by one person's word.
pub const MASS_ACTION_ABOVE: u32 = 20;

/// What stands before the id of a rule where a rule asks, in the place of a user's name. No user has a
/// colon in his name.
pub const RULE_ASKS: &str = "rule:";

/// One person's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Name of the user.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What an order rests on, besides who asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// Who agreed.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// Hosts on which this action was ordered within an hour, this one included.
    #[serde(default)]
    pub fleet_hosts: u32,
}

/// What a rule asks a person for; JSON in a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The rule.
    pub rule_id: RuleId,
    /// The action with its parameters.
    #[serde(flatten)]
    pub action: Action,
}

/// Past so many hosts within an hour the action is a mass action; `None` if it never is.
pub fn mass_above(action: &Action) -> Option<u32> {
    if action.only_looks() || action.is_release() {
        return None;
    }
    Some(match action {
        Action::IsolateHost(_) => MASS_ISOLATION_ABOVE,
        _ => MASS_ACTION_ABOVE,
    })
}

/// How many different people must have agreed, besides who asks.
pub fn approvals_needed(action: &Action, asked_by: &str, fleet_hosts: u32) -> usize {
    match mass_above(action) {
        None => 0,
        Some(most) if fleet_hosts > most => 2,
        Some(_) => usize::from(asked_by.starts_with(RULE_ASKS)),
    }
}

/// People who count for an order of `asked_by`: each once, and not the one who asks. What stands for a
/// script or a rule has a colon in its name and is nobody.
pub fn approvers<'a>(asked_by: &str, approvals: &'a [Approval]) -> Vec<&'a str> {
    let mut people: Vec<&str> = Vec::new();
    for one in approvals {
        let name = one.by.as_str();
        let counts = !name.is_empty() && !name.contains(':') && !name.eq_ignore_ascii_case(asked_by);
        if counts && !people.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            people.push(name);
        }
    }
    people
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Isolation;

    #[test]
    fn each_person_counts_once_and_neither_who_asks_nor_a_script() {
        let yes = |by: &str| Approval { by: by.to_owned(), at: Timestamp::from_nanos(0) };
        let approvals = ["eve", "Ada", "ada", "token:x", "rule:1", "", "EVE", "bob"].map(yes);
        assert_eq!(approvers("Eve", &approvals), ["Ada", "bob"]);
    }

    #[test]
    fn what_is_asked_for_reads_back() {
        let asked = Asked {
            rule_id: RuleId::new("7"),
            action: Action::IsolateHost(Isolation { ttl_seconds: 60, keep: Vec::new(), release_hash: None }),
        };
        let text = serde_json::to_string(&asked).unwrap();
        assert_eq!(text, r#"{"rule_id":"7","action":"isolate_host","parameters":{"ttl_seconds":60}}"#);
        assert_eq!(serde_json::from_str::<Asked>(&text).unwrap(), asked);
    }
}
