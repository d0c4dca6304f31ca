//! What a pipeline is made of, how it is stopped, and why it ended.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use event_model::{BootId, Timestamp};
use sensor_api::{ObservationQueue, Sensor};

use crate::clock::WallClock;
use crate::gate::DenialFeed;
use crate::governor::Governor;
use crate::indicator_book::IndicatorBook;
use crate::judge::Judge;
use crate::process_table::ProcessTable;
use crate::recorder::Recorder;
use crate::rules::RuleBook;
use crate::scanner::ScanFeed;
use crate::signals;
use crate::system::observing::ContentFeed;

/// Asks the pipeline to stop.
#[derive(Debug, Default)]
pub struct Stop {
    asked: AtomicBool,
    signal: AtomicU8,
    sender: Mutex<Option<signals::Sender>>,
}

impl Stop {
    /// Who sent the signal that will be [asked](Self::ask) for.
    pub fn sent_by(&self, sender: Option<signals::Sender>) {
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = sender;
    }

    /// The signal, 0 for none, and who sent it.
    pub(super) fn signal(&self) -> (u8, Option<signals::Sender>) {
        let sender = *self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        (self.signal.load(Ordering::Relaxed), sender)
    }

    /// Whether it was asked for.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Stop, because of that signal.
    pub fn ask(&self, signal: u8) {
        self.signal.store(signal, Ordering::Relaxed);
        self.asked.store(true, Ordering::Release);
    }
}

/// What the run before this one left.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    /// Its sensor's stream, if it had one.
    pub stream: Option<u64>,
    /// Time of its last record.
    pub until: Timestamp,
}

/// What a pipeline needs.
pub struct Parts {
    /// The source of processes, and of all else that the kernel tells in order.
    pub sensor: Box<dyn Sensor>,
    /// What sources with threads of their own saw.
    pub queue: ObservationQueue,
    /// Where what is observed goes whose content is to be read.
    pub content: ContentFeed,
    /// Where what is observed goes whose file is to be scanned.
    pub scans: ScanFeed,
    /// What the gate before executions kept from running.
    pub denials: DenialFeed,
    /// The boot.
    pub boot_id: BootId,
    /// Its clock.
    pub clock: Arc<WallClock>,
    /// Who is there; restored forks included.
    pub table: ProcessTable,
    /// Rules and response.
    pub judge: Judge,
    /// The way out.
    pub recorder: Recorder,
    /// Rules that may change.
    pub rules: Arc<RuleBook>,
    /// Indicators that may change.
    pub indicators: Arc<IndicatorBook>,
    /// SHA-256 of programs that may not run. Names and paths are the sensor's alone.
    pub blocked_hashes: HashSet<String>,
    /// What was before, if anything was.
    pub before: Option<Before>,
    /// Keeps the agent within its budget.
    pub governor: Governor,
    /// For the agent's start event.
    pub config_hash: String,
    /// For the agent's start event.
    pub previous_end: &'static str,
    /// For the agent's start event: where each type of event comes from.
    pub sources: Vec<String>,
    /// For the agent's start event.
    pub previous_cause: Option<String>,
    /// Goes up by one with each completed round; for tests and a watchdog.
    pub rounds: Arc<AtomicU64>,
}

/// Why a pipeline ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Asked,
    /// Memory stays far beyond its limit: the agent is to begin anew.
    Memory,
}
