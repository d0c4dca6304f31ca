//! Small files in which a source keeps what it must know after a restart.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept<T> {
    /// There is no such file.
    Nothing,
    /// It is as it was written.
    Whole(T),
    /// There is one, and it can't be read: what an agent before knew is lost.
    Damaged(String),
}

/// Reads a file that [`write`] made.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Kept<T> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_or_else(|error| Kept::Damaged(error.to_string()), |value| Kept::Whole(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::Nothing,
        Err(error) => Kept::Damaged(error.to_string()),
    }
}

/// Writes beside the file, syncs, and renames into place: after a loss of power the old or the new one is there,
/// whole. The file system journals the name by itself.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let beside = path.with_extension("new");
    let text = serde_json::to_vec(value)?;
    let mut file = File::create(&beside)?;
    file.write_all(&text)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_not_taken_for_what_was_never_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept.json");
        assert_eq!(read::<Vec<u32>>(&path), Kept::Nothing);
        write(&path, &vec![1, 2]).unwrap();
        write(&path, &vec![3]).unwrap();
        assert_eq!(read(&path), Kept::Whole(vec![3]));
        // As a loss of power may leave it.
        for damaged in ["", "[3", "\0\0\0"] {
            fs::write(&path, damaged).unwrap();
            assert!(matches!(read::<Vec<u32>>(&path), Kept::Damaged(_)), "{damaged:?}");
        }
    }
}
