//! How the last run ended, and whether the agent keeps crashing.
//!
//! `run.json` says "running" from start to clean stop; whoever finds it so at the
//! start follows a crash. Three crashes in ten minutes: the last bundle of rules
//! under which the agent was well for a minute is used, as a newer one may be the
//! cause. Three more: safe mode, where nothing is acted on. A minute of good health
//! forgets the crashes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use event_model::{BootId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::state_file;

/// Crashes longer ago than this no longer count.
const CRASH_WINDOW_NS: i64 = 600_000_000_000;

/// After running for this long the agent counts as healthy.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// How careful a start has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caution {
    /// The newest rules, all responses.
    Normal,
    /// Rules that are known to be good, where there are some.
    LastKnownGood,
    /// Only rules that are known to be good, and no response at all.
    SafeMode,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    boot_id: String,
    running: bool,
    crashes_ns: Vec<i64>,
    /// Version of the last bundle under which the agent was well for a minute.
    #[serde(default)]
    good_version: u64,
}

/// The file, and what it said at the start.
#[derive(Debug)]
pub struct RunState {
    path: PathBuf,
    run: Run,
    /// `first_start`, `clean`, `crash` or `reboot`.
    pub previous_end: &'static str,
    /// What follows from it.
    pub caution: Caution,
}

impl RunState {
    /// Reads how the last run ended and notes that one runs now. Where that can't be written, as on a full disk, the
    /// agent runs all the same: it must not be enough to fill a disk and kill it.
    pub fn begin(state_dir: &Path, boot_id: BootId, now: Timestamp) -> Self {
        let path = state_dir.join("run.json");
        let last = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Run>(&text).ok());
        let boot_id = boot_id.to_string();
        let previous_end = match &last {
            None => "first_start",
            Some(last) if !last.running => "clean",
            Some(last) if last.boot_id != boot_id => "reboot",
            Some(_) => "crash",
        };
        let Run { mut crashes_ns, good_version, .. } = last.unwrap_or_default();
        if previous_end == "crash" {
            crashes_ns.push(now.as_nanos());
        }
        let recent = |at: &i64| (0..=CRASH_WINDOW_NS).contains(&(now.as_nanos().saturating_sub(*at)));
        crashes_ns.retain(recent);
        let caution = match crashes_ns.len() {
            0..3 => Caution::Normal,
            3..6 => Caution::LastKnownGood,
            _ => Caution::SafeMode,
        };
        let state = Self {
            path,
            run: Run { boot_id, running: true, crashes_ns, good_version },
            previous_end,
            caution,
        };
        state.write_or_warn();
        state
    }

    /// The version of the last bundle that is known to be good; 0 if none is.
    pub fn good_version(&self) -> u64 {
        self.run.good_version
    }

    /// The agent has been well for a while under that version of the server's rules.
    pub fn healthy(&mut self, version: u64) {
        if !self.run.crashes_ns.is_empty() || self.run.good_version != version {
            self.run.crashes_ns.clear();
            self.run.good_version = version;
            self.write_or_warn();
        }
    }

    /// The agent stops as it was asked to.
    pub fn end(&mut self) {
        self.run.running = false;
        self.write_or_warn();
    }

    fn write_or_warn(&self) {
        if let Err(error) = self.write() {
            tracing::warn!(path = %self.path.display(), %error, "the run state could not be written");
        }
    }

    fn write(&self) -> std::io::Result<()> {
        state_file::write(&self.path, &serde_json::to_vec(&self.run)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: BootId = BootId::from_uuid(uuid::Uuid::from_u128(1));

    fn begin(dir: &Path, seconds: i64) -> RunState {
        RunState::begin(dir, BOOT, Timestamp::from_nanos(seconds * 1_000_000_000))
    }

    #[test]
    fn each_way_to_end_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(begin(dir.path(), 1).previous_end, "first_start");
        assert_eq!(begin(dir.path(), 2).previous_end, "crash");
        begin(dir.path(), 3).end();
        assert_eq!(begin(dir.path(), 4).previous_end, "clean");
        let other_boot = BootId::from_uuid(uuid::Uuid::from_u128(2));
        let state = RunState::begin(dir.path(), other_boot, Timestamp::from_nanos(5));
        assert_eq!(state.previous_end, "reboot");
    }

    #[test]
    fn repeated_crashes_make_the_start_careful_until_it_is_healthy() {
        let dir = tempfile::tempdir().unwrap();
        let cautions: Vec<Caution> = (0..8).map(|start| begin(dir.path(), start).caution).collect();
        use Caution::{LastKnownGood, Normal, SafeMode};
        assert_eq!(cautions[..4], [Normal, Normal, Normal, LastKnownGood]);
        assert_eq!(cautions[4..], [LastKnownGood, LastKnownGood, SafeMode, SafeMode]);
        let mut state = begin(dir.path(), 10);
        state.healthy(7);
        let after = begin(dir.path(), 11);
        assert_eq!((after.caution, after.good_version()), (Normal, 7));
        let dir = tempfile::tempdir().unwrap();
        for start in 0..6 {
            assert_eq!(begin(dir.path(), start * 400).caution, Normal, "crashes long ago do not count");
        }
    }
}
