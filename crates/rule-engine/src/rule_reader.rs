//! From one JSON object to a rule. Every key is looked at, so that the author
//! sees all errors of a rule at once.

mod exceptions;

use std::sync::Arc;
use std::time::Duration;

use event_model::{ActionKind, Field, ResponseMode, RuleId, RuleScope, Severity};

use crate::condition::{self, Finding};
use crate::diagnostic::{Diagnostic, DiagnosticCode, DiagnosticSeverity};
use crate::expression::{Expression, FieldRef};
use crate::json::{Json, Member, Node, Text};
use crate::nearest::{listed, nearest};
use crate::rule::{Exception, ExceptionHead, MatchMode, ParsedRule, Role, RuleHead, is_hash_field};
use crate::source::{Source, Span};
use crate::telemetry::Telemetry;

/// Every key of a rule.
const RULE_KEYS: &[&str] = &[
    "id",
    "name",
    "description",
    "type",
    "severity",
    "enabled",
    "conditions",
    "actions",
    "match",
    "attack",
    "tags",
    "references",
    "exceptions",
    "mode",
    "terminate_grace",
];

/// Keys of other rule formats, and what they are here.
const FOREIGN_KEYS: &[(&str, &str)] = &[
    ("title", "name"),
    ("level", "severity"),
    ("detection", "conditions"),
    ("filter", "exceptions"),
    ("response", "actions"),
    ("status", "enabled"),
    ("logsource", "type"),
    ("mitre", "attack"),
];

/// Longest list in a rule.
pub(crate) const LIST_LIMIT: usize = 10_000;
/// Longest id, name and tag in characters.
pub(crate) const WORD_LIMIT: usize = 256;
/// Longest description, reason and reference in characters.
const PROSE_LIMIT: usize = 16_384;
/// A process that gets longer than this to end is not being stopped.
const GRACE_LIMIT: Duration = Duration::from_secs(60);
const DEFAULT_GRACE: Duration = Duration::from_secs(1);

/// Reads a rule. `None` where a diagnostic is an error.
pub(crate) fn read_rule(source: &Source<'_>, node: &Node) -> (Option<ParsedRule>, Vec<Diagnostic>) {
    let mut reader = Reader::new(source);
    let rule = reader.rule(node);
    let refused = reader.diagnostics.iter().any(Diagnostic::is_error);
    (rule.filter(|_| !refused), reader.diagnostics)
}

/// Reads the values of keys and keeps what is wrong with them.
pub(crate) struct Reader<'s> {
    pub(crate) source: &'s Source<'s>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The fields that the conditions name, by slot.
    pub(crate) slots: Vec<FieldRef>,
}

/// A field with its place in the source.
pub(crate) struct PlacedField {
    pub(crate) field: Field,
    pub(crate) span: Span,
}

/// Conditions as they were read.
#[derive(Default)]
pub(crate) struct ReadConditions {
    texts: Vec<String>,
    expressions: Vec<Expression>,
    fields: Vec<PlacedField>,
}

/// An exception as it was read.
pub(crate) type ReadException = (ExceptionHead, Exception, Vec<PlacedField>);

impl<'s> Reader<'s> {
    pub(crate) fn new(source: &'s Source<'s>) -> Self {
        Self { source, diagnostics: Vec::new(), slots: Vec::new() }
    }

    pub(crate) fn error(
        &mut self,
        code: DiagnosticCode,
        span: Span,
        reason: impl Into<String>,
        hint: Option<String>,
    ) {
        let place = self.source.place(span);
        self.diagnostics.push(Diagnostic::new(DiagnosticSeverity::Error, code, &place, reason.into(), hint));
    }

    fn rule(&mut self, node: &Node) -> Option<ParsedRule> {
        let Json::Object(members) = &node.value else {
            let reason = format!("{} where a rule should stand", node.value.type_name());
            self.error(
                DiagnosticCode::NotARule,
                node.span,
                reason,
                Some("a rule is an object {…}".to_owned()),
            );
            return None;
        };
        self.refuse_unknown_keys(members, RULE_KEYS, "rules");
        let rule_start = Span { start: node.span.start, end: node.span.start + 1 };
        let key =
            |name: &str| members.iter().find(|member| member.key.decoded == name).map(|member| &member.value);
        for required in ["id", "name", "type", "severity", "conditions", "actions"] {
            if key(required).is_none() {
                let hint = required_hint(required);
                self.error(
                    DiagnosticCode::MissingKey,
                    rule_start,
                    format!("the rule has no `{required}`"),
                    Some(hint),
                );
            }
        }
        let id = key("id").and_then(|node| self.id(node));
        let name = key("name").and_then(|node| self.short_text(node, "name"));
        let description = key("description").and_then(|node| self.prose(node, "description"));
        let scope =
            key("type").and_then(|node| self.word(node, "type", &RuleScope::ALL, |scope| scope.as_str()));
        let severity = key("severity")
            .and_then(|node| self.word(node, "severity", Severity::ALL, |severity| severity.as_str()));
        let enabled = key("enabled").and_then(|node| self.boolean(node, "enabled"));
        let match_modes = [MatchMode::Any, MatchMode::All];
        let match_word = |mode: MatchMode| if mode == MatchMode::Any { "any" } else { "all" };
        let match_mode = key("match").and_then(|node| self.word(node, "match", &match_modes, match_word));
        let mode =
            key("mode").and_then(|node| self.word(node, "mode", ResponseMode::ALL, |mode| mode.as_str()));
        let terminate_grace = key("terminate_grace").and_then(|node| self.grace(node));
        let actions = key("actions").and_then(|node| self.actions(node));
        let attack = key("attack").map(|node| self.attack(node)).unwrap_or_default();
        let tags = key("tags").map(|node| self.texts(node, "tags", WORD_LIMIT)).unwrap_or_default();
        let references =
            key("references").map(|node| self.texts(node, "references", PROSE_LIMIT)).unwrap_or_default();
        let conditions = key("conditions").map(|node| self.conditions(node, "conditions", scope));
        let exceptions = key("exceptions").map(|node| self.exceptions(node, scope)).unwrap_or_default();

        let head = RuleHead {
            id: id?,
            name: name?,
            description: description.unwrap_or_default(),
            scope: scope?,
            severity: severity?,
            enabled: enabled.unwrap_or(true),
            mode: mode.unwrap_or(ResponseMode::Detect),
            actions: actions?,
            match_mode: match_mode.unwrap_or(MatchMode::Any),
            attack,
            tags,
            references,
            terminate_grace: terminate_grace.unwrap_or(DEFAULT_GRACE),
            conditions: Vec::new(),
            exceptions: Vec::new(),
        };
        let id_span = key("id").map_or(rule_start, |node| node.span);
        self.assemble(head, conditions?, exceptions, node.span, id_span)
    }

    /// Puts a rule together from its head, whose conditions and exceptions are still empty.
    pub(crate) fn assemble(
        &mut self,
        mut head: RuleHead,
        mut conditions: ReadConditions,
        exceptions: Vec<ReadException>,
        span: Span,
        id_span: Span,
    ) -> Option<ParsedRule> {
        let mut fields = std::mem::take(&mut conditions.fields);
        fields.extend(exceptions.iter().flat_map(|(_, _, fields)| {
            fields.iter().map(|placed| PlacedField { field: placed.field, span: placed.span })
        }));
        let telemetry = self.telemetry(head.scope, &fields)?;
        let (exception_heads, exceptions) =
            exceptions.into_iter().map(|(head, exception, _)| (head, exception)).unzip();
        head.conditions = conditions.texts;
        head.exceptions = exception_heads;
        Some(ParsedRule {
            head: Arc::new(head),
            text: self.source.text.get(span.start..span.end)?.into(),
            place: self.source.place(id_span),
            telemetry,
            log_source: None,
            name: None,
            role: Role::Events,
            fields: std::mem::take(&mut self.slots),
            filters: Vec::new(),
            needs_hash: fields.iter().any(|placed| is_hash_field(placed.field)),
            conditions: conditions.expressions,
            exceptions,
        })
    }

    pub(crate) fn refuse_unknown_keys(
        &mut self,
        members: &[Member],
        known: &'static [&'static str],
        of: &str,
    ) {
        for member in members {
            let key = member.key.decoded.as_str();
            if known.contains(&key) {
                continue;
            }
            let foreign = FOREIGN_KEYS.iter().find(|(foreign, here)| *foreign == key && known.contains(here));
            let hint = match foreign.map(|(_, here)| *here).or_else(|| nearest(key, known.iter().copied())) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("{of} have {}", listed(known.iter().copied())),
            };
            self.error(
                DiagnosticCode::UnknownKey,
                member.key_span,
                format!("{of} have no key `{key}`"),
                Some(hint),
            );
        }
    }

    pub(crate) fn wrong_type(&mut self, node: &Node, key: &str, wanted: &str, hint: Option<&str>) {
        let reason = format!("`{key}` is {}; it should be {wanted}", node.value.type_name());
        self.error(DiagnosticCode::WrongType, node.span, reason, hint.map(str::to_owned));
    }

    pub(crate) fn text<'n>(&mut self, node: &'n Node, key: &str, limit: usize) -> Option<&'n Text> {
        let Json::Text(text) = &node.value else {
            self.wrong_type(node, key, "a string", None);
            return None;
        };
        let length = text.decoded.chars().count();
        if length > limit {
            let reason = format!("`{key}` has {length} characters; the limit is {limit}");
            self.error(DiagnosticCode::TooLarge, node.span, reason, None);
            return None;
        }
        Some(text)
    }

    /// A text that stands in lists and logs: one line, not empty.
    pub(crate) fn short_text(&mut self, node: &Node, key: &str) -> Option<String> {
        let text = &self.text(node, key, WORD_LIMIT)?.decoded;
        if text.trim().is_empty() {
            self.error(DiagnosticCode::BadValue, node.span, format!("`{key}` is empty"), None);
            return None;
        }
        if text.chars().any(char::is_control) {
            let reason = format!("`{key}` has a control character in it");
            self.error(DiagnosticCode::BadValue, node.span, reason, None);
            return None;
        }
        Some(text.clone())
    }

    pub(crate) fn prose(&mut self, node: &Node, key: &str) -> Option<String> {
        self.text(node, key, PROSE_LIMIT).map(|text| text.decoded.clone())
    }

    pub(crate) fn boolean(&mut self, node: &Node, key: &str) -> Option<bool> {
        if let Json::Boolean(truth) = node.value {
            return Some(truth);
        }
        self.wrong_type(node, key, "true or false", Some("without quotes"));
        None
    }

    /// One of a closed set of words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        node: &Node,
        key: &str,
        all: &[T],
        word_of: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        let text = &self.text(node, key, WORD_LIMIT)?.decoded;
        if let Some(found) = all.iter().find(|candidate| word_of(**candidate) == text) {
            return Some(*found);
        }
        let words = || all.iter().map(|candidate| word_of(*candidate));
        let hint = match nearest(text, words()) {
            Some(nearest) => format!("did you mean `{nearest}`? allowed are {}", listed(words())),
            None => format!("allowed are {}", listed(words())),
        };
        self.error(DiagnosticCode::BadValue, node.span, format!("`{text}` is no {key}"), Some(hint));
        None
    }

    pub(crate) fn id(&mut self, node: &Node) -> Option<RuleId> {
        match &node.value {
            Json::Number => {
                let digits = self.source.text.get(node.span.start..node.span.end)?;
                if digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= 20 {
                    return Some(RuleId::new(digits));
                }
                let hint = "for example 1001, or a string such as \"web-shell\"".to_owned();
                let reason = format!("`{digits}` is no rule id: a number must be whole and not negative");
                self.error(DiagnosticCode::BadNumber, node.span, reason, Some(hint));
                None
            }
            Json::Text(_) => {
                let text = self.short_text(node, "id")?;
                if text.contains(char::is_whitespace) {
                    let reason = "`id` has white space in it";
                    self.error(
                        DiagnosticCode::BadValue,
                        node.span,
                        reason,
                        Some("use `-` or `_`".to_owned()),
                    );
                    return None;
                }
                Some(RuleId::new(text))
            }
            _ => {
                self.wrong_type(node, "id", "a number or a string", None);
                None
            }
        }
    }

    pub(crate) fn list<'n>(&mut self, node: &'n Node, key: &str) -> Option<&'n [Node]> {
        let Json::List(items) = &node.value else {
            self.wrong_type(node, key, "a list", Some("put it in [ ]"));
            return None;
        };
        if items.len() > LIST_LIMIT {
            let reason = format!("`{key}` has {} items; the limit is {LIST_LIMIT}", items.len());
            self.error(DiagnosticCode::TooLarge, node.span, reason, None);
            return None;
        }
        Some(items)
    }

    fn texts(&mut self, node: &Node, key: &str, limit: usize) -> Vec<String> {
        let items = self.list(node, key).unwrap_or_default();
        items.iter().filter_map(|item| Some(self.text(item, key, limit)?.decoded.clone())).collect()
    }

    fn actions(&mut self, node: &Node) -> Option<Vec<ActionKind>> {
        let items = self.list(node, "actions")?;
        if items.is_empty() {
            let hint = "a rule that does nothing is `\"enabled\": false`; most have \"alert\"".to_owned();
            self.error(DiagnosticCode::BadValue, node.span, "`actions` is empty", Some(hint));
        }
        let mut actions = Vec::new();
        for item in items {
            if let Some(action) = self.word(item, "action", ActionKind::ALL, |action| action.as_str())
                && !actions.contains(&action)
            {
                actions.push(action);
            }
        }
        Some(actions)
    }

    pub(crate) fn attack(&mut self, node: &Node) -> Vec<String> {
        let ids = self.list(node, "attack").unwrap_or_default();
        let mut techniques = Vec::new();
        for item in ids {
            let Some(text) = self.text(item, "attack", WORD_LIMIT) else { continue };
            if is_technique(&text.decoded) {
                techniques.push(text.decoded.clone());
            } else {
                let reason = format!("`{}` is no ATT&CK technique id", text.decoded);
                let hint = Some("write T1059 or, for a sub-technique, T1059.001".to_owned());
                self.error(DiagnosticCode::BadValue, item.span, reason, hint);
            }
        }
        techniques
    }

    fn grace(&mut self, node: &Node) -> Option<Duration> {
        let text = &self.text(node, "terminate_grace", WORD_LIMIT)?.decoded;
        match parse_duration(text) {
            Some(grace) if grace <= GRACE_LIMIT => Some(grace),
            Some(_) => {
                let hint = Some(format!("the limit is {}s", GRACE_LIMIT.as_secs()));
                self.error(
                    DiagnosticCode::BadValue,
                    node.span,
                    format!("`{text}` is too long a grace"),
                    hint,
                );
                None
            }
            None => {
                let hint = Some("write a whole number of `ms` or `s`: \"0s\", \"500ms\", \"5s\"".to_owned());
                self.error(DiagnosticCode::BadValue, node.span, format!("`{text}` is no duration"), hint);
                None
            }
        }
    }

    pub(crate) fn conditions(&mut self, node: &Node, key: &str, scope: Option<RuleScope>) -> ReadConditions {
        let mut read = ReadConditions::default();
        self.more_conditions(node, key, scope, &mut read);
        read
    }

    /// Adds a list of conditions to those that were read before.
    pub(crate) fn more_conditions(
        &mut self,
        node: &Node,
        key: &str,
        scope: Option<RuleScope>,
        read: &mut ReadConditions,
    ) {
        let Some(items) = self.list(node, key) else { return };
        if items.is_empty() {
            let hint = Some("for example [\"name contains 'trojan'\"]".to_owned());
            self.error(DiagnosticCode::BadValue, node.span, format!("`{key}` is empty"), hint);
        }
        for item in items {
            self.condition(item, key, scope, read);
        }
    }

    fn condition(&mut self, node: &Node, key: &str, scope: Option<RuleScope>, read: &mut ReadConditions) {
        let Json::Text(text) = &node.value else {
            let hint = "a condition is a string, for example \"name contains 'trojan'\"";
            return self.wrong_type(node, key, "a list of strings", Some(hint));
        };
        // Without a type the fields are unknown; what is wrong with the type is told elsewhere.
        let Some(scope) = scope else { return };
        let (bound, findings) =
            condition::read(&text.decoded, condition::Vocabulary::Rule(scope), &mut self.slots);
        for Finding { severity, code, range, reason, hint } in findings {
            let place = self.source.place(text.source_span(range));
            self.diagnostics.push(Diagnostic::new(severity, code, &place, reason, hint));
        }
        if let Some(bound) = bound {
            let placed = bound.fields.into_iter();
            read.fields.extend(
                placed.map(|used| PlacedField { field: used.field, span: text.source_span(used.range) }),
            );
            read.expressions.push(bound.expression);
            read.texts.push(text.decoded.clone());
        }
    }

    /// Adds a condition that stands nowhere in the source; what is wrong with it is told at `span`.
    pub(crate) fn made_condition(
        &mut self,
        text: String,
        span: Span,
        scope: RuleScope,
        read: &mut ReadConditions,
    ) {
        let (bound, findings) = condition::read(&text, condition::Vocabulary::Rule(scope), &mut self.slots);
        for Finding { severity, code, reason, hint, .. } in findings {
            self.diagnostics.push(Diagnostic::new(severity, code, &self.source.place(span), reason, hint));
        }
        if let Some(bound) = bound {
            read.fields.extend(bound.fields.into_iter().map(|used| PlacedField { field: used.field, span }));
            read.expressions.push(bound.expression);
            read.texts.push(text);
        }
    }

    /// The first source of the rule's type whose events have all its fields.
    fn telemetry(&mut self, scope: RuleScope, fields: &[PlacedField]) -> Option<Telemetry> {
        let candidates = Telemetry::of_scope(scope);
        let carries_all =
            |telemetry: &&Telemetry| fields.iter().all(|placed| telemetry.carries(placed.field));
        if let Some(telemetry) = candidates.iter().find(carries_all) {
            return Some(*telemetry);
        }
        // Tell of the first field that the events of those before it don't have.
        let mut possible: Vec<Telemetry> = candidates.to_vec();
        for placed in fields {
            let left: Vec<Telemetry> =
                possible.iter().copied().filter(|it| it.carries(placed.field)).collect();
            if left.is_empty() {
                let spelling = self.source.text.get(placed.span.start..placed.span.end).unwrap_or_default();
                let events = possible.iter().map(|it| it.describe()).collect::<Vec<_>>().join(" or ");
                let reason = format!(
                    "the rule can never fire: its other fields are of {events}, which have no `{spelling}`"
                );
                let hint = Some("split the rule into one for each kind of event".to_owned());
                self.error(DiagnosticCode::MixedEvents, placed.span, reason, hint);
                return None;
            }
            possible = left;
        }
        None
    }
}

fn required_hint(key: &str) -> String {
    match key {
        "id" => "add a number or string that no other rule has: \"id\": 1001".to_owned(),
        "name" => "add \"name\": \"what the rule finds\"".to_owned(),
        "type" => format!("add \"type\": one of {}", listed(RuleScope::ALL.map(RuleScope::as_str))),
        "severity" => {
            format!("add \"severity\": one of {}", listed(Severity::ALL.iter().map(|it| it.as_str())))
        }
        "conditions" => "add \"conditions\": [\"name contains 'trojan'\"]".to_owned(),
        _ => "add \"actions\": [\"alert\"]".to_owned(),
    }
}

/// `T1234` or `T1234.001`.
fn is_technique(text: &str) -> bool {
    let digits =
        |part: &str, count: usize| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
    let Some(rest) = text.strip_prefix('T') else { return false };
    match rest.split_once('.') {
        Some((technique, sub)) => digits(technique, 4) && digits(sub, 3),
        None => digits(rest, 4),
    }
}

/// `5s`, `500ms`.
fn parse_duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = digits.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}
