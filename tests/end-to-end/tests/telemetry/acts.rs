//! The acts. Each is real, local and harmless, and leaves nothing outside the stage.

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};

/// Names what a child of the test is to do.
pub(crate) const ROLE: &str = "RAMPART_TELEMETRY_ROLE";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    None,
    Process,
    CreateFile,
    ModifyFile,
    DeleteFile,
    Logon,
    FailedLogon,
    Script,
    Connect,
    AskName,
    ScheduledTask,
    CreateAccount,
    ModifyAccount,
    DeleteAccount,
    LoadModule,
    ModifyModule,
    LoadBpf,
    RawRead,
    AccessProcess,
    TamperProcess,
    RunMemfd,
    CreateService,
    ModifyService,
    DeleteService,
    StopAgent,
    NewExecutable,
}

/// Does it, and waits until it is done.
pub(crate) fn perform(act: Act) {
    match act {
        Act::None | Act::StopAgent => {}
        Act::Process => sh("/bin/echo rampart-telemetry > /dev/null"),
        Act::CreateFile => sh("d=$(mktemp -d); : > $d/telemetry-created; rm -r $d"),
        Act::ModifyFile => {
            sh("d=$(mktemp -d); : > $d/telemetry-modified; echo more >> $d/telemetry-modified; rm -r $d")
        }
        Act::DeleteFile => sh("d=$(mktemp -d); : > $d/telemetry-deleted; rm -r $d"),
        Act::Logon => sh("su -s /bin/sh -c true nobody"),
        // nobody does not know root's password.
        Act::FailedLogon => {
            sh("echo wrong | setpriv --reuid=65534 --regid=65534 --clear-groups su root -c true || true")
        }
        Act::Script => {
            sh("d=$(mktemp -d); printf '#!/bin/sh\\n# telemetry\\nsleep 0.3\\n' > $d/telemetry-script; \
            chmod 755 $d/telemetry-script; $d/telemetry-script; rm -r $d")
        }
        Act::Connect | Act::AskName | Act::LoadModule | Act::LoadBpf | Act::RunMemfd => as_child(act),
        Act::AccessProcess | Act::TamperProcess => as_child(act),
        Act::ScheduledTask => sh("echo '5 4 * * 1 root /bin/true' > /etc/cron.d/telemetry-task"),
        Act::CreateAccount => sh("useradd --no-create-home --shell /bin/false telemetry1"),
        Act::ModifyAccount => sh("usermod --shell /bin/true telemetry1"),
        Act::DeleteAccount => sh("userdel telemetry1"),
        Act::ModifyModule => sh(
            "f=/lib/modules/$(uname -r)/kernel/drivers/telemetry.ko; : > $f; sleep 0.3; echo changed >> $f",
        ),
        Act::RawRead => sh(
            "d=$(mktemp -d); n=$(cat /sys/block/*/dev | head -1); mknod $d/telemetry-disk b ${n%:*} ${n#*:}; \
            head -c 512 $d/telemetry-disk > /dev/null || true; rm -r $d",
        ),
        Act::CreateService => sh(
            "printf '[Service]\\nExecStart=/bin/true\\nUser=nobody\\n' > /etc/systemd/system/telemetry.service",
        ),
        Act::ModifyService => sh(
            "printf '[Service]\\nExecStart=/bin/false\\nUser=nobody\\n' > /etc/systemd/system/telemetry.service",
        ),
        Act::DeleteService => sh("rm /etc/systemd/system/telemetry.service"),
        Act::NewExecutable => {
            sh("d=$(mktemp -d); cp /bin/sleep $d/telemetry-program; $d/telemetry-program 0.3; rm -r $d")
        }
    }
}

fn sh(script: &str) {
    let status =
        Command::new("/bin/sh").args(["-ec", script]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.unwrap().success(), "{script}");
}

/// Acts for which a shell has no words are this test's binary's own, in another process.
fn as_child(act: Act) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role", "--nocapture"])
        .env(ROLE, format!("{act:?}"))
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{act:?}");
}

/// In the child.
pub(crate) fn play(role: &str) {
    match role {
        "Connect" => {
            let listener = std::net::TcpListener::bind("127.71.3.9:0").unwrap();
            std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            listener.accept().unwrap();
        }
        "AskName" => {
            let socket = std::net::UdpSocket::bind("127.71.3.9:0").unwrap();
            let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x09telemetry\x07example\x04test\0\0\x01\0\x01";
            socket.send_to(query, "127.71.3.9:53").unwrap();
        }
        "LoadModule" => syscalls::try_to_load_module(),
        "LoadBpf" => syscalls::load_bpf(),
        "RunMemfd" => syscalls::run_from_memory(),
        "AccessProcess" => syscalls::touch_child_memory(false),
        "TamperProcess" => syscalls::touch_child_memory(true),
        other => panic!("no role {other}"),
    }
}

/// Calls that the standard library does not offer.
#[allow(unsafe_code, reason = "the acts are system calls that have no safe form")]
mod syscalls {
    use super::*;

    pub(super) fn try_to_load_module() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("telemetry.ko");
        std::fs::write(&path, "not a module").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        // SAFETY: the text lives through the call; no kernel takes this file for a module.
        let result = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
        assert_ne!(result, 0);
    }

    pub(super) fn load_bpf() {
        // mov r0, 0; exit (linux/bpf.h, struct bpf_insn).
        let program: [u64; 2] = [0xb7, 0x95];
        let license = c"GPL";
        // The first fields of union bpf_attr for BPF_PROG_LOAD: type (1: socket filter), instructions, their
        // address, the licence's; log level, size and address, version, flags; the name.
        let mut attributes = [0_u8; 128];
        attributes[0..4].copy_from_slice(&1_u32.to_ne_bytes());
        attributes[4..8].copy_from_slice(&2_u32.to_ne_bytes());
        attributes[8..16].copy_from_slice(&(program.as_ptr() as u64).to_ne_bytes());
        attributes[16..24].copy_from_slice(&(license.as_ptr() as u64).to_ne_bytes());
        attributes[48..57].copy_from_slice(b"telemetry");
        // SAFETY: all that the attributes point to lives through the call.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, 5, attributes.as_ptr(), attributes.len()) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    }

    pub(super) fn run_from_memory() {
        // SAFETY: the name lives through the call.
        let fd = unsafe { libc::memfd_create(c"telemetry-memory".as_ptr(), 0) };
        assert!(fd >= 0);
        let path = format!("/proc/self/fd/{fd}");
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all(&std::fs::read("/bin/true").unwrap())
            .unwrap();
        let path = format!("/proc/{}/fd/{fd}", std::process::id());
        assert!(Command::new(path).status().unwrap().success());
    }

    pub(super) fn touch_child_memory(write: bool) {
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        // Its first mapping that may be written.
        let writable = |line: &str| {
            let (range, rest) = line.split_once(' ')?;
            let start = range.split('-').next()?;
            rest.starts_with("rw").then(|| usize::from_str_radix(start, 16).ok())?
        };
        let address = loop {
            let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
            if maps.contains("/cat")
                && let Some(address) = maps.lines().find_map(writable)
            {
                break address;
            }
        };
        let mut bytes = [0_u8; 8];
        let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
        let pid = child.id().cast_signed();
        // SAFETY: the local bytes live through the calls; the others are the child's.
        let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        assert_eq!(read, 8);
        if write {
            // What stood there before, so that nothing changes.
            // SAFETY: as above.
            let written =
                unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
            assert_eq!(written, 8);
        }
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
