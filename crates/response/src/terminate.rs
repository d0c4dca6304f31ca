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

/// How long a process may seem to be neither there nor ended. Short: the caller waits.
const WHILE_ENDING: Duration = Duration::from_millis(5);

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
    #[error("identity of process {pid} could not be checked ({why}), nothing was sent")]
    Unchecked { pid: u32, why: &'static str },
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
        self.check_identity(plan, &pidfd)?;
        let signal = if plan.grace.is_zero() { Signal::KILL } else { Signal::TERM };
        match pidfd_send_signal(&pidfd, signal) {
            Ok(()) => {}
            Err(Errno::SRCH) => return Err(gone),
            Err(errno) => return Err(NotActed::System { call: "pidfd_send_signal", pid, errno }),
        }
        let what = if plan.grace.is_zero() { "sent SIGKILL" } else { "sent SIGTERM" };
        Ok((pidfd, ReceiptStep { at: (self.clock)(), what: what.to_owned() }))
    }

    fn check_identity(&self, plan: &Plan, pidfd: &OwnedFd) -> Result<(), NotActed> {
        let pid = plan.target.entity_id.pid();
        let wanted = plan.target.entity_id.start_ns();
        let Some(start) = self.processes.start_ns(pid) else {
            return check_by_proc(plan, pidfd);
        };
        let precision = self.processes.precision_ns();
        let same_start = start.abs_diff(wanted) < precision.max(1);
        // With a coarse clock two lives can share a start; then the image must be
        // the same as well, so that at worst another run of the same program is hit.
        if same_start && (precision <= 1 || same_image(plan) == Some(true)) {
            return Ok(());
        }
        Err(another_process(pid))
    }
}

/// The identity where the sensor's clock does not know a process that is there: its
/// map is full, or the process is just ending.
#[cold]
fn check_by_proc(plan: &Plan, pidfd: &OwnedFd) -> Result<(), NotActed> {
    let pid = plan.target.entity_id.pid();
    let why = match (proc::stat(pid), same_image(plan)) {
        (Some(stat), _) if !proc::same_ticks(stat.start_ticks, plan.target.entity_id.start_ns()) => {
            return Err(another_process(pid));
        }
        (Some(_), Some(true)) => return Ok(()),
        (Some(_), Some(false)) => return Err(another_process(pid)),
        (Some(_), None) => "the sensor does not know its start, and its image can't be read",
        (None, _) => "the sensor does not know its start, and /proc does not show it",
    };
    // One that ends has lost its image a moment before its pidfd tells of the end.
    if ends_within(pidfd, WHILE_ENDING) {
        Err(NotActed::Gone(pid))
    } else {
        Err(NotActed::Unchecked { pid, why })
    }
}

/// Whether the process runs the image that was observed; `None` if that can't be told.
fn same_image(plan: &Plan) -> Option<bool> {
    let pid = plan.target.entity_id.pid();
    match plan.target.image {
        Some(image) => Some(proc::image_of(pid)? == image),
        None => Some(proc::executable_of(pid)? == plan.target.executable),
    }
}

fn another_process(pid: u32) -> NotActed {
    NotActed::AnotherProcess { pid, now: proc::executable_of(pid).unwrap_or_else(|| "unknown".to_owned()) }
}

/// A pidfd is readable once its process has ended, also as a zombie.
pub(crate) fn has_ended(pidfd: &OwnedFd) -> bool {
    ends_within(pidfd, Duration::ZERO)
}

fn ends_within(pidfd: &OwnedFd, limit: Duration) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let limit = Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() };
    matches!(poll(&mut fds, Some(&limit)), Ok(ready) if ready > 0)
}

#[cfg(test)]
mod tests {
    use event_model::{BootId, DetectionId, ProcessEntityId, RuleId};
    use uuid::Uuid;

    use super::*;
    use crate::plan::Target;

    #[test]
    fn what_can_not_be_told_is_said_and_not_called_ended() {
        // A thread of the kernel stands for any process whose image can't be read.
        let Some(stat) = proc::stat(2).filter(|stat| stat.kernel_thread) else {
            eprintln!("skipped: the kernel's threads can't be seen here");
            return;
        };
        let start_ns = stat.start_ticks * 10_000_000;
        let entity_id = ProcessEntityId::new(BootId::from_uuid(Uuid::from_u128(1)), 2, start_ns);
        let target =
            Target { entity_id, executable: String::new(), image: Some((1, 1)), kernel_thread: false };
        let detection_id = DetectionId::from_uuid(Uuid::from_u128(2));
        let plan = Plan { detection_id, rule_id: RuleId::new("1"), target, grace: Duration::ZERO };
        let pidfd = pidfd_open(Pid::from_raw(2).unwrap(), PidfdFlags::empty()).unwrap();
        let error = check_by_proc(&plan, &pidfd).unwrap_err().to_string();
        assert!(error.contains("could not be checked"), "{error}");
    }
}
