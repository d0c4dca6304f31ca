//! The verdict on a program that was kept from running, and its proof.

use event_model::{
    ActionKind, DetectionId, EventId, Process, ReceiptState, ReceiptStep, ResponseReceipt, ResponseTarget,
};

use super::{Judge, Verdict, receipt_id};
use crate::gate::Denial;

impl Judge {
    /// The verdict; its receipt comes like any other. `asker` is the process as the agent knows it.
    pub fn denied(&self, event_id: EventId, denial: &Denial, asker: Option<&Process>) -> Verdict {
        let rule = denial.rule.clone();
        let id = DetectionId::of_match(event_id, &rule.id);
        let action = ActionKind::TerminateProcess;
        if let Some(asker) = asker {
            let step = |at, what: &str| ReceiptStep { at, what: what.to_owned() };
            let (state, reason) = match (denial.in_time, denial.runs_another) {
                (None | Some(false), _) => (
                    ReceiptState::Failed,
                    "the kernel was told to refuse the program; whether it did is not known",
                ),
                (Some(true), Some(true)) => (
                    ReceiptState::Verified,
                    "the kernel refused the program before its first instruction, and the process runs another one",
                ),
                (Some(true), None) => (
                    ReceiptState::Verified,
                    "the kernel refused the program before its first instruction; the process has ended",
                ),
                (Some(true), Some(false)) => (
                    ReceiptState::Applied,
                    "the kernel refused the program before its first instruction; the process ran the same one already",
                ),
            };
            let told = step(denial.judged, "told the kernel to refuse it");
            let taken =
                denial.in_time.filter(|in_time| *in_time).map(|_| step(denial.known, "the kernel took that"));
            self.tell(ResponseReceipt {
                asks: None,
                id: receipt_id(id, action),
                detection_id: id,
                action,
                target: ResponseTarget {
                    entity_id: asker.entity_id,
                    executable: denial.image.executable.clone(),
                },
                state,
                reason: reason.to_owned(),
                steps: [Some(told), taken].into_iter().flatten().collect(),
            });
        }
        let actions = vec![ActionKind::Alert, action];
        Verdict { id, rule, matched: denial.matched.clone(), actions, condemns: false }
    }
}
