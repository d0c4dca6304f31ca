//! Sources that are not the kernel's ordered stream: logs, watched files, sockets.
//! Each runs on a thread of its own and puts what it sees into the queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event_model::{EventType, GapReason};

use crate::stop::{StopHandle, StopSignal, stop_signal};
use crate::{ObservationSender, ObservedLoss, boot_ns};

/// A source of observations with a thread of its own.
pub trait Source: Send {
    /// Its name in events and messages, for example `journal`.
    fn name(&self) -> &'static str;

    /// The types of events that it makes, or why it can't make them here.
    fn provisions(&self) -> Vec<Provision>;

    /// Watches until `stop` is readable, and then returns soon. It must wait with
    /// poll(2) or the like on [`StopSignal`] too (on Windows: look at it several times a second), and never block on anything that
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

/// All sources together may take so long to end.
const END_WITHIN: Duration = Duration::from_secs(3);
/// How often it is looked whether one has ended.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Running sources.
#[derive(Debug)]
pub struct SourceThreads {
    stop: StopHandle,
    threads: Vec<(&'static str, JoinHandle<()>)>,
}

impl SourceThreads {
    /// Starts each source on a thread that bears its name. A source that panics is told
    /// at once, as a loss of unknown count of each type that it provides.
    ///
    /// # Errors
    /// If a pipe or a thread can't be made.
    pub fn start(sources: Vec<Box<dyn Source>>, sender: &ObservationSender) -> std::io::Result<Self> {
        let (stop, signal) = stop_signal()?;
        let mut threads = Vec::with_capacity(sources.len());
        for mut source in sources {
            let (sender, signal) = (sender.clone(), signal.clone());
            let name = source.name();
            let provided = source.provisions().into_iter().filter(|one| one.missing.is_none());
            let event_types: Vec<EventType> = provided.map(|one| one.event_type).collect();
            let thread = std::thread::Builder::new().name(name.to_owned());
            let run = move || {
                // Nothing of the source is used after a panic.
                let run = AssertUnwindSafe(|| source.run(&sender, &signal));
                if catch_unwind(run).is_err() {
                    tell_panic(name, &event_types, &sender);
                }
            };
            threads.push((name, thread.spawn(run)?));
        }
        Ok(Self { stop, threads })
    }

    /// Asks all to stop and waits for them, three seconds in all. Gives the names of
    /// those that did not end; their threads are left to themselves.
    #[allow(clippy::disallowed_methods, reason = "joining has no deadline; the looks are counted by one")]
    pub fn stop(self) -> Vec<&'static str> {
        drop(self.stop);
        let deadline = Instant::now() + END_WITHIN;
        let mut threads = self.threads;
        loop {
            threads.retain(|(_, thread)| !thread.is_finished());
            if threads.is_empty() || Instant::now() >= deadline {
                return threads.into_iter().map(|(name, _)| name).collect();
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn tell_panic(name: &str, event_types: &[EventType], sender: &ObservationSender) {
    tracing::error!(source = name, "a source panicked and sees nothing any more; hint: restart the agent");
    let now_ns = boot_ns();
    for event_type in event_types {
        let (reason, what) = (GapReason::AgentDown, event_type.as_str());
        sender.lost(ObservedLoss { reason, what, count: None, from_ns: now_ns, until_ns: now_ns });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Observation, observation_queue};

    struct Bad;

    impl Source for Bad {
        fn name(&self) -> &'static str {
            "bad"
        }

        fn provisions(&self) -> Vec<Provision> {
            let event_type = EventType::ScriptContent;
            vec![Provision { event_type, source: "bad".to_owned(), missing: None }]
        }

        fn run(&mut self, _: &ObservationSender, _: &StopSignal) {
            panic!("as a test wants it");
        }
    }

    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Source for Stuck {
        fn name(&self) -> &'static str {
            "stuck"
        }

        fn provisions(&self) -> Vec<Provision> {
            Vec::new()
        }

        fn run(&mut self, _: &ObservationSender, _: &StopSignal) {
            let _ = self.0.recv_timeout(Duration::from_secs(60));
        }
    }

    #[test]
    fn a_panic_is_told_as_a_loss_and_what_is_stuck_is_named() {
        let (sender, queue) = observation_queue(10);
        let (release, held) = std::sync::mpsc::channel();
        let threads = SourceThreads::start(vec![Box::new(Bad), Box::new(Stuck(held))], &sender).unwrap();
        assert_eq!(threads.stop(), ["stuck"]);
        let mut seen = Vec::new();
        queue.take(10, &mut |observed| seen.push(observed.what));
        let [Observation::Lost(loss)] = seen.as_slice() else { panic!("{seen:?}") };
        let told = (loss.reason, loss.what, loss.count);
        assert_eq!(told, (GapReason::AgentDown, EventType::ScriptContent.as_str(), None));
        drop(release);
    }
}
