//! The real responder.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::binary;
use crate::child::Running;

const LIMIT: Duration = Duration::from_secs(60);

/// How a responder is to be started.
#[derive(Debug, Clone, Default)]
pub struct ResponderOptions {
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its API token.
    pub token: String,
    /// Variables of its environment, for `${NAME}` in playbooks.
    pub environment: Vec<(String, String)>,
    /// Folder of its journals.
    pub state: PathBuf,
}

/// A running responder.
pub struct ResponderProcess {
    running: Running,
    options: ResponderOptions,
}

impl ResponderProcess {
    /// Starts one and waits until it takes alerts.
    pub fn start(options: ResponderOptions) -> Self {
        let mut command = Command::new(binary("edr-responder"));
        command.args(&options.arguments).arg(format!("-state={}", options.state.display()));
        command.env("EDR_TOKEN", &options.token).envs(options.environment.iter().cloned());
        let mut running = Running::start("edr-responder", command);
        running.wait_for_line("waiting for alerts", LIMIT);
        Self { running, options }
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        self.running.output()
    }

    /// Ends it as an administrator would; it must end well.
    pub fn stop(mut self) -> ResponderOptions {
        self.running.signal(Signal::TERM);
        let status = self.running.wait(LIMIT);
        assert!(status.success(), "edr-responder ended with {status}:\n{}", self.output());
        self.options.clone()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(mut self) -> ResponderOptions {
        self.running.signal(Signal::KILL);
        self.running.wait(LIMIT);
        self.options.clone()
    }
}
