//! The rules that logs are judged with.

use std::io::Write as _;
use std::path::PathBuf;

use rule_engine::{CompileOptions, Diagnostic, LogSources, RuleSet, is_behaviour_file, parse_behaviours};

use crate::arguments::Usage;
use crate::rules::{RuleFiles, read_rules};

pub(super) struct LoadedRules {
    pub(super) set: RuleSet,
    pub(super) refused: usize,
}

/// Loads every rule of the files and folders. A bad rule is reported and left out.
pub(super) fn load(
    paths: &[PathBuf],
    placeholders: &[PathBuf],
    log_sources: LogSources,
    json_errors: bool,
) -> anyhow::Result<LoadedRules> {
    let files = RuleFiles::at(paths)?;
    let mut refused = 0;
    let sigma = files.sigma_options(placeholders, |diagnostic, text| {
        refused += 1;
        show(diagnostic, text, json_errors)
    })?;
    let (mut rules, mut behaviours) = (Vec::new(), Vec::new());
    for file in &files.rules {
        let (outcome, text) = read_rules(file, &sigma)?;
        for diagnostic in outcome.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()) {
            show(diagnostic, &text, json_errors)?;
        }
        refused += outcome.refused;
        rules.extend(outcome.rules);
        let name = file.to_string_lossy();
        if is_behaviour_file(&name) {
            behaviours.push(parse_behaviours(&name, &text).0);
        }
    }
    let options = CompileOptions { log_sources, behaviours, ..CompileOptions::default() };
    let compiled = RuleSet::compile_with(rules, options);
    for diagnostic in compiled.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()) {
        show(diagnostic, "", json_errors)?;
        refused += 1;
    }
    if compiled.rules.is_empty() && compiled.rules.behaviours().is_empty() {
        let hint =
            "rule files end in `.json`, `.yml` or `.yaml`; `edr rules check` says what is wrong with them";
        return Err(Usage::new("no rule could be loaded", hint).into());
    }
    Ok(LoadedRules { set: compiled.rules, refused })
}

fn show(diagnostic: &Diagnostic, source: &str, json_errors: bool) -> anyhow::Result<()> {
    let text = if json_errors {
        format!("{}\n", serde_json::to_string(diagnostic)?)
    } else {
        diagnostic.render(source)
    };
    Ok(std::io::stderr().write_all(text.as_bytes())?)
}
