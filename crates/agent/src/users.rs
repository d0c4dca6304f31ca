//! Names of users, from /etc/passwd.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// How often the file is looked at for a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A file larger than this is no user table that an agent should hold in memory.
const MAX_BYTES: u64 = 16 << 20;

/// The user table, read again when it changes.
#[derive(Debug)]
pub struct Users {
    path: PathBuf,
    names: HashMap<u32, String>,
    modified: Option<SystemTime>,
    looked: Option<Instant>,
}

impl Users {
    /// The table in that file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), names: HashMap::new(), modified: None, looked: None }
    }

    /// The user's name, where the table has one.
    pub fn name(&mut self, id: u32) -> Option<&str> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            self.looked = Some(Instant::now());
            self.reload();
        }
        self.names.get(&id).map(String::as_str)
    }

    fn reload(&mut self) {
        let Ok(file) = fs::metadata(&self.path) else { return };
        let modified = file.modified().ok();
        if (modified.is_some() && modified == self.modified) || file.len() > MAX_BYTES {
            return;
        }
        let Ok(table) = fs::read(&self.path) else { return };
        self.modified = modified;
        self.names.clear();
        for line in String::from_utf8_lossy(&table).lines() {
            let mut fields = line.split(':');
            if let (Some(name), Some(Ok(id))) = (fields.next(), fields.nth(1).map(str::parse)) {
                // Of several names of one id the first counts, as for getpwuid(3).
                self.names.entry(id).or_insert_with(|| name.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_table_and_bad_lines_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwd");
        fs::write(&path, "root:x:0:0::/:/bin/sh\ntoor:x:0:0::/:\nbad\n:x:\nanna:x:1000:ÿ").unwrap();
        let mut users = Users::new(&path);
        assert_eq!(users.name(0), Some("root"));
        assert_eq!(users.name(1000), Some("anna"));
        assert_eq!(users.name(7), None);
        assert_eq!(Users::new(dir.path().join("missing")).name(0), None);
    }
}
