//! What of an isolation is kept on disk, and what its time and its code ask for: the same on every system.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event_model::BootId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::journal::write_whole;
use crate::platform::{Failure, Interference, Notice};
use crate::release;

/// How long the server may take to answer, before and after.
const REACH: Duration = Duration::from_secs(2);

/// What is in force, as on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InForce {
    /// Seconds since 1970 at which it ends.
    pub(crate) until: u64,
    pub(crate) keep: Vec<SocketAddr>,
    /// Devices with rules of their own, on systems that have such.
    #[serde(default)]
    pub(crate) devices: Vec<String>,
    #[serde(default)]
    pub(crate) release_hash: Option<String>,
    /// The order that isolated the host.
    #[serde(default)]
    pub(crate) order: Option<Uuid>,
    /// In which boot the rules were set last: a reboot may take them away, and nobody is to blame.
    #[serde(default)]
    pub(crate) boot: Option<BootId>,
    /// The rules as the system listed them right after they were set.
    pub(crate) listing: String,
}

/// The isolation of this host.
pub(crate) struct Isolated {
    dir: PathBuf,
    pub(crate) in_force: Option<InForce>,
}

/// What is to be done about it now.
pub(crate) enum Due {
    /// Nothing: the host is not isolated.
    Nothing,
    /// Nothing but to tell that somebody tried a wrong code.
    WrongCode(Notice),
    /// To let the host go, which this tells of.
    Release(Notice),
    /// To hold it for so many seconds more.
    Hold(InForce, u32),
}

impl Isolated {
    pub(crate) fn load(dir: &Path) -> Self {
        let new = Self { dir: dir.to_owned(), in_force: None };
        let in_force = fs::read(new.file()).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { in_force, ..new }
    }

    fn file(&self) -> PathBuf {
        release::isolation_file(&self.dir)
    }

    pub(crate) fn keep(&mut self, in_force: InForce) -> Result<(), Failure> {
        let text = serde_json::to_vec(&in_force).map_err(|error| Failure::system("isolation", error))?;
        write_whole(&self.file(), &text).map_err(|error| Failure::system("noting the isolation", error))?;
        self.in_force = Some(in_force);
        Ok(())
    }

    /// Must be told if it fails: what stays noted is put in force again.
    pub(crate) fn forget(&mut self) -> Result<(), Failure> {
        self.in_force = None;
        match fs::remove_file(self.file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::system(format!("removing {}", self.file().display()), error))
            }
            _ => Ok(()),
        }
    }

    /// What its time, and a code that somebody left on the host, ask for.
    pub(crate) fn due(&self) -> Due {
        let code = release::take_code(&self.dir);
        let Some(in_force) = self.in_force.clone() else { return Due::Nothing };
        if let Some(code) = code {
            let hash = in_force.release_hash.as_deref();
            return match hash.is_some_and(|hash| release::is_code(&code, hash)) {
                true => {
                    let text = "the host was released on the host itself, by its code";
                    Due::Release(Notice::of(Interference::Released, in_force.order, text))
                }
                false => {
                    let text = "somebody on the host gave a wrong code to release it";
                    Due::WrongCode(Notice::of(Interference::WrongCode, in_force.order, text))
                }
            };
        }
        match in_force.until.saturating_sub(now_seconds()) {
            0 => Due::Release(Notice::plain("the isolation's time is over, the host is released")),
            left => Due::Hold(in_force, u32::try_from(left).unwrap_or(u32::MAX)),
        }
    }
}

/// What became of a release; one that failed is no release to tell of.
pub(crate) fn released(notice: Notice, done: Result<(), Failure>) -> Notice {
    match done {
        Ok(()) => notice,
        Err(failure) => Notice::plain(format!("{}; removing its rules: {failure}", notice.text)),
    }
}

/// The first of these that takes a connection.
pub(crate) fn reachable(server: &[SocketAddr]) -> Option<SocketAddr> {
    server.iter().copied().find(|address| TcpStream::connect_timeout(address, REACH).is_ok())
}

/// Whether the server, which was reached before, still is.
pub(crate) fn still_reached(before: Option<SocketAddr>, server: &[SocketAddr]) -> Result<(), Failure> {
    match (before, reachable(server)) {
        (Some(address), None) => {
            Err(Failure::NotProved(format!("the server ({address}) is not reached any more")))
        }
        _ => Ok(()),
    }
}

pub(crate) fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is kept besides the server, in words.
pub(crate) fn kept_besides(addresses: &[SocketAddr]) -> String {
    match addresses {
        [] => "nothing".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
