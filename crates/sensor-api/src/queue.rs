//! The way from sources with threads of their own (logs, watched files, DNS) to
//! the agent's pipeline: bounded, never blocking the source, and with an exact
//! account of what found no room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_model::{EventType, GapReason};

use crate::{Observation, Observed, ObservedActivity, ObservedLoss};

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
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Observed>,
    dropped: Vec<Dropped>,
}

#[derive(Debug)]
struct Dropped {
    event_type: EventType,
    count: u64,
    from_ns: u64,
    until_ns: u64,
}

/// A queue for at most `bound` observations.
pub fn observation_queue(bound: usize) -> (ObservationSender, ObservationQueue) {
    let shared = Arc::new(Shared { bound, inner: Mutex::default() });
    (ObservationSender { shared: Arc::clone(&shared) }, ObservationQueue { shared })
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObservationSender {
    /// Puts it in, or counts it as lost where there is no room. False if it was lost.
    pub fn send(&self, at_ns: u64, activity: ObservedActivity) -> bool {
        let mut inner = self.shared.lock();
        if inner.waiting.len() < self.shared.bound {
            let what = Observation::Activity(Box::new(activity));
            inner.waiting.push_back(Observed { at_ns, position: None, what });
            return true;
        }
        let event_type = activity.event_type;
        match inner.dropped.iter_mut().find(|dropped| dropped.event_type == event_type) {
            Some(dropped) => {
                dropped.count += 1;
                dropped.until_ns = dropped.until_ns.max(at_ns);
            }
            None => {
                inner.dropped.push(Dropped { event_type, count: 1, from_ns: at_ns, until_ns: at_ns });
            }
        }
        false
    }

    /// Tells of something that the source itself lost.
    pub fn lost(&self, loss: ObservedLoss) {
        // A loss always finds room: there are few of them, and each stands for many.
        let what = Observation::Lost(loss);
        self.shared.lock().waiting.push_back(Observed { at_ns: loss.until_ns, position: None, what });
    }
}

impl ObservationQueue {
    /// Takes out at most `most` observations in the order in which they were put in, then what was lost.
    pub fn take(&self, most: usize, sink: &mut dyn FnMut(Observed)) {
        let (taken, dropped) = {
            let mut inner = self.shared.lock();
            let count = inner.waiting.len().min(most);
            let taken: Vec<Observed> = inner.waiting.drain(..count).collect();
            (taken, std::mem::take(&mut inner.dropped))
        };
        taken.into_iter().for_each(&mut *sink);
        for Dropped { event_type, count, from_ns, until_ns } in dropped {
            sink(Observed {
                at_ns: until_ns,
                position: None,
                what: Observation::Lost(ObservedLoss {
                    reason: GapReason::QueueFull,
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
}
