//! `edr rules test`: whether rules match the events that they must, and none that they must not.
//!
//! Beside `NAME.json` or `NAME.yml` stands `NAME.test.json`:
//! `{"match": [event, …], "no_match": [event, …]}`. Where the rule file has several rules, the test file is a list
//! of such objects, each with the `rule`'s id. An item of the two lists may itself be a list: a sequence of
//! events, for rules that count.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rule_engine::{LogSources, ParsedRule, RULE_FILE_LIMIT, RuleSet, SigmaOptions, Telemetry};
use serde::Deserialize;
use serde_json::Value;

use super::counted;
use super::event::WrittenEvent;
use super::files::{RuleFiles, tell_people};
use super::load::{Loaded, load};
use super::options::{RuleOptions, Spec};
use super::pack::{Group, groups};
use crate::arguments::Usage;
use crate::{Outcome, print};

const SPEC: Spec =
    Spec { command: "edr rules test", flags: &["mapping", "placeholders"], switches: &["quiet"] };

/// The events of one rule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTest {
    /// Its id, where the file has several rules.
    rule: Option<String>,
    #[serde(rename = "match")]
    matching: Vec<Value>,
    no_match: Vec<Value>,
}

/// Runs the tests of packs, folders and files.
pub(crate) fn run(arguments: Vec<OsString>) -> anyhow::Result<Outcome> {
    let options = RuleOptions::read(arguments, &SPEC)?;
    let files = RuleFiles::at(&options.paths)?;
    let groups = groups(&options.paths, &files.rules)?;
    if groups.iter().all(|group| group.files.is_empty() && group.folder.is_none()) {
        let hint = "rule files end in `.json`, `.yml` or `.yaml`";
        return Err(Usage::new("no rule files found", hint).into());
    }
    let mut report = Report { quiet: options.has("quiet"), ..Report::default() };
    let sigma = files.sigma_options(&options.paths_of("placeholders"), |diagnostic, text| {
        report.faults += 1;
        tell_people(diagnostic, text)
    })?;
    for group in &groups {
        report.group(group, &sigma, &options)?;
    }
    report.finish()
}

#[derive(Default)]
struct Report {
    quiet: bool,
    rules: usize,
    events: usize,
    failed: usize,
    untested: usize,
    /// Rules that don't load, tests that can't be read, faults of packs.
    faults: usize,
}

impl Report {
    fn group(&mut self, group: &Group, sigma: &SigmaOptions, options: &RuleOptions) -> anyhow::Result<()> {
        if let (Some(folder), Some(manifest)) = (&group.folder, &group.manifest) {
            print(&format!(
                "pack {} {}: {} ({})\n",
                manifest.id,
                manifest.version,
                manifest.name,
                folder.display()
            ))?;
        }
        for fault in &group.faults {
            self.fault(fault)?;
        }
        let loaded = load(&group.files, sigma)?;
        let (rules, more_refused) = loaded.compile(&options.log_sources)?;
        self.faults += loaded.refused + more_refused;
        for file in &group.files {
            self.file(file, &loaded, &rules, options)?;
        }
        let Some(manifest) = &group.manifest else { return Ok(()) };
        let required = manifest.required();
        for (file, rule) in &loaded.rules {
            // Which records a log has is not said by types of events.
            let judges_logs =
                rule.telemetry() == Telemetry::EventLog || rule.is_correlation() || rule.is_filter();
            if !required.is_empty() && !judges_logs && !rule.telemetry().is_fed_by(&required) {
                let events = rule.telemetry().describe();
                let id = &rule.head().id;
                self.fault(&format!(
                    "{}: rule {id} judges {events}; `requires` of the pack names none of them",
                    file.display()
                ))?;
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        file: &Path,
        loaded: &Loaded,
        rules: &RuleSet,
        options: &RuleOptions,
    ) -> anyhow::Result<()> {
        let own: Vec<&ParsedRule> = loaded.of_file(file).filter(|rule| !rule.is_filter()).collect();
        let path = test_of(file);
        let tests = if path.is_file() {
            match read_tests(&path)? {
                Ok(tests) => tests,
                Err(fault) => return self.fault(&fault),
            }
        } else {
            Vec::new()
        };
        for test in &tests {
            if let Some(id) = &test.rule
                && !own.iter().any(|rule| rule.head().id.as_str() == id)
            {
                let known = own.iter().map(|rule| rule.head().id.as_str()).collect::<Vec<_>>().join(", ");
                self.fault(&format!(
                    "{}: no rule of the file has the id `{id}`; it has {known}",
                    path.display()
                ))?;
            }
            if test.rule.is_none() && own.len() > 1 {
                let hint = "write a list of {\"rule\": id, \"match\": […], \"no_match\": […]}";
                self.fault(&format!("{}: the rule file has {} rules; {hint}", path.display(), own.len()))?;
            }
        }
        for rule in own.iter().copied() {
            let is_its = |test: &&RuleTest| match &test.rule {
                Some(id) => id == rule.head().id.as_str(),
                None => own.len() == 1,
            };
            let tests: Vec<&RuleTest> = tests.iter().filter(is_its).collect();
            self.rule(file, &path, rule, &tests, loaded, rules, options)?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one call, and each names a different thing")]
    fn rule(
        &mut self,
        file: &Path,
        test_file: &Path,
        rule: &ParsedRule,
        tests: &[&RuleTest],
        loaded: &Loaded,
        rules: &RuleSet,
        options: &RuleOptions,
    ) -> anyhow::Result<()> {
        let head = rule.head();
        let title = format!("{}: {} {}", file.display(), head.id, head.name);
        self.rules += 1;
        if tests.is_empty() {
            self.untested += 1;
            return print(&format!("  NO TEST {title}\n          write {}\n", test_file.display()));
        }
        if !head.is_active() {
            self.untested += 1;
            return print(&format!(
                "  NO TEST {title}\n          the rule is switched off, or a placeholder has no values\n"
            ));
        }
        let mut wrong = String::new();
        let mut counts = [0_usize; 2];
        for test in tests {
            for (place, (list, items, expected)) in
                [("match", &test.matching, true), ("no_match", &test.no_match, false)].into_iter().enumerate()
            {
                if items.is_empty() {
                    writeln!(wrong, "          {}: `{list}` has no event", test_file.display())?;
                }
                counts[place] += items.len();
                for (number, item) in items.iter().enumerate() {
                    let found = matches(item, rule, loaded, rules, &options.log_sources)?;
                    let told = match found {
                        Err(fault) => fault,
                        Ok(found) if found == expected => continue,
                        Ok(true) => "the rule matches, and must not".to_owned(),
                        Ok(false) => "the rule does not match, and must".to_owned(),
                    };
                    writeln!(wrong, "          {list}[{number}]: {told}\n            {item}")?;
                }
            }
        }
        self.events += counts[0] + counts[1];
        if wrong.is_empty() {
            if self.quiet {
                return Ok(());
            }
            let [matching, others] = counts;
            return print(&format!("  ok      {title} ({matching} match, {others} do not)\n"));
        }
        self.failed += 1;
        let ask = format!(
            "edr rules explain {} --rule {} --event {}",
            file.display(),
            head.id,
            test_file.display()
        );
        print(&format!("  FAILED  {title}\n{wrong}          `{ask}` tells why\n"))
    }

    fn fault(&mut self, fault: &str) -> anyhow::Result<()> {
        self.faults += 1;
        print(&format!("  FAULT   {fault}\n"))
    }

    fn finish(&self) -> anyhow::Result<Outcome> {
        print(&format!(
            "{} with {}: {} failed, {} without a test, {}\n",
            counted(self.rules, "rule"),
            counted(self.events, "event"),
            self.failed,
            self.untested,
            counted(self.faults, "other fault"),
        ))?;
        let is_fine = self.failed + self.untested + self.faults == 0;
        Ok(if is_fine { Outcome::Success } else { Outcome::Findings })
    }
}

/// Whether the rule matches an event, or one of a sequence.
fn matches(
    item: &Value,
    rule: &ParsedRule,
    loaded: &Loaded,
    rules: &RuleSet,
    log_sources: &LogSources,
) -> anyhow::Result<Result<bool, String>> {
    // What a correlation has counted in other tests must not count here.
    let fresh;
    let rules = if rule.is_correlation() {
        fresh = loaded.compile(log_sources)?.0;
        &fresh
    } else {
        rules
    };
    let events = match item {
        Value::Array(events) => events.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut found = false;
    for event in events {
        match WrittenEvent::read(event, judged_rule(rule, loaded), rules) {
            Ok(event) => found |= event.matches(rules).iter().any(|id| id == rule.head().id.as_str()),
            Err(fault) => return Ok(Err(fault)),
        }
    }
    Ok(Ok(found))
}

/// The rule whose events those of a test are: for a correlation, the first of its file that judges events.
fn judged_rule<'l>(rule: &'l ParsedRule, loaded: &'l Loaded) -> &'l ParsedRule {
    if !rule.is_correlation() {
        return rule;
    }
    let own_file = loaded.rules.iter().find(|(_, own)| own.head().id == rule.head().id).map(|(file, _)| file);
    let judging = |(file, own): &&(PathBuf, ParsedRule)| {
        Some(file) == own_file && !own.is_correlation() && !own.is_filter()
    };
    loaded.rules.iter().find(judging).map_or(rule, |(_, own)| own)
}

/// Where a rule file's test stands.
pub(super) fn test_of(file: &Path) -> PathBuf {
    file.with_extension("test.json")
}

fn read_tests(path: &Path) -> anyhow::Result<Result<Vec<RuleTest>, String>> {
    let length = fs::metadata(path).with_context(|| format!("reading `{}`", path.display()))?.len();
    if length > RULE_FILE_LIMIT as u64 {
        return Ok(Err(format!("{}: {length} bytes; {RULE_FILE_LIMIT} are allowed", path.display())));
    }
    let text = fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()))?;
    let text = text.trim_start_matches('\u{feff}');
    let tests = if text.trim_start().starts_with('[') {
        serde_json::from_str::<Vec<RuleTest>>(text)
    } else {
        serde_json::from_str::<RuleTest>(text).map(|test| vec![test])
    };
    let hint = "a test is {\"match\": [event, …], \"no_match\": [event, …]}";
    Ok(tests.map_err(|error| {
        format!("{}:{}:{}: {error}; hint: {hint}", path.display(), error.line(), error.column())
    }))
}

#[cfg(test)]
mod tests {
    use super::super::files::is_rule_file;
    use super::*;

    #[test]
    fn a_test_is_named_like_its_rule_and_is_no_rule() {
        let test = test_of(Path::new("a/reverse-shell.yml"));
        assert_eq!(test, Path::new("a/reverse-shell.test.json"));
        assert!(!is_rule_file(&test));
    }
}
