//! What differs between two looks at a key.

use std::collections::{BTreeMap, BTreeSet};

use event_model::{EventType, Field, Value};
use sensor_api::ObservedActivity;

use super::value::{Shown, kind_name};

/// What is kept of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Number of its type.
    pub kind: u32,
    /// Length of its data.
    pub length: usize,
    /// SHA-256 of its data: what is shown may be cut.
    pub digest: [u8; 32],
    /// Its data as text.
    pub shown: Shown,
}

/// A key with those below it, as it was seen. Keys are paths relative to the watched one, empty for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// False where there is no such key.
    pub exists: bool,
    /// By key and name.
    pub values: BTreeMap<(String, String), Kept>,
    /// The keys below.
    pub keys: BTreeSet<String>,
    /// Those of them that could not be read: what stands in them and below is not known.
    pub unreadable: BTreeSet<String>,
    /// Something was left out: there is too much of it.
    pub cut: bool,
}

impl Contents {
    /// Takes over from the look before what this one did not see and is not gone: what stands in keys that could
    /// not be read, and what a list passed over as the place changed while it was made. Of all else that seems
    /// to be gone, `is_there` is asked: a key, or a value in it.
    pub fn complete(&mut self, before: &Self, is_there: impl Fn(&str, Option<&str>) -> bool) {
        let is_hidden = |key: &str, hidden: &BTreeSet<String>| {
            let ends = key.match_indices('\\').map(|(at, _)| at).chain([key.len()]);
            ends.into_iter().any(|end| hidden.contains(&key[..end]))
        };
        // Parents come before what is below them, so that the latter is not asked for where the former is gone.
        let mut passed_over = BTreeSet::new();
        let mut gone = BTreeSet::new();
        for key in before.keys.difference(&self.keys) {
            if is_hidden(key, &gone) {
                continue;
            }
            if is_hidden(key, &self.unreadable) || is_there(key, None) {
                passed_over.insert(key.clone());
            } else {
                gone.insert(key.clone());
            }
        }
        self.keys.extend(passed_over.iter().cloned());
        for (place, value) in &before.values {
            let (key, name) = (place.0.as_str(), place.1.as_str());
            if self.values.contains_key(place) || !(key.is_empty() || self.keys.contains(key)) {
                continue;
            }
            let is_kept = is_hidden(key, &self.unreadable) || passed_over.contains(key);
            if is_kept || is_there(key, Some(name)) {
                self.values.insert(place.clone(), value.clone());
            }
        }
    }
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A key came.
    KeyCreated(String),
    /// A key went.
    KeyDeleted(String),
    /// A value came or changed: key, name, before, after.
    ValueSet(String, String, Option<Kept>, Kept),
    /// A value went: key, name, before.
    ValueDeleted(String, String, Kept),
}

/// What differs, keys that came first, keys that went last.
pub fn compare(before: &Contents, now: &Contents) -> Vec<Difference> {
    let mut found = Vec::new();
    if now.exists && !before.exists {
        found.push(Difference::KeyCreated(String::new()));
    }
    found.extend(now.keys.difference(&before.keys).cloned().map(Difference::KeyCreated));
    for ((key, name), value) in &now.values {
        match before.values.get(&(key.clone(), name.clone())) {
            Some(old) if old == value => {}
            old => found.push(Difference::ValueSet(key.clone(), name.clone(), old.cloned(), value.clone())),
        }
    }
    for ((key, name), value) in &before.values {
        if !now.values.contains_key(&(key.clone(), name.clone())) {
            found.push(Difference::ValueDeleted(key.clone(), name.clone(), value.clone()));
        }
    }
    found.extend(before.keys.difference(&now.keys).cloned().map(Difference::KeyDeleted));
    if before.exists && !now.exists {
        found.push(Difference::KeyDeleted(String::new()));
    }
    found
}

/// The event that tells it. `root` is the watched key, as `HKLM\…`.
pub fn describe(root: &str, what: &str, difference: &Difference) -> ObservedActivity {
    let text = |text: &str| Value::Text(text.to_owned());
    let path = |key: &str| match key.is_empty() {
        true => root.to_owned(),
        false => format!("{root}\\{key}"),
    };
    let mut fields =
        vec![(Field::EventProvider, text("registry_watch")), (Field::PersistenceKind, text(what))];
    let mut incomplete = Vec::new();
    let mut told =
        |key: &str, name: Option<&str>, operation: &str, old: Option<&Kept>, new: Option<&Kept>| {
            let key = path(key);
            let shown = match name {
                Some("") => Some("(Default)"),
                name => name,
            };
            fields.push((
                Field::RegistryPath,
                Value::Text(shown.map_or(key.clone(), |name| format!("{key}\\{name}"))),
            ));
            fields.push((Field::RegistryKey, Value::Text(key)));
            fields.extend(shown.map(|name| (Field::RegistryValue, text(name))));
            fields.push((Field::RegistryOperation, text(operation)));
            fields.extend(old.map(|old| (Field::ChangeOld, text(&old.shown.text))));
            if let Some(new) = new {
                fields.push((Field::ChangeNew, text(&new.shown.text)));
                fields.push((Field::RegistryData, text(&new.shown.text)));
                fields.push((Field::RegistryType, Value::Text(kind_name(new.kind))));
            }
            for (which, value) in [("old", old), ("new", new)] {
                incomplete
                    .extend(value.and_then(|value| Some(format!("{which}: {}", value.shown.note.as_ref()?))));
            }
        };
    match difference {
        Difference::KeyCreated(key) => told(key, None, "create", None, None),
        Difference::KeyDeleted(key) => told(key, None, "delete", None, None),
        Difference::ValueSet(key, name, old, new) => told(key, Some(name), "set", old.as_ref(), Some(new)),
        Difference::ValueDeleted(key, name, old) => told(key, Some(name), "delete", Some(old), None),
    }
    if !incomplete.is_empty() {
        fields.push((Field::EventIncomplete, Value::TextList(incomplete)));
    }
    ObservedActivity { event_type: EventType::RegistryChange, actor: None, target: None, fields }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Kept {
        let shown = Shown { text: text.to_owned(), note: None };
        Kept { kind: 1, length: text.len(), digest: [text.len() as u8; 32], shown }
    }

    fn contents(values: &[(&str, &str, &str)], keys: &[&str]) -> Contents {
        let values =
            values.iter().map(|(key, name, text)| (((*key).to_owned(), (*name).to_owned()), kept(text)));
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Contents { exists: true, values: values.collect(), keys, ..Contents::default() }
    }

    fn field(activity: &ObservedActivity, wanted: Field) -> Option<String> {
        activity.fields.iter().find_map(|(field, value)| match value {
            Value::Text(text) if *field == wanted => Some(text.clone()),
            _ => None,
        })
    }

    #[test]
    fn each_kind_of_change_is_found_and_nothing_else() {
        let before = contents(&[("", "a", "1"), ("", "b", "2"), ("sub", "c", "3")], &["sub"]);
        assert_eq!(compare(&before, &before), []);
        let now = contents(&[("", "a", "11"), ("new", "d", "4")], &["new"]);
        let found = compare(&before, &now);
        let expected = [
            Difference::KeyCreated("new".to_owned()),
            Difference::ValueSet(String::new(), "a".to_owned(), Some(kept("1")), kept("11")),
            Difference::ValueSet("new".to_owned(), "d".to_owned(), None, kept("4")),
            Difference::ValueDeleted(String::new(), "b".to_owned(), kept("2")),
            Difference::ValueDeleted("sub".to_owned(), "c".to_owned(), kept("3")),
            Difference::KeyDeleted("sub".to_owned()),
        ];
        assert_eq!(found, expected);
        let gone = compare(&now, &Contents::default());
        assert_eq!(gone.last(), Some(&Difference::KeyDeleted(String::new())));
        assert_eq!(gone.len(), 4);
    }

    #[test]
    fn what_a_look_did_not_see_is_gone_only_if_it_is_not_there() {
        let before = contents(
            &[
                ("", "a", "1"),
                ("", "b", "2"),
                ("k", "c", "3"),
                ("k\\l", "d", "4"),
                ("g", "e", "5"),
                ("kx", "f", "6"),
            ],
            &["k", "k\\l", "g", "g\\h", "kx"],
        );
        // The list passed over the value `b` and the key `k`; `a`, `g` and `kx` are gone.
        let mut now = contents(&[], &[]);
        let asked = std::cell::RefCell::new(Vec::new());
        now.complete(&before, |key, value| {
            asked.borrow_mut().push((key.to_owned(), value.map(str::to_owned)));
            matches!((key, value), ("", Some("b")) | ("k", None) | ("k\\l", None))
        });
        let expected = [
            Difference::ValueDeleted(String::new(), "a".to_owned(), kept("1")),
            Difference::ValueDeleted("g".to_owned(), "e".to_owned(), kept("5")),
            Difference::ValueDeleted("kx".to_owned(), "f".to_owned(), kept("6")),
            Difference::KeyDeleted("g".to_owned()),
            Difference::KeyDeleted("g\\h".to_owned()),
            Difference::KeyDeleted("kx".to_owned()),
        ];
        assert_eq!(compare(&before, &now), expected);
        assert!(!asked.borrow().iter().any(|(key, _)| key == "g\\h"), "its parent is gone");
    }

    #[test]
    fn what_stands_in_a_key_that_can_not_be_read_is_not_told_as_gone() {
        let before = contents(&[("k", "c", "3"), ("k\\l", "d", "4"), ("kx", "e", "5")], &["k", "k\\l", "kx"]);
        let mut now = contents(&[], &["k"]);
        now.unreadable.insert("k".to_owned());
        now.complete(&before, |_, _| false);
        let expected = [
            Difference::ValueDeleted("kx".to_owned(), "e".to_owned(), kept("5")),
            Difference::KeyDeleted("kx".to_owned()),
        ];
        assert_eq!(compare(&before, &now), expected);
    }

    #[test]
    fn an_event_has_place_old_and_new() {
        let difference =
            Difference::ValueSet("x".to_owned(), String::new(), Some(kept("old.exe")), kept("new.exe"));
        let event = describe(r"HKLM\Run", "autostart", &difference);
        assert_eq!(field(&event, Field::RegistryPath).as_deref(), Some(r"HKLM\Run\x\(Default)"));
        assert_eq!(field(&event, Field::ChangeOld).as_deref(), Some("old.exe"));
        assert_eq!(field(&event, Field::ChangeNew).as_deref(), Some("new.exe"));
        assert_eq!(field(&event, Field::RegistryOperation).as_deref(), Some("set"));
        let deleted = describe(r"HKLM\Run", "autostart", &Difference::KeyDeleted(String::new()));
        assert_eq!(field(&deleted, Field::RegistryPath).as_deref(), Some(r"HKLM\Run"));
        assert_eq!(field(&deleted, Field::RegistryValue), None);
    }
}
