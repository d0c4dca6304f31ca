//! Signals with their senders.
//!
//! All signals that can be caught and usually end or stop a process are blocked in
//! every thread and read from a signalfd (signalfd(2)), which says who sent them.
#![allow(
    unsafe_code,
    reason = "no safe wrapper gives signalfd with the sender; each block says why it is sound"
)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd as _, OwnedFd};

use tokio::sync::mpsc;

/// What is caught. SIGSTOP and SIGKILL can't be; SIGCONT tells that a stop is over.
const CAUGHT: [i32; 10] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGTSTP,
    libc::SIGCONT,
];

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: u8,
    /// Who sent it, as the kernel vouches for it; `None` for the kernel itself (a terminal's Ctrl-C).
    pub by: Option<Sender>,
    /// Whoever sent it wrote himself who that is, or had it sent by a file, so that nobody knows.
    pub is_unvouched: bool,
}

/// Who sent a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// PID, as this process's PID namespace has it; 0 for one outside of it.
    pub pid: u32,
    /// Real user id.
    pub uid: u32,
}

impl Received {
    /// Whether it asks the agent to stop. One whose sender is not known does not: neither system nor terminal sends such.
    pub fn asks_to_stop(&self) -> bool {
        !self.is_unvouched && matches!(i32::from(self.signal), libc::SIGTERM | libc::SIGINT | libc::SIGQUIT)
    }

    /// Whether it comes from where an agent's signals are expected to come from: the
    /// system's or its own supervisor, or the terminal.
    pub fn is_expected(&self) -> bool {
        let parent = std::os::unix::process::parent_id();
        let is_of = |by: Sender| by.pid == 1 || (by.pid == parent && crate::supervisor::is_supervised());
        !self.is_unvouched && self.by.is_none_or(is_of)
    }
}

/// Blocks the signals in this thread and in all that it starts later. To be called
/// before there are others.
///
/// # Errors
/// If the system refuses.
pub fn block() -> io::Result<()> {
    let set = caught();
    // SAFETY: `set` is an initialised set; no old mask is asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Hands out signals as they come, from a thread of its own. They must be [blocked](block).
///
/// # Errors
/// If the system refuses the descriptor or the thread.
pub fn listen() -> io::Result<mpsc::UnboundedReceiver<Received>> {
    let mut file = descriptor()?;
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while let Ok(received) = next(&mut file) {
            if sender.send(received).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// The descriptor from which signals are read.
///
/// # Errors
/// If the system refuses it.
pub fn descriptor() -> io::Result<File> {
    let set = caught();
    // SAFETY: `set` is an initialised set; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// The next signal.
///
/// # Errors
/// If the descriptor can't be read.
pub fn next(file: &mut File) -> io::Result<Received> {
    let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
    file.read_exact(&mut info)?;
    let word = |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
    let code = i32::from_ne_bytes(word(CODE).to_ne_bytes());
    // Only kill(2) and tgkill(2) have the kernel write the sender, and no other process can use their codes; with
    // rt_sigqueueinfo(2) the sender writes all other codes below 0, and who he is (sigaction(2)).
    let by = matches!(code, SI_USER | SI_TKILL).then(|| Sender { pid: word(PID), uid: word(UID) });
    let is_unvouched = by.is_none() && code != SI_KERNEL;
    Ok(Received { signal: u8::try_from(word(NUMBER)).unwrap_or(u8::MAX), by, is_unvouched })
}

/// Codes of `asm-generic/siginfo.h`.
const SI_USER: i32 = 0;
const SI_KERNEL: i32 = 0x80;
const SI_TKILL: i32 = -6;

const NUMBER: usize = std::mem::offset_of!(libc::signalfd_siginfo, ssi_signo);
const CODE: usize = std::mem::offset_of!(libc::signalfd_siginfo, ssi_code);
const PID: usize = std::mem::offset_of!(libc::signalfd_siginfo, ssi_pid);
const UID: usize = std::mem::offset_of!(libc::signalfd_siginfo, ssi_uid);

fn caught() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set that it is given, sigaddset changes an initialised one.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in CAUGHT {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}
