//! How far runs are, told to the server for its console. What counts is the journal: a report is made from it, goes
//! on its own thread, and may come late, but the last one of a run is tried until the server has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use playbook::{Effect, Facts, Outcome, Playbook, RunEnd, RunState, Step};
use serde_json::{Value, json};
use server_api::{ApiError, ServerApi};
use uuid::Uuid;

use crate::Context;
use crate::journal::{Header, RunKey};

/// After a failure it is tried again that soon.
const AGAIN: Duration = Duration::from_secs(5);
/// Runs whose last report the server does not have yet; past them some are left out. What became of them stands in the
/// notes of their alerts all the same.
const MOST_UNTOLD: usize = 1_000;
/// At the end of the program the server has so long to be told.
const LAST_MOMENT: Duration = Duration::from_secs(10);
/// Characters of a text; the server takes 2,000.
const MOST_TEXT: usize = 1_900;

/// A run's state at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    id: String,
    body: Value,
}

/// The way to the thread that tells.
#[derive(Debug, Clone)]
pub struct Reports {
    sender: Sender<Message>,
    refused: Refused,
}

/// Runs that the server takes for another responder's; it is not told of them again before the next start.
#[derive(Debug, Clone, Default)]
struct Refused {
    runs: Arc<Mutex<BTreeSet<String>>>,
}

impl Refused {
    fn has(&self, run: &str) -> bool {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).contains(run)
    }

    /// Looks at how the server answered; says once what can be done about a run that it does not take from here.
    fn note(&self, run: &str, answer: &Result<(), ApiError>) {
        let Err(ApiError::Refused { status: 409, detail }) = answer else { return };
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        while runs.len() >= MOST_UNTOLD {
            runs.pop_first();
        }
        if runs.insert(run.to_owned()) {
            tracing::warn!(
                run,
                detail,
                "the server takes the run for another responder's, and is not told of it again; hint: a new token has \
                 to have the name of the old one; then restart this responder"
            );
        }
    }
}

#[derive(Debug)]
enum Message {
    Report(Report),
    /// Answered once all before it is told, or can't be.
    Flush(Sender<()>),
}

impl Reports {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn start(server: Arc<ServerApi>) -> std::io::Result<Self> {
        let (sender, messages) = channel();
        let refused = Refused::default();
        let noting = refused.clone();
        let work = move || run(&server, &messages, &noting);
        std::thread::Builder::new().name("report".to_owned()).spawn(work)?;
        Ok(Self { sender, refused })
    }

    /// Hands a report over. Waits for nobody.
    pub fn tell(&self, report: Option<Report>) {
        if let Some(report) = report.filter(|report| !self.refused.has(&report.id)) {
            // The thread ends with the program only.
            let _ = self.sender.send(Message::Report(report));
        }
    }

    /// Has the server know a run before it orders something: the server takes orders of runs that it knows only.
    ///
    /// # Errors
    /// [`ApiError`]; the run may go on, and its orders are refused until the server knows it.
    pub fn announce(&self, server: &ServerApi, report: Option<&Report>) -> Result<(), ApiError> {
        let Some(report) = report else { return Ok(()) };
        let answer = server.report_run(&report.id, &report.body);
        self.refused.note(&report.id, &answer);
        answer
    }

    /// Whether the server takes the run for another responder's.
    pub fn is_refused(&self, run: &str) -> bool {
        self.refused.has(run)
    }

    /// Waits until the server has what was handed over, or can't be told of it.
    pub fn flush(&self) {
        let (done, told) = channel();
        if self.sender.send(Message::Flush(done)).is_ok() {
            let _ = told.recv_timeout(LAST_MOMENT);
        }
    }
}

fn run(server: &ServerApi, messages: &Receiver<Message>, refused: &Refused) {
    let mut untold: BTreeMap<String, Value> = BTreeMap::new();
    let mut has_failed = false;
    loop {
        // With something left to tell it is tried again though nothing comes.
        let first = match untold.is_empty() {
            true => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => messages.recv_timeout(AGAIN),
        };
        let mut waiting = Vec::new();
        let mut take = |message: Message| match message {
            // The latest of each run is all that is worth telling.
            Message::Report(report) => drop(untold.insert(report.id, report.body)),
            Message::Flush(done) => waiting.push(done),
        };
        match first {
            Ok(message) => take(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        messages.try_iter().for_each(take);
        while untold.len() > MOST_UNTOLD {
            untold.pop_first();
        }
        let told = tell_all(server, &mut untold, refused);
        if let (Err(error), false) = (&told, has_failed) {
            tracing::warn!(%error, "the server can't be told how far runs are; it is tried again");
        }
        has_failed = told.is_err();
        for done in waiting {
            let _ = done.send(());
        }
    }
}

fn tell_all(
    server: &ServerApi,
    untold: &mut BTreeMap<String, Value>,
    refused: &Refused,
) -> Result<(), ApiError> {
    while let Some((id, body)) = untold.first_key_value() {
        let answer = server.report_run(id, body);
        refused.note(id, &answer);
        match answer {
            Ok(()) | Err(ApiError::Refused { status: 409, .. }) => {}
            // It will never take that one: its alert is gone, for example.
            Err(ApiError::Refused { status, detail }) if status < 500 => {
                tracing::warn!(run = id, status, detail, "the server does not take what is told of a run");
            }
            Err(error) => return Err(error),
        }
        untold.pop_first();
    }
    Ok(())
}

/// The id of the one run of a playbook for a telling of an alert; of the first, the server makes the same.
pub fn run_id(key: &RunKey) -> Option<String> {
    let alert: Uuid = key.alert.parse().ok()?;
    // No id of a playbook has a slash in it.
    let name = match key.generation {
        0 => key.playbook.clone(),
        generation => format!("{}/{generation}", key.playbook),
    };
    Some(Uuid::new_v5(&alert, name.as_bytes()).to_string())
}

/// A run as its journal has it.
pub fn of(context: &Context, header: &Header, playbook: &Playbook, state: &RunState) -> Option<Report> {
    let facts = context.library.facts(&header.alert);
    let steps = playbook.steps.iter().zip(&state.steps).map(|(step, own)| {
        json!({
            "id": step.id, "action": step.action.as_str(), "does": short(&does(step, &facts)),
            "outcome": own.outcome.map(Outcome::as_str), "detail": short(&own.detail),
            "response_id": own.response, "begun": own.started.is_some(), "undone": own.undone,
        })
    });
    // Until the undoing has ended, the run is what it was.
    let word = match state.end {
        Some(end) => end.as_str(),
        None => "running",
    };
    let id = run_id(&header.key())?;
    let mut body = body(context, &header.alert.id, playbook, false, word, "", steps.collect());
    name_generation(&mut body, header);
    Some(Report { id, body })
}

/// A run that nobody goes on with.
pub fn abandoned(context: &Context, header: &Header, reason: &str) -> Option<Report> {
    let id = run_id(&header.key())?;
    let mut body = json!({
        "alert_id": header.alert.id, "playbook": header.playbook, "responder": context.journals.instance(),
        "state": RunEnd::Abandoned.as_str(), "name": header.playbook, "detail": short(reason),
    });
    name_generation(&mut body, header);
    Some(Report { id, body })
}

/// A server of before knows the first telling only, and takes no report with a key that it does not know.
fn name_generation(body: &mut Value, header: &Header) {
    if header.alert.generation > 0 {
        body["generation"] = header.alert.generation.into();
    }
}

/// A dry run under the id that the server gave it.
pub(crate) fn dry_run(
    context: &Context,
    id: &str,
    alert: &str,
    playbook: &Playbook,
    state: &str,
    detail: &str,
    steps: Vec<Value>,
) -> Report {
    Report { id: id.to_owned(), body: body(context, alert, playbook, true, state, detail, steps) }
}

fn body(
    context: &Context,
    alert: &str,
    playbook: &Playbook,
    dry_run: bool,
    state: &str,
    detail: &str,
    steps: Vec<Value>,
) -> Value {
    json!({
        "alert_id": alert, "playbook": playbook.id, "dry_run": dry_run, "responder": context.journals.instance(),
        "state": state, "name": short(&playbook.name), "mode": playbook.mode.as_str(), "detail": short(detail),
        "steps": steps,
    })
}

/// What a step does for an alert, in words: the same in a dry run and in the run.
pub(crate) fn does(step: &Step, facts: &Facts<'_>) -> String {
    Effect::of(step, facts).map_or_else(|error| error.to_string(), |effect| effect.describe())
}

pub(crate) fn short(text: &str) -> String {
    text.chars().take(MOST_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_takes_for_anothers_is_not_told_again() {
        let refused = Refused::default();
        let answer = |status| Err(ApiError::Refused { status, detail: String::new() });
        refused.note("a", &answer(422));
        refused.note("b", &Ok(()));
        refused.note("c", &answer(409));
        assert_eq!(["a", "b", "c"].map(|run| refused.has(run)), [false, false, true]);
    }
}
