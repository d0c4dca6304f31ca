//! Whether the batches that wait agree with what the server has.
//!
//! A server's mark for a boot is the last number of a batch that it stored. If that batch is
//! the spool's own, all before it is too, and what of it is sent again is a duplicate. If it
//! is not, the server took other records by the same numbers, and would acknowledge these
//! without storing them: they are given up, counted, instead.

use std::collections::HashMap;
use std::sync::Arc;

use event_model::{BootId, Timestamp};
use protocol::enrollment::sha256;
use protocol::link::HighWaterMarks;
use protocol::wire::{Ledger, decode_ledger};
use spool::{BatchHeader, Spool, SpoolError};

use crate::server_mark::TakenNumbers;

/// More than a server tells.
const MAX_MARKS: usize = 4_096;

struct Mark {
    last_sequence: u64,
    sha256: Option<[u8; 32]>,
    /// Once it has been looked for.
    is_ours: Option<bool>,
}

/// The server's marks, by boot.
#[derive(Default)]
pub(super) struct Marks(HashMap<[u8; 16], Mark>);

impl Marks {
    pub(super) fn of(message: &HighWaterMarks) -> Self {
        let known = message.marks.iter().take(MAX_MARKS).filter_map(|mark| {
            let boot = <[u8; 16]>::try_from(mark.boot_id.as_slice()).ok()?;
            let sha256 = <[u8; 32]>::try_from(mark.batch_sha256.as_slice()).ok();
            Some((boot, Mark { last_sequence: mark.last_sequence, sha256, is_ours: None }))
        });
        Self(known.collect())
    }

    /// Whether the server took other records by the numbers of this batch, the first of
    /// those that were not looked at yet.
    pub(super) fn contradict(&mut self, batch: &BatchHeader, spool: &Arc<Spool>) -> Result<bool, SpoolError> {
        let Some(mark) = self.0.get_mut(&batch.boot_id) else { return Ok(false) };
        if batch.first_sequence > mark.last_sequence {
            return Ok(false);
        }
        let is_ours = match mark.is_ours {
            Some(is_ours) => is_ours,
            None => is_in(spool, batch.boot_id, mark)?,
        };
        mark.is_ours = Some(is_ours);
        Ok(!is_ours)
    }

    /// The last number of a boot that the server has.
    pub(super) fn last_of(&self, boot_id: &[u8; 16]) -> u64 {
        self.0.get(boot_id).map_or(0, |mark| mark.last_sequence)
    }
}

/// Whether the batch of that mark is among those that were not acknowledged here.
fn is_in(spool: &Arc<Spool>, boot_id: [u8; 16], mark: &Mark) -> Result<bool, SpoolError> {
    let mut reader = spool.reader();
    while let Some(batch) = reader.next_batch()? {
        if batch.header.boot_id == boot_id && batch.header.last_sequence() >= mark.last_sequence {
            let ends_there = batch.header.last_sequence() == mark.last_sequence;
            // A server that kept no hash has an older store; the number must do.
            return Ok(ends_there && mark.sha256.is_none_or(|known| sha256(&batch.payload) == known));
        }
    }
    Ok(false)
}

/// What the message says of one boot.
pub fn taken_in(message: &HighWaterMarks, boot: BootId) -> Option<TakenNumbers> {
    let mark = message.marks.iter().find(|mark| mark.boot_id == boot.as_bytes())?;
    // Figures past all bounds are as good as none; the number counts all the same.
    let ledger = mark.ledger.clone().and_then(|ledger| decode_ledger(ledger).ok());
    let is_possible = mark.last_sequence < i64::MAX.unsigned_abs();
    is_possible.then(|| TakenNumbers {
        last_sequence: mark.last_sequence,
        ledger: ledger.unwrap_or_else(Ledger::default),
        last_event_at: (mark.last_event_at_ns != 0).then(|| Timestamp::from_nanos(mark.last_event_at_ns)),
        contradicted: false,
    })
}

#[cfg(test)]
mod tests {
    use protocol::link::HighWaterMark;
    use spool::{SpoolOptions, Tally};

    use super::*;

    const BOOT: [u8; 16] = [1; 16];

    fn header(first_sequence: u64) -> BatchHeader {
        let (span, counts) = ((0, 1), Tally::default());
        BatchHeader { boot_id: BOOT, first_sequence, record_count: 10, span, position: None, counts }
    }

    /// Batches of ten records from 1 on; each holds its first number.
    fn filled(dir: &std::path::Path, batches: u64) -> Arc<Spool> {
        let spool = Arc::new(Spool::open(dir, SpoolOptions::default()).unwrap().0);
        for first in (0..batches).map(|batch| batch * 10 + 1) {
            spool.append(&header(first), b"", &first.to_le_bytes(), None).unwrap();
        }
        spool
    }

    fn marks(last_sequence: u64, batch_sha256: Vec<u8>) -> Marks {
        let mark =
            HighWaterMark { boot_id: BOOT.to_vec(), last_sequence, batch_sha256, ..HighWaterMark::default() };
        Marks::of(&HighWaterMarks { marks: vec![mark] })
    }

    #[test]
    fn a_lost_acknowledgement_contradicts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let spool = filled(dir.path(), 3);
        let mut marks = marks(20, sha256(&11_u64.to_le_bytes()).to_vec());
        for first in [1, 11, 21] {
            assert!(!marks.contradict(&header(first), &spool).unwrap(), "{first}");
        }
    }

    #[test]
    fn numbers_by_which_the_server_took_others_contradict_up_to_its_mark() {
        let dir = tempfile::tempdir().unwrap();
        let spool = filled(dir.path(), 3);
        let of_another = sha256(b"of another").to_vec();
        for (last_sequence, sha256, expected) in [
            // Another batch with the same numbers.
            (20, of_another.clone(), [true, true, false]),
            // No batch ends there.
            (15, of_another.clone(), [true, true, false]),
            // Beyond all that there is.
            (500, of_another.clone(), [true, true, true]),
            (0, of_another, [false, false, false]),
        ] {
            let mut marks = marks(last_sequence, sha256);
            let found = [1, 11, 21].map(|first| marks.contradict(&header(first), &spool).unwrap());
            assert_eq!(found, expected, "mark {last_sequence}");
        }
    }

    #[test]
    fn a_server_without_the_hash_is_believed_by_the_number_and_another_boot_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let spool = filled(dir.path(), 2);
        assert!(!marks(10, Vec::new()).contradict(&header(1), &spool).unwrap());
        assert!(marks(9, Vec::new()).contradict(&header(1), &spool).unwrap());
        let other = BatchHeader { boot_id: [2; 16], ..header(1) };
        assert!(!marks(10, Vec::new()).contradict(&other, &spool).unwrap());
    }
}
