//! A playbook, read and checked.

use std::time::Duration;

use event_model::{Severity, words};
use rule_engine::RecordCondition;

use crate::action::{ActionKind, Arguments};
use crate::alert::Facts;
use crate::groups::is_like;

words! {
    /// What a playbook may do.
    Mode {
        /// Nothing; it is not even looked at.
        Off = "off",
        /// Its runs are written down, and nothing is done. What a playbook is that says nothing else.
        Shadow = "shadow",
        /// It acts.
        Auto = "auto",
    }
}

words! {
    /// What becomes of a run when one of its steps fails.
    OnFailure {
        /// No other step begins.
        Stop = "stop",
        /// The run goes on.
        Continue = "continue",
        /// No other step begins, and what was done is undone, the last first.
        Undo = "undo",
    }
}

/// A playbook.
#[derive(Debug, Clone)]
pub struct Playbook {
    /// Its id; a run is known by alert and this.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it may do.
    pub mode: Mode,
    /// When it runs.
    pub trigger: Trigger,
    /// How long a run may take.
    pub timeout: Duration,
    /// How often it may run by itself.
    pub limit: Limit,
    /// Its steps as written; those before which a step waits may stand anywhere.
    pub steps: Vec<Step>,
    /// SHA-256 is not needed: a fingerprint of the text, so that a run is not resumed with other steps.
    pub fingerprint: String,
}

/// When a playbook runs: everything that is given must hold. An empty list asks for nothing.
#[derive(Debug, Clone, Default)]
pub struct Trigger {
    /// Ids of rules, with `*` and `?`.
    pub rules: Vec<String>,
    /// At least this bad.
    pub severity: Option<Severity>,
    /// ATT&CK techniques; `T1059` takes its sub-techniques in.
    pub attack: Vec<String>,
    /// Groups of hosts.
    pub host_groups: Vec<String>,
    /// A condition about the alert.
    pub expression: Option<RecordCondition>,
}

/// How often a playbook runs by itself. What a person asks for is not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Runs for one alert, which is told of again where it repeats.
    pub of_alert: u32,
    /// Runs for one host.
    pub of_host: u32,
    /// Within that time.
    pub within: Duration,
}

/// Enough to end what comes back every few minutes; and a host has as many runs as its agent takes actions of rules.
impl Default for Limit {
    fn default() -> Self {
        Self { of_alert: 20, of_host: 60, within: Duration::from_secs(3_600) }
    }
}

/// A step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its id in the playbook.
    pub id: String,
    /// What it does.
    pub action: ActionKind,
    /// With what.
    pub(crate) arguments: Arguments,
    /// The steps before it, as places in [`Playbook::steps`]. It begins when all have ended.
    pub after: Vec<usize>,
    /// It is skipped where this does not hold when it could begin.
    pub when: Option<RecordCondition>,
    /// How long it may take.
    pub timeout: Duration,
    /// What becomes of the run when it fails.
    pub on_failure: OnFailure,
}

impl Trigger {
    /// Whether it holds for an alert.
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        let rule = &facts.alert.rule;
        let any = |wanted: &[String], holds: &dyn Fn(&str) -> bool| {
            wanted.is_empty() || wanted.iter().any(|wanted| holds(wanted))
        };
        any(&self.rules, &|wanted| is_like(&rule.id, wanted))
            && self.severity.is_none_or(|least| rule.severity >= least)
            && any(&self.attack, &|wanted| rule.attack.iter().any(|own| is_technique(own, wanted)))
            && any(&self.host_groups, &|wanted| facts.host_groups.iter().any(|own| own == wanted))
            && self.expression.as_ref().is_none_or(|expression| expression.holds(&|name| facts.value(name)))
    }
}

/// `T1059.004` is `T1059.004` and is a `T1059`.
fn is_technique(own: &str, wanted: &str) -> bool {
    let same = |part: Option<&str>| part.is_some_and(|part| part.eq_ignore_ascii_case(wanted));
    same(Some(own)) || same(own.split('.').next())
}

impl Playbook {
    /// Whether it is to run for an alert.
    pub fn is_triggered(&self, facts: &Facts<'_>) -> bool {
        self.mode != Mode::Off && self.trigger.holds(facts)
    }

    /// The place of a step.
    pub fn place_of(&self, id: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.id == id)
    }
}
