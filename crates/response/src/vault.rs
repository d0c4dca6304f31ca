//! The vault: files that were taken away, sealed, with all that is needed to put them back.
//!
//! Each file is sealed with a key of its own (HKDF-SHA256 of the vault's key and a random
//! salt) by AES-256-GCM in pieces, so that memory stays bounded; the number of a
//! piece and whether it is the last are bound in, so that pieces can't be swapped or
//! cut off. Sealing keeps the content from being run, scanned or read by chance; it
//! does not keep root of this host from it, who can read the key as well.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use os_files::{DirBuilderExt as _, Folder, OpenCautiously as _, OpenOptionsExt as _};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::journal::write_whole;
use crate::platform::{Failure, Progress, Subject, Survey};

/// Largest file that is taken.
pub(crate) const MAX_FILE: u64 = 1 << 30;

/// Bytes that all sealed files of a host may take.
pub(crate) const QUOTA: u64 = 4 << 30;

const MAGIC: &[u8; 8] = b"RVAULT1\0";
const PIECE: usize = 1 << 20;
const TAG: usize = 16;

/// A record is read up to here: one of an older agent has each byte of an attribute as a number.
const MAX_RECORD: u64 = 16 << 20;

/// What a file was, besides its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) path: String,
    /// Device and inode of the file, and of its folder.
    pub(crate) file: (u64, u64),
    pub(crate) folder: (u64, u64),
    pub(crate) size: u64,
    pub(crate) sha256: String,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    /// Seconds and nanoseconds of the last access and the last change of the content.
    pub(crate) accessed: (i64, i64),
    pub(crate) modified: (i64, i64),
    /// Extended attributes (ACLs and security labels are among them): name and value.
    pub(crate) attributes: Vec<(String, Bytes)>,
    /// How many more it had.
    #[serde(default)]
    pub(crate) attributes_left_out: usize,
    /// It was put back; its content is no longer here.
    #[serde(default)]
    pub(crate) restored: bool,
    /// A person wanted it gone for good. Written before the content goes, so that a removal that was
    /// interrupted is finished and never taken for a loss.
    #[serde(default)]
    pub(crate) deleted: bool,
}

/// Bytes, written as hexadecimal digits; a list of numbers, as older agents wrote it, is read as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("hexadecimal digits, or a list of bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                let digits = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
                let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(digits).collect();
                bytes
                    .filter(|_| text.len().is_multiple_of(2))
                    .map(Bytes)
                    .ok_or_else(|| E::custom("no digits"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// The folder of sealed files.
pub(crate) struct Vault {
    dir: PathBuf,
    key: [u8; 32],
}

impl Vault {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let path = dir.join("key");
        let mut key = [0; 32];
        match OpenOptions::new().read(true).cautiously().open(&path) {
            Ok(mut file) => file.read_exact(&mut key)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                rand::fill(&mut key).map_err(|_| io::Error::other("no random numbers"))?;
                write_whole(&path, &key)?;
            }
            Err(error) => return Err(error),
        }
        Ok(Self { dir: dir.to_owned(), key })
    }

    /// Bytes that the sealed files take.
    pub(crate) fn used(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&self.dir) else { return 0 };
        entries.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
    }

    /// Seals all that can be read from `from`, synced. Gives the SHA-256 and the count of its bytes.
    pub(crate) fn seal(&self, id: Uuid, from: impl Read) -> io::Result<(String, u64)> {
        let mut salt = [0; 16];
        rand::fill(&mut salt).map_err(|_| io::Error::other("no random numbers"))?;
        let mut to =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.content_path(id))?;
        to.write_all(MAGIC)?;
        to.write_all(&salt)?;
        let key = self.key_of(&salt)?;
        let (mut from, mut hash, mut size) = (from.take(MAX_FILE + 1), Context::new(&SHA256), 0);
        let mut number = 0;
        loop {
            let mut piece = read_piece(&mut from, PIECE)?;
            let last = piece.len() < PIECE;
            size += piece.len() as u64;
            if size > MAX_FILE {
                return Err(io::Error::other("the file grew past 1 GiB"));
            }
            hash.update(&piece);
            key.seal_in_place_append_tag(nonce(number, last), Aad::from(MAGIC), &mut piece)
                .map_err(|_| io::Error::other("sealing failed"))?;
            to.write_all(&piece)?;
            number += 1;
            if last {
                break;
            }
        }
        to.sync_all()?;
        Folder::open(&self.dir)?.sync_all()?;
        Ok((hex(hash.finish().as_ref()), size))
    }

    /// Opens the seal and writes the content to `to`. Gives its SHA-256.
    pub(crate) fn unseal(&self, id: Uuid, mut to: impl Write) -> io::Result<String> {
        let mut from = OpenOptions::new().read(true).cautiously().open(self.content_path(id))?;
        let (mut magic, mut salt) = ([0; 8], [0; 16]);
        from.read_exact(&mut magic)?;
        from.read_exact(&mut salt)?;
        if &magic != MAGIC {
            return Err(io::Error::other("it is no sealed file"));
        }
        let key = self.key_of(&salt)?;
        let mut hash = Context::new(&SHA256);
        let mut number = 0;
        loop {
            let mut piece = read_piece(&mut from, PIECE + TAG)?;
            let last = piece.len() < PIECE + TAG;
            let plain = key
                .open_in_place(nonce(number, last), Aad::from(MAGIC), &mut piece)
                .map_err(|_| io::Error::other("the sealed file was changed or cut off"))?;
            hash.update(plain);
            to.write_all(plain)?;
            number += 1;
            if last {
                return Ok(hex(hash.finish().as_ref()));
            }
        }
    }

    pub(crate) fn write_metadata(&self, id: Uuid, metadata: &Metadata) -> io::Result<()> {
        write_whole(&self.metadata_path(id), &serde_json::to_vec(metadata)?)
    }

    pub(crate) fn metadata(&self, id: Uuid) -> io::Result<Metadata> {
        let file = OpenOptions::new().read(true).cautiously().open(self.metadata_path(id))?;
        let mut text = Vec::new();
        file.take(MAX_RECORD).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// What is known of an item after a crash; `None` if nothing was written of it, so that nothing was taken.
    /// A record that is there and can't be read may be of the only copy.
    pub(crate) fn metadata_after_a_crash(&self, id: Uuid) -> Result<Option<Metadata>, Failure> {
        match self.metadata(id) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::NotProved(format!(
                "the vault's record of {id} can't be read ({error}); its copy is kept"
            ))),
        }
    }

    /// Forgets the content of an item, and all of it if nothing was taken.
    pub(crate) fn forget(&self, id: Uuid, metadata_too: bool) {
        // What can't be removed only takes space, and is tried again by nobody but a person.
        let _ = fs::remove_file(self.content_path(id));
        if metadata_too {
            let _ = fs::remove_file(self.metadata_path(id));
        }
    }

    /// What an item was, if its content is still here.
    pub(crate) fn item(&self, id: Uuid) -> Result<Metadata, Failure> {
        let gone = |why: String| Failure::NotTheTarget { subject: format!("item {id}"), why };
        let metadata =
            self.metadata(id).map_err(|error| gone(format!("the vault has no such item ({error})")))?;
        if metadata.restored {
            return Err(gone("it was restored before".to_owned()));
        }
        // Where its removal failed its content is still here: it can be removed again, or put back after all.
        if metadata.deleted && !self.has_content(id) {
            return Err(gone("it was removed from the vault for good".to_owned()));
        }
        Ok(metadata)
    }

    fn has_content(&self, id: Uuid) -> bool {
        fs::symlink_metadata(self.content_path(id)).is_ok()
    }

    pub(crate) fn survey_delete(&self, id: Uuid) -> Result<Survey, Failure> {
        let Metadata { path, sha256, size, .. } = self.item(id)?;
        let path = path.escape_debug();
        let steps = vec![format!(
            "remove the vault's copy of {path} ({size} bytes, SHA-256 {sha256}) for good: nothing brings it back"
        )];
        Ok(Survey { steps, subject: Subject::Nothing })
    }

    /// Removes an item's content; what it was stays on record.
    pub(crate) fn delete(&self, id: Uuid, progress: &mut Progress<'_>) -> Result<Value, Failure> {
        let metadata = self.item(id)?;
        let (path, sha256) = (metadata.path.clone(), metadata.sha256.clone());
        progress.step("noted that it goes", || {
            let gone = Metadata { deleted: true, ..metadata };
            self.write_metadata(id, &gone)
                .map_err(|error| Failure::system("writing the vault's record", error))
        })?;
        progress.step("removed the vault's copy", || self.remove_content(id))?;
        Ok(json!({ "path": path, "sha256": sha256 }))
    }

    fn remove_content(&self, id: Uuid) -> Result<(), Failure> {
        match fs::remove_file(self.content_path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::system("removing the vault's copy", error))
            }
            _ => Folder::open(&self.dir)
                .and_then(|dir| dir.sync_all())
                .map_err(|error| Failure::system("writing the vault's folder to disk", error)),
        }
    }

    pub(crate) fn is_deleted(&self, id: Uuid) -> Result<String, Failure> {
        let metadata = self.metadata(id).map_err(|error| Failure::system("the vault's record", error))?;
        if self.has_content(id) || !metadata.deleted {
            return Err(Failure::NotProved(format!("item {id} is still in the vault")));
        }
        Ok(format!("the vault has nothing of item {id} any more but its record"))
    }

    /// After a crash: what was noted to go is removed, else nothing was done.
    pub(crate) fn recover_delete(&self, id: Uuid) -> Result<String, Failure> {
        if self.metadata(id).is_ok_and(|metadata| metadata.deleted) {
            self.remove_content(id)?;
        }
        self.is_deleted(id)
    }

    fn key_of(&self, salt: &[u8; 16]) -> io::Result<LessSafeKey> {
        let unusable = |_| io::Error::other("the vault's key can't be used");
        let extracted = Salt::new(HKDF_SHA256, salt).extract(&self.key);
        let expanded = extracted.expand(&[b"rampart vault v1"], &AES_256_GCM).map_err(unusable)?;
        Ok(LessSafeKey::new(UnboundKey::from(expanded)))
    }

    fn content_path(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{id}.sealed"))
    }

    fn metadata_path(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

/// Number of the piece, and whether it is the last.
fn nonce(number: u64, last: bool) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[8] = u8::from(last);
    Nonce::assume_unique_for_key(bytes)
}

/// As many bytes as asked for, fewer only at the end.
fn read_piece(from: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(most + TAG);
    from.by_ref().take(most as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

/// SHA-256 of all that can be read, in hexadecimal digits. Nothing here is larger than [`MAX_FILE`]: what grows past
/// it while it is read is another content, and must not be read on and on.
pub(crate) fn sha256_of(from: impl Read) -> io::Result<(String, u64)> {
    let mut from = from.take(MAX_FILE + 1);
    let (mut hash, mut buffer, mut size) = (Context::new(&SHA256), vec![0; 64 << 10], 0);
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok((hex(hash.finish().as_ref()), size)),
            count => {
                hash.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_written_short_and_read_as_older_agents_wrote_them() {
        let both = |text: &str| serde_json::from_str::<Vec<(String, Bytes)>>(text);
        let expected = vec![("user.x".to_owned(), Bytes(vec![0, 10, 255]))];
        assert_eq!(serde_json::to_string(&expected).unwrap(), r#"[["user.x","000aff"]]"#);
        for text in [r#"[["user.x","000aff"]]"#, r#"[["user.x",[0,10,255]]]"#] {
            assert_eq!(both(text).unwrap(), expected, "{text}");
        }
        for text in
            [r#"[["user.x","000"]]"#, r#"[["user.x","0x"]]"#, r#"[["user.x","é"]]"#, r#"[["user.x",[256]]]"#]
        {
            assert!(both(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_sealed_comes_back_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path()).unwrap();
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE] {
            let id = Uuid::new_v4();
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let (hash, count) = vault.seal(id, content.as_slice()).unwrap();
            assert_eq!(count, size as u64);
            let mut back = Vec::new();
            // By another opening, as after a restart: the key is kept.
            assert_eq!(Vault::open(dir.path()).unwrap().unseal(id, &mut back).unwrap(), hash);
            assert_eq!(back, content);

            let path = vault.content_path(id);
            let sealed = fs::read(&path).unwrap();
            assert!(size < 16 || !sealed.windows(16).any(|window| window == &content[..16]));
            for cut in [sealed.len() - 1, 24, sealed.len().min(24 + PIECE + TAG)] {
                if cut < sealed.len() {
                    fs::write(&path, &sealed[..cut]).unwrap();
                    assert!(vault.unseal(id, io::sink()).is_err(), "cut at {cut} of {}", sealed.len());
                }
            }
            let mut changed = sealed.clone();
            *changed.last_mut().unwrap() ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(vault.unseal(id, io::sink()).is_err());
        }
    }
}
