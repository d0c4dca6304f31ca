//! Writes to the registry as the kernel tells them, by a session of event tracing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use win32::etw::Provider;

use super::writers::{KERNEL_REGISTRY, REGISTRY_IDS, REGISTRY_KEYWORDS, Writers};
use crate::etw::{Event, Feed, Listener, Spec, Tell, Traced};

/// A session of its own: keys are opened all the time, and what a flood of that costs is not to be paid by others.
static SPEC: Spec = Spec {
    session: "Rampart registry",
    feeds: &[Feed {
        name: "Microsoft-Windows-Kernel-Registry",
        provider: Provider { id: KERNEL_REGISTRY, keywords: REGISTRY_KEYWORDS, events: REGISTRY_IDS },
        // What is changed is seen without it: what is lost here is who did it.
        made: &[],
    }],
};

/// The writers that the session hears of.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Writers>>);

impl Shared {
    /// Shares these.
    pub(super) fn new(writers: Writers) -> Self {
        Self(Arc::new(Mutex::new(writers)))
    }

    /// For one at a time. They are whole after a panic of another.
    pub(super) fn writers(&self) -> MutexGuard<'_, Writers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins the session, where one is wanted.
pub(super) fn begin(is_wanted: bool, shared: Shared) -> Traced<Heard> {
    Traced::begin(&SPEC, Heard(shared), is_wanted)
}

/// What listens to it.
pub(super) struct Heard(Shared);

impl Listener for Heard {
    fn hear(&mut self, event: &Event, at_ns: u64, _: &mut Tell<'_>) -> bool {
        self.0.writers().hear(event, at_ns, Instant::now())
    }

    fn lost(&mut self) {
        self.0.writers().events_were_lost();
    }

    fn begins(&mut self) {
        self.0.writers().tracing_begins();
    }

    fn ends(&mut self) {
        self.0.writers().tracing_ends();
    }
}
