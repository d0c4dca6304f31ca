//! One rule document.

use std::sync::Arc;
use std::time::Duration;

use event_model::{ActionKind, ResponseMode, RuleId, RuleScope, Severity};

use super::SigmaOptions;
use super::condition::{self, ConditionError};
use super::detection::DetectionReader;
use crate::diagnostic::{Diagnostic, DiagnosticCode, DiagnosticSeverity};
use crate::expression::{Expression, FieldRef};
use crate::group::SYSMON_HASHES;
use crate::log_source::LogSource;
use crate::nearest::{listed, nearest};
use crate::rule::{MatchMode, ParsedRule, Role, RuleHead};
use crate::telemetry::Telemetry;
use crate::yaml::{At, Node, Yaml};

/// Longest title and tag in characters.
const WORD_LIMIT: usize = 1_024;
/// Longest description in characters; what is longer is cut.
const PROSE_LIMIT: usize = 16_384;

/// Reads one document of a kind and keeps what is wrong with it.
pub(super) struct DocumentReader<'a> {
    pub(super) file: &'a Arc<str>,
    pub(super) options: &'a SigmaOptions,
    /// Of documents that have their id from one other document, which this is: ids must differ.
    pub(super) nth_of_id: usize,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl DocumentReader<'_> {
    pub(super) fn error(
        &mut self,
        at: At,
        code: DiagnosticCode,
        reason: impl Into<String>,
        hint: Option<&str>,
    ) {
        self.tell(DiagnosticSeverity::Error, at, code, reason.into(), hint.map(str::to_owned));
    }

    pub(super) fn warning(
        &mut self,
        at: At,
        code: DiagnosticCode,
        reason: impl Into<String>,
        hint: Option<&str>,
    ) {
        self.tell(DiagnosticSeverity::Warning, at, code, reason.into(), hint.map(str::to_owned));
    }

    fn tell(
        &mut self,
        severity: DiagnosticSeverity,
        at: At,
        code: DiagnosticCode,
        reason: String,
        hint: Option<String>,
    ) {
        self.diagnostics.push(Diagnostic::new(severity, code, &at.place(self.file), reason, hint));
    }

    /// A rule that judges events.
    pub(super) fn rule(&mut self, root: &Node, text: Arc<str>) -> Option<ParsedRule> {
        let log_source = self.log_source(root);
        let detections = self.detections(root, "detection");
        let head = self.head(root, log_source.as_ref());
        let (log_source, detections, mut head) = (log_source?, detections?, head?);
        self.tell_unresolved(&detections, "the rule loads and is not judged");
        head.enabled &= detections.unresolved.is_empty();
        for (at, condition) in detections.places.iter().zip(&detections.conditions) {
            if condition.is_always_true() {
                let reason = "the condition is true for every event that has its fields";
                let hint = Some("name a value that only some events have");
                self.warning(*at, DiagnosticCode::AlwaysTrue, reason, hint);
            }
        }
        head.conditions = detections.texts;
        Some(ParsedRule {
            head: Arc::new(head),
            text,
            place: self.id_place(root),
            telemetry: Telemetry::of_category(log_source.category.as_deref()),
            log_source: Some(log_source),
            name: root.get("name").and_then(Node::scalar_text),
            role: Role::Events,
            needs_hash: detections.fields.iter().any(is_hash),
            fields: detections.fields,
            conditions: detections.conditions,
            filters: Vec::new(),
            exceptions: Vec::new(),
        })
    }

    /// Warns of placeholders without values. Only `edr` takes a file with them; agents and the server have none.
    pub(super) fn tell_unresolved(&mut self, detections: &Detections, consequence: &str) {
        for (at, name) in &detections.unresolved {
            let reason = format!("placeholder `%{name}%` has no values: {consequence}");
            let hint = Some(
                "a file `NAME.placeholders.yml` in the rules' folder gives it some; in a rule that the server keeps, write them",
            );
            self.warning(*at, DiagnosticCode::NoPlaceholder, reason, hint);
        }
    }

    pub(super) fn id_place(&self, root: &Node) -> crate::source::Place {
        let named = root.get("id").or_else(|| root.get("title")).unwrap_or(root);
        named.at().place(self.file)
    }

    /// What a document says of itself, without its conditions.
    pub(super) fn head(&mut self, root: &Node, log_source: Option<&LogSource>) -> Option<RuleHead> {
        let title = self.title(root);
        let severity = self.level(root);
        let id = self.id(root, title.as_deref());
        let (enabled, mode, actions) = self.switches(root);
        let texts = |key: &str| {
            let items = root.get(key).map(Node::items).unwrap_or_default();
            items.iter().filter_map(Node::scalar_text).collect::<Vec<String>>()
        };
        let tags = texts("tags");
        let attack = tags.iter().filter_map(|tag| technique_of(tag)).collect();
        let description = root.get("description").and_then(Node::scalar_text).unwrap_or_default();
        Some(RuleHead {
            id: id?,
            name: title?,
            description: description.chars().take(PROSE_LIMIT).collect(),
            scope: scope_of(log_source.and_then(|source| source.category.as_deref())),
            severity: severity?,
            enabled,
            mode,
            actions,
            match_mode: MatchMode::Any,
            attack,
            tags,
            references: texts("references"),
            terminate_grace: Duration::from_secs(1),
            conditions: Vec::new(),
            exceptions: Vec::new(),
        })
    }

    /// What Sigma has no words for, with the keys and words of native rules: `enabled`, `mode`, `actions`.
    fn switches(&mut self, root: &Node) -> (bool, ResponseMode, Vec<ActionKind>) {
        let enabled = self.word(root.get("enabled"), &["true", "false"], |word| match word {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        });
        let modes: Vec<&str> = ResponseMode::ALL.iter().map(|mode| mode.as_str()).collect();
        let mode = self.word(root.get("mode"), &modes, ResponseMode::from_word);
        let words: Vec<&str> = ActionKind::ALL.iter().map(|action| action.as_str()).collect();
        let items = root.get("actions").map(Node::items).unwrap_or_default();
        let mut actions: Vec<ActionKind> =
            items.iter().filter_map(|item| self.word(Some(item), &words, ActionKind::from_word)).collect();
        if actions.is_empty() {
            actions.push(ActionKind::Alert);
        }
        (enabled.unwrap_or(true), mode.unwrap_or(ResponseMode::Detect), actions)
    }

    /// The value of a node that is one of some words; `None` where there is no node.
    fn word<T>(
        &mut self,
        node: Option<&Node>,
        words: &[&str],
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let node = node?;
        let word = node.scalar_text().unwrap_or_default();
        let found = read(&word);
        if found.is_none() {
            let hint = match nearest(&word, words.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("allowed are {}", listed(words.iter().copied())),
            };
            let reason = if word.is_empty() {
                format!("{} where one word should stand", node.type_name())
            } else {
                format!("`{word}` is not known here")
            };
            self.error(node.at(), DiagnosticCode::BadValue, reason, Some(&hint));
        }
        found
    }

    fn title(&mut self, root: &Node) -> Option<String> {
        match root.get("title").map(|title| (title, title.scalar_text())) {
            Some((_, Some(title))) if !title.trim().is_empty() && title.chars().count() <= WORD_LIMIT => {
                Some(title)
            }
            Some((node, _)) => {
                let reason = format!("`title` should be a text of 1 to {WORD_LIMIT} characters");
                self.error(node.at(), DiagnosticCode::BadValue, reason, None);
                None
            }
            None => {
                let hint = Some("add `title: what the rule finds`");
                self.error(root.at(), DiagnosticCode::MissingKey, "the rule has no `title`", hint);
                None
            }
        }
    }

    fn level(&mut self, root: &Node) -> Option<Severity> {
        let Some(node) = root.get("level") else { return Some(Severity::Medium) };
        let word = node.scalar_text().unwrap_or_default();
        let found = Severity::ALL.iter().find(|severity| severity.as_str() == word.to_ascii_lowercase());
        if found.is_none() {
            let words = || Severity::ALL.iter().map(|severity| severity.as_str());
            let hint = match nearest(&word, words()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("allowed are {}", listed(words())),
            };
            let reason = format!("`{word}` is no level");
            self.error(node.at(), DiagnosticCode::BadValue, reason, Some(&hint));
        }
        found.copied()
    }

    /// The id; without one, the title stands for it.
    fn id(&mut self, root: &Node, title: Option<&str>) -> Option<RuleId> {
        match root.get("id") {
            None => Some(self.own_id(title?.split_whitespace().collect::<Vec<_>>().join("-"))),
            Some(node) => {
                let id = node.scalar_text().unwrap_or_default();
                let is_word = !id.is_empty() && id.len() <= WORD_LIMIT;
                if !is_word || id.chars().any(|it| it.is_whitespace() || it.is_control()) {
                    let hint = Some("an id is a UUID");
                    self.error(node.at(), DiagnosticCode::BadValue, "`id` is no id", hint);
                    return None;
                }
                Some(self.own_id(id))
            }
        }
    }

    fn own_id(&self, id: String) -> RuleId {
        RuleId::new(if self.nth_of_id > 1 { format!("{id}-{}", self.nth_of_id) } else { id })
    }

    pub(super) fn log_source(&mut self, root: &Node) -> Option<LogSource> {
        let Some(node) = root.get("logsource") else {
            let hint = Some("add `logsource:` with `product`, `category` or `service`");
            self.error(root.at(), DiagnosticCode::MissingKey, "the rule has no `logsource`", hint);
            return None;
        };
        if node.map().is_none() {
            let reason = format!("`logsource` is {}; it should be a map", node.type_name());
            self.error(node.at(), DiagnosticCode::WrongType, reason, None);
            return None;
        }
        let part = |key: &str| node.get(key).and_then(Node::scalar_text).map(|word| word.to_lowercase());
        let own =
            LogSource { product: part("product"), category: part("category"), service: part("service") };
        if own == LogSource::default() {
            let reason = "`logsource` has neither `product` nor `category` nor `service`";
            self.error(node.at(), DiagnosticCode::MissingKey, reason, None);
            return None;
        }
        Some(own)
    }

    /// What stands under `detection` of a rule, or under `filter` of a filter.
    pub(super) fn detections(&mut self, root: &Node, key: &str) -> Option<Detections> {
        let Some(node) = root.get(key) else {
            let reason = format!("the rule has no `{key}`");
            self.error(root.at(), DiagnosticCode::MissingKey, reason, None);
            return None;
        };
        let Some(entries) = node.map() else {
            let reason = format!("`{key}` is {}; it should be a map", node.type_name());
            self.error(node.at(), DiagnosticCode::WrongType, reason, None);
            return None;
        };
        let mut reader = DetectionReader {
            file: Arc::clone(self.file),
            placeholders: &self.options.placeholders,
            diagnostics: Vec::new(),
            fields: Vec::new(),
            unresolved: Vec::new(),
        };
        let mut identifiers = Vec::new();
        let mut is_whole = true;
        for (name, value) in entries {
            let name = name.scalar_text().unwrap_or_default();
            // `rules` belongs to filters.
            if matches!(name.as_str(), "condition" | "timeframe") || (key == "filter" && name == "rules") {
                continue;
            }
            match reader.identifier(value) {
                Some(expression) => identifiers.push((name, expression)),
                None => is_whole = false,
            }
        }
        let DetectionReader { diagnostics, fields, unresolved, .. } = reader;
        self.diagnostics.extend(diagnostics);
        if identifiers.is_empty() && is_whole {
            let reason = format!("`{key}` has no search identifiers");
            self.error(node.at(), DiagnosticCode::MissingKey, reason, Some("for example `selection:`"));
            return None;
        }
        let Some(condition) = node.get("condition") else {
            let hint = Some("for example `condition: selection`");
            self.error(node.at(), DiagnosticCode::MissingKey, "the detection has no `condition`", hint);
            return None;
        };
        if !is_whole {
            return None;
        }
        let mut own = Detections {
            fields,
            unresolved,
            texts: Vec::new(),
            places: Vec::new(),
            conditions: Vec::new(),
            has_not: false,
        };
        for node in condition.items() {
            self.condition(node, &identifiers, &mut own)?;
        }
        if own.conditions.is_empty() {
            self.error(condition.at(), DiagnosticCode::BadCondition, "the list of conditions is empty", None);
            return None;
        }
        Some(own)
    }

    fn condition(
        &mut self,
        node: &Node,
        identifiers: &[(String, Expression)],
        own: &mut Detections,
    ) -> Option<()> {
        let Yaml::Text(text) = &node.value else {
            let reason = format!("a condition is a text, not {}", node.type_name());
            self.error(node.at(), DiagnosticCode::WrongType, reason, None);
            return None;
        };
        let bound = condition::parse(text).and_then(|tree| {
            own.has_not |= condition::has_not(&tree);
            condition::bind(&tree, identifiers)
        });
        match bound {
            Ok(mut expression) => {
                expression.sort_by_cost();
                own.conditions.push(expression);
                own.texts.push(text.to_string());
                own.places.push(node.at());
                Some(())
            }
            Err(ConditionError { code, range, reason, hint }) => {
                self.error(node.part_at(text, range), code, reason, hint.as_deref());
                None
            }
        }
    }
}

/// What stands under `detection`.
pub(super) struct Detections {
    pub(super) fields: Vec<FieldRef>,
    pub(super) unresolved: Vec<(At, String)>,
    /// The conditions as written, where they stand, and compiled.
    pub(super) texts: Vec<String>,
    pub(super) places: Vec<At>,
    pub(super) conditions: Vec<Expression>,
    pub(super) has_not: bool,
}

pub(super) fn is_hash(field: &FieldRef) -> bool {
    matches!(field, FieldRef::Named(name) if &**name == SYSMON_HASHES || ["sha256", "sha1", "md5"].iter().any(|hash| name.eq_ignore_ascii_case(hash)))
}

/// `attack.t1059.001` names a technique.
fn technique_of(tag: &str) -> Option<String> {
    let rest = tag.to_ascii_lowercase().strip_prefix("attack.t")?.to_owned();
    rest.starts_with(|first: char| first.is_ascii_digit()).then(|| format!("T{rest}"))
}

/// The native type of rules that is nearest to a category.
fn scope_of(category: Option<&str>) -> RuleScope {
    match Telemetry::of_category(category) {
        Telemetry::ProcessStart | Telemetry::ProcessExit => RuleScope::Process,
        Telemetry::Network => RuleScope::Network,
        Telemetry::File => RuleScope::File,
        Telemetry::Registry => RuleScope::Registry,
        Telemetry::Activity => RuleScope::Attack,
        Telemetry::Task | Telemetry::EventLog => RuleScope::EventLog,
    }
}
