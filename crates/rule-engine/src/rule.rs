//! A rule that was read: its head for people and APIs, its conditions for the matcher.

use std::sync::Arc;
use std::time::Duration;

use event_model::{ActionKind, Field, ResponseMode, RuleId, RuleReference, RuleScope, Severity, Timestamp};

use crate::correlation::Correlation;
use crate::expression::{Expression, FieldRef, View};
use crate::log_source::LogSource;
use crate::matcher::LookedFor;
use crate::source::Place;
use crate::telemetry::Telemetry;

/// How the conditions of a rule work together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchMode {
    /// One true condition is enough.
    Any,
    /// Every condition must be true.
    All,
}

/// What a rule says of itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RuleHead {
    /// Its id.
    pub id: RuleId,
    /// Its name.
    pub name: String,
    /// What it detects and what to do then.
    pub description: String,
    /// What kind of events it judges.
    #[serde(rename = "type")]
    pub scope: RuleScope,
    /// How bad a match is.
    pub severity: Severity,
    /// False: the rule is not judged.
    pub enabled: bool,
    /// What its actions may do.
    pub mode: ResponseMode,
    /// What it asks for, in the order written.
    pub actions: Vec<ActionKind>,
    /// Any or all conditions.
    #[serde(rename = "match")]
    pub match_mode: MatchMode,
    /// ATT&CK techniques.
    pub attack: Vec<String>,
    /// Free words for searching.
    pub tags: Vec<String>,
    /// Where to read more.
    pub references: Vec<String>,
    /// How long a process may take to end gracefully; zero means by force at once.
    #[serde(rename = "terminate_grace_ms", serialize_with = "as_millis")]
    pub terminate_grace: Duration,
    /// Its conditions as written.
    pub conditions: Vec<String>,
    /// When the rule stays silent.
    pub exceptions: Vec<ExceptionHead>,
}

/// What an exception says of itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ExceptionHead {
    /// Its conditions as written; all must be true.
    pub conditions: Vec<String>,
    /// The hosts it is for, by name or id; `*` at the end of one stands for anything. Empty for all.
    pub hosts: Vec<String>,
    /// Why it is there.
    pub reason: String,
    /// Who made it.
    pub author: Option<String>,
    /// From then on it no longer counts; `None` for never.
    pub expires: Option<Timestamp>,
}

fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

impl RuleHead {
    /// The rule as a detection carries it.
    pub fn reference(&self) -> RuleReference {
        RuleReference {
            id: self.id.clone(),
            name: self.name.clone(),
            description: self.description.clone(),
            severity: self.severity,
            attack: self.attack.clone(),
            mode: self.mode,
        }
    }

    /// False where the rule is switched off, by either switch.
    pub fn is_active(&self) -> bool {
        self.enabled && self.mode != ResponseMode::Off
    }
}

/// A rule that was read without error.
#[derive(Debug, Clone)]
pub struct ParsedRule {
    pub(crate) head: Arc<RuleHead>,
    pub(crate) text: Arc<str>,
    pub(crate) place: Place,
    pub(crate) telemetry: Telemetry,
    /// For Sigma rules.
    pub(crate) log_source: Option<LogSource>,
    /// By which correlations may refer to it.
    pub(crate) name: Option<String>,
    pub(crate) role: Role,
    pub(crate) needs_hash: bool,
    /// The fields that its tests name by slot.
    pub(crate) fields: Vec<FieldRef>,
    pub(crate) conditions: Vec<Expression>,
    /// What must hold besides the conditions: Sigma filters.
    pub(crate) filters: Vec<Expression>,
    pub(crate) exceptions: Vec<Exception>,
}

/// What a rule does.
#[derive(Debug, Clone)]
pub(crate) enum Role {
    /// It judges events.
    Events,
    /// It judges events and only shows a behaviour, by its place in the set of behaviours.
    Behaviour(u32),
    /// It judges matches of other rules.
    Correlation(Arc<Correlation>),
    /// Its conditions are added to those of other rules.
    Filter(FilterTargets),
}

/// Which rules a filter is for, of those whose log source is within its own.
#[derive(Debug, Clone)]
pub(crate) enum FilterTargets {
    Any,
    /// Those with these ids or names.
    Rules(Vec<String>),
}

impl ParsedRule {
    /// What it says of itself.
    pub fn head(&self) -> &RuleHead {
        &self.head
    }

    /// Its JSON object or YAML document as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where its id stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The events that it judges.
    pub fn telemetry(&self) -> Telemetry {
        self.telemetry
    }

    /// True for a Sigma filter: it matches nothing itself, it is added to other rules.
    pub fn is_filter(&self) -> bool {
        matches!(self.role, Role::Filter(_))
    }

    /// True for a Sigma correlation: it judges matches of other rules.
    pub fn is_correlation(&self) -> bool {
        matches!(self.role, Role::Correlation(_))
    }

    /// What is looked for in events before its conditions are computed. A rule that judges no events itself
    /// has no prefilter.
    pub fn looked_for(&self) -> LookedFor {
        LookedFor::of(self)
    }

    /// The log source of a Sigma rule; `None` for a native one.
    pub fn log_source(&self) -> Option<&LogSource> {
        self.log_source.as_ref()
    }

    /// True where it can be judged only once the image's hash is known.
    pub fn needs_hash(&self) -> bool {
        self.needs_hash
    }

    /// Whether it looks for something in all values of an event.
    pub(crate) fn searches_all_values(&self) -> bool {
        self.conditions.iter().chain(&self.filters).any(Expression::searches_all_values)
    }

    /// Whether the conditions hold; exceptions are not asked.
    pub(crate) fn holds(&self, view: View<'_>) -> bool {
        let by_conditions = match self.head.match_mode {
            MatchMode::Any => self.conditions.iter().any(|condition| condition.holds(view)),
            MatchMode::All => self.conditions.iter().all(|condition| condition.holds(view)),
        };
        by_conditions && self.filters.iter().all(|filter| filter.holds(view))
    }

    pub(crate) fn is_excepted(&self, view: View<'_>, at: Option<Timestamp>) -> bool {
        self.exceptions.iter().any(|exception| {
            // Where nobody knows the time, nothing has expired.
            exception.expires.is_none_or(|expires| at.is_none_or(|at| at < expires))
                && exception.conditions.iter().all(|condition| condition.holds(view))
        })
    }

    /// The conditions that hold, as written, where the rule does.
    pub(crate) fn matched_conditions(&self, view: View<'_>) -> Vec<&str> {
        if let [only] = self.head.conditions.as_slice() {
            return vec![only];
        }
        let all = self.conditions.iter().zip(&self.head.conditions);
        all.filter(|(condition, _)| condition.holds(view)).map(|(_, text)| text.as_str()).collect()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Exception {
    pub(crate) conditions: Vec<Expression>,
    pub(crate) hosts: Vec<String>,
    pub(crate) expires: Option<Timestamp>,
}

/// The host that events are from, for exceptions that are for some hosts only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNames {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
}

impl Exception {
    /// Whether it is for that host. One that is for some hosts is not for a host that nobody knows.
    pub(crate) fn is_for(&self, host: Option<&HostNames>) -> bool {
        let is_host = |wanted: &String, own: &str| match wanted.strip_suffix('*') {
            Some(stem) => own.to_lowercase().starts_with(&stem.to_lowercase()),
            None => own.to_lowercase() == wanted.to_lowercase(),
        };
        self.hosts.is_empty()
            || host.is_some_and(|host| {
                self.hosts.iter().any(|wanted| is_host(wanted, &host.name) || is_host(wanted, &host.id))
            })
    }
}

/// Fields that are known only after the image was read.
pub(crate) fn is_hash_field(field: Field) -> bool {
    matches!(
        field,
        Field::ProcessSha256
            | Field::ProcessMd5
            | Field::ProcessSha1
            | Field::ProcessTlsh
            | Field::ProcessEntropy
            | Field::ProcessImageHeader
            | Field::ProcessImageType
            | Field::ProcessImageSize
            | Field::ProcessHashSkipped
    )
}
