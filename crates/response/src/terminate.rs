//! Acting: identity first, then the first signal.
//!
//! The order is what makes a wrong kill impossible. The pidfd is opened before
//! the identity is read: if the identity fits, the pidfd was opened while that
//! very process lived, so it can't mean a later process that got the same PID.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use event_model::{ReceiptState, ReceiptStep, ResponseReceipt, Timestamp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sensor_api::ProcessClock;

use crate::guards::Authorised;
use crate::plan::Plan;
use crate::proc;
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

/// The first signal could not be sent.
#[derive(Debug, thiserror::Error)]
enum NotActed {
    #[error("process {0} had already ended")]
    Gone(u32),
    #[error("PID {pid} is another process by now ({now}), nothing was sent")]
    AnotherProcess { pid: u32, now: String },
    #[error("{call} for process {pid}: {errno}")]
    System { call: &'static str, pid: u32, errno: Errno },
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
        let pid = plan.target.entity_id.pid();
        let gone = NotActed::Gone(pid);
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Err(gone) };
        let pidfd = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Err(gone),
            Err(errno) => return Err(NotActed::System { call: "pidfd_open", pid, errno }),
        };
        // A zombie takes any signal and does nothing with it.
        if has_ended(&pidfd) {
            return Err(gone);
        }
        self.check_identity(plan)?;
        let signal = if plan.grace.is_zero() { Signal::KILL } else { Signal::TERM };
        match pidfd_send_signal(&pidfd, signal) {
            Ok(()) => {}
            Err(Errno::SRCH) => return Err(gone),
            Err(errno) => return Err(NotActed::System { call: "pidfd_send_signal", pid, errno }),
        }
        let what = if plan.grace.is_zero() { "sent SIGKILL" } else { "sent SIGTERM" };
        Ok((pidfd, ReceiptStep { at: (self.clock)(), what: what.to_owned() }))
    }

    fn check_identity(&self, plan: &Plan) -> Result<(), NotActed> {
        let pid = plan.target.entity_id.pid();
        let wanted = plan.target.entity_id.start_ns();
        let Some(start) = self.processes.start_ns(pid) else { return Err(NotActed::Gone(pid)) };
        let precision = self.processes.precision_ns();
        let same_start = start.abs_diff(wanted) < precision.max(1);
        // With a coarse clock two lives can share a start; then the image must be
        // the same as well, so that at worst another run of the same program is hit.
        let same_image = || match plan.target.image {
            Some(image) => proc::image_of(pid) == Some(image),
            None => proc::executable_of(pid).is_some_and(|path| path == plan.target.executable),
        };
        if same_start && (precision <= 1 || same_image()) {
            return Ok(());
        }
        let now = proc::executable_of(pid).unwrap_or_else(|| "unknown".to_owned());
        Err(NotActed::AnotherProcess { pid, now })
    }
}

/// A pidfd is readable once its process has ended, also as a zombie.
pub(crate) fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&at_once)), Ok(ready) if ready > 0)
}
