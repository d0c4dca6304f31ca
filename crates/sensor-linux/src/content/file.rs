//! A file's content, read with bounds: never more than a stated part of it in memory,
//! never more than so many bytes in a second, and nothing twice that did not change.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};

use super::TEXT_MAX;

/// Larger scripts are not hashed.
pub(super) const SCRIPT_HASH_MAX: u64 = 1 << 20;
/// Larger modules are not hashed.
pub(super) const MODULE_HASH_MAX: u64 = 64 << 20;
/// What is hashed in a second, all in all. A file that was begun is read to its end, and
/// what it took too much is missing later.
const HASHED_PER_SECOND: i64 = 8 << 20;
/// Contents that are kept, each with [`TEXT_MAX`].
const KEPT_MAX: usize = 64;
/// A file that was changed less long ago may change again without a new time.
const SETTLED: Duration = Duration::from_secs(1);
/// What the kernel's build writes behind a signed module (`kernel/module_signature.c`).
const SIGNATURE_MARK: &[u8] = b"~Module signature appended~\n";
/// Read in one step.
const STEP: usize = 64 << 10;

/// What is in a file.
#[derive(Debug)]
pub(super) struct Content {
    /// Its first bytes, at most [`TEXT_MAX`].
    pub(super) begin: Vec<u8>,
    /// Its last bytes, as many as the mark of a signature has.
    end: Vec<u8>,
    /// How many there are.
    pub(super) size: u64,
    /// Of all of it, in hex; or why there is none, in a word.
    pub(super) sha256: Result<String, &'static str>,
    /// What it is known by until it changes; `None` for a text from elsewhere.
    pub(super) identity: Option<Identity>,
}

/// A file in one state, as far as its owner can't forge that: device, inode, size and the time
/// of its last change in nanoseconds.
pub(super) type Identity = (u64, u64, u64, i128);

fn identity(of: &Metadata) -> Identity {
    let changed = i128::from(of.ctime()) * 1_000_000_000 + i128::from(of.ctime_nsec());
    (of.dev(), of.ino(), of.len(), changed)
}

/// What was read lately, and how much may be hashed now.
#[derive(Debug)]
pub(super) struct Contents {
    kept: VecDeque<(Identity, Arc<Content>)>,
    /// Bytes; below zero after a large file.
    left: i64,
    filled: Instant,
}

impl Contents {
    pub(super) fn new() -> Self {
        Self { kept: VecDeque::new(), left: HASHED_PER_SECOND, filled: Instant::now() }
    }

    /// Reads a regular file; hashes it if it is no larger than `hash_max`.
    ///
    /// # Errors
    /// `unreadable`.
    pub(super) fn read(&mut self, file: &File, hash_max: u64) -> Result<Arc<Content>, &'static str> {
        let before = identity(&file.metadata().map_err(|_| "unreadable")?);
        // One that was too large for a script may be small enough for a module.
        let fits = |content: &Content| content.sha256.is_ok() || before.2 > hash_max;
        let mut kept = self.kept.iter();
        if let Some((_, content)) = kept.find(|(known, content)| *known == before && fits(content)) {
            return Ok(Arc::clone(content));
        }
        let skipped = if before.2 > hash_max { Some("too_large") } else { self.exhausted() };
        let read = Content::of_file(file, before, hash_max, skipped);
        let (content, hashed) = read.map_err(|_| "unreadable")?;
        self.left -= i64::try_from(hashed).unwrap_or(i64::MAX);
        let content = Arc::new(content);
        let after = identity(&file.metadata().map_err(|_| "unreadable")?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let settled = i128::try_from(now.saturating_sub(SETTLED).as_nanos()).unwrap_or(0) > before.3;
        if before == after && settled && skipped != Some("budget") {
            self.kept.retain(|(known, _)| *known != before);
            self.kept.truncate(KEPT_MAX - 1);
            self.kept.push_front((before, Arc::clone(&content)));
        }
        Ok(content)
    }

    fn exhausted(&mut self) -> Option<&'static str> {
        let since = i64::try_from(self.filled.elapsed().as_millis()).unwrap_or(i64::MAX);
        let more = since.saturating_mul(HASHED_PER_SECOND / 1_000);
        self.left = self.left.saturating_add(more).min(HASHED_PER_SECOND);
        self.filled = Instant::now();
        (self.left <= 0).then_some("budget")
    }
}

impl Content {
    /// A text that is in memory already.
    pub(super) fn of_text(text: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(text);
        Self {
            begin: text.get(..TEXT_MAX).unwrap_or(text).to_owned(),
            end: Vec::new(),
            size: text.len() as u64,
            sha256: Ok(hex(context.finish().as_ref())),
            identity: None,
        }
    }

    /// With how many bytes were hashed.
    fn of_file(
        mut file: &File,
        identity: Identity,
        hash_max: u64,
        skipped: Option<&'static str>,
    ) -> std::io::Result<(Self, u64)> {
        let size = identity.2;
        let mut end = vec![0; SIGNATURE_MARK.len()];
        let count = file.read_at(&mut end, size.saturating_sub(SIGNATURE_MARK.len() as u64))?;
        end.truncate(count);
        let sha256 = Err(skipped.unwrap_or("too_large"));
        let mut content = Self { begin: Vec::new(), end, size, sha256, identity: Some(identity) };
        // What is longer by now is followed no further.
        let mut rest = (&mut file).take(if skipped.is_some() { TEXT_MAX as u64 } else { hash_max + 1 });
        let mut context = Context::new(&SHA256);
        let mut buffer = vec![0; STEP];
        let mut total = 0;
        loop {
            let count = rest.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            if skipped.is_none() {
                context.update(bytes);
            }
            total += count as u64;
            let room = TEXT_MAX - content.begin.len();
            content.begin.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        }
        if skipped.is_none() && total <= hash_max {
            content.size = total;
            content.sha256 = Ok(hex(context.finish().as_ref()));
        }
        Ok((content, if skipped.is_none() { total } else { 0 }))
    }

    pub(super) fn is_signed_module(&self) -> bool {
        self.end.ends_with(SIGNATURE_MARK)
    }

    /// Whether its first line says that this is to run it.
    pub(super) fn is_for(&self, interpreter: &str) -> bool {
        let line = self.begin.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let Some(named) = line.strip_prefix(b"#!") else { return false };
        let named = named.trim_ascii().split(|byte| matches!(byte, b' ' | b'\t')).next().unwrap_or_default();
        named == interpreter.as_bytes()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
