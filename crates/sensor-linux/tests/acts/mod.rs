//! The acts: done by a child of the tests, on nothing but its own children, files and
//! namespaces. Each undoes what outlives it.

use std::ffi::{CString, c_void};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub(crate) fn perform(name: &str) {
    let argument = std::env::var("RAMPART_TEST_ARGUMENT").unwrap();
    match name {
        "ptrace" => ptrace(),
        "other_memory" => other_memory(),
        "executable_memory" => executable_memory(),
        "rename" => rename(),
        "memfd" => memfd(),
        "signals" => signals(argument.parse().unwrap()),
        "many_signals" => many_signals(),
        "privileges" => privileges(),
        "mounts" => mounts(Path::new(&argument)),
        "namespaces" => namespaces(),
        "bpf" => bpf(),
        "modules" => modules(&argument),
        "libraries" => libraries(Path::new(&argument)),
        "unix_sockets" => unix_sockets(&argument),
        "changed_addresses" => changed_addresses(Path::new(&argument)),
        _ => panic!("no act {name}"),
    }
}

/// A process that does nothing until it is let go.
struct Victim(Child);

impl Victim {
    fn start() -> Self {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "echo ready; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        // Its image stands, so its memory stays where it is.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child)
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

fn check(result: i64, what: &str) -> i64 {
    assert!(result >= 0, "{what}: {}", std::io::Error::last_os_error());
    result
}

fn tell(name: &str, number: impl std::fmt::Display) {
    println!("\n{name}={number}");
}

fn ptrace() {
    let victim = Victim::start();
    tell("target", victim.pid());
    let none = std::ptr::null_mut::<c_void>();
    let request = |request: libc::c_uint, address: *mut c_void, data: *mut c_void| {
        // SAFETY: the requests here read and write nothing of this process.
        unsafe { libc::ptrace(request, victim.pid(), address, data) }
    };
    check(request(libc::PTRACE_ATTACH, none, none), "attach");
    let mut status = 0;
    // SAFETY: `status` lives through the call.
    check(unsafe { libc::waitpid(victim.pid(), &raw mut status, 0) }.into(), "waitpid");
    // A debug register: writing it as it was changes nothing.
    let debug_register = std::mem::offset_of!(libc::user, u_debugreg) as *mut c_void;
    for _ in 0..100 {
        request(libc::PTRACE_PEEKUSER, debug_register, none);
    }
    check(request(libc::PTRACE_POKEUSER, debug_register, none), "poke");
    check(request(libc::PTRACE_DETACH, none, none), "detach");
    // SAFETY: nobody has this PID, so nothing is done.
    let refused = unsafe { libc::ptrace(libc::PTRACE_SEIZE, 4_194_303, none, none) };
    assert!(refused < 0);
}

fn other_memory() {
    let victim = Victim::start();
    let pid = victim.pid();
    tell("target", pid);
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    std::fs::read(format!("/proc/{pid}/stat")).unwrap();
    std::fs::read("/proc/self/maps").unwrap();
    let stack = maps.lines().find(|line| line.ends_with("[stack]")).unwrap();
    let end = stack.split_once('-').unwrap().1.split_once(' ').unwrap().0;
    let address = usize::from_str_radix(end, 16).unwrap() - 64;
    let mut buffer = [0_u8; 16];
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 16 };
    let remote = libc::iovec { iov_base: address as *mut c_void, iov_len: 16 };
    // SAFETY: both vectors describe 16 bytes, here and there.
    unsafe {
        check(libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) as i64, "readv");
        check(libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) as i64, "writev");
    }
    drop(File::open(format!("/proc/{pid}/mem")).unwrap());
    drop(OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).unwrap());
    // SAFETY: both calls give a new descriptor or an error.
    unsafe {
        let pidfd = check(libc::syscall(libc::SYS_pidfd_open, pid, 0), "pidfd_open");
        let copy = check(libc::syscall(libc::SYS_pidfd_getfd, pidfd, 0, 0), "pidfd_getfd");
        libc::close(copy as i32);
        libc::close(pidfd as i32);
    }
}

fn map(length: usize, protection: i32, flags: i32, file: i32) -> *mut c_void {
    // SAFETY: a new mapping at a place that the kernel chooses.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, file, 0) };
    assert_ne!(address, libc::MAP_FAILED);
    address
}

fn executable_memory() {
    let (read, write, execute) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    for _ in 0..50 {
        let address = map(8192, read | write | execute, anonymous, -1);
        let other = map(8192, read | write, anonymous, -1);
        // SAFETY: the two mappings are ours and nothing lies in them.
        unsafe {
            check(libc::mprotect(other, 8192, read | execute).into(), "mprotect");
            check(libc::mprotect(other, 8192, read | write | execute).into(), "mprotect");
            libc::munmap(address, 8192);
            libc::munmap(other, 8192);
        }
    }
}

fn rename() {
    // The test harness runs this on a second thread, and only the main thread's name is
    // that of the process: a child has but one.
    // SAFETY: the child calls nothing but the kernel. The name is a C string; the second
    // call is refused, as 1 is no address.
    unsafe {
        let child = check(libc::fork().into(), "fork");
        if child == 0 {
            libc::prctl(libc::PR_SET_NAME, c"[kworker/0:1]".as_ptr());
            libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_ARG_START, 1, 0, 0);
            libc::_exit(0);
        }
        tell("renamed", child);
        let mut status = 0;
        check(libc::waitpid(child as i32, &raw mut status, 0).into(), "waitpid");
    }
}

/// A file in memory with the content of a file.
fn file_in_memory(name: &str, content: &str) -> File {
    let name = CString::new(name).unwrap();
    // SAFETY: the name is a C string; the descriptor is new and nobody else's.
    let mut file = unsafe {
        let descriptor = check(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC).into(), "memfd_create");
        File::from_raw_fd(descriptor as i32)
    };
    file.write_all(&std::fs::read(content).unwrap()).unwrap();
    file
}

fn memfd() {
    let file = file_in_memory("not on disk", "/bin/true");
    let mut child = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd())).spawn().unwrap();
    tell("ran", child.id());
    assert!(child.wait().unwrap().success());
}

fn signals(agent: i32) {
    let kill = |pid: i32, signal: i32| {
        // SAFETY: it sends a signal to a child, or to the test, which ignores it.
        i64::from(unsafe { libc::kill(pid, signal) })
    };
    let mut victim = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
    tell("target", victim.id());
    let pid = victim.id().cast_signed();
    for signal in [libc::SIGSTOP, libc::SIGCONT, libc::SIGTERM] {
        check(kill(pid, signal), "kill");
    }
    victim.wait().unwrap();
    let mut victim = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
    tell("forged", victim.id());
    // SAFETY: siginfo_t may be all zeroes; the kernel reads it and writes nothing.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        info.si_signo = libc::SIGQUIT;
        info.si_code = libc::SI_TIMER;
        let pid = victim.id().cast_signed();
        check(libc::syscall(libc::SYS_rt_sigqueueinfo, pid, libc::SIGQUIT, &raw const info), "sigqueue");
    }
    victim.wait().unwrap();
    // Ignored unless somebody asks for it.
    check(kill(agent, libc::SIGURG), "kill");
    // SAFETY: it concerns this process alone.
    check(unsafe { libc::setuid(65534) }.into(), "setuid");
    assert!(kill(agent, libc::SIGTERM) < 0);
}

/// Several threads do the same thing as often as they can, for longer than a span lasts.
fn many_signals() {
    let mut victim = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
    tell("target", victim.id());
    let pid = victim.id().cast_signed();
    let begin = Instant::now();
    let send = move || {
        let mut sent = 0_u32;
        while begin.elapsed() < Duration::from_millis(3_200) {
            // SAFETY: it sends a signal that changes nothing to a child.
            check(i64::from(unsafe { libc::kill(pid, libc::SIGCONT) }), "kill");
            sent += 1;
        }
        sent
    };
    let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(send)).collect();
    let sent: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    // One more when the last span is over tells all that was counted.
    let end = Instant::now();
    while end.elapsed() < Duration::from_millis(1_200) {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    // SAFETY: as above.
    check(i64::from(unsafe { libc::kill(pid, libc::SIGCONT) }), "kill");
    tell("sent", sent + 1);
    tell("milliseconds", begin.elapsed().as_millis());
    drop(victim.stdin.take());
    victim.wait().unwrap();
}

fn privileges() {
    // Version 3 of the kernel's capability interface, and two words for each set.
    let header: [u32; 2] = [0x2008_0522, 0];
    // CAP_SETUID and CAP_SETGID.
    let sets: [u32; 6] = [0xc0, 0xc0, 0, 0, 0, 0];
    // SAFETY: they concern this process alone; the structures are as the kernel has them.
    unsafe {
        check(libc::setresgid(65534, 65534, 65534).into(), "setresgid");
        check(libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()), "capset");
        check(libc::setuid(65534).into(), "setuid");
        assert!(libc::setuid(0) < 0);
    }
}

fn mounts(place: &Path) {
    let path = |name: &str| CString::new(place.join(name).to_str().unwrap()).unwrap();
    for name in ["a", "b", "c"] {
        std::fs::create_dir(place.join(name)).unwrap();
    }
    let none = std::ptr::null();
    // SAFETY: all texts are C strings; the mounts are in a namespace of this process.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS).into(), "unshare");
        let private = libc::MS_REC | libc::MS_PRIVATE;
        check(libc::mount(none, c"/".as_ptr(), none, private, none.cast()).into(), "make private");
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        let tmpfs = c"tmpfs".as_ptr();
        check(libc::mount(c"source".as_ptr(), path("a").as_ptr(), tmpfs, flags, none.cast()).into(), "mount");
        std::env::set_current_dir(place).unwrap();
        check(
            libc::mount(path("a").as_ptr(), c"b".as_ptr(), none, libc::MS_BIND, none.cast()).into(),
            "bind",
        );

        let context = check(libc::syscall(libc::SYS_fsopen, tmpfs, 0), "fsopen");
        // FSCONFIG_CMD_CREATE
        check(libc::syscall(libc::SYS_fsconfig, context, 6, none, none, 0), "fsconfig");
        let mount = check(libc::syscall(libc::SYS_fsmount, context, 0, 0), "fsmount");
        let here = libc::AT_FDCWD;
        // MOVE_MOUNT_F_EMPTY_PATH
        let moved = libc::syscall(libc::SYS_move_mount, mount, c"".as_ptr(), here, path("c").as_ptr(), 4);
        check(moved, "move_mount");
        for name in ["c", "b", "a"] {
            check(libc::umount2(path(name).as_ptr(), libc::MNT_DETACH).into(), "umount");
        }
        assert!(libc::umount2(path("missing").as_ptr(), 0) < 0);
    }
}

fn namespaces() {
    let before = File::open("/proc/self/ns/uts").unwrap();
    tell("uts", std::os::unix::fs::MetadataExt::ino(&before.metadata().unwrap()));
    // SAFETY: they concern this process alone; the child does nothing but end.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWUTS | libc::CLONE_NEWIPC).into(), "unshare");
        check(libc::setns(before.as_raw_fd(), 0).into(), "setns");
        let flags = libc::CLONE_NEWUTS | libc::CLONE_NEWNET | libc::SIGCHLD;
        let child = check(libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0), "clone");
        if child == 0 {
            libc::_exit(0);
        }
        tell("child", child);
        let mut status = 0;
        check(libc::waitpid(child as i32, &raw mut status, 0).into(), "waitpid");
    }
}

/// The part of `union bpf_attr` that loading takes (`linux/bpf.h`).
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instructions_count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
    version: u32,
    flags: u32,
    name: [u8; 16],
}

fn bpf() {
    // r0 = 0; exit. And, to be refused: exit without a result.
    let good: [u64; 2] = [0xb7, 0x95];
    let bad: [u64; 1] = [0x95];
    let load = |program_type: u32, instructions: &[u64], name: &str| {
        let mut load = Load {
            program_type,
            instructions_count: u32::try_from(instructions.len()).unwrap(),
            instructions: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            ..Load::default()
        };
        load.name[..name.len()].copy_from_slice(name.as_bytes());
        // BPF_PROG_LOAD. SAFETY: what it points to lives through the call.
        unsafe { libc::syscall(libc::SYS_bpf, 5, &raw const load, size_of::<Load>()) }
    };
    let program = check(load(17, &good, "harmless"), "load");
    let point: [u64; 2] = [c"sched_process_hang".as_ptr() as u64, program.cast_unsigned()];
    // BPF_RAW_TRACEPOINT_OPEN. SAFETY: as above. It ends with this process.
    check(unsafe { libc::syscall(libc::SYS_bpf, 17, &raw const point, 16) }, "attach");
    assert!(load(1, &bad, "refused") < 0);
}

fn modules(path: &str) {
    let file = File::open(path).unwrap();
    // SAFETY: the kernel reads the texts and refuses what is no module.
    unsafe {
        assert!(libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) < 0);
        assert!(libc::syscall(libc::SYS_init_module, c"no module".as_ptr(), 9_u64, c"".as_ptr()) < 0);
        assert!(libc::syscall(libc::SYS_delete_module, c"no_such_module".as_ptr(), 0) < 0);
    }
}

fn libraries(place: &Path) {
    let load = |file: &File| {
        map(4096, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE, file.as_raw_fd());
    };
    for name in ["plain.so", "open.so", "gone.so"] {
        let file = File::open(place.join(name)).unwrap();
        if name == "gone.so" {
            std::fs::remove_file(place.join(name)).unwrap();
        }
        load(&file);
    }
    load(&file_in_memory("library", "/bin/true"));
}

fn unix_sockets(argument: &str) {
    let (place, name) = argument.split_once('\n').unwrap();
    std::env::set_current_dir(place).unwrap();
    UnixStream::connect("here.sock").unwrap();
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
    assert!(UnixStream::connect(Path::new(place).join("missing.sock")).is_err());
}

/// Sockets of the act "changed_addresses".
pub(crate) const CHANGED: usize = 64;

/// An address as connect(2) takes it, which another thread can write to meanwhile.
#[repr(C)]
struct OpenAddress {
    family: AtomicU16,
    path: [u8; 108],
}

/// Connects to sockets in this folder, while another thread never leaves the addresses' family alone.
fn changed_addresses(place: &Path) {
    let is_over = AtomicBool::new(false);
    let address_of = |path: &Path| {
        let mut address = OpenAddress { family: AtomicU16::new(0), path: [0; 108] };
        let bytes = path.as_os_str().as_bytes();
        address.path[..bytes.len()].copy_from_slice(bytes);
        address
    };
    let paths: Vec<_> = (0..CHANGED).map(|index| place.join(format!("{index}.sock"))).collect();
    let addresses: Vec<_> = paths.iter().map(|path| address_of(path)).collect();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for family in [libc::AF_UNIX, libc::AF_INET] {
                    for address in &addresses {
                        address.family.store(family as u16, Ordering::Relaxed);
                    }
                }
            }
        });
        for (path, address) in paths.iter().zip(&addresses) {
            let _listener = UnixListener::bind(path).unwrap();
            // SAFETY: it makes a socket.
            let socket = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
            assert!(socket >= 0);
            // SAFETY: the address is as long as said and lives through the call; the kernel reads it once.
            while unsafe {
                libc::connect(
                    socket,
                    (&raw const *address).cast(),
                    size_of::<OpenAddress>() as libc::socklen_t,
                )
            } < 0
            {
                std::thread::yield_now();
            }
            // SAFETY: it is this act's.
            drop(unsafe { UnixStream::from_raw_fd(socket) });
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
