//! What can be asked for, with its parameters: the words of the API and of playbooks.

use std::fmt;
use std::net::SocketAddr;

use event_model::ProcessEntityId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::address::Network;

/// Longest time for which a block or an isolation may be asked, in seconds: 30 days.
pub const MAX_TTL_SECONDS: u32 = 30 * 24 * 3_600;

/// Files that one request for evidence may name.
pub const MAX_EVIDENCE_FILES: usize = 64;

/// One life of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessTarget {
    /// Boot, PID and start: a reused PID is another process.
    pub entity_id: ProcessEntityId,
    /// Its image, where the sender knows it. Needed on hosts whose sensor knows starts only to 10 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// Device and inode of its image, where the sender knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<(u64, u64)>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileTarget {
    /// Absolute path; no part of it may be a symbolic link.
    pub path: String,
    /// SHA-256 (64 hexadecimal digits) that the file must have at the moment of acting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Device and inode that it must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<(u64, u64)>,
}

/// Something that an earlier action put away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Id of the action that put it away.
    pub item: Uuid,
}

/// An address or a network that is to be refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressTarget {
    /// For example `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/64`.
    pub address: Network,
    /// Seconds until the kernel lifts the block by itself. One hour if not given.
    #[serde(default = "one_hour")]
    pub ttl_seconds: u32,
}

/// How a host is cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Isolation {
    /// Seconds until the kernel releases the host by itself. One day if not given.
    #[serde(default = "one_day")]
    pub ttl_seconds: u32,
    /// What stays reachable besides the server: address and port of TCP services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<SocketAddr>,
    /// Hash of the code with which a person on the host lets it go. The server sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_hash: Option<String>,
}

/// What is to be gathered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceRequest {
    /// Processes whose open files and memory maps are wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<u32>,
    /// Files to be copied; absolute paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// A process whose memory is to be copied as well, up to 256 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ProcessTarget>,
}

/// A unit of systemd, or a service of Windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceTarget {
    /// For example `miner.service`, on Windows `Miner`.
    pub unit: String,
}

fn one_hour() -> u32 {
    3_600
}

fn one_day() -> u32 {
    24 * 3_600
}

/// An action with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", content = "parameters", rename_all = "snake_case")]
pub enum Action {
    /// End one process, by force after one second.
    TerminateProcess(ProcessTarget),
    /// Freeze a process and all that it started, then end them.
    KillTree(ProcessTarget),
    /// Stop a process where it stands.
    SuspendProcess(ProcessTarget),
    /// Let a suspended process go on.
    ResumeProcess(ProcessTarget),
    /// Move a file into the sealed vault.
    QuarantineFile(FileTarget),
    /// Put a file back from the vault.
    RestoreFile(Item),
    /// Remove a file from the vault for good. This is the one action besides ending processes that nothing undoes.
    DeleteQuarantinedFile(Item),
    /// Refuse an address, and cut its connections.
    BlockAddress(AddressTarget),
    /// Lift a block.
    UnblockAddress(AddressTarget),
    /// Cut the host off from all but the server.
    IsolateHost(Isolation),
    /// Lift the isolation.
    ReleaseHost {},
    /// The processes there are now.
    ListProcesses {},
    /// The connections there are now.
    ListConnections {},
    /// Gather what an investigation needs into one archive.
    CollectEvidence(EvidenceRequest),
    /// Take a scheduled task (the file of cron, the definition of Windows) away; a backup is kept.
    DeleteScheduledTask(FileTarget),
    /// Stop a service and take its unit, on Windows its entry, away; a backup is kept.
    DeleteService(ServiceTarget),
    /// Put a service's unit or entry back and start it again if it ran.
    RestoreService(Item),
    /// Act no more, whoever asks, until allowed again.
    StopResponses {},
    /// Act again.
    AllowResponses {},
}

/// Parameters that no host could act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {what}; allowed: {allowed}")]
pub struct BadParameter {
    /// Name of the parameter.
    pub field: &'static str,
    /// What it is.
    pub what: String,
    /// What it may be.
    pub allowed: &'static str,
}

impl Action {
    /// Every word of [`word`](Self::word).
    pub const WORDS: &'static [&'static str] = &[
        "terminate_process",
        "kill_tree",
        "suspend_process",
        "resume_process",
        "quarantine_file",
        "restore_file",
        "delete_quarantined_file",
        "block_address",
        "unblock_address",
        "isolate_host",
        "release_host",
        "list_processes",
        "list_connections",
        "collect_evidence",
        "delete_scheduled_task",
        "delete_service",
        "restore_service",
        "stop_responses",
        "allow_responses",
    ];

    /// Its word, as in the API.
    pub fn word(&self) -> &'static str {
        match self {
            Self::TerminateProcess(_) => "terminate_process",
            Self::KillTree(_) => "kill_tree",
            Self::SuspendProcess(_) => "suspend_process",
            Self::ResumeProcess(_) => "resume_process",
            Self::QuarantineFile(_) => "quarantine_file",
            Self::RestoreFile(_) => "restore_file",
            Self::DeleteQuarantinedFile(_) => "delete_quarantined_file",
            Self::BlockAddress(_) => "block_address",
            Self::UnblockAddress(_) => "unblock_address",
            Self::IsolateHost(_) => "isolate_host",
            Self::ReleaseHost {} => "release_host",
            Self::ListProcesses {} => "list_processes",
            Self::ListConnections {} => "list_connections",
            Self::CollectEvidence(_) => "collect_evidence",
            Self::DeleteScheduledTask(_) => "delete_scheduled_task",
            Self::DeleteService(_) => "delete_service",
            Self::RestoreService(_) => "restore_service",
            Self::StopResponses {} => "stop_responses",
            Self::AllowResponses {} => "allow_responses",
        }
    }

    /// Whether it only looks: nothing on the host is changed by it.
    pub fn only_looks(&self) -> bool {
        matches!(self, Self::ListProcesses {} | Self::ListConnections {} | Self::CollectEvidence(_))
    }

    /// Whether it lets something go again that an action held. The switch that stops
    /// all response does not stop these: they make the host freer.
    pub fn is_release(&self) -> bool {
        matches!(
            self,
            Self::ResumeProcess(_)
                | Self::RestoreFile(_)
                | Self::UnblockAddress(_)
                | Self::ReleaseHost {}
                | Self::RestoreService(_)
                | Self::StopResponses {}
                | Self::AllowResponses {}
        )
    }

    /// The action that undoes this one, when it is done under that id.
    pub fn inverse(&self, id: Uuid) -> Option<Self> {
        Some(match self {
            Self::SuspendProcess(target) => Self::ResumeProcess(target.clone()),
            Self::QuarantineFile(_) | Self::DeleteScheduledTask(_) => Self::RestoreFile(Item { item: id }),
            Self::BlockAddress(target) => Self::UnblockAddress(target.clone()),
            Self::IsolateHost(_) => Self::ReleaseHost {},
            Self::DeleteService(_) => Self::RestoreService(Item { item: id }),
            Self::StopResponses {} => Self::AllowResponses {},
            _ => return None,
        })
    }

    /// Whether the parameters make sense on any host at all.
    ///
    /// # Errors
    /// The first parameter that does not.
    pub fn check(&self) -> Result<(), BadParameter> {
        match self {
            Self::QuarantineFile(file) | Self::DeleteScheduledTask(file) => {
                check_path("path", &file.path)?;
                file.sha256.as_deref().map_or(Ok(()), |hash| check_sha256("sha256", hash))
            }
            Self::BlockAddress(target) => check_ttl(target.ttl_seconds),
            Self::IsolateHost(isolation) => {
                check_ttl(isolation.ttl_seconds)?;
                check_count("keep", isolation.keep.len(), "at most 16 of address:port", 16)?;
                isolation.release_hash.as_deref().map_or(Ok(()), |hash| check_sha256("release_hash", hash))
            }
            Self::CollectEvidence(request) => {
                check_count("processes", request.processes.len(), "at most 64 PIDs", 64)?;
                check_count("files", request.files.len(), "at most 64 paths", MAX_EVIDENCE_FILES)?;
                request.files.iter().try_for_each(|path| check_path("files", path))
            }
            Self::DeleteService(service) => check_service(&service.unit),
            _ => Ok(()),
        }
    }
}

/// Whether an order may name this path, on one system or another.
pub fn is_path(path: &str) -> bool {
    check_path("path", path).is_ok()
}

/// The path may be one of any system: the server checks it for hosts of all kinds.
fn check_path(field: &'static str, path: &str) -> Result<(), BadParameter> {
    if is_windows_path(path) {
        return Ok(());
    }
    let parts_fit = path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
    if path.starts_with('/') && path.len() < 4_096 && parts_fit && !path.contains('\0') {
        return Ok(());
    }
    let allowed = "an absolute path (`/…`, on Windows `C:\\…`) without `.`, `..` and empty parts, shorter than 4096 bytes";
    Err(BadParameter { field, what: format!("`{}`", path.escape_debug()), allowed })
}

/// A drive and names; no stream of a file, which would take a part of it only.
fn is_windows_path(path: &str) -> bool {
    let Some((drive, rest)) = path.split_once(":\\") else { return false };
    let is_drive = drive.len() == 1 && drive.bytes().all(|letter| letter.is_ascii_alphabetic());
    let is_name = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.contains(['/', ':', '*', '?', '"', '<', '>', '|', '\0'])
    };
    is_drive && path.len() < 4_096 && rest.split('\\').all(is_name)
}

fn check_sha256(field: &'static str, hash: &str) -> Result<(), BadParameter> {
    let fits = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let allowed = "64 hexadecimal digits";
    if fits {
        return Ok(());
    }
    Err(BadParameter { field, what: format!("`{}`", hash.escape_debug()), allowed })
}

fn check_ttl(seconds: u32) -> Result<(), BadParameter> {
    if (1..=MAX_TTL_SECONDS).contains(&seconds) {
        return Ok(());
    }
    let allowed = "1 to 2592000 seconds (30 days)";
    Err(BadParameter { field: "ttl_seconds", what: seconds.to_string(), allowed })
}

fn check_count(
    field: &'static str,
    count: usize,
    allowed: &'static str,
    most: usize,
) -> Result<(), BadParameter> {
    if count <= most { Ok(()) } else { Err(BadParameter { field, what: format!("{count} items"), allowed }) }
}

/// The name may be one of any system: the server checks it for hosts of all kinds.
fn check_service(unit: &str) -> Result<(), BadParameter> {
    // A unit of systemd has no blank; what has neither its end nor a slash is a service of Windows.
    let is_unit = unit.len() <= 255
        && [".service", ".timer", ".socket", ".path"].iter().any(|end| unit.ends_with(end))
        && unit.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte));
    let is_of_windows = (1..=256).contains(&unit.chars().count())
        && !unit.contains(['/', '\\', '"', '\0'])
        && !unit.chars().any(char::is_control)
        && unit.trim() == unit;
    if (is_unit || is_of_windows) && !unit.starts_with(['-', '.']) {
        return Ok(());
    }
    let allowed = "the name of a unit that ends in .service, .timer, .socket or .path, or on Windows that of a service, up to 256 letters without slashes and quotation marks";
    Err(BadParameter { field: "unit", what: format!("`{}`", unit.escape_debug()), allowed })
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Self::TerminateProcess(one)
            | Self::KillTree(one)
            | Self::SuspendProcess(one)
            | Self::ResumeProcess(one) => write!(f, " {}", one.entity_id),
            Self::QuarantineFile(file) | Self::DeleteScheduledTask(file) => {
                write!(f, " {}", file.path.escape_debug())
            }
            Self::RestoreFile(item) | Self::DeleteQuarantinedFile(item) | Self::RestoreService(item) => {
                write!(f, " {}", item.item)
            }
            Self::BlockAddress(target) | Self::UnblockAddress(target) => write!(f, " {}", target.address),
            Self::DeleteService(service) => write!(f, " {}", service.unit),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_each_system_are_taken_and_tricks_are_not() {
        for path in ["/tmp/x", r"C:\Users\eve\x.exe", r"d:\a b\ü.dll"] {
            assert_eq!(check_path("path", path), Ok(()), "{path}");
        }
        for path in [
            "tmp/x",
            "/tmp/../x",
            r"C:x",
            r"C:\",
            r"C:\a\..\b",
            r"C:\a\\b",
            r"C:\a.txt:stream",
            r"\\server\share\x",
            r"\\?\C:\x",
            r"C:\a/b",
            "C:\\a\0b",
            r"CC:\a",
            r"1:\a",
        ] {
            assert!(check_path("path", path).is_err(), "{path}");
        }
    }
}
