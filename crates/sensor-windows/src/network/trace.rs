//! Connections as the kernel tells them, by a session of event tracing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use event_model::EventType;
use sensor_api::{ObservationSender, Provision, Source, StopSignal};
use win32::etw::Provider;

use super::ledger::Ledger;
use crate::etw::{Event, Feed, KERNEL_NETWORK, Listener, NETWORK_IDS, Spec, Tell, Traced, segment};

/// Of `Microsoft-Windows-Kernel-Network`: IPv4 and IPv6.
const BOTH: u64 = 0x10 | 0x20;

/// A session of its own: each piece of a connection is an event, and what a flood of them costs is not to be paid by
/// others.
static SPEC: Spec = Spec {
    session: "Rampart network",
    feeds: &[Feed {
        name: "Microsoft-Windows-Kernel-Network",
        provider: Provider { id: KERNEL_NETWORK, keywords: BOTH, events: NETWORK_IDS },
        made: &[EventType::NetworkConnect, EventType::NetworkAccept, EventType::NetworkClose],
    }],
};

/// The ledger that this and the table of sockets share.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    /// For one at a time. It is whole after a panic of another.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The source.
pub struct ConnectionTrace(Traced<Heard>);

impl ConnectionTrace {
    /// Begins the session, where one is wanted.
    pub(crate) fn begin(is_wanted: bool, shared: Shared) -> Self {
        Self(Traced::begin(&SPEC, Heard(shared), is_wanted))
    }

    /// Why there are none of its events; `None` where there are.
    pub(crate) fn missing(&self) -> Option<String> {
        self.0.missing()
    }
}

impl Source for ConnectionTrace {
    fn name(&self) -> &'static str {
        "etw_network"
    }

    fn provisions(&self) -> Vec<Provision> {
        self.0.provisions()
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        self.0.run(sender, stop);
    }
}

struct Heard(Shared);

impl Listener for Heard {
    fn hear(&mut self, event: &Event, at_ns: u64, tell: &mut Tell<'_>) -> bool {
        let Some(segment) = segment(event, at_ns) else { return false };
        let told = self.0.ledger().hear(&segment, Instant::now());
        if let Some(activity) = told {
            tell(at_ns, activity);
        }
        true
    }

    fn begins(&mut self) {
        self.0.ledger().tracing_begins();
    }

    fn ends(&mut self) {
        self.0.ledger().tracing_ends();
    }
}
