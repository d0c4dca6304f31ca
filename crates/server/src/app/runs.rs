//! Runs of playbooks: a responder tells how far they came; a person looks, asks for one, or has one undone.
//!
//! What a run does is done by orders, which are looked up here: a run shows what the agents planned and proved,
//! not what the responder says of them. That is also how a dry run is held against the run that follows it.

use serde::{Deserialize, Serialize};
use state_store::{AlertId, NewRun, Page, PlaybookRun, ResponseState, RunQuery, RunReport, RunState};
use uuid::Uuid;

use super::{App, AppError, Caller, Credential, now};

/// Steps of a run; a playbook has at most as many.
const MOST_STEPS: usize = 200;
/// Characters of any text of a report.
const MOST_TEXT: usize = 2_000;

/// What a responder tells of a run, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunContent {
    pub(crate) name: String,
    pub(crate) mode: String,
    pub(crate) detail: String,
    /// For which telling of the alert; 0 for the first.
    #[serde(default)]
    pub(crate) generation: u32,
    /// The token that told of it first. Only that one tells more, and orders for the run.
    #[serde(default)]
    pub(crate) told_by: String,
    pub(crate) steps: Vec<RunStep>,
}

/// A step of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunStep {
    pub(crate) id: String,
    pub(crate) action: String,
    /// What exactly it does, in words.
    pub(crate) does: String,
    /// How it ended; `None` before that.
    pub(crate) outcome: Option<String>,
    pub(crate) detail: String,
    pub(crate) response: Option<String>,
    pub(crate) is_begun: bool,
    pub(crate) undone: Option<bool>,
}

/// A step with what the agent planned for it, and how far its order came.
#[derive(Debug)]
pub(crate) struct RunStepView {
    pub(crate) step: RunStep,
    pub(crate) plan: Vec<String>,
    pub(crate) response_state: Option<ResponseState>,
}

/// A dry run against the run that followed it.
#[derive(Debug)]
pub(crate) struct RunComparison {
    pub(crate) dry_run: Uuid,
    /// Steps that did something else than the dry run said, or only one of the two has.
    pub(crate) differing: Vec<String>,
}

/// A run with all that is known of it.
#[derive(Debug)]
pub(crate) struct RunView {
    pub(crate) run: PlaybookRun,
    pub(crate) content: RunContent,
    pub(crate) steps: Vec<RunStepView>,
    pub(crate) comparison: Option<RunComparison>,
}

impl App {
    pub(crate) fn runs(&self, query: &RunQuery) -> Result<Page<PlaybookRun>, AppError> {
        self.state.expire_runs(now())?;
        Ok(self.state.runs(query)?)
    }

    pub(crate) fn run(&self, id: &str) -> Result<RunView, AppError> {
        let unknown = || AppError::not_found("playbook run", id);
        let parsed: Uuid = id.parse().map_err(|_| unknown())?;
        self.state.expire_runs(now())?;
        let run = self.state.run(parsed)?.ok_or_else(unknown)?;
        let content = content_of(&run);
        let steps = self.with_plans(content.steps.clone())?;
        // Dry runs say what `auto` does; in another mode nothing is done that could be held against it.
        // And they are of the alert as it was opened.
        let acts = !run.dry_run && content.mode == "auto" && content.generation == 0;
        let comparison = if acts { self.compared(&run, &steps)? } else { None };
        Ok(RunView { run, content, steps, comparison })
    }

    fn with_plans(&self, steps: Vec<RunStep>) -> Result<Vec<RunStepView>, AppError> {
        let view = |step: RunStep| {
            let id = step.response.as_deref().and_then(|id| id.parse::<Uuid>().ok());
            let response = id.map(|id| self.state.response(id)).transpose()?.flatten();
            let receipt = response.as_ref().and_then(|response| response.receipt.as_deref());
            let receipt = receipt.and_then(|text| serde_json::from_str::<response::Receipt>(text).ok());
            let plan = receipt.map(|receipt| receipt.plan).unwrap_or_default();
            Ok(RunStepView { step, plan, response_state: response.map(|response| response.state) })
        };
        steps.into_iter().map(view).collect()
    }

    /// Holds a run against the last dry run of the same playbook for the same alert before it.
    fn compared(&self, run: &PlaybookRun, steps: &[RunStepView]) -> Result<Option<RunComparison>, AppError> {
        let query = RunQuery { alert: Some(run.alert), limit: 100, ..RunQuery::default() };
        let others = self.state.runs(&query)?.items;
        let dry = others.into_iter().find(|other| {
            other.dry_run
                && other.playbook == run.playbook
                && other.state == RunState::Completed
                && other.requested_at <= run.requested_at
        });
        let Some(dry) = dry else { return Ok(None) };
        let planned = self.with_plans(content_of(&dry).steps)?;
        Ok(Some(RunComparison { dry_run: dry.id, differing: differing(&planned, steps) }))
    }

    pub(crate) fn request_run(
        &self,
        caller: &Caller,
        alert: &str,
        playbook: String,
        dry_run: bool,
    ) -> Result<RunView, AppError> {
        let alert_id: AlertId = alert.parse().map_err(|_| AppError::not_found("alert", alert))?;
        check_playbook(&playbook)?;
        // An alert has one run of a playbook, whoever begins it; dry runs are as many as anybody wants.
        let id = if dry_run { Uuid::now_v7() } else { run_id(alert_id, &playbook) };
        let new = NewRun {
            id,
            alert: alert_id,
            playbook: playbook.clone(),
            dry_run,
            requested_by: caller.actor().who,
        };
        if !self.state.request_run(&new, now())? {
            let reason = format!(
                "`{playbook}` has run for this alert already, and does so once; hint: look at that run, {id}, or order \
                 single responses"
            );
            return Err(AppError::Conflict(reason));
        }
        let detail = format!("playbook={playbook} alert={alert} dry_run={dry_run}");
        self.audit(&caller.actor(), "playbook_run.request", &id.to_string(), &detail);
        self.run(&id.to_string())
    }

    pub(crate) fn undo_run(&self, caller: &Caller, id: &str) -> Result<RunView, AppError> {
        let view = self.run(id)?;
        if !self.state.request_run_undo(view.run.id, &caller.actor().who, now())? {
            let state = view.run.state;
            let reason = match (&view.run.undo_requested, view.run.dry_run) {
                (Some((by, _)), _) => format!("{by} has asked for that already; its responder does it"),
                (None, true) => "it was a dry run: there is nothing to undo".to_owned(),
                (None, false) => {
                    format!(
                        "its state is `{state}`; only what is completed, stopped or timed_out can be undone"
                    )
                }
            };
            return Err(AppError::Conflict(reason));
        }
        self.audit(&caller.actor(), "playbook_run.undo", id, "");
        self.run(id)
    }

    /// Notes what a responder tells.
    pub(crate) fn record_run(
        &self,
        caller: &Caller,
        report: RunReport,
        content: &RunContent,
    ) -> Result<(), AppError> {
        if !matches!(caller.credential, Credential::ApiToken(_)) {
            let reason = "runs are told of by responders, with an API token; a person asks for one with POST";
            return Err(AppError::Invalid(reason.to_owned()));
        }
        check_playbook(&report.playbook)?;
        check_content(content)?;
        if report.responder.is_empty() || report.responder.len() > 64 {
            return Err(AppError::Invalid("`responder` has 1 to 64 bytes".to_owned()));
        }
        if report.state == RunState::Requested {
            return Err(AppError::Invalid("a responder tells of a run that it has taken".to_owned()));
        }
        let known = self.state.run(report.id)?.map(|run| content_of(&run).told_by).unwrap_or_default();
        if !known.is_empty() && known != caller.name {
            return Err(AppError::Conflict(format!("the run is another responder's: `{known}` told of it")));
        }
        let content = RunContent { told_by: caller.name.clone(), ..content.clone() };
        let stored = serde_json::to_string(&content)
            .map_err(|error| AppError::internal("writing a run's report", error))?;
        let report = RunReport { report: stored, ..report };
        if !self.state.record_run(&report, now())? {
            let reason = "the run is another responder's, or of another alert or playbook";
            return Err(AppError::Conflict(reason.to_owned()));
        }
        Ok(())
    }
}

/// The id of the one run of a playbook for an alert. Responders make the same.
fn run_id(alert: AlertId, playbook: &str) -> Uuid {
    Uuid::new_v5(alert.as_uuid(), playbook.as_bytes())
}

pub(crate) fn content_of(run: &PlaybookRun) -> RunContent {
    run.report.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn check_playbook(id: &str) -> Result<(), AppError> {
    let fits = (1..=100).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let reason = "`playbook` is the id of a playbook: letters, digits, `-`, `_` and `.`, at most 100";
    if fits { Ok(()) } else { Err(AppError::Invalid(reason.to_owned())) }
}

fn check_content(content: &RunContent) -> Result<(), AppError> {
    if content.steps.len() > MOST_STEPS {
        return Err(AppError::Invalid(format!("`steps` has at most {MOST_STEPS} items")));
    }
    let of_step = |step: &RunStep| {
        let more = [step.outcome.clone().unwrap_or_default(), step.response.clone().unwrap_or_default()];
        let own = [&step.id, &step.action, &step.does, &step.detail];
        own.into_iter().chain(&more).all(|text| text.chars().count() <= MOST_TEXT)
    };
    let own = [&content.name, &content.mode, &content.detail];
    let fits =
        own.into_iter().all(|text| text.chars().count() <= MOST_TEXT) && content.steps.iter().all(of_step);
    if fits { Ok(()) } else { Err(AppError::Invalid(format!("texts have at most {MOST_TEXT} characters"))) }
}

/// Steps that did something else than was planned.
fn differing(planned: &[RunStepView], done: &[RunStepView]) -> Vec<String> {
    // Both name the order that they are of: the one thing in which they must differ.
    let told = |view: &RunStepView| {
        let own = view.step.response.as_deref().unwrap_or("-");
        let plan: Vec<String> = view.plan.iter().map(|line| line.replace(own, "")).collect();
        let is_left_out = view.step.outcome.as_deref() == Some("skipped");
        (view.step.action.clone(), view.step.does.clone(), plan, view.step.is_begun, is_left_out)
    };
    let find = |views: &[RunStepView], id: &str| views.iter().find(|view| view.step.id == id).map(told);
    let mut ids: Vec<&str> = planned.iter().chain(done).map(|view| view.step.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let differs = |id: &&str| find(planned, id) != find(done, id);
    ids.into_iter().filter(differs).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(id: &str, does: &str, response: &str, plan: &[&str]) -> RunStepView {
        let step = RunStep {
            id: id.to_owned(),
            action: "quarantine_file".to_owned(),
            does: does.to_owned(),
            response: Some(response.to_owned()),
            ..RunStep::default()
        };
        let plan = plan.iter().map(|line| (*line).to_owned()).collect();
        RunStepView { step, plan, response_state: None }
    }

    #[test]
    fn only_the_orders_own_id_may_differ() {
        let planned = [step("a", "x", "1-2", &["copy /tmp/x into the vault as 1-2", "remove it"])];
        let same = [step("a", "x", "3-4", &["copy /tmp/x into the vault as 3-4", "remove it"])];
        assert!(differing(&planned, &same).is_empty());
        for other in [
            step("a", "x", "3-4", &["copy /tmp/y into the vault as 3-4", "remove it"]),
            step("a", "x", "3-4", &["copy /tmp/x into the vault as 3-4"]),
            step("a", "z", "3-4", &["copy /tmp/x into the vault as 3-4", "remove it"]),
        ] {
            assert_eq!(differing(&planned, &[other]), ["a"]);
        }
        let with_more = [same.into_iter().next().unwrap(), step("b", "x", "5", &[])];
        assert_eq!(differing(&planned, &with_more), ["b"], "a step that was not planned");
        assert_eq!(differing(&planned, &[]), ["a"], "a step that was not done");
    }
}
