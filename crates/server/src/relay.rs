//! From the outbox to the alert bus.
//!
//! An alert and its outbox row are written in one transaction; a row is taken out only after the bus has
//! said that it has the message. A crash in between publishes it again, with the same id, which the bus
//! knows.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use alert_bus::{AlertBus, Message, PAYLOAD_LIMIT};
use serde_json::Value;
use state_store::{OutboxRow, StateStore};

use crate::app::{Bell, causes, now};

/// How often the outbox is looked at though nothing rang: the net under what another process may post.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After a failure it is tried again this soon, and then less and less often.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Rows of one publish.
const AT_ONCE: usize = 100;

/// The thread that publishes.
#[derive(Debug)]
pub(crate) struct Relay {
    bell: Bell,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts it. It looks into the outbox whenever the bell rings.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(
        state: Arc<dyn StateStore>,
        bus: Arc<dyn AlertBus>,
        bell: Bell,
    ) -> std::io::Result<Self> {
        let heard = bell.clone();
        let work = move || run(state.as_ref(), bus.as_ref(), &heard);
        let thread = std::thread::Builder::new().name("relay".to_owned()).spawn(work)?;
        Ok(Self { bell, thread: Some(thread) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.bell.end();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that publishes alerts panicked");
        }
    }
}

fn run(state: &dyn StateStore, bus: &dyn AlertBus, bell: &Bell) {
    let mut failures = 0_u32;
    let mut is_known = tell_durability(bus);
    loop {
        let goes_on = match publish_some(state, bus) {
            Ok(published) => {
                if published > 0 && !is_known {
                    is_known = tell_durability(bus);
                }
                if failures > 0 {
                    tracing::info!(failures, "alerts are published again");
                    failures = 0;
                }
                bell.wait(if published == 0 { LOOK_EVERY } else { Duration::ZERO })
            }
            Err(reason) => {
                // Once, not at every attempt.
                if failures == 0 {
                    tracing::warn!(reason, "alerts can't be published; they wait in the outbox");
                }
                failures = failures.saturating_add(1);
                bell.rest(LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.saturating_pow(failures.min(8) - 1)))
            }
        };
        if !goes_on {
            return;
        }
    }
}

/// Warns of a bus that forgets; false if it could not be asked.
fn tell_durability(bus: &dyn AlertBus) -> bool {
    match bus.durability() {
        Ok(Some(advice)) => tracing::warn!(advice, "the alert bus may lose alerts"),
        Ok(None) => {}
        Err(_) => return false,
    }
    true
}

/// Publishes the oldest rows; gives how many.
fn publish_some(state: &dyn StateStore, bus: &dyn AlertBus) -> Result<usize, String> {
    let rows = state.outbox(AT_ONCE).map_err(|error| causes(&error))?;
    let Some(last) = rows.last() else { return Ok(0) };
    let messages: Vec<Message> = rows.iter().map(message).collect();
    bus.publish(&messages).map_err(|error| causes(&error))?;
    if tracing::enabled!(tracing::Level::DEBUG) {
        let published_at = now();
        for (row, message) in rows.iter().zip(&messages) {
            tracing::debug!(alert = message.id, stored_at = %row.created_at, %published_at, "alert published");
        }
    }
    state.clear_outbox(last.sequence).map_err(|error| causes(&error))?;
    Ok(rows.len())
}

/// The alert's id is the message's, with the number of the telling where it is told of again.
fn message(row: &OutboxRow) -> Message {
    let mut alert: Value = serde_json::from_str(&row.payload).unwrap_or_default();
    let id = alert["id"].as_str().map_or_else(|| format!("outbox-{}", row.sequence), str::to_owned);
    let id = match alert["generation"].as_u64() {
        None | Some(0) => id,
        Some(generation) => format!("{id}/{generation}"),
    };
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
    let payload = serde_json::json!({ "id": alert["id"], "shortened": true }).to_string();
    Message { id, payload }
}
