//! Opening files that an attacker may have laid out.

use std::fs::{File, OpenOptions};
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::content_reading::ContentUnread;
use crate::regular_file::{FileIdentity, LastSymlink};

/// `FILE_FLAG_OPEN_REPARSE_POINT` of CreateFileW.
const OPEN_REPARSE_POINT: u32 = 0x0020_0000;

/// Opens a file for reading. A device's name (`CON`, `\\.\pipe\x`) is refused before it is opened.
pub(crate) fn open_regular(path: &Path, last: LastSymlink) -> Result<File, ContentUnread> {
    if path.as_os_str().as_encoded_bytes().starts_with(br"\\.\") {
        return Err(ContentUnread::NotRegular);
    }
    let flags = match last {
        LastSymlink::Refuse => OPEN_REPARSE_POINT,
        LastSymlink::Follow => 0,
    };
    Ok(OpenOptions::new().read(true).custom_flags(flags).open(path)?)
}

/// What an open file is. A link, a junction or the place holder of a file that is elsewhere is no regular one.
pub(crate) fn identity_of(file: &File) -> Result<FileIdentity, ContentUnread> {
    let facts = win32::file::facts(file)?;
    if facts.is_folder() || facts.is_reparse_point() {
        return Err(ContentUnread::NotRegular);
    }
    if facts.is_not_local() {
        return Err(ContentUnread::NotLocal);
    }
    Ok(FileIdentity {
        device: facts.volume,
        inode: facts.index,
        modified_ns: facts.modified_ns,
        changed_ns: facts.changed_ns,
        size: facts.size,
    })
}
