//! What differs between two looks at a key.

use std::collections::{BTreeMap, BTreeSet};

use event_model::{EventType, Field, Value};
use sensor_api::ObservedActivity;

use super::value::{Shown, kind_name, not_kept};

/// How much is kept of one watched key and all below it. Who may write there must not be able to take the
/// agent's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Keys below it.
    pub keys: usize,
    /// Values in it and below.
    pub values: usize,
    /// Bytes of their names. Beyond these three nothing is kept.
    pub names: usize,
    /// Bytes of the values' data as text. Of further values only the digest is kept.
    pub text: usize,
}

/// What is kept of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Number of its type.
    pub kind: u32,
    /// Length of its data.
    pub length: usize,
    /// SHA-256 of its data: what is shown may be cut.
    pub digest: [u8; 32],
    /// Its data as text, where there was room for it.
    pub shown: Option<Shown>,
}

impl Kept {
    /// Whether it is the same value; how it is shown is no part of it.
    pub fn is_as(&self, other: &Self) -> bool {
        (self.kind, self.length, self.digest) == (other.kind, other.length, other.digest)
    }

    fn shown(&self) -> Shown {
        self.shown.clone().unwrap_or_else(|| not_kept(self.kind, self.length))
    }
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
    names_bytes: usize,
    text_bytes: usize,
}

/// What the tree around a key or a value takes, roughly.
const ENTRY_BYTES: usize = 256;

impl Contents {
    /// A key that is there, with nothing in it.
    pub fn there() -> Self {
        Self { exists: true, ..Self::default() }
    }

    /// Keeps a value; false, and nothing, where there is no room for it.
    pub fn hold_value(&mut self, room: &Room, place: (String, String), mut value: Kept) -> bool {
        let name = place.0.len() + place.1.len();
        if self.values.len() >= room.values || self.names_bytes + name > room.names {
            self.cut = true;
            return false;
        }
        let text = value.shown.as_ref().map_or(0, |shown| shown.text.len());
        if self.text_bytes + text > room.text {
            value.shown = None;
        } else {
            self.text_bytes += text;
        }
        self.names_bytes += name;
        self.values.insert(place, value);
        true
    }

    /// Keeps a key; false, and nothing, where there is no room for it.
    pub fn hold_key(&mut self, room: &Room, key: String) -> bool {
        if self.keys.len() >= room.keys || self.names_bytes + key.len() > room.names {
            self.cut = true;
            return false;
        }
        self.names_bytes += key.len();
        self.keys.insert(key);
        true
    }

    /// Lets go of a key that went while it was read.
    pub fn release_key(&mut self, key: &str) {
        if self.keys.remove(key) {
            self.names_bytes = self.names_bytes.saturating_sub(key.len());
        }
    }

    /// The memory that it takes, in bytes, roughly.
    pub fn size(&self) -> usize {
        self.names_bytes + self.text_bytes + (self.values.len() + self.keys.len()) * ENTRY_BYTES
    }

    /// Takes over from the look before what this one did not see and is not gone: what stands in keys that could
    /// not be read, and what a list passed over as the place changed while it was made. Of all else that seems
    /// to be gone, `is_there` is asked: a key, or a value in it. What is there and finds no room any more is
    /// forgotten in `before` too, so that nobody takes it for gone.
    pub fn complete(
        &mut self,
        before: &mut Self,
        room: &Room,
        is_there: impl Fn(&str, Option<&str>) -> bool,
    ) {
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
        for key in &passed_over {
            if !self.hold_key(room, key.clone()) {
                before.keys.remove(key);
            }
        }
        let mut forgotten = Vec::new();
        for (place, value) in &before.values {
            let (key, name) = (place.0.as_str(), place.1.as_str());
            if self.values.contains_key(place) {
                continue;
            }
            let is_kept = is_hidden(key, &self.unreadable) || passed_over.contains(key);
            if !(is_kept || key.is_empty() || self.keys.contains(key)) {
                continue;
            }
            if (is_kept || is_there(key, Some(name))) && !self.hold_value(room, place.clone(), value.clone())
            {
                forgotten.push(place.clone());
            }
        }
        before.values.retain(|place, _| forgotten.binary_search(place).is_err());
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
            Some(old) if old.is_as(value) => {}
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
            let (old_shown, new_shown) = (old.map(Kept::shown), new.map(Kept::shown));
            fields.extend(old_shown.iter().map(|old| (Field::ChangeOld, text(&old.text))));
            if let (Some(new), Some(shown)) = (new, &new_shown) {
                fields.push((Field::ChangeNew, text(&shown.text)));
                fields.push((Field::RegistryData, text(&shown.text)));
                fields.push((Field::RegistryType, Value::Text(kind_name(new.kind))));
            }
            for (which, shown) in [("old", old_shown), ("new", new_shown)] {
                incomplete.extend(shown.and_then(|shown| Some(format!("{which}: {}", shown.note?))));
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
        let shown = Some(Shown { text: text.to_owned(), note: None });
        Kept { kind: 1, length: text.len(), digest: [text.len() as u8; 32], shown }
    }

    const ROOM: Room = Room { keys: 100, values: 100, names: 10_000, text: 10_000 };

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
        let mut before = contents(
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
        now.complete(&mut before, &ROOM, |key, value| {
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
        let mut before =
            contents(&[("k", "c", "3"), ("k\\l", "d", "4"), ("kx", "e", "5")], &["k", "k\\l", "kx"]);
        let mut now = contents(&[], &["k"]);
        now.unreadable.insert("k".to_owned());
        now.complete(&mut before, &ROOM, |_, _| false);
        let expected = [
            Difference::ValueDeleted("kx".to_owned(), "e".to_owned(), kept("5")),
            Difference::KeyDeleted("kx".to_owned()),
        ];
        assert_eq!(compare(&before, &now), expected);
    }

    #[test]
    fn what_is_beyond_the_room_is_kept_as_a_digest_and_then_not_at_all() {
        let room = Room { keys: 2, values: 3, names: 30, text: 8 };
        let mut held = Contents { exists: true, ..Contents::default() };
        let mut hold =
            |name: &str, text: &str| held.hold_value(&room, (String::new(), name.to_owned()), kept(text));
        assert!(hold("a", "12345678") && hold("b", "9") && hold("c", ""));
        assert!(!hold("d", ""), "there are as many as are kept");
        assert!(held.cut && held.values.len() == 3);
        assert!(held.values[&(String::new(), "a".to_owned())].shown.is_some());
        assert_eq!(held.values[&(String::new(), "b".to_owned())].shown, None);
        assert!(held.hold_key(&room, "k".to_owned()));
        assert!(!held.hold_key(&room, "n".repeat(40)), "its name finds no room");
        assert!(held.size() < 4_096);

        // What is shown is no change; what changed is told without what finds no room.
        let now = contents(&[("", "a", "12345678"), ("", "b", "9"), ("", "c", "")], &["k"]);
        assert_eq!(compare(&held, &now), []);
        let changed = contents(&[("", "a", "12345678"), ("", "b", "99"), ("", "c", "")], &["k"]);
        let found = compare(&held, &changed);
        let [difference] = found.as_slice() else { panic!("{found:?}") };
        let event = describe(r"HKU\x\Run", "autostart", difference);
        assert_eq!(field(&event, Field::ChangeOld).as_deref(), Some("(REG_SZ of 1 bytes)"));
        assert_eq!(field(&event, Field::ChangeNew).as_deref(), Some("99"));
        assert!(event.fields.iter().any(|(field, _)| *field == Field::EventIncomplete));
    }

    #[test]
    fn what_is_still_there_and_finds_no_room_is_not_told_as_gone() {
        let room = Room { keys: 2, values: 2, names: 1_000, text: 1_000 };
        let mut before = contents(&[("", "a", "1"), ("", "b", "2"), ("k", "c", "3")], &["k", "l"]);
        let mut now = contents(&[("", "x", "7"), ("", "y", "8")], &["m", "n"]);
        now.complete(&mut before, &room, |_, name| name != Some("a"));
        assert!(now.cut && now.values.len() == 2 && now.keys.len() == 2);
        let gone: Vec<Difference> = compare(&before, &now)
            .into_iter()
            .filter(|found| matches!(found, Difference::ValueDeleted(..) | Difference::KeyDeleted(_)))
            .collect();
        assert_eq!(gone, [Difference::ValueDeleted(String::new(), "a".to_owned(), kept("1"))]);
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
