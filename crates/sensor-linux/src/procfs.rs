//! What /proc tells of a process.
//!
//! Each figure is read by itself while the process lives on, so a process that ends
//! or whose PID goes to another in between gives `None`: the start is read first and
//! last, and has to be the same.
//!
//! What lies in the memory of the process, and the state of a file in a file system of
//! its own, may never be answered: they are asked for with a limit, and what did not
//! come is marked as missing.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use event_model::ImageFile;
use os_files::patient::{Hanging, PatientReader};
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};
use sensor_api::{ObservedImage, ProcessKey};

use crate::{escape, standing};

/// As many bytes of arguments as the BPF programs take.
const ARGS_MAX: usize = 16 << 10;

/// The kernel lets an environment and its arguments be a quarter of the stack's limit, and 6 MiB at most.
const TEXTS_MAX: u64 = 6 << 20;

/// What stands behind the variables that are known where others could not be read.
const UNREAD: &str = "...";

const PF_KTHREAD: u64 = 0x0020_0000;

/// Nanoseconds in one clock tick: the precision of a start in /proc.
pub(crate) fn tick_ns() -> u64 {
    static TICK: LazyLock<u64> =
        LazyLock::new(|| 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1));
    *TICK
}

/// The part of /proc/PID/stat that we use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) comm: Vec<u8>,
    pub(crate) state: u8,
    pub(crate) parent_pid: u32,
    pub(crate) session_id: u32,
    pub(crate) tty: u32,
    pub(crate) kernel_thread: bool,
    pub(crate) threads: u32,
    /// Rounded down to a clock tick.
    pub(crate) start_ns: u64,
}

impl Stat {
    /// Of a live PID.
    pub(crate) fn read(pid: u32) -> io::Result<Self> {
        let bytes = fs::read(format!("/proc/{pid}/stat"))?;
        Self::parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown form of stat"))
    }

    /// The name stands in parentheses and may hold any byte, parentheses and spaces
    /// too, so the rest begins behind the *last* closing one.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|byte| *byte == b'(')?;
        let close = bytes.iter().rposition(|byte| *byte == b')')?;
        let comm = bytes.get(open + 1..close)?.to_vec();
        let rest = str::from_utf8(bytes.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // proc(5) numbers the fields from 1; the first behind the name is number 3.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            comm,
            state: *field(3)?.as_bytes().first()?,
            parent_pid: field(4)?.parse().ok()?,
            session_id: field(6)?.parse().ok()?,
            tty: field(7)?.parse::<i32>().ok()?.cast_unsigned(),
            kernel_thread: field(9)?.parse::<u64>().ok()? & PF_KTHREAD != 0,
            threads: field(20)?.parse().ok()?,
            start_ns: field(22)?.parse::<u64>().ok()?.saturating_mul(tick_ns()),
        })
    }

    /// Ended, and only waits to be collected.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Whether this can be the process that started then.
    pub(crate) fn is_of(&self, start_ns: u64) -> bool {
        self.start_ns / tick_ns() == start_ns / tick_ns()
    }
}

/// All PIDs that there are now.
pub(crate) fn pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// The process with the start that /proc shows; `None` if it is not there any more.
pub(crate) fn image(pid: u32) -> Option<ObservedImage> {
    let stat = Stat::read(pid).ok()?;
    let parent_start_ns = match stat.parent_pid {
        0 => 0,
        parent => Stat::read(parent).map_or(0, |parent| parent.start_ns),
    };
    let parent = ProcessKey { pid: stat.parent_pid, start_ns: parent_start_ns };
    image_of(ProcessKey { pid, start_ns: stat.start_ns }, parent)
}

/// The process whose start and parent are known from elsewhere.
pub(crate) fn image_of(process: ProcessKey, parent: ProcessKey) -> Option<ObservedImage> {
    let pid = process.pid;
    let stat = Stat::read(pid).ok().filter(|stat| stat.is_of(process.start_ns))?;
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let ids = Ids::parse(&status)?;
    let link = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let file = link.as_ref().and_then(|_| running_file(pid));
    let image_deleted = file.as_ref().is_some_and(|file| file.stx_nlink == 0);
    let texts = if stat.kernel_thread { Texts::default() } else { Texts::read(pid) };
    let (args, args_bytes, args_truncated) = match &texts.command_line {
        _ if stat.kernel_thread => (vec![format!("[{}]", escape::text(&stat.comm))], 0, false),
        Some(line) => {
            let kept = line.get(..ARGS_MAX).unwrap_or(line);
            (escape::args(kept), line.len() as u64, line.len() > ARGS_MAX)
        }
        None => (Vec::new(), 0, true),
    };
    let executable = link.map(|link| executable_text(link, image_deleted)).unwrap_or_default();
    let image = ObservedImage {
        pid,
        start_ns: process.start_ns,
        parent_pid: parent.pid,
        parent_start_ns: parent.start_ns,
        args,
        args_bytes,
        args_truncated,
        working_directory: fs::read_link(format!("/proc/{pid}/cwd"))
            .ok()
            .map(|link| escape::text(link.as_os_str().as_bytes())),
        command_line: None,
        uid: ids.uid,
        user_name: None,
        euid: ids.euid,
        gid: ids.gid,
        login_uid: number_in(format!("/proc/{pid}/loginuid")).filter(|uid| *uid != u32::MAX),
        session_id: Some(stat.session_id).filter(|id| *id != 0),
        tty: terminal(stat.tty),
        image: file.as_ref().map(image_file_of),
        image_deleted,
        cgroup_path: fs::read(format!("/proc/{pid}/cgroup")).ok().map(|text| cgroup_path(&text)),
        kernel_thread: stat.kernel_thread,
        capabilities: standing::capability_names(ids.capabilities),
        environment: texts.variables,
        memfd: standing::is_memfd(&executable, image_deleted),
        namespaces: standing::foreign_namespaces(&standing::namespaces_of(pid)),
        blocked: None,
        executable,
    };
    // Still the same one?
    Stat::read(pid).ok().filter(|stat| stat.is_of(process.start_ns)).map(|_| image)
}

/// What a process keeps in its own memory.
#[derive(Default)]
struct Texts {
    /// `None` where it can't be had.
    command_line: Option<Vec<u8>>,
    /// Those that may change what is run.
    variables: Vec<String>,
}

impl Texts {
    fn read(pid: u32) -> Self {
        match patiently(|reader| reader.read(&format!("/proc/{pid}/cmdline"), TEXTS_MAX)) {
            Ok(line) => Self { command_line: Some(line), variables: variables(pid) },
            // Whoever hangs with the one hangs with the other: no second thread is left to it.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Self { command_line: None, variables: vec![UNREAD.to_owned()] }
            }
            // It ended, or has no memory of its own any more.
            Err(_) => Self { command_line: Some(Vec::new()), variables: variables(pid) },
        }
    }
}

/// The variables that may change what is run; none where they can't be read for a reason that is no hanging.
fn variables(pid: u32) -> Vec<String> {
    match patiently(|reader| reader.read(&format!("/proc/{pid}/environ"), TEXTS_MAX)) {
        Ok(bytes) => standing::interesting_variables(&bytes),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => vec![UNREAD.to_owned()],
        Err(_) => Vec::new(),
    }
}

/// The variables of a start whose environment is too long to be told with it: all of them, if the process is still the
/// one with this start and answers, else those of its beginning, and a mark that there may be more.
pub(crate) fn variables_beyond(process: ProcessKey, beginning: &[u8]) -> Vec<String> {
    let all = variables(process.pid);
    let is_it = Stat::read(process.pid).is_ok_and(|stat| stat.is_of(process.start_ns) && !stat.is_dead());
    if is_it && !all.iter().any(|variable| variable == UNREAD) {
        return all;
    }
    let mut known = standing::interesting_variables(beginning);
    known.push(UNREAD.to_owned());
    known
}

/// The image's path, if the process is still there.
pub(crate) fn executable_of(process: ProcessKey) -> Option<String> {
    let link = fs::read_link(format!("/proc/{}/exe", process.pid)).ok()?;
    let deleted = running_file(process.pid).is_some_and(|file| file.stx_nlink == 0);
    Stat::read(process.pid).ok().filter(|stat| stat.is_of(process.start_ns))?;
    Some(executable_text(link, deleted))
}

/// The state of the file that a process runs, as the kernel has it: a file system that is asked may never answer, and
/// some are asked whatever is wanted.
fn running_file(pid: u32) -> Option<Statx> {
    let path = format!("/proc/{pid}/exe");
    let question =
        || statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::BASIC_STATS).map_err(io::Error::from);
    patiently(|reader| reader.ask(question)).ok()
}

/// Asks what may never be answered. Each thread that asks has a reader of its own, so that none waits for another's.
fn patiently<T>(ask: impl FnOnce(&mut PatientReader) -> io::Result<T>) -> io::Result<T> {
    // Of processes that are made to hang, a user can have as many as he may have at all.
    static HANGING: Hanging = Hanging::new(64);
    thread_local! {
        static READER: RefCell<PatientReader> = RefCell::new(PatientReader::new(&HANGING));
    }
    READER.with_borrow_mut(ask)
}

fn image_file_of(file: &Statx) -> ImageFile {
    let time = |seconds: i64, nanos: u32| seconds.saturating_mul(1_000_000_000).saturating_add(nanos.into());
    ImageFile {
        device: rustix::fs::makedev(file.stx_dev_major, file.stx_dev_minor),
        inode: file.stx_ino,
        modified_ns: time(file.stx_mtime.tv_sec, file.stx_mtime.tv_nsec),
        changed_ns: time(file.stx_ctime.tv_sec, file.stx_ctime.tv_nsec),
        size: file.stx_size,
    }
}

/// What identifies a file and its state.
pub(crate) fn image_file(file: &fs::Metadata) -> ImageFile {
    ImageFile {
        device: file.dev(),
        inode: file.ino(),
        modified_ns: file.mtime().saturating_mul(1_000_000_000).saturating_add(file.mtime_nsec()),
        changed_ns: file.ctime().saturating_mul(1_000_000_000).saturating_add(file.ctime_nsec()),
        size: file.size(),
    }
}

/// The kernel appends ` (deleted)` to the path of a file without a name.
pub(crate) fn executable_text(link: PathBuf, deleted: bool) -> String {
    let bytes = link.as_os_str().as_bytes();
    let stripped = if deleted { bytes.strip_suffix(b" (deleted)") } else { None };
    escape::text(stripped.unwrap_or(bytes))
}

struct Ids {
    uid: u32,
    euid: u32,
    gid: u32,
    /// Effective.
    capabilities: u64,
}

impl Ids {
    fn parse(status: &[u8]) -> Option<Self> {
        let numbers = |name: &[u8]| {
            let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))?;
            let mut numbers = str::from_utf8(line).ok()?.split_ascii_whitespace().map(str::parse::<u32>);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        };
        let (uid, euid) = numbers(b"Uid:")?;
        let (gid, _) = numbers(b"Gid:")?;
        let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"CapEff:"))?;
        let capabilities = u64::from_str_radix(str::from_utf8(line).ok()?.trim(), 16).ok()?;
        Some(Self { uid, euid, gid, capabilities })
    }
}

fn number_in(path: String) -> Option<u32> {
    str::from_utf8(&fs::read(path).ok()?).ok()?.trim().parse().ok()
}

/// The path in the one hierarchy, or, where that says nothing, in an old one: the
/// same choice as the BPF programs make.
fn cgroup_path(text: &[u8]) -> String {
    let lines: Vec<(&[u8], &[u8])> = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut parts = line.splitn(3, |byte| *byte == b':');
            let _hierarchy = parts.next()?;
            Some((parts.next()?, parts.next()?))
        })
        .collect();
    let of = |wanted: &[u8]| {
        let line =
            lines.iter().find(|(names, _)| names.split(|byte| *byte == b',').any(|name| name == wanted));
        line.map(|(_, path)| *path)
    };
    let choices = [of(b""), of(b"pids"), of(b"memory")];
    // A hierarchy that is not mounted has no line: everything is at its root.
    choices.into_iter().flatten().find(|path| *path != b"/").map_or_else(|| "/".to_owned(), escape::text)
}

/// The terminal's name below /dev, from its number in stat.
fn terminal(number: u32) -> Option<String> {
    if number == 0 {
        return None;
    }
    let major = (number >> 8) & 0xfff;
    let minor = (number & 0xff) | ((number >> 12) & 0xf_ff00);
    // Pseudo-terminals are numbered through eight majors of 256.
    if (136..144).contains(&major) {
        return Some(format!("pts/{}", (major - 136) * 256 + minor));
    }
    let uevent = fs::read_to_string(format!("/sys/dev/char/{major}:{minor}/uevent")).ok()?;
    uevent.lines().find_map(|line| line.strip_prefix("DEVNAME=")).map(str::to_owned)
}

#[cfg(test)]
mod tests;
