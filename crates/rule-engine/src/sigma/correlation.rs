//! Correlation and filter documents.

use std::sync::Arc;

use super::condition;
use super::detection::order_of;
use super::rule::DocumentReader;
use crate::correlation::{Bound, Correlation, CorrelationKind, ENTRIES_LIMIT, Measure};
use crate::diagnostic::DiagnosticCode;
use crate::expression::Order;
use crate::nearest::{listed, nearest};
use crate::rule::{FilterTargets, ParsedRule, Role};
use crate::telemetry::Telemetry;
use crate::yaml::{Node, Yaml};

const TYPES: &[&str] = &[
    "event_count",
    "value_count",
    "temporal",
    "temporal_ordered",
    "value_sum",
    "value_avg",
    "value_percentile",
    "value_median",
];
const KEYS: &[&str] = &["type", "rules", "group-by", "timespan", "condition", "aliases", "generate"];
/// Most rules that one correlation refers to, and most fields it groups by.
const REFERENCES_LIMIT: usize = 1_000;
const GROUP_BY_LIMIT: usize = 32;

impl DocumentReader<'_> {
    /// A rule over the matches of other rules.
    pub(super) fn correlation(&mut self, root: &Node, text: Arc<str>) -> Option<ParsedRule> {
        let head = self.head(root, None);
        let node = root.get("correlation")?;
        let Some(keys) = node.map() else {
            let reason = format!("`correlation` is {}; it should be a map", node.type_name());
            self.error(node.at(), DiagnosticCode::WrongType, reason, None);
            return None;
        };
        for (key, _) in keys {
            let name = key.scalar_text().unwrap_or_default();
            if !KEYS.contains(&name.as_str()) {
                let hint = nearest(&name, KEYS.iter().copied()).map(|near| format!("did you mean `{near}`?"));
                let reason = format!("correlations have no key `{name}`");
                self.error(key.at(), DiagnosticCode::UnknownKey, reason, hint.as_deref());
            }
        }
        let rules = self.references(node, "rules");
        let timespan = self.timespan(node);
        let (kind, condition_text) = self.kind(node)?;
        let aliases = self.aliases(node);
        let group_by: Vec<String> = node
            .get("group-by")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(Node::scalar_text)
            .collect();
        if group_by.len() > GROUP_BY_LIMIT {
            let reason = format!("`group-by` has more than {GROUP_BY_LIMIT} fields");
            self.error(node.at(), DiagnosticCode::TooLarge, reason, None);
            return None;
        }
        // Old rules say it beside `correlation`.
        let generate = node.get("generate").or_else(|| root.get("generate"));
        let generate = generate.is_some_and(|node| matches!(node.value, Yaml::Boolean(true)));
        let mut head = head?;
        head.conditions = vec![condition_text];
        let correlation =
            Correlation { kind, rules: rules?, group_by, timespan_ns: timespan?, aliases, generate };
        Some(ParsedRule {
            head: Arc::new(head),
            text,
            place: self.id_place(root),
            telemetry: Telemetry::EventLog,
            log_source: None,
            name: root.get("name").and_then(Node::scalar_text),
            role: Role::Correlation(Arc::new(correlation)),
            needs_hash: false,
            fields: Vec::new(),
            conditions: Vec::new(),
            filters: Vec::new(),
            exceptions: Vec::new(),
        })
    }

    /// What is added to the conditions of other rules.
    pub(super) fn filter(&mut self, root: &Node, text: Arc<str>) -> Option<ParsedRule> {
        let log_source = self.log_source(root);
        let detections = self.detections(root, "filter");
        let head = self.head(root, None);
        let node = root.get("filter")?;
        let targets = match node.get("rules") {
            None => {
                let hint = Some("list ids or names of rules, or write `rules: any`");
                self.error(node.at(), DiagnosticCode::MissingKey, "the filter has no `rules`", hint);
                None
            }
            Some(rules) if rules.text() == Some("any") => Some(FilterTargets::Any),
            Some(_) => self.references(node, "rules").map(FilterTargets::Rules),
        };
        let (log_source, detections, mut head) = (log_source?, detections?, head?);
        if !detections.has_not {
            let at = node.get("condition").map_or(node.at(), Node::at);
            let reason = "the filter's condition has no `not`: rules match only where it holds";
            let hint = Some("to leave out what it describes, write `not selection`");
            self.warning(at, DiagnosticCode::FilterKeeps, reason, hint);
        }
        // What is never true would hide everything, or nothing where it stands behind `not`.
        self.tell_unresolved(&detections, "the filter loads and is added to no rule");
        head.enabled &= detections.unresolved.is_empty();
        head.conditions = detections.texts;
        Some(ParsedRule {
            head: Arc::new(head),
            text,
            place: self.id_place(root),
            telemetry: Telemetry::of_category(log_source.category.as_deref()),
            log_source: Some(log_source),
            name: None,
            role: Role::Filter(targets?),
            needs_hash: detections.fields.iter().any(super::rule::is_hash),
            fields: detections.fields,
            conditions: detections.conditions,
            filters: Vec::new(),
            exceptions: Vec::new(),
        })
    }

    /// Ids or names of rules.
    fn references(&mut self, node: &Node, key: &str) -> Option<Vec<String>> {
        let list = node.get(key).map(Node::items).unwrap_or_default();
        let names: Vec<String> = list.iter().filter_map(Node::scalar_text).collect();
        if names.is_empty() || names.len() > REFERENCES_LIMIT || names.len() < list.len() {
            let at = node.get(key).map_or(node.at(), Node::at);
            let reason = format!("`{key}` should list 1 to {REFERENCES_LIMIT} ids or names of rules");
            self.error(at, DiagnosticCode::BadValue, reason, None);
            return None;
        }
        Some(names)
    }

    fn timespan(&mut self, node: &Node) -> Option<i64> {
        let Some(span) = node.get("timespan") else {
            let hint = Some("for example `timespan: 5m`");
            self.error(node.at(), DiagnosticCode::MissingKey, "the correlation has no `timespan`", hint);
            return None;
        };
        let text = span.scalar_text().unwrap_or_default();
        let parsed = timespan_ns(&text);
        if parsed.is_none() {
            let reason = format!("`{text}` is no timespan");
            let hint = Some("write a whole number of `s`, `m`, `h` or `d`, at most 365d");
            self.error(span.at(), DiagnosticCode::BadValue, reason, hint);
        }
        parsed
    }

    /// The type with its condition, and the condition as text for people.
    fn kind(&mut self, node: &Node) -> Option<(CorrelationKind, String)> {
        let at = node.get("type").map_or(node.at(), Node::at);
        let word = node.get("type").and_then(Node::scalar_text).unwrap_or_default();
        if !TYPES.contains(&word.as_str()) {
            let hint = match nearest(&word, TYPES.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("allowed are {}", listed(TYPES.iter().copied())),
            };
            let reason = format!("`{word}` is no type of correlation");
            self.error(at, DiagnosticCode::BadValue, reason, Some(&hint));
            return None;
        }
        if word.starts_with("temporal") {
            return self.temporal(node, &word);
        }
        let Some(condition) = node.get("condition").filter(|condition| condition.map().is_some()) else {
            let hint = Some("for example `condition: {gte: 10}`");
            let reason = format!("`{word}` wants a `condition` that is a map");
            self.error(node.get("condition").map_or(at, Node::at), DiagnosticCode::MissingKey, reason, hint);
            return None;
        };
        let Bounded { bounds, field, percentile, text } = self.bounds(condition)?;
        let field = field.filter(|fields| !fields.is_empty());
        let measure = match (word.as_str(), field) {
            ("event_count", _) => Measure::Events,
            (_, None) => {
                let reason = format!("`{word}` wants a `field` in its condition");
                self.error(condition.at(), DiagnosticCode::MissingKey, reason, None);
                return None;
            }
            ("value_count", Some(fields)) => {
                if bounds.iter().any(|bound| bound.is_beyond(ENTRIES_LIMIT)) {
                    let reason = format!("`value_count` counts up to {ENTRIES_LIMIT} different values");
                    let hint = Some("ask for fewer; `event_count` has no such limit");
                    self.error(condition.at(), DiagnosticCode::TooLarge, reason, hint);
                    return None;
                }
                Measure::Distinct(fields)
            }
            (_, Some(fields)) if fields.len() > 1 => {
                let reason = format!("`{word}` wants one `field`: several together are no number");
                let hint =
                    Some("write a correlation for each; `value_count` counts values of several together");
                self.error(condition.at(), DiagnosticCode::BadValue, reason, hint);
                return None;
            }
            ("value_sum", Some(fields)) => Measure::Sum(fields),
            ("value_avg", Some(fields)) => Measure::Average(fields),
            ("value_median", Some(fields)) => Measure::Median(fields),
            (_, Some(fields)) => Measure::Percentile(fields, percentile),
        };
        Some((CorrelationKind::Measured(measure, bounds), format!("{word} {text}")))
    }

    /// A condition that is a map.
    fn bounds(&mut self, condition: &Node) -> Option<Bounded> {
        let (mut bounds, mut field, mut percentile, mut shown) = (Vec::new(), None, 50.0, Vec::new());
        for (key, value) in condition.map().unwrap_or_default() {
            let key_word = key.scalar_text().unwrap_or_default();
            let number =
                value.scalar_text().and_then(|text| text.parse::<f64>().ok()).filter(|it| it.is_finite());
            match (key_word.as_str(), number) {
                ("field", _) => {
                    field = Some(value.items().iter().filter_map(Node::scalar_text).collect::<Vec<_>>());
                    continue;
                }
                ("percentile", Some(number)) if (0.0..=100.0).contains(&number) => percentile = number,
                ("neq", Some(number)) => bounds.push(Bound::Not(number)),
                (order, Some(number)) if order_of(order).is_some() => {
                    bounds.extend(order_of(order).map(|order| Bound::Is(order, number)));
                }
                _ => {
                    let reason = format!("`{key_word}` with {} is no condition", value.type_name());
                    let hint =
                        Some("allowed are gt, gte, lt, lte, eq and neq with a number, field, percentile");
                    self.error(key.at(), DiagnosticCode::BadValue, reason, hint);
                    return None;
                }
            }
            shown.push(format!("{key_word} {}", value.scalar_text().unwrap_or_default()));
        }
        if bounds.is_empty() {
            let hint = Some("for example `gte: 10`");
            self.error(condition.at(), DiagnosticCode::MissingKey, "the condition has no bound", hint);
            return None;
        }
        Some(Bounded { bounds, field, percentile, text: shown.join(", ") })
    }

    /// `temporal` with a map: how many of the rules must have matched.
    fn counted_rules(
        &mut self,
        condition: &Node,
        word: &str,
        rules: usize,
    ) -> Option<(CorrelationKind, String)> {
        let Bounded { bounds, text, .. } = self.bounds(condition)?;
        let text = format!("{word} {text}");
        #[expect(clippy::cast_precision_loss, reason = "at most REFERENCES_LIMIT")]
        let (all, too_few) = (rules as f64, rules as f64 - 1.0);
        if word == "temporal_ordered" {
            let asks_for_all = |bound: &Bound| match bound {
                Bound::Is(Order::Greater, number) => *number >= too_few && *number < all,
                Bound::Is(Order::GreaterOrEqual | Order::Equal, number) => {
                    *number > too_few && *number <= all
                }
                _ => false,
            };
            if bounds.iter().all(asks_for_all) {
                return Some((CorrelationKind::Ordered, text));
            }
            let hint = Some("leave the condition out: each rule must match");
            let reason = "`temporal_ordered` can't be asked for some of its rules only";
            self.error(condition.at(), DiagnosticCode::BadCondition, reason, hint);
            return None;
        }
        if bounds.iter().any(|bound| bound.is_out_of_reach(rules)) {
            let reason = format!("the condition counts rules, and there are {rules}");
            self.error(condition.at(), DiagnosticCode::BadCondition, reason, None);
            return None;
        }
        Some((CorrelationKind::Measured(Measure::Rules, bounds), text))
    }

    fn temporal(&mut self, node: &Node, word: &str) -> Option<(CorrelationKind, String)> {
        let is_ordered = word == "temporal_ordered";
        let Some(condition) = node.get("condition") else {
            let kind = if is_ordered { CorrelationKind::Ordered } else { CorrelationKind::Together(None) };
            return Some((kind, word.to_owned()));
        };
        if condition.map().is_some() {
            let rules = node.get("rules").map_or(0, |rules| rules.items().len());
            return self.counted_rules(condition, word, rules);
        }
        let Some(text) = condition.text().filter(|_| !is_ordered) else {
            let hint = Some("leave it out: every rule must match");
            let reason = format!("`{word}` can't have this condition");
            self.error(condition.at(), DiagnosticCode::BadCondition, reason, hint);
            return None;
        };
        match condition::parse(text) {
            Ok(tree) if condition::has_not(&tree) => {
                let hint = Some("write it as a correlation of what does happen");
                let reason = "a condition over rules can't have `not`: nobody knows what is still to come";
                self.error(condition.at(), DiagnosticCode::BadCondition, reason, hint);
                None
            }
            Ok(tree) => Some((CorrelationKind::Together(Some(tree)), format!("{word}: {text}"))),
            Err(error) => {
                let at = condition.part_at(text, error.range);
                self.error(at, error.code, error.reason, error.hint.as_deref());
                None
            }
        }
    }

    /// For each alias, the field it is in each rule.
    fn aliases(&mut self, node: &Node) -> Vec<(String, Vec<(String, String)>)> {
        let aliases = node.get("aliases").and_then(Node::map).unwrap_or_default();
        let of_rules = |fields: &Node| {
            let fields = fields.map().unwrap_or_default().iter();
            fields.filter_map(|(rule, field)| Some((rule.scalar_text()?, field.scalar_text()?))).collect()
        };
        aliases.iter().filter_map(|(alias, fields)| Some((alias.scalar_text()?, of_rules(fields)))).collect()
    }
}

/// What a condition that is a map says.
struct Bounded {
    bounds: Vec<Bound>,
    field: Option<Vec<String>>,
    percentile: f64,
    /// For people.
    text: String,
}

/// `30s`, `5m`, `1h`, `7d` in nanoseconds.
fn timespan_ns(text: &str) -> Option<i64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: i64 = digits.parse().ok()?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let seconds = number.checked_mul(seconds)?;
    (1..=365 * 86_400).contains(&seconds).then(|| seconds * 1_000_000_000)
}
