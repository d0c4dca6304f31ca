//! The content of scripts. Nothing reads it on Windows but the event log's script blocks.

use event_model::EventType;
use sensor_api::{ObservationSender, Observed, ObservedLoss, Provision, Source, StopSignal};

/// Where what is observed goes whose content is to be read: nowhere.
#[derive(Debug, Clone, Default)]
pub struct ContentFeed;

impl ContentFeed {
    /// Looks at nothing.
    pub fn offer(&self, _: &Observed) {}

    /// Nothing is lost.
    pub fn take_losses(&self) -> Vec<ObservedLoss> {
        Vec::new()
    }

    /// Nothing is lost.
    pub fn end(&self) -> Vec<ObservedLoss> {
        Vec::new()
    }
}

/// The feed, and the source that says what there is of scripts.
///
/// # Errors
/// None.
pub fn content() -> std::io::Result<(ContentFeed, Box<dyn Source>)> {
    Ok((ContentFeed, Box::new(NoContent)))
}

struct NoContent;

impl Source for NoContent {
    fn name(&self) -> &'static str {
        "content"
    }

    fn provisions(&self) -> Vec<Provision> {
        let missing = "scripts are not read on Windows; PowerShell's script blocks come from its event log, where that is on";
        let (source, missing) = ("content".to_owned(), Some(missing.to_owned()));
        vec![Provision { event_type: EventType::ScriptContent, source, missing }]
    }

    fn run(&mut self, _: &ObservationSender, _: &StopSignal) {}
}

/// Which paths lead to another host.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoteMounts;

impl RemoteMounts {
    /// Needs nothing to be read.
    pub fn read() -> Self {
        Self
    }

    /// The same for all processes.
    pub fn of_process(_: u32) -> Self {
        Self
    }

    /// A volume's number does not tell where it is.
    pub fn hold_device(&self, _: u64) -> bool {
        false
    }

    /// Whether the path leads to another host.
    pub fn hold(&self, path: &[u8]) -> bool {
        win32::file::may_not_answer(String::from_utf8_lossy(path).as_ref().as_ref())
    }
}
