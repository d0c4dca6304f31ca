//! The way from sources with threads of their own (logs, watched files, DNS) to
//! the agent's pipeline: bounded, never blocking the source, and with an exact
//! account of what found no room.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_model::{EventClass, EventType, GapReason, Value};

use crate::{Observation, Observed, ObservedActivity, ObservedLoss};

/// Bytes of text that may wait. A content of a script alone can have 64 KiB.
const MOST_TEXT: usize = 32 << 20;

/// The end into which sources put what they saw. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ObservationSender {
    shared: Arc<Shared>,
}

/// The end from which the pipeline takes it.
#[derive(Debug)]
pub struct ObservationQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bound: usize,
    /// Bits of the classes that are not wanted.
    shed: AtomicU8,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Observed>,
    /// Bytes of text in what waits.
    text: usize,
    dropped: Vec<Dropped>,
}

#[derive(Debug)]
struct Dropped {
    reason: GapReason,
    event_type: EventType,
    count: u64,
    from_ns: u64,
    until_ns: u64,
}

/// A queue for at most `bound` observations, with at most 32 MiB of text in them.
pub fn observation_queue(bound: usize) -> (ObservationSender, ObservationQueue) {
    let shared = Arc::new(Shared { bound, shed: AtomicU8::new(0), inner: Mutex::default() });
    (ObservationSender { shared: Arc::clone(&shared) }, ObservationQueue { shared })
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObservationSender {
    /// Puts it in, or counts it as lost where there is no room or its class is not
    /// wanted. False if it was lost.
    pub fn send(&self, at_ns: u64, activity: ObservedActivity) -> bool {
        let class = activity.class();
        let unwanted = self.shared.shed.load(Ordering::Relaxed) & bit(class) != 0;
        let text = text_of(&activity);
        let mut inner = self.shared.lock();
        let has_room = inner.waiting.len() < self.shared.bound && inner.text + text <= MOST_TEXT;
        if !unwanted && has_room {
            inner.text += text;
            let what = Observation::Activity(Box::new(activity));
            inner.waiting.push_back(Observed { at_ns, position: None, what });
            return true;
        }
        let reason = if unwanted { GapReason::Budget } else { GapReason::QueueFull };
        let (event_type, count) = (activity.event_type, activity.acts());
        let known = inner.dropped.iter_mut().find(|one| (one.reason, one.event_type) == (reason, event_type));
        match known {
            Some(dropped) => {
                dropped.count = dropped.count.saturating_add(count);
                dropped.until_ns = dropped.until_ns.max(at_ns);
            }
            None => {
                let (from_ns, until_ns) = (at_ns, at_ns);
                inner.dropped.push(Dropped { reason, event_type, count, from_ns, until_ns });
            }
        }
        false
    }

    /// Whether there is room for so many more, as things stand. A source that can wait asks, and keeps what there is no
    /// room for; others may take the room meanwhile.
    pub fn has_room(&self, count: usize) -> bool {
        let inner = self.shared.lock();
        inner.waiting.len().saturating_add(count) <= self.shared.bound && inner.text < MOST_TEXT / 2
    }

    /// Tells of something that the source itself lost.
    pub fn lost(&self, loss: ObservedLoss) {
        // A loss always finds room: there are few of them, and each stands for many.
        let what = Observation::Lost(loss);
        self.shared.lock().waiting.push_back(Observed { at_ns: loss.until_ns, position: None, what });
    }
}

/// Bytes of text in its fields.
fn text_of(activity: &ObservedActivity) -> usize {
    let lengths = activity.fields.iter().map(|(_, value)| match value {
        Value::Text(text) => text.len(),
        Value::TextList(texts) => texts.iter().map(String::len).sum(),
        Value::Integer(_) | Value::Boolean(_) | Value::Time(_) => 0,
    });
    lengths.sum()
}

/// The bit of a class.
fn bit(class: EventClass) -> u8 {
    1 << class as u8
}

impl ObservationQueue {
    /// From now on these classes are left out where they come from, and counted.
    /// [`EventClass::Protected`] always comes through.
    pub fn shed(&self, classes: &[EventClass]) {
        let wanted = classes.iter().filter(|class| **class != EventClass::Protected);
        let bits = wanted.fold(0, |bits, class| bits | bit(*class));
        self.shared.shed.store(bits, Ordering::Relaxed);
    }

    /// Takes out at most `most` observations in the order in which they were put in, then what was lost.
    pub fn take(&self, most: usize, sink: &mut dyn FnMut(Observed)) {
        let (taken, dropped) = {
            let mut inner = self.shared.lock();
            let count = inner.waiting.len().min(most);
            let taken: Vec<Observed> = inner.waiting.drain(..count).collect();
            let texts = taken.iter().map(|observed| match &observed.what {
                Observation::Activity(activity) => text_of(activity),
                _ => 0,
            });
            inner.text -= texts.sum::<usize>();
            (taken, std::mem::take(&mut inner.dropped))
        };
        taken.into_iter().for_each(&mut *sink);
        for Dropped { reason, event_type, count, from_ns, until_ns } in dropped {
            sink(Observed {
                at_ns: until_ns,
                position: None,
                what: Observation::Lost(ObservedLoss {
                    reason,
                    what: event_type.as_str(),
                    count: Some(count),
                    from_ns,
                    until_ns,
                }),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(event_type: EventType) -> ObservedActivity {
        ObservedActivity { event_type, actor: None, target: None, fields: Vec::new() }
    }

    #[test]
    fn what_finds_no_room_is_counted_by_type() {
        let (sender, queue) = observation_queue(2);
        assert!(sender.send(1, activity(EventType::DnsQuery)));
        assert!(sender.send(2, activity(EventType::Mount)));
        assert!(!sender.send(3, activity(EventType::DnsQuery)));
        assert!(!sender.send(5, activity(EventType::DnsQuery)));
        assert!(!sender.send(4, activity(EventType::Mount)));
        let mut taken = Vec::new();
        queue.take(100, &mut |observed| taken.push(observed));
        let lost: Vec<_> = taken
            .iter()
            .filter_map(|observed| match &observed.what {
                Observation::Lost(loss) => Some((loss.what, loss.count, loss.from_ns, loss.until_ns)),
                _ => None,
            })
            .collect();
        assert_eq!(taken.len(), 4);
        assert_eq!(lost, [("dns_query", Some(2), 3, 5), ("mount", Some(1), 4, 4)]);
        assert!(sender.send(6, activity(EventType::Mount)), "there is room again");
        taken.clear();
        queue.take(100, &mut |observed| taken.push(observed));
        assert_eq!(taken.len(), 1, "a loss is told once");
    }

    #[test]
    fn texts_take_room_until_they_are_taken_out() {
        let (sender, queue) = observation_queue(1_000);
        let large = || {
            let mut activity = activity(EventType::ScriptContent);
            activity.fields.push((event_model::Field::FilePath, Value::Text("x".repeat(1 << 20))));
            activity
        };
        let sent = (0..40).filter(|at| sender.send(*at, large())).count();
        assert_eq!(sent, MOST_TEXT >> 20);
        let mut lost = None;
        queue.take(1_000, &mut |observed| {
            if let Observation::Lost(loss) = observed.what {
                lost = loss.count;
            }
        });
        assert_eq!(lost, Some(40 - (MOST_TEXT as u64 >> 20)));
        assert!(sender.send(50, large()), "there is room again");
    }

    #[test]
    fn what_is_done_to_watched_files_is_wanted_whatever_is_shed() {
        use event_model::Field;
        let (sender, queue) = observation_queue(10);
        queue.shed(&[EventClass::Network, EventClass::File, EventClass::Bulk]);
        let done = |event_type, fields: &[(Field, &str)]| {
            let mut activity = activity(event_type);
            activity.fields =
                fields.iter().map(|(field, text)| (*field, Value::Text((*text).to_owned()))).collect();
            sender.send(1, activity)
        };
        let (object, operation) = (Field::FileObject, Field::FileOperation);
        assert!(done(EventType::FileModify, &[(Field::EventProvider, "integrity")]));
        assert!(done(EventType::FileModify, &[(object, "shell_history"), (operation, "truncate")]));
        assert!(done(EventType::FileDelete, &[(object, "agent"), (operation, "delete")]));
        assert!(done(EventType::FileAttribute, &[(object, "log"), (operation, "truncate")]));
        assert!(!done(EventType::FileModify, &[(object, "log"), (operation, "modify")]), "what logs are for");
        assert!(!done(EventType::FileDelete, &[(operation, "delete")]));
        assert!(!done(EventType::NetworkConnect, &[(Field::EventProvider, "integrity")]));
    }

    #[test]
    fn a_source_that_can_wait_knows_when_there_is_room() {
        let (sender, queue) = observation_queue(2);
        assert!(sender.has_room(2) && !sender.has_room(3));
        assert!(sender.send(1, activity(EventType::Mount)));
        assert!(sender.has_room(1) && !sender.has_room(2));
        queue.take(100, &mut |_| ());
        assert!(sender.has_room(2));
    }

    #[test]
    fn what_is_not_wanted_is_counted_where_it_comes_from() {
        let (sender, queue) = observation_queue(10);
        queue.shed(&[EventClass::Network, EventClass::Protected]);
        assert!(!sender.send(1, activity(EventType::DnsQuery)));
        let mut many = activity(EventType::DnsQuery);
        many.fields.push((event_model::Field::EventCount, Value::Integer(6)));
        assert!(!sender.send(2, many));
        assert!(sender.send(3, activity(EventType::Mount)), "protected");
        queue.shed(&[]);
        assert!(sender.send(4, activity(EventType::DnsQuery)));
        let mut taken = Vec::new();
        queue.take(100, &mut |observed| taken.push(observed));
        let lost: Vec<_> = taken
            .iter()
            .filter_map(|observed| match &observed.what {
                Observation::Lost(loss) => Some((loss.reason, loss.what, loss.count)),
                _ => None,
            })
            .collect();
        assert_eq!((taken.len(), lost), (3, vec![(GapReason::Budget, "dns_query", Some(7))]));
    }
}
