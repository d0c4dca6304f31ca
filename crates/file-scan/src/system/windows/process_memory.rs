//! The memory of processes is not read on Windows yet; whoever asks is told so.

use std::fmt;
use std::io;
use std::time::Instant;

use boreal::memory::{FragmentedMemory, MemoryParams, Region, RegionDescription};

use crate::yara::YaraIncomplete;

/// Why the memory of a process can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessUnread {
    /// It is ourselves: our memory has the rules, so all of them would match.
    OwnProcess,
    /// This version can't read it.
    Unreadable(io::ErrorKind),
}

impl ProcessUnread {
    /// The word that events carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OwnProcess => "own_process",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

impl fmt::Display for ProcessUnread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnProcess => f.write_str(self.as_str()),
            Self::Unreadable(kind) => write!(f, "unreadable ({kind}): memory is not read on Windows yet"),
        }
    }
}

impl std::error::Error for ProcessUnread {}

/// The memory of one process. There is no way to one yet.
#[derive(Debug)]
pub struct ProcessMemory(std::convert::Infallible);

impl ProcessMemory {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn open(pid: u32, _max_bytes: u64) -> Result<Self, ProcessUnread> {
        if pid == std::process::id() {
            return Err(ProcessUnread::OwnProcess);
        }
        Err(ProcessUnread::Unreadable(io::ErrorKind::Unsupported))
    }

    /// When the process started.
    pub fn start_ticks(&self) -> u64 {
        match self.0 {}
    }

    /// Bytes that are going to be read.
    pub fn chosen_bytes(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn into_regions(self, _: Instant, _: &ReadProgress) -> Regions {
        match self.0 {}
    }
}

/// How far the reading came.
#[derive(Debug, Default)]
pub(crate) struct ReadProgress(());

impl ReadProgress {
    pub(crate) fn incomplete(&self) -> Option<YaraIncomplete> {
        None
    }
}

/// The chosen parts.
#[derive(Debug)]
pub(crate) struct Regions(std::convert::Infallible);

impl FragmentedMemory for Regions {
    fn next(&mut self, _: &MemoryParams) -> Option<RegionDescription> {
        match self.0 {}
    }

    fn fetch(&mut self, _: &MemoryParams) -> Option<Region<'_>> {
        match self.0 {}
    }

    fn reset(&mut self) {
        match self.0 {}
    }
}
