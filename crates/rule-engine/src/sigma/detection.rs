//! The search identifiers of a rule: from maps and lists to expressions.

use std::collections::HashMap;
use std::sync::Arc;

use super::modifiers::{Kind, Modifiers, Transform};
use super::pattern::{Part, Pattern};
use super::{encode, regex};
use crate::diagnostic::{Diagnostic, DiagnosticCode, DiagnosticSeverity};
use crate::expression::{AddressRange, Anchor, Check, Expression, FieldRef, Order, Slot, TextPart, TextTest};
use crate::yaml::{At, Node, Yaml};

/// Values for `%placeholders%`, by name.
pub type Placeholders = HashMap<String, Vec<String>>;

/// How many patterns one value may become (by `windash`, `base64offset`, placeholders).
const ALTERNATIVES_LIMIT: usize = 100_000;
/// How many different fields one rule may name.
const FIELDS_LIMIT: usize = 1_000;

/// Reads the detections of one rule.
pub(super) struct DetectionReader<'a> {
    pub(super) file: Arc<str>,
    pub(super) placeholders: &'a Placeholders,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// The fields that the tests name, by slot.
    pub(super) fields: Vec<FieldRef>,
    /// Placeholders that nobody gave values for.
    pub(super) unresolved: Vec<(At, String)>,
}

impl DetectionReader<'_> {
    pub(super) fn error(
        &mut self,
        at: At,
        code: DiagnosticCode,
        reason: impl Into<String>,
        hint: Option<&str>,
    ) {
        let place = at.place(&self.file);
        let hint = hint.map(str::to_owned);
        self.diagnostics.push(Diagnostic::new(DiagnosticSeverity::Error, code, &place, reason.into(), hint));
    }

    /// A search identifier: a map is all of its items, a list any of its own. `None` after an error.
    pub(super) fn identifier(&mut self, node: &Node) -> Option<Expression> {
        match &node.value {
            Yaml::Map(entries) if entries.is_empty() => {
                let hint = Some("write `Field: value`");
                self.error(node.at(), DiagnosticCode::BadValue, "the map has no fields", hint);
                None
            }
            Yaml::Map(entries) => {
                let items: Vec<_> = entries.iter().map(|(key, value)| self.item(key, value)).collect();
                Some(Expression::all(items.into_iter().collect::<Option<_>>()?))
            }
            Yaml::List(items) if items.is_empty() => {
                self.error(node.at(), DiagnosticCode::BadValue, "the list is empty", None);
                None
            }
            Yaml::List(items) => {
                let items: Vec<_> = items.iter().map(|item| self.identifier(item)).collect();
                Some(Expression::any(items.into_iter().collect::<Option<_>>()?))
            }
            // A value without a field is looked for everywhere.
            _ => self.values(Slot::ANY_FIELD, &Modifiers::read(&[]).ok()?, node),
        }
    }

    /// `Field|modifier: value`.
    fn item(&mut self, key: &Node, value: &Node) -> Option<Expression> {
        let Some(text) = key.scalar_text() else {
            let reason = format!("{} where the name of a field should stand", key.type_name());
            self.error(key.at(), DiagnosticCode::WrongType, reason, None);
            return None;
        };
        let mut words = text.split('|');
        let name = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let modifiers = match Modifiers::read(&words) {
            Ok(modifiers) => modifiers,
            Err(error) => {
                let before: usize = words.iter().take(error.index).map(|word| word.len() + 1).sum();
                let start = name.len() + 1 + before;
                let at = key.part_at(&text, start..start + words[error.index].len());
                self.error(at, DiagnosticCode::BadModifier, error.reason, error.hint.as_deref());
                return None;
            }
        };
        let slot = if name.is_empty() { Slot::ANY_FIELD } else { self.slot(key, name)? };
        if slot == Slot::ANY_FIELD && !matches!(modifiers.kind, Kind::Text | Kind::Regex | Kind::Cidr) {
            let reason = "this modifier wants a field before it";
            self.error(key.at(), DiagnosticCode::BadModifier, reason, Some("write `Field|modifier: value`"));
            return None;
        }
        self.values(slot, &modifiers, value)
    }

    /// The slot of a field. Spaces in names don't count.
    fn slot(&mut self, node: &Node, name: &str) -> Option<Slot> {
        if self.fields.len() >= FIELDS_LIMIT {
            let reason = format!("the rule names more than {FIELDS_LIMIT} fields");
            self.error(node.at(), DiagnosticCode::TooLarge, reason, None);
            return None;
        }
        Some(FieldRef::Named(name.replace(' ', "").into()).slot_in(&mut self.fields))
    }

    fn values(&mut self, slot: Slot, modifiers: &Modifiers, node: &Node) -> Option<Expression> {
        let nodes = node.items();
        if nodes.is_empty() {
            self.error(node.at(), DiagnosticCode::BadValue, "the list has no values", None);
            return None;
        }
        let tests: Vec<_> = nodes.iter().map(|node| self.value(slot, modifiers, node)).collect();
        let tests = tests.into_iter().collect::<Option<Vec<_>>>()?;
        let joined =
            if modifiers.all { Expression::all(tests) } else { Expression::any(joined_equals(tests)) };
        Some(if modifiers.negated { Expression::Not(Box::new(joined)) } else { joined })
    }

    fn value(&mut self, slot: Slot, modifiers: &Modifiers, node: &Node) -> Option<Expression> {
        if matches!(node.value, Yaml::List(_) | Yaml::Map(_)) {
            let reason = format!("{} where a value should stand", node.type_name());
            let hint = "a list of values stands directly under its field";
            self.error(node.at(), DiagnosticCode::WrongType, reason, Some(hint));
            return None;
        }
        match modifiers.kind {
            Kind::Exists => {
                let Yaml::Boolean(truth) = node.value else {
                    let reason = format!("`exists` wants true or false, not {}", node.type_name());
                    self.error(node.at(), DiagnosticCode::WrongType, reason, Some("without quotes"));
                    return None;
                };
                let exists = Expression::test(slot, Check::Exists);
                Some(if truth { exists } else { Expression::Not(Box::new(exists)) })
            }
            Kind::Quantity(order) => {
                let number = node.scalar_text().and_then(|text| text.trim().parse::<f64>().ok());
                let Some(number) = number.filter(|number| number.is_finite()) else {
                    let reason = format!("a comparison wants a number, not {}", described(node));
                    self.error(node.at(), DiagnosticCode::BadNumber, reason, None);
                    return None;
                };
                Some(Expression::test(slot, Check::Quantity(order, number)))
            }
            Kind::TimePart(unit, order) => {
                let number = node.scalar_text().and_then(|text| text.trim().parse::<i64>().ok());
                let Some(number) = number else {
                    let reason = format!("a part of a time is a whole number, not {}", described(node));
                    self.error(node.at(), DiagnosticCode::BadNumber, reason, None);
                    return None;
                };
                Some(Expression::test(slot, Check::TimePart(unit, order, number)))
            }
            Kind::Cidr => {
                let text = node.scalar_text().unwrap_or_default();
                let Some(range) = AddressRange::parse(text.trim()) else {
                    let reason = format!("`{text}` is no range of addresses");
                    let hint = "write 10.0.0.0/8 or fe80::/10";
                    self.error(node.at(), DiagnosticCode::BadValue, reason, Some(hint));
                    return None;
                };
                Some(Expression::test(slot, Check::Address(range)))
            }
            Kind::FieldRef => {
                let Some(name) = node.scalar_text() else {
                    let reason = format!("`fieldref` wants the name of a field, not {}", node.type_name());
                    self.error(node.at(), DiagnosticCode::WrongType, reason, None);
                    return None;
                };
                let other = self.slot(node, &name)?;
                let anchor = match modifiers.transforms.first() {
                    None => Anchor::Whole,
                    Some(Transform::StartsWith) => Anchor::Start,
                    Some(Transform::EndsWith) => Anchor::End,
                    Some(_) => Anchor::Anywhere,
                };
                let check = Check::SameAs { other, anchor, cased: modifiers.cased };
                Some(Expression::test(slot, check))
            }
            Kind::Regex => self.regex_value(slot, modifiers, node),
            Kind::Text => self.text_value(slot, modifiers, node),
        }
    }

    fn regex_value(&mut self, slot: Slot, modifiers: &Modifiers, node: &Node) -> Option<Expression> {
        let Some(text) = node.scalar_text() else {
            let reason = format!("`re` wants a regular expression, not {}", node.type_name());
            self.error(node.at(), DiagnosticCode::WrongType, reason, None);
            return None;
        };
        let has = |transform| modifiers.transforms.contains(&transform);
        match regex::compile(&text, &modifiers.flags, has(Transform::StartsWith), has(Transform::EndsWith)) {
            Ok(part) => Some(text_test(slot, part, true)),
            Err(error) => {
                let at = error.range.map_or(node.at(), |range| node.part_at(&text, range));
                self.error(at, error.code, error.reason, error.hint);
                None
            }
        }
    }

    fn text_value(&mut self, slot: Slot, modifiers: &Modifiers, node: &Node) -> Option<Expression> {
        if matches!(node.value, Yaml::Null) {
            if !modifiers.transforms.is_empty() {
                let hint = Some("write '' for the empty text, or leave the modifiers out");
                self.error(
                    node.at(),
                    DiagnosticCode::BadModifier,
                    "these modifiers want a text, not null",
                    hint,
                );
                return None;
            }
            // Without a field, nothing is looked for.
            let is_keyword = slot == Slot::ANY_FIELD;
            return Some(if is_keyword { Expression::never() } else { Expression::test(slot, Check::Null) });
        }
        let text = node.scalar_text().unwrap_or_default();
        let is_text = matches!(node.value, Yaml::Text(_));
        let mut patterns = vec![if is_text { Pattern::parse(&text) } else { Pattern::literal(&text) }];
        for transform in &modifiers.transforms {
            patterns = self.transformed(patterns, *transform, node)?;
            if patterns.len() > ALTERNATIVES_LIMIT {
                let reason = format!("the value becomes more than {ALTERNATIVES_LIMIT} others");
                self.error(node.at(), DiagnosticCode::TooLarge, reason, None);
                return None;
            }
        }
        let mut tests = Vec::with_capacity(patterns.len());
        for mut pattern in patterns {
            if slot == Slot::ANY_FIELD {
                pattern.open_start();
                pattern.open_end();
            }
            for pattern in pattern.each_dash().unwrap_or_else(|| vec![pattern]) {
                tests.push(self.pattern_test(slot, &pattern, modifiers.cased, node)?);
            }
        }
        Some(Expression::any(joined_equals(tests)))
    }

    fn pattern_test(
        &mut self,
        slot: Slot,
        pattern: &Pattern,
        cased: bool,
        node: &Node,
    ) -> Option<Expression> {
        if let Some(part) = pattern.to_text_part(cased) {
            return Some(text_test(slot, part, cased));
        }
        // More dashes than are looked for one by one.
        match pattern.to_regex(cased).map(|text| regex::compile(&text, "", false, false)) {
            Some(Ok(part)) => Some(text_test(slot, part, true)),
            Some(Err(error)) => {
                self.error(node.at(), error.code, error.reason, error.hint);
                None
            }
            None => {
                let hint = Some("put `base64offset` and `contains` behind it");
                let reason = "the encoded value is no text, and no text of an event can have it";
                self.error(node.at(), DiagnosticCode::BadModifier, reason, hint);
                None
            }
        }
    }

    fn transformed(&mut self, patterns: Vec<Pattern>, by: Transform, node: &Node) -> Option<Vec<Pattern>> {
        let mut out = Vec::with_capacity(patterns.len());
        for mut pattern in patterns {
            match by {
                Transform::Contains => {
                    pattern.open_start();
                    pattern.open_end();
                    out.push(pattern);
                }
                Transform::StartsWith => {
                    pattern.open_end();
                    out.push(pattern);
                }
                Transform::EndsWith => {
                    pattern.open_start();
                    out.push(pattern);
                }
                Transform::Windash => out.push(pattern.with_dashes()),
                Transform::Expand => self.expand(&pattern.with_placeholders(), node, &mut out)?,
                Transform::Utf16 { is_big_endian, has_mark } => {
                    out.push(self.utf16(pattern, is_big_endian, has_mark, node)?);
                }
                Transform::Base64 | Transform::Base64Offset => {
                    for pattern in pattern.each_dash().unwrap_or_else(|| vec![pattern]) {
                        let Some(bytes) = pattern.bytes() else {
                            let reason = "a value with wildcards or placeholders can't be put into base64";
                            let hint = Some("write `\\*` for the character; put `contains` behind `base64`");
                            self.error(node.at(), DiagnosticCode::BadModifier, reason, hint);
                            return None;
                        };
                        let encoded = match by {
                            Transform::Base64 => vec![encode::base64(&bytes)],
                            _ => encode::base64_offsets(&bytes).to_vec(),
                        };
                        let as_pattern = |bytes| Pattern { parts: vec![Part::Bytes(bytes)] };
                        out.extend(encoded.into_iter().map(as_pattern));
                    }
                }
            }
        }
        Some(out)
    }

    fn utf16(
        &mut self,
        pattern: Pattern,
        is_big_endian: bool,
        has_mark: bool,
        node: &Node,
    ) -> Option<Pattern> {
        let mut wide = Pattern::default();
        if has_mark {
            wide.push(Part::Bytes(vec![0xff, 0xfe]));
        }
        for part in pattern.parts {
            match part {
                Part::Bytes(bytes) => match encode::utf16(&bytes, is_big_endian) {
                    Some(bytes) => wide.push(Part::Bytes(bytes)),
                    None => {
                        let reason = "a value that is encoded already can't be put into UTF-16";
                        self.error(node.at(), DiagnosticCode::BadModifier, reason, None);
                        return None;
                    }
                },
                other => wide.push(other),
            }
        }
        Some(wide)
    }

    /// Each combination of the values of a pattern's placeholders.
    fn expand(&mut self, pattern: &Pattern, node: &Node, out: &mut Vec<Pattern>) -> Option<()> {
        let mut all = vec![Pattern::default()];
        for part in &pattern.parts {
            let Part::Placeholder(name) = part else {
                all.iter_mut().for_each(|pattern| pattern.push(part.clone()));
                continue;
            };
            let Some(values) = self.placeholders.get(name) else {
                self.unresolved.push((node.at(), name.clone()));
                return Some(());
            };
            if all.len().saturating_mul(values.len()) > ALTERNATIVES_LIMIT {
                let reason = format!("the placeholders have more than {ALTERNATIVES_LIMIT} combinations");
                self.error(node.at(), DiagnosticCode::TooLarge, reason, None);
                return None;
            }
            let longer = |pattern: &Pattern, value: &String| {
                let mut pattern = pattern.clone();
                Pattern::parse(value).parts.into_iter().for_each(|part| pattern.push(part));
                pattern
            };
            all = all
                .iter()
                .flat_map(|pattern| values.iter().map(move |value| longer(pattern, value)))
                .collect();
        }
        out.extend(all);
        Some(())
    }
}

fn text_test(slot: Slot, part: TextPart, cased: bool) -> Expression {
    Expression::test(slot, Check::Text(TextTest { cased, part }))
}

fn described(node: &Node) -> String {
    node.scalar_text().map_or_else(|| node.type_name().to_owned(), |text| format!("`{text}`"))
}

/// Alternatives in which all that is equality to a text of one field is one look-up.
fn joined_equals(tests: Vec<Expression>) -> Vec<Expression> {
    let mut joined = Vec::new();
    let mut rest = Vec::new();
    let mut slot = Slot::ANY_FIELD;
    for test in tests {
        match test {
            Expression::Test(crate::expression::Test {
                slot: own,
                check: Check::Text(TextTest { cased: false, part: TextPart::Equals(text) }),
                negated: false,
            }) => {
                slot = own;
                joined.push(text);
            }
            other => rest.push(other),
        }
    }
    match joined.len() {
        0 => {}
        1 => rest.extend(joined.into_iter().map(|text| text_test(slot, TextPart::Equals(text), false))),
        _ => rest.push(text_test(slot, TextPart::one_of(joined), false)),
    }
    rest
}

/// For `order` of the condition language of correlations.
pub(super) fn order_of(word: &str) -> Option<Order> {
    Some(match word {
        "lt" => Order::Less,
        "lte" => Order::LessOrEqual,
        "gt" => Order::Greater,
        "gte" => Order::GreaterOrEqual,
        "eq" => Order::Equal,
        _ => return None,
    })
}
