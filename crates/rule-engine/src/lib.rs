//! Rules: text in; compiled rules, verdicts and diagnostics out. No I/O, no
//! operating system.
//!
//! [`parse_rules`] reads a rule file, native JSON or Sigma. Whatever is wrong becomes a
//! [`Diagnostic`] with its place; a bad rule is left out and the others load.
//! [`RuleSet::compile`] arranges rules by the events they judge, and
//! [`RuleSet::evaluate`] says which of them match a live event, [`RuleSet::judge`] which match a
//! record of a log. `docs/reference/rules.md` and `rules-sigma.md` are the author's view of the
//! same, `docs/adr/0008-one-matcher.md` says how it works and why.
//!
//! Nothing here panics on any text or event, and every limit on size and depth
//! is a constant with its reason beside it.

#![deny(missing_docs)]

mod anomaly;
mod behaviour;
mod condition;
mod correlation;
mod diagnostic;
mod edit;
mod event;
mod exception_preview;
mod explain;
mod expression;
mod fold;
mod group;
mod json;
mod log_source;
mod matcher;
mod nearest;
mod record_condition;
mod rule;
mod rule_file;
mod rule_reader;
mod rule_set;
mod sigma;
mod source;
mod telemetry;
pub mod yaml;

pub use anomaly::{AnomalyCounters, AnomalyDetector, AnomalyFinding, AnomalyOptions, AnomalyStateError};
pub use behaviour::{
    BehaviourCounters, BehaviourEngine, BehaviourFile, BehaviourFinding, BehaviourHead, BehaviourSet,
    is_behaviour_file, parse_behaviours,
};
pub use correlation::CorrelationCounters;
pub use diagnostic::{Diagnostic, DiagnosticCode, DiagnosticSeverity};
pub use edit::{EditError, set_key};
pub use event::{EVENT_TEXT_LIMIT, EVENT_VALUE_LIMIT, EventBuffer, FieldId, FieldNames};
pub use exception_preview::ExceptionPreview;
pub use explain::{Explanation, NotJudged};
pub use expression::ExplainedPart;
pub use log_source::{LogSource, LogSources, SourceId};
pub use matcher::{Desk, LookedFor, PrefilterQuality};
pub use nearest::nearest;
pub use record_condition::{ConditionProblem, RecordCondition};
pub use rule::{ExceptionHead, HostNames, MatchMode, ParsedRule, RuleHead};
pub use rule_file::{
    ParseOutcome, RULE_FILE_LIMIT, is_sigma_file, parse_rule_text, parse_rules, parse_rules_bytes,
    parse_rules_bytes_with,
};
pub use rule_set::{CompileOptions, CompileOutcome, Phase, RuleCounters, RuleMatch, RuleSet, Verdicts};
pub use sigma::{Placeholders, SigmaOptions, is_placeholder_file, parse_sigma};
pub use source::{Place, Source, Span};
pub use telemetry::Telemetry;
