//! Reading batches in order, for sending.

use std::sync::Arc;

use crate::SpoolError;
use crate::codec::{BatchHeader, StoredHeader};
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
    previous: Option<StoredHeader>,
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
                        self.lose(Loss::between(self.previous.as_ref(), Some(&stored), damaged));
                    }
                    self.at.1 += stored.total_len();
                    let header = stored.header.clone();
                    let loss =
                        read.is_none().then(|| Loss::of_batch(LossReason::Corrupt, &stored, Some(place)));
                    self.previous = Some(stored);
                    if let Some((_, payload)) = read {
                        return Ok(Some(StoredBatch { header, payload }));
                    }
                    if let Some(loss) = loss {
                        self.lose(loss);
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
        let mut inner = self.spool.lock();
        inner.state.add_loss(loss);
        inner.unstored = true;
    }
}
