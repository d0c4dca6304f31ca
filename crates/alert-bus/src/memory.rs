//! Within one process: for a server without a broker, and for tests.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{AlertBus, Delivery, KEPT_MESSAGES, Message, Options, Receipt, Result, Subscription, check_size};

/// Payloads that are kept, in bytes: they are in the memory of the server.
const KEPT_BYTES: usize = 32 << 20;

/// A bus that ends with its process. Clones are the same bus.
#[derive(Debug, Clone)]
pub struct MemoryBus {
    shared: Arc<Shared>,
    options: Options,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the first of `messages`.
    first: u64,
    messages: VecDeque<Message>,
    /// Of all payloads together.
    bytes: usize,
    ids: HashSet<String>,
    groups: HashMap<String, Group>,
    claims: HashMap<String, String>,
    claimed: VecDeque<String>,
}

#[derive(Debug, Default)]
struct Group {
    next: u64,
    /// Taken and not acknowledged: since when.
    taken: BTreeMap<u64, Instant>,
}

impl MemoryBus {
    /// An empty bus.
    pub fn new(options: Options) -> Self {
        Self { shared: Arc::default(), options }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AlertBus for MemoryBus {
    fn publish(&self, messages: &[Message]) -> Result<()> {
        check_size(messages)?;
        let mut state = self.shared.lock();
        for message in messages {
            if !state.ids.insert(message.id.clone()) {
                continue;
            }
            state.messages.push_back(message.clone());
            state.bytes += message.payload.len();
            while (state.messages.len() > KEPT_MESSAGES || state.bytes > KEPT_BYTES)
                && let Some(oldest) = state.messages.pop_front()
            {
                state.first += 1;
                state.bytes -= oldest.payload.len();
                state.ids.remove(&oldest.id);
            }
        }
        self.shared.arrived.notify_all();
        Ok(())
    }

    fn subscribe(&self, group: &str, _member: &str) -> Result<Box<dyn Subscription>> {
        let mut state = self.shared.lock();
        let first = state.first;
        state.groups.entry(group.to_owned()).or_insert_with(|| Group { next: first, ..Group::default() });
        Ok(Box::new(MemorySubscription { bus: self.clone(), group: group.to_owned() }))
    }

    fn claim(&self, key: &str, owner: &str) -> Result<String> {
        let mut state = self.shared.lock();
        if let Some(owner) = state.claims.get(key) {
            return Ok(owner.clone());
        }
        state.claims.insert(key.to_owned(), owner.to_owned());
        state.claimed.push_back(key.to_owned());
        if state.claimed.len() > KEPT_MESSAGES
            && let Some(oldest) = state.claimed.pop_front()
        {
            state.claims.remove(&oldest);
        }
        Ok(owner.to_owned())
    }
}

#[derive(Debug)]
struct MemorySubscription {
    bus: MemoryBus,
    group: String,
}

impl Subscription for MemorySubscription {
    fn receive(&mut self, limit: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let until = Instant::now() + wait;
        let mut state = self.bus.shared.lock();
        loop {
            let taken = state.take(&self.group, limit, self.bus.options.redeliver_after);
            let now = Instant::now();
            if !taken.is_empty() || now >= until {
                return Ok(taken);
            }
            // Looks up now and then, because a message may come back without anything arriving.
            let pause = (until - now).min(self.bus.options.redeliver_after);
            let woken = self.bus.shared.arrived.wait_timeout(state, pause);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn acknowledge(&mut self, delivery: &Delivery) -> Result<()> {
        if let Receipt::Memory(number) = delivery.receipt
            && let Some(group) = self.bus.shared.lock().groups.get_mut(&self.group)
        {
            group.taken.remove(&number);
        }
        Ok(())
    }
}

impl State {
    fn take(&mut self, group: &str, limit: usize, redeliver_after: Duration) -> Vec<Delivery> {
        let Some(group) = self.groups.get_mut(group) else { return Vec::new() };
        let now = Instant::now();
        group.next = group.next.max(self.first);
        let end = self.first + self.messages.len() as u64;
        let late = group.taken.iter().filter(|(_, since)| now.duration_since(**since) >= redeliver_after);
        let mut numbers: Vec<u64> = late.map(|(number, _)| *number).take(limit).collect();
        while numbers.len() < limit && group.next < end {
            numbers.push(group.next);
            group.next += 1;
        }
        let mut deliveries = Vec::with_capacity(numbers.len());
        for number in numbers {
            let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
            match place.and_then(|place| self.messages.get(place)) {
                Some(message) => {
                    group.taken.insert(number, now);
                    deliveries.push(Delivery { message: message.clone(), receipt: Receipt::Memory(number) });
                }
                // It gave way to newer ones.
                None => {
                    group.taken.remove(&number);
                }
            }
        }
        deliveries
    }
}
