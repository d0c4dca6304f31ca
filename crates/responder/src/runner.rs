//! One run, from its first decision to its end. Each has a thread of its own, and each step that acts has one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use event_model::Timestamp;
use playbook::{ActionKind, Decision, Effect, Entry, EntryKind, Outcome, Playbook, RunEnd, RunState, next};

use server_api::{ApiError, ResponseState, RunOrder};

use crate::Context;
use crate::journal::{Journal, JournalError};
use crate::report::{self, Report};

/// How often people's decisions are asked for while a step waits for them.
const APPROVAL_LOOK: Duration = Duration::from_secs(2);
/// How often a response is asked about: soon at first, because most are done in milliseconds.
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LAST_LOOK: Duration = Duration::from_millis(500);
/// An order lives so much longer than its step, because the clocks of responder and host differ. It is taken back
/// when the step's time is over; this is for the responder that does not live to do so.
pub(crate) const LATE: Duration = Duration::from_secs(120);

/// What a step's thread tells.
#[derive(Debug)]
enum Told {
    Submitted { step: usize, response: String },
    Finished { step: usize, outcome: Outcome, detail: String },
    Undone { step: usize, succeeded: bool, detail: String },
}

/// The time.
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
}

/// Runs to the end. Blocks.
///
/// # Errors
/// [`JournalError`] if the journal can't be written: then nothing more is done, and a restart goes on.
pub fn run(context: &Arc<Context>, mut journal: Journal) -> Result<Option<RunEnd>, JournalError> {
    let Some(playbook) = context.library.find(&journal.header.playbook).cloned() else {
        return abandon(context, &mut journal, "its playbook is gone");
    };
    if playbook.fingerprint != journal.header.fingerprint {
        return abandon(context, &mut journal, "its playbook has changed since it began");
    }
    let state = match RunState::of(&playbook, journal.header.began, &journal.entries) {
        Ok(state) => state,
        Err(error) => return abandon(context, &mut journal, &error.to_string()),
    };
    let (tell, told) = channel();
    let mut run = Run {
        context: Arc::clone(context),
        playbook: Arc::new(playbook),
        journal,
        state,
        in_flight: BTreeSet::new(),
        tell,
        told,
        is_waiting: false,
    };
    let first = report::of(context, &run.journal.header, &run.playbook, &run.state);
    if let Err(error) = context.reports.announce(&context.server, first.as_ref()) {
        tracing::warn!(key = %run.journal.header.key(), %error, "the server could not be told that a run begins");
        context.reports.tell(first);
    }
    run.go_on()?;
    Ok(run.state.end)
}

pub(crate) fn abandon(
    context: &Context,
    journal: &mut Journal,
    reason: &str,
) -> Result<Option<RunEnd>, JournalError> {
    tracing::warn!(
        alert = journal.header.alert.id,
        playbook = journal.header.playbook,
        reason,
        "a run is abandoned"
    );
    let detail = reason.to_owned();
    let kind = EntryKind::RunFinished { end: RunEnd::Abandoned, detail };
    journal.append(Entry { at: now(), by: context.journals.instance().to_owned(), kind })?;
    context.reports.tell(report::abandoned(context, &journal.header, reason));
    note(
        context,
        &journal.header.alert.id,
        &format!("playbook {}: abandoned: {reason}", journal.header.playbook),
    );
    Ok(Some(RunEnd::Abandoned))
}

/// Orders something for a run. A server that does not take it may not know the run, as it could not be told when the run
/// began: it is told now, and the order is given once more. What it did not take was not done.
pub(crate) fn respond(
    context: &Context,
    report: Option<&Report>,
    order: impl Fn() -> Result<String, ApiError>,
) -> Result<String, ApiError> {
    ordered(order, || report.is_some() && context.reports.announce(&context.server, report).is_ok())
}

fn ordered(
    order: impl Fn() -> Result<String, ApiError>,
    is_known_now: impl FnOnce() -> bool,
) -> Result<String, ApiError> {
    match order() {
        Err(ApiError::Refused { status: 422, .. }) if is_known_now() => order(),
        answer => answer,
    }
}

/// A remark on the alert, for people. What counts is in the journal, so a failure only goes to the log.
pub(crate) fn note(context: &Context, alert: &str, text: &str) {
    if let Err(error) = context.server.add_note(alert, text) {
        tracing::warn!(alert, %error, "no remark could be put on the alert");
    }
}

struct Run {
    context: Arc<Context>,
    playbook: Arc<Playbook>,
    journal: Journal,
    state: RunState,
    in_flight: BTreeSet<usize>,
    tell: Sender<Told>,
    told: Receiver<Told>,
    /// The last look found nothing to do but to wait.
    is_waiting: bool,
}

impl Run {
    fn go_on(&mut self) -> Result<(), JournalError> {
        loop {
            let context = Arc::clone(&self.context);
            let alert = self.journal.header.alert.clone();
            let facts = context.library.facts(&alert);
            let decisions = next(&self.playbook, &facts, &self.state, &self.in_flight, now());
            self.is_waiting = false;
            let mut until = None;
            for decision in decisions {
                match decision {
                    Decision::Wait { until: time } => {
                        self.is_waiting = true;
                        until = time;
                    }
                    decision => self.take(decision)?,
                }
            }
            if self.state.end.is_some()
                && (self.is_waiting || !self.state.undo_requested)
                && self.in_flight.is_empty()
            {
                return Ok(());
            }
            if self.is_waiting {
                self.wait(until)?;
            } else {
                while let Ok(told) = self.told.try_recv() {
                    self.note_told(told)?;
                }
            }
            if self.state.end.is_some() && !self.state.undo_requested {
                return Ok(());
            }
        }
    }

    /// Writes a decision down, and only then acts on it.
    fn take(&mut self, decision: Decision) -> Result<(), JournalError> {
        match decision {
            Decision::Start { step, effect } => {
                let id = self.id(step);
                self.write(EntryKind::StepStarted { step: id.clone() })?;
                match effect {
                    Effect::Approval { people, text } => self.ask(&id, people, &text),
                    effect => self.act(step, effect),
                }
            }
            Decision::Follow { step, response } => {
                self.spawn(step, move |context, tell, timeout| {
                    let (outcome, detail) = follow_or_take_back(context, &response, timeout);
                    let _ = tell.send(Told::Finished { step, outcome, detail });
                });
            }
            Decision::Finish { step, outcome, detail } => {
                // What is in flight takes its order back itself, and tells when that is done.
                if outcome == Outcome::TimedOut
                    && !self.in_flight.contains(&step)
                    && let Some(response) = self.state.steps.get(step).and_then(|own| own.response.clone())
                {
                    self.spawn(step, move |context, tell, _| {
                        let (outcome, detail) = take_back(context, &response, String::new());
                        let _ = tell.send(Told::Finished { step, outcome, detail });
                    });
                }
                let step = self.id(step);
                self.write(EntryKind::StepFinished { step, outcome, detail })?;
            }
            Decision::Undo { step, response } => {
                let id = self.id(step);
                self.write(EntryKind::UndoStarted { step: id })?;
                self.spawn(step, move |context, tell, timeout| {
                    let (succeeded, detail) = undo(context, &response, timeout);
                    let _ = tell.send(Told::Undone { step, succeeded, detail });
                });
            }
            Decision::UndoFailed { step, detail } => {
                let step = self.id(step);
                self.write(EntryKind::UndoFinished { step, succeeded: false, detail })?;
            }
            Decision::End { end, detail } => {
                self.write(EntryKind::RunFinished { end, detail: detail.clone() })?;
                self.report(end, &detail);
            }
            Decision::Wait { .. } => {}
        }
        Ok(())
    }

    fn act(&mut self, step: usize, effect: Effect) {
        let alert = self.journal.header.alert.clone();
        let run = report::run_id(&self.journal.header.key());
        let report = report::of(&self.context, &self.journal.header, &self.playbook, &self.state);
        self.spawn(step, move |context, tell, timeout| {
            let Effect::Respond { action, host_id, parameters } = &effect else {
                let (outcome, detail) = match context.outside.perform(&effect, &alert, timeout) {
                    Ok(detail) => (Outcome::Succeeded, detail),
                    Err(reason) => (Outcome::Failed, reason),
                };
                let _ = tell.send(Told::Finished { step, outcome, detail });
                return;
            };
            let begun = Instant::now();
            let order = RunOrder { id: run.as_deref(), dry_run: false, life: timeout + LATE };
            let ordered = respond(context, report.as_ref(), || {
                context.server.respond(host_id, action.as_str(), parameters, &order)
            });
            let (outcome, detail) = match ordered {
                Ok(response) => {
                    let _ = tell.send(Told::Submitted { step, response: response.clone() });
                    follow_or_take_back(context, &response, timeout.saturating_sub(begun.elapsed()))
                }
                // It may be on its way to the agent: not tried again.
                Err(error @ ApiError::NoAnswer { .. }) => (Outcome::Lost, error.to_string()),
                Err(error) => (Outcome::Failed, error.to_string()),
            };
            let _ = tell.send(Told::Finished { step, outcome, detail });
        });
    }

    fn spawn(&mut self, step: usize, work: impl FnOnce(&Context, &Sender<Told>, Duration) + Send + 'static) {
        let timeout = self.playbook.steps.get(step).map_or(Duration::ZERO, |step| step.timeout);
        let (context, tell) = (Arc::clone(&self.context), self.tell.clone());
        self.in_flight.insert(step);
        let body = move || work(&context, &tell, timeout);
        if let Err(error) = std::thread::Builder::new().name("step".to_owned()).spawn(body) {
            let detail = format!("no thread for it: {error}");
            let _ = self.tell.send(Told::Finished { step, outcome: Outcome::Failed, detail });
        }
    }

    /// Until a step's thread tells something, a person decides, or a time is over.
    fn wait(&mut self, until: Option<Timestamp>) -> Result<(), JournalError> {
        let left = until.map(|until| {
            let nanos = until.as_nanos().saturating_sub(now().as_nanos());
            // A moment more, so that the time is over when it is looked at.
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)) + Duration::from_millis(1)
        });
        let open = self.open_approvals();
        let longest = if open.is_empty() { Duration::from_secs(60) } else { APPROVAL_LOOK };
        if let Ok(told) = self.told.recv_timeout(left.unwrap_or(longest).min(longest)) {
            return self.note_told(told);
        }
        self.note_approvals(&open)
    }

    fn note_told(&mut self, told: Told) -> Result<(), JournalError> {
        match told {
            Told::Submitted { step, response } => {
                // Also where the step is over: undoing it needs the id.
                let step = self.id(step);
                self.write(EntryKind::StepSubmitted { step, response })
            }
            Told::Finished { step, outcome, detail } => {
                self.in_flight.remove(&step);
                let step = self.id(step);
                let own = self.playbook.place_of(&step).and_then(|place| self.state.steps.get(place));
                if own.is_some_and(|own| own.outcome.is_some()) {
                    tracing::info!(step, %outcome, detail, "a step whose time was over ended");
                    return Ok(());
                }
                self.write(EntryKind::StepFinished { step, outcome, detail })
            }
            Told::Undone { step, succeeded, detail } => {
                self.in_flight.remove(&step);
                let step = self.id(step);
                self.write(EntryKind::UndoFinished { step, succeeded, detail })
            }
        }
    }

    fn ask(&self, step: &str, people: usize, text: &str) {
        let playbook = &self.playbook.id;
        let who = if people == 1 { "one person".to_owned() } else { format!("{people} different people") };
        let text = format!(
            "playbook {playbook}: {text}\nTo decide, {who} add the note `approve {playbook}/{step}` or `deny {playbook}/{step}`.\n\
             请添加备注 `approve {playbook}/{step}`(同意)或 `deny {playbook}/{step}`(拒绝)。"
        );
        note(&self.context, &self.journal.header.alert.id, &text);
    }

    fn open_approvals(&self) -> Vec<(String, Timestamp)> {
        let steps = self.playbook.steps.iter().zip(&self.state.steps);
        let open =
            steps.filter(|(step, own)| step.action == ActionKind::WaitForApproval && own.outcome.is_none());
        open.filter_map(|(step, own)| Some((step.id.clone(), own.started?))).collect()
    }

    /// Takes what people wrote on the alert since a step began to wait. What a script wrote (`token:…`)
    /// is nobody's approval, above all not this responder's own.
    fn note_approvals(&mut self, open: &[(String, Timestamp)]) -> Result<(), JournalError> {
        if open.is_empty() {
            return Ok(());
        }
        let notes = match self.context.server.alert(&self.journal.header.alert.id, 0) {
            Ok((_, notes)) => notes,
            Err(error) => {
                tracing::warn!(%error, "people's decisions can't be asked for; it is tried again");
                return Ok(());
            }
        };
        for (step, since) in open {
            for note in &notes {
                let is_later = note.at.parse::<Timestamp>().is_ok_and(|at| at >= *since);
                if note.author.contains(':') || !is_later {
                    continue;
                }
                let Some(approve) = decision(&note.text, &self.playbook.id, step) else { continue };
                // Who asked for the run may still say no.
                if approve && note.author.eq_ignore_ascii_case(&self.journal.header.requested_by) {
                    continue;
                }
                let own = self.playbook.place_of(step).and_then(|place| self.state.steps.get(place));
                let is_known = own.is_some_and(|own| {
                    own.denied_by.is_some() || approve && own.approved_by.contains(&note.author)
                });
                if !is_known {
                    let kind = EntryKind::Approval { step: step.clone(), approve };
                    self.write_as(&note.author, kind)?;
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, kind: EntryKind) -> Result<(), JournalError> {
        let by = self.context.journals.instance().to_owned();
        self.write_as(&by, kind)
    }

    fn write_as(&mut self, by: &str, kind: EntryKind) -> Result<(), JournalError> {
        let entry = Entry { at: now(), by: by.to_owned(), kind };
        self.journal.append(entry.clone())?;
        if let Err(error) = self.state.add(&self.playbook, &entry) {
            tracing::error!(%error, "a run's journal contradicts itself");
        }
        self.tell_server();
        Ok(())
    }

    /// How far it is, for the console. The journal is what counts, so nobody waits for this.
    fn tell_server(&self) {
        let context = &self.context;
        context.reports.tell(report::of(context, &self.journal.header, &self.playbook, &self.state));
    }

    fn id(&self, step: usize) -> String {
        self.playbook.steps.get(step).map(|step| step.id.clone()).unwrap_or_default()
    }

    /// What became of the run, as a remark on its alert.
    fn report(&self, end: RunEnd, detail: &str) {
        let alert = &self.journal.header.alert;
        let mut text = format!("playbook {} ({}): {end}", self.playbook.id, self.playbook.mode);
        if alert.generation > 0 {
            text.push_str(&format!(" (repeat {}, {} detections)", alert.generation, alert.count));
        }
        if !detail.is_empty() {
            text.push_str(&format!(": {detail}"));
        }
        for (step, own) in self.playbook.steps.iter().zip(&self.state.steps) {
            let outcome = own.outcome.map_or("not begun", Outcome::as_str);
            text.push_str(&format!("\n{} ({}): {outcome}", step.id, step.action));
            if !own.detail.is_empty() {
                text.push_str(&format!(": {}", own.detail.chars().take(300).collect::<String>()));
            }
            match own.undone {
                Some(true) => text.push_str("; undone"),
                Some(false) => text.push_str("; NOT undone"),
                None => {}
            }
        }
        tracing::info!(alert = alert.id, playbook = self.playbook.id, %end, "a run ended");
        note(&self.context, &alert.id, &text);
    }
}

/// Asks about a response until it is done or the time is over.
pub(crate) fn follow(context: &Context, response: &str, timeout: Duration) -> (Outcome, String) {
    let (outcome, detail) = match settled(context, response, timeout) {
        Ok(ResponseState::Verified) => (Outcome::Succeeded, "verified".to_owned()),
        Ok(ResponseState::Planned) => (Outcome::Shadowed, "surveyed, nothing was done".to_owned()),
        Ok(ResponseState::Failed(reason) | ResponseState::NotBegun(reason)) => (Outcome::Failed, reason),
        Ok(ResponseState::Open) => (Outcome::TimedOut, "not done in time".to_owned()),
        Err(reason) => (Outcome::TimedOut, reason),
    };
    (outcome, format!("response {response}: {detail}"))
}

/// The same; what is not done when the time is over is taken back, so that a host that comes back later does not act
/// for a run that has given it up.
fn follow_or_take_back(context: &Context, response: &str, timeout: Duration) -> (Outcome, String) {
    match follow(context, response, timeout) {
        (Outcome::TimedOut, detail) => take_back(context, response, detail),
        ended => ended,
    }
}

fn take_back(context: &Context, response: &str, detail: String) -> (Outcome, String) {
    let what = match context.server.cancel(response) {
        Ok(true) => "taken back before it was sent".to_owned(),
        // It may have been done at the last moment.
        Ok(false) => match follow(context, response, Duration::ZERO) {
            (Outcome::TimedOut, _) => "it was sent, and may still be done".to_owned(),
            ended => return ended,
        },
        Err(error) => format!("it can't be taken back: {error}"),
    };
    let detail = if detail.is_empty() { format!("response {response}") } else { detail };
    (Outcome::TimedOut, format!("{detail}; {what}"))
}

/// Undoes a response: takes it back where it was not sent, has it undone where it was done.
fn undo(context: &Context, response: &str, timeout: Duration) -> (bool, String) {
    if let Ok(ResponseState::Open) = context.server.response(response)
        && let Ok(true) = context.server.cancel(response)
    {
        return (true, format!("response {response}: taken back before it was sent"));
    }
    match settled(context, response, timeout) {
        Ok(ResponseState::NotBegun(reason)) => {
            (true, format!("response {response}: it was never begun: {reason}"))
        }
        Ok(ResponseState::Open) | Err(_) => {
            (false, format!("response {response}: it was sent and is not answered; look whether it was done"))
        }
        Ok(_) => match context.server.undo(response) {
            Ok(undoing) => {
                let (outcome, detail) = follow(context, &undoing, timeout);
                (outcome == Outcome::Succeeded, detail)
            }
            Err(error) => (false, error.to_string()),
        },
    }
}

/// Where a response is when it is over, or when the time is; an error if nobody can say.
fn settled(context: &Context, response: &str, timeout: Duration) -> Result<ResponseState, String> {
    let until = Instant::now() + timeout;
    let (_keep, pause) = channel::<()>();
    let mut look = FIRST_LOOK;
    loop {
        let state = match context.server.response(response) {
            Err(ApiError::Refused { status, detail }) if status < 500 => {
                return Ok(ResponseState::Failed(format!("the server says {status}: {detail}")));
            }
            Err(error) => Err(error.to_string()),
            Ok(ResponseState::Open) => Ok(ResponseState::Open),
            Ok(ended) => return Ok(ended),
        };
        if Instant::now() >= until {
            return state;
        }
        let _ = pause.recv_timeout(look);
        look = (look * 2).min(LAST_LOOK);
    }
}

/// `approve PLAYBOOK/STEP` or `deny PLAYBOOK/STEP`, and nothing else, on a line of a note.
fn decision(text: &str, playbook: &str, step: &str) -> Option<bool> {
    let wanted = format!("{playbook}/{step}");
    text.lines().find_map(|line| {
        let (word, about) = line.trim().split_once(' ')?;
        match (word.to_ascii_lowercase().as_str(), about.trim() == wanted) {
            ("approve", true) => Some(true),
            ("deny", true) => Some(false),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_does_not_take_is_ordered_once_more_when_it_knows_the_run() {
        let tries = std::cell::Cell::new(0);
        let order = |first: u16| {
            tries.set(0);
            let tries = &tries;
            move || {
                tries.set(tries.get() + 1);
                match tries.get() {
                    1 => Err(ApiError::Refused { status: first, detail: String::new() }),
                    _ => Ok("done".to_owned()),
                }
            }
        };
        assert_eq!(ordered(order(422), || true).ok().as_deref(), Some("done"));
        assert!(ordered(order(422), || false).is_err() && tries.get() == 1, "it still does not know it");
        assert!(ordered(order(403), || true).is_err() && tries.get() == 1, "that is a no");
    }

    #[test]
    fn only_the_exact_words_decide() {
        assert_eq!(decision("approve p/ok", "p", "ok"), Some(true));
        assert_eq!(decision("I looked.\n Deny p/ok ", "p", "ok"), Some(false));
        for text in
            ["approve p/okay", "approve", "approve q/ok", "do not approve p/ok", "approve p/ok or not"]
        {
            assert_eq!(decision(text, "p", "ok"), None, "{text}");
        }
    }
}
