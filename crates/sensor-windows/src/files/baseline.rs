//! What is known of the files in watched folders.

use std::collections::BTreeMap;

use event_model::{EventType, Field, Timestamp, Value};
use sensor_api::ObservedActivity;
use serde::{Deserialize, Serialize};

/// Files that are remembered.
pub(crate) const MOST_FILES: usize = 200_000;

/// What a file was when it was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Size in bytes.
    pub size: u64,
    /// Time of modification, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// Time of the last change of anything, in nanoseconds since 1970; 0 where it was not asked for.
    #[serde(default)]
    pub changed_ns: i64,
    /// Number of the file on its volume: it keeps it when it is renamed.
    pub index: u64,
    /// SHA-256 as hex, where it was read.
    pub sha256: Option<String>,
    /// Why it was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_skipped: Option<String>,
    /// It is a folder.
    #[serde(default)]
    pub folder: bool,
}

impl Facts {
    /// The hash that was read before, where nothing says that the file was touched since.
    pub fn hash_before(&self, before: Option<&Self>) -> Option<String> {
        let before = before.filter(|before| before.hash_skipped.is_none())?;
        if self.changed_ns == 0 || self.changed_ns != before.changed_ns {
            return None;
        }
        let same = (self.size, self.modified_ns, self.index, self.folder)
            == (before.size, before.modified_ns, before.index, before.folder);
        same.then(|| before.sha256.clone()).flatten()
    }

    /// Whether there is anything to tell. Who may use a file is no part of it.
    fn is_as(&self, other: &Self) -> bool {
        *self == Self { changed_ns: self.changed_ns, ..other.clone() }
    }

    /// Whether the content is the same, as far as is known.
    fn same_content(&self, other: &Self) -> bool {
        match (&self.sha256, &other.sha256) {
            (Some(own), Some(others)) => own == others,
            _ => self.size == other.size && self.modified_ns == other.modified_ns,
        }
    }
}

/// What became of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A file came.
    Created(Facts),
    /// Its content changed: before, after.
    Modified(Facts, Facts),
    /// Only its times or size on paper changed: before, after.
    Touched(Facts, Facts),
    /// It went: before.
    Deleted(Facts),
    /// It has another name: the old path, what it is.
    Renamed(String, Facts),
}

/// The files that are known, by path.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Baseline {
    files: BTreeMap<String, Facts>,
    /// Files that found no room.
    #[serde(skip)]
    pub left_out: u64,
    /// It is not as it was kept last.
    #[serde(skip)]
    pub differs: bool,
}

impl Baseline {
    /// What is known of a path.
    pub fn get(&self, path: &str) -> Option<&Facts> {
        self.files.get(path)
    }

    /// The paths that are known below a folder, itself included.
    pub fn below(&self, folder: &str) -> Vec<String> {
        let inside = format!("{}\\", folder.trim_end_matches('\\'));
        let is_below = |path: &&String| path.starts_with(&inside) || path.as_str() == folder;
        self.files.keys().filter(is_below).cloned().collect()
    }

    /// Takes note of what stands at a path now, and says what became of it.
    pub fn take(&mut self, path: &str, now: Option<Facts>) -> Option<Found> {
        let before = self.files.get(path).cloned();
        match (before, now) {
            (None, None) => None,
            (Some(before), None) => {
                self.files.remove(path);
                self.differs = true;
                Some(Found::Deleted(before))
            }
            (None, Some(now)) => {
                if self.files.len() >= MOST_FILES {
                    self.left_out += 1;
                } else {
                    self.files.insert(path.to_owned(), now.clone());
                    self.differs = true;
                }
                Some(Found::Created(now))
            }
            (Some(before), Some(now)) => {
                self.differs |= before != now;
                self.files.insert(path.to_owned(), now.clone());
                if before.is_as(&now) || now.folder {
                    None
                } else if before.same_content(&now) {
                    Some(Found::Touched(before, now))
                } else {
                    Some(Found::Modified(before, now))
                }
            }
        }
    }

    /// A name was changed, and all below it: what was known goes with it. Only the one that was renamed is told.
    pub fn rename(&mut self, old: &str, new: &str, now: Option<Facts>) -> Option<Found> {
        self.differs = true;
        let moved: Vec<String> = self.below(old);
        for path in moved {
            let facts = self.files.remove(&path);
            let rest = path.get(old.len()..).unwrap_or_default().to_owned();
            self.files.extend(facts.map(|facts| (format!("{new}{rest}"), facts)));
        }
        let now = now?;
        self.files.insert(new.to_owned(), now.clone());
        Some(Found::Renamed(old.to_owned(), now))
    }
}

/// The event that tells it.
pub fn describe(path: &str, found: &Found, by_comparing: bool) -> ObservedActivity {
    let text = |text: &str| Value::Text(text.to_owned());
    let integer = |number: u64| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    let mut fields = vec![
        (Field::FilePath, text(path)),
        (Field::EventProvider, text(if by_comparing { "file_baseline" } else { "file_watch" })),
    ];
    let (event_type, operation, before, now) = match found {
        Found::Created(now) => (EventType::FileCreate, "create", None, Some(now)),
        Found::Modified(before, now) => (EventType::FileModify, "modify", Some(before), Some(now)),
        Found::Touched(before, now) => (EventType::FileAttribute, "times", Some(before), Some(now)),
        Found::Deleted(before) => (EventType::FileDelete, "delete", Some(before), None),
        Found::Renamed(old, now) => {
            fields.push((Field::FileOldPath, text(old)));
            (EventType::FileRename, "rename", None, Some(now))
        }
    };
    fields.push((Field::FileOperation, text(operation)));
    if let Some(now) = now {
        fields.push((Field::FileSize, integer(now.size)));
        fields.push((Field::FileModified, Value::Time(Timestamp::from_nanos(now.modified_ns))));
        fields.extend(now.sha256.as_deref().map(|hash| (Field::FileSha256, text(hash))));
        fields.extend(now.hash_skipped.as_deref().map(|why| (Field::FileHashSkipped, text(why))));
    }
    if let Some(before) = before {
        fields.push((Field::FileOldSize, integer(before.size)));
        fields.push((Field::FileOldModified, Value::Time(Timestamp::from_nanos(before.modified_ns))));
        fields.extend(before.sha256.as_deref().map(|hash| (Field::FileOldSha256, text(hash))));
    }
    ObservedActivity { event_type, actor: None, target: None, fields }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(content: &str, modified_ns: i64) -> Facts {
        let sha256 = Some(content.repeat(3));
        Facts { size: content.len() as u64, modified_ns, sha256, ..Facts::default() }
    }

    #[test]
    fn each_change_is_told_once_by_what_it_is() {
        let mut known = Baseline::default();
        let path = r"C:\w\a.txt";
        assert_eq!(known.take(path, None), None);
        assert_eq!(known.take(path, Some(facts("a", 1))), Some(Found::Created(facts("a", 1))));
        assert_eq!(known.take(path, Some(facts("a", 1))), None);
        let touched = Found::Touched(facts("a", 1), facts("a", 2));
        assert_eq!(known.take(path, Some(facts("a", 2))), Some(touched));
        let modified = Found::Modified(facts("a", 2), facts("b", 2));
        assert_eq!(
            known.take(path, Some(facts("b", 2))),
            Some(modified),
            "a time that was put back hides nothing"
        );
        assert_eq!(known.take(path, None), Some(Found::Deleted(facts("b", 2))));
        assert_eq!(known.take(path, None), None);
    }

    #[test]
    fn what_is_as_it_was_need_not_be_kept_again() {
        let mut known = Baseline::default();
        let differs = |known: &mut Baseline| std::mem::take(&mut known.differs);
        known.take("a", None);
        assert!(!differs(&mut known));
        known.take("a", Some(facts("a", 1)));
        assert!(differs(&mut known));
        known.take("a", Some(facts("a", 1)));
        assert!(!differs(&mut known));
        // Not told, and yet what the next comparison goes by.
        known.take("a", Some(Facts { changed_ns: 3, ..facts("a", 1) }));
        assert!(differs(&mut known));
        known.rename("a", "b", Some(facts("a", 1)));
        assert!(differs(&mut known));
        known.take("b", None);
        assert!(differs(&mut known));
    }

    #[test]
    fn a_hash_is_read_again_where_anything_says_that_the_file_was_touched() {
        let before = Facts { changed_ns: 5, index: 7, ..facts("a", 1) };
        let now = Facts { sha256: None, ..before.clone() };
        assert_eq!(now.hash_before(Some(&before)), before.sha256);
        assert_eq!(now.hash_before(None), None);
        for touched in [
            Facts { changed_ns: 6, ..now.clone() },
            Facts { modified_ns: 2, ..now.clone() },
            Facts { size: 2, ..now.clone() },
            Facts { index: 8, ..now.clone() },
        ] {
            assert_eq!(touched.hash_before(Some(&before)), None, "{touched:?}");
        }
        // What an agent before kept without that time.
        let old = Facts { changed_ns: 0, ..before.clone() };
        assert_eq!(now.hash_before(Some(&old)), None);
        let mut known = Baseline::default();
        known.take("x", Some(before.clone()));
        assert_eq!(known.take("x", Some(Facts { changed_ns: 9, ..before })), None, "only who may use it");
    }

    #[test]
    fn a_renamed_folder_takes_what_is_below_with_it() {
        let mut known = Baseline::default();
        let folder = Facts { folder: true, ..Facts::default() };
        known.take(r"C:\w\d", Some(folder.clone()));
        known.take(r"C:\w\d\a", Some(facts("a", 1)));
        known.take(r"C:\w\dx", Some(facts("x", 1)));
        let found = known.rename(r"C:\w\d", r"C:\w\e", Some(folder.clone()));
        assert_eq!(found, Some(Found::Renamed(r"C:\w\d".to_owned(), folder)));
        assert_eq!(known.get(r"C:\w\e\a"), Some(&facts("a", 1)));
        assert!(known.get(r"C:\w\d\a").is_none() && known.get(r"C:\w\dx").is_some());
    }

    #[test]
    fn events_have_what_was_and_what_is() {
        let event = describe("C:\\a", &Found::Modified(facts("a", 1), facts("bb", 2)), false);
        let has = |wanted: Field| event.fields.iter().any(|(field, _)| *field == wanted);
        assert_eq!(event.event_type, EventType::FileModify);
        assert!(has(Field::FileSha256) && has(Field::FileOldSha256) && has(Field::FileOldSize));
    }
}
