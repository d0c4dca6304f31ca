//! The account of what the kernel could not hand over, and of what it was told to
//! leave out.
//!
//! The programs count; here the counters become [`ObservedLoss`]es, each count told
//! once. A told loss has a position like any observation, so that the agent can
//! store and commit it. The ledger in the pinned map says what is told for good:
//! it is written *before* a loss is handed out, so that after a crash the position
//! up to which the agent stored decides, whatever it came to commit.
//!
//! Ring positions are multiples of 8; losses take the places between: two reports
//! of three accounts each fit behind one record. Further accounts wait for the next.

use event_model::{EventClass, EventType, GapReason};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use sensor_api::{Observation, Observed, ObservedLoss, SensorPosition};

use crate::record::u64_at;
use crate::skipped::SkippedRuns;

/// What is counted, in the order of the `COUNT_` numbers of `bpf/record.h`.
pub(crate) const WHAT: [&str; 29] = [
    "process_fork",
    "process_start",
    "process_exit",
    "network_connect",
    "network_accept",
    "network_close",
    "network_listen",
    "dns_query",
    "file_create",
    "file_modify",
    "file_delete",
    "file_rename",
    "file_attribute",
    "file_link",
    "script_content",
    "module_load",
    "image_load",
    "bpf_load",
    "raw_access_read",
    "process_access",
    "process_tamper",
    "memfd_create",
    "signal",
    "privilege_change",
    "mount",
    "namespace",
    "pipe_create",
    "unix_connect",
    "agent_tamper",
];
/// The bits of `struct control`'s `left_out` for all types of these classes. Starts, ends
/// and forks carry the process table, so no class takes them.
pub(crate) fn left_out_bits(classes: &[EventClass]) -> u64 {
    let is_shed = |what: &str| {
        let class = EventType::from_word(what).map(|event_type| event_type.spec().class);
        class.is_some_and(|class| class != EventClass::Protected && classes.contains(&class))
    };
    let bits = (0_u32..).zip(WHAT).filter(|(_, what)| is_shed(what));
    bits.fold(0, |bits, (bit, _)| bits | 1 << bit)
}

/// Places for counters; more than are used so far.
const TYPES: usize = 32;
/// One account for what was lost of each type, one for what was left out.
const ACCOUNTS: usize = 2 * TYPES;
/// The account of runs that the kernel skipped; no type of event has it.
const SKIPPED: usize = TYPES - 1;
/// The kernel is asked for them this often: it goes through all programs of the host.
const ASK_FOR_SKIPPED_NS: u64 = 5_000_000_000;
/// Reports behind one record at most.
const REPORT_MAX: usize = 3;
const KEY: [u8; 4] = [0; 4];

/// Figures of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelCount {
    /// What: the word of an event type, or `process_fork`.
    pub what: &'static str,
    /// Acts whose records went into the ring since the programs were loaded.
    pub produced: u64,
    /// Acts whose records found no room, or that no record tells any more.
    pub lost: u64,
    /// Acts of which no record was made because the agent asked for it.
    pub left_out: u64,
    /// Acts that have no record of their own: they came in masses, and the next record
    /// of their kind has them in its count.
    pub folded: u64,
}

/// A report on its way: up to where an account will be told once it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Report {
    account: usize,
    told: u64,
}

/// As `struct ledger` of `bpf/record.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ledger {
    reported: [u64; ACCOUNTS],
    checked_ns: u64,
    handed_out_at: u64,
    handed_out: [Option<Report>; REPORT_MAX],
}

impl Default for Ledger {
    fn default() -> Self {
        Self { reported: [0; ACCOUNTS], checked_ns: 0, handed_out_at: 0, handed_out: [None; REPORT_MAX] }
    }
}

impl Ledger {
    fn read(bytes: &[u8]) -> Option<Self> {
        let word = |index: usize| u64_at(bytes, index * 8).ok();
        let mut ledger =
            Self { checked_ns: word(ACCOUNTS)?, handed_out_at: word(ACCOUNTS + 1)?, ..Self::default() };
        for (index, reported) in ledger.reported.iter_mut().enumerate() {
            *reported = word(index)?;
        }
        for (index, report) in ledger.handed_out.iter_mut().enumerate() {
            let account =
                word(ACCOUNTS + 2 + index)?.checked_sub(1).and_then(|account| usize::try_from(account).ok());
            let told = word(ACCOUNTS + 2 + REPORT_MAX + index)?;
            *report = account.filter(|account| *account < ACCOUNTS).map(|account| Report { account, told });
        }
        Some(ledger)
    }

    fn bytes(&self) -> Vec<u8> {
        let accounts = self.handed_out.map(|report| report.map_or(0, |report| report.account as u64 + 1));
        let told = self.handed_out.map(|report| report.map_or(0, |report| report.told));
        let words = self.reported.into_iter().chain([self.checked_ns, self.handed_out_at]);
        words.chain(accounts).chain(told).flat_map(u64::to_ne_bytes).collect()
    }

    /// Everything up to `offset` is stored.
    fn settle(&mut self, offset: u64) {
        if self.handed_out_at == 0 {
            return;
        }
        for (place, report) in (self.handed_out_at..).zip(&mut self.handed_out) {
            if let Some(stored) = report.take_if(|_| offset >= place) {
                self.reported[stored.account] = stored.told;
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.handed_out.iter().all(Option::is_none)
    }

    /// Where a report behind the record that ends at `read_to` can stand; `None` while
    /// the places there are taken or a report is still on its way.
    fn next_place(&self, read_to: u64) -> Option<u64> {
        let first = read_to + 1;
        let second = first + REPORT_MAX as u64;
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
    skipped_runs: SkippedRuns,
    /// How many there were, and when that was asked.
    skipped: (u64, u64),
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
        skipped_runs: SkippedRuns,
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
        ledger.handed_out = [None; REPORT_MAX];
        if ledger.checked_ns == 0 {
            ledger.checked_ns = now_ns;
        }
        let mut losses = Self {
            counters,
            ledger_map,
            skipped_runs,
            skipped: (ledger.reported[SKIPPED], now_ns),
            stream,
            ledger,
            waiting: false,
            ledger_written_ns: now_ns,
        };
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
        if now_ns.saturating_sub(self.skipped.1) >= ASK_FOR_SKIPPED_NS {
            self.skipped = (self.skipped_runs.count().max(self.skipped.0), now_ns);
        }
        let mut counts = accounts(&self.counts()?);
        counts[SKIPPED] = self.skipped.0;
        // What was left out comes in masses; the order says that what was lost is told first.
        let news =
            counts.iter().enumerate().filter(|(account, count)| **count != self.ledger.reported[*account]);
        let news: Vec<Report> =
            news.take(REPORT_MAX).map(|(account, told)| Report { account, told: *told }).collect();
        if news.is_empty() {
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
        self.ledger.handed_out_at = place;
        for (index, report) in self.ledger.handed_out.iter_mut().enumerate() {
            *report = news.get(index).copied();
        }
        if news.len() < REPORT_MAX {
            self.ledger.checked_ns = now_ns;
        }
        self.write_ledger(now_ns)?;
        self.waiting = true;
        for (offset, report) in (place..).zip(&news) {
            let count = report.told.saturating_sub(self.ledger.reported[report.account]);
            let loss = loss_of(report.account, count, from_ns, now_ns);
            sink(Observed {
                at_ns: now_ns,
                position: Some(SensorPosition { stream: self.stream, offset }),
                what: Observation::Lost(loss),
            });
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
    pub(crate) fn counts(&self) -> Result<Vec<KernelCount>, libbpf_rs::Error> {
        read_counts(&self.counters)
    }

    fn write_ledger(&mut self, now_ns: u64) -> Result<(), libbpf_rs::Error> {
        self.ledger_written_ns = now_ns;
        self.ledger_map.update(&KEY, &self.ledger.bytes(), MapFlags::ANY)
    }
}

/// Sums the CPUs' counters.
fn read_counts(counters: &MapHandle) -> Result<Vec<KernelCount>, libbpf_rs::Error> {
    let mut counts: Vec<_> = WHAT.iter().map(|what| KernelCount { what, ..KernelCount::default() }).collect();
    for (key, count) in (0_u32..).zip(&mut counts) {
        for value in counters.lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY)?.unwrap_or_default() {
            count.produced += u64_at(&value, 0).unwrap_or_default();
            count.lost += u64_at(&value, 8).unwrap_or_default();
            count.left_out += u64_at(&value, 16).unwrap_or_default();
            count.folded += u64_at(&value, 24).unwrap_or_default();
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
    let mut counts = accounts(&counts);
    // Its programs can't be asked any more; what was told of them stays told.
    counts[SKIPPED] = ledger.reported[SKIPPED];
    let untold = counts.iter().zip(ledger.reported).enumerate();
    untold
        .map(|(account, (count, reported))| (account, count.saturating_sub(reported)))
        .filter(|(_, count)| *count != 0)
        .map(|(account, count)| loss_of(account, count, ledger.checked_ns, now_ns))
        .collect()
}

/// The figures in the order of the ledger's accounts.
fn accounts(counts: &[KernelCount]) -> [u64; ACCOUNTS] {
    let mut accounts = [0; ACCOUNTS];
    for (index, count) in counts.iter().enumerate() {
        accounts[index] = count.lost;
        accounts[TYPES + index] = count.left_out;
    }
    accounts
}

fn loss_of(account: usize, count: u64, from_ns: u64, until_ns: u64) -> ObservedLoss {
    let reason = match account {
        SKIPPED => GapReason::KernelSkipped,
        account if account < TYPES => GapReason::KernelRingFull,
        _ => GapReason::Budget,
    };
    let what = WHAT.get(account % TYPES).copied().unwrap_or("observations");
    ObservedLoss { reason, what, count: Some(count), from_ns, until_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed_out(reports: &[(usize, u64)], at: u64) -> Ledger {
        let mut ledger = Ledger { handed_out_at: at, ..Ledger::default() };
        for (place, (account, told)) in ledger.handed_out.iter_mut().zip(reports) {
            *place = Some(Report { account: *account, told: *told });
        }
        ledger
    }

    #[test]
    fn a_report_counts_as_told_as_far_as_it_was_stored() {
        let mut ledger = handed_out(&[(0, 5), (1, 6), (40, 7)], 81);
        ledger.settle(80);
        assert_eq!(ledger.reported, [0; ACCOUNTS]);
        ledger.settle(82);
        assert_eq!((ledger.reported[0], ledger.reported[1], ledger.reported[40]), (5, 6, 0));
        assert!(!ledger.is_settled());
        ledger.settle(88);
        assert!(ledger.is_settled());
        assert_eq!(ledger.reported[40], 7);
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
        let ledger = Ledger { checked_ns: 4, ..handed_out(&[(3, 5), (63, 6)], 8) };
        assert_eq!(ledger.bytes().len(), (ACCOUNTS + 2 + 2 * REPORT_MAX) * 8);
        assert_eq!(Ledger::read(&ledger.bytes()), Some(ledger));
        assert_eq!(Ledger::read(&[0; 63]), None);
    }

    #[test]
    fn classes_become_the_bits_of_their_types() {
        let bit = |what: &str| 1_u64 << WHAT.iter().position(|known| *known == what).unwrap();
        assert_eq!(left_out_bits(&[]), 0);
        let network = left_out_bits(&[EventClass::Network]);
        assert_ne!(network & bit("network_connect"), 0);
        assert_eq!(network & bit("file_create"), 0);
        let all =
            left_out_bits(&[EventClass::Protected, EventClass::Network, EventClass::File, EventClass::Bulk]);
        assert_eq!(all & (bit("process_fork") | bit("process_start") | bit("process_exit")), 0);
        assert_eq!(all & network, network);
    }

    #[test]
    fn what_is_counted_is_what_the_header_numbers() {
        let header = include_str!("../bpf/record.h");
        for (number, what) in WHAT.iter().enumerate() {
            let name = match *what {
                "process_fork" => "FORK".to_owned(),
                "process_start" => "EXEC".to_owned(),
                "process_exit" => "EXIT".to_owned(),
                other => {
                    assert!(EventType::from_word(other).is_some(), "{other}");
                    other.to_uppercase()
                }
            };
            assert!(header.contains(&format!("#define COUNT_{name} {number}\n")), "{name} {number}");
        }
    }
}
