//! The real agent.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;

use crate::binary;
use crate::child::Running;

const START_LIMIT: Duration = Duration::from_secs(60);

/// How an agent is to be started.
#[derive(Debug, Clone, Default)]
pub struct AgentOptions {
    /// Folder of its identity and spool.
    pub state: PathBuf,
    /// Other arguments.
    pub arguments: Vec<String>,
}

/// A running agent. Its kernel side is removed with it.
pub struct AgentProcess {
    running: Option<Running>,
    options: AgentOptions,
}

impl AgentProcess {
    /// Starts an agent and waits until it watches.
    pub fn start(options: AgentOptions) -> Self {
        let mut agent = Self::launch(options);
        agent.wait_until_running();
        agent
    }

    /// Starts an agent without waiting.
    pub fn launch(options: AgentOptions) -> Self {
        let mut command = Command::new(binary("edr-agent"));
        command.arg(format!("-state={}", options.state.display())).args(&options.arguments);
        Self { running: Some(Running::start("edr-agent", command)), options }
    }

    /// Waits until it watches.
    pub fn wait_until_running(&mut self) -> String {
        self.running().wait_for_line("agent is running", START_LIMIT)
    }

    /// Waits for a line of its output.
    pub fn wait_for_line(&mut self, part: &str) -> String {
        self.running().wait_for_line(part, START_LIMIT)
    }

    /// Its PID.
    pub fn pid(&mut self) -> u32 {
        self.running().pid()
    }

    /// What it printed so far.
    pub fn output(&mut self) -> String {
        self.running().output()
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.running().is_running()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.running().wait(START_LIMIT)
    }

    /// Ends it as an administrator would; it must end well.
    pub fn stop(mut self) -> AgentOptions {
        self.running().signal(Signal::TERM);
        let status = self.running().wait(Duration::from_secs(20));
        assert!(status.success(), "edr-agent ended with {status}:\n{}", self.output());
        self.options.clone()
    }

    /// Ends it at once, as a crash would; its kernel side goes on watching.
    pub fn kill(mut self) -> AgentOptions {
        self.running().signal(Signal::KILL);
        let mut running = self.running.take().expect("runs until it is taken");
        running.wait(Duration::from_secs(20));
        self.options.clone()
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("runs until it is taken")
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        // A clean end removes the pinned programs, which a kill would leave behind.
        if let Some(mut running) = self.running.take()
            && running.is_running()
        {
            running.signal(Signal::TERM);
            for _ in 0..200 {
                if !running.is_running() {
                    break;
                }
                crate::pause(Duration::from_millis(50));
            }
        }
    }
}

/// Whether this process may load BPF programs here: needs root and kernel type information.
pub fn can_load_bpf() -> bool {
    rustix::process::geteuid().is_root() && std::path::Path::new("/sys/kernel/btf/vmlinux").exists()
}
