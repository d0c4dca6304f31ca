//! The account of what the kernel could not hand over.
//!
//! The programs count; here the counters become [`ObservedLoss`]es, each count told
//! once. A told loss has a position like any observation, so that the agent can
//! store and commit it. The ledger in the pinned map says what is told for good:
//! it is written *before* a loss is handed out, so that after a crash the position
//! up to which the agent stored decides, whatever it came to commit.
//!
//! Ring positions are multiples of 8; losses take the places between: two reports
//! of three types fit behind one record.

use event_model::GapReason;
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use sensor_api::{Observation, Observed, ObservedLoss, SensorPosition};

use crate::record::u64_at;

const TYPES: usize = 3;
const WHAT: [&str; TYPES] = ["process_fork", "process_start", "process_exit"];
const LEDGER_SIZE: usize = 64;
const KEY: [u8; 4] = [0; 4];

/// Figures of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelCount {
    /// What: `process_fork`, `process_start` or `process_exit`.
    pub what: &'static str,
    /// Records that went into the ring since the programs were loaded.
    pub produced: u64,
    /// Records that found no room.
    pub lost: u64,
}

/// As `struct ledger` of `bpf/record.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ledger {
    reported: [u64; TYPES],
    checked_ns: u64,
    handed_out: [u64; TYPES],
    handed_out_at: u64,
}

impl Ledger {
    fn read(bytes: &[u8]) -> Option<Self> {
        let word = |index: usize| u64_at(bytes, index * 8).ok();
        Some(Self {
            reported: [word(0)?, word(1)?, word(2)?],
            checked_ns: word(3)?,
            handed_out: [word(4)?, word(5)?, word(6)?],
            handed_out_at: word(7)?,
        })
    }

    fn bytes(&self) -> [u8; LEDGER_SIZE] {
        let mut bytes = [0; LEDGER_SIZE];
        let words = self.reported.into_iter().chain([self.checked_ns]).chain(self.handed_out);
        for (place, word) in bytes.chunks_exact_mut(8).zip(words.chain([self.handed_out_at])) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Everything up to `offset` is stored.
    fn settle(&mut self, offset: u64) {
        if self.handed_out_at == 0 {
            return;
        }
        for (index, place) in (self.handed_out_at..).take(TYPES).enumerate() {
            if offset >= place {
                self.reported[index] = self.handed_out[index];
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.reported == self.handed_out
    }

    /// Where a report behind the record that ends at `read_to` can stand; `None` while
    /// the places there are taken or a report is still on its way.
    fn next_place(&self, read_to: u64) -> Option<u64> {
        let first = read_to + 1;
        let second = first + TYPES as u64;
        if self.handed_out_at < first {
            Some(first)
        } else if self.handed_out_at < second {
            Some(second)
        } else {
            None
        }
    }
}

/// The account of one ring.
pub(crate) struct Losses {
    counters: MapHandle,
    ledger_map: MapHandle,
    stream: u64,
    ledger: Ledger,
    /// A report is on its way in this run.
    waiting: bool,
    ledger_written_ns: u64,
}

impl Losses {
    /// Opens the account; `stored_to` is how far the agent stored this stream.
    pub(crate) fn open(
        counters: MapHandle,
        ledger_map: MapHandle,
        stream: u64,
        stored_to: Option<u64>,
        now_ns: u64,
    ) -> Result<Self, libbpf_rs::Error> {
        let bytes = ledger_map.lookup(&KEY, MapFlags::ANY)?.unwrap_or_default();
        let mut ledger = Ledger::read(&bytes).unwrap_or_default();
        if let Some(offset) = stored_to {
            ledger.settle(offset);
            // A report that nobody stored leaves its place to the next.
            if !ledger.is_settled() {
                ledger.handed_out_at = ledger.handed_out_at.min(offset);
            }
        }
        ledger.handed_out = ledger.reported;
        if ledger.checked_ns == 0 {
            ledger.checked_ns = now_ns;
        }
        let mut losses =
            Self { counters, ledger_map, stream, ledger, waiting: false, ledger_written_ns: now_ns };
        losses.write_ledger(now_ns)?;
        Ok(losses)
    }

    /// Hands out what was lost since the last report. `read_to` is the position of reading.
    pub(crate) fn check(
        &mut self,
        now_ns: u64,
        read_to: u64,
        sink: &mut dyn FnMut(Observed),
    ) -> Result<(), libbpf_rs::Error> {
        if self.waiting {
            return Ok(());
        }
        let counts = self.counts()?;
        let lost = counts.map(|count| count.lost);
        if lost == self.ledger.reported {
            self.ledger.checked_ns = now_ns;
            // Once a second is enough for the span of a loss that a restart finds.
            if now_ns.saturating_sub(self.ledger_written_ns) > 1_000_000_000 {
                self.write_ledger(now_ns)?;
            }
            return Ok(());
        }
        let Some(place) = self.ledger.next_place(read_to) else {
            return Ok(());
        };
        let from_ns = self.ledger.checked_ns;
        self.ledger.handed_out = lost;
        self.ledger.handed_out_at = place;
        self.ledger.checked_ns = now_ns;
        self.write_ledger(now_ns)?;
        self.waiting = true;
        for (index, offset) in (place..).take(TYPES).enumerate() {
            let count = lost[index].saturating_sub(self.ledger.reported[index]);
            if count != 0 {
                sink(Observed {
                    at_ns: now_ns,
                    position: Some(SensorPosition { stream: self.stream, offset }),
                    what: Observation::Lost(ObservedLoss {
                        reason: GapReason::KernelRingFull,
                        what: WHAT[index],
                        count: Some(count),
                        from_ns,
                        until_ns: now_ns,
                    }),
                });
            }
        }
        Ok(())
    }

    /// The agent has stored everything up to `offset`.
    pub(crate) fn commit(&mut self, offset: u64, now_ns: u64) -> Result<(), libbpf_rs::Error> {
        if !self.waiting {
            return Ok(());
        }
        let before = self.ledger;
        self.ledger.settle(offset);
        self.waiting = !self.ledger.is_settled();
        if before == self.ledger { Ok(()) } else { self.write_ledger(now_ns) }
    }

    /// The kernel's figures now.
    pub(crate) fn counts(&self) -> Result<[KernelCount; TYPES], libbpf_rs::Error> {
        read_counts(&self.counters)
    }

    fn write_ledger(&mut self, now_ns: u64) -> Result<(), libbpf_rs::Error> {
        self.ledger_written_ns = now_ns;
        self.ledger_map.update(&KEY, &self.ledger.bytes(), MapFlags::ANY)
    }
}

/// Sums the CPUs' counters.
fn read_counts(counters: &MapHandle) -> Result<[KernelCount; TYPES], libbpf_rs::Error> {
    let mut counts = WHAT.map(|what| KernelCount { what, ..KernelCount::default() });
    for (key, count) in (0_u32..).zip(&mut counts) {
        for value in counters.lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY)?.unwrap_or_default() {
            count.produced += u64_at(&value, 0).unwrap_or_default();
            count.lost += u64_at(&value, 8).unwrap_or_default();
        }
    }
    Ok(counts)
}

/// What an account that is about to be given up had not told yet.
pub(crate) fn untold(counters: &MapHandle, ledger_map: &MapHandle, now_ns: u64) -> Vec<ObservedLoss> {
    let ledger = ledger_map
        .lookup(&KEY, MapFlags::ANY)
        .ok()
        .flatten()
        .and_then(|bytes| Ledger::read(&bytes))
        .unwrap_or_default();
    let Ok(counts) = read_counts(counters) else {
        return Vec::new();
    };
    let losses = counts.into_iter().zip(ledger.reported).filter_map(|(count, reported)| {
        let lost = count.lost.saturating_sub(reported);
        (lost != 0).then_some(ObservedLoss {
            reason: GapReason::KernelRingFull,
            what: count.what,
            count: Some(lost),
            from_ns: ledger.checked_ns,
            until_ns: now_ns,
        })
    });
    losses.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_as_told_as_far_as_it_was_stored() {
        let mut ledger = Ledger { handed_out: [5, 6, 7], handed_out_at: 81, ..Ledger::default() };
        ledger.settle(80);
        assert_eq!(ledger.reported, [0, 0, 0]);
        ledger.settle(82);
        assert_eq!(ledger.reported, [5, 6, 0]);
        assert!(!ledger.is_settled());
        ledger.settle(88);
        assert!(ledger.is_settled());
    }

    #[test]
    fn two_reports_fit_behind_one_record_and_never_share_a_place() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.next_place(80), Some(81));
        ledger.handed_out_at = 81;
        assert_eq!(ledger.next_place(80), Some(84));
        ledger.handed_out_at = 84;
        assert_eq!(ledger.next_place(80), None);
        assert_eq!(ledger.next_place(96), Some(97));
    }

    #[test]
    fn the_ledger_survives_its_bytes() {
        let ledger = Ledger { reported: [1, 2, 3], checked_ns: 4, handed_out: [5, 6, 7], handed_out_at: 8 };
        assert_eq!(Ledger::read(&ledger.bytes()), Some(ledger));
        assert_eq!(Ledger::read(&[0; 63]), None);
    }
}
