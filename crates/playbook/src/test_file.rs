//! Tests of a playbook: the file `NAME.test.json` beside it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::simulate::{Given, simulate};
use crate::{Alert, Facts, HostGroups, Outcome, Playbook, RunEnd};

/// Cases of one playbook.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestFile {
    /// The cases.
    pub cases: Vec<Case>,
}

/// An alert, and what must become of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The alert.
    pub alert: Alert,
    /// Whether the playbook runs for it.
    pub runs: bool,
    /// How steps end; others succeed.
    #[serde(default)]
    pub given: Given,
    /// How steps must end; others are not looked at.
    #[serde(default)]
    pub steps: BTreeMap<String, Outcome>,
    /// Texts that must stand in what a step would do.
    #[serde(default)]
    pub does: BTreeMap<String, String>,
    /// Steps that must be undone, in order.
    #[serde(default)]
    pub undone: Vec<String>,
    /// How the run must end.
    #[serde(default)]
    pub end: Option<RunEnd>,
}

/// The text is no file of tests.
#[derive(Debug, thiserror::Error)]
#[error("line {line}, column {column}: {reason}; hint: docs/reference/playbooks.md shows the form")]
pub struct TestFileError {
    line: usize,
    column: usize,
    reason: String,
}

impl TestFile {
    /// Reads the JSON.
    ///
    /// # Errors
    /// [`TestFileError`] with its place; also where there are no cases, because such a test can't fail.
    pub fn parse(text: &[u8]) -> Result<Self, TestFileError> {
        let own: Self = serde_json::from_slice(text).map_err(|error| TestFileError {
            line: error.line(),
            column: error.column(),
            reason: error.to_string(),
        })?;
        let has_both = own.cases.iter().any(|case| case.runs) && own.cases.iter().any(|case| !case.runs);
        if !has_both {
            let reason = "a test has a case that runs and one that does not".to_owned();
            return Err(TestFileError { line: 1, column: 1, reason });
        }
        Ok(own)
    }
}

impl Case {
    /// What is otherwise than the case says; empty if nothing is.
    pub fn failures(&self, playbook: &Playbook, groups: &HostGroups) -> Vec<String> {
        let host_groups = groups.of(&self.alert.host_id, &self.alert.host_name);
        let facts = Facts { alert: &self.alert, host_groups };
        let runs = playbook.trigger.holds(&facts);
        if runs != self.runs {
            return vec![if runs { "it runs, and must not" } else { "it does not run, and must" }.to_owned()];
        }
        let mut failures = Vec::new();
        if !runs {
            return failures;
        }
        let run = simulate(playbook, &facts, &self.given);
        let names = self.given.keys().chain(self.steps.keys()).chain(self.does.keys()).chain(&self.undone);
        for unknown in names.filter(|id| playbook.place_of(id).is_none()) {
            failures.push(format!("the playbook has no step `{unknown}`"));
        }
        for (id, wanted) in &self.steps {
            match run.steps.iter().find(|step| step.step == *id) {
                Some(step) if step.outcome == *wanted => {}
                Some(step) => {
                    failures.push(format!("step `{id}` is {}, not {wanted}: {}", step.outcome, step.detail));
                }
                None => failures.push(format!("step `{id}` did not begin; it must be {wanted}")),
            }
        }
        for (id, part) in &self.does {
            let step = run.steps.iter().find(|step| step.step == *id);
            if !step.is_some_and(|step| step.detail.contains(part)) {
                let detail = step.map_or("nothing", |step| step.detail.as_str());
                failures.push(format!("step `{id}` would do `{detail}`, without `{part}`"));
            }
        }
        if run.undone != self.undone {
            failures.push(format!("undone is {:?}, not {:?}", run.undone, self.undone));
        }
        if self.end.is_some_and(|wanted| wanted != run.end) {
            failures.push(format!("the run is {}", run.end));
        }
        failures
    }
}
