//! Files of a folder by what their names end in, and whether they changed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files in one folder that are looked at.
const MAX_FILES: usize = 10_000;

/// What tells a changed folder from an unchanged one.
pub(crate) type Stamp = Vec<(PathBuf, Option<SystemTime>, u64)>;

/// The files of a folder that end in one of these, in the order of their names.
///
/// # Errors
/// The folder can't be read.
pub(crate) fn files_with_extensions(dir: &Path, extensions: &[&str]) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)?.take(MAX_FILES) {
        let path = entry?.path();
        if ends_in(path.as_os_str(), extensions) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file's name ends in one of these.
pub(crate) fn ends_in(name: &OsStr, extensions: &[&str]) -> bool {
    let is_one = |end: &OsStr| extensions.iter().any(|one| end.eq_ignore_ascii_case(one));
    Path::new(name).extension().is_some_and(is_one)
}

/// Time and size of each.
pub(crate) fn stamp_of(files: &[PathBuf]) -> Stamp {
    let stamped = files.iter().map(|path| {
        let file = fs::metadata(path).ok();
        let modified = file.as_ref().and_then(|file| file.modified().ok());
        (path.clone(), modified, file.map_or(0, |file| file.len()))
    });
    stamped.collect()
}

/// A regular file of at most so many bytes. Anything else might never end, or never begin.
pub(crate) fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("can't be read: {error}");
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("not a file; hint: only files are read, folders within are not".to_owned());
    }
    let too_large = |bytes: u64| Err(format!("{bytes} bytes; {limit} are allowed; hint: split it"));
    if metadata.len() > limit as u64 {
        return too_large(metadata.len());
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    let most = (limit as u64).saturating_add(1);
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() > limit { too_large(bytes.len() as u64) } else { Ok(bytes) }
}

/// Folders within folders that are walked.
const MAX_DEPTH: usize = 16;

/// The same for a folder and those within it; links are not followed, and what can't be
/// read is left out.
pub(crate) fn files_below(dir: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![(dir.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        files.extend(files_with_extensions(&folder, extensions).unwrap_or_default());
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            if depth < MAX_DEPTH && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push((entry.path(), depth + 1));
            }
        }
        if files.len() > MAX_FILES {
            break;
        }
    }
    files.sort();
    files
}
