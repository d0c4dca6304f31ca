//! What is to be done to whom.

use std::time::Duration;

use event_model::{
    ActionKind, DetectionId, Process, ProcessEntityId, ReceiptState, ReceiptStep, ResponseReceipt,
    ResponseTarget, RuleId,
};
use uuid::Uuid;

/// One life of one process, with what identifies it at the moment of acting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The process.
    pub entity_id: ProcessEntityId,
    /// Its image.
    pub executable: String,
    /// Device and inode of the image, where the sensor knows them.
    pub image: Option<(u64, u64)>,
    /// A thread of the kernel itself.
    pub kernel_thread: bool,
}

impl From<&Process> for Target {
    fn from(process: &Process) -> Self {
        let image = &process.image;
        Self {
            entity_id: process.entity_id,
            executable: image.executable.clone(),
            image: image.file.map(|file| (file.device, file.inode)),
            kernel_thread: image.kernel_thread,
        }
    }
}

/// A process is to be ended because of a detection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The detection that asks for it.
    pub detection_id: DetectionId,
    /// The rule that asks for it.
    pub rule_id: RuleId,
    /// Whom.
    pub target: Target,
    /// How long the process may take to end by itself; zero for force at once.
    pub grace: Duration,
}

/// Namespace for receipt ids (drawn once, at random).
const RECEIPTS: Uuid = Uuid::from_u128(0x1f0c_5d2e_9a41_4b8f_8e36_70d1_42ab_95c7);

impl Plan {
    /// The plan in words, for a dry run.
    pub fn describe(&self) -> String {
        let pid = self.target.entity_id.pid();
        let executable = &self.target.executable;
        if self.grace.is_zero() {
            format!("send SIGKILL to {pid} ({executable})")
        } else {
            format!(
                "send SIGTERM to {pid} ({executable}), SIGKILL after {} ms if it is still there",
                self.grace.as_millis()
            )
        }
    }

    /// The receipt of this plan. Its id follows from the detection, so that a
    /// receipt made again after a crash is the same receipt.
    pub(crate) fn receipt(
        &self,
        state: ReceiptState,
        reason: String,
        steps: Vec<ReceiptStep>,
    ) -> ResponseReceipt {
        let action = ActionKind::TerminateProcess;
        let mut place = self.detection_id.as_bytes().to_vec();
        place.extend_from_slice(action.as_str().as_bytes());
        // One detection may condemn several processes: forks of the one that it saw.
        place.extend_from_slice(self.target.entity_id.to_string().as_bytes());
        ResponseReceipt {
            asks: None,
            id: Uuid::new_v5(&RECEIPTS, &place),
            detection_id: self.detection_id,
            action,
            target: ResponseTarget {
                entity_id: self.target.entity_id,
                executable: self.target.executable.clone(),
            },
            state,
            reason,
            steps,
        }
    }
}
