//! What `edr rules test`, `stats` and `explain` load rules with.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rule_engine::{CompileOptions, LogSources, ParsedRule, RuleSet, SigmaOptions};

use super::files::{read_rules, tell_people};

/// Rules that were read, each with its file; what was wrong went to stderr.
pub(super) struct Loaded {
    pub(super) rules: Vec<(PathBuf, ParsedRule)>,
    pub(super) refused: usize,
}

/// Reads every rule of the files.
pub(super) fn load(files: &BTreeSet<PathBuf>, sigma: &SigmaOptions) -> anyhow::Result<Loaded> {
    let mut loaded = Loaded { rules: Vec::new(), refused: 0 };
    for file in files {
        let (outcome, text) = read_rules(file, sigma)?;
        for diagnostic in outcome.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()) {
            tell_people(diagnostic, &text)?;
        }
        loaded.refused += outcome.refused;
        loaded.rules.extend(outcome.rules.into_iter().map(|rule| (file.clone(), rule)));
    }
    Ok(loaded)
}

impl Loaded {
    /// The rules as one set, and how many more were refused because of others; the reasons go to stderr.
    pub(super) fn compile(&self, log_sources: &LogSources) -> anyhow::Result<(RuleSet, usize)> {
        let rules: Vec<ParsedRule> = self.rules.iter().map(|(_, rule)| rule.clone()).collect();
        let options = CompileOptions { log_sources: log_sources.clone(), ..CompileOptions::default() };
        let compiled = RuleSet::compile_with(rules, options);
        let mut refused = 0;
        for diagnostic in compiled.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()) {
            let text = fs::read_to_string(Path::new(&*diagnostic.file)).unwrap_or_default();
            tell_people(diagnostic, &text)?;
            refused += 1;
        }
        Ok((compiled.rules, refused))
    }

    pub(super) fn of_file<'l>(&'l self, file: &'l Path) -> impl Iterator<Item = &'l ParsedRule> {
        self.rules.iter().filter(move |(own, _)| own == file).map(|(_, rule)| rule)
    }
}
