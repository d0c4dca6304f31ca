//! Acting: identity first (see `identity`), then the first signal.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use event_model::{ReceiptState, ReceiptStep, ResponseReceipt, Timestamp};
use rustix::process::Signal;
use sensor_api::ProcessClock;

use crate::guards::Authorised;
use crate::identity::{self, NotActed};
use crate::plan::Plan;
use crate::prove::{Prover, Waiting};

/// The wall clock that receipts are stamped with.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Ends processes.
pub struct Terminator {
    processes: Arc<dyn ProcessClock>,
    clock: Clock,
    receipts: mpsc::Sender<ResponseReceipt>,
    prover: Prover,
}

impl Terminator {
    /// A terminator that tells lives of a PID apart by `processes`, and sends its receipts to `receipts`.
    ///
    /// # Errors
    /// The system refused a thread or the pipe that wakes it.
    pub fn new(
        processes: Arc<dyn ProcessClock>,
        clock: Clock,
        receipts: mpsc::Sender<ResponseReceipt>,
    ) -> std::io::Result<Self> {
        let prover = Prover::start(clock.clone(), receipts.clone())?;
        Ok(Self { processes, clock, receipts, prover })
    }

    /// Sends the first signal now; the receipt follows. Takes some tens of microseconds.
    pub fn act(&self, authorised: Authorised) {
        let plan = authorised.into_plan();
        match self.first_signal(&plan) {
            Ok((pidfd, step)) => {
                let force_at = Instant::now() + plan.grace;
                let forced = plan.grace.is_zero();
                self.prover.take(Waiting { plan, pidfd, steps: vec![step], force_at, forced });
            }
            Err(not_acted) => {
                let receipt = plan.receipt(ReceiptState::Failed, not_acted.to_string(), Vec::new());
                // The receiver goes away only when the agent ends.
                let _ = self.receipts.send(receipt);
            }
        }
    }

    /// Waits until every begun action has its receipt, or until `deadline`.
    pub fn finish(&self, deadline: Duration) {
        self.prover.finish(deadline);
    }

    fn first_signal(&self, plan: &Plan) -> Result<(OwnedFd, ReceiptStep), NotActed> {
        let pidfd = identity::open(self.processes.as_ref(), &plan.target)?;
        let signal = if plan.grace.is_zero() { Signal::KILL } else { Signal::TERM };
        identity::signal(&pidfd, plan.target.entity_id.pid(), signal)?;
        let what = if plan.grace.is_zero() { "sent SIGKILL" } else { "sent SIGTERM" };
        Ok((pidfd, ReceiptStep { at: (self.clock)(), what: what.to_owned() }))
    }
}
