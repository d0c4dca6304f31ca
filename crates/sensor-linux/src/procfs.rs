//! What /proc tells of a process.
//!
//! Each figure is read by itself while the process lives on, so a process that ends
//! or whose PID goes to another in between gives `None`: the start is read first and
//! last, and has to be the same.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use event_model::ImageFile;
use sensor_api::{ObservedImage, ProcessKey};

use crate::{escape, standing};

/// As many bytes of arguments as the BPF programs take.
const ARGS_MAX: usize = 16 << 10;

/// The kernel lets an environment and its arguments be a quarter of the stack's limit.
const ENVIRONMENT_MAX: u64 = 2 << 20;

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
    let file = fs::metadata(format!("/proc/{pid}/exe")).ok().filter(|_| link.is_some());
    let image_deleted = file.as_ref().is_some_and(|file| file.nlink() == 0);
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let (args, args_bytes, args_truncated) = if stat.kernel_thread {
        (vec![format!("[{}]", escape::text(&stat.comm))], 0, false)
    } else {
        let kept = command_line.get(..ARGS_MAX).unwrap_or(&command_line);
        (escape::args(kept), command_line.len() as u64, command_line.len() > ARGS_MAX)
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
        image: file.as_ref().map(image_file),
        image_deleted,
        cgroup_path: fs::read(format!("/proc/{pid}/cgroup")).ok().map(|text| cgroup_path(&text)),
        kernel_thread: stat.kernel_thread,
        capabilities: standing::capability_names(ids.capabilities),
        environment: environment(pid),
        memfd: standing::is_memfd(&executable, image_deleted),
        namespaces: standing::foreign_namespaces(&standing::namespaces_of(pid)),
        blocked: None,
        executable,
    };
    // Still the same one?
    Stat::read(pid).ok().filter(|stat| stat.is_of(process.start_ns)).map(|_| image)
}

/// The variables that may change what is run; none where the environment can't be read.
fn environment(pid: u32) -> Vec<String> {
    let mut bytes = Vec::new();
    let read = fs::File::open(format!("/proc/{pid}/environ"))
        .and_then(|file| file.take(ENVIRONMENT_MAX).read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    standing::interesting_variables(&bytes)
}

/// The same for a process that has to be the one with this start.
pub(crate) fn environment_of(process: ProcessKey) -> Option<Vec<String>> {
    let variables = environment(process.pid);
    Stat::read(process.pid).ok().filter(|stat| stat.is_of(process.start_ns))?;
    Some(variables)
}

/// The image's path, if the process is still there.
pub(crate) fn executable_of(process: ProcessKey) -> Option<String> {
    let path = format!("/proc/{}/exe", process.pid);
    let link = fs::read_link(&path).ok()?;
    let deleted = fs::metadata(&path).is_ok_and(|file| file.nlink() == 0);
    Stat::read(process.pid).ok().filter(|stat| stat.is_of(process.start_ns))?;
    Some(executable_text(link, deleted))
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
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_what_ends_it() {
        let line = b"42 (a) S 1 (b)) R 7 1 42 34816 42 4194304 1 2 3 4 5 6 7 8 20 0 3 0 123 0 0\n";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat.comm, b"a) S 1 (b)");
        assert_eq!((stat.state, stat.parent_pid, stat.session_id), (b'R', 7, 42));
        assert_eq!((stat.tty, stat.threads), (34816, 3));
        assert_eq!(stat.start_ns, 123 * tick_ns());
        assert_eq!(terminal(stat.tty).as_deref(), Some("pts/0"));
        assert_eq!(Stat::parse(b"42 (a"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn the_cgroup_that_says_most_is_chosen() {
        let of = |text: &str| cgroup_path(text.as_bytes());
        assert_eq!(of("0::/system.slice/a.service\n"), "/system.slice/a.service");
        assert_eq!(of("8:pids:/docker/1\n4:memory:/m\n0::/\n"), "/docker/1");
        assert_eq!(of("8:pids:/\n4:cpu,memory:/m\n0::/\n"), "/m");
        assert_eq!(of("8:pids:/\n0::/\n"), "/");
        assert_eq!(of("2:cpu:/a:b\n1:name=systemd:/\n"), "/");
        assert_eq!(of("0::/a:b\n"), "/a:b");
        assert_eq!(of(""), "/");
    }

    #[test]
    fn this_process_is_found_with_all_its_facts() {
        let pid = std::process::id();
        let image = image(pid).unwrap();
        let here = std::env::current_exe().unwrap();
        assert_eq!(image.executable, here.to_str().unwrap());
        assert_eq!(image.args, std::env::args().collect::<Vec<_>>());
        assert_eq!(image.working_directory.as_deref(), std::env::current_dir().unwrap().to_str());
        assert_eq!(image.parent_pid, std::os::unix::process::parent_id());
        assert_eq!(image.image.map(|file| file.inode), Some(fs::metadata(&here).unwrap().ino()));
        assert!(!image.image_deleted && !image.kernel_thread);
        assert_eq!(
            image_of(ProcessKey { start_ns: image.start_ns + 50 * tick_ns(), ..image.key() }, image.key()),
            None
        );
    }
}
