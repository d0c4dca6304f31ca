//! The kernel side's files in bpffs.
//!
//! A pinned program goes on when its loader ends. The directory holds the maps, one
//! link for each program, and the task iterator, which is read like a file. The
//! control map is pinned last and removed first: a directory that has it is whole.

#![allow(unsafe_code, reason = "mount(2) and its relatives have no safe form here")]

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use libbpf_rs::query::LinkTypeInfo;
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, MapType, libbpf_sys};

use crate::record::{RECORD_MAGIC, u32_at, u64_at};
use sensor_api::ProcessKey;

const BPFFS: &CStr = c"/sys/fs/bpf";
const BPFFS_MAGIC: rustix::fs::FsWord = 0xcafe_4a11;
const CONTROL_KEY: [u8; 4] = [0; 4];

/// The programs without which a directory is not whole. All attached ones are pinned,
/// each link under the name of its program.
pub(crate) const LINKS: [&str; 3] = ["on_exec", "on_fork", "on_exit"];
/// The iterator over all tasks.
pub(crate) const ITERATOR: &str = "each_task";
/// The programs that are attached to a cgroup.
const AT_CGROUP: [&str; 3] = ["on_packet_out", "on_packet_in", "on_socket_end"];
const MAPS: [&str; 6] = ["ring", "counters", "ledger", "clock", "blocked_texts", "blocked_images"];
/// Not there in what older agents pinned, which is whole without them.
const WOKEN: &str = "woken";
const DOORBELLS: &str = "doorbells";
const CONTROL: &str = "control";
/// Which links there were when all was pinned: a list of names, so that one which is
/// removed later is not taken for one that never was.
const ATTACHED: &str = "attached";
/// Some hundred names of at most 30 bytes.
const ATTACHED_BYTES: usize = 8_192;

/// The maps that both sides use.
pub(crate) struct Maps {
    pub(crate) ring: MapHandle,
    pub(crate) counters: MapHandle,
    pub(crate) ledger: MapHandle,
    pub(crate) clock: MapHandle,
    pub(crate) blocked_texts: MapHandle,
    pub(crate) blocked_images: MapHandle,
    pub(crate) control: MapHandle,
    /// The position at which the reader was woken last; setting it back makes the next record wake the reader.
    pub(crate) woken: Option<MapHandle>,
    /// By CPU, the ring that calls for whoever waits there.
    pub(crate) doorbells: Option<MapHandle>,
}

/// As `struct control` of `bpf/record.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) wake_on_exec: bool,
    pub(crate) object_hash: u64,
    pub(crate) stream: u64,
    pub(crate) created_ns: u64,
    /// Bit n: what is counted under n is left out.
    pub(crate) left_out: u64,
    /// The agent, whose own acts are not told.
    pub(crate) own: ProcessKey,
    /// So long what is on the block list is ended.
    pub(crate) block_until_ns: u64,
}

impl Control {
    pub(crate) fn read(map: &MapHandle) -> Option<Self> {
        let bytes = map.lookup(&CONTROL_KEY, MapFlags::ANY).ok()??;
        (u32_at(&bytes, 0).ok()? == RECORD_MAGIC).then_some(())?;
        Some(Self {
            wake_on_exec: u32_at(&bytes, 4).ok()? != 0,
            object_hash: u64_at(&bytes, 8).ok()?,
            stream: u64_at(&bytes, 16).ok()?,
            created_ns: u64_at(&bytes, 24).ok()?,
            left_out: u64_at(&bytes, 32).ok()?,
            own: ProcessKey { pid: u32_at(&bytes, 48).ok()?, start_ns: u64_at(&bytes, 40).ok()? },
            block_until_ns: u64_at(&bytes, 56).ok()?,
        })
    }

    /// In what another entry differs, in words.
    pub(crate) fn difference(&self, other: &Self) -> String {
        let mut differs = Vec::new();
        if self.own != other.own {
            differs
                .push(format!("process {} stood for the agent, and its acts were not told", other.own.pid));
        }
        if self.left_out != other.left_out {
            differs.push(format!("kinds of records {:#x} were left out", other.left_out & !self.left_out));
        }
        if self.block_until_ns != other.block_until_ns {
            differs.push("how long programs are blocked".to_owned());
        }
        if (self.stream, self.object_hash, self.created_ns)
            != (other.stream, other.object_hash, other.created_ns)
        {
            differs.push("which programs these are".to_owned());
        }
        if self.wake_on_exec != other.wake_on_exec {
            differs.push("when the agent is woken".to_owned());
        }
        differs.join("; ")
    }

    pub(crate) fn write(&self, map: &MapHandle) -> Result<(), libbpf_rs::Error> {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend(RECORD_MAGIC.to_ne_bytes());
        bytes.extend(u32::from(self.wake_on_exec).to_ne_bytes());
        bytes.extend(self.object_hash.to_ne_bytes());
        bytes.extend(self.stream.to_ne_bytes());
        bytes.extend(self.created_ns.to_ne_bytes());
        bytes.extend(self.left_out.to_ne_bytes());
        bytes.extend(self.own.start_ns.to_ne_bytes());
        bytes.extend(self.own.pid.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.block_until_ns.to_ne_bytes());
        map.update(&CONTROL_KEY, &bytes, MapFlags::ANY)
    }
}

/// Makes the directory, mounting bpffs at its usual place if that is missing.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    let usual = Path::new("/sys/fs/bpf");
    if dir.starts_with(usual) && !is_bpffs(usual)? {
        mount(c"bpf", BPFFS)?;
    }
    let parent = dir.parent().ok_or_else(|| io::Error::other("the pin directory needs a parent"))?;
    if !is_bpffs(parent)? {
        return Err(io::Error::other(format!("{} is not in a bpffs", parent.display())));
    }
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Mounts tracefs at its usual place if it is missing: without it, no program can be
/// attached to a system call's tracepoint.
///
/// # Errors
/// If the system refuses it.
pub(crate) fn provide_tracefs() -> io::Result<()> {
    if Path::new("/sys/kernel/tracing/events").exists()
        || Path::new("/sys/kernel/debug/tracing/events").exists()
    {
        return Ok(());
    }
    mount(c"tracefs", c"/sys/kernel/tracing")
}

/// The root of the cgroups of version 2. Where they are mounted nowhere, a mount that
/// has no place and ends with the descriptor.
///
/// # Errors
/// If the kernel has none, or it can't be opened.
pub(crate) fn root_cgroup() -> io::Result<fs::File> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let place = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        words.next().filter(|_| words.next() == Some("cgroup2"))
    });
    let place = place.min_by_key(|place| place.len());
    place.map_or_else(unplaced_cgroup, fs::File::open)
}

fn unplaced_cgroup() -> io::Result<fs::File> {
    /// Of `linux/mount.h`; libc has none of them for every C library.
    const CREATE: libc::c_long = 6;
    const CLOSE_ON_EXEC: libc::c_long = 1;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: the name is a C string, and each descriptor is new and nobody else's.
    unsafe {
        let context = descriptor(libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), CLOSE_ON_EXEC))?;
        if libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, none, none, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        descriptor(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOSE_ON_EXEC, 0))
            .map(fs::File::from)
    }
}

/// What a system call gave.
///
/// # Safety
/// A number that is no error must be a descriptor that nobody else has.
unsafe fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the caller says so.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Mounts a file system of the kernel's own, for root only.
fn mount(kind: &CStr, place: &CStr) -> io::Result<()> {
    // SAFETY: all arguments are C strings that live through the call.
    let mounted = unsafe {
        libc::mount(
            kind.as_ptr(),
            place.as_ptr(),
            kind.as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            c"mode=0700".as_ptr().cast(),
        )
    };
    if mounted == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let (kind, place) = (kind.to_string_lossy(), place.to_string_lossy());
    Err(io::Error::new(error.kind(), format!("mounting {kind} at {place}: {error}")))
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    let found = rustix::fs::statfs(path)?;
    Ok(found.f_type == BPFFS_MAGIC)
}

/// Pins all; the control map last.
pub(crate) fn pin(dir: &Path, maps: &mut Maps, links: &mut [(String, Link)]) -> Result<(), libbpf_rs::Error> {
    let [ring, counters, ledger, clock, texts, images] = MAPS;
    maps.blocked_texts.pin(dir.join(texts))?;
    maps.blocked_images.pin(dir.join(images))?;
    maps.ring.pin(dir.join(ring))?;
    maps.counters.pin(dir.join(counters))?;
    maps.ledger.pin(dir.join(ledger))?;
    maps.clock.pin(dir.join(clock))?;
    if let Some(woken) = &mut maps.woken {
        woken.pin(dir.join(WOKEN))?;
    }
    if let Some(doorbells) = &mut maps.doorbells {
        doorbells.pin(dir.join(DOORBELLS))?;
    }
    let mut names = String::new();
    for (name, link) in links {
        link.pin(dir.join(&*name))?;
        names.push_str(name);
        names.push('\n');
    }
    pin_names(&dir.join(ATTACHED), &names)?;
    maps.control.pin(dir.join(CONTROL))
}

fn pin_names(path: &Path, names: &str) -> Result<(), libbpf_rs::Error> {
    if names.len() > ATTACHED_BYTES {
        return Err(io::Error::other("the names of all links are too long").into());
    }
    let mut bytes = names.as_bytes().to_vec();
    bytes.resize(ATTACHED_BYTES, 0);
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let size = ATTACHED_BYTES as u32;
    let mut map = MapHandle::create(MapType::Array, Some(ATTACHED), 4, size, 1, &options)?;
    map.update(&CONTROL_KEY, &bytes, MapFlags::ANY)?;
    map.pin(path)
}

/// The links that were pinned in `dir`; `None` where nothing says so.
pub(crate) fn attached(dir: &Path) -> Option<Vec<String>> {
    let map = MapHandle::from_pinned_path(dir.join(ATTACHED)).ok()?;
    let bytes = map.lookup(&CONTROL_KEY, MapFlags::ANY).ok()??;
    let names = bytes.split(|byte| *byte == 0).next()?;
    let names = std::str::from_utf8(names).ok()?;
    Some(names.lines().map(str::to_owned).collect())
}

/// What is pinned in a directory, each by its name and inode.
pub(crate) struct Pinned {
    dir: PathBuf,
    entries: Vec<(String, u64)>,
}

impl Pinned {
    /// Takes down what stands in `dir` now.
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let inode = entry.metadata()?.ino();
            entries.push((entry.file_name().to_string_lossy().into_owned(), inode));
        }
        entries.sort();
        Ok(Self { dir: dir.to_owned(), entries })
    }

    /// What is no longer as it was, in words.
    pub(crate) fn changed(&self) -> Vec<String> {
        let mut changed = Vec::new();
        for (name, inode) in &self.entries {
            let path = self.dir.join(name);
            match fs::symlink_metadata(&path) {
                Ok(found) if found.ino() == *inode => {
                    if is_detached(&path, name) {
                        changed.push(format!("{} was detached from what it watches", path.display()));
                    }
                }
                Ok(_) => changed.push(format!("{} was replaced", path.display())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    changed.push(format!("{} was removed", path.display()));
                }
                Err(error) => changed.push(format!("{} can't be looked at: {error}", path.display())),
            }
        }
        changed
    }
}

/// Of the links that are made here the kernel detaches only a cgroup's while they exist.
fn is_detached(path: &Path, name: &str) -> bool {
    if !AT_CGROUP.contains(&name) {
        return false;
    }
    let info = Link::open(path).and_then(|link| link.info());
    info.is_ok_and(|info| matches!(info.info, LinkTypeInfo::Cgroup(cgroup) if cgroup.cgroup_id == 0))
}

/// The maps of a directory that is whole.
pub(crate) fn open(dir: &Path) -> Option<Maps> {
    let map = |name: &str| MapHandle::from_pinned_path(dir.join(name)).ok();
    let control = map(CONTROL)?;
    let links_are_there = LINKS.into_iter().all(|name| dir.join(name).exists());
    let [ring, counters, ledger, clock, blocked_texts, blocked_images] = MAPS.map(map);
    links_are_there.then_some(Maps {
        ring: ring?,
        counters: counters?,
        ledger: ledger?,
        clock: clock?,
        blocked_texts: blocked_texts?,
        blocked_images: blocked_images?,
        control,
        woken: map(WOKEN),
        doorbells: map(DOORBELLS),
    })
}

/// The path of the iterator.
pub(crate) fn iterator(dir: &Path) -> PathBuf {
    dir.join(ITERATOR)
}

/// The path of the doorbells.
pub(crate) fn doorbells(dir: &Path) -> PathBuf {
    dir.join(DOORBELLS)
}

/// Removes what the eBPF sensor pinned in `dir`, and `dir` itself. What no sensor
/// has open ends with it. It is no error if there is nothing.
///
/// # Errors
/// If a file or the directory can't be removed.
pub fn remove_pins(dir: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(dir.join(CONTROL)))?;
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        absent_is_fine(fs::remove_file(entry?.path()))?;
    }
    absent_is_fine(fs::remove_dir(dir))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
