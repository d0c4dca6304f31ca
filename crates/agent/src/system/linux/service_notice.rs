//! Tells the service manager that the agent runs and is well, as sd_notify(3) does.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A start that waits for the server says so this often.
const START_SAID_EVERY: Duration = Duration::from_secs(30);

/// The way to the service manager.
#[derive(Debug)]
pub(crate) struct ServiceNotice {
    socket: UnixDatagram,
    manager: SocketAddr,
    /// How often it wants to hear that the agent is well.
    watchdog: Option<Duration>,
}

impl ServiceNotice {
    /// From the environment; `None` where nobody wants to hear anything.
    pub(crate) fn from_environment() -> Option<Self> {
        let path = std::env::var_os("NOTIFY_SOCKET")?;
        let manager = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(&path),
        };
        let manager =
            manager.inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET can't be used")).ok()?;
        let watchdog = std::env::var("WATCHDOG_USEC").ok().and_then(|micros| micros.parse().ok());
        Some(Self {
            socket: UnixDatagram::unbound().ok()?,
            manager,
            watchdog: watchdog.map(Duration::from_micros),
        })
    }

    /// Says something.
    pub(crate) fn say(&self, what: &str) {
        if let Err(error) = self.socket.send_to_addr(what.as_bytes(), &self.manager) {
            tracing::debug!(%error, what, "the service manager does not listen");
        }
    }

    /// Says that the start takes longer, for as long as it does. Never ends.
    pub(crate) async fn keep_starting(&self) {
        loop {
            self.say(&format!("EXTEND_TIMEOUT_USEC={}", (START_SAID_EVERY * 3).as_micros()));
            tokio::time::sleep(START_SAID_EVERY).await;
        }
    }

    /// Says that the agent is well for as long as its rounds go on.
    pub(crate) async fn keep_saying(&self, rounds: Arc<AtomicU64>) {
        self.say("READY=1");
        let Some(watchdog) = self.watchdog else { return std::future::pending().await };
        let mut seen = rounds.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(watchdog / 3).await;
            let now = rounds.load(Ordering::Relaxed);
            // A pipeline that stands still is to be noticed.
            if now != seen {
                self.say("WATCHDOG=1");
            }
            seen = now;
        }
    }
}
