//! What was dropped and has not been told yet, kept where a crash can't take it.
//!
//! When the disk is full a batch can't be spooled, and neither can the gap record
//! that would say so. If the agent is killed then, nothing would remember. So this
//! one small file is written whole when there is room, at the agent's start, and
//! from then on only overwritten in place, which needs no new block.
//!
//! Layout, 76 bytes, numbers little-endian: magic `RDA1`; boot id (16); next
//! sequence number (8); count (8); from and until in nanoseconds since 1970 (8
//! each); the first 24 bytes of the SHA-256 of all before. A count of 0 says that
//! everything has been told.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use event_model::{BootId, Timestamp};
use protocol::enrollment::sha256;

const MAGIC: &[u8; 4] = b"RDA1";
const CONTENT: usize = 4 + 16 + 4 * 8;
const WHOLE: usize = CONTENT + 24;

/// Records that were numbered and dropped, and that no gap record tells of yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Untold {
    /// The number after the last one that was given.
    pub next_sequence: u64,
    /// How many records were dropped.
    pub count: u64,
    /// Time of the earliest.
    pub from: Timestamp,
    /// Time of the latest.
    pub until: Timestamp,
}

/// The file, and what stood in it at the start.
#[derive(Debug)]
pub struct DropAccount {
    file: File,
    boot_id: BootId,
    found: Option<Untold>,
}

impl DropAccount {
    /// Opens the file, or makes it, for the running boot. What is damaged or of
    /// another boot counts as nothing.
    ///
    /// # Errors
    /// If the file can't be opened or written.
    pub fn open(path: &Path, boot_id: BootId) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut bytes = [0; WHOLE];
        let found = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| decode(&bytes, boot_id));
        let account = Self { file, boot_id, found };
        if found.is_none() {
            account.write(None)?;
            account.file.sync_all()?;
        }
        Ok(account)
    }

    /// What the agent before this one had dropped and could not tell.
    pub fn found(&self) -> Option<Untold> {
        self.found
    }

    /// Replaces what stands in the file; `None` when everything has been told.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, untold: Option<Untold>) -> io::Result<()> {
        let nothing =
            Untold { next_sequence: 0, count: 0, from: Timestamp::default(), until: Timestamp::default() };
        let Untold { next_sequence, count, from, until } = untold.unwrap_or(nothing);
        let mut bytes = Vec::with_capacity(WHOLE);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.boot_id.as_bytes());
        bytes.extend_from_slice(&next_sequence.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&from.as_nanos().to_le_bytes());
        bytes.extend_from_slice(&until.as_nanos().to_le_bytes());
        bytes.extend_from_slice(&sha256(&bytes)[..WHOLE - CONTENT]);
        self.file.write_all_at(&bytes, 0)
    }
}

fn decode(bytes: &[u8; WHOLE], boot_id: BootId) -> Option<Untold> {
    let (content, check) = bytes.split_at(CONTENT);
    let good = content.starts_with(MAGIC) && sha256(content)[..WHOLE - CONTENT] == *check;
    if !good || content[4..20] != *boot_id.as_bytes() {
        return None;
    }
    let number =
        |place: usize| content[20 + 8 * place..28 + 8 * place].try_into().map(u64::from_le_bytes).ok();
    let time = |place| number(place).map(|nanos| Timestamp::from_nanos(nanos.cast_signed()));
    let untold = Untold { next_sequence: number(0)?, count: number(1)?, from: time(2)?, until: time(3)? };
    (untold.count > 0).then_some(untold)
}

#[cfg(test)]
mod tests {
    use event_model::BootId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_was_written_is_found_again_in_the_same_boot_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dropped");
        let (boot, other) = (BootId::from_uuid(Uuid::from_u128(1)), BootId::from_uuid(Uuid::from_u128(2)));
        let untold = Untold {
            next_sequence: 77,
            count: 5,
            from: Timestamp::from_nanos(-3),
            until: Timestamp::from_nanos(9),
        };
        let account = DropAccount::open(&path, boot).unwrap();
        assert_eq!(account.found(), None);
        account.write(Some(untold)).unwrap();
        assert_eq!(DropAccount::open(&path, boot).unwrap().found(), Some(untold));
        account.write(None).unwrap();
        assert_eq!(DropAccount::open(&path, boot).unwrap().found(), None);

        account.write(Some(untold)).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[30] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(DropAccount::open(&path, boot).unwrap().found(), None, "damaged");
        account.write(Some(untold)).unwrap();
        assert_eq!(DropAccount::open(&path, other).unwrap().found(), None, "of another boot");
    }
}
