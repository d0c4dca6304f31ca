//! What people ask for in the console: a run, a dry run, or that a run is undone.
//!
//! The server is asked every other second; of several responders the one that claims a request does it, and an undoing
//! is done by the one that has the run's journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use alert_bus::BusError;
use playbook::{Alert, Effect, Entry, EntryKind, Given, Mode, Outcome, Playbook, simulate};
use serde_json::{Value, json};
use server_api::{ApiError, RunOrder, WaitingRun};

use crate::Context;
use crate::consumer::Consumer;
use crate::journal::{Header, JournalError, RunKey};
use crate::report::{self, Report, does, short};
use crate::runner::{self, now};

/// How often the server is asked.
const LOOK: Duration = Duration::from_secs(2);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(10);
/// Dry runs that were done and that the server may still show as asked for.
const MOST_DONE: usize = 1_000;

/// A request could not be taken; it is looked at again.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Server(#[from] ApiError),
}

impl Consumer {
    /// Does what people ask for, until `stop` is set.
    pub fn serve_requests(&self, stop: &AtomicBool) {
        let (_keep, pause) = channel::<()>();
        let (mut done, mut has_failed) = (BTreeSet::new(), false);
        while !stop.load(Ordering::Relaxed) {
            let looked = self.look_for_requests(&mut done);
            if let (Err(error), false) = (&looked, has_failed) {
                tracing::warn!(%error, "what people ask for can't be taken; it is tried again");
            }
            has_failed = looked.is_err();
            let _ = pause.recv_timeout(if has_failed { PAUSE } else { LOOK });
        }
    }

    fn look_for_requests(&self, done: &mut BTreeSet<String>) -> Result<(), RequestError> {
        let context = self.context();
        let mut first = Ok(());
        for request in context.server.waiting_runs()? {
            let taken = match (&request.undo_for, request.dry_run) {
                (Some(by), _) => self.take_undo(&request, by),
                (None, true) => self.take_dry_run(&request, done),
                (None, false) => self.take_run(&request),
            };
            // One that can't be taken keeps nobody from the others.
            first = first.and(taken);
        }
        first
    }

    fn take_undo(&self, request: &WaitingRun, by: &str) -> Result<(), RequestError> {
        let context = self.context();
        let key = key_of(request);
        // It would not take what is ordered for the undoing, nor that it is done.
        if context.reports.is_refused(&request.id) {
            return Ok(());
        }
        // Before the journal is opened: a thread that is at it may be in the middle of a line.
        let Some(busy) = context.busy.take(&key) else { return Ok(()) };
        // Another responder's, if it has no journal here.
        let Some(mut journal) = context.journals.find(&key)? else { return Ok(()) };
        if journal.is_untouched() {
            return Ok(());
        }
        // Undone before, and only the telling of it is on its way.
        let is_new = !journal.entries.iter().any(|entry| matches!(entry.kind, EntryKind::UndoRequested));
        if is_new {
            journal.append(Entry { at: now(), by: by.to_owned(), kind: EntryKind::UndoRequested })?;
            tracing::info!(alert = request.alert, playbook = request.playbook, by, "a run is to be undone");
        }
        self.start(journal, busy);
        Ok(())
    }

    fn take_run(&self, request: &WaitingRun) -> Result<(), RequestError> {
        let context = self.context();
        let Some(playbook) = context.library.find(&request.playbook) else { return Ok(()) };
        let (alert, _) = context.server.alert(&request.alert, 0)?;
        let header = header(alert, playbook, &request.requested_by);
        // Where it has begun before, the server is told how far it is.
        let Some((journal, busy)) = self.begin::<RequestError>(header)? else { return Ok(()) };
        tracing::info!(
            alert = request.alert,
            playbook = request.playbook,
            "a run begins, as a person asked for it"
        );
        self.start(journal, busy);
        Ok(())
    }

    fn take_dry_run(&self, request: &WaitingRun, done: &mut BTreeSet<String>) -> Result<(), RequestError> {
        let context = self.context();
        let Some(playbook) = context.library.find(&request.playbook) else { return Ok(()) };
        if done.contains(&request.id)
            || self.claim(&format!("run/{}", request.id))? != context.journals.instance()
        {
            return Ok(());
        }
        let (alert, _) = context.server.alert(&request.alert, 0)?;
        while done.len() >= MOST_DONE {
            done.pop_first();
        }
        done.insert(request.id.clone());
        let (id, playbook) = (request.id.clone(), playbook.clone());
        self.spawn(move |context| dry_run(context, &id, &alert, &playbook));
        Ok(())
    }
}

fn key_of(request: &WaitingRun) -> RunKey {
    RunKey {
        alert: request.alert.clone(),
        playbook: request.playbook.clone(),
        generation: request.generation,
    }
}

pub(crate) fn header(alert: Alert, playbook: &Playbook, requested_by: &str) -> Header {
    let (playbook, fingerprint) = (playbook.id.clone(), playbook.fingerprint.clone());
    Header { playbook, fingerprint, began: now(), requested_by: requested_by.to_owned(), alert }
}

/// Plays a run through. What its actions would do the agents say themselves, by surveying the very orders that a real
/// run would give; what they refuse fails here too, so that the rest is what the run would then do.
fn dry_run(context: &Context, id: &str, alert: &Alert, playbook: &Playbook) {
    let tell = |state: &str, detail: &str, steps: Vec<Value>| {
        context.reports.tell(Some(report::dry_run(context, id, &alert.id, playbook, state, detail, steps)));
    };
    let facts = context.library.facts(alert);
    let planned = playbook.steps.iter().map(
        |step| json!({ "id": step.id, "action": step.action.as_str(), "does": short(&does(step, &facts)) }),
    );
    let first = report::dry_run(context, id, &alert.id, playbook, "running", "", planned.collect());
    if let Err(error) = context.reports.announce(&context.server, Some(&first)) {
        tracing::warn!(run = id, %error, "the server could not be told that a dry run begins");
        context.reports.tell(Some(first.clone()));
    }
    let mut given = Given::new();
    let mut surveyed: BTreeMap<String, (Option<String>, Outcome, String)> = BTreeMap::new();
    let run = loop {
        let run = simulate(playbook, &facts, &given);
        let next = run.steps.iter().find(|one| {
            one.action.is_response() && one.outcome == Outcome::Succeeded && !surveyed.contains_key(&one.step)
        });
        let Some(next) = next else { break run };
        let step = playbook.place_of(&next.step).and_then(|place| playbook.steps.get(place));
        let Some((step, Ok(effect))) = step.map(|step| (step, Effect::of(step, &facts))) else { break run };
        let found = survey(context, &first, id, &effect, step.timeout);
        if found.1 != Outcome::Shadowed {
            given.insert(next.step.clone(), found.1);
        }
        surveyed.insert(next.step.clone(), found);
    };
    let steps = playbook.steps.iter().map(|step| {
        let simulated = run.steps.iter().find(|one| one.step == step.id);
        let (response, outcome, detail) = match (surveyed.get(&step.id), simulated) {
            (Some((response, outcome, detail)), Some(_)) => {
                (response.clone(), Some(*outcome), detail.clone())
            }
            (_, Some(one)) if one.outcome == Outcome::Succeeded => {
                (None, Some(Outcome::Shadowed), format!("would {}", one.detail))
            }
            (_, Some(one)) => (None, Some(one.outcome), one.detail.clone()),
            (_, None) => (None, None, String::new()),
        };
        let begun = simulated.is_some() && outcome != Some(Outcome::Skipped);
        json!({
            "id": step.id, "action": step.action.as_str(), "does": short(&does(step, &facts)),
            "outcome": outcome.map(Outcome::as_str), "detail": short(&detail), "response_id": response,
            "begun": begun, "undone": run.undone.contains(&step.id).then_some(true),
        })
    });
    let mut detail = format!("would end: {}", run.end);
    if !run.undone.is_empty() {
        detail.push_str(&format!("; would undo {}", run.undone.join(", ")));
    }
    if playbook.mode != Mode::Auto {
        detail.push_str(&format!("; its mode is `{}`: as long as it is, a run does nothing", playbook.mode));
    }
    tell("completed", &detail, steps.collect());
}

/// Has an agent say what it would do.
fn survey(
    context: &Context,
    report: &Report,
    run: &str,
    effect: &Effect,
    timeout: Duration,
) -> (Option<String>, Outcome, String) {
    let Effect::Respond { action, host_id, parameters } = effect else {
        return (None, Outcome::Shadowed, String::new());
    };
    let order = RunOrder { id: Some(run), dry_run: true, life: timeout + runner::LATE };
    let ordered = runner::respond(context, Some(report), || {
        context.server.respond(host_id, action.as_str(), parameters, &order)
    });
    match ordered {
        Ok(response) => {
            let (outcome, detail) = runner::follow(context, &response, timeout);
            (Some(response), outcome, detail)
        }
        Err(error) => (None, Outcome::Failed, error.to_string()),
    }
}
