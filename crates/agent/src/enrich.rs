//! From a process of the table to the body of an event.

use std::sync::Arc;

use event_model::{
    BootId, Process, ProcessEntityId, ProcessExit, ProcessStart, ProcessSummary, StartKind, Who,
};
use sensor_api::ProcessKey;

use crate::clock::WallClock;
use crate::process_table::{Entry, ProcessTable};
use crate::system::process::end_of;

/// Ancestors that a detection carries, and how much of the command line of each, in
/// bytes; their own events have all of it. Without a limit one attacker with long
/// arguments would make detections too large to be sent.
const MAX_ANCESTRY: usize = 16;
const MAX_ANCESTOR_COMMAND_LINE: usize = 4_096;

/// What all events of one boot share.
#[derive(Debug, Clone, Copy)]
pub struct Enricher<'a> {
    /// The boot.
    pub boot_id: BootId,
    /// Its clock.
    pub clock: &'a WallClock,
    /// Its processes.
    pub table: &'a ProcessTable,
}

impl Enricher<'_> {
    /// The start of a process, without the hash of its image.
    pub fn process_start(&self, key: ProcessKey, kind: StartKind) -> Option<ProcessStart> {
        let entry = self.table.entry(key)?;
        Some(ProcessStart {
            kind,
            process: self.process(key, entry),
            parent: self.parent(entry),
            facts: None,
            hash_skipped: None,
        })
    }

    /// The end of a process.
    pub fn process_exit(&self, key: ProcessKey, at_ns: u64, wait_status: Option<u32>) -> Option<ProcessExit> {
        let entry = self.table.entry(key)?;
        let (exit_code, exit_signal) = wait_status.map_or((None, None), end_of);
        Some(ProcessExit {
            process: self.process(key, entry),
            parent: self.parent(entry),
            end: self.clock.at(at_ns),
            exit_code,
            exit_signal,
            run_time_ns: at_ns.saturating_sub(key.start_ns),
        })
    }

    /// The process as events of what it does show it.
    pub fn who(&self, key: ProcessKey) -> Option<Who> {
        let entry = self.table.entry(key)?;
        Some(Who { process: self.process(key, entry), parent: self.parent(entry) })
    }

    /// The process and its ancestors, nearest first.
    pub fn ancestry(&self, key: ProcessKey) -> Vec<ProcessSummary> {
        let own = self.table.entry(key).map(|entry| (key, entry));
        own.into_iter()
            .chain(self.table.ancestors(key))
            .take(MAX_ANCESTRY)
            .map(|(key, entry)| ProcessSummary {
                entity_id: self.entity_id(key),
                pid: key.pid,
                executable: entry.image.executable.clone(),
                command_line: shortened(&entry.image.command_line),
                user: entry.image.user.name.clone().unwrap_or_else(|| entry.image.user.id.to_string()),
                start: self.clock.at(key.start_ns),
            })
            .collect()
    }

    fn entity_id(&self, key: ProcessKey) -> ProcessEntityId {
        ProcessEntityId::new(self.boot_id, key.pid, key.start_ns)
    }

    fn process(&self, key: ProcessKey, entry: &Entry) -> Process {
        Process {
            entity_id: self.entity_id(key),
            start: self.clock.at(key.start_ns),
            image: Arc::clone(&entry.image),
        }
    }

    fn parent(&self, entry: &Entry) -> Option<Process> {
        let key = entry.parent?;
        Some(self.process(key, self.table.entry(key)?))
    }
}

/// At most [`MAX_ANCESTOR_COMMAND_LINE`] bytes; a cut is marked by its last character.
fn shortened(command_line: &str) -> String {
    if command_line.len() <= MAX_ANCESTOR_COMMAND_LINE {
        return command_line.to_owned();
    }
    let end = command_line.floor_char_boundary(MAX_ANCESTOR_COMMAND_LINE - '…'.len_utf8());
    format!("{}…", &command_line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_line_is_cut_at_a_character_and_marked() {
        let long = "é".repeat(MAX_ANCESTOR_COMMAND_LINE);
        let cut = shortened(&long);
        assert!(cut.len() <= MAX_ANCESTOR_COMMAND_LINE && cut.ends_with("é…"), "{}", cut.len());
        assert_eq!(shortened("short"), "short");
    }
}
