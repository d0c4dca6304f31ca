//! Compiling rule texts, so that a rule with an error takes no other down.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use boreal::Scanner;
use boreal::compiler::{AddRuleError, AddRuleStatus, Compiler, CompilerParams};
use boreal::statistics::CompiledString;
use rule_engine::{Diagnostic, DiagnosticCode, DiagnosticSeverity, Source, Span};

use super::items::items;
use super::scan::{MAX_SLOW_BYTES, MAX_SLOW_MATCHES};
use super::source::YaraSource;

/// What is found in one set beyond this is not told; a set that bad needs no more.
const MAX_DIAGNOSTICS: usize = 1_000;

/// Operators in one condition. The compiler keeps a chain of them as a tree as deep
/// as the chain is long, and to free it takes some 80 bytes of stack for each. Public
/// rules have some hundreds.
const MAX_OPERATORS: usize = 8_000;

/// Names that rules may use without declaring them, as the public rule sets do; all
/// are texts, empty where a scan has no such thing (memory has no path).
pub(super) const EXTERNALS: [&str; 6] = ["filename", "filepath", "extension", "filetype", "md5", "owner"];

/// Compiled rules. Cheap to share; scanning needs no lock.
#[derive(Debug)]
pub struct YaraRules {
    pub(super) scanner: Scanner,
    /// Namespaces with a string that has no fixed part. The time to search for it grows
    /// with the square of the content, and no deadline is looked at meanwhile, so they
    /// are kept apart and scan within narrower limits.
    pub(super) slow: Option<Scanner>,
}

/// What became of a set of rule texts.
#[derive(Debug)]
pub struct CompiledYara {
    /// All rules that compile.
    pub rules: YaraRules,
    /// What is wrong with the others, and what is doubtful in these.
    pub diagnostics: Vec<Diagnostic>,
}

impl YaraRules {
    /// Compiles texts. A rule with an error is reported and left out with those that
    /// refer to it; the rest is compiled. `include` is refused: what an agent runs is
    /// what was signed, and no rule reads files of the host it lands on.
    pub fn compile(texts: &[YaraSource]) -> CompiledYara {
        let all = Compiling::of(texts.iter());
        let Compiling { compiler, diagnostics, slow } = all;
        if slow.is_empty() {
            return CompiledYara { rules: Self { scanner: compiler.finalize(), slow: None }, diagnostics };
        }
        // Rules of one namespace refer to each other, so it goes as a whole.
        let part = |is_slow| {
            let texts = texts.iter().filter(|text| slow.contains(&text.namespace) == is_slow);
            Compiling::of(texts).compiler.finalize()
        };
        CompiledYara { rules: Self { scanner: part(false), slow: Some(part(true)) }, diagnostics }
    }

    /// Number of rules, private ones too.
    pub fn len(&self) -> usize {
        self.names().count()
    }

    /// True where no rule compiled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Namespace and name of every rule.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        let rules = self.scanner.rules().chain(self.slow.iter().flat_map(Scanner::rules));
        rules.map(|rule| (rule.namespace, rule.name))
    }
}

/// Why a text was not taken.
enum Refusal {
    Error(AddRuleError),
    /// More than [`MAX_OPERATORS`].
    TooManyOperators,
    /// The compiler itself failed.
    Panicked,
}

struct Compiling {
    compiler: Compiler,
    diagnostics: Vec<Diagnostic>,
    /// Namespaces with a string that has no fixed part.
    slow: HashSet<String>,
}

impl Compiling {
    fn of<'a>(texts: impl Iterator<Item = &'a YaraSource>) -> Self {
        let mut compiling = Self { compiler: Compiler::new(), diagnostics: Vec::new(), slow: HashSet::new() };
        compiling.compiler.set_params(
            CompilerParams::default()
                .disable_includes(true)
                // Tells how each string is searched for.
                .compute_statistics(true),
        );
        for name in EXTERNALS {
            compiling.compiler.define_symbol(name, "");
        }
        for text in texts {
            compiling.add(text);
        }
        compiling
    }

    fn add(&mut self, source: &YaraSource) {
        let places = Source::new(&source.name, &source.text);
        let items = items(&source.text);
        // Rules are taken one by one only where they can't be taken all at once.
        let mut failing = None;
        if items.iter().all(|item| item.operators <= MAX_OPERATORS) {
            let refusal = match self.try_add(&source.text, &source.namespace) {
                Ok(status) => return self.warn(&status, &places, source, 0),
                Err(refusal) => refusal,
            };
            // Where the text parses, the compiler has taken its rules in order up to
            // the one with the error. Where it does not, it has taken none.
            let parses = catch_unwind(|| boreal_parser::parse(&source.text).is_ok()).unwrap_or(false);
            if let (true, Refusal::Error(error)) = (parses, &refusal) {
                failing = Some((span(error).start, refusal));
            }
        }
        for item in items {
            let begin = item.span.start;
            let added = match failing.take() {
                Some((at, refusal)) if item.span.end <= at => {
                    failing = Some((at, refusal));
                    continue;
                }
                // Told with its place in the whole text.
                Some((_, refusal)) => {
                    self.tell(&refusal, &places, 0);
                    continue;
                }
                None if item.operators > MAX_OPERATORS => Err(Refusal::TooManyOperators),
                None => self.try_add(&source.text[item.span], &source.namespace),
            };
            match added {
                Ok(status) => self.warn(&status, &places, source, begin),
                Err(refusal) => self.tell(&refusal, &places, begin),
            }
        }
        // An error behind the last item.
        if let Some((_, refusal)) = failing {
            self.tell(&refusal, &places, 0);
        }
    }

    fn try_add(&mut self, text: &str, namespace: &str) -> Result<AddRuleStatus, Refusal> {
        // A rule text is outside input, and the compiler is not ours. What it had taken
        // before a panic is complete: rules are added one by one at the end of the work
        // on each.
        let added =
            catch_unwind(AssertUnwindSafe(|| self.compiler.add_rules_str_in_namespace(text, namespace)));
        match added {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(error)) => Err(Refusal::Error(error)),
            Err(_) => Err(Refusal::Panicked),
        }
    }

    /// Tells of an error in the part of the text that begins at `offset`.
    fn tell(&mut self, refusal: &Refusal, places: &Source<'_>, offset: usize) {
        let severity = DiagnosticSeverity::Error;
        let (reason, hint) = match refusal {
            Refusal::Error(error) => {
                return self.push(severity, DiagnosticCode::BadYara, error, places, offset);
            }
            Refusal::TooManyOperators => (
                format!("the condition has more than {MAX_OPERATORS} operators (`not`, `-`, `+`, …)"),
                "write it as several rules".to_owned(),
            ),
            Refusal::Panicked => (
                "the YARA compiler fails on this rule; it is left out".to_owned(),
                "write it in another way, or report it as a defect".to_owned(),
            ),
        };
        if self.diagnostics.len() < MAX_DIAGNOSTICS {
            let place = places.place(Span { start: offset, end: offset });
            let diagnostic = Diagnostic::new(severity, DiagnosticCode::BadYara, &place, reason, Some(hint));
            self.diagnostics.push(diagnostic);
        }
    }

    fn warn(&mut self, status: &AddRuleStatus, places: &Source<'_>, source: &YaraSource, offset: usize) {
        for warning in status.warnings() {
            self.push(DiagnosticSeverity::Warning, DiagnosticCode::DoubtfulYara, warning, places, offset);
        }
        for rule in status.statistics() {
            for string in rule.strings.iter().filter(|string| is_slow(string)) {
                self.slow.insert(source.namespace.clone());
                if self.diagnostics.len() >= MAX_DIAGNOSTICS {
                    continue;
                }
                let place = places.place(declaration(&source.text, offset, &rule.name, &string.name));
                let reason = format!(
                    "`${}` of rule `{}` has no fixed part to look for; the rules of this namespace scan files up to \
                     {MAX_SLOW_BYTES} bytes and no processes, and count {MAX_SLOW_MATCHES} matches of a string",
                    string.name, rule.name
                );
                let hint =
                    Some("give it a literal part of two bytes or more, or begin it with `^`".to_owned());
                let (severity, code) = (DiagnosticSeverity::Warning, DiagnosticCode::SlowString);
                self.diagnostics.push(Diagnostic::new(severity, code, &place, reason, hint));
            }
        }
    }

    fn push(
        &mut self,
        severity: DiagnosticSeverity,
        code: DiagnosticCode,
        error: &AddRuleError,
        places: &Source<'_>,
        offset: usize,
    ) {
        if self.diagnostics.len() >= MAX_DIAGNOSTICS {
            return;
        }
        let Span { start, end } = span(error);
        let place = places.place(Span { start: start + offset, end: end + offset });
        let told = error.to_diagnostic();
        let detail = told.labels.first().map(|label| label.message.as_str()).filter(|text| !text.is_empty());
        let reason = match detail {
            Some(detail) => format!("{}: {detail}", told.message),
            None => told.message,
        };
        let hint = told.notes.into_iter().next().filter(|note| !note.is_empty());
        self.diagnostics.push(Diagnostic::new(severity, code, &place, reason, hint));
    }
}

/// Whether every byte of the content has to be tried as the beginning of a match.
fn is_slow(string: &CompiledString) -> bool {
    let regex = string.expr.split_once('=').map_or("", |(_, regex)| regex.trim_start());
    let anchored = regex.starts_with("/^") && !regex.contains('|');
    string.matching_algo == "Raw" && !anchored
}

fn span(error: &AddRuleError) -> Span {
    let range = error.to_diagnostic().labels.into_iter().next().map(|label| label.range);
    range.map_or(Span { start: 0, end: 0 }, |range| Span { start: range.start, end: range.end })
}

/// Where a rule declares a string; the compiler does not say. At least the rule.
fn declaration(text: &str, from: usize, rule: &str, string: &str) -> Span {
    let part = text.get(from..).unwrap_or_default();
    let found = |wanted: &str, from: usize| {
        let is_word = |at: &str| at.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        part.get(from..)?
            .match_indices(wanted)
            .map(|(at, _)| at + from)
            .find(|at| !is_word(&part[at + wanted.len()..]))
    };
    let Some(rule_at) = found(&format!("rule {rule}"), 0) else { return Span { start: from, end: from } };
    let wanted = format!("${string}");
    let (at, length) = found(&wanted, rule_at).map_or((rule_at, 4), |at| (at, wanted.len()));
    Span { start: from + at, end: from + at + length }
}
