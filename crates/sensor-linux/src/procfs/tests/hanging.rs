//! A process whose memory is locked for ever, by means that any user has: a file system that does not answer, mapped.
//!
//! Somebody reads a page of the mapping out of the process's memory, which holds the lock of that memory until the file
//! system gives the page. The process itself then asks for the same lock to change its memory, and whoever comes after
//! that waits behind it.

#![allow(
    unsafe_code,
    reason = "mount, fork and what a forked child may do have no safe form; each block says why it is sound"
)]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Stat;

const PAGE: usize = 4_096;
const PATIENCE: Duration = Duration::from_secs(30);

/// It ends, and all that hangs with it, when it is dropped.
pub(super) struct HangingProcess {
    pub(super) pid: u32,
    dir: tempfile::TempDir,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl HangingProcess {
    /// `None` where this needs rights or a kernel that there are not.
    pub(super) fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let device = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            Ok(device) => device,
            Err(error) => {
                println!("skipped: /dev/fuse: {error}");
                return None;
            }
        };
        if let Err(error) = mount(&device, dir.path()) {
            println!("skipped: mounting a file system of one's own: {error}");
            return None;
        }
        let over = Arc::new(AtomicBool::new(false));
        let (asked, page_is_asked_for) = channel();
        let is_over = Arc::clone(&over);
        let device_here = device.as_raw_fd();
        let mut threads = vec![std::thread::spawn(move || serve(device, &asked, &is_over))];
        let (mut said, say) = pipe();
        let (hear, mut go) = pipe();
        let file = CString::new(dir.path().join("file").as_os_str().as_bytes()).unwrap();
        // SAFETY: the child calls only what may be called between fork and exec.
        let pid = match unsafe { libc::fork() } {
            0 => child(device_here, &file, say.as_raw_fd(), hear.as_raw_fd()),
            pid => u32::try_from(pid).unwrap(),
        };
        drop((say, hear));
        let mut hanging = Self { pid, dir, over, threads: Vec::new() };
        let mut address = [0; 8];
        said.read_exact(&mut address).unwrap();
        let address = u64::from_ne_bytes(address);
        assert_ne!(address, u64::MAX, "the file of the file system could not be mapped");
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        threads.push(std::thread::spawn(move || {
            let _ = memory.read_at(&mut [0; 8], address);
        }));
        hanging.threads = threads;
        page_is_asked_for.recv_timeout(PATIENCE).unwrap();
        go.write_all(b"!").unwrap();
        let deadline = Instant::now() + PATIENCE;
        while Stat::read(pid).unwrap().state != b'D' {
            assert!(Instant::now() < deadline, "the process does not wait for its memory");
            std::thread::yield_now();
        }
        Some(hanging)
    }
}

impl Drop for HangingProcess {
    fn drop(&mut self) {
        let dir = CString::new(self.dir.path().as_os_str().as_bytes()).unwrap();
        // The device closes with its server, and the file system ends with that: every wait for it is over.
        self.over.store(true, Ordering::Release);
        let pid = self.pid.cast_signed();
        // SAFETY: plain numbers, a C string that lives through the call, and no status is asked for.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::umount2(dir.as_ptr(), libc::MNT_DETACH);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Maps the file, says where, waits for a word, and changes its memory. It keeps nothing open that the end of the file
/// system needs closed, nor the file, which it could not close without an answer.
fn child(device: RawFd, file: &CString, say: RawFd, hear: RawFd) -> ! {
    // SAFETY: system calls only; what they point to lives as long as this function, which does not return.
    unsafe {
        libc::close(device);
        let fd = libc::open(file.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        let none = std::ptr::null_mut();
        let mapped = libc::mmap(none, PAGE, libc::PROT_READ, libc::MAP_SHARED, fd, 0);
        libc::close(fd);
        let address = (mapped as u64).to_ne_bytes();
        libc::write(say, address.as_ptr().cast(), address.len());
        let mut word = [0_u8; 1];
        libc::read(hear, word.as_mut_ptr().cast(), 1);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(none, PAGE, libc::PROT_READ, flags, -1, 0);
        libc::_exit(0)
    }
}

fn pipe() -> (File, File) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (File::from(read), File::from(write))
}

fn mount(device: &File, dir: &Path) -> std::io::Result<()> {
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let (dir, options) = (CString::new(dir.as_os_str().as_bytes())?, CString::new(options)?);
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: all arguments are C strings that live through the call.
    let result = unsafe {
        libc::mount(c"hanging".as_ptr(), dir.as_ptr(), c"fuse".as_ptr(), flags, options.as_ptr().cast())
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// A file system of one file whose content never comes; the operations as `linux/fuse.h` numbers them.
fn serve(mut device: File, asked: &Sender<()>, is_over: &AtomicBool) {
    const LOOKUP: u32 = 1;
    const FORGET: u32 = 2;
    const GETATTR: u32 = 3;
    const OPEN: u32 = 14;
    const READ: u32 = 15;
    const INIT: u32 = 26;
    const INTERRUPT: u32 = 36;
    const BATCH_FORGET: u32 = 42;
    const ROOT: u64 = 1;
    const FILE: u64 = 2;
    let mut request = vec![0_u8; 256 << 10];
    while !is_over.load(Ordering::Acquire) {
        let timeout = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        match poll(&mut [PollFd::new(&device, PollFlags::IN)], Some(&timeout)) {
            Ok(1) => {}
            _ => continue,
        }
        let Ok(_) = device.read(&mut request) else { continue };
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
        let (operation, unique, node) = (word(4), long(8), long(16));
        let mut answer = Vec::new();
        let mut error = 0_i32;
        match operation {
            INIT => {
                // Version 7.31, reading ahead by nothing, no options, 4 KiB to write; the rest is zero.
                for value in [7_u32, 31, 0, 0, 0, 4_096] {
                    answer.extend(value.to_ne_bytes());
                }
                answer.resize(64, 0);
            }
            LOOKUP => {
                for value in [FILE, 0, 3_600, 3_600, 0] {
                    answer.extend(value.to_ne_bytes());
                }
                answer.extend(attributes(FILE, libc::S_IFREG | 0o444));
            }
            GETATTR => {
                for value in [3_600_u64, 0] {
                    answer.extend(value.to_ne_bytes());
                }
                let mode = if node == ROOT { libc::S_IFDIR | 0o555 } else { libc::S_IFREG | 0o444 };
                answer.extend(attributes(node, mode));
            }
            OPEN => answer.resize(16, 0),
            READ => {
                let _ = asked.send(());
                continue;
            }
            FORGET | BATCH_FORGET | INTERRUPT => continue,
            _ => error = -libc::ENOSYS,
        }
        let length = u32::try_from(16 + answer.len()).unwrap();
        let mut whole = length.to_ne_bytes().to_vec();
        whole.extend(error.to_ne_bytes());
        whole.extend(unique.to_ne_bytes());
        whole.extend(answer);
        // Whoever asked may be gone.
        let _ = device.write_all(&whole);
    }
}

/// As `struct fuse_attr`.
fn attributes(node: u64, mode: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Inode, size, blocks, three times.
    for value in [node, PAGE as u64, 8, 0, 0, 0] {
        bytes.extend(value.to_ne_bytes());
    }
    // Three fractions of times, mode, links, user, group, device, block size, flags.
    for value in [0, 0, 0, mode, 1, 0, 0, 0, PAGE as u32, 0] {
        bytes.extend(value.to_ne_bytes());
    }
    bytes
}
