//! Sources that are not the kernel's ordered stream: logs, watched files, sockets.
//! Each runs on a thread of its own and puts what it sees into the queue.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use event_model::EventType;

use crate::ObservationSender;

/// A source of observations with a thread of its own.
pub trait Source: Send {
    /// Its name in events and messages, for example `journal`.
    fn name(&self) -> &'static str;

    /// The types of events that it makes, or why it can't make them here.
    fn provisions(&self) -> Vec<Provision>;

    /// Watches until `stop` is readable, and then returns soon. It must wait with
    /// poll(2) or the like on [`StopSignal`] too, and never block on anything that
    /// an outsider controls (a FIFO, a device, a dead network mount).
    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal);
}

/// Where events of one type come from on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provision {
    /// The type of the events.
    pub event_type: EventType,
    /// The source's name, with the hook or file where that tells more.
    pub source: String,
    /// Why there are none, where there are none.
    pub missing: Option<String>,
}

impl Provision {
    /// `type=source`, or `type=none: reason`, as `rampart.agent.sources` lists it.
    pub fn describe(&self) -> String {
        match &self.missing {
            None => format!("{}={}", self.event_type, self.source),
            Some(reason) => format!("{}=none: {reason} ({})", self.event_type, self.source),
        }
    }
}

/// Asks sources to stop, once it is dropped.
#[derive(Debug)]
pub struct StopHandle {
    _writer: PipeWriter,
}

/// Becomes readable (end of file) when the source is to stop.
#[derive(Debug, Clone)]
pub struct StopSignal {
    reader: Arc<PipeReader>,
}

impl AsFd for StopSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// A pair of them.
///
/// # Errors
/// If no pipe can be made.
pub fn stop_signal() -> std::io::Result<(StopHandle, StopSignal)> {
    let (reader, writer) = std::io::pipe()?;
    Ok((StopHandle { _writer: writer }, StopSignal { reader: Arc::new(reader) }))
}

/// Running sources.
#[derive(Debug)]
pub struct SourceThreads {
    stop: StopHandle,
    threads: Vec<JoinHandle<()>>,
}

impl SourceThreads {
    /// Starts each source on a thread that bears its name.
    ///
    /// # Errors
    /// If a pipe or a thread can't be made.
    pub fn start(sources: Vec<Box<dyn Source>>, sender: &ObservationSender) -> std::io::Result<Self> {
        let (stop, signal) = stop_signal()?;
        let mut threads = Vec::with_capacity(sources.len());
        for mut source in sources {
            let (sender, signal) = (sender.clone(), signal.clone());
            let thread = std::thread::Builder::new().name(source.name().to_owned());
            threads.push(thread.spawn(move || source.run(&sender, &signal))?);
        }
        Ok(Self { stop, threads })
    }

    /// Asks all to stop and waits for them.
    pub fn stop(self) {
        drop(self.stop);
        for thread in self.threads {
            if thread.join().is_err() {
                // The panic has told where; what the source saw before is in the queue.
                continue;
            }
        }
    }
}
