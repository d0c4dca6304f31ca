//! What asks an agent to stop: the console's keys, its closing, the end of the session or host.

use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown};
use tokio::sync::mpsc;
use win32::service::Asked;

/// The numbers that these have on other systems: an interrupt, and a request to end.
const INTERRUPT: u8 = 2;
const TERMINATE: u8 = 15;

/// What the service manager asks, where this process is a service.
static OF_SERVICE: Mutex<Option<std::sync::mpsc::Receiver<Asked>>> = Mutex::new(None);

/// From now on what the service manager asks is heard, too.
pub(crate) fn heed(requests: std::sync::mpsc::Receiver<Asked>) {
    *OF_SERVICE.lock().unwrap_or_else(PoisonError::into_inner) = Some(requests);
}

/// A request that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: u8,
    /// Windows does not say who asks.
    pub by: Option<Sender>,
}

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// PID.
    pub pid: u32,
    /// User id.
    pub uid: u32,
}

impl Received {
    /// Whether it asks the agent to stop. Every one does.
    pub fn asks_to_stop(&self) -> bool {
        true
    }

    /// Whether it comes from where such requests are expected to come from.
    pub fn is_expected(&self) -> bool {
        true
    }
}

/// Nothing is to be blocked.
///
/// # Errors
/// None.
pub fn block() -> io::Result<()> {
    Ok(())
}

/// Hands out requests as they come. To be called within the runtime.
///
/// # Errors
/// If the system refuses a handler.
pub fn listen() -> io::Result<mpsc::UnboundedReceiver<Received>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let of_service = OF_SERVICE.lock().unwrap_or_else(PoisonError::into_inner).take();
    match of_service {
        Some(requests) => listen_to_service_manager(requests, sender)?,
        None => listen_to_console(sender)?,
    }
    Ok(receiver)
}

/// And to nothing else: a service is told of the end of every user's session, as if it were its own.
fn listen_to_service_manager(
    requests: std::sync::mpsc::Receiver<Asked>,
    sender: mpsc::UnboundedSender<Received>,
) -> io::Result<()> {
    // It ends with the process: the service manager asks once.
    let thread = std::thread::Builder::new().name("service".into()).spawn(move || {
        for _ in requests {
            let _ = sender.send(Received { signal: TERMINATE, by: None });
        }
    });
    thread.map(drop)
}

fn listen_to_console(sender: mpsc::UnboundedSender<Received>) -> io::Result<()> {
    let (mut key, mut pause) = (ctrl_c()?, ctrl_break()?);
    let (mut close, mut logoff, mut shutdown) = (ctrl_close()?, ctrl_logoff()?, ctrl_shutdown()?);
    tokio::spawn(async move {
        loop {
            let (came, signal) = tokio::select! {
                came = key.recv() => (came, INTERRUPT),
                came = pause.recv() => (came, INTERRUPT),
                came = close.recv() => (came, TERMINATE),
                came = logoff.recv() => (came, TERMINATE),
                came = shutdown.recv() => (came, TERMINATE),
            };
            if came.is_none() || sender.send(Received { signal, by: None }).is_err() {
                return;
            }
        }
    });
    Ok(())
}
