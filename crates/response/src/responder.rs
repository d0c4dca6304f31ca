//! Orders, from the asking to the proof.
//!
//! The sequence is the same for every action: known already? → admitted? → survey
//! (looks only) → permit → begun, on disk → apply → verify → ended, on disk. What
//! is found begun and not ended when the journal is opened was interrupted by a
//! crash: the platform finishes or undoes it, and the receipt says which.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;
use uuid::Uuid;

use crate::action::Action;
use crate::guards::Guards;
use crate::journal::{Entry, Journal, write_whole};
use crate::order::{Order, OrderState, Origin, Receipt};
use crate::platform::{Checkpoint, Failure, Notice, Platform, Progress};
use crate::rails::{Permit, Rails, Switch};
use crate::terminate::Clock;

/// Larger results (lists of processes) go up with the receipt and are not kept here.
const MOST_RESULT_KEPT: usize = 16 << 10;

/// What a responder needs.
pub struct ResponderParts {
    /// Folder of its own, in the agent's state directory.
    pub dir: PathBuf,
    /// The system it acts on.
    pub platform: Box<dyn Platform>,
    /// Who may not be acted on.
    pub guards: Guards,
    /// Stops it.
    pub switch: Switch,
    /// Wall clock.
    pub clock: Clock,
    /// For tests: called before each step.
    pub checkpoint: Option<Checkpoint>,
}

/// Carries out orders, one after the other.
pub struct Responder {
    stopped_file: PathBuf,
    platform: Box<dyn Platform>,
    rails: Rails,
    journal: Journal,
    clock: Clock,
    checkpoint: Option<Checkpoint>,
}

/// What was found when a responder began.
#[derive(Debug, Default)]
pub struct Found {
    /// Receipts of what a crash interrupted.
    pub receipts: Vec<Receipt>,
    /// What a person should read.
    pub notes: Vec<String>,
}

impl Responder {
    /// Opens the folder, and brings to an end what a crash interrupted.
    ///
    /// # Errors
    /// The folder can't be made or read.
    pub fn open(parts: ResponderParts) -> io::Result<(Self, Found)> {
        let ResponderParts { dir, platform, guards, switch, clock, checkpoint } = parts;
        let mut found = Found::default();
        let (journal, interrupted) = Journal::open(&dir.join("journal"), &mut found.notes)?;
        let stopped_file = dir.join("stopped");
        switch.set(stopped_file.exists());
        if switch.is_stopped() {
            found.notes.push(format!("all response is stopped ({} is there)", stopped_file.display()));
        }
        let rails = Rails::new(guards, switch);
        let mut new = Self { stopped_file, platform, rails, journal, clock, checkpoint };
        for entry in interrupted {
            let receipt = new.recover(entry);
            found.receipts.push(receipt);
        }
        Ok((new, found))
    }

    /// Where the server is: no action cuts the link to it.
    pub fn keep_server(&mut self, addresses: Vec<SocketAddr>) {
        self.rails.server = addresses;
    }

    /// There is a server of this name. As long as none of its addresses [is known](Self::keep_server), what could
    /// cut the link to it is refused.
    pub fn expect_server(&mut self, name: String) {
        self.rails.expected_server = Some(name);
    }

    /// Whether an order of this id came before and is in the journal.
    pub fn knows(&self, id: Uuid) -> bool {
        self.journal.find(id).is_some()
    }

    /// Carries out one order and says what became of it. An order that comes again
    /// gets the receipt that it got before.
    pub fn run(&mut self, order: Order) -> Receipt {
        if let Some(before) = self.journal.find(order.id) {
            return already_known(&order, before);
        }
        let now = (self.clock)();
        let admitted = self.rails.admit(&order, now);
        let admitted = admitted.and_then(|()| self.rails.take_in(&order, Instant::now()));
        if let Err((state, reason)) = admitted {
            return self.end(Entry::of(order), state, reason, Progressed::default());
        }
        self.rails.guards.refresh();
        let survey = match self.platform.survey(&order) {
            Ok(survey) => survey,
            Err(failure) => {
                let (entry, reason) = (Entry::of(order), failure.to_string());
                return self.end(entry, OrderState::Refused, reason, Progressed::default());
            }
        };
        let mut entry = Entry { plan: survey.steps.clone(), ..Entry::of(order) };
        let permit = match self.rails.permit(&entry.order, survey, now) {
            Ok(permit) => permit,
            Err((state, reason)) => return self.end(entry, state, reason, Progressed::default()),
        };
        // Written before anything is done, with what undoes it. A rule's kill is the exception: it
        // can't be undone, hits one life of one process however often it comes, and must be quick.
        let is_kill = matches!(entry.order.action, Action::KillTree(_) | Action::TerminateProcess(_));
        let by_rule = matches!(entry.order.origin, Origin::Rule { .. });
        entry.undo = entry.order.action.inverse(entry.order.id);
        if !(is_kill && by_rule) {
            let begun = self.check("journal: begin").and_then(|()| {
                self.journal.write(&entry).map_err(|error| Failure::system("writing the undo record", error))
            });
            if let Err(failure) = begun {
                entry.undo = None;
                let reason = format!("{failure}; nothing was done");
                return self.end(entry, OrderState::Failed, reason, Progressed::default());
            }
        }
        self.carry_out(entry, &permit)
    }

    fn carry_out(&mut self, entry: Entry, permit: &Permit) -> Receipt {
        let mut progress =
            Progress { clock: &self.clock, checkpoint: self.checkpoint.as_ref(), steps: Vec::new() };
        let applied = match &entry.order.action {
            Action::StopResponses {} | Action::AllowResponses {} => {
                let stop = matches!(entry.order.action, Action::StopResponses {});
                set_switch(&self.stopped_file, &self.rails.switch, stop, &mut progress)
            }
            _ => self.platform.apply(permit, &self.rails.guards, &mut progress),
        };
        let verified = |this: &Self| {
            this.check("verify")?;
            match &entry.order.action {
                Action::StopResponses {} | Action::AllowResponses {} => {
                    Ok(format!("all response is {}", this.rails.switch.word()))
                }
                _ => this.platform.verify(&entry.order),
            }
        };
        let steps = std::mem::take(&mut progress.steps);
        match applied {
            Err(failure) => {
                let progressed = Progressed { steps, result: Value::Null };
                self.end(entry, OrderState::Failed, failure.to_string(), progressed)
            }
            Ok(result) => {
                let progressed = Progressed { steps, result };
                match verified(self) {
                    Ok(proof) => self.end(entry, OrderState::Verified, proof, progressed),
                    Err(failure) => self.end(entry, OrderState::Failed, failure.to_string(), progressed),
                }
            }
        }
    }

    fn recover(&mut self, entry: Entry) -> Receipt {
        let recovered = match &entry.order.action {
            Action::StopResponses {} | Action::AllowResponses {} => {
                let wanted = matches!(entry.order.action, Action::StopResponses {});
                match self.rails.switch.is_stopped() == wanted {
                    true => Ok(format!("all response is {}", self.rails.switch.word())),
                    false => Err(Failure::NotProved("the switch was not turned".to_owned())),
                }
            }
            _ => self.platform.recover(&entry.order),
        };
        let progressed = Progressed::default();
        match recovered {
            Ok(proof) => {
                let reason = format!("the agent ended while acting; found afterwards: {proof}");
                self.end(entry, OrderState::Verified, reason, progressed)
            }
            Err(failure) => {
                let reason = format!("the agent ended while acting; {failure}");
                self.end(entry, OrderState::Failed, reason, progressed)
            }
        }
    }

    /// Looks whether what is in force still is, and puts it back. A notice for each repair.
    pub fn watch(&mut self) -> Vec<Notice> {
        // The switch stops what holds, not what lets go: the code of an isolation counts all the same.
        let may_act = !self.rails.switch.is_stopped();
        self.platform.watch(may_act)
    }

    fn check(&self, what: &str) -> Result<(), Failure> {
        self.checkpoint.as_ref().map_or(Ok(()), |checkpoint| checkpoint(what))
    }

    fn end(&mut self, mut entry: Entry, state: OrderState, reason: String, done: Progressed) -> Receipt {
        let mut receipt = Receipt::of(&entry.order, state, reason);
        receipt.plan.clone_from(&entry.plan);
        receipt.steps = done.steps;
        if state == OrderState::Verified {
            receipt.undo.clone_from(&entry.undo);
        }
        let kept = done.result.to_string().len() <= MOST_RESULT_KEPT;
        receipt.result = if kept { done.result.clone() } else { Value::Null };
        entry.receipt = Some(receipt.clone());
        let nothing_done =
            matches!(state, OrderState::Planned | OrderState::Refused | OrderState::ApprovalNeeded);
        // What a rule was not allowed to do costs no disk: whoever can trigger it could fill it.
        let written = match nothing_done && matches!(entry.order.origin, Origin::Rule { .. }) {
            true => Ok(()),
            false => self
                .check("journal: end")
                .and_then(|()| self.journal.write(&entry).map_err(|error| Failure::system("journal", error))),
        };
        if let Err(failure) = written {
            receipt.reason.push_str(&format!("; the end could not be noted in the journal ({failure})"));
        }
        self.journal.prune((self.clock)());
        receipt.result = done.result;
        receipt
    }
}

/// What an order did.
#[derive(Default)]
struct Progressed {
    steps: Vec<event_model::ReceiptStep>,
    result: Value,
}

impl Entry {
    fn of(order: Order) -> Self {
        Self { order, plan: Vec::new(), undo: None, receipt: None }
    }
}

/// The answer to an order that came before.
fn already_known(order: &Order, before: io::Result<Entry>) -> Receipt {
    match before {
        Ok(entry) if entry.order.action == order.action => entry.receipt.unwrap_or_else(|| {
            Receipt::of(order, OrderState::Failed, "it was begun before, and its end is not known")
        }),
        Ok(_) => {
            Receipt::of(order, OrderState::Refused, "another order came under this id; hint: draw a new id")
        }
        Err(error) => {
            let reason =
                format!("an order came under this id before, and its journal entry can't be read: {error}");
            Receipt::of(order, OrderState::Refused, reason)
        }
    }
}

fn set_switch(
    file: &Path,
    switch: &Switch,
    stop: bool,
    progress: &mut Progress<'_>,
) -> Result<Value, Failure> {
    let doing = if stop { "stop all response" } else { "allow response" };
    progress.step(doing, || {
        let done = match stop {
            true => write_whole(file, b"all response of this agent is stopped\n"),
            false => match std::fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        done.map_err(|error| Failure::system(format!("{doing}: {}", file.display()), error))?;
        switch.set(stop);
        Ok(Value::Null)
    })
}

impl Switch {
    fn word(&self) -> &'static str {
        if self.is_stopped() { "stopped" } else { "allowed" }
    }
}

/// An id for what a rule asks for: the same match asks for the same thing only once.
pub fn order_id(detection: event_model::DetectionId, action: &Action) -> Uuid {
    Uuid::new_v5(detection.as_uuid(), action.to_string().as_bytes())
}
