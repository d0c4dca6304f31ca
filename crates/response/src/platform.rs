//! What an operating system must offer, and how a step of it is taken.

use event_model::{ReceiptStep, words};
use serde_json::Value;
use uuid::Uuid;

use crate::address::Network;
use crate::guards::Guards;
use crate::order::Order;
use crate::plan::Target;
use crate::rails::Permit;
use crate::terminate::Clock;

/// Why something was not done, or not proved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The target is gone, or another one by now.
    #[error("{subject}: {why}; nothing was done")]
    NotTheTarget {
        /// Which target.
        subject: String,
        /// What is there instead.
        why: String,
    },
    /// The target is of a kind that is not acted on.
    #[error("{subject} {why}; hint: {hint}")]
    NotAllowed {
        /// Which target.
        subject: String,
        /// What it is.
        why: String,
        /// What to do next.
        hint: &'static str,
    },
    /// The system refused a call.
    #[error("{doing}: {error}")]
    System {
        /// What was being done, with its subject.
        doing: String,
        /// The system's words.
        error: String,
    },
    /// Done, but the end state is not as wanted.
    #[error("not proved: {0}")]
    NotProved(String),
}

impl Failure {
    pub(crate) fn system(doing: impl Into<String>, error: impl ToString) -> Self {
        Self::System { doing: doing.into(), error: error.to_string() }
    }
}

/// What an action would touch: what the guard rails look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A process.
    Process(Target),
    /// A file, by device and inode as stat(2) gives them.
    File {
        /// Where.
        path: String,
        /// Device and inode.
        file: (u64, u64),
    },
    /// The file of a service, as above, and what would end with it.
    Service {
        /// Where.
        path: String,
        /// Device and inode.
        file: (u64, u64),
        /// Its processes.
        processes: Vec<Target>,
    },
    /// Addresses.
    Network(Network),
    /// The host's network as a whole.
    Host,
    /// Nothing: it only looks.
    Nothing,
}

/// What would be done, found by looking only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Each step, in words, exactly.
    pub steps: Vec<String>,
    /// What they would touch.
    pub subject: Subject,
}

/// Called before every step with its words; an error stands for the step's failure.
/// Tests put faults and crashes here; the agent has none.
pub type Checkpoint = Box<dyn Fn(&str) -> Result<(), Failure> + Send>;

/// The steps of one order as they are taken.
pub struct Progress<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) checkpoint: Option<&'a Checkpoint>,
    pub(crate) steps: Vec<ReceiptStep>,
}

/// Steps that a receipt tells; a tree may have a thousand processes.
const MOST_STEPS: usize = 100;

impl Progress<'_> {
    /// Takes one step; it is in the receipt only if it succeeded.
    pub(crate) fn step<T>(
        &mut self,
        what: &str,
        take: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.check(what)?;
        let value = take()?;
        self.note(what);
        Ok(value)
    }

    /// A place where the order may fail, or the process end.
    pub(crate) fn check(&self, what: &str) -> Result<(), Failure> {
        self.checkpoint.map_or(Ok(()), |checkpoint| checkpoint(what))
    }

    /// Tells of what was done.
    pub(crate) fn note(&mut self, what: &str) {
        if self.steps.len() < MOST_STEPS {
            self.steps.push(ReceiptStep { at: (self.clock)(), what: what.to_owned() });
        }
    }
}

/// A signature with what verifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// ECDSA over P-256 and SHA-256, as DER.
    pub signature: Vec<u8>,
    /// The certificate of its key, as DER.
    pub certificate: Vec<u8>,
}

/// Signs what evidence says of itself; `None` where there is no key (yet).
pub type Signer = Box<dyn Fn(&[u8]) -> Option<Signature> + Send>;

/// One operating system's way to act. `survey` and `verify` change nothing.
pub trait Platform: Send {
    /// What would be done.
    ///
    /// # Errors
    /// The target is not there, or not one that is acted on.
    fn survey(&self, order: &Order) -> Result<Survey, Failure>;

    /// Does it. What it gives goes into the receipt's result.
    ///
    /// # Errors
    /// What could not be done; what was done before it is undone where that is possible.
    fn apply(
        &mut self,
        permit: &Permit,
        guards: &Guards,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure>;

    /// Reads the end state back and says in words what was seen.
    ///
    /// # Errors
    /// It is not as wanted.
    fn verify(&self, order: &Order) -> Result<String, Failure>;

    /// Finishes or undoes what a crash interrupted, and says what was seen.
    ///
    /// # Errors
    /// The action did not come to its end; nothing is left half done that could be helped.
    fn recover(&mut self, order: &Order) -> Result<String, Failure>;

    /// What is in force and was changed by others is put back, if it `may_act`; what is to be let go is let
    /// go in any case. A notice for each.
    fn watch(&mut self, may_act: bool) -> Vec<Notice>;
}

words! {
    /// What somebody on the host did to an isolation.
    Interference {
        /// Let the host go by its code.
        Released = "isolation_released",
        /// Gave a wrong code.
        WrongCode = "release_code_wrong",
        /// Changed the rules, which are put back.
        Changed = "isolation_changed",
    }
}

/// What a look at what is in force found, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// In words.
    pub text: String,
    /// What somebody on the host did, if that was the cause: the server is told.
    pub interference: Option<Interference>,
    /// The order that is in force.
    pub order: Option<Uuid>,
}

impl Notice {
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), interference: None, order: None }
    }

    pub(crate) fn of(interference: Interference, order: Option<Uuid>, text: impl Into<String>) -> Self {
        Self { text: text.into(), interference: Some(interference), order }
    }
}
