//! `edr rules check`: whether rule files load, and if not, why. Its siblings are modules of their own.

mod event;
pub(crate) mod explain;
mod files;
mod load;
mod options;
mod pack;
mod recorded;
pub(crate) mod stats;
pub(crate) mod test;

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use event_model::EventType;
use rule_engine::{
    CompileOptions, Diagnostic, DiagnosticCode, DiagnosticSeverity, ParsedRule, RuleSet, SigmaOptions,
};

pub(crate) use files::{RuleFiles, read_rules};

use crate::arguments::{Usage, nearest, parser};
use crate::{Outcome, print};

/// Systems that live events come from, in Sigma's words.
const PRODUCTS: &[&str] = &["linux", "windows"];

const FLAGS: &[&str] = &["json-errors", "placeholders", "sources", "product", "help"];

struct CheckOptions {
    paths: Vec<PathBuf>,
    json_errors: bool,
    /// Files of values for Sigma's placeholders.
    placeholders: Vec<PathBuf>,
    /// Files that say what a host collects.
    sources: Vec<PathBuf>,
    product: String,
}

/// Checks files, and folders with all that is in them. Diagnostics go to stderr
/// for people, or as NDJSON to stdout; the counts go where they don't.
pub(crate) fn check(arguments: Vec<OsString>) -> anyhow::Result<Outcome> {
    let options = check_options(arguments)?;
    let files = RuleFiles::at(&options.paths)?;
    if files.rules.is_empty() {
        return Err(Usage::new("no rule files found", "rule files end in `.json`, `.yml` or `.yaml`").into());
    }
    let mut report = Report { json: options.json_errors, ..Report::default() };
    let sigma =
        files.sigma_options(&options.placeholders, |diagnostic, text| report.show(diagnostic, text))?;
    let mut rules: Vec<ParsedRule> = Vec::new();
    for file in &files.rules {
        rules.extend(report.file(file, &sigma)?);
    }
    report.whole_set(rules, &options)?;
    report.finish(files.rules.len())
}

fn check_options(arguments: Vec<OsString>) -> anyhow::Result<CheckOptions> {
    let mut options = CheckOptions {
        paths: Vec::new(),
        json_errors: false,
        placeholders: Vec::new(),
        sources: Vec::new(),
        product: "linux".to_owned(),
    };
    let mut parser = parser(arguments);
    while let Some(argument) = parser
        .next()
        .map_err(|error| Usage::new(error.to_string(), "`edr rules check --help` shows the flags"))?
    {
        match argument {
            lexopt::Arg::Value(path) => options.paths.push(path.into()),
            lexopt::Arg::Long("json-errors") => options.json_errors = true,
            lexopt::Arg::Long("placeholders") => {
                let value = parser.value();
                let value =
                    value.map_err(|error| Usage::new(error.to_string(), "write `--placeholders FILE`"))?;
                options.placeholders.push(value.into());
            }
            lexopt::Arg::Long("sources") => {
                let value = parser.value();
                let value = value.map_err(|error| Usage::new(error.to_string(), "write `--sources FILE`"))?;
                options.sources.push(value.into());
            }
            lexopt::Arg::Long("product") => {
                let value = parser.value();
                let value =
                    value.map_err(|error| Usage::new(error.to_string(), "write `--product linux`"))?;
                let word = value.to_string_lossy().into_owned();
                if !PRODUCTS.contains(&word.as_str()) {
                    let hint = format!("allowed are {}", PRODUCTS.join(" and "));
                    return Err(Usage::new(format!("`--product {word}` is no system"), hint).into());
                }
                options.product = word;
            }
            lexopt::Arg::Long(other) => return Err(Usage::unknown_flag(other, FLAGS).into()),
            lexopt::Arg::Short(other) => {
                return Err(Usage::unknown_flag(&other.to_string(), FLAGS).into());
            }
        }
    }
    if options.paths.is_empty() {
        return Err(Usage::new("no path given", "write `edr rules check FILE_OR_FOLDER…`").into());
    }
    Ok(options)
}

#[derive(Default)]
struct Report {
    json: bool,
    loaded: usize,
    refused: usize,
    errors: usize,
    warnings: usize,
}

impl Report {
    /// The rules of a file that load.
    fn file(&mut self, path: &Path, sigma: &SigmaOptions) -> anyhow::Result<Vec<ParsedRule>> {
        let (outcome, text) = read_rules(path, sigma)?;
        for diagnostic in &outcome.diagnostics {
            self.show(diagnostic, &text)?;
        }
        self.refused += outcome.refused;
        Ok(outcome.rules)
    }

    /// What only shows in all files together.
    fn whole_set(&mut self, rules: Vec<ParsedRule>, options: &CheckOptions) -> anyhow::Result<()> {
        let live_product = (!options.sources.is_empty()).then(|| options.product.clone());
        let compiled =
            RuleSet::compile_with(rules, CompileOptions { live_product, ..CompileOptions::default() });
        self.refused += compiled.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
        self.loaded = compiled.rules.len() + compiled.rules.filters();
        // Rules are for every system there is; which of them can fire where is a question to a host.
        let starved = if options.sources.is_empty() {
            Vec::new()
        } else {
            let collected = read_sources(&options.sources)?;
            let starved = compiled.rules.without_source(&collected).into_iter();
            let starved = starved.map(|(rule, reason)| never_fires(rule, &reason));
            let blind = compiled.rules.without_field(&collected).into_iter();
            starved.chain(blind.map(|(rule, name, nearest)| never_sees(rule, name, nearest))).collect()
        };
        for diagnostic in compiled.diagnostics.iter().chain(&starved) {
            let text = fs::read_to_string(&diagnostic.file).unwrap_or_default();
            self.show(diagnostic, &text)?;
        }
        Ok(())
    }

    fn show(&mut self, diagnostic: &Diagnostic, source: &str) -> anyhow::Result<()> {
        if diagnostic.is_error() {
            self.errors += 1;
        } else {
            self.warnings += 1;
        }
        if self.json {
            print(&format!("{}\n", serde_json::to_string(diagnostic)?))
        } else {
            Ok(std::io::stderr().write_all(diagnostic.render(source).as_bytes())?)
        }
    }

    fn finish(&self, files: usize) -> anyhow::Result<Outcome> {
        let counts = format!(
            "{}: {} loaded, {} refused; {}, {}\n",
            counted(files, "file"),
            counted(self.loaded, "rule"),
            self.refused,
            counted(self.errors, "error"),
            counted(self.warnings, "warning"),
        );
        if self.json {
            std::io::stderr().write_all(counts.as_bytes())?;
        } else {
            print(&counts)?;
        }
        Ok(if self.errors == 0 { Outcome::Success } else { Outcome::Findings })
    }
}

fn never_fires(rule: &ParsedRule, reason: &str) -> Diagnostic {
    let reason = format!("rule `{}` can never fire there: {reason}", rule.head().id);
    let hint = Some("it stays loaded and works once they are collected".to_owned());
    Diagnostic::new(DiagnosticSeverity::Warning, DiagnosticCode::NoSource, rule.place(), reason, hint)
}

fn never_sees(rule: &ParsedRule, name: &str, nearest: Option<&str>) -> Diagnostic {
    let reason =
        format!("rule `{}` asks for `{name}`, which no live event has that it judges", rule.head().id);
    let hint = nearest.map_or_else(
        || "there it is missing, as `null` means it; in logs it may be there".to_owned(),
        |nearest| format!("did you mean `{nearest}`?"),
    );
    Diagnostic::new(
        DiagnosticSeverity::Warning,
        DiagnosticCode::UnknownField,
        rule.place(),
        reason,
        Some(hint),
    )
}

/// The types of events that a host collects: lines of `type`, `type=source` or `type=none: reason`, as an
/// agent prints them with `-debug`.
fn read_sources(paths: &[PathBuf]) -> anyhow::Result<Vec<EventType>> {
    let mut collected = Vec::new();
    for path in paths {
        let text = fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()))?;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim().trim_start_matches("source:").trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (word, source) = line.split_once('=').unwrap_or((line, ""));
            let word = word.trim();
            let event_type = EventType::from_word(word).ok_or_else(|| {
                let near = nearest(word, EventType::ALL.iter().map(|it| it.as_str()));
                let hint = near.map_or_else(
                    || "write `process_start=ebpf`, one in each line".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                Usage::new(format!("{}:{number}: there are no events of type `{word}`", path.display()), hint)
            })?;
            let source = source.trim();
            if source != "none" && !source.starts_with("none:") {
                collected.push(event_type);
            }
        }
    }
    Ok(collected)
}

fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
