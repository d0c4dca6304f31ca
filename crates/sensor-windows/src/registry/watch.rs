//! The keys that are watched, as they change.

use std::io;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use event_model::{EventType, GapReason};
use sensor_api::{ObservationSender, ObservedLoss, Provision, Source, StopSignal, boot_ns};
use win32::event::{Event, MOST_WAITED, wait_any};
use win32::registry::{Key, RawValue};
use win32::shown as shown_name;

use super::change::{Contents, Difference, Kept, Room, compare, describe};
use super::places::{BUILT_IN, Depth, Place, asked_for, normal};
use super::trace::{Heard, Shared, begin};
use super::value::{MOST_BYTES, shown};
use super::writers::{Changes, Writers};
use crate::etw::Traced;

/// A stop, and keys beyond those that can be waited for, are noticed after this at the latest.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Changes that wait for whoever made them are looked at again after this.
const WAITS: Duration = Duration::from_millis(20);
/// Keys that are not there, and users who log on, are looked for this often.
const SEEK_EVERY: Duration = Duration::from_secs(2);
/// A key whose reading is dear is read again only after so many times as long.
const COST_SHARE: u32 = 50;
/// Keys and values right in one key.
const MOST_KEYS: u32 = 65_536;
const MOST_VALUES: u32 = 16_384;
/// Keys of users who logged off that are remembered: what is another at their next logon is news.
const MOST_ABSENT: usize = 1_024;
/// The memory that these may take, in bytes.
const MOST_ABSENT_BYTES: usize = 32 << 20;
/// A value whose text found no room is read once more as it is told, if it is no longer.
const MOST_READ_AGAIN: usize = 64 << 10;
/// `ERROR_KEY_DELETED`.
const KEY_DELETED: i32 = 1_018;

/// The source of changes of the registry.
pub struct RegistryWatch {
    places: Vec<Place>,
    unusable: Vec<String>,
    /// Who made the changes.
    traced: Traced<Heard>,
    shared: Shared,
    /// No key can be read.
    is_blind: bool,
}

impl RegistryWatch {
    /// The built-in keys, and these; with event tracing it is told who changed them.
    pub fn new(keys: &[String], with_tracing: bool) -> Self {
        let built_in =
            BUILT_IN.iter().map(|(key, depth, what)| Place { key: normal(key), depth: *depth, what });
        let (mut asked, mut unusable) = (Vec::new(), Vec::new());
        for key in keys {
            match asked_for(key) {
                Ok(watched) => {
                    asked.push(Place { key: watched, depth: Depth::Two, what: "configured" });
                }
                Err(why) => unusable.push(format!("{key}: {why}")),
            }
        }
        // What was asked for goes first, and a key is watched once, as far down as anybody wants.
        let mut places: Vec<Place> = Vec::new();
        for place in asked.into_iter().chain(built_in) {
            match places.iter_mut().find(|known| known.key.eq_ignore_ascii_case(&place.key)) {
                Some(known) if known.depth.keys() < place.depth.keys() => known.depth = place.depth,
                Some(_) => {}
                None => places.push(place),
            }
        }
        // What `*` stands for is not known yet.
        let fixed = || places.iter().map(|place| &place.key).filter(|key| !key.contains('*'));
        let refused: Vec<String> = fixed().filter_map(|key| refused(key)).collect();
        let is_blind = refused.len() == fixed().count();
        unusable.extend(refused);
        let shared = Shared::new(Writers::of(&places));
        Self { places, unusable, is_blind, traced: begin(with_tracing, shared.clone()), shared }
    }
}

/// Why a key can't be watched. One that is not there may come.
fn refused(key: &str) -> Option<String> {
    let error = Key::open(key).err().filter(|error| error.kind() != io::ErrorKind::NotFound)?;
    Some(format!("{key}: {error}"))
}

impl Source for RegistryWatch {
    fn name(&self) -> &'static str {
        "registry_watch"
    }

    fn provisions(&self) -> Vec<Provision> {
        let who = match self.traced.missing() {
            None => "who changed them by event tracing, where it tells".to_owned(),
            Some(why) => format!("who changed them is not known: {why}"),
        };
        let mut source = format!(
            "registry_watch ({} keys, `*` and HKCU for each user that is logged on; {who})",
            self.places.len()
        );
        let unusable = self.unusable.join(", ");
        let missing = self.is_blind.then(|| unusable.clone());
        if !unusable.is_empty() {
            source.push_str(&format!("; not watched: {unusable}"));
        }
        vec![Provision { event_type: EventType::RegistryChange, source, missing }]
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        // What is large below is read at length, and changes for any reason: autostart keys don't wait for it.
        let (large, small): (Vec<Place>, Vec<Place>) =
            self.places.iter().cloned().partition(|place| place.depth == Depth::Two);
        let (traced, shared) = (&mut self.traced, &self.shared);
        std::thread::scope(|scope| {
            scope.spawn(|| watch(&large, shared, sender, stop));
            scope.spawn(|| traced.run(sender, stop));
            watch(&small, shared, sender, stop);
        });
    }
}

/// Where changes go: to be told, when it is known who made them.
struct Outlet<'a> {
    sender: &'a ObservationSender,
    shared: &'a Shared,
    changes: Changes,
}

impl Outlet<'_> {
    /// Tells what need not wait any more.
    fn tell_due(&mut self) {
        if self.changes.is_waiting() {
            let writers = self.shared.writers();
            while let Some((at_ns, told)) = self.changes.next(&writers, Instant::now()) {
                self.sender.send(at_ns, told);
            }
        }
    }

    /// Tells all that waits.
    fn tell_all(&mut self) {
        while let Some((at_ns, told)) = self.changes.next(&Writers::default(), Instant::now()) {
            self.sender.send(at_ns, told);
        }
    }
}

fn watch(places: &[Place], shared: &Shared, sender: &ObservationSender, stop: &StopSignal) {
    let mut outlet = Outlet { sender, shared, changes: Changes::default() };
    look_until(places, &mut outlet, stop);
    outlet.tell_all();
}

fn look_until(places: &[Place], outlet: &mut Outlet<'_>, stop: &StopSignal) {
    let mut watched: Vec<Watched> = Vec::new();
    let mut sought: Option<Instant> = None;
    while !stop.asked_within(Duration::ZERO) {
        if sought.is_none_or(|at| at.elapsed() >= SEEK_EVERY) {
            seek(places, &mut watched, sought.is_none(), outlet);
            sought = Some(Instant::now());
        }
        let events: Vec<&Event> = watched
            .iter()
            .filter(|one| one.is_due())
            .filter_map(|one| Some(&one.open.as_ref()?.event))
            .take(MOST_WAITED)
            .collect();
        let pause = if outlet.changes.is_waiting() { WAITS } else { LOOK_EVERY };
        match events.is_empty() {
            true => {
                stop.asked_within(pause);
            }
            false => {
                // A refusal is no reason to look without a pause.
                if wait_any(&events, pause).is_err() {
                    stop.asked_within(pause);
                }
            }
        }
        for one in &mut watched {
            if one.is_due() && one.open.as_ref().is_some_and(|open| open.event.is_set()) {
                one.look(outlet);
            }
        }
        outlet.tell_due();
    }
}

/// Opens what is not open: keys that came, users who logged on. What is found at the first time was
/// there before; later it is told. What belongs to users who logged off is closed, and nothing is told of it.
fn seek(places: &[Place], watched: &mut Vec<Watched>, first: bool, outlet: &mut Outlet<'_>) {
    let hives = hives();
    for one in watched.iter_mut() {
        if let (Some(hive), Ok(hives)) = (&one.hive, &hives)
            && !hives.contains(hive)
        {
            one.leave();
        }
    }
    let absent = || watched.iter().filter(|one| one.absent);
    if absent().count() > MOST_ABSENT
        || absent().map(|one| one.seen.size()).sum::<usize>() > MOST_ABSENT_BYTES
    {
        watched.retain(|one| !one.absent);
    }
    for place in places {
        for (hive, key) in expand(&place.key, hives.as_deref().unwrap_or_default()) {
            let known = watched.iter_mut().find(|one| one.key == key);
            match known {
                // A user's classes come after the rest.
                Some(one) if one.hive != hive => {
                    one.leave();
                    (one.hive, one.absent) = (hive, false);
                    one.begin(true, outlet);
                }
                Some(one) if one.open.as_ref().is_some_and(|open| open.key.is_there()) => {}
                Some(one) => one.look(outlet),
                None => {
                    // A user's keys that come with the logon are nobody's change.
                    let quiet = first || hive.is_some();
                    let mut one = Watched {
                        key,
                        depth: place.depth,
                        room: place.room(),
                        what: place.what,
                        hive,
                        open: None,
                        seen: Contents::default(),
                        denied: false,
                        absent: false,
                        missing: None,
                        next: Instant::now(),
                        reads: (None, None),
                    };
                    one.begin(quiet, outlet);
                    watched.push(one);
                }
            }
        }
    }
}

const USERS: &str = "HKU";
/// What in a user's hive leads to the hive of the user's classes, and how that one is called.
const CLASSES: &str = r"Software\Classes";
const OF_CLASSES: &str = "_Classes";

/// The hives of the users who are logged on: one by the SID of each, and mostly one of its classes.
fn hives() -> io::Result<Vec<String>> {
    let hives = Key::open(USERS)?.subkeys(8_192)?;
    Ok(hives.iter().map(|hive| shown_name(hive)).collect())
}

/// `HKU\*\…` for each of the users, with the hive in which it is; any other key as it is.
fn expand(key: &str, hives: &[String]) -> Vec<(Option<String>, String)> {
    let Some((USERS, rest)) = key.split_once(r"\*\") else { return vec![(None, key.to_owned())] };
    let is_of_classes = rest.get(..CLASSES.len()).is_some_and(|start| start.eq_ignore_ascii_case(CLASSES));
    let users = hives.iter().filter(|hive| !hive.ends_with(OF_CLASSES));
    let each = users.map(|user| {
        let own = format!("{user}{OF_CLASSES}");
        let hive = if is_of_classes && hives.contains(&own) { own } else { user.clone() };
        (Some(hive), format!(r"{USERS}\{user}\{rest}"))
    });
    each.collect()
}

/// What a look at a key gave.
enum Look {
    There(Contents),
    Gone,
    /// It may not be read, or was changed under the look: what is in it nobody knows.
    Unknown,
}

struct Open {
    key: Key,
    event: Event,
}

struct Watched {
    key: String,
    depth: Depth,
    room: Room,
    what: &'static str,
    /// The user's hive in which it is.
    hive: Option<String>,
    open: Option<Open>,
    seen: Contents,
    /// It was told that it may not be read.
    denied: bool,
    /// Its user is not logged on.
    absent: bool,
    /// It seems to be gone from its user's hive since then.
    missing: Option<Instant>,
    /// Not to be read before.
    next: Instant,
    /// When the reading before the last began, and the last.
    reads: (Option<Instant>, Option<Instant>),
}

impl Watched {
    fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Opens and reads it for the first time; what is found is told unless it is `quiet`.
    fn begin(&mut self, quiet: bool, outlet: &mut Outlet<'_>) {
        let now = match self.read(outlet.sender) {
            Look::There(now) => now,
            Look::Gone | Look::Unknown => Contents::default(),
        };
        match quiet {
            true => {
                self.tell_incomplete(&now, outlet.sender);
                self.seen = now;
            }
            false => self.tell(now, outlet),
        }
    }

    /// Reads it again and tells what differs.
    fn look(&mut self, outlet: &mut Outlet<'_>) {
        match self.read(outlet.sender) {
            Look::There(now) => {
                (self.absent, self.missing) = (false, None);
                self.tell(now, outlet);
            }
            Look::Gone if self.seen.exists => self.tell_gone(outlet),
            Look::Gone | Look::Unknown => {}
        }
    }

    /// Its user logged off: it is closed, and what was in it is remembered.
    fn leave(&mut self) {
        (self.open, self.absent, self.missing) = (None, true, None);
    }

    /// Tells that the key is gone. A user's hive goes with the logoff, and the keys in it may seem to be gone
    /// before it does: such a one is told when its hive is still there a moment later.
    fn tell_gone(&mut self, outlet: &mut Outlet<'_>) {
        if let Some(hive) = &self.hive {
            let is_there = Key::open(&format!(r"{USERS}\{hive}")).is_ok_and(|hive| hive.is_there());
            if !is_there {
                return self.leave();
            }
            if self.missing.get_or_insert_with(Instant::now).elapsed() < SEEK_EVERY {
                return;
            }
        }
        self.missing = None;
        // It was found to be gone: what was read last is what is compared with.
        self.reads.0 = self.reads.1;
        self.tell(Contents::default(), outlet);
    }

    /// Tells once of each key below that can't be read, and that more is below than is kept.
    fn tell_incomplete(&self, now: &Contents, sender: &ObservationSender) {
        let key = &self.key;
        if now.cut && !self.seen.cut {
            tracing::warn!(key, "has more below it than is watched");
            sender.lost(lost());
        }
        let new: Vec<&String> = now.unreadable.difference(&self.seen.unreadable).collect();
        let Some(example) = new.first() else { return };
        let count = new.len();
        tracing::warn!(key, count, example, "keys below can't be read: what changes in them is not seen");
        sender.lost(lost());
    }

    fn tell(&mut self, mut now: Contents, outlet: &mut Outlet<'_>) {
        let (at_ns, looked) = (boot_ns(), Instant::now());
        let path = |below: &str| match below.is_empty() {
            true => self.key.clone(),
            false => format!("{}\\{below}", self.key),
        };
        let mut before = std::mem::take(&mut self.seen);
        if now.exists {
            now.complete(&mut before, &self.room, |key, value| match (Key::open(&path(key)), value) {
                (Ok(_), None) => true,
                (Ok(key), Some(name)) => {
                    key.value_within(name, 0).map_or_else(|error| !is_gone(&error), |_| true)
                }
                (Err(error), _) => !is_gone(&error),
            });
        }
        let differences = compare(&before, &now);
        self.seen = before;
        // After the comparison, which may have found that there is no room.
        self.tell_incomplete(&now, outlet.sender);
        for mut difference in differences {
            if let Difference::ValueSet(key, name, _, new) = &mut difference {
                read_again(&path(key), name, new);
            }
            let told = describe(&self.key, self.what, &difference);
            outlet.changes.put(&self.key, &difference, told, at_ns, (self.reads.0, looked));
        }
        self.seen = now;
    }

    /// What stands there now.
    fn read(&mut self, sender: &ObservationSender) -> Look {
        // Whatever went while it was read is looked for once more; what then went again is for the next look.
        let open = self.open.take();
        let was_open = open.is_some();
        match self.read_from(open) {
            Err(error) if was_open || is_gone(&error) => match self.read_from(None) {
                Ok(now) => Look::There(now),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Look::Gone,
                Err(error) => self.unknown(&error, sender),
            },
            Ok(now) => Look::There(now),
            Err(error) => self.unknown(&error, sender),
        }
    }

    fn unknown(&mut self, error: &io::Error, sender: &ObservationSender) -> Look {
        if error.kind() == io::ErrorKind::PermissionDenied && !self.denied {
            self.denied = true;
            tracing::warn!(key = self.key, %error, "a key can't be watched; hint: run the agent as a service");
            sender.lost(lost());
        }
        Look::Unknown
    }

    /// The watch is armed before the reading, so that nothing falls in between.
    fn read_from(&mut self, open: Option<Open>) -> io::Result<Contents> {
        let begun = Instant::now();
        let open = match open {
            Some(open) => {
                open.event.reset();
                open.key.tell_change(&open.event, self.depth.keys() > 0)?;
                open
            }
            None => self.arm()?,
        };
        let mut contents = Contents::there();
        gather(&open.key, (&self.key, ""), self.depth.keys(), &self.room, &mut contents)?;
        self.denied = false;
        self.open = Some(open);
        self.next = Instant::now() + begun.elapsed() * COST_SHARE;
        self.reads = (self.reads.1, Some(begun));
        Ok(contents)
    }

    fn arm(&self) -> io::Result<Open> {
        let open = Open { key: Key::open(&self.key)?, event: Event::new()? };
        open.key.tell_change(&open.event, self.depth.keys() > 0)?;
        Ok(open)
    }
}

fn lost() -> ObservedLoss {
    let (at_ns, what) = (boot_ns(), EventType::RegistryChange.as_str());
    ObservedLoss { reason: GapReason::QueueFull, what, count: None, from_ns: at_ns, until_ns: at_ns }
}

/// There is no such key or value, or it was deleted while it was open.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(KEY_DELETED)
}

fn gather(
    key: &Key,
    (path, below): (&str, &str),
    depth: usize,
    room: &Room,
    contents: &mut Contents,
) -> io::Result<()> {
    let count = key.each_value(MOST_VALUES, MOST_BYTES, |value| {
        contents.hold_value(room, (below.to_owned(), shown_name(&value.name)), kept(&value));
    })?;
    contents.cut |= count >= MOST_VALUES;
    if depth == 0 {
        return Ok(());
    }
    let most = MOST_KEYS.min(u32::try_from(room.keys).unwrap_or(u32::MAX));
    let names = key.subkeys(most)?;
    contents.cut |= names.len() >= most as usize;
    for name in names {
        // A zero in a name, or half a pair: no path leads there, and what it is shown as may lead elsewhere.
        let has_path = !name.contains(&0) && String::from_utf16(&name).is_ok();
        let name = shown_name(&name);
        let child_path = format!("{path}\\{name}");
        let child_below = if below.is_empty() { name } else { format!("{below}\\{name}") };
        if !contents.hold_key(room, child_below.clone()) {
            break;
        }
        let read = match has_path {
            true => Key::open(&child_path)
                .and_then(|child| gather(&child, (&child_path, &child_below), depth - 1, room, contents)),
            false => Err(io::ErrorKind::InvalidInput.into()),
        };
        match read {
            // It went meanwhile.
            Err(error) if is_gone(&error) => contents.release_key(&child_below),
            Err(_) => {
                contents.unreadable.insert(child_below);
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

fn kept(value: &RawValue) -> Kept {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, &value.data).as_ref());
    let shown = Some(shown(value.kind, &value.data, value.length));
    Kept { kind: value.kind, length: value.length, digest: sum, shown }
}

/// What is told of a value that changed is worth another look where there was no room to keep it.
fn read_again(path: &str, name: &str, value: &mut Kept) {
    if value.shown.is_none()
        && let Ok(read) = Key::open(path).and_then(|key| key.value_within(name, MOST_READ_AGAIN))
    {
        let read = kept(&read);
        if read.is_as(value) {
            value.shown = read.shown;
        }
    }
}
