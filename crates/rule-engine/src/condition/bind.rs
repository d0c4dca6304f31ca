//! From names and literals to typed tests.

use event_model::{Field, RuleScope, Timestamp, ValueKind, resolve_field, spellings_in_scope};

use super::syntax::{Comparison, Literal, Operator, Tree};
use super::{BoundCondition, FieldUse, Finding, regex_guard};
use crate::diagnostic::DiagnosticCode;
use crate::expression::{Check, Expression, FieldRef, Order, Pattern, Test, TextPart, TextTest};
use crate::fold::fold;
use crate::nearest::nearest;

/// Resolves every name and literal of the tree; all findings are reported, not only the first.
pub(super) fn bind(
    tree: &Tree,
    vocabulary: Vocabulary<'_>,
    slots: &mut Vec<FieldRef>,
) -> (Option<BoundCondition>, Vec<Finding>) {
    let mut binder = Binder { vocabulary, slots, fields: Vec::new(), findings: Vec::new() };
    let expression = binder.tree(tree);
    let fields = binder.fields;
    (expression.map(|expression| BoundCondition { expression, fields }), binder.findings)
}

/// Which names a condition may use.
#[derive(Clone, Copy)]
pub(crate) enum Vocabulary<'a> {
    /// The fields of rules of this type, in every spelling.
    Rule(RuleScope),
    /// Names of a record with their kinds, and besides them the ECS names of all fields.
    Record(&'a dyn Fn(&str) -> Option<ValueKind>),
}

/// What a name means.
enum Meant {
    Field(Field),
    Own(ValueKind),
}

struct Binder<'s> {
    vocabulary: Vocabulary<'s>,
    /// The fields of the rule, by slot.
    slots: &'s mut Vec<FieldRef>,
    fields: Vec<FieldUse>,
    findings: Vec<Finding>,
}

impl Binder<'_> {
    fn tree(&mut self, tree: &Tree) -> Option<Expression> {
        match tree {
            Tree::All(parts) => self.parts(parts).map(Expression::All),
            Tree::Any(parts) => self.parts(parts).map(Expression::Any),
            Tree::Not(inner) => Some(Expression::Not(Box::new(self.tree(inner)?))),
            Tree::Comparison(comparison) => match self.comparison(comparison) {
                Ok(test) => Some(Expression::Test(test)),
                Err(finding) => {
                    self.findings.push(finding);
                    None
                }
            },
        }
    }

    fn parts(&mut self, parts: &[Tree]) -> Option<Vec<Expression>> {
        let bound: Vec<_> = parts.iter().map(|part| self.tree(part)).collect();
        let mut bound: Vec<Expression> = bound.into_iter().collect::<Option<_>>()?;
        // Tests have no effects, so the cheap ones may go first.
        bound.sort_by_key(Expression::cost);
        Some(bound)
    }

    fn comparison(&mut self, comparison: &Comparison) -> Result<Test, Finding> {
        let (kind, reference) = match self.meant(comparison)? {
            Meant::Field(field) => {
                self.fields.push(FieldUse { field, range: comparison.field_range.clone() });
                (field.spec().kind, FieldRef::Typed(field))
            }
            Meant::Own(kind) => (kind, FieldRef::Named(comparison.field.as_str().into())),
        };
        let (check, negated) = match kind {
            ValueKind::Text | ValueKind::TextList => self.text_check(comparison)?,
            ValueKind::Integer => self.integer_check(comparison)?,
            ValueKind::Boolean => boolean_check(comparison)?,
            ValueKind::Time => time_check(comparison)?,
        };
        let slot = reference.slot_in(self.slots);
        Ok(Test { slot, check, negated })
    }

    fn meant(&self, comparison: &Comparison) -> Result<Meant, Finding> {
        match self.vocabulary {
            Vocabulary::Rule(scope) => field_of_scope(scope, comparison).map(Meant::Field),
            Vocabulary::Record(kind_of) => match kind_of(&comparison.field) {
                Some(kind) => Ok(Meant::Own(kind)),
                None => field_by_ecs_name(comparison).map(Meant::Field),
            },
        }
    }

    fn text_check(&mut self, comparison: &Comparison) -> Result<(Check, bool), Finding> {
        let first = &comparison.values[0];
        let folded = |literal: &Literal| Box::from(fold(&literal.text.text));
        Ok(match comparison.operator {
            Operator::Equal => (text(TextPart::Equals(folded(first))), false),
            Operator::NotEqual => (text(TextPart::Equals(folded(first))), true),
            Operator::In => (text_in(&comparison.values), false),
            Operator::NotIn => (text_in(&comparison.values), true),
            Operator::Contains | Operator::StartsWith | Operator::EndsWith => {
                if first.text.text.is_empty() {
                    self.always_true(comparison, "every text has the empty text in it");
                }
                let literal = folded(first);
                let part = match comparison.operator {
                    Operator::Contains => TextPart::contains(&literal),
                    Operator::StartsWith => TextPart::StartsWith(literal),
                    _ => TextPart::EndsWith(literal),
                };
                (text(part), false)
            }
            Operator::Matches => {
                let pattern = Pattern { regex: regex_guard::compile(first)?, shortest: 0 };
                if pattern.matches_everything() {
                    self.always_true(comparison, "the regular expression finds something in every text");
                }
                (text(TextPart::Matches(pattern)), false)
            }
            Operator::Greater | Operator::Less | Operator::GreaterOrEqual | Operator::LessOrEqual => {
                let hint = "texts have no order here; use `=`, `in` or `matches`";
                return Err(not_allowed(comparison, "a text", hint));
            }
        })
    }

    fn integer_check(&mut self, comparison: &Comparison) -> Result<(Check, bool), Finding> {
        // Text operators look at the decimal digits, as Sigma's do.
        if matches!(
            comparison.operator,
            Operator::Contains | Operator::StartsWith | Operator::EndsWith | Operator::Matches
        ) {
            return self.text_check(comparison);
        }
        let numbers = comparison.values.iter().map(|literal| {
            literal.text.text.trim().parse::<i64>().map_err(|_| {
                let reason =
                    format!("`{}` is no whole number, and `{}` is one", literal.text.text, comparison.field);
                let hint =
                    Some("whole numbers go from -9223372036854775808 to 9223372036854775807".to_owned());
                Finding::error(DiagnosticCode::BadNumber, literal.range.clone(), reason, hint)
            })
        });
        let mut numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        Ok(match (comparison.operator, order_of(comparison.operator)) {
            (Operator::In | Operator::NotIn, _) => {
                numbers.sort_unstable();
                numbers.dedup();
                (Check::NumberIn(numbers), comparison.operator == Operator::NotIn)
            }
            (operator, order) => (Check::Number(order, numbers[0]), operator == Operator::NotEqual),
        })
    }

    fn always_true(&mut self, comparison: &Comparison, why: &str) {
        let range = comparison.field_range.start..comparison.value_range.end;
        let reason = format!("true for every event that has `{}`: {why}", comparison.field);
        self.findings.push(Finding::warning(DiagnosticCode::AlwaysTrue, range, reason, None));
    }
}

fn field_of_scope(scope: RuleScope, comparison: &Comparison) -> Result<Field, Finding> {
    resolve_field(scope, &comparison.field).map_err(|error| {
        let known = || spellings_in_scope(scope).into_iter().map(|(name, _)| name);
        let hint = match error.nearest.or_else(|| nearest(&comparison.field, known())) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => match RuleScope::ALL
                .into_iter()
                .find(|other| resolve_field(*other, &comparison.field).is_ok())
            {
                Some(other) => format!("{other} rules have it; is the rule's `type` right?"),
                None => "docs/reference/fields.md lists every field".to_owned(),
            },
        };
        let range = comparison.field_range.clone();
        Finding::error(DiagnosticCode::UnknownField, range, error.to_string(), Some(hint))
    })
}

fn field_by_ecs_name(comparison: &Comparison) -> Result<Field, Finding> {
    let name = &comparison.field;
    let names = || Field::ALL.iter().map(|field| field.spec().ecs);
    if let Some(field) = Field::ALL.iter().find(|field| field.spec().ecs.eq_ignore_ascii_case(name)) {
        return Ok(*field);
    }
    let hint = match nearest(name, names()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "the ECS names of docs/reference/fields.md can be used, for example `process.executable`"
            .to_owned(),
    };
    let range = comparison.field_range.clone();
    Err(Finding::error(
        DiagnosticCode::UnknownField,
        range,
        format!("there is no field `{name}`"),
        Some(hint),
    ))
}

fn text(part: TextPart) -> Check {
    Check::Text(TextTest::folded(part))
}

fn text_in(values: &[Literal]) -> Check {
    text(TextPart::one_of(values.iter().map(|literal| Box::from(fold(&literal.text.text))).collect()))
}

fn boolean_check(comparison: &Comparison) -> Result<(Check, bool), Finding> {
    if !matches!(comparison.operator, Operator::Equal | Operator::NotEqual) {
        return Err(not_allowed(comparison, "true or false", "use `=` or `!=`"));
    }
    let literal = &comparison.values[0];
    let truth = match literal.text.text.to_ascii_lowercase().as_str() {
        "true" => true,
        "false" => false,
        other => {
            let reason =
                format!("`{other}` is neither true nor false, and `{}` is one of them", comparison.field);
            let hint = Some(format!("write `{} = true` or `{} = false`", comparison.field, comparison.field));
            return Err(Finding::error(DiagnosticCode::BadValue, literal.range.clone(), reason, hint));
        }
    };
    Ok((Check::Truth(truth), comparison.operator == Operator::NotEqual))
}

fn time_check(comparison: &Comparison) -> Result<(Check, bool), Finding> {
    let by_order = matches!(
        comparison.operator,
        Operator::Equal
            | Operator::NotEqual
            | Operator::Greater
            | Operator::Less
            | Operator::GreaterOrEqual
            | Operator::LessOrEqual
    );
    if !by_order {
        return Err(not_allowed(comparison, "a time", "use `=`, `!=`, `>`, `<`, `>=` or `<=`"));
    }
    let literal = &comparison.values[0];
    let time: Timestamp = literal.text.text.parse().map_err(|_| {
        let reason = format!("`{}` is no time", literal.text.text);
        let hint = Some("write it in RFC 3339, in quotes, for example '2026-11-21T20:15:03Z'".to_owned());
        Finding::error(DiagnosticCode::BadValue, literal.range.clone(), reason, hint)
    })?;
    Ok((Check::Time(order_of(comparison.operator), time), comparison.operator == Operator::NotEqual))
}

/// `!=` is a negated `=`; operators without order never get here.
fn order_of(operator: Operator) -> Order {
    match operator {
        Operator::Greater => Order::Greater,
        Operator::Less => Order::Less,
        Operator::GreaterOrEqual => Order::GreaterOrEqual,
        Operator::LessOrEqual => Order::LessOrEqual,
        _ => Order::Equal,
    }
}

fn not_allowed(comparison: &Comparison, kind: &str, hint: &str) -> Finding {
    let reason =
        format!("`{}` is {kind}: `{}` can't be used", comparison.field, comparison.operator.as_str());
    let range = comparison.operator_range.clone();
    Finding::error(DiagnosticCode::OperatorNotAllowed, range, reason, Some(hint.to_owned()))
}
