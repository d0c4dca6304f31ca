//! How alerts get from the server to those that act on them.
//!
//! [`AlertBus`] has three implementations: [`MemoryBus`] within one process, [`RedisBus`], [`NatsBus`]; one
//! suite of tests runs over all of them. Whatever the bus, a message comes at least once to each *group*
//! of subscribers, to one of its members at a time, until one acknowledges it; what comes twice is told
//! by its id. A bus is transport only: alerts are kept by the server's database, and its outbox gives a
//! message up only when the bus has taken it.
//!
//! All calls block; none waits longer than it says.

#![deny(missing_docs)]

mod memory;
mod nats;
mod outside;
mod redis;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

pub use self::redis::RedisBus;
pub use memory::MemoryBus;
pub use nats::NatsBus;
pub use outside::{HIGH_SEVERITY_CHANNEL, outside_message};

/// Messages that a bus keeps; older ones give way. Consumers are to be faster than that.
pub const KEPT_MESSAGES: usize = 100_000;
/// How long a claim and the id of a message are remembered.
pub const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long a call waits for an answer of the broker.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Largest payload in bytes: what NATS takes by default.
pub const PAYLOAD_LIMIT: usize = 1_000_000;

type Result<T> = std::result::Result<T, BusError>;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Tells it from others; publishing an id again changes nothing.
    pub id: String,
    /// An alert as JSON.
    pub payload: String,
}

/// A message as it was received.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// What acknowledges it.
    pub(crate) receipt: Receipt,
}

#[derive(Debug, Clone)]
pub(crate) enum Receipt {
    Memory(u64),
    Redis(String),
    Nats(String),
}

/// A bus.
pub trait AlertBus: Debug + Send + Sync {
    /// Gives messages to the bus, in order. On `Ok` it has all of them. On an error it may have some:
    /// publish all again, the ids tell the bus which it has.
    ///
    /// # Errors
    /// [`BusError`] if the broker can't be reached or says no.
    fn publish(&self, messages: &[Message]) -> Result<()>;

    /// Joins a group. A group that is new begins with the oldest message that is kept.
    ///
    /// # Errors
    /// As [`Self::publish`].
    fn subscribe(&self, group: &str, member: &str) -> Result<Box<dyn Subscription>>;

    /// Claims a key for an owner, once and for all members of all groups; gives the owner that has it.
    ///
    /// # Errors
    /// As [`Self::publish`]. Whether the key was claimed is unknown then; ask again.
    fn claim(&self, key: &str, owner: &str) -> Result<String>;

    /// What an operator should know of how this bus keeps what it took; `None` where all is well, or its own affair.
    ///
    /// # Errors
    /// As [`Self::publish`]; ask again later.
    fn durability(&self) -> Result<Option<String>> {
        Ok(None)
    }
}

/// A member of a group.
pub trait Subscription: Debug + Send {
    /// The next messages, at most `limit`; none if none came within `wait`. What another member took
    /// and did not acknowledge in the time of [`Options::redeliver_after`] comes too.
    ///
    /// # Errors
    /// [`BusError`]; the next call connects again.
    fn receive(&mut self, limit: usize, wait: Duration) -> Result<Vec<Delivery>>;

    /// Says that the message is dealt with and must not come to this group again.
    ///
    /// # Errors
    /// [`BusError`]; the message may come again.
    fn acknowledge(&mut self, delivery: &Delivery) -> Result<()>;
}

/// How a bus behaves.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A message that is not acknowledged for so long goes to another member.
    pub redeliver_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { redeliver_after: Duration::from_secs(30) }
    }
}

/// The bus can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Not a bus.
    #[error(
        "`{0}` is not a bus; allowed are `memory:`, `redis://HOST:PORT`, `rediss://HOST:PORT` (TLS) and `nats://HOST:PORT`"
    )]
    Url(String),
    /// The broker said no or said nothing.
    #[error("the alert bus {bus} failed to {doing}: {reason}")]
    Broker {
        /// Which, without secrets.
        bus: String,
        /// What was to be done.
        doing: &'static str,
        /// Why not.
        reason: String,
    },
    /// A message that no bus takes.
    #[error("message `{id}` has {size} bytes; a bus takes {PAYLOAD_LIMIT}")]
    TooLarge {
        /// Its id.
        id: String,
        /// Its size.
        size: usize,
    },
}

/// The bus of a URL: `memory:`, `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, the same with `rediss:` over
/// TLS, `nats://[USER:PASSWORD@]HOST[:PORT]`.
/// Nothing is connected yet where that can wait.
///
/// # Errors
/// [`BusError::Url`] for another URL.
pub fn connect(url: &str, options: Options) -> Result<Arc<dyn AlertBus>> {
    if url == "memory:" {
        return Ok(Arc::new(MemoryBus::new(options)));
    }
    if url.starts_with("redis://") || url.starts_with("rediss://") {
        return Ok(Arc::new(RedisBus::new(url, options)?));
    }
    if url.starts_with("nats://") {
        return Ok(Arc::new(NatsBus::new(url, options)?));
    }
    Err(BusError::Url(without_secrets(url)))
}

/// A URL for logs: what stands before `@` is left out.
pub(crate) fn without_secrets(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        _ => url.to_owned(),
    }
}

pub(crate) fn check_size(messages: &[Message]) -> Result<()> {
    let too_large = messages.iter().find(|message| message.payload.len() > PAYLOAD_LIMIT);
    match too_large {
        Some(message) => Err(BusError::TooLarge { id: message.id.clone(), size: message.payload.len() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_urls_are_refused_without_their_secrets() {
        let error =
            connect("kafka://me:secret@host", Options::default()).expect_err("no such bus").to_string();
        assert!(
            error.contains("kafka://host") && error.contains("redis://") && !error.contains("secret"),
            "{error}"
        );
    }
}
