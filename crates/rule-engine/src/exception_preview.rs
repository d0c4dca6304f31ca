//! What an exception would have hidden: one exception, tried on events that its rule matched.

use std::sync::Arc;

use event_model::FieldSource;

use crate::diagnostic::{Diagnostic, DiagnosticCode};
use crate::json;
use crate::rule::{Exception, ExceptionHead, HostNames, MatchMode, ParsedRule, Role};
use crate::rule_file::fault_diagnostic;
use crate::rule_reader::Reader;
use crate::rule_set::{Phase, RuleSet};
use crate::source::{Source, Span};

/// Longest text of an exception in bytes.
const TEXT_LIMIT: usize = 256 * 1024;

/// An exception of a rule that is not in force.
#[derive(Debug)]
pub struct ExceptionPreview {
    head: ExceptionHead,
    exception: Exception,
    /// The exception's conditions as a rule's; `None` where it has none and hides whatever the rule matches.
    conditions: Option<RuleSet>,
}

impl ExceptionPreview {
    /// Reads an exception as it would stand in the rule's `exceptions`.
    ///
    /// # Errors
    /// What is wrong with its text, with places in it; also where the rule's events lack a field that it names.
    pub fn new(rule: &ParsedRule, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let source = Source::new("exception", text);
        let mut reader = Reader::new(&source);
        if text.len() > TEXT_LIMIT {
            let reason = format!("an exception of {} bytes; the limit is {TEXT_LIMIT}", text.len());
            reader.error(DiagnosticCode::TooLarge, Span { start: 0, end: 0 }, reason, None);
            return Err(reader.diagnostics);
        }
        let document = json::parse(text).map_err(|fault| vec![fault_diagnostic(&source, &fault)])?;
        if !document.faults.is_empty() {
            return Err(document.faults.iter().map(|fault| fault_diagnostic(&source, fault)).collect());
        }
        let read = reader.exception(&document.root, Some(rule.head.scope));
        for placed in read.iter().flat_map(|(_, _, fields)| fields) {
            if rule.log_source.is_none() && !rule.telemetry.carries(placed.field) {
                let spelling = text.get(placed.span.start..placed.span.end).unwrap_or_default();
                let events = rule.telemetry.describe();
                let reason = format!("the rule judges {events}, which have no `{spelling}`");
                let hint = Some("use fields that the rule's events have".to_owned());
                reader.error(DiagnosticCode::MixedEvents, placed.span, reason, hint);
            }
        }
        let slots = std::mem::take(&mut reader.slots);
        let read = read.filter(|_| !reader.diagnostics.iter().any(Diagnostic::is_error));
        let Some((head, exception, _)) = read else { return Err(reader.diagnostics) };
        let conditions = (!exception.conditions.is_empty()).then(|| {
            let mut rule_head = (*rule.head).clone();
            rule_head.match_mode = MatchMode::All;
            rule_head.enabled = true;
            rule_head.mode = event_model::ResponseMode::Detect;
            rule_head.conditions.clone_from(&head.conditions);
            let as_rule = ParsedRule {
                head: Arc::new(rule_head),
                role: Role::Events,
                fields: slots,
                conditions: exception.conditions.clone(),
                filters: Vec::new(),
                exceptions: Vec::new(),
                ..rule.clone()
            };
            RuleSet::compile([as_rule]).rules
        });
        Ok(Self { head, exception, conditions })
    }

    /// What it says of itself.
    pub fn head(&self) -> &ExceptionHead {
        &self.head
    }

    /// Whether the rule would have stayed silent about this event of that host, which it matched.
    pub fn hides(&self, event: &dyn FieldSource, host: &HostNames) -> bool {
        self.exception.is_for(Some(host))
            && self.exception.expires.is_none_or(|expires| event.observed_at() < expires)
            && self.conditions.as_ref().is_none_or(|rules| !rules.evaluate(event, Phase::All).is_empty())
    }
}
