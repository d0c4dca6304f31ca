//! Reading batches in order, for sending.

use std::sync::Arc;

use crate::SpoolError;
use crate::codec::BatchHeader;
use crate::queue::Spool;
use crate::segment::{Found, body, look};
use crate::state::{Loss, LossReason};

/// A batch as it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// Its header.
    pub header: BatchHeader,
    /// The sealed bytes.
    pub payload: Vec<u8>,
}

/// Hands out batches in order. Several readers don't disturb each other.
pub struct Reader {
    spool: Arc<Spool>,
    at: (u64, u64),
    previous: Option<BatchHeader>,
    damage: Option<(u64, u64)>,
}

impl Reader {
    pub(crate) fn new(spool: Arc<Spool>, at: (u64, u64)) -> Self {
        Self { spool, at, previous: None, damage: None }
    }

    /// The next batch; `None` if there is none yet. Damage on the way becomes a [`Loss`].
    ///
    /// # Errors
    /// [`SpoolError::Io`] if a segment can't be read.
    pub fn next_batch(&mut self) -> Result<Option<StoredBatch>, SpoolError> {
        loop {
            let spool = Arc::clone(&self.spool);
            let inner = spool.lock();
            let Some(segment) = inner.segments.iter().find(|segment| segment.id >= self.at.0) else {
                return Ok(None);
            };
            if segment.id > self.at.0 {
                self.at = (segment.id, 0);
            }
            let is_last = inner.segments.back().is_some_and(|last| last.id == segment.id);
            let (file, len) = (Arc::clone(&segment.file), segment.len);
            drop(inner);
            let failed =
                |source| SpoolError::Io { doing: "reading a segment in", path: "spool".into(), source };
            match look(&file, self.at.1, len).map_err(failed)? {
                Found::Batch(stored) => {
                    let place = self.at;
                    let read = body(&file, self.at.1, &stored).map_err(failed)?;
                    if let Some(damaged) = self.damage.take() {
                        self.lose(damage_between(self.previous.as_ref(), Some(&stored.header), damaged));
                    }
                    self.previous = Some(stored.header);
                    self.at.1 += stored.total_len();
                    match read {
                        Some((_, payload)) => {
                            return Ok(Some(StoredBatch { header: stored.header, payload }));
                        }
                        None => self.lose(whole_batch(LossReason::Corrupt, &stored.header, Some(place))),
                    }
                }
                Found::Damage { next } => {
                    self.damage = self.damage.or(Some(self.at));
                    self.at.1 = next;
                }
                Found::Torn(_) | Found::TornHeader | Found::End if is_last => return Ok(None),
                Found::Torn(_) | Found::TornHeader | Found::End => self.at = (self.at.0 + 1, 0),
            }
        }
    }

    fn lose(&self, loss: Loss) {
        self.spool.lock().state.add_loss(loss);
    }
}

/// The loss of one batch whose header can be read.
pub(crate) fn whole_batch(reason: LossReason, header: &BatchHeader, place: Option<(u64, u64)>) -> Loss {
    Loss {
        reason,
        boot_id: Some(header.boot_id),
        sequences: Some((header.first_sequence, header.last_sequence())),
        records: Some(u64::from(header.record_count)),
        span: Some(header.span),
        place,
    }
}

/// The loss of whatever stood between two batches: exact if both are of one boot.
pub(crate) fn damage_between(
    before: Option<&BatchHeader>,
    after: Option<&BatchHeader>,
    place: (u64, u64),
) -> Loss {
    let boot_id = after.or(before).map(|header| header.boot_id);
    let sequences = match (before, after) {
        (Some(before), Some(after)) if before.boot_id == after.boot_id => {
            Some((before.last_sequence() + 1, after.first_sequence.saturating_sub(1)))
        }
        _ => None,
    };
    let records = sequences.map(|(from, to)| (to + 1).saturating_sub(from));
    let span = before.zip(after).map(|(before, after)| (before.span.1, after.span.0));
    Loss { reason: LossReason::Corrupt, boot_id, sequences, records, span, place: Some(place) }
}
