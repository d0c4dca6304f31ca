//! Reading a segment file forward, over damage where there is some.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use os_files::FileExt as _;

use crate::codec::{FIXED_LEN, MAGIC, MAX_HEADER_LEN, MIN_HEADER_LEN, StoredHeader, VERSION, decode_header};

/// What stands at an offset of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A batch whose header is good and whose payload lies whole in the file.
    Batch(StoredHeader),
    /// A good header, but the file ends before the payload does.
    Torn(StoredHeader),
    /// Fewer bytes than a header has.
    TornHeader,
    /// No header; the next good one stands at this offset (the end, if there is none).
    Damage {
        /// Where reading goes on.
        next: u64,
    },
    /// The end.
    End,
}

/// What stands at `offset` of a file of which `len` bytes count.
pub(crate) fn look(file: &File, offset: u64, len: u64) -> io::Result<Found> {
    if offset >= len {
        return Ok(Found::End);
    }
    let mut head = [0; MAX_HEADER_LEN];
    let head = &mut head[..usize::try_from(len - offset).unwrap_or(MAX_HEADER_LEN).min(MAX_HEADER_LEN)];
    file.read_exact_at(head, offset)?;
    match decode_header(head) {
        Some(stored) if offset + stored.total_len() <= len => Ok(Found::Batch(stored)),
        Some(stored) => Ok(Found::Torn(stored)),
        None if head.len() < MIN_HEADER_LEN || is_cut(head) => Ok(Found::TornHeader),
        None => Ok(Found::Damage { next: next_header(file, offset + 1, len)? }),
    }
}

/// True for the beginning of a header of today's version that the end of the file cuts off.
fn is_cut(head: &[u8]) -> bool {
    head.len() < FIXED_LEN && head.starts_with(&MAGIC) && head[4..6] == VERSION.to_le_bytes()
}

/// Offset of the next good header at or behind `from`; `len` if there is none.
fn next_header(file: &File, from: u64, len: u64) -> io::Result<u64> {
    let mut bytes = vec![0; usize::try_from(len - from).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, from)?;
    for (start, offset) in (0..bytes.len()).zip(from..) {
        if bytes[start..].starts_with(&MAGIC) && decode_header(&bytes[start..]).is_some() {
            return Ok(offset);
        }
    }
    Ok(len)
}

/// Note and payload of the batch at `offset`; `None` if the checksum says that they are damaged.
pub(crate) fn body(
    file: &File,
    offset: u64,
    stored: &StoredHeader,
) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let note_len = stored.note_len as usize;
    let mut note = vec![0; note_len + stored.payload_len as usize];
    file.read_exact_at(&mut note, offset + stored.body_offset())?;
    if crc32fast::hash(&note) != stored.body_crc {
        return Ok(None);
    }
    let payload = note.split_off(note_len);
    Ok(Some((note, payload)))
}

/// The file of segment `id`.
pub(crate) fn path_of(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:020}.segment"))
}

/// The id of the segment that has this file name.
pub(crate) fn id_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}
