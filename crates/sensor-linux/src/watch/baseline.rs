//! What was known at the last stop, kept in the agent's state directory, so that
//! what was changed while no agent was there is told by the next one.
//!
//! Two files, both mode 0600: the host's key, and the baseline with a tag under
//! that key at its end, which tells whether it is whole.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::known::{Content, Identity, Known, Shortage};
use super::places::Kind;
use super::secrets::{HostKey, KEY_BYTES};

const BASELINE: &str = "watched-files";
const KEY: &str = "watched-files.key";

/// First bytes of a baseline; another format gets another number.
const MAGIC: &[u8] = b"rampart watched files 1\n";

/// A baseline is smaller: texts are bounded, the rest is some 200 bytes a file.
const MOST_BYTES: u64 = 256 << 20;

const TAG_BYTES: usize = 32;

/// A file of the baseline.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub(super) kind: Kind,
    pub(super) known: Known,
}

/// Files by their paths.
pub(super) type Baseline = BTreeMap<Vec<u8>, Kept>;

/// What the state directory held.
#[derive(Debug)]
pub(super) enum Loaded {
    /// The baseline of the run before.
    Baseline(Baseline),
    /// There is none: the first start.
    Nothing,
    /// There is one that can't be used.
    Damaged,
}

/// The host's key from the state directory; a new one, kept there, where there is none.
pub(super) fn host_key(state_dir: Option<&Path>) -> io::Result<HostKey> {
    let Some(dir) = state_dir else { return HostKey::random() };
    let path = dir.join(KEY);
    match fs::read(&path) {
        Ok(bytes) => {
            if let Ok(bytes) = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()) {
                return Ok(HostKey::from_bytes(bytes));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key = HostKey::random()?;
    write(&path, key.bytes())?;
    Ok(key)
}

/// Reads the baseline.
pub(super) fn load(state_dir: &Path, key: &HostKey) -> Loaded {
    let mut bytes = Vec::new();
    match File::open(state_dir.join(BASELINE)) {
        Ok(file) => {
            if file.take(MOST_BYTES).read_to_end(&mut bytes).is_err() {
                return Loaded::Damaged;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Loaded::Nothing,
        Err(_) => return Loaded::Damaged,
    }
    decode(&bytes, key).map_or(Loaded::Damaged, Loaded::Baseline)
}

/// Writes the baseline so that it is whole after a crash.
pub(super) fn save<'a>(
    state_dir: &Path,
    key: &HostKey,
    files: impl Iterator<Item = (&'a [u8], Kind, &'a Known)>,
) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    for (path, kind, known) in files {
        encode(&mut bytes, path, kind, known);
    }
    let tag = key.tag(&[&bytes]);
    bytes.extend_from_slice(&tag);
    write(&state_dir.join(BASELINE), &bytes)
}

/// Writes beside the file, syncs, renames into place, syncs the directory.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn encode(out: &mut Vec<u8>, path: &[u8], kind: Kind, known: &Known) {
    put(out, path);
    put(out, kind.word().as_bytes());
    let Identity { inode, size, modified_ns, changed_ns, mode, uid, gid } = known.identity;
    for number in [inode, size] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for number in [modified_ns, changed_ns] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for number in [mode, uid, gid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put(out, known.sha256.as_ref().map_or(&[], |hash| hash.as_slice()));
    put(out, known.shortage.map_or("", Shortage::as_str).as_bytes());
    match &known.content {
        Content::Opaque => out.push(0),
        Content::Text(text) => {
            out.push(1);
            put(out, text);
        }
        Content::Link(target) => {
            out.push(2);
            put(out, target);
        }
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    // Paths and texts are bounded far below.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&bytes[..length as usize]);
}

fn decode(bytes: &[u8], key: &HostKey) -> Option<Baseline> {
    let (body, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG_BYTES)?)?;
    if key.tag(&[body]) != tag {
        return None;
    }
    let mut rest = Rest(body.strip_prefix(MAGIC)?);
    let mut baseline = Baseline::new();
    while !rest.0.is_empty() {
        let path = rest.bytes()?.to_vec();
        // A kind that this version does not have is no longer watched.
        let kind = Kind::from_word(rest.bytes()?);
        let known = rest.known()?;
        if let Some(kind) = kind {
            baseline.insert(path, Kept { kind, known });
        }
    }
    Some(baseline)
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(self.take()?);
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn known(&mut self) -> Option<Known> {
        let identity = Identity {
            inode: u64::from_le_bytes(self.take()?),
            size: u64::from_le_bytes(self.take()?),
            modified_ns: i64::from_le_bytes(self.take()?),
            changed_ns: i64::from_le_bytes(self.take()?),
            mode: u32::from_le_bytes(self.take()?),
            uid: u32::from_le_bytes(self.take()?),
            gid: u32::from_le_bytes(self.take()?),
        };
        let sha256 = match self.bytes()? {
            [] => None,
            hash => Some(hash.try_into().ok()?),
        };
        let shortage = match self.bytes()? {
            [] => None,
            word => Some(Shortage::ALL.into_iter().find(|one| one.as_str().as_bytes() == word)?),
        };
        let content = match self.take::<1>()? {
            [0] => Content::Opaque,
            [1] => Content::Text(self.bytes()?.to_vec()),
            [2] => Content::Link(self.bytes()?.to_vec()),
            _ => return None,
        };
        Some(Known { identity, content, sha256, shortage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Baseline {
        let identity = Identity {
            inode: u64::MAX,
            size: 3,
            modified_ns: -4,
            changed_ns: i64::MAX,
            mode: 0o100644,
            uid: 0,
            gid: u32::MAX,
        };
        let known = |content, sha256, shortage| Known { identity, content, sha256, shortage };
        let kept = |kind, known| Kept { kind, known };
        BTreeMap::from([
            (
                b"/etc/passwd".to_vec(),
                kept(Kind::AccountFile, known(Content::Text(b"a:x".to_vec()), None, None)),
            ),
            (
                b"/etc/cron.d/\xff\n".to_vec(),
                kept(Kind::CronTable, known(Content::Link(b"/x".to_vec()), None, Some(Shortage::TooLarge))),
            ),
            (
                b"/etc/pam.d/su".to_vec(),
                kept(Kind::Persistence("pam"), known(Content::Opaque, Some([9; 32]), None)),
            ),
        ])
    }

    #[test]
    fn what_is_saved_is_loaded_and_damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let key = host_key(Some(dir.path())).unwrap();
        assert!(matches!(load(dir.path(), &key), Loaded::Nothing));
        let files = files();
        save(dir.path(), &key, files.iter().map(|(path, kept)| (path.as_slice(), kept.kind, &kept.known)))
            .unwrap();
        let again = host_key(Some(dir.path())).unwrap();
        let Loaded::Baseline(loaded) = load(dir.path(), &again) else { panic!("must load") };
        assert_eq!(loaded, files);

        let path = dir.path().join(BASELINE);
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[1..], b""] {
            fs::write(&path, damaged).unwrap();
            assert!(matches!(load(dir.path(), &again), Loaded::Damaged));
        }
        for at in [0, MAGIC.len(), MAGIC.len() + 3, whole.len() - 1] {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x80;
            fs::write(&path, &flipped).unwrap();
            assert!(matches!(load(dir.path(), &again), Loaded::Damaged), "byte {at}");
        }
        // A whole tag over nonsense, as another version might write it.
        for body in [&b""[..], MAGIC, b"rampart watched files 1\n\xff\xff\xff\xff"] {
            let mut bytes = body.to_vec();
            bytes.extend_from_slice(&key.tag(&[body]));
            fs::write(&path, &bytes).unwrap();
            let empty = body == MAGIC;
            assert_eq!(matches!(load(dir.path(), &again), Loaded::Baseline(_)), empty);
        }
    }

    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let key = host_key(Some(dir.path())).unwrap();
        save(dir.path(), &key, std::iter::empty()).unwrap();
        for name in [BASELINE, KEY] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
