//! Keeps signals away from a thread for a while.
//!
//! The kernel gives up checking a program (`EAGAIN`) when a signal is pending for the thread that loads it, and a check
//! may take a tenth of a second. Where children end all the time no try would ever come through: each SIGCHLD that
//! arrives while some thread is starting a process, and so has signals blocked, is given to another thread.

#![allow(unsafe_code, reason = "the C library sets the mask of a thread")]

use std::mem::MaybeUninit;

/// Signals wait for this thread as long as this lives. It must be dropped by the thread that made it, which it
/// can't leave.
pub(super) struct Uninterrupted {
    before: libc::sigset_t,
    /// A mask is its thread's own.
    not_send: std::marker::PhantomData<*const ()>,
}

impl Uninterrupted {
    /// Begins; signals that can't be blocked come all the same.
    pub(super) fn begin() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: `sigfillset` and `sigemptyset` initialise the sets that they are given, and `pthread_sigmask` reads
        // one and writes the other; both live until it returns. With a valid first argument it can't fail.
        let before = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::sigemptyset(before.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
            before.assume_init()
        };
        Self { before, not_send: std::marker::PhantomData }
    }
}

impl Drop for Uninterrupted {
    fn drop(&mut self) {
        // SAFETY: the set was written by `pthread_sigmask`; the place for the mask before may be null.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut());
        }
    }
}
