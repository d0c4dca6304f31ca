//! Runs of playbooks.

use event_model::Timestamp;
use serde::{Deserialize, Serialize};
use state_store::{ResponseState, RunState};
use utoipa::{IntoParams, ToSchema};

use super::words::{ResponseStateWord, RunStateWord, TimeText};
use crate::app::{RunContent, RunStep, RunView};

/// A run to be asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlaybookRunCreate {
    /// The alert.
    pub alert_id: String,
    /// Id of the playbook, as responders have it.
    pub playbook: String,
    /// Only say what would be done, to the letter: each action is surveyed by the agent itself.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a responder tells of a run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlaybookRunReport {
    /// The alert.
    pub alert_id: String,
    /// Id of the playbook.
    pub playbook: String,
    /// Only to say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// For which telling of an alert that repeats; 0 for the alert as it was opened.
    #[serde(default)]
    pub generation: u32,
    /// Who does it. A run stays with the one that told of it first.
    pub responder: String,
    /// How far it came.
    #[schema(value_type = RunStateWord)]
    pub state: RunState,
    /// Name of the playbook.
    #[serde(default)]
    pub name: String,
    /// Its mode.
    #[serde(default)]
    pub mode: String,
    /// How it ended, in words.
    #[serde(default)]
    pub detail: String,
    /// Its steps, in the playbook's order.
    #[serde(default)]
    pub steps: Vec<PlaybookRunStepReport>,
}

/// What became of a step.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlaybookRunStepReport {
    /// Its id in the playbook.
    pub id: String,
    /// Word of what it does.
    pub action: String,
    /// What exactly it does.
    #[serde(default)]
    pub does: String,
    /// How it ended; null before that.
    #[serde(default)]
    pub outcome: Option<String>,
    /// More about that.
    #[serde(default)]
    pub detail: String,
    /// The response that does it.
    #[serde(default)]
    pub response_id: Option<String>,
    /// Whether it has begun.
    #[serde(default)]
    pub begun: bool,
    /// Whether it was undone; null where nobody tried.
    #[serde(default)]
    pub undone: Option<bool>,
}

impl PlaybookRunReport {
    /// What is stored of it besides what tells runs apart.
    pub(crate) fn content(&self) -> RunContent {
        let step = |one: &PlaybookRunStepReport| RunStep {
            id: one.id.clone(),
            action: one.action.clone(),
            does: one.does.clone(),
            outcome: one.outcome.clone(),
            detail: one.detail.clone(),
            response: one.response_id.clone(),
            is_begun: one.begun,
            undone: one.undone,
        };
        RunContent {
            name: self.name.clone(),
            mode: self.mode.clone(),
            detail: self.detail.clone(),
            generation: self.generation,
            told_by: String::new(),
            steps: self.steps.iter().map(step).collect(),
        }
    }
}

/// A run of a playbook for an alert.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlaybookRun {
    /// Its id.
    pub id: String,
    /// The alert.
    pub alert_id: String,
    /// Id of the playbook.
    pub playbook: String,
    /// For which telling of an alert that repeats; 0 for the alert as it was opened.
    pub generation: u32,
    /// Its name; empty before a responder has taken the run.
    pub name: String,
    /// Its mode; in `shadow` nothing is done.
    pub mode: String,
    /// Only to say what would be done.
    pub dry_run: bool,
    /// Who asked for it; empty where the alert alone began it.
    pub requested_by: String,
    /// When it was asked for, or first told of.
    #[schema(value_type = TimeText)]
    pub requested_at: Timestamp,
    /// The responder that does it; empty while none has taken it.
    pub responder: String,
    /// How far it came.
    #[schema(value_type = RunStateWord)]
    pub state: RunState,
    /// Since when.
    #[schema(value_type = TimeText)]
    pub state_at: Timestamp,
    /// How it ended, in words.
    pub detail: String,
    /// Who wants it undone, until its responder has told what came of that.
    #[schema(required)]
    pub undo_requested_by: Option<String>,
    /// Whether it can be undone.
    pub can_undo: bool,
    /// Its steps.
    pub steps: Vec<PlaybookRunStep>,
    /// How it compares to the dry run before it; null in lists, and where there was none.
    #[schema(required)]
    pub compared: Option<PlaybookRunComparison>,
}

/// A step of a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlaybookRunStep {
    /// Its id in the playbook.
    pub id: String,
    /// Word of what it does.
    pub action: String,
    /// What exactly it does.
    pub does: String,
    /// Whether it has begun.
    pub begun: bool,
    /// How it ended; null before that.
    #[schema(required)]
    pub outcome: Option<String>,
    /// More about that.
    pub detail: String,
    /// The response that does it; in a dry run, the one that was only surveyed.
    #[schema(required)]
    pub response_id: Option<String>,
    /// How far that response came; null in lists.
    #[schema(value_type = ResponseStateWord, nullable, required)]
    pub response_state: Option<ResponseState>,
    /// What the agent planned for it, exactly; empty in lists.
    pub plan: Vec<String>,
    /// Whether it was undone; null where nobody tried.
    #[schema(required)]
    pub undone: Option<bool>,
}

/// A dry run against the run that followed it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlaybookRunComparison {
    /// Id of the dry run.
    pub dry_run_id: String,
    /// Whether the run did precisely what the dry run said.
    pub same: bool,
    /// The steps in which it did not.
    pub differing_steps: Vec<String>,
}

impl From<state_store::PlaybookRun> for PlaybookRun {
    fn from(run: state_store::PlaybookRun) -> Self {
        let content = crate::app::content_of(&run);
        let steps = content.steps.iter().cloned();
        let steps =
            steps.map(|step| crate::app::RunStepView { step, plan: Vec::new(), response_state: None });
        let steps = steps.collect();
        RunView { run, content, steps, comparison: None }.into()
    }
}

impl From<RunView> for PlaybookRun {
    fn from(view: RunView) -> Self {
        let RunView { run, content, steps, comparison } = view;
        let has_ended = matches!(run.state, RunState::Completed | RunState::Stopped | RunState::TimedOut);
        let has_acted = content.steps.iter().any(|step| step.response.is_some());
        Self {
            id: run.id.to_string(),
            alert_id: run.alert.to_string(),
            can_undo: has_ended && has_acted && !run.dry_run && run.undo_requested.is_none(),
            playbook: run.playbook,
            generation: content.generation,
            name: content.name,
            mode: content.mode,
            dry_run: run.dry_run,
            requested_by: run.requested_by,
            requested_at: run.requested_at,
            responder: run.responder,
            state: run.state,
            state_at: run.state_at,
            detail: content.detail,
            undo_requested_by: run.undo_requested.map(|(by, _)| by),
            steps: steps
                .into_iter()
                .map(|view| PlaybookRunStep {
                    id: view.step.id,
                    action: view.step.action,
                    does: view.step.does,
                    begun: view.step.is_begun,
                    outcome: view.step.outcome,
                    detail: view.step.detail,
                    response_id: view.step.response,
                    response_state: view.response_state,
                    plan: view.plan,
                    undone: view.step.undone,
                })
                .collect(),
            compared: comparison.map(|found| PlaybookRunComparison {
                dry_run_id: found.dry_run.to_string(),
                same: found.differing.is_empty(),
                differing_steps: found.differing,
            }),
        }
    }
}

super::page!(
    /// Runs of playbooks, the latest first.
    PlaybookRunPage of PlaybookRun
);

/// Which runs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlaybookRunQuery {
    /// Id of an alert.
    pub alert: Option<String>,
    /// `true`: only what a responder is to do, taken by nobody yet or to be undone.
    pub waiting: Option<String>,
    /// From the page before.
    pub cursor: Option<String>,
    /// At most 500; 100 by default.
    #[serde(default, deserialize_with = "super::number")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}
