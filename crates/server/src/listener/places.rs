//! How much of the port those may hold who have shown no certificate.
//!
//! Anybody can open connections, and each costs memory and a place. So there are
//! fewer places for them than for agents, no address gets all of these, and one
//! who asks nothing loses its place.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, sleep};

/// What is granted to connections without a client certificate.
#[derive(Debug, Clone, Copy)]
pub struct StrangerLimits {
    /// All of them at once.
    pub all: usize,
    /// Those of one address (of one /64 with IPv6).
    pub of_address: usize,
    /// One that asks nothing for so long is closed.
    pub silence: Duration,
}

impl Default for StrangerLimits {
    fn default() -> Self {
        Self { all: 2_000, of_address: 256, silence: Duration::from_secs(60) }
    }
}

/// Places, limited in all and for each address.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    of_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    pub(super) fn new(all: usize, of_address: usize) -> Arc<Self> {
        Arc::new(Self { all, of_address, taken: Mutex::default() })
    }

    /// `None` if there is none left for this address.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = taken.by_address.get(&address).copied().unwrap_or_default();
        if taken.all >= self.all || of_address >= self.of_address {
            return None;
        }
        taken.all += 1;
        taken.by_address.insert(address, of_address + 1);
        Some(Place { places: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// Whether a connection is being used.
#[derive(Debug)]
pub(super) struct Use {
    requests: AtomicUsize,
    last: Mutex<Instant>,
}

impl Use {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { requests: AtomicUsize::new(0), last: Mutex::new(Instant::now()) })
    }

    /// A request, from its head to the end of its answer.
    pub(super) fn begin(self: &Arc<Self>) -> InUse {
        self.requests.fetch_add(1, Ordering::AcqRel);
        InUse(Arc::clone(self))
    }

    /// Waits until there was no request for so long.
    pub(super) async fn ended(&self, silence: Duration) {
        loop {
            let since = self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
            let is_used = self.requests.load(Ordering::Acquire) > 0;
            if !is_used && since >= silence {
                return;
            }
            sleep(if is_used { silence } else { silence - since }).await;
        }
    }
}

/// See [`Use::begin`].
#[derive(Debug)]
pub(super) struct InUse(Arc<Use>);

impl Drop for InUse {
    fn drop(&mut self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// An answer whose connection is in use until it has been sent.
pub(super) struct Answer {
    pub(super) body: Body,
    pub(super) _in_use: InUse,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_for_each_address_and_come_back() {
        let places = Places::new(3, 2);
        let (here, there) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = places.take(here).unwrap();
        let second = places.take(here).unwrap();
        assert!(places.take(here).is_none(), "the address has its two");
        let third = places.take(there).unwrap();
        assert!(places.take(there).is_none(), "there are three in all");
        drop(first);
        assert!(places.take(there).is_some());
        drop((second, third));
        assert!(places.taken.lock().unwrap().by_address.is_empty(), "nothing is kept of those who left");
    }
}
