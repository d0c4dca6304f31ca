//! What has just happened, for those who watch.

use std::sync::{Arc, Mutex, PoisonError};

use event_model::EventRecord;
use state_store::Alert;
use tokio::sync::broadcast;

use super::HostView;

/// Messages that a watcher may lag behind before it loses some (and is told so).
/// A message is a batch; with the limit below this bounds what slow watchers keep in memory.
const BACKLOG: usize = 32;
/// Events of one message; a batch that has more says so.
pub(crate) const EVENTS_OF_A_MESSAGE: usize = 2_000;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum LiveMessage {
    /// Events were stored.
    Events(Arc<LiveEvents>),
    /// An alert is new or has changed.
    Alert(Arc<Alert>),
    /// A host came, went or said something about itself.
    Host(Arc<HostView>),
}

/// Events of one host.
#[derive(Debug)]
pub struct LiveEvents {
    /// Name of the host.
    pub host_name: String,
    /// Version of its agent.
    pub agent_version: String,
    /// The events.
    pub events: Vec<EventRecord>,
    /// How many more there were.
    pub left_out: u64,
}

/// To whom it is told.
#[derive(Debug, Clone)]
pub struct Live {
    sender: Arc<Mutex<Option<broadcast::Sender<LiveMessage>>>>,
}

impl Default for Live {
    fn default() -> Self {
        Self { sender: Arc::new(Mutex::new(Some(broadcast::channel(BACKLOG).0))) }
    }
}

impl Live {
    /// Follows from now on; `None` when the server shuts down.
    pub fn follow(&self) -> Option<broadcast::Receiver<LiveMessage>> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().map(broadcast::Sender::subscribe)
    }

    /// Whether anybody watches; making messages for nobody is waste.
    pub(crate) fn is_watched(&self) -> bool {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_some_and(|sender| sender.receiver_count() > 0)
    }

    pub(crate) fn tell(&self, message: LiveMessage) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sender.as_ref() {
            // Fails only where nobody watches.
            let _ = sender.send(message);
        }
    }

    /// Ends every watcher's stream.
    pub(crate) fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
