//! Small files that must be whole after a crash, for the owner's eyes alone.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use os_files::{DirBuilderExt as _, Folder, OpenCautiously as _, OpenOptionsExt as _};
use protocol::enrollment::sha256;

/// More than that in one such file is not the agent's.
const MOST_BYTES: u64 = 64 << 20;

/// What this process wrote last, by path: the hash of the content. It holds as many entries
/// as the agent has such files. A rename and its entry come together, under this lock.
static WRITTEN: Mutex<BTreeMap<PathBuf, [u8; 32]>> = Mutex::new(BTreeMap::new());

/// Writes beside the file, syncs, and renames into place; mode 0600.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut beside = OsString::from(path);
    beside.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    // Closed before it has its name: whoever watches the name sees a file that is whole.
    drop(file);
    {
        let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
        fs::rename(&beside, path)?;
        written.insert(path.to_owned(), sha256(content));
    }
    match path.parent() {
        Some(dir) => Folder::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Whether the file is not as this process wrote it last. False where there is no such file.
pub(crate) fn is_anothers(path: &Path) -> bool {
    let written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    match read_regular(path) {
        Ok(Some(content)) => written.get(path) != Some(&sha256(&content)),
        Ok(None) => true,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// The content; `None` for what is no file. Whoever put it there may have made it a pipe,
/// a link, or of any size.
fn read_regular(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = OpenOptions::new().read(true).cautiously().open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut content = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut content)?;
    Ok(Some(content))
}

/// Makes a directory with mode 0700 where there is none.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
