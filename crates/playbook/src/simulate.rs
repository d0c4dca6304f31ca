//! A run played through without acting: what dry run shows, and what tests of playbooks look at.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::action::{ActionKind, Effect};
use crate::journal::{Entry, EntryKind};
use crate::{Decision, Facts, Mode, Outcome, Playbook, RunEnd, RunState, next};

/// What is assumed; a step that is not named succeeds.
pub type Given = BTreeMap<String, Outcome>;

/// A step of a simulated run, in the order in which they begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SimulatedStep {
    /// Its id.
    pub step: String,
    /// What it does.
    pub action: ActionKind,
    /// How it would end.
    pub outcome: Outcome,
    /// What exactly it would do, or why it would not.
    pub detail: String,
}

/// A simulated run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SimulatedRun {
    /// Its steps.
    pub steps: Vec<SimulatedStep>,
    /// Steps that would be undone, in order.
    pub undone: Vec<String>,
    /// How it would end.
    pub end: RunEnd,
}

/// Plays a run through, as if the playbook were in `auto`: the same decisions that a real run takes.
pub fn simulate(playbook: &Playbook, facts: &Facts<'_>, given: &Given) -> SimulatedRun {
    let playbook = &Playbook { mode: Mode::Auto, ..playbook.clone() };
    let now = facts.alert.time;
    let mut state = RunState { began: Some(now), ..RunState::default() };
    state.steps.resize_with(playbook.steps.len(), Default::default);
    let mut run = SimulatedRun { steps: Vec::new(), undone: Vec::new(), end: RunEnd::Abandoned };
    // Each round ends a step or undoes one; two more for the end.
    for _ in 0..=2 * playbook.steps.len() + 2 {
        let mut entries = Vec::new();
        for decision in next(playbook, facts, &state, &BTreeSet::new(), now) {
            take(playbook, given, decision, &mut entries, &mut run);
        }
        for kind in entries {
            // The steps are the playbook's own.
            let _ = state.add(playbook, &Entry { at: now, by: String::new(), kind });
        }
        if state.end.is_some() {
            break;
        }
    }
    run
}

fn take(
    playbook: &Playbook,
    given: &Given,
    decision: Decision,
    entries: &mut Vec<EntryKind>,
    run: &mut SimulatedRun,
) {
    let of = |place: usize| {
        let step = playbook.steps.get(place);
        step.map(|step| (step.id.clone(), step.action))
    };
    match decision {
        Decision::Start { step, effect } => {
            let Some((id, action)) = of(step) else { return };
            let outcome = given.get(&id).copied().unwrap_or(Outcome::Succeeded);
            entries.push(EntryKind::StepStarted { step: id.clone() });
            if action.is_response() {
                entries.push(EntryKind::StepSubmitted { step: id.clone(), response: "simulated".to_owned() });
            }
            let detail = Effect::describe(&effect);
            entries.push(EntryKind::StepFinished { step: id.clone(), outcome, detail: detail.clone() });
            run.steps.push(SimulatedStep { step: id, action, outcome, detail });
        }
        Decision::Finish { step, outcome, detail } => {
            let Some((id, action)) = of(step) else { return };
            entries.push(EntryKind::StepFinished { step: id.clone(), outcome, detail: detail.clone() });
            run.steps.push(SimulatedStep { step: id, action, outcome, detail });
        }
        Decision::Undo { step, .. } => {
            let Some((id, _)) = of(step) else { return };
            entries.push(EntryKind::UndoStarted { step: id.clone() });
            entries.push(EntryKind::UndoFinished {
                step: id.clone(),
                succeeded: true,
                detail: String::new(),
            });
            run.undone.push(id);
        }
        Decision::UndoFailed { step, detail } => {
            let Some((id, _)) = of(step) else { return };
            entries.push(EntryKind::UndoFinished { step: id, succeeded: false, detail });
        }
        Decision::End { end, detail } => {
            run.end = end;
            entries.push(EntryKind::RunFinished { end, detail });
        }
        // Nothing is in flight here, so neither comes.
        Decision::Follow { .. } | Decision::Wait { .. } => {}
    }
}
