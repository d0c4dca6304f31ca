//! The engine: a pure function from where a run is to what is to be done next.
//!
//! It never acts and keeps nothing. Its driver writes a decision into the journal and only then acts
//! on it; `in_flight` names what this driver itself has begun and not yet told the end of, also where its
//! time is over: it may be ordering something at that moment, so the run waits for it. A step that
//! the journal calls begun and that is not in flight was begun by a driver that is gone: if the server
//! took its response, it is followed up; otherwise nobody knows whether it acted, and it is `lost`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use event_model::{Timestamp, ValueRef};

use crate::action::{ActionKind, Effect};
use crate::{Facts, Mode, OnFailure, Outcome, Playbook, RunEnd, RunState};

/// What is to be done next. Steps are places in [`Playbook::steps`].
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Write `step_started`, then act.
    Start {
        /// The step.
        step: usize,
        /// What it does.
        effect: Effect,
    },
    /// Follow up a response that the server has taken.
    Follow {
        /// The step.
        step: usize,
        /// Id of the response.
        response: String,
    },
    /// Write `step_finished`; there is nothing to act.
    Finish {
        /// The step.
        step: usize,
        /// How it ended.
        outcome: Outcome,
        /// More.
        detail: String,
    },
    /// Write `undo_started`, then undo.
    Undo {
        /// The step.
        step: usize,
        /// Id of the response that did it.
        response: String,
    },
    /// Write `undo_finished`, not undone.
    UndoFailed {
        /// The step.
        step: usize,
        /// Why.
        detail: String,
    },
    /// Write `run_finished`.
    End {
        /// How.
        end: RunEnd,
        /// More.
        detail: String,
    },
    /// Look again when something happens, at the latest then.
    Wait {
        /// When a time runs out.
        until: Option<Timestamp>,
    },
}

/// What is to be done next. At least one decision; [`Decision::Wait`] comes alone.
///
/// Two calls with the same arguments give the same answer.
pub fn next(
    playbook: &Playbook,
    facts: &Facts<'_>,
    state: &RunState,
    in_flight: &BTreeSet<usize>,
    now: Timestamp,
) -> Vec<Decision> {
    let run = Run { playbook, facts, state, in_flight, now };
    if state.end.is_some() {
        return if run.is_to_be_undone() { run.undo() } else { vec![Decision::Wait { until: None }] };
    }
    let mut decisions = run.running();
    if decisions.is_empty() && !run.is_to_end() {
        decisions = run.ready();
    }
    if !decisions.is_empty() {
        return decisions;
    }
    // What timed out may still be under way; only its thread knows what was ordered.
    if run.has_running() || !in_flight.is_empty() {
        return vec![Decision::Wait { until: run.next_time() }];
    }
    if run.is_to_be_undone() { run.undo() } else { vec![run.end()] }
}

struct Run<'a> {
    playbook: &'a Playbook,
    facts: &'a Facts<'a>,
    state: &'a RunState,
    in_flight: &'a BTreeSet<usize>,
    now: Timestamp,
}

impl Run<'_> {
    /// What became of steps that have begun.
    fn running(&self) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for (place, (step, own)) in self.playbook.steps.iter().zip(&self.state.steps).enumerate() {
            let (Some(started), None) = (own.started, own.outcome) else { continue };
            let mut finish = |outcome, detail: String| {
                decisions.push(Decision::Finish { step: place, outcome, detail });
            };
            if step.action == ActionKind::WaitForApproval {
                let wanted = match Effect::of(step, self.facts) {
                    Ok(Effect::Approval { people, .. }) => people,
                    _ => 1,
                };
                if let Some(by) = &own.denied_by {
                    finish(Outcome::Denied, format!("denied by {by}"));
                } else if own.approved_by.len() >= wanted {
                    let by: Vec<&str> = own.approved_by.iter().map(String::as_str).collect();
                    finish(Outcome::Succeeded, format!("approved by {}", by.join(", ")));
                } else if self.is_over(place, started) {
                    finish(Outcome::TimedOut, "nobody decided in time, which is a no".to_owned());
                }
                continue;
            }
            // Its own thread tells how it ended.
            if self.in_flight.contains(&place) {
                if self.is_over(place, started) {
                    finish(Outcome::TimedOut, format!("not done within {:?}", step.timeout));
                }
                continue;
            }
            match &own.response {
                Some(response) if !self.is_over(place, started) => {
                    decisions.push(Decision::Follow { step: place, response: response.clone() });
                }
                Some(response) => {
                    finish(Outcome::TimedOut, format!("response {response} was not done in time"));
                }
                None => finish(
                    Outcome::Lost,
                    "the responder ended after this step began; look whether it was done".to_owned(),
                ),
            }
        }
        decisions
    }

    /// Steps that can begin.
    fn ready(&self) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for (place, (step, own)) in self.playbook.steps.iter().zip(&self.state.steps).enumerate() {
            let has_ended =
                |before: &usize| self.state.steps.get(*before).is_some_and(|before| before.outcome.is_some());
            if own.started.is_some() || own.outcome.is_some() || !step.after.iter().all(has_ended) {
                continue;
            }
            if let Some(when) = &step.when
                && !when.holds(&|name| self.value(name))
            {
                let detail = format!("not so: {}", when.text());
                decisions.push(Decision::Finish { step: place, outcome: Outcome::Skipped, detail });
                continue;
            }
            decisions.push(match (Effect::of(step, self.facts), self.playbook.mode) {
                (Ok(effect), Mode::Auto) => Decision::Start { step: place, effect },
                (Ok(effect), _) => {
                    let detail = format!("would {}", effect.describe());
                    Decision::Finish { step: place, outcome: Outcome::Shadowed, detail }
                }
                (Err(error), _) => {
                    Decision::Finish { step: place, outcome: Outcome::Failed, detail: error.to_string() }
                }
            });
        }
        decisions
    }

    /// The last step that was done and can be undone, one at a time.
    fn undo(&self) -> Vec<Decision> {
        let is_acting = |place: usize| self.in_flight.contains(&place);
        for (place, (step, own)) in self.playbook.steps.iter().zip(&self.state.steps).enumerate().rev() {
            if own.undone.is_some() || !self.was_done(place) {
                continue;
            }
            return vec![match (&own.response, own.undo_started) {
                // Its own thread tells how it ended, and of what timed out, whether there is something to undo.
                _ if is_acting(place) => Decision::Wait { until: None },
                (_, true) => Decision::UndoFailed {
                    step: place,
                    detail: "the responder ended after this undoing began; look whether it was done"
                        .to_owned(),
                },
                (Some(response), false) => Decision::Undo { step: place, response: response.clone() },
                (None, false) => Decision::UndoFailed {
                    step: place,
                    detail: format!("{} left no response; look whether it was done", step.action),
                },
            }];
        }
        let failed: Vec<&str> = self
            .playbook
            .steps
            .iter()
            .zip(&self.state.steps)
            .filter(|(_, own)| own.undone == Some(false))
            .map(|(step, _)| step.id.as_str())
            .collect();
        let detail =
            if failed.is_empty() { String::new() } else { format!("not undone: {}", failed.join(", ")) };
        vec![Decision::End { end: RunEnd::Undone, detail }]
    }

    /// Whether there is something to undo about a step. What timed out may have been done, or may be on its way,
    /// also where the answer with its id never came.
    fn was_done(&self, place: usize) -> bool {
        let (Some(step), Some(own)) = (self.playbook.steps.get(place), self.state.steps.get(place)) else {
            return false;
        };
        let may_be_done = match own.outcome {
            Some(Outcome::Succeeded | Outcome::Lost | Outcome::TimedOut) => true,
            Some(Outcome::Failed) => own.response.is_some(),
            _ => false,
        };
        step.action.can_be_undone() && may_be_done
    }

    fn is_to_be_undone(&self) -> bool {
        let is_wanted = self.state.undo_requested || self.failure() == Some(OnFailure::Undo);
        is_wanted && self.state.end != Some(RunEnd::Undone)
    }

    /// What the failures so far ask for; undoing is stronger than stopping.
    fn failure(&self) -> Option<OnFailure> {
        let of_failed = self
            .playbook
            .steps
            .iter()
            .zip(&self.state.steps)
            .filter(|(_, own)| own.outcome.is_some_and(Outcome::is_failure));
        of_failed.map(|(step, _)| step.on_failure).filter(|wanted| *wanted != OnFailure::Continue).max()
    }

    fn is_to_end(&self) -> bool {
        self.failure().is_some() || self.state.undo_requested || self.is_run_over()
    }

    fn end(&self) -> Decision {
        let open = self.state.steps.iter().filter(|own| own.outcome.is_none()).count();
        let (end, detail) = if self.failure().is_some() {
            (RunEnd::Stopped, format!("{open} steps did not begin"))
        } else if open > 0 {
            (RunEnd::TimedOut, format!("{open} steps did not begin within {:?}", self.playbook.timeout))
        } else {
            (RunEnd::Completed, String::new())
        };
        Decision::End { end, detail }
    }

    fn has_running(&self) -> bool {
        self.state.steps.iter().any(|own| own.started.is_some() && own.outcome.is_none())
    }

    fn is_run_over(&self) -> bool {
        self.state.began.is_some_and(|began| self.now >= after(began, self.playbook.timeout))
    }

    fn is_over(&self, place: usize, started: Timestamp) -> bool {
        self.playbook.steps.get(place).is_some_and(|step| self.now >= after(started, step.timeout))
    }

    fn next_time(&self) -> Option<Timestamp> {
        let steps = self.playbook.steps.iter().zip(&self.state.steps);
        let running = steps.filter(|(_, own)| own.outcome.is_none());
        running.filter_map(|(step, own)| Some(after(own.started?, step.timeout))).min()
    }

    /// `step.ID` is how that step ended; would-be success reads as success, so that a shadow run goes
    /// the way that a real one would.
    fn value(&self, name: &str) -> Option<ValueRef<'_>> {
        let Some(id) = name.strip_prefix("step.") else { return self.facts.value(name) };
        let own = self.state.steps.get(self.playbook.place_of(id)?)?;
        let word = match own.outcome? {
            Outcome::Shadowed => Outcome::Succeeded.as_str(),
            outcome => outcome.as_str(),
        };
        Some(ValueRef::Text(Cow::Borrowed(word)))
    }
}

fn after(time: Timestamp, span: Duration) -> Timestamp {
    let span = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_nanos(time.as_nanos().saturating_add(span))
}
