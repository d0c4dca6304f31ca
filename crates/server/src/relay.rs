//! From the outbox to the alert bus.
//!
//! An alert and its outbox row are written in one transaction; a row is taken out only after the bus has
//! said that it has the message. A crash in between publishes it again, with the same id, which the bus
//! knows.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use alert_bus::{AlertBus, Message, PAYLOAD_LIMIT};
use serde_json::Value;
use state_store::{OutboxRow, StateStore};

use crate::app::causes;

/// How often the outbox is looked at. A look costs some 50 microseconds; this is most of what an alert
/// takes from the database to the bus.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After a failure it is tried again this soon, and then less and less often.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Rows of one publish.
const AT_ONCE: usize = 100;

/// The thread that publishes.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Dropped to stop it.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts it.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(state: Arc<dyn StateStore>, bus: Arc<dyn AlertBus>) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let work = move || run(state.as_ref(), bus.as_ref(), &stopped);
        let thread = std::thread::Builder::new().name("relay".to_owned()).spawn(work)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that publishes alerts panicked");
        }
    }
}

fn run(state: &dyn StateStore, bus: &dyn AlertBus, stopped: &Receiver<()>) {
    let mut failures = 0_u32;
    loop {
        let pause = match publish_some(state, bus) {
            Ok(0) => LOOK_EVERY,
            Ok(_) => Duration::ZERO,
            Err(reason) => {
                // Once, not at every attempt.
                if failures == 0 {
                    tracing::warn!(reason, "alerts can't be published; they wait in the outbox");
                }
                failures = failures.saturating_add(1);
                LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.saturating_pow(failures.min(8) - 1))
            }
        };
        if pause <= LOOK_EVERY && failures > 0 {
            tracing::info!(failures, "alerts are published again");
            failures = 0;
        }
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Publishes the oldest rows; gives how many.
fn publish_some(state: &dyn StateStore, bus: &dyn AlertBus) -> Result<usize, String> {
    let rows = state.outbox(AT_ONCE).map_err(|error| causes(&error))?;
    let Some(last) = rows.last() else { return Ok(0) };
    let messages: Vec<Message> = rows.iter().map(message).collect();
    bus.publish(&messages).map_err(|error| causes(&error))?;
    state.clear_outbox(last.sequence).map_err(|error| causes(&error))?;
    Ok(rows.len())
}

/// The alert's id is the message's.
fn message(row: &OutboxRow) -> Message {
    let mut alert: Value = serde_json::from_str(&row.payload).unwrap_or_default();
    let id = alert["id"].as_str().map_or_else(|| format!("outbox-{}", row.sequence), str::to_owned);
    if row.payload.len() <= PAYLOAD_LIMIT {
        return Message { id, payload: row.payload.clone() };
    }
    // Whoever needs the rest asks the server for the alert.
    if let Some(map) = alert.as_object_mut() {
        for key in ["event", "ancestry", "matched"] {
            map.remove(key);
        }
        map.insert("shortened".to_owned(), true.into());
    }
    let payload = alert.to_string();
    if payload.len() <= PAYLOAD_LIMIT {
        return Message { id, payload };
    }
    let payload = serde_json::json!({ "id": id, "shortened": true }).to_string();
    Message { id, payload }
}
