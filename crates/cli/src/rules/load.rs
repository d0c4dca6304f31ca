//! What `edr rules test`, `stats` and `explain` load rules with.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rule_engine::{CompileOptions, LogSources, ParsedRule, RuleSet, SigmaOptions};

use super::{read_rules, take_placeholder_files};

/// Rules that were read, each with its file; what was wrong went to stderr.
pub(super) struct Loaded {
    pub(super) rules: Vec<(PathBuf, ParsedRule)>,
    pub(super) refused: usize,
}

/// Reads every rule of the files, with the values of placeholders that are among them and those that are given.
pub(super) fn load(files: &BTreeSet<PathBuf>, sigma: &SigmaOptions) -> anyhow::Result<Loaded> {
    let mut loaded = Loaded { rules: Vec::new(), refused: 0 };
    let mut files = files.clone();
    let mut with_values = SigmaOptions::default();
    for path in take_placeholder_files(&mut files) {
        let name = path.display().to_string();
        let text = fs::read_to_string(&path).with_context(|| format!("reading `{name}`"))?;
        if let Err(diagnostic) = with_values.add_placeholders(&name, &text) {
            std::io::stderr().write_all(diagnostic.render(&text).as_bytes())?;
            loaded.refused += 1;
        }
    }
    with_values.placeholders.extend(sigma.placeholders.clone());
    for file in &files {
        let (outcome, text) = read_rules(file, &with_values)?;
        for diagnostic in outcome.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()) {
            std::io::stderr().write_all(diagnostic.render(&text).as_bytes())?;
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
            std::io::stderr().write_all(diagnostic.render(&text).as_bytes())?;
            refused += 1;
        }
        Ok((compiled.rules, refused))
    }

    pub(super) fn of_file<'l>(&'l self, file: &'l Path) -> impl Iterator<Item = &'l ParsedRule> {
        self.rules.iter().filter(move |(own, _)| own == file).map(|(_, rule)| rule)
    }
}
