//! What happens on a Windows host.
//!
//! [`open`] gives the process sensor, [`sources`] what runs beside it on threads of their own. Each
//! source is a module; what it decides (what differs between two looks, how a value is shown, what
//! an event of the log means) is in modules that know no operating system, and so is tested on any.
//! The system itself is asked through the crate `win32` alone; there is no `unsafe` here.
//!
//! A source that can't start says so in what it provides, with the system's reason.

#![deny(missing_docs)]

#[cfg(any(windows, test))]
mod clock_steps;
pub mod command_line;
mod dns;
pub mod etw;
pub mod event_log;
pub mod files;
pub mod network;
pub mod pipes;
pub mod registry;
pub mod services;
pub mod tasks;

#[cfg(windows)]
mod content;
#[cfg(windows)]
mod processes;
#[cfg(any(windows, test))]
mod state_file;

use std::path::PathBuf;
use std::time::Duration;

#[cfg(windows)]
pub use content::{ContentFeed, RemoteMounts, content};
#[cfg(windows)]
pub use processes::open;

/// Where the kernel's events are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Collection {
    /// Sessions of event tracing of the agent's own.
    Etw,
    /// Sysmon's channel of the event log.
    Sysmon,
    /// Both: what both see is told twice.
    #[default]
    Both,
}

impl Collection {
    /// Whether the agent has sessions of its own.
    pub fn has_etw(self) -> bool {
        self != Self::Sysmon
    }

    /// Whether Sysmon's channel is read.
    pub fn has_sysmon(self) -> bool {
        self != Self::Etw
    }
}

/// What the sources are to watch.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// Where a source may keep what it must know after a restart; `None` keeps all in memory.
    pub state_dir: Option<PathBuf>,
    /// Directories whose files are watched for changes (`-dirs`).
    pub dirs: Vec<PathBuf>,
    /// Registry keys that are watched besides the built-in ones (`-regs`).
    pub registry_keys: Vec<String>,
    /// How often files are compared with what is known of them (`-interval`).
    pub scan_interval: Duration,
    /// Where the kernel's events are taken from (`-collect`).
    pub collection: Collection,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            state_dir: None,
            dirs: Vec::new(),
            registry_keys: Vec::new(),
            // As the seed's configuration has it.
            scan_interval: Duration::from_secs(30),
            collection: Collection::default(),
        }
    }
}

/// The sources beside the process sensor.
#[cfg(windows)]
pub fn sources(options: &SourceOptions) -> Vec<Box<dyn sensor_api::Source>> {
    let has_etw = options.collection.has_etw();
    let connections = network::Shared::default();
    let traced = network::ConnectionTrace::begin(has_etw, connections.clone());
    let table = network::ConnectionTable::new(connections, traced.missing());
    let mut sources: Vec<Box<dyn sensor_api::Source>> = vec![
        Box::new(registry::RegistryWatch::new(&options.registry_keys, has_etw)),
        Box::new(traced),
        Box::new(table),
        Box::new(event_log::EventLogs::begin(options.state_dir.as_deref(), options.collection.has_sysmon())),
        Box::new(etw::EventTracing::begin(has_etw)),
        Box::new(pipes::PipeList::default()),
        Box::new(services::ServiceWatch::default()),
        Box::new(tasks::TaskWatch::default()),
    ];
    if !options.dirs.is_empty() {
        sources.push(Box::new(files::FileWatch::new(options)));
    }
    sources
}
