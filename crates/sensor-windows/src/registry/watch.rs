//! The keys that are watched, as they change.

use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use event_model::{EventType, GapReason};
use sensor_api::{ObservationSender, ObservedLoss, Provision, Source, StopSignal, boot_ns};
use win32::event::{Event, MOST_WAITED, wait_any};
use win32::registry::{Key, RawValue};
use win32::shown as shown_name;

use super::change::{Contents, Kept, compare, describe};
use super::places::{BUILT_IN, Depth, Place, normal};
use super::value::{MOST_BYTES, shown};

/// A stop, and keys beyond those that can be waited for, are noticed after this at the latest.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Keys that are not there, and users who log on, are looked for this often.
const SEEK_EVERY: Duration = Duration::from_secs(2);
/// A key whose reading is dear is read again only after so many times as long.
const COST_SHARE: u32 = 50;
/// Keys and values of one watched key. Services have some ten thousands.
const MOST_KEYS: u32 = 65_536;
const MOST_VALUES: u32 = 16_384;
/// Whatever stands below one watched key.
const MOST_OF_PLACE: usize = 200_000;

/// The source of changes of the registry.
pub struct RegistryWatch {
    places: Vec<Place>,
    unusable: Vec<String>,
}

impl RegistryWatch {
    /// The built-in keys, and these.
    pub fn new(keys: &[String]) -> Self {
        let built_in =
            BUILT_IN.iter().map(|(key, depth, what)| Place { key: normal(key), depth: *depth, what });
        let asked = keys.iter().map(|key| Place { key: normal(key), depth: Depth::Two, what: "configured" });
        // What was asked for goes first, and a key is watched once, as far down as anybody wants.
        let mut places: Vec<Place> = Vec::new();
        for place in asked.chain(built_in) {
            match places.iter_mut().find(|known| known.key.eq_ignore_ascii_case(&place.key)) {
                Some(known) if known.depth.keys() < place.depth.keys() => known.depth = place.depth,
                Some(_) => {}
                None => places.push(place),
            }
        }
        let unusable = keys
            .iter()
            .filter_map(|key| {
                let error = Key::open(&normal(key)).err()?;
                (error.kind() != std::io::ErrorKind::NotFound).then(|| format!("{key}: {error}"))
            })
            .collect();
        Self { places, unusable }
    }
}

impl Source for RegistryWatch {
    fn name(&self) -> &'static str {
        "registry_watch"
    }

    fn provisions(&self) -> Vec<Provision> {
        let mut source =
            format!("registry_watch ({} keys; who changed them is not known)", self.places.len());
        if !self.unusable.is_empty() {
            source.push_str(&format!("; not watched: {}", self.unusable.join(", ")));
        }
        vec![Provision { event_type: EventType::RegistryChange, source, missing: None }]
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        let mut watched: Vec<Watched> = Vec::new();
        let mut sought: Option<Instant> = None;
        while !stop.asked_within(Duration::ZERO) {
            if sought.is_none_or(|at| at.elapsed() >= SEEK_EVERY) {
                self.seek(&mut watched, sought.is_none(), sender);
                sought = Some(Instant::now());
            }
            let events: Vec<&Event> = watched
                .iter()
                .filter(|one| one.is_due())
                .filter_map(|one| Some(&one.open.as_ref()?.event))
                .take(MOST_WAITED)
                .collect();
            match events.is_empty() {
                true => {
                    stop.asked_within(LOOK_EVERY);
                }
                false => {
                    // A refusal is no reason to look without a pause.
                    if wait_any(&events, LOOK_EVERY).is_err() {
                        stop.asked_within(LOOK_EVERY);
                    }
                }
            }
            for one in &mut watched {
                if one.is_due() && one.open.as_ref().is_some_and(|open| open.event.is_set()) {
                    one.look(sender);
                }
            }
        }
    }
}

impl RegistryWatch {
    /// Opens what is not open: keys that came, users who logged on. What is found at the first time was
    /// there before; later it is told.
    fn seek(&self, watched: &mut Vec<Watched>, first: bool, sender: &ObservationSender) {
        for place in &self.places {
            for key in expand(&place.key) {
                let known = watched.iter_mut().find(|one| one.key == key);
                match known {
                    Some(one) if one.open.as_ref().is_some_and(|open| open.key.is_there()) => {}
                    Some(one) => one.look(sender),
                    None => {
                        let mut one = Watched {
                            key,
                            depth: place.depth,
                            what: place.what,
                            open: None,
                            seen: Contents::default(),
                            denied: false,
                            next: Instant::now(),
                        };
                        // A user's keys that come with the logon are nobody's change.
                        let quiet = first || place.key.contains('*');
                        one.begin(if quiet { None } else { Some(sender) });
                        watched.push(one);
                    }
                }
            }
        }
    }
}

/// `HKU\*\…` for each user that is logged on.
fn expand(key: &str) -> Vec<String> {
    let Some((root, rest)) = key.split_once(r"\*\") else { return vec![key.to_owned()] };
    let users = Key::open(root).and_then(|users| users.subkeys(4_096)).unwrap_or_default();
    let users = users.iter().map(|user| shown_name(user));
    users.filter(|user| !user.ends_with("_Classes")).map(|user| format!("{root}\\{user}\\{rest}")).collect()
}

struct Open {
    key: Key,
    event: Event,
}

struct Watched {
    key: String,
    depth: Depth,
    what: &'static str,
    open: Option<Open>,
    seen: Contents,
    /// It was told that it may not be read.
    denied: bool,
    /// Not to be read before.
    next: Instant,
}

impl Watched {
    fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Opens and reads it for the first time; with a sender, what is found is told.
    fn begin(&mut self, sender: Option<&ObservationSender>) {
        match self.read() {
            Some(now) => match sender {
                Some(sender) => self.tell(now, sender),
                None => self.seen = now,
            },
            None => self.seen = Contents::default(),
        }
    }

    /// Reads it again and tells what differs.
    fn look(&mut self, sender: &ObservationSender) {
        let now = self.read();
        match now {
            Some(now) => self.tell(now, sender),
            None => {
                if self.seen.exists && !self.denied {
                    self.tell(Contents::default(), sender);
                }
            }
        }
    }

    fn tell(&mut self, now: Contents, sender: &ObservationSender) {
        let at_ns = boot_ns();
        if now.cut && !self.seen.cut {
            tracing::warn!(key = self.key, "has more below it than is watched");
            sender.lost(ObservedLoss {
                reason: GapReason::QueueFull,
                what: EventType::RegistryChange.as_str(),
                count: None,
                from_ns: at_ns,
                until_ns: at_ns,
            });
        }
        for difference in compare(&self.seen, &now) {
            sender.send(at_ns, describe(&self.key, self.what, &difference));
        }
        self.seen = now;
    }

    /// What stands there now; `None` where there is no such key, or it may not be read.
    /// The watch is armed before the reading, so that nothing falls in between.
    fn read(&mut self) -> Option<Contents> {
        let begun = Instant::now();
        let armed = match self.open.take() {
            Some(open) => {
                open.event.reset();
                match open.key.tell_change(&open.event, self.depth.keys() > 0) {
                    Ok(()) => Ok(open),
                    // It was deleted; another may stand there by now.
                    Err(_) => self.arm(),
                }
            }
            None => self.arm(),
        };
        let open = match armed {
            Ok(open) => open,
            Err(error) => {
                if error.kind() == std::io::ErrorKind::PermissionDenied && !self.denied {
                    self.denied = true;
                    tracing::warn!(key = self.key, %error, "a key can't be watched; hint: run the agent as a service");
                }
                return None;
            }
        };
        self.denied = false;
        let mut contents = Contents { exists: true, ..Contents::default() };
        if let Err(error) = gather(&open.key, &self.key, "", self.depth.keys(), &mut contents) {
            // Deleted while it was read: the next look, in some seconds, finds what is there then.
            tracing::debug!(key = self.key, %error, "a key went while it was read");
            return None;
        }
        self.open = Some(open);
        self.next = Instant::now() + begun.elapsed() * COST_SHARE;
        Some(contents)
    }

    fn arm(&self) -> std::io::Result<Open> {
        let open = Open { key: Key::open(&self.key)?, event: Event::new()? };
        open.key.tell_change(&open.event, self.depth.keys() > 0)?;
        Ok(open)
    }
}

fn gather(key: &Key, path: &str, below: &str, depth: usize, contents: &mut Contents) -> std::io::Result<()> {
    let values = key.values(MOST_VALUES, MOST_BYTES)?;
    contents.cut |= values.len() >= MOST_VALUES as usize;
    for value in values {
        if contents.values.len() >= MOST_OF_PLACE {
            contents.cut = true;
            break;
        }
        contents.values.insert((below.to_owned(), shown_name(&value.name)), kept(&value));
    }
    if depth == 0 {
        return Ok(());
    }
    let names = key.subkeys(MOST_KEYS)?;
    contents.cut |= names.len() >= MOST_KEYS as usize;
    for name in names {
        if contents.keys.len() >= MOST_OF_PLACE {
            contents.cut = true;
            break;
        }
        let name = shown_name(&name);
        let child_path = format!("{path}\\{name}");
        let child_below = if below.is_empty() { name } else { format!("{below}\\{name}") };
        // One that went meanwhile, or that may not be read, is a key without values.
        if let Ok(child) = Key::open(&child_path) {
            let _ = gather(&child, &child_path, &child_below, depth - 1, contents);
        }
        contents.keys.insert(child_below);
    }
    Ok(())
}

fn kept(value: &RawValue) -> Kept {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, &value.data).as_ref());
    Kept {
        kind: value.kind,
        length: value.length,
        digest: sum,
        shown: shown(value.kind, &value.data, value.length),
    }
}
