//! A file's content, read with care: regular files only, nothing that waits or has an
//! effect when it is opened, never more than a stated part of it in memory.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use aws_lc_rs::digest::{Context, SHA256};

use super::TEXT_MAX;

/// Larger files are not hashed.
const HASH_MAX: u64 = 64 << 20;
/// What the kernel's build writes behind a signed module (`kernel/module_signature.c`).
const SIGNATURE_MARK: &[u8] = b"~Module signature appended~\n";
/// Read in one step.
const STEP: usize = 64 << 10;

/// What is in a file.
#[derive(Debug)]
pub(super) struct Content {
    /// Its first bytes, at most [`TEXT_MAX`].
    pub(super) begin: Vec<u8>,
    /// Its last bytes, at least as many as the mark of a signature has.
    end: Vec<u8>,
    /// How many there are.
    pub(super) size: u64,
    /// Of all of it, in hex; `None` where it is too large.
    pub(super) sha256: Option<String>,
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
            sha256: Some(hex(context.finish().as_ref())),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The reason in a word or two: `unreadable`, `not_regular`.
    pub(super) fn read(path: &str) -> Result<Self, &'static str> {
        // First only held, not opened: a FIFO would wait, a device would begin to work.
        let held = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
        let held = held.map_err(|_| "unreadable")?;
        if !held.metadata().map_err(|_| "unreadable")?.is_file() {
            return Err("not_regular");
        }
        let again = format!("/proc/self/fd/{}", held.as_raw_fd());
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(again);
        Self::of_file(&mut file.map_err(|_| "unreadable")?).map_err(|_| "unreadable")
    }

    fn of_file(file: &mut File) -> std::io::Result<Self> {
        let size = file.metadata()?.len();
        let mut content = Self { begin: Vec::new(), end: Vec::new(), size, sha256: None };
        // What is longer by now is followed no further.
        let mut rest = file.take(if size > HASH_MAX { TEXT_MAX as u64 } else { HASH_MAX + 1 });
        let mut context = Context::new(&SHA256);
        let mut buffer = vec![0; STEP];
        let mut total = 0;
        loop {
            let count = rest.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            context.update(bytes);
            total += count as u64;
            let room = TEXT_MAX - content.begin.len();
            content.begin.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            content.end.extend_from_slice(bytes);
            let surplus = content.end.len().saturating_sub(SIGNATURE_MARK.len());
            content.end.drain(..surplus);
        }
        if size <= HASH_MAX && total <= HASH_MAX {
            content.size = total;
            content.sha256 = Some(hex(context.finish().as_ref()));
        }
        Ok(content)
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
