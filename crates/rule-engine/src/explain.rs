//! Why a rule matches an event, or doesn't: each part of its conditions with what it was.

use event_model::{FieldSource, RuleId};

use crate::event::EventBuffer;
use crate::expression::{ExplainedPart, View};
use crate::group::Group;
use crate::log_source::SourceId;
use crate::matcher::LookedFor;
use crate::rule::{MatchMode, ParsedRule};
use crate::rule_set::{Phase, RuleSet};

/// What a rule made of one event.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Explanation {
    /// Whether the rule matches, exceptions taken off.
    pub matches: bool,
    /// Whether something that the rule needs was found in the event, so that its conditions are computed
    /// when events are judged. A rule that matches always is one.
    pub is_candidate: bool,
    /// What is looked for.
    pub looked_for: LookedFor,
    /// True where one of the conditions is enough.
    pub any_condition: bool,
    /// Each condition: as written, then as it is computed.
    pub conditions: Vec<ExplainedPart>,
    /// Sigma filters that were added to the rule; all must be true.
    pub filters: Vec<ExplainedPart>,
    /// Exceptions that silence the rule where they are true.
    pub exceptions: Vec<ExplainedPart>,
}

/// Why there is nothing to explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotJudged {
    /// No rule of the set has the id.
    #[error("no rule with this id is loaded")]
    UnknownRule,
    /// It is switched off.
    #[error("the rule is switched off, or a placeholder of it has no values")]
    Inactive,
    /// It judges matches of other rules.
    #[error("it is a correlation: it judges matches of other rules; ask for those")]
    Correlation,
    /// It judges events of another kind.
    #[error("the rule does not judge events of this kind")]
    OtherEvents,
}

impl RuleSet {
    /// What a rule makes of a record of that log source. Allocates, and counts nothing.
    ///
    /// # Errors
    /// Where the rule does not judge such records.
    pub fn explain(
        &self,
        id: &RuleId,
        event: &EventBuffer,
        source: SourceId,
    ) -> Result<Explanation, NotJudged> {
        let place = self.judging_rule(id)?;
        let group = self.group_of(source).ok_or(NotJudged::OtherEvents)?;
        self.explain_in(group, place, event)
    }

    /// What a rule makes of a live event.
    ///
    /// # Errors
    /// Where the rule does not judge such events.
    pub fn explain_live(&self, id: &RuleId, event: &dyn FieldSource) -> Result<Explanation, NotJudged> {
        let place = self.judging_rule(id)?;
        let group = self.live_group(event.event_type()).ok_or(NotJudged::OtherEvents)?;
        let mut buffer = EventBuffer::new();
        group.fill(event, Phase::All, &mut buffer);
        self.explain_in(group, place, &buffer)
    }

    fn judging_rule(&self, id: &RuleId) -> Result<usize, NotJudged> {
        let place = self.rules().position(|rule| rule.head.id == *id).ok_or(NotJudged::UnknownRule)?;
        let rule = self.rules().nth(place).ok_or(NotJudged::UnknownRule)?;
        if rule.is_correlation() {
            return Err(NotJudged::Correlation);
        }
        if rule.head.is_active() { Ok(place) } else { Err(NotJudged::Inactive) }
    }

    fn explain_in(&self, group: &Group, place: usize, event: &EventBuffer) -> Result<Explanation, NotJudged> {
        let rule = self.rules().nth(place).ok_or(NotJudged::UnknownRule)?;
        let mut desk = self.desk();
        desk.take(event);
        let mut explanation = None;
        for index in [&group.without_hash, &group.with_hash] {
            index.look_at(place, event, &mut desk, |is_candidate, view| {
                explanation = Some(explain_rule(rule, is_candidate, view));
            });
        }
        explanation.ok_or(NotJudged::OtherEvents)
    }
}

fn explain_rule(rule: &ParsedRule, is_candidate: bool, view: View<'_>) -> Explanation {
    let written = rule.conditions.iter().zip(&rule.head.conditions);
    let conditions = written.map(|(condition, text)| {
        let computed = condition.explain(view, &rule.fields);
        ExplainedPart { text: text.clone(), holds: computed.holds, values: None, parts: vec![computed] }
    });
    let exceptions = rule.exceptions.iter().zip(&rule.head.exceptions).map(|(exception, head)| {
        let parts: Vec<_> =
            exception.conditions.iter().map(|condition| condition.explain(view, &rule.fields)).collect();
        let is_over = exception.expires.zip(view.event.time()).is_some_and(|(end, now)| now >= end);
        let holds = !is_over && parts.iter().all(|part| part.holds);
        let over = if is_over { " (expired)" } else { "" };
        ExplainedPart { text: format!("exception: {}{over}", head.reason), holds, values: None, parts }
    });
    Explanation {
        matches: rule.holds(view) && !rule.is_excepted(view, view.event.time()),
        is_candidate,
        looked_for: rule.looked_for(),
        any_condition: rule.head.match_mode == MatchMode::Any,
        conditions: conditions.collect(),
        filters: rule.filters.iter().map(|filter| filter.explain(view, &rule.fields)).collect(),
        exceptions: exceptions.collect(),
    }
}
