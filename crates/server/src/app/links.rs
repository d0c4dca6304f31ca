//! Which agents are connected.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event_model::{HostId, Timestamp};
use tokio::sync::{Notify, watch};

use super::{before, now};

/// A host that said nothing for so long is offline. Agents send a heartbeat each ten seconds.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// Who is at the other end of a connection, by its verified certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The host that the certificate speaks for.
    pub host: HostId,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
}

/// Why a link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The host was revoked.
    Revoked,
    /// The same host connected again.
    Replaced,
    /// The server stops.
    ShuttingDown,
}

/// One agent's stream.
#[derive(Debug)]
pub struct Link {
    number: u64,
    /// The host.
    pub host: HostId,
    end: watch::Sender<Option<EndReason>>,
    last_heard: AtomicI64,
    /// There is something to be sent to the agent.
    pub(crate) ordered: Notify,
    /// A batch could not be stored: what follows it on this link must not be
    /// stored either, or the high-water mark would pass it. Or another link has its place: the
    /// agent was told there what is stored, and sends the rest again.
    pub(crate) broken: AtomicBool,
}

impl Link {
    /// Something came in.
    pub(crate) fn heard(&self) {
        self.last_heard.store(now().as_nanos(), Ordering::Relaxed);
    }

    /// When something last came in.
    pub fn last_heard(&self) -> Timestamp {
        Timestamp::from_nanos(self.last_heard.load(Ordering::Relaxed))
    }

    /// Waits until the link is to end.
    pub(crate) fn ending(&self) -> watch::Receiver<Option<EndReason>> {
        self.end.subscribe()
    }
}

/// The links, one a host.
#[derive(Debug, Default)]
pub struct Links {
    next: AtomicU64,
    by_host: Mutex<HashMap<HostId, Arc<Link>>>,
}

impl Links {
    /// Opens a link; one that the host had before ends.
    pub(crate) fn open(&self, host: HostId) -> Arc<Link> {
        let link = Arc::new(Link {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            host,
            end: watch::channel(None).0,
            last_heard: AtomicI64::new(now().as_nanos()),
            ordered: Notify::new(),
            broken: AtomicBool::new(false),
        });
        let replaced = self.locked().insert(host, Arc::clone(&link));
        if let Some(replaced) = replaced {
            replaced.broken.store(true, Ordering::Release);
            replaced.end.send_replace(Some(EndReason::Replaced));
        }
        link
    }

    /// Forgets a link that ended; false if another has taken its place.
    pub(crate) fn close(&self, link: &Link) -> bool {
        let mut links = self.locked();
        let is_current = links.get(&link.host).is_some_and(|current| current.number == link.number);
        if is_current {
            links.remove(&link.host);
        }
        is_current
    }

    /// Ends a host's link.
    pub(crate) fn end(&self, host: HostId, reason: EndReason) {
        if let Some(link) = self.locked().get(&host) {
            link.end.send_replace(Some(reason));
        }
    }

    /// Tells a host's link that there is something to be sent.
    pub(crate) fn wake(&self, host: HostId) {
        if let Some(link) = self.locked().get(&host) {
            link.ordered.notify_one();
        }
    }

    /// Ends every link.
    pub(crate) fn end_all(&self, reason: EndReason) {
        for link in self.locked().values() {
            link.end.send_replace(Some(reason));
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.locked().len() as u64
    }

    /// When each connected host was last heard of.
    pub(crate) fn last_heard(&self) -> Vec<(HostId, Timestamp)> {
        self.locked().iter().map(|(host, link)| (*host, link.last_heard())).collect()
    }

    /// Whether the host is online, and when it was last heard of on its link.
    pub(crate) fn status(&self, host: HostId) -> (bool, Option<Timestamp>) {
        match self.locked().get(&host) {
            Some(link) => {
                let heard = link.last_heard();
                (heard >= before(now(), SILENCE), Some(heard))
            }
            None => (false, None),
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<HostId, Arc<Link>>> {
        self.by_host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
