//! Conditions over records that are no events: the rule language with names of the caller's.
//!
//! Playbooks ask with them about an alert (`rule.severity in (high, critical)`), about its event (any
//! ECS name) and about their own steps.

use std::ops::Range;

use event_model::{ValueKind, ValueRef};

use crate::DiagnosticSeverity;
use crate::condition::{self, Finding, Vocabulary};
use crate::event::{EventBuffer, FieldId, FieldNames, Prepared};
use crate::expression::{Expression, FieldRef, View};

/// A condition, ready to be judged. Cheap to share, costs an allocation to judge.
#[derive(Debug, Clone)]
pub struct RecordCondition {
    text: Box<str>,
    expression: Expression,
    /// The name of each field, and its number in `expression`'s slots.
    fields: Box<[(Box<str>, FieldId)]>,
}

/// Something about a condition, at bytes of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionProblem {
    /// An error: the condition can't be used. Otherwise it deserves a look.
    pub severity: DiagnosticSeverity,
    /// The bytes of the condition's text.
    pub range: Range<usize>,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub hint: Option<String>,
}

impl RecordCondition {
    /// Reads a condition. It may use the names for which `kind_of` gives a kind, and the ECS names of
    /// all fields.
    ///
    /// # Errors
    /// Everything that is wrong with the text. Warnings come beside the condition.
    pub fn parse(
        text: &str,
        kind_of: &dyn Fn(&str) -> Option<ValueKind>,
    ) -> Result<(Self, Vec<ConditionProblem>), Vec<ConditionProblem>> {
        let mut slots = Vec::new();
        let (bound, findings) = condition::read(text, Vocabulary::Record(kind_of), &mut slots);
        let problems: Vec<_> = findings.into_iter().map(ConditionProblem::from).collect();
        let Some(bound) = bound else { return Err(problems) };
        let mut names = FieldNames::default();
        let fields = slots.into_iter().map(|slot| match slot {
            FieldRef::Typed(field) => (Box::from(field.spec().ecs), FieldId::of(field)),
            FieldRef::Named(name) => {
                let id = names.intern(&name);
                (name, id)
            }
        });
        let own = Self { text: text.into(), expression: bound.expression, fields: fields.collect() };
        Ok((own, problems))
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names it looks at.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| &**name)
    }

    /// Whether it is true of a record; `value_of` gives the value that a name has there.
    pub fn holds<'v>(&self, value_of: &dyn Fn(&str) -> Option<ValueRef<'v>>) -> bool {
        let mut event = EventBuffer::new();
        for (name, id) in &self.fields {
            if let Some(value) = value_of(name) {
                event.push_value(*id, &value);
            }
        }
        let mut prepared = Prepared::default();
        prepared.take(&event);
        let fields: Vec<FieldId> = self.fields.iter().map(|(_, id)| *id).collect();
        self.expression.holds(View { event: &event, prepared: &prepared, fields: &fields })
    }
}

impl From<Finding> for ConditionProblem {
    fn from(finding: Finding) -> Self {
        let Finding { severity, code: _, range, reason, hint } = finding;
        Self { severity, range, reason, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(name: &str) -> Option<ValueKind> {
        match name {
            "alert.count" => Some(ValueKind::Integer),
            "rule.severity" => Some(ValueKind::Text),
            _ => None,
        }
    }

    fn value_of(name: &str) -> Option<ValueRef<'static>> {
        match name {
            "alert.count" => Some(ValueRef::Integer(3)),
            "rule.severity" => Some(ValueRef::Text("High".into())),
            "process.executable" => Some(ValueRef::Text("/usr/bin/nc".into())),
            _ => None,
        }
    }

    #[test]
    fn own_names_and_ecs_names_stand_side_by_side() {
        let holds = |text: &str| RecordCondition::parse(text, &kind_of).expect("good").0.holds(&value_of);
        assert!(holds("alert.count > 2 and rule.severity = high"));
        assert!(holds("process.executable endswith '/nc' and not user.name = 'root'"));
        assert!(!holds("alert.count in (1, 2) or rule.severity != high"));
    }

    #[test]
    fn what_is_wrong_has_its_place_and_a_hint() {
        let problems = RecordCondition::parse("proces.executable = 'x'", &kind_of).expect_err("bad");
        assert_eq!(problems[0].range, 0..17);
        assert_eq!(problems[0].hint.as_deref(), Some("did you mean `process.executable`?"));
        assert!(RecordCondition::parse("alert.count > many", &kind_of).is_err());
    }
}
