//! Proving: wait for the end, use force after the grace, read the end state back.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use event_model::{ReceiptState, ReceiptStep, ResponseReceipt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use crate::identity::has_ended;
use crate::plan::Plan;
use crate::proc;
use crate::terminate::Clock;

/// After SIGKILL a process is gone at once, unless it sleeps in the kernel
/// uninterruptibly; that long it is waited for.
const AFTER_FORCE: Duration = Duration::from_secs(5);

/// An action that has begun.
pub(crate) struct Waiting {
    pub(crate) plan: Plan,
    pub(crate) pidfd: OwnedFd,
    pub(crate) steps: Vec<ReceiptStep>,
    pub(crate) force_at: Instant,
    pub(crate) forced: bool,
}

#[derive(Default)]
struct Shared {
    handed_over: Mutex<HandedOver>,
    all_done: Condvar,
}

#[derive(Default)]
struct HandedOver {
    new: VecDeque<Waiting>,
    /// Handed over and not yet receipted.
    open: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HandedOver> {
        self.handed_over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The proving thread. It ends when this is dropped and nothing is open.
pub(crate) struct Prover {
    shared: Arc<Shared>,
    wake: UnixStream,
}

impl Prover {
    pub(crate) fn start(clock: Clock, receipts: mpsc::Sender<ResponseReceipt>) -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let shared = Arc::new(Shared::default());
        std::thread::Builder::new().name("prove".into()).spawn({
            let shared = shared.clone();
            move || run(&shared, &woken, &clock, &receipts)
        })?;
        Ok(Self { shared, wake })
    }

    pub(crate) fn take(&self, waiting: Waiting) {
        let mut handed_over = self.shared.lock();
        handed_over.new.push_back(waiting);
        handed_over.open += 1;
        drop(handed_over);
        // A full pipe means that the thread is about to wake anyway.
        let _ = (&self.wake).write(&[1]);
    }

    pub(crate) fn finish(&self, deadline: Duration) {
        let open = self.shared.lock();
        let waited = self.shared.all_done.wait_timeout_while(open, deadline, |state| state.open > 0);
        drop(waited);
    }
}

fn run(shared: &Shared, woken: &UnixStream, clock: &Clock, receipts: &mpsc::Sender<ResponseReceipt>) {
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut hung_up = false;
    while !(hung_up && waiting.is_empty()) {
        let timeout =
            waiting.iter().map(deadline_of).min().map(|at| at.saturating_duration_since(Instant::now()));
        let mut fds: Vec<PollFd<'_>> =
            waiting.iter().map(|one| PollFd::new(&one.pidfd, PollFlags::IN)).collect();
        if !hung_up {
            fds.push(PollFd::new(woken, PollFlags::IN));
        }
        // A poll that fails (EINTR, or no memory for a moment) is simply taken again.
        let _ = poll(&mut fds, timeout.and_then(|time| Timespec::try_from(time).ok()).as_ref());
        drop(fds);
        hung_up |= drain(woken);
        waiting.extend(shared.lock().new.drain(..));
        waiting.retain_mut(|one| {
            let Some(receipt) = step(one, clock) else { return true };
            let _ = receipts.send(receipt);
            shared.lock().open -= 1;
            shared.all_done.notify_all();
            false
        });
    }
}

fn deadline_of(one: &Waiting) -> Instant {
    if one.forced { one.force_at + AFTER_FORCE } else { one.force_at }
}

/// Empties the wake-up pipe; true once the other end is closed.
fn drain(mut woken: &UnixStream) -> bool {
    let mut bytes = [0; 64];
    loop {
        match io::Read::read(&mut woken, &mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// One look at one action: its receipt, if it is over.
fn step(one: &mut Waiting, clock: &Clock) -> Option<ResponseReceipt> {
    let pid = one.plan.target.entity_id.pid();
    let receipt = |one: &mut Waiting, state, reason| {
        Some(one.plan.receipt(state, reason, std::mem::take(&mut one.steps)))
    };
    if has_ended(&one.pidfd) {
        one.steps.push(ReceiptStep { at: clock(), what: "process ended".to_owned() });
        return match end_state(&one.plan) {
            Ok(proof) => receipt(one, ReceiptState::Verified, proof),
            Err(doubt) => receipt(one, ReceiptState::Failed, doubt),
        };
    }
    let now = Instant::now();
    if now < deadline_of(one) {
        return None;
    }
    if one.forced {
        let reason = format!("process {pid} is still there {} s after SIGKILL", AFTER_FORCE.as_secs());
        return receipt(one, ReceiptState::Failed, reason);
    }
    one.forced = true;
    one.force_at = now;
    match pidfd_send_signal(&one.pidfd, Signal::KILL) {
        Ok(()) => one.steps.push(ReceiptStep { at: clock(), what: "sent SIGKILL".to_owned() }),
        // It ended in between: the pidfd is readable, the next look makes the receipt.
        Err(rustix::io::Errno::SRCH) => {}
        Err(errno) => {
            let reason = format!("SIGKILL to process {pid} was refused: {errno}");
            return receipt(one, ReceiptState::Failed, reason);
        }
    }
    None
}

/// Reads the end state from /proc: the second witness beside the pidfd.
fn end_state(plan: &Plan) -> Result<String, String> {
    let pid = plan.target.entity_id.pid();
    match proc::stat(pid) {
        None => Ok(format!("process {pid} is gone")),
        Some(stat) if stat.is_ended() => {
            Ok(format!("process {pid} has ended, its parent has not yet waited for it"))
        }
        // The start in /proc is in ticks of 10 ms: another process if it is clearly another.
        Some(stat) if !proc::same_ticks(stat.start_ticks, plan.target.entity_id.start_ns()) => {
            Ok(format!("process {pid} is gone, its PID is another process"))
        }
        Some(stat) => Err(format!(
            "the kernel says that process {pid} ended, /proc still shows state {}",
            char::from(stat.state)
        )),
    }
}
