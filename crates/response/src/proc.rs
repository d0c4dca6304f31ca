//! The little that is read from /proc here.

use std::fs;

/// `PF_KTHREAD` of the kernel's task flags (include/linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Fields of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: u8,
    pub(crate) parent: u32,
    pub(crate) kernel_thread: bool,
    /// Start in clock ticks since boot.
    pub(crate) start_ticks: u64,
}

impl Stat {
    /// Dead, but not yet waited for by its parent.
    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// Whether a start in ticks, as /proc shows it, may be this one in nanoseconds.
pub(crate) fn same_ticks(ticks: u64, start_ns: u64) -> bool {
    // USER_HZ is 100 on every Linux that this builds for.
    ticks.abs_diff(start_ns / 10_000_000) <= 1
}

/// The process's stat; `None` if there is no such process.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(bytes: &[u8]) -> Option<Stat> {
    // The name in parentheses is whatever the process says: any byte, spaces and parentheses too.
    let end_of_name = bytes.iter().rposition(|byte| *byte == b')')?;
    let rest = str::from_utf8(bytes.get(end_of_name + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        parent: fields.get(1)?.parse().ok()?,
        kernel_thread: fields.get(6)?.parse::<u64>().ok()? & KERNEL_THREAD != 0,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// Units that run a service's file as a user of its own, and nothing that others choose.
const UNITS: &[&str] = &[
    "dbus-broker.service",
    "dbus.service",
    "edr-responder.service",
    "edr-server.service",
    "polkit.service",
    "rsyslog.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
];

/// Whether real and effective user are root, and not merely within a user namespace, or the
/// process is in the cgroup of one of [`UNITS`], which only root can put it into; false if
/// there is no such process.
pub(crate) fn runs_for_the_system(pid: u32) -> bool {
    let says = |file: &str, what: fn(&str) -> bool| text_of(pid, file).is_some_and(|text| what(&text));
    says("status", is_of_root) || says("cgroup", is_in_a_unit)
}

/// No end of a process but that of PID 1 takes Linux down, and that one has a guard of its own.
pub(crate) fn takes_the_system_down(_: u32) -> bool {
    false
}

/// A file of the process in /proc as text, whatever bytes its name or its cgroup's name has.
fn text_of(pid: u32, file: &str) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// In the hierarchy that systemd keeps its units in: the one of version 2, or its named one.
fn paths_of_systemd(cgroups: &str) -> impl Iterator<Item = &str> {
    cgroups.lines().filter_map(|line| {
        line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
    })
}

fn is_in_a_unit(cgroups: &str) -> bool {
    let unit = |path: &str| Some(UNITS.contains(&path.strip_prefix("/system.slice/")?.split('/').next()?));
    paths_of_systemd(cgroups).filter_map(unit).any(|is_unit| is_unit)
}

/// Whether the process is in one of these cgroups of systemd's, or below one.
pub(crate) fn is_in_group(pid: u32, groups: &[String]) -> bool {
    text_of(pid, "cgroup").is_some_and(|cgroups| is_below_any(&cgroups, groups))
}

fn is_below_any(cgroups: &str, groups: &[String]) -> bool {
    let is_below = |path: &str, group: &str| {
        path.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    paths_of_systemd(cgroups).any(|path| groups.iter().any(|group| is_below(path, group)))
}

fn is_of_root(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.is_some_and(|ids| ids.split_ascii_whitespace().take(2).eq(["0", "0"]))
}

/// Real user; `None` if there is no such process.
pub(crate) fn user_of(pid: u32) -> Option<u32> {
    let status = text_of(pid, "status")?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_ascii_whitespace().next()?.parse().ok()
}

/// Device and inode of the image that the process runs; `None` for kernel threads and ended processes.
pub(crate) fn image_of(pid: u32) -> Option<(u64, u64)> {
    // As the kernel has it: a file system of a program would have to be asked for more, and may never answer.
    let (path, flags) = (format!("/proc/{pid}/exe"), rustix::fs::AtFlags::STATX_DONT_SYNC);
    let file = rustix::fs::statx(rustix::fs::CWD, path, flags, rustix::fs::StatxFlags::INO).ok()?;
    Some((rustix::fs::makedev(file.stx_dev_major, file.stx_dev_minor), file.stx_ino))
}

/// Path of the image that the process runs.
pub(crate) fn executable_of(pid: u32) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/exe")).ok()?.to_string_lossy().into_owned())
}

/// Seconds since boot, sleep included: a clock that nobody sets.
pub(crate) fn uptime_seconds() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0)
}

/// Every process with its parent; those that end meanwhile are left out.
pub(crate) fn parents() -> Vec<(u32, u32)> {
    pids().into_iter().filter_map(|pid| Some((pid, stat(pid)?.parent))).collect()
}

/// Every PID there is.
pub(crate) fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether no thread of the process can run on: each is stopped or ended. One that sleeps in the kernel stops only
/// when it wakes, as one does that waits for its child after vfork(2); with `may_sleep` it counts as well.
pub(crate) fn stands_still(pid: u32, may_sleep: bool) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let bytes = fs::read(thread.path().join("stat")).unwrap_or_default();
        parse(&bytes).is_none_or(|stat| {
            matches!(stat.state, b'T' | b't' | b'Z' | b'X' | b'x') || (may_sleep && stat.state == b'D')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_bytes_is_no_trap() {
        let text = b"42 (a) R 1 (\xff) S 7 1 1 0 -1 2097216 0 0 0 0 0 0 0 0 20 0 1 0 987 0 0\n";
        let expected = Stat { state: b'S', parent: 7, kernel_thread: true, start_ticks: 987 };
        assert_eq!(parse(text), Some(expected));
        for cut in [b"42 (x) R".as_slice(), b"42 (x", b"42 (x)", b""] {
            assert_eq!(parse(cut), None);
        }
    }

    #[test]
    fn root_is_who_is_it_really_and_in_effect() {
        assert!(is_of_root("Name:\tUid:\nUid:\t0\t0\t0\t0\n"));
        assert!(!is_of_root("Name:\tx\nUid:\t1000\t0\t0\t0\n"), "a setuid program");
        assert!(!is_of_root("Name:\tx\nUid:\t0\t65534\t0\t0\n"));
        assert!(!is_of_root(""));
    }

    #[test]
    fn a_unit_is_known_by_its_whole_name_at_its_place() {
        assert!(is_in_a_unit("0::/system.slice/systemd-resolved.service\n"));
        assert!(is_in_a_unit("1:name=systemd:/system.slice/dbus.service\n0::/\n"));
        assert!(is_in_a_unit("0::/system.slice/dbus.service/below\n"));
        for other in [
            "0::/system.slice/cron.service\n",
            "0::/system.slice/dbus.service.x\n",
            "0::/system.slice/docker-1.scope/system.slice/dbus.service\n",
            "0::/user.slice/user-1000.slice/user@1000.service/session.slice/dbus.service\n",
            "0::/../system.slice/dbus.service\n",
            "4:memory:/system.slice/dbus.service\n0::/\n",
            "",
        ] {
            assert!(!is_in_a_unit(other), "{other}");
        }
    }

    #[test]
    fn a_cgroup_has_what_is_below_it_and_nothing_else() {
        let group = ["/system.slice/evil.service".to_owned()];
        for inside in ["0::/system.slice/evil.service\n", "1:name=systemd:/system.slice/evil.service/below\n"]
        {
            assert!(is_below_any(inside, &group), "{inside}");
        }
        for outside in [
            "0::/system.slice/evil.service2\n",
            "0::/system.slice\n",
            "4:memory:/system.slice/evil.service\n",
            "",
        ] {
            assert!(!is_below_any(outside, &group), "{outside}");
        }
    }

    #[test]
    fn reads_this_process() {
        let own = stat(std::process::id()).expect("this process exists");
        assert!(!own.kernel_thread && !own.is_ended());
        assert_eq!(image_of(std::process::id()), image_of(std::process::id()));
    }
}
