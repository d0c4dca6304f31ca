//! Like acts become one record: the same type, by and to the same process, with the
//! same fields. The first one is numbered and judged as always and then held until
//! its batch closes; those that follow only count.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};

use event_model::{Activity, EventHeader, Field, Process, Value, Who};
use sensor_api::{Actor, ObservedActivity};

/// An act that is held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) header: EventHeader,
    pub(super) body: Box<Activity>,
    /// As it was observed, to compare others with.
    observed: ObservedActivity,
    pub(super) acts: u64,
    /// Others were merged into it.
    pub(super) merged: bool,
    /// Time of the last act.
    pub(super) until_ns: u64,
}

/// The acts that are held.
#[derive(Debug, Default)]
pub(super) struct Merger {
    held: Vec<Held>,
    /// What they weigh.
    bytes: usize,
    by_hash: HashMap<u64, usize>,
    /// Keyed, so that nobody outside can make everything look alike.
    keys: RandomState,
}

impl Merger {
    /// Counts the act to a like one; false if none is held.
    pub(super) fn absorb(&mut self, at_ns: u64, activity: &ObservedActivity) -> bool {
        let place = self.by_hash.get(&self.hash(activity)).copied();
        let like =
            place.and_then(|place| self.held.get_mut(place)).filter(|held| is_like(&held.observed, activity));
        let Some(held) = like else { return false };
        held.acts = held.acts.saturating_add(activity.acts());
        held.until_ns = held.until_ns.max(at_ns);
        held.merged = true;
        true
    }

    /// Holds an act.
    pub(super) fn hold(&mut self, header: EventHeader, body: Box<Activity>, observed: ObservedActivity) {
        self.by_hash.insert(self.hash(&observed), self.held.len());
        self.bytes += weight(&body);
        let (acts, until_ns) = (observed.acts(), header.monotonic_ns);
        self.held.push(Held { header, body, observed, acts, merged: false, until_ns });
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// About how many bytes they make as records.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets go of all.
    pub(super) fn take(&mut self) -> Vec<Held> {
        self.by_hash.clear();
        self.bytes = 0;
        std::mem::take(&mut self.held)
    }

    fn hash(&self, activity: &ObservedActivity) -> u64 {
        let mut hasher = self.keys.build_hasher();
        activity.event_type.hash(&mut hasher);
        for actor in [activity.actor, activity.target] {
            match actor {
                None => 0_u8.hash(&mut hasher),
                Some(Actor::Pid(pid)) => (1_u8, pid).hash(&mut hasher),
                Some(Actor::Life(key)) => (2_u8, key).hash(&mut hasher),
            }
        }
        for (field, value) in told(activity) {
            field.hash(&mut hasher);
            match value {
                Value::Text(text) => text.hash(&mut hasher),
                Value::Integer(number) => number.hash(&mut hasher),
                Value::Boolean(truth) => truth.hash(&mut hasher),
                Value::TextList(list) => list.hash(&mut hasher),
                Value::Time(time) => time.as_nanos().hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

/// About how many bytes of a record an act makes: it is told with the command lines of three processes, of up to 64 KiB
/// each.
fn weight(act: &Activity) -> usize {
    let of_process = |process: &Process| process.image.executable.len() + process.image.command_line.len();
    let of_who = |who: &Who| of_process(&who.process) + who.parent.as_ref().map_or(0, of_process);
    let of_value = |value: &Value| match value {
        Value::Text(text) => text.len(),
        Value::TextList(list) => list.iter().map(String::len).sum(),
        Value::Integer(_) | Value::Boolean(_) | Value::Time(_) => 8,
    };
    let fields: usize = act.fields.iter().map(|(_, value)| 4 + of_value(value)).sum();
    let of_target = act.target.as_ref().map_or(0, |target| of_process(&target.process));
    256 + fields + act.who.as_ref().map_or(0, of_who) + of_target
}

/// What an act tells, besides how many it stands for.
fn told(activity: &ObservedActivity) -> impl Iterator<Item = &(Field, Value)> {
    activity.fields.iter().filter(|(field, _)| !matches!(field, Field::EventCount | Field::EventUntil))
}

fn is_like(one: &ObservedActivity, other: &ObservedActivity) -> bool {
    one.event_type == other.event_type
        && one.actor == other.actor
        && one.target == other.target
        && told(one).eq(told(other))
}
