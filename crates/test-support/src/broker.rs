//! Real brokers: Redis and NATS, on a free port of loopback, with their data in a folder of the test.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::child::Running;
use crate::wait_for;

const START_LIMIT: Duration = Duration::from_secs(30);

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerKind {
    /// `redis-server`, each write on disk before it is answered.
    Redis,
    /// `nats-server` with JetStream.
    Nats,
}

/// A running broker.
pub struct Broker {
    kind: BrokerKind,
    running: Running,
    folder: PathBuf,
    port: u16,
}

impl BrokerKind {
    fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Nats => "nats-server",
        }
    }

    /// Whether it is installed here.
    pub fn is_installed(self) -> bool {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let usual = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")];
        std::env::split_paths(&folders).chain(usual).any(|folder| folder.join(self.program()).exists())
    }
}

impl Broker {
    /// Starts one with its data in `folder`; `None`, and says so, where it is not installed.
    pub fn start(kind: BrokerKind, folder: &Path) -> Option<Self> {
        if !kind.is_installed() {
            crate::skip(&format!(
                "{} is not installed (scripts/install-dependencies.sh test)",
                kind.program()
            ));
            return None;
        }
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        Some(Self::launch(kind, folder.to_owned(), port))
    }

    fn launch(kind: BrokerKind, folder: PathBuf, port: u16) -> Self {
        std::fs::create_dir_all(&folder).expect("a folder for the broker");
        let program = ["/usr/bin", "/usr/sbin"].map(|place| Path::new(place).join(kind.program()));
        let program = program.into_iter().find(|path| path.exists()).unwrap_or_else(|| kind.program().into());
        let mut command = Command::new(program);
        match kind {
            BrokerKind::Redis => {
                command.args([
                    "--bind",
                    "127.0.0.1",
                    "--save",
                    "",
                    "--appendonly",
                    "yes",
                    "--appendfsync",
                    "always",
                ]);
                command.arg("--port").arg(port.to_string()).arg("--dir").arg(&folder);
            }
            BrokerKind::Nats => {
                command.args(["-a", "127.0.0.1", "-js", "-p"]).arg(port.to_string()).arg("-sd").arg(&folder);
            }
        }
        let running = Running::start(kind.program(), command);
        wait_for("the broker listens", START_LIMIT, || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { kind, running, folder, port }
    }

    /// What `-bus` takes.
    pub fn url(&self) -> String {
        match self.kind {
            BrokerKind::Redis => format!("redis://127.0.0.1:{}", self.port),
            BrokerKind::Nats => format!("nats://127.0.0.1:{}", self.port),
        }
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it at once, as a crash would, and gives what starts it again.
    pub fn kill(mut self) -> StoppedBroker {
        self.running.signal(Signal::KILL);
        self.running.wait(START_LIMIT);
        StoppedBroker { kind: self.kind, folder: self.folder.clone(), port: self.port }
    }
}

/// A broker that was killed.
pub struct StoppedBroker {
    kind: BrokerKind,
    folder: PathBuf,
    port: u16,
}

impl StoppedBroker {
    /// Starts it again with its data, on the same port.
    pub fn start(self) -> Broker {
        Broker::launch(self.kind, self.folder, self.port)
    }
}
