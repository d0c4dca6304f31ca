//! The real server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::child::Running;
use crate::{Api, binary};

/// How long a server may take to be there on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How a server is to be started.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Folder of its database and keys.
    pub folder: PathBuf,
    /// Where it listens; port 0 for a free one.
    pub address: String,
    /// Other arguments.
    pub arguments: Vec<String>,
}

/// A running server.
pub struct ServerProcess {
    running: Running,
    folder: PathBuf,
    address: String,
    arguments: Vec<String>,
}

impl ServerProcess {
    /// Starts a server on a free port with its data in `folder`.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(ServerOptions {
            folder: folder.to_owned(),
            address: "127.0.0.1:0".into(),
            arguments: Vec::new(),
        })
    }

    /// Starts a server as told and waits until it serves.
    pub fn start_with(options: ServerOptions) -> Self {
        let mut command = Command::new(binary("edr-server"));
        command.arg(format!("-addr={}", options.address));
        command.arg(format!("-db={}", options.folder.join("rampart.db").display()));
        command.args(&options.arguments);
        let mut running = Running::start("edr-server", command);
        let line = running.wait_for_line("listening on https://", START_LIMIT);
        let address = line.rsplit("https://").next().expect("split gives one").trim().to_owned();
        Self { running, folder: options.folder, address, arguments: options.arguments }
    }

    /// `HOST:PORT` where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `https://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        self.running.output()
    }

    /// The certificate of its CA.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Its database file.
    pub fn database(&self) -> PathBuf {
        self.folder.join("rampart.db")
    }

    /// A new API token of that role.
    pub fn api_token(&self, name: &str, role: &str) -> String {
        self.edr(&["api-token", "create", "--name", name, "--role", role])
    }

    /// A client with a new API token of that role.
    pub fn api(&self, role: &str) -> Api {
        let token = self.api_token(&format!("test-{role}-{}", std::process::id()), role);
        let ca = std::fs::read(self.ca_file()).expect("the server made its CA");
        Api::new(self.url(), &ca, token)
    }

    /// A new enrolment token.
    pub fn enrollment_token(&self) -> String {
        self.edr(&["token", "create"])
    }

    /// What an agent is started with to enrol here: address, authority and a new token.
    pub fn enrolling(&self) -> Vec<String> {
        vec![
            format!("-server={}", self.url()),
            format!("-cert={}", self.ca_file().display()),
            format!("-token={}", self.enrollment_token()),
        ]
    }

    /// Runs the operator's tool on the server's database; gives the last line that it prints.
    pub fn edr(&self, arguments: &[&str]) -> String {
        let output = Command::new(binary("edr"))
            .args(arguments)
            .arg("--db")
            .arg(self.database())
            .output()
            .expect("edr can be started");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "edr {arguments:?}: {errors}");
        text.lines().last().unwrap_or_default().trim().to_owned()
    }

    /// Ends it as an administrator would; it must end well.
    pub fn stop(mut self) -> ServerOptions {
        self.running.signal(Signal::TERM);
        let status = self.running.wait(Duration::from_secs(20));
        assert!(status.success(), "edr-server ended with {status}:\n{}", self.output());
        self.options()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(mut self) -> ServerOptions {
        self.running.signal(Signal::KILL);
        self.running.wait(Duration::from_secs(20));
        self.options()
    }

    /// What starts the same server again, on the same port.
    fn options(&self) -> ServerOptions {
        ServerOptions {
            folder: self.folder.clone(),
            address: self.address.clone(),
            arguments: self.arguments.clone(),
        }
    }
}
