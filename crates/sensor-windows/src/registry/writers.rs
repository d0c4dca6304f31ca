//! Who changed what the watch of the registry found: the two are joined by key, value and time.
//!
//! The kernel (`Microsoft-Windows-Kernel-Registry`) names a key by the object of whoever opened it. What that object
//! stands for is told when it is opened, so that keys that were open before are not known, and their changes nobody's.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use sensor_api::{Actor, ObservedActivity};

use super::change::Difference;
use super::open_keys::{OpenKeys, normal, normal_alias};
use super::places::Place;
use super::reach::{Reach, Standing};
use crate::etw::Event;

/// `Microsoft-Windows-Kernel-Registry`.
pub const KERNEL_REGISTRY: u128 = 0x70eb_4f03_c1de_4f73_a051_33d1_3d54_13bd;
/// Its events that are read: keys that are created (or opened by the call that would create them), opened and deleted,
/// values that are set and deleted.
pub const REGISTRY_IDS: &[u16] = &[CREATE_KEY, OPEN_KEY, DELETE_KEY, SET_VALUE, DELETE_VALUE];
/// Their bits: CreateKey, OpenKey, DeleteKey, SetValueKey and DeleteValueKey.
pub const REGISTRY_KEYWORDS: u64 = 0x1000 | 0x2000 | 0x4000 | 0x100 | 0x200;

const CREATE_KEY: u16 = 1;
const OPEN_KEY: u16 = 2;
const DELETE_KEY: u16 = 3;
const SET_VALUE: u16 = 5;
const DELETE_VALUE: u16 = 6;
/// `REG_CREATED_NEW_KEY`.
const CREATED: u32 = 1;

/// So long a write is remembered: a place that is large is looked at late.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Writes that are remembered, and how often room is looked for where there is none.
const MOST_WRITES: usize = 16_384;
const MAKE_ROOM_EVERY: Duration = Duration::from_secs(1);
/// Changes whose writers were found are remembered, so that a write is not the cause of two.
const MOST_USED: usize = 16_384;
/// A change waits so long for its write: the kernel's buffers are handed over each 50 ms.
const PATIENCE: Duration = Duration::from_millis(300);

/// What was done to a key or a value, which is named by an `N`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act<N> {
    KeyCreated,
    KeyDeleted,
    /// Its name, its type and the length of its data.
    ValueSet(N, u32, u64),
    ValueDeleted(N),
}

impl Act<String> {
    /// The same without the text.
    fn hashed(&self, hashing: &RandomState) -> Act<u64> {
        match self {
            Self::KeyCreated => Act::KeyCreated,
            Self::KeyDeleted => Act::KeyDeleted,
            Self::ValueSet(name, kind, size) => Act::ValueSet(hashing.hash_one(name), *kind, *size),
            Self::ValueDeleted(name) => Act::ValueDeleted(hashing.hash_one(name)),
        }
    }
}

/// One write, as the kernel tells it.
#[derive(Debug, Clone)]
struct Write {
    act: Act<u64>,
    pid: u32,
    /// In nanoseconds since boot.
    at_ns: u64,
    came: Instant,
    /// Counted up from 1.
    number: u64,
}

/// What is being looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    key: String,
    act: Act<String>,
}

/// The writes of the last seconds, and the names of open keys.
#[derive(Debug, Default)]
pub struct Writers {
    is_traced: bool,
    reach: Reach,
    open: OpenKeys,
    /// By the hash of the key. Names are hashed, as whoever writes chooses how long they are; with a secret of the
    /// agent's, so that nobody can make two alike.
    writes: HashMap<u64, Vec<Write>>,
    hashing: RandomState,
    count: usize,
    pruned: Option<Instant>,
    /// Never counted anew: who found a write remembers its number past the end of a session.
    numbered: u64,
}

impl Writers {
    /// Of changes in these places. Nobody has written yet.
    pub fn of(places: &[Place]) -> Self {
        Self { reach: Reach::of(places), ..Self::default() }
    }

    /// The kernel tells of writes from now on.
    pub fn tracing_begins(&mut self) {
        self.is_traced = true;
    }

    /// It does not any more. An object may be another key's when it does again.
    pub fn tracing_ends(&mut self) {
        self.is_traced = false;
        self.open = OpenKeys::default();
        (self.writes, self.count, self.pruned) = (HashMap::new(), 0, None);
    }

    /// The kernel told what did not come: an object may be another key's by now.
    pub fn events_were_lost(&mut self) {
        self.open = OpenKeys::default();
    }

    /// An event that was written at `at_ns` since boot. False where it lacks what is needed.
    pub fn hear(&mut self, event: &Event, at_ns: u64, now: Instant) -> bool {
        let values = &event.values;
        let (Some(object), Some(status)) = (values.number("KeyObject"), values.small("Status")) else {
            return false;
        };
        let is_opened = matches!(event.id, CREATE_KEY | OPEN_KEY);
        // The highest bit of an NTSTATUS is that of failure. What was not opened has no object either.
        if event.provider != KERNEL_REGISTRY || status >> 31 != 0 {
            return true;
        }
        let key = match is_opened {
            true => self.opened(object, event),
            false => self.named(object, values.text("KeyName").unwrap_or_default()),
        };
        let value = || Some(values.text("ValueName")?.to_lowercase());
        let act = match event.id {
            CREATE_KEY if values.small("Disposition") == Some(CREATED) => Act::KeyCreated,
            DELETE_KEY => Act::KeyDeleted,
            SET_VALUE => match (value(), values.small("Type"), values.number("DataSize")) {
                (Some(name), Some(kind), Some(size)) => Act::ValueSet(name, kind, size),
                _ => return false,
            },
            DELETE_VALUE => match value() {
                Some(name) => Act::ValueDeleted(name),
                None => return false,
            },
            _ => return true,
        };
        let is_seen = |key: &String| event.pid != 0 && self.reach.standing(key) == Standing::Watched;
        if let Some(key) = key.filter(is_seen) {
            self.numbered += 1;
            let (act, number) = (act.hashed(&self.hashing), self.numbered);
            let key = self.hashing.hash_one(key);
            self.remember(key, Write { act, pid: event.pid, at_ns, came: now, number }, now);
        }
        true
    }

    /// The name of a key that was just opened.
    fn opened(&mut self, object: u64, event: &Event) -> Option<String> {
        // Whatever had this object before is closed.
        self.open.remove(object);
        let text = |name| event.values.text(name).unwrap_or_default();
        let relative = text("RelativeName");
        let name = match normal(relative) {
            Some(whole) => whole,
            None => {
                let base = event.values.number("BaseObject").unwrap_or(0);
                let base = self.named(base, text("BaseName"))?;
                match relative.trim_matches('\\') {
                    "" => base,
                    relative => normal_alias(format!("{base}\\{}", relative.to_lowercase())),
                }
            }
        };
        // Below what is watched, or beside it, nothing is joined.
        if object == 0 || self.reach.standing(&name) == Standing::Outside {
            return None;
        }
        self.open.insert(object, &name);
        Some(name)
    }

    /// The name of a key: as the event has it, else by what was told as it was opened.
    fn named(&self, object: u64, told: &str) -> Option<String> {
        normal(told).or_else(|| self.open.name(object).cloned())
    }

    fn remember(&mut self, key: u64, write: Write, now: Instant) {
        let is_full = self.count >= MOST_WRITES;
        let pause = if is_full { MAKE_ROOM_EVERY } else { REMEMBERED };
        if self.pruned.is_none_or(|at| now.saturating_duration_since(at) >= pause) {
            self.pruned = Some(now);
            let kept = if is_full { REMEMBERED / 4 } else { REMEMBERED };
            self.writes.retain(|_, writes| {
                writes.retain(|one| now.saturating_duration_since(one.came) < kept);
                !writes.is_empty()
            });
            self.count = self.writes.values().map(Vec::len).sum();
        }
        if self.count < MOST_WRITES {
            self.writes.entry(key).or_default().push(write);
            self.count += 1;
        }
    }

    /// The last write that may have made this change, of those with a higher number than `after`.
    fn find(&self, change: &Change, after: u64) -> Option<&Write> {
        let Wanted { key, act } = &change.wanted;
        let wanted = act.hashed(&self.hashing);
        let fits = |write: &&Write| {
            let is_it = match (&wanted, &write.act) {
                // With a key go its values.
                (Act::ValueDeleted(_), Act::KeyDeleted) => true,
                (wanted, act) => wanted == act,
            };
            // What came before the look before this one was seen by that.
            let is_new = change.since.is_none_or(|since| write.came >= since) && write.number > after;
            is_it && is_new && change.seen.saturating_duration_since(write.came) < REMEMBERED
        };
        self.writes.get(&self.hashing.hash_one(key))?.iter().rev().find(fits)
    }
}

/// What a difference in the key `root` would have been written as.
fn wanted(root: &str, difference: &Difference) -> Wanted {
    let (below, act) = match difference {
        Difference::KeyCreated(key) => (key, Act::KeyCreated),
        Difference::KeyDeleted(key) => (key, Act::KeyDeleted),
        Difference::ValueSet(key, name, _, new) => {
            (key, Act::ValueSet(name.to_lowercase(), new.kind, new.length as u64))
        }
        Difference::ValueDeleted(key, name, _) => (key, Act::ValueDeleted(name.to_lowercase())),
    };
    let key = if below.is_empty() { root.to_owned() } else { format!(r"{root}\{below}") };
    Wanted { key: key.to_lowercase(), act }
}

struct Change {
    root: String,
    wanted: Wanted,
    at_ns: u64,
    since: Option<Instant>,
    seen: Instant,
    told: ObservedActivity,
}

impl Change {
    /// What was changed, and by which watched key it was seen: two may see the same.
    fn place(&self, hashing: &RandomState) -> u64 {
        let value = match &self.wanted.act {
            Act::ValueSet(name, ..) | Act::ValueDeleted(name) => name,
            Act::KeyCreated | Act::KeyDeleted => "",
        };
        hashing.hash_one((&self.root, &self.wanted.key, value))
    }
}

/// Changes that wait a moment for whoever made them, in their order.
#[derive(Default)]
pub struct Changes {
    waiting: VecDeque<Change>,
    /// The numbers of the writes that were found, by the hash of what they changed.
    used: HashMap<u64, u64>,
    hashing: RandomState,
}

impl Changes {
    /// A difference in the key `root` was seen at `at_ns` since boot, and this is to be told of it. It was made after
    /// `since`, when the key was read last, where that is known.
    pub fn put(
        &mut self,
        root: &str,
        difference: &Difference,
        told: ObservedActivity,
        at_ns: u64,
        (since, seen): (Option<Instant>, Instant),
    ) {
        let wanted = wanted(root, difference);
        self.waiting.push_back(Change { root: root.to_owned(), wanted, at_ns, since, seen, told });
    }

    /// The next one whose writer is known, or for whom nobody waits any more, with its time: that of the write, where
    /// it is known, as the writer may be gone when the change is seen.
    pub fn next(&mut self, writers: &Writers, now: Instant) -> Option<(u64, ObservedActivity)> {
        let first = self.waiting.front()?;
        let place = first.place(&self.hashing);
        let write = writers.find(first, self.used.get(&place).copied().unwrap_or(0));
        let has_time = now.saturating_duration_since(first.seen) < PATIENCE;
        if write.is_none() && writers.is_traced && has_time {
            return None;
        }
        let Change { at_ns, mut told, .. } = self.waiting.pop_front()?;
        let Some(write) = write else { return Some((at_ns, told)) };
        told.actor = Some(Actor::Pid(write.pid));
        if self.used.len() >= MOST_USED {
            self.used.clear();
        }
        self.used.insert(place, write.number);
        Some((write.at_ns.min(at_ns), told))
    }

    /// Whether some wait.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use event_model::EventType;

    use super::super::change::Kept;
    use super::super::places::Depth;
    use super::super::value::Shown;
    use super::*;
    use crate::etw::made::{Made, cut, made};

    const RUN: &str = r"\REGISTRY\MACHINE\SOFTWARE\Microsoft\Windows\CurrentVersion\Run";
    const WATCHED: &str = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run";

    /// A key that `pid` opened, as the kernel lays it out.
    fn opening(id: u16, pid: u32, base: u64, object: u64, name: &str, how: u32) -> Event {
        let values = [
            ("BaseObject", Made::Pointer(base)),
            ("KeyObject", Made::Pointer(object)),
            ("Status", Made::U32(0)),
            ("Disposition", Made::U32(how)),
            ("BaseName", Made::Text("")),
            ("RelativeName", Made::Text(name)),
        ];
        made(KERNEL_REGISTRY, id, pid, &values)
    }

    fn setting<'a>(
        object: u64,
        key: &'a str,
        name: &'a str,
        kind: u32,
        size: u32,
    ) -> [(&'a str, Made<'a>); 12] {
        [
            ("KeyObject", Made::Pointer(object)),
            ("Status", Made::U32(0)),
            ("Type", Made::U32(kind)),
            ("DataSize", Made::U32(size)),
            ("KeyName", Made::Text(key)),
            ("ValueName", Made::Text(name)),
            ("CapturedDataSize", Made::U16(0)),
            ("CapturedData", Made::Bytes(&[1, 2])),
            ("PreviousDataType", Made::U32(0)),
            ("PreviousDataSize", Made::U32(0)),
            ("PreviousDataCapturedSize", Made::U16(0)),
            ("PreviousData", Made::Bytes(&[1])),
        ]
    }

    fn set(pid: u32, object: u64, key: &str, name: &str, size: u32) -> Event {
        made(KERNEL_REGISTRY, SET_VALUE, pid, &setting(object, key, name, 1, size))
    }

    fn deleting(id: u16, pid: u32, object: u64, name: &str) -> Event {
        let values = [
            ("KeyObject", Made::Pointer(object)),
            ("Status", Made::U32(0)),
            ("KeyName", Made::Text("")),
            ("ValueName", Made::Text(name)),
        ];
        made(KERNEL_REGISTRY, id, pid, &values)
    }

    fn kept(length: usize) -> Kept {
        let shown = Shown { text: String::new(), note: None };
        Kept { kind: 1, length, digest: [0; 32], shown: Some(shown) }
    }

    fn value_set(name: &str, length: usize) -> Difference {
        Difference::ValueSet(String::new(), name.to_owned(), None, kept(length))
    }

    /// Who is told to have made this difference, after all patience, and when.
    fn writer(writers: &Writers, root: &str, difference: &Difference, now: Instant) -> (Option<u32>, u64) {
        let mut changes = Changes::default();
        let (event_type, fields) = (EventType::RegistryChange, Vec::new());
        let told = ObservedActivity { event_type, actor: None, target: None, fields };
        changes.put(root, difference, told, 1_000, (None, now));
        let (at_ns, told) = changes.next(writers, now + PATIENCE).unwrap();
        assert!(!changes.is_waiting());
        (told.actor.map(Actor::pid), at_ns)
    }

    /// Nobody has written yet.
    fn writers() -> Writers {
        Writers::of(&[Place { key: WATCHED.to_owned(), depth: Depth::Two, what: "" }])
    }

    fn heard(events: &[Event], now: Instant) -> Writers {
        let mut writers = writers();
        writers.tracing_begins();
        events.iter().zip(500..).for_each(|(event, at_ns)| assert!(writers.hear(event, at_ns, now)));
        writers
    }

    #[test]
    fn a_value_is_joined_by_the_key_that_was_opened_its_name_type_and_length() {
        let now = Instant::now();
        let events = [
            opening(OPEN_KEY, 70, 0, 0xa0, r"\REGISTRY\MACHINE\SOFTWARE", 2),
            opening(CREATE_KEY, 70, 0xa0, 0xb0, r"Microsoft\Windows\CurrentVersion\Run", 2),
            set(70, 0xb0, "", "Evil", 20),
        ];
        let writers = heard(&events, now);
        assert_eq!(writer(&writers, WATCHED, &value_set("evil", 20), now), (Some(70), 502));
        for other in [
            value_set("evil", 22),
            value_set("other", 20),
            Difference::ValueDeleted(String::new(), "evil".to_owned(), kept(20)),
            Difference::KeyCreated(String::new()),
            Difference::ValueSet("below".to_owned(), "evil".to_owned(), None, kept(20)),
        ] {
            assert_eq!(writer(&writers, WATCHED, &other, now), (None, 1_000), "{other:?}");
        }
        assert_eq!(writer(&writers, r"HKLM\SOFTWARE\Run", &value_set("evil", 20), now).0, None);
        let late = now + REMEMBERED;
        assert_eq!(writer(&writers, WATCHED, &value_set("evil", 20), late).0, None, "long ago");
    }

    #[test]
    fn the_last_writer_of_several_is_meant() {
        let now = Instant::now();
        let events = [set(70, 1, RUN, "x", 4), set(71, 2, RUN, "x", 8), set(72, 3, RUN, "x", 4)];
        let writers = heard(&events, now);
        assert_eq!(writer(&writers, WATCHED, &value_set("x", 4), now).0, Some(72));
        assert_eq!(writer(&writers, WATCHED, &value_set("x", 8), now).0, Some(71));
    }

    #[test]
    fn keys_that_come_and_go_and_values_that_go_have_their_writers() {
        let now = Instant::now();
        let events = [
            opening(CREATE_KEY, 70, 0, 0xa0, &format!(r"{RUN}\New"), 1),
            opening(OPEN_KEY, 71, 0, 0xb0, &format!(r"{RUN}\Old"), 2),
            opening(CREATE_KEY, 73, 0, 0xd0, &format!(r"{RUN}\There"), 2),
            deleting(DELETE_KEY, 71, 0xb0, ""),
            opening(OPEN_KEY, 72, 0, 0xc0, RUN, 2),
            deleting(DELETE_VALUE, 72, 0xc0, "V"),
        ];
        let writers = heard(&events, now);
        let of = |difference| writer(&writers, WATCHED, &difference, now).0;
        assert_eq!(of(Difference::KeyCreated("New".to_owned())), Some(70));
        assert_eq!(of(Difference::KeyDeleted("Old".to_owned())), Some(71));
        assert_eq!(of(Difference::ValueDeleted("Old".to_owned(), "a".to_owned(), kept(1))), Some(71));
        assert_eq!(of(Difference::ValueDeleted(String::new(), "V".to_owned(), kept(1))), Some(72));
        assert_eq!(of(Difference::KeyCreated("There".to_owned())), None, "it was only opened");
    }

    #[test]
    fn an_object_that_is_used_again_is_another_key_and_one_that_nobody_saw_opened_is_none() {
        let now = Instant::now();
        let events = [
            opening(OPEN_KEY, 70, 0, 0xa0, RUN, 2),
            // Below a key that was open before the agent was there.
            opening(OPEN_KEY, 71, 0x77, 0xa0, "Sub", 2),
            set(71, 0xa0, "", "x", 4),
            set(72, 0xee, "", "x", 4),
        ];
        let writers = heard(&events, now);
        assert_eq!(writer(&writers, WATCHED, &value_set("x", 4), now).0, None);
        let mut writers = heard(&[opening(OPEN_KEY, 70, 0, 0xa0, RUN, 2)], now);
        writers.events_were_lost();
        assert!(writers.hear(&set(70, 0xa0, "", "x", 4), 1, now));
        assert_eq!(
            writer(&writers, WATCHED, &value_set("x", 4), now).0,
            None,
            "who opened it since was not told"
        );
    }

    #[test]
    fn what_failed_or_ends_early_is_nobodys_change() {
        let now = Instant::now();
        let mut writers = heard(&[], now);
        let mut denied = setting(1, RUN, "x", 1, 4);
        denied[1].1 = Made::U32(0xc000_0022);
        assert!(writers.hear(&made(KERNEL_REGISTRY, SET_VALUE, 70, &denied), 1, now));
        let whole: usize = 8 + 4 * 3;
        for end in 0..whole {
            let event = cut(KERNEL_REGISTRY, SET_VALUE, 70, &setting(1, RUN, "x", 1, 4), end);
            assert!(!writers.hear(&event, 1, now), "{end}");
        }
        assert_eq!(writer(&writers, WATCHED, &value_set("x", 4), now).0, None);
    }

    #[test]
    fn a_change_waits_for_its_writer_and_only_where_one_can_come() {
        let now = Instant::now();
        let mut changes = Changes::default();
        let put = |changes: &mut Changes| {
            let (event_type, fields) = (EventType::RegistryChange, Vec::new());
            let told = ObservedActivity { event_type, actor: None, target: None, fields };
            changes.put(WATCHED, &value_set("x", 4), told, 1_000, (None, now));
        };
        put(&mut changes);
        let mut writers = writers();
        assert!(changes.next(&writers, now).is_some(), "nobody tells");
        put(&mut changes);
        writers.tracing_begins();
        assert_eq!(changes.next(&writers, now), None);
        assert!(writers.hear(&set(70, 1, RUN, "x", 4), 900, now));
        let (at_ns, told) = changes.next(&writers, now).unwrap();
        assert_eq!((at_ns, told.actor), (900, Some(Actor::Pid(70))));
        put(&mut changes);
        writers.tracing_ends();
        assert_eq!(changes.next(&writers, now).unwrap().1.actor, None);
    }

    #[test]
    fn a_write_is_the_cause_of_one_change_and_of_none_that_was_seen_before_it() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let writers = heard(&[set(70, 1, RUN, "x", 4)], now);
        let mut changes = Changes::default();
        let mut actor = |root: &str, since: Option<Instant>| {
            let (event_type, fields) = (EventType::RegistryChange, Vec::new());
            let told = ObservedActivity { event_type, actor: None, target: None, fields };
            changes.put(root, &value_set("x", 4), told, 1_000, (since, later));
            changes.next(&writers, later + PATIENCE).unwrap().1.actor
        };
        assert_eq!(actor(WATCHED, Some(later)), None, "the look before was after it");
        assert_eq!(actor(WATCHED, Some(now)), Some(Actor::Pid(70)));
        assert_eq!(actor(WATCHED, None), None, "this one was somebody else");
        assert_eq!(actor(&WATCHED.to_uppercase(), None), Some(Actor::Pid(70)), "seen by two watched keys");
    }

    #[test]
    fn a_place_whose_writer_was_found_has_another_after_tracing_began_again() {
        let now = Instant::now();
        let (mut writers, mut changes) = (writers(), Changes::default());
        for pid in [70, 71] {
            writers.tracing_begins();
            assert!(writers.hear(&set(pid, 1, RUN, "x", 4), 1, now));
            let (event_type, fields) = (EventType::RegistryChange, Vec::new());
            let told = ObservedActivity { event_type, actor: None, target: None, fields };
            changes.put(WATCHED, &value_set("x", 4), told, 1_000, (None, now));
            assert_eq!(changes.next(&writers, now).map(|(_, told)| told.actor), Some(Some(Actor::Pid(pid))));
            writers.tracing_ends();
        }
    }

    #[test]
    fn of_what_is_not_watched_nothing_is_kept() {
        let now = Instant::now();
        let deep = format!(r"{RUN}");
        let events = [
            set(70, 1, r"\REGISTRY\USER\S-1-5-21-1\Software\X", "x", 4),
            set(70, 1, &deep, "x", 4),
            set(70, 1, r"\REGISTRY\MACHINE\SOFTWARE", "x", 4),
            opening(CREATE_KEY, 70, 0, 0xa0, r"\REGISTRY\USER\S-1-5-21-1\Software\X", 1),
            opening(CREATE_KEY, 70, 0, 0xb0, &deep, 1),
            // The object was of a key that matters.
            opening(OPEN_KEY, 70, 0, 0xc0, RUN, 2),
            opening(OPEN_KEY, 70, 0, 0xc0, &deep, 2),
            set(70, 0xc0, "", "x", 4),
        ];
        let writers = heard(&events, now);
        assert_eq!((writers.count, writers.writes.len()), (0, 0));
        for object in [0xa0, 0xb0, 0xc0] {
            assert_eq!(writers.open.name(object), None, "{object:#x}");
        }
    }

    #[test]
    fn writes_are_bounded_and_have_their_writers_however_long_a_name_is() {
        let now = Instant::now();
        let long = "X".repeat(16_383);
        let mut writers = heard(&[set(70, 1, RUN, &long, 4)], now);
        assert_eq!(writer(&writers, WATCHED, &value_set(&long, 4), now).0, Some(70));
        assert_eq!(writer(&writers, WATCHED, &value_set(&long[1..], 4), now).0, None);
        let (event, later) = (set(70, 1, RUN, "x", 4), now + REMEMBERED);
        (0..2 * MOST_WRITES).for_each(|_| assert!(writers.hear(&event, 1, now)));
        assert_eq!(writers.count, MOST_WRITES);
        assert!(writers.hear(&event, 1, later));
        assert_eq!(writers.count, 1);
    }
}
