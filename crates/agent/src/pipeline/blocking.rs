//! Starts of programs that are on the block list.

use event_model::{BlockedBy, DetectionId, EventHeader, ImageFile, Process};
use response::Target;
use sensor_api::{Block, ProcessKey, Sensor};

use super::Work;
use crate::image_facts::is_settled;
use crate::judge::Verdict;

/// Blocked processes whose end is waited for; more than can be there at once.
const WAITING_MAX: usize = 65_536;

/// What the kernel was to end, until it reports that it did.
pub(super) struct Waiting {
    detection_id: DetectionId,
    target: Target,
    begun_ns: u64,
}

impl Work {
    /// The verdict on a start that the kernel answered with SIGKILL.
    pub(super) fn tell_blocked(
        &mut self,
        header: &EventHeader,
        key: ProcessKey,
        by: BlockedBy,
        process: &Process,
    ) -> Verdict {
        let verdict = self.judge.block(header, by, None);
        if self.blocked.len() < WAITING_MAX {
            let (target, begun_ns) = (process.into(), header.monotonic_ns);
            self.blocked.insert(key, Waiting { detection_id: verdict.id(), target, begun_ns });
        }
        verdict
    }

    /// The end of a process; if it was a blocked one, this is the proof.
    pub(super) fn prove_blocked(&mut self, key: ProcessKey, at_ns: u64, wait_status: Option<u32>) {
        let Some(one) = self.blocked.remove(&key) else { return };
        let end = (self.clock.at(at_ns), wait_status);
        self.judge.prove_block(one.detection_id, &one.target, self.clock.at(one.begun_ns), end);
    }

    /// A start whose image's hash is on the list: this once it is ended from here, and the
    /// kernel is told of the file.
    pub(super) fn block_by_hash(
        &mut self,
        header: &EventHeader,
        sha256: &str,
        image: &ImageFile,
        process: &Process,
    ) -> Option<Verdict> {
        if !self.blocked_hashes.contains(sha256) {
            return None;
        }
        // A change within the same tick would not show in the file's times.
        if !self.judge.protects_image(image.device, image.inode)
            && is_settled(image, std::time::SystemTime::now())
        {
            self.to_block.push(Block::Image(*image));
        }
        Some(self.judge.block(header, BlockedBy::Hash, Some(process)))
    }

    pub(super) fn hand_over_blocks(&mut self, sensor: &mut dyn Sensor) {
        if self.to_block.is_empty() {
            return;
        }
        if let Err(error) = sensor.block(&std::mem::take(&mut self.to_block)) {
            tracing::warn!(%error, "a file on the block list can't be blocked in the kernel; its starts are ended from user space");
        }
    }
}
