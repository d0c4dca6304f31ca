//! Acting: the handle first, then the identity, then the end.
//!
//! The handle is opened before the time of creation is read: if that fits, the handle means that
//! very process, and holding it keeps its PID from being given to another. Windows has no signal
//! that asks a process to end, so a grace has no effect: it is ended at once.

use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use event_model::{ReceiptState, ReceiptStep, ResponseReceipt, Timestamp};
use sensor_api::ProcessClock;
use win32::process::{Process, Wanted};

use crate::guards::Authorised;
use crate::plan::Plan;
use crate::windows::{NotHeld, held};

/// The wall clock that receipts are stamped with.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// So long a process may take to be gone after it was ended.
const AFTER_END: Duration = Duration::from_secs(5);

/// Exit code of what was ended.
pub(crate) const ENDED: u32 = 0x5241_4d50;

/// Ends processes.
pub struct Terminator {
    clock: Clock,
    receipts: mpsc::Sender<ResponseReceipt>,
    begun: mpsc::Sender<Begun>,
    open: Arc<(Mutex<usize>, Condvar)>,
}

struct Begun {
    plan: Plan,
    process: Process,
    steps: Vec<ReceiptStep>,
    until: Instant,
}

impl Terminator {
    /// A terminator that sends its receipts to `receipts`. Lives of a PID are told apart by their time of
    /// creation, which is exact.
    ///
    /// # Errors
    /// The system refused a thread.
    pub fn new(
        _: Arc<dyn ProcessClock>,
        clock: Clock,
        receipts: mpsc::Sender<ResponseReceipt>,
    ) -> std::io::Result<Self> {
        let (begun, to_prove) = mpsc::channel::<Begun>();
        let open = Arc::new((Mutex::new(0), Condvar::new()));
        std::thread::Builder::new().name("prove".into()).spawn({
            let (clock, receipts, open) = (Arc::clone(&clock), receipts.clone(), Arc::clone(&open));
            move || {
                while let Ok(one) = to_prove.recv() {
                    let _ = receipts.send(prove(one, &clock));
                    let (count, done) = &*open;
                    *count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
                    done.notify_all();
                }
            }
        })?;
        Ok(Self { clock, receipts, begun, open })
    }

    /// Ends the process now; the receipt follows.
    pub fn act(&self, authorised: Authorised) {
        let plan = authorised.into_plan();
        let held = held(&plan.target, Wanted::Terminate).map_err(NotHeld::into_text);
        let ended = held.and_then(|process| {
            process
                .terminate(ENDED)
                .map(|()| process)
                .map_err(|error| format!("TerminateProcess for {}: {error}", plan.target.entity_id.pid()))
        });
        match ended {
            Ok(process) => {
                let steps =
                    vec![ReceiptStep { at: (self.clock)(), what: "ended it (TerminateProcess)".to_owned() }];
                *self.open.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                // The thread ends only with this sender.
                let _ = self.begun.send(Begun { plan, process, steps, until: Instant::now() + AFTER_END });
            }
            Err(reason) => {
                let _ = self.receipts.send(plan.receipt(ReceiptState::Failed, reason, Vec::new()));
            }
        }
    }

    /// Waits until every begun action has its receipt, or until `deadline`.
    pub fn finish(&self, deadline: Duration) {
        let (count, done) = &*self.open;
        let open = count.lock().unwrap_or_else(PoisonError::into_inner);
        drop(done.wait_timeout_while(open, deadline, |open| *open > 0));
    }
}

fn prove(one: Begun, clock: &Clock) -> ResponseReceipt {
    let Begun { plan, process, mut steps, until } = one;
    let pid = plan.target.entity_id.pid();
    if process.ends_within(until.saturating_duration_since(Instant::now())) {
        steps.push(ReceiptStep { at: clock(), what: "process ended".to_owned() });
        return plan.receipt(ReceiptState::Verified, format!("process {pid} is gone"), steps);
    }
    let reason = format!("process {pid} is still there {} s after it was ended", AFTER_END.as_secs());
    plan.receipt(ReceiptState::Failed, reason, steps)
}
