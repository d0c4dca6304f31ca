//! From the text of a rule file to its rules.
//!
//! A file holds one rule object, a list of them, or `{"rules": […]}`. Where the
//! JSON itself can't be read the file is refused; any other error costs only the
//! rule it stands in.

use std::str::Utf8Error;

use crate::diagnostic::{Diagnostic, DiagnosticCode, DiagnosticSeverity};
use crate::json::{self, Fault, Json, Node};
use crate::rule::ParsedRule;
use crate::rule_reader::read_rule;
use crate::rule_set::without_duplicate_ids;
use crate::sigma::{SigmaOptions, parse_sigma};
use crate::source::{Source, Span};

/// Longest rule file in bytes.
pub const RULE_FILE_LIMIT: usize = 32 * 1024 * 1024;

/// What came out of a text.
#[derive(Debug, Default)]
pub struct ParseOutcome {
    /// The rules that are without error, in the order of the text.
    pub rules: Vec<ParsedRule>,
    /// What was found, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// How many rules were refused; a file that can't be read at all counts as one.
    pub refused: usize,
}

impl ParseOutcome {
    /// True where nothing was refused.
    pub fn is_ok(&self) -> bool {
        !self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

impl ParseOutcome {
    /// Without the rules whose id another one of the text has; diagnostics in the order of the text.
    pub(crate) fn without_duplicates(mut self) -> Self {
        let before = self.rules.len();
        let (rules, duplicates) = without_duplicate_ids(self.rules);
        self.refused += before - rules.len();
        self.rules = rules;
        self.diagnostics.extend(duplicates);
        self.diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        self
    }
}

/// Whether a file of this name holds Sigma rules: it ends in `.yml` or `.yaml`.
pub fn is_sigma_file(source_name: &str) -> bool {
    let name = source_name.to_ascii_lowercase();
    name.ends_with(".yml") || name.ends_with(".yaml")
}

/// Whether a text without a name is native JSON: it begins with `{` or `[`. Otherwise it is Sigma, in YAML.
pub(crate) fn is_json_text(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim_start().starts_with(['{', '['])
}

/// As [`parse_rules`], of a text that is not from a file: what it begins with says in which language it is.
pub fn parse_rule_text(source_name: &str, text: &str) -> ParseOutcome {
    if is_json_text(text) || text.trim().is_empty() {
        parse_native(source_name, text)
    } else {
        parse_sigma(source_name, text, &SigmaOptions::default())
    }
}

/// Reads the rules of one text: Sigma where its name says so (see [`is_sigma_file`]), else native JSON.
/// `source_name` is what diagnostics call it.
pub fn parse_rules(source_name: &str, text: &str) -> ParseOutcome {
    parse_rules_with(source_name, text, &SigmaOptions::default())
}

fn parse_rules_with(source_name: &str, text: &str, options: &SigmaOptions) -> ParseOutcome {
    if is_sigma_file(source_name) {
        return parse_sigma(source_name, text, options);
    }
    parse_native(source_name, text)
}

fn parse_native(source_name: &str, text: &str) -> ParseOutcome {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source::new(source_name, text);
    if text.len() > RULE_FILE_LIMIT {
        let reason = format!("a rule file of {} bytes; the limit is {RULE_FILE_LIMIT}", text.len());
        let hint = Some("split it into several files");
        return refused_file(&source, DiagnosticCode::TooLarge, Span { start: 0, end: 0 }, reason, hint);
    }
    let document = match json::parse(text) {
        Ok(document) => document,
        Err(fault) => {
            let diagnostics = vec![fault_diagnostic(&source, &fault)];
            return ParseOutcome { diagnostics, refused: 1, ..ParseOutcome::default() };
        }
    };
    let nodes = match rule_nodes(&source, &document.root) {
        Ok(nodes) => nodes,
        Err(diagnostic) => {
            return ParseOutcome { diagnostics: vec![*diagnostic], refused: 1, ..ParseOutcome::default() };
        }
    };
    // A fault outside the rules leaves open which rules are meant.
    let mut outcome = ParseOutcome::default();
    for fault in &document.faults {
        if !nodes.iter().any(|node| node.span.contains(fault.span)) {
            outcome.diagnostics.push(fault_diagnostic(&source, fault));
        }
    }
    if !outcome.diagnostics.is_empty() {
        outcome.refused = nodes.len().max(1);
        return outcome;
    }
    let mut faults = document.faults.iter().peekable();
    for node in nodes {
        let mut has_fault = false;
        while let Some(fault) = faults.next_if(|fault| node.span.contains(fault.span)) {
            outcome.diagnostics.push(fault_diagnostic(&source, fault));
            has_fault = true;
        }
        if has_fault {
            outcome.refused += 1;
            continue;
        }
        let (rule, diagnostics) = read_rule(&source, node);
        outcome.diagnostics.extend(diagnostics);
        match rule {
            Some(rule) => outcome.rules.push(rule),
            None => outcome.refused += 1,
        }
    }
    outcome.without_duplicates()
}

/// As [`parse_rules`], from the bytes of a file; what is not UTF-8 is refused with its place.
pub fn parse_rules_bytes(source_name: &str, bytes: &[u8]) -> ParseOutcome {
    parse_rules_bytes_with(source_name, bytes, &SigmaOptions::default())
}

/// As [`parse_rules_bytes`], Sigma rules with these options.
pub fn parse_rules_bytes_with(source_name: &str, bytes: &[u8], options: &SigmaOptions) -> ParseOutcome {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse_rules_with(source_name, text, options),
        Err(error) => {
            let diagnostics = vec![not_utf8(source_name, bytes, error)];
            ParseOutcome { diagnostics, refused: 1, ..ParseOutcome::default() }
        }
    }
}

/// The place where a file stops to be text.
pub(crate) fn not_utf8(source_name: &str, bytes: &[u8], error: Utf8Error) -> Diagnostic {
    let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
    let valid = valid.strip_prefix('\u{feff}').unwrap_or(&valid);
    let source = Source::new(source_name, valid);
    let place = source.place(Span { start: valid.len(), end: valid.len() });
    let hint = Some("save the file as UTF-8".to_owned());
    let reason = "the text is not UTF-8".to_owned();
    Diagnostic::new(DiagnosticSeverity::Error, DiagnosticCode::NotUtf8, &place, reason, hint)
}

/// The objects that should be rules.
fn rule_nodes<'n>(source: &Source<'_>, root: &'n Node) -> Result<Vec<&'n Node>, Box<Diagnostic>> {
    let refuse = |span: Span, code, reason: String, hint: &str| {
        let place = source.place(span);
        Box::new(Diagnostic::new(DiagnosticSeverity::Error, code, &place, reason, Some(hint.to_owned())))
    };
    let shape = "a rule file holds one rule {…}, a list [ {…}, {…} ], or {\"rules\": [ … ]}";
    match &root.value {
        Json::List(items) => Ok(items.iter().collect()),
        Json::Object(members) => {
            let Some(rules) = members.iter().find(|member| member.key.decoded == "rules") else {
                return Ok(vec![root]);
            };
            if let Some(other) = members.iter().find(|member| member.key.decoded != "rules") {
                let reason = format!("key `{}` beside `rules`", other.key.decoded);
                return Err(refuse(other.key_span, DiagnosticCode::UnknownKey, reason, shape));
            }
            match &rules.value.value {
                Json::List(items) => Ok(items.iter().collect()),
                other => {
                    let reason = format!("`rules` is {}; it should be a list", other.type_name());
                    Err(refuse(rules.value.span, DiagnosticCode::WrongType, reason, shape))
                }
            }
        }
        other => {
            let reason = format!("{} where a rule should stand", other.type_name());
            Err(refuse(root.span, DiagnosticCode::NotARule, reason, shape))
        }
    }
}

pub(crate) fn fault_diagnostic(source: &Source<'_>, fault: &Fault) -> Diagnostic {
    let mut reason = fault.reason.clone();
    if let Some(first) = fault.first {
        let first = source.place(first);
        reason.push_str(&format!(" at {}:{}", first.line, first.column));
    }
    let place = source.place(fault.span);
    Diagnostic::new(DiagnosticSeverity::Error, fault.code, &place, reason, fault.hint.clone())
}

fn refused_file(
    source: &Source<'_>,
    code: DiagnosticCode,
    span: Span,
    reason: String,
    hint: Option<&str>,
) -> ParseOutcome {
    let place = source.place(span);
    let diagnostic =
        Diagnostic::new(DiagnosticSeverity::Error, code, &place, reason, hint.map(str::to_owned));
    ParseOutcome { rules: Vec::new(), diagnostics: vec![diagnostic], refused: 1 }
}
