//! The gate before executions: what it judges with, and what it kept from running, on its way to the pipeline.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use event_model::{BootId, FileFacts, HostId, Image, RuleReference, Timestamp};
use response::Switch;
use sensor_api::Source;

use crate::clock::WallClock;
use crate::options::Options;
use crate::rules::RuleBook;
use crate::run_state::Caution;
use crate::system::execution_gate;

/// More than this can't wait: each stands for a question that was answered within a quarter of a second, and the
/// pipeline looks two hundred times a second.
const MOST: usize = 65_536;

/// What the gate judges with.
pub struct GateParts {
    /// The rules, of which some are the gate's.
    pub rules: Arc<RuleBook>,
    /// SHA-256 of programs that may not run.
    pub blocked_hashes: HashSet<String>,
    /// Programs that no response touches, besides those of the system.
    pub protected: Vec<PathBuf>,
    /// Stops it with all other response.
    pub switch: Switch,
    /// This host.
    pub host_id: HostId,
    /// Its boot.
    pub boot_id: BootId,
    /// Its clock.
    pub clock: Arc<WallClock>,
    /// Where it goes what was kept from running.
    pub denials: DenialFeed,
}

/// The gate as a source, where one is asked for.
pub fn open(options: &Options, caution: Caution, parts: GateParts) -> Option<Box<dyn Source>> {
    let places = options.execution_gate.as_ref()?;
    if caution == Caution::SafeMode {
        eprintln!("note: -execgate: in safe mode after repeated crashes no program is kept from running");
        return None;
    }
    parts.rules.keep_gate();
    execution_gate::source(places, parts)
}

/// A program that was not to run.
#[derive(Debug, Clone)]
pub struct Denial {
    /// When it was asked for, in nanoseconds since boot.
    pub at_ns: u64,
    /// The process that would run it.
    pub pid: u32,
    /// What it would run.
    pub image: Arc<Image>,
    /// What its file is, where that was read.
    pub facts: Option<Arc<FileFacts>>,
    /// What forbids it.
    pub rule: RuleReference,
    /// The conditions that matched.
    pub matched: Vec<String>,
    /// When it was judged.
    pub judged: Timestamp,
    /// When it was known what came of that.
    pub known: Timestamp,
    /// The kernel took the «no»; else it came too late, and the program ran. `None` where nobody knows.
    pub in_time: Option<bool>,
    /// Whether the process runs something else; `None` where it is gone.
    pub runs_another: Option<bool>,
}

/// From the gate to the pipeline. The default one leads nowhere, and is enough where there is no gate.
#[derive(Debug, Clone, Default)]
pub struct DenialFeed {
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    denials: Vec<Denial>,
    lost: u64,
}

impl DenialFeed {
    /// Puts one in.
    pub fn tell(&self, denial: Denial) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.denials.len() >= MOST {
            waiting.lost += 1;
        } else {
            waiting.denials.push(denial);
        }
    }

    /// What came since the last time, and how many there was no room for.
    pub fn take(&self) -> (Vec<Denial>, u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut waiting.denials), std::mem::take(&mut waiting.lost))
    }
}
