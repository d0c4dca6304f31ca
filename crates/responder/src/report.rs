//! How far runs are, told to the server for its console. What counts is the journal: a report is made from it, goes
//! on its own thread, and may come late, but the last one of a run is tried until the server has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
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
        let work = move || run(&server, &messages);
        std::thread::Builder::new().name("report".to_owned()).spawn(work)?;
        Ok(Self { sender })
    }

    /// Hands a report over. Waits for nobody.
    pub fn tell(&self, report: Option<Report>) {
        if let Some(report) = report {
            // The thread ends with the program only.
            let _ = self.sender.send(Message::Report(report));
        }
    }

    /// Has the server know a run before it orders something: the server takes orders of runs that it knows only.
    ///
    /// # Errors
    /// [`ApiError`]; the run may go on, and its orders are refused until the server knows it.
    pub fn announce(server: &ServerApi, report: Option<&Report>) -> Result<(), ApiError> {
        report.map_or(Ok(()), |report| server.report_run(&report.id, &report.body))
    }

    /// Waits until the server has what was handed over, or can't be told of it.
    pub fn flush(&self) {
        let (done, told) = channel();
        if self.sender.send(Message::Flush(done)).is_ok() {
            let _ = told.recv_timeout(LAST_MOMENT);
        }
    }
}

fn run(server: &ServerApi, messages: &Receiver<Message>) {
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
        let told = tell_all(server, &mut untold);
        if let (Err(error), false) = (&told, has_failed) {
            tracing::warn!(%error, "the server can't be told how far runs are; it is tried again");
        }
        has_failed = told.is_err();
        for done in waiting {
            let _ = done.send(());
        }
    }
}

fn tell_all(server: &ServerApi, untold: &mut BTreeMap<String, Value>) -> Result<(), ApiError> {
    while let Some((id, body)) = untold.first_key_value() {
        match server.report_run(id, body) {
            Ok(()) => {}
            // It will never take that one: its alert is gone, or the run is another's.
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
    body["generation"] = header.alert.generation.into();
    Some(Report { id, body })
}

/// A run that nobody goes on with.
pub fn abandoned(context: &Context, header: &Header, reason: &str) -> Option<Report> {
    let id = run_id(&header.key())?;
    let body = json!({
        "alert_id": header.alert.id, "playbook": header.playbook, "responder": context.journals.instance(),
        "state": RunEnd::Abandoned.as_str(), "name": header.playbook, "detail": short(reason),
        "generation": header.alert.generation,
    });
    Some(Report { id, body })
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
