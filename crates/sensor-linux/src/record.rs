//! The kernel's records as observations.
//!
//! The layout is that of `bpf/record.h`; a test compares the two. Every length and
//! number is checked: a record that does not add up is refused, never trusted.

use event_model::{BlockedBy, ImageFile};
use sensor_api::{Observation, ObservedExit, ObservedFork, ObservedImage, ProcessKey};

use crate::act::{self, Act, RECORD_ACTS};
use crate::{escape, procfs, standing};

/// First word of every record and of the control entry.
pub(crate) const RECORD_MAGIC: u32 = 0x3250_5352;

const RECORD_FORK: u16 = 1;
const RECORD_EXEC: u16 = 2;
const RECORD_EXIT: u16 = 3;

const EXEC_EXECUTABLE_CUT: u16 = 1;
const EXEC_CWD_CUT: u16 = 2;
const EXEC_ARGS_CUT: u16 = 8;
const EXEC_ARGS_UNREAD: u16 = 16;
const EXEC_BLOCKED_NAME: u16 = 32;
const EXEC_BLOCKED_PATH: u16 = 64;
const EXEC_BLOCKED_IMAGE: u16 = 128;
const EXEC_ENVIRONMENT_CUT: u16 = 256;

const NO_ID: u32 = u32::MAX;

/// Offsets within the records, as `bpf/record.h` asserts them.
mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const TYPE: usize = 4;
    pub(super) const FLAGS: usize = 6;
    pub(super) const SIZE: usize = 8;
    pub(super) const PID: usize = 12;
    pub(super) const AT_NS: usize = 16;
    pub(super) const START_NS: usize = 24;

    pub(super) const PARENT_PID: usize = 32;
    pub(super) const PARENT_START_NS: usize = 40;
    pub(super) const FORK_SIZE: usize = 48;

    pub(super) const WAIT_STATUS: usize = 32;
    pub(super) const EXIT_SIZE: usize = 40;

    pub(super) const UID: usize = 36;
    pub(super) const EUID: usize = 48;
    pub(super) const GID: usize = 52;
    pub(super) const LOGIN_UID: usize = 56;
    pub(super) const SESSION_ID: usize = 60;
    pub(super) const INODE: usize = 64;
    pub(super) const MODIFIED_S: usize = 72;
    pub(super) const FILE_SIZE: usize = 80;
    pub(super) const MODIFIED_NS: usize = 88;
    pub(super) const DEVICE: usize = 92;
    pub(super) const LINKS: usize = 96;
    pub(super) const ARGS_BYTES: usize = 100;
    pub(super) const EXECUTABLE_LEN: usize = 104;
    pub(super) const CWD_LEN: usize = 106;
    pub(super) const CGROUP_LEN: usize = 108;
    pub(super) const TTY_LEN: usize = 110;
    pub(super) const FILENAME_LEN: usize = 112;
    pub(super) const ARGS_LEN: usize = 114;
    pub(super) const CHANGED_NS: usize = 116;
    pub(super) const CHANGED_S: usize = 120;
    pub(super) const CAPABILITIES: usize = 128;
    pub(super) const NAMESPACES: usize = 136;
    pub(super) const ENVIRONMENT_LEN: usize = 164;
    pub(super) const EXEC_SIZE: usize = 168;
}

/// The record does not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A decoded record: when, and what.
pub(crate) type Decoded = (u64, Observation);

/// Reads one record.
pub(crate) fn decode(bytes: &[u8]) -> Result<Decoded, Malformed> {
    if u32_at(bytes, at::MAGIC)? != RECORD_MAGIC || u32_at(bytes, at::SIZE)? as usize != bytes.len() {
        return Err(Malformed);
    }
    let at_ns = u64_at(bytes, at::AT_NS)?;
    let process = ProcessKey { pid: u32_at(bytes, at::PID)?, start_ns: u64_at(bytes, at::START_NS)? };
    let what = match (u16_at(bytes, at::TYPE)?, bytes.len()) {
        (RECORD_FORK, at::FORK_SIZE) => Observation::ProcessForked(ObservedFork {
            child: process,
            parent: ProcessKey {
                pid: u32_at(bytes, at::PARENT_PID)?,
                start_ns: u64_at(bytes, at::PARENT_START_NS)?,
            },
        }),
        (RECORD_EXIT, at::EXIT_SIZE) => {
            let wait_status = Some(u32_at(bytes, at::WAIT_STATUS)?);
            Observation::ProcessExited(ObservedExit { process, wait_status })
        }
        (RECORD_EXEC, at::EXEC_SIZE..) => {
            Observation::ProcessExecuted(Box::new(decode_exec(bytes, process)?))
        }
        (kind @ RECORD_ACTS.., _) => {
            let act = Act::read(kind, u16_at(bytes, at::FLAGS)?, (at_ns, process), bytes)?;
            Observation::Activity(Box::new(act::observed(&act)?))
        }
        _ => return Err(Malformed),
    };
    Ok((at_ns, what))
}

/// The process whose fork the record tells of, without decoding the rest.
pub(crate) fn forked_process(bytes: &[u8]) -> Option<ProcessKey> {
    match decode(bytes) {
        Ok((_, Observation::ProcessForked(fork))) if bytes.len() == at::FORK_SIZE => Some(fork.child),
        _ => None,
    }
}

fn decode_exec(bytes: &[u8], process: ProcessKey) -> Result<ObservedImage, Malformed> {
    let flags = u16_at(bytes, at::FLAGS)?;
    let mut rest = bytes.get(at::EXEC_SIZE..).ok_or(Malformed)?;
    let mut part = |len_at: usize| -> Result<&[u8], Malformed> {
        let (part, behind) = rest.split_at_checked(usize::from(u16_at(bytes, len_at)?)).ok_or(Malformed)?;
        rest = behind;
        Ok(part)
    };
    let executable_names = part(at::EXECUTABLE_LEN)?;
    let cwd_names = part(at::CWD_LEN)?;
    let cgroup_names = part(at::CGROUP_LEN)?;
    let tty = part(at::TTY_LEN)?;
    let filename = part(at::FILENAME_LEN)?;
    let args = part(at::ARGS_LEN)?;
    let environment = part(at::ENVIRONMENT_LEN)?;
    if !rest.is_empty() {
        return Err(Malformed);
    }

    let mut executable = path_of_names(executable_names);
    if flags & EXEC_EXECUTABLE_CUT != 0 {
        executable = whole_executable(process, filename).unwrap_or_else(|| format!("...{executable}"));
    }
    let mut working_directory = path_of_names(cwd_names);
    if flags & EXEC_CWD_CUT != 0 {
        working_directory.insert_str(0, "...");
    }
    let cgroup_path = path_of_names(cgroup_names);
    let image_deleted = u32_at(bytes, at::LINKS)? == 0;
    let mut namespaces = [0; standing::NAMESPACES];
    for (index, inode) in namespaces.iter_mut().enumerate() {
        *inode = u32_at(bytes, at::NAMESPACES + 4 * index)?;
    }
    let blocked = match flags & (EXEC_BLOCKED_NAME | EXEC_BLOCKED_PATH | EXEC_BLOCKED_IMAGE) {
        0 => None,
        EXEC_BLOCKED_NAME => Some(BlockedBy::Name),
        EXEC_BLOCKED_PATH => Some(BlockedBy::Path),
        _ => Some(BlockedBy::Hash),
    };
    let memfd = standing::is_memfd(&executable, image_deleted);
    Ok(ObservedImage {
        pid: process.pid,
        start_ns: process.start_ns,
        parent_pid: u32_at(bytes, at::PARENT_PID)?,
        parent_start_ns: u64_at(bytes, at::PARENT_START_NS)?,
        executable,
        args: escape::args(args),
        args_bytes: u64::from(u32_at(bytes, at::ARGS_BYTES)?),
        args_truncated: flags & (EXEC_ARGS_CUT | EXEC_ARGS_UNREAD) != 0,
        working_directory: Some(working_directory),
        command_line: None,
        uid: u32_at(bytes, at::UID)?,
        user_name: None,
        euid: u32_at(bytes, at::EUID)?,
        gid: u32_at(bytes, at::GID)?,
        login_uid: Some(u32_at(bytes, at::LOGIN_UID)?).filter(|uid| *uid != NO_ID),
        session_id: Some(u32_at(bytes, at::SESSION_ID)?).filter(|id| *id != NO_ID && *id != 0),
        tty: tty_name(tty),
        image: Some(ImageFile {
            device: stat_device(u32_at(bytes, at::DEVICE)?),
            inode: u64_at(bytes, at::INODE)?,
            modified_ns: time_at(bytes, at::MODIFIED_S, at::MODIFIED_NS)?,
            changed_ns: time_at(bytes, at::CHANGED_S, at::CHANGED_NS)?,
            size: u64_at(bytes, at::FILE_SIZE)?,
        }),
        image_deleted,
        cgroup_path: Some(cgroup_path),
        kernel_thread: false,
        capabilities: standing::capability_names(u64_at(bytes, at::CAPABILITIES)?),
        environment: match flags & EXEC_ENVIRONMENT_CUT {
            0 => standing::interesting_variables(environment),
            _ => procfs::variables_beyond(process, environment),
        },
        memfd,
        namespaces: standing::foreign_namespaces(&namespaces),
        blocked,
    })
}

/// Where the kernel side could not walk up to the root: the path from /proc, if the
/// process still is the one, else what was given to execve, if that is a whole path.
#[cold]
fn whole_executable(process: ProcessKey, filename: &[u8]) -> Option<String> {
    procfs::executable_of(process).or_else(|| {
        let filename = filename.strip_suffix(&[0]).unwrap_or(filename);
        filename.starts_with(b"/").then(|| escape::text(filename))
    })
}

/// A path from its names, last to first, each ended by a zero byte.
pub(crate) fn path_of_names(names: &[u8]) -> String {
    let Some(names) = names.strip_suffix(&[0]) else {
        return "/".to_owned();
    };
    let mut path = Vec::with_capacity(names.len() + 1);
    for name in names.rsplit(|byte| *byte == 0) {
        // The root of a file system that hangs in no tree is called `/`.
        if name != b"/" {
            path.push(b'/');
            path.extend_from_slice(name);
        }
    }
    escape::text(&path)
}

/// A terminal as /dev names it; the kernel calls `/dev/pts/0` `pts0`.
fn tty_name(name: &[u8]) -> Option<String> {
    let name = escape::text(name.strip_suffix(&[0])?);
    match name.strip_prefix("pts") {
        _ if name.is_empty() => None,
        Some(number) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(format!("pts/{number}"))
        }
        _ => Some(name),
    }
}

/// The kernel keeps 12 bits of major and 20 of minor number; stat(2) splits the
/// minor number around the major one.
pub(crate) fn stat_device(device: u32) -> u64 {
    let (major, minor) = (device >> 20, device & 0xf_ffff);
    u64::from((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// The kernel's form of a device number of stat(2).
pub(crate) fn kernel_device(device: u64) -> u32 {
    let (major, minor) =
        (((device >> 8) & 0xfff) as u32, ((device & 0xff) | ((device >> 12) & 0xf_ff00)) as u32);
    (major << 20) | minor
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Malformed)
}

/// Nanoseconds since the Unix epoch.
fn time_at(bytes: &[u8], seconds_at: usize, nanos_at: usize) -> Result<i64, Malformed> {
    let seconds = u64_at(bytes, seconds_at)?.cast_signed();
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(u32_at(bytes, nanos_at)?)))
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Malformed> {
    bytes_at(bytes, at).map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests;
