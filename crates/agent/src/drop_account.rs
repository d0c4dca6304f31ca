//! What was dropped and has not been told yet, kept where a crash can't take it.
//!
//! When the disk is full a batch can't be spooled, and neither can the gap records
//! that would say so. If the agent is killed then, nothing would remember. So this
//! one small file is written whole when there is room, at the agent's start, and
//! from then on only overwritten in place, which needs no new block.
//!
//! Layout, 4096 bytes, numbers little-endian: magic `RDA3`; host id and boot id (16 each); next
//! sequence number, from and until in nanoseconds since 1970, number of entries (8
//! each); entries of 20 bytes; zeros; the first 24 bytes of the SHA-256 of all
//! before. An entry: kind (2), reason (1), 1 where it is counted (1), records (8),
//! acts (8). No entries: everything has been told. `RDA2`, of agents before, is the same without the host id.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use event_model::{BootId, GapReason, HostId, RecordKind, Timestamp};
use os_files::{FileExt as _, OpenOptionsExt as _};
use protocol::enrollment::sha256;
use spool::Amount;

const MAGIC: &[u8; 4] = b"RDA3";
const MAGIC_BEFORE: &[u8; 4] = b"RDA2";
const WHOLE: usize = 4_096;
const CHECK: usize = 24;
const HEAD: usize = 4 + 2 * 16 + 4 * 8;
const ENTRY: usize = 20;
/// More than there are kinds that a host sees and reasons why one is lost while the disk is full.
const MAX_ENTRIES: usize = (WHOLE - CHECK - HEAD) / ENTRY;

/// What was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lost {
    /// Its kind.
    pub kind: RecordKind,
    /// Why.
    pub reason: GapReason,
    /// False where nobody knows how many.
    pub counted: bool,
}

/// Records that were numbered and dropped, and what gap records among them told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// As which host they were numbered. After it was enrolled anew, its numbers are another one's.
    pub host_id: HostId,
    /// The boot.
    pub boot_id: BootId,
    /// The number after the last one that was given.
    pub next_sequence: u64,
    /// Time of the earliest.
    pub from: Timestamp,
    /// Time of the latest.
    pub until: Timestamp,
    /// How many.
    pub lost: BTreeMap<Lost, Amount>,
}

impl Untold {
    /// Adds to it.
    pub fn add(&mut self, lost: Lost, amount: Amount) {
        let full = self.lost.len() >= MAX_ENTRIES && !self.lost.contains_key(&lost);
        let place = if full { Lost { kind: RecordKind::Unknown, ..lost } } else { lost };
        let own = self.lost.entry(place).or_default();
        own.records = own.records.saturating_add(amount.records);
        own.acts = own.acts.saturating_add(amount.acts);
    }

    /// Numbered records among it.
    pub fn records(&self) -> u64 {
        self.lost.values().map(|amount| amount.records).sum()
    }
}

/// The file, and what stood in it at the start.
#[derive(Debug)]
pub struct DropAccount {
    file: File,
    found: Option<Untold>,
}

impl DropAccount {
    /// Opens the file, or makes it. What is damaged counts as nothing; what an agent before wrote without a host id as
    /// this host's.
    ///
    /// # Errors
    /// If the file can't be opened or written.
    pub fn open(path: &Path, host_id: HostId) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut bytes = [0; WHOLE];
        let found = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| decode(&bytes, host_id));
        let account = Self { file, found };
        if account.found.is_none() {
            account.write(None)?;
            account.file.sync_all()?;
        }
        Ok(account)
    }

    /// What the agent before this one had dropped and could not tell.
    pub fn found(&self) -> Option<&Untold> {
        self.found.as_ref()
    }

    /// Replaces what stands in the file; `None` when everything has been told.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, untold: Option<&Untold>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(WHOLE);
        bytes.extend_from_slice(MAGIC);
        if let Some(untold) = untold {
            bytes.extend_from_slice(untold.host_id.as_bytes());
            bytes.extend_from_slice(untold.boot_id.as_bytes());
            let head = [
                untold.next_sequence,
                untold.from.as_nanos().cast_unsigned(),
                untold.until.as_nanos().cast_unsigned(),
                untold.lost.len().min(MAX_ENTRIES) as u64,
            ];
            head.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
            for (lost, amount) in untold.lost.iter().take(MAX_ENTRIES) {
                bytes.extend_from_slice(&lost.kind.number().to_le_bytes());
                bytes.extend_from_slice(&[lost.reason.number(), u8::from(lost.counted)]);
                bytes.extend_from_slice(&amount.records.to_le_bytes());
                bytes.extend_from_slice(&amount.acts.to_le_bytes());
            }
        }
        bytes.resize(WHOLE - CHECK, 0);
        bytes.extend_from_slice(&sha256(&bytes)[..CHECK]);
        self.file.write_all_at(&bytes, 0)
    }
}

fn decode(bytes: &[u8; WHOLE], own: HostId) -> Option<Untold> {
    let (content, check) = bytes.split_at(WHOLE - CHECK);
    if sha256(content)[..CHECK] != *check {
        return None;
    }
    let (host_id, at) = match content.first_chunk()? {
        MAGIC => (HostId::from_slice(&content[4..20]).ok()?, 20),
        MAGIC_BEFORE => (own, 4),
        _ => return None,
    };
    let boot_id = BootId::from_slice(&content[at..at + 16]).ok()?;
    let number = |at: usize| content.get(at..at + 8)?.try_into().map(u64::from_le_bytes).ok();
    let time = |at| number(at).map(|nanos| Timestamp::from_nanos(nanos.cast_signed()));
    let mut untold = Untold {
        host_id,
        boot_id,
        next_sequence: number(at + 16)?,
        from: time(at + 24)?,
        until: time(at + 32)?,
        lost: BTreeMap::new(),
    };
    let entries = at + 48;
    let most = (content.len() - entries) / ENTRY;
    let count = usize::try_from(number(at + 40)?).ok().filter(|count| *count <= most)?;
    for at in (entries..).step_by(ENTRY).take(count) {
        let kind = RecordKind::from_number(u16::from_le_bytes([content[at], content[at + 1]]));
        let reason = GapReason::from_number(content[at + 2])?;
        let amount = Amount { records: number(at + 4)?, acts: number(at + 12)? };
        untold.add(Lost { kind, reason, counted: content[at + 3] != 0 }, amount);
    }
    (count > 0).then_some(untold)
}

#[cfg(test)]
mod tests {
    use event_model::EventType;
    use uuid::Uuid;

    use super::*;

    fn host(number: u128) -> HostId {
        HostId::from_uuid(Uuid::from_u128(number))
    }

    #[test]
    fn what_was_written_is_found_again_and_damage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dropped");
        let mut untold = Untold {
            host_id: host(3),
            boot_id: BootId::from_uuid(Uuid::from_u128(1)),
            next_sequence: 77,
            from: Timestamp::from_nanos(-3),
            until: Timestamp::from_nanos(9),
            lost: BTreeMap::new(),
        };
        let account = DropAccount::open(&path, host(4)).unwrap();
        assert_eq!(account.found(), None);
        // More than fits: the rest goes into one entry, and the sum stays.
        for kind in RecordKind::all() {
            for &reason in GapReason::ALL {
                untold.add(Lost { kind, reason, counted: true }, Amount { records: 1, acts: 2 });
            }
        }
        let pairs = (RecordKind::all().count() * GapReason::ALL.len()) as u64;
        assert_eq!(untold.records(), pairs);
        account.write(Some(&untold)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), WHOLE as u64);
        let found = DropAccount::open(&path, host(4)).unwrap();
        assert!(found.found().unwrap().records() > 0);

        let mut small = Untold { lost: BTreeMap::new(), ..untold };
        let start = RecordKind::Event(EventType::ProcessStart);
        let lost = Lost { kind: start, reason: GapReason::SpoolWriteFailed, counted: true };
        small.add(lost, Amount { records: 5, acts: 6 });
        account.write(Some(&small)).unwrap();
        assert_eq!(DropAccount::open(&path, host(4)).unwrap().found(), Some(&small));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[30] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(DropAccount::open(&path, host(4)).unwrap().found(), None, "damaged");
        account.write(None).unwrap();
        assert_eq!(DropAccount::open(&path, host(4)).unwrap().found(), None, "told");
    }
    #[test]
    fn what_an_agent_before_wrote_is_this_hosts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dropped");
        let mut untold = Untold {
            host_id: host(4),
            boot_id: BootId::from_uuid(Uuid::from_u128(1)),
            next_sequence: 77,
            from: Timestamp::from_nanos(-3),
            until: Timestamp::from_nanos(9),
            lost: BTreeMap::new(),
        };
        let start = RecordKind::Event(EventType::ProcessStart);
        let lost = Lost { kind: start, reason: GapReason::SpoolWriteFailed, counted: true };
        untold.add(lost, Amount { records: 5, acts: 6 });
        DropAccount::open(&path, host(4)).unwrap().write(Some(&untold)).unwrap();
        let now = std::fs::read(&path).unwrap();
        let mut before = [MAGIC_BEFORE.as_slice(), &now[20..WHOLE - CHECK]].concat();
        before.resize(WHOLE - CHECK, 0);
        before.extend_from_slice(&sha256(&before)[..CHECK]);
        std::fs::write(&path, before).unwrap();
        assert_eq!(DropAccount::open(&path, host(4)).unwrap().found(), Some(&untold));
    }
}
