//! io_uring by hand: as much of it as asking for a connection takes.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::stage::sockaddr;

/// linux/io_uring.h
const OP_POLL_ADD: u8 = 6;
const OP_CONNECT: u8 = 16;
const LINK: u8 = 4;
const GET_EVENTS: u32 = 1;
const AT_SUBMISSIONS: i64 = 0;
const AT_COMPLETIONS: i64 = 0x800_0000;
const AT_ENTRIES: i64 = 0x1000_0000;
/// Words of `struct io_uring_params`: where the parts of both queues lie.
const PARAMETERS: usize = 30;
const SUBMISSION_TAIL: usize = 11;
const SUBMISSION_ARRAY: usize = 16;
const COMPLETION_TAIL: usize = 21;
const COMPLETIONS: usize = 25;

const ENTRIES: u32 = 4;

/// `struct io_uring_sqe`
#[repr(C)]
#[derive(Default)]
struct Submission {
    operation: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    length: u32,
    operation_flags: u32,
    data: u64,
    rest: [u64; 3],
}

/// `struct io_uring_cqe`
#[repr(C)]
struct Completion {
    data: u64,
    result: i32,
    flags: u32,
}

/// A ring for one submission of up to [`ENTRIES`] operations.
pub(crate) struct Ring {
    fd: OwnedFd,
    parameters: [u32; PARAMETERS],
    submissions: *mut u8,
    completions: *mut u8,
    entries: *mut Submission,
    /// The kernel reads it when the operation begins.
    to: Box<libc::sockaddr_in>,
    submitted: u32,
}

impl Ring {
    /// # Errors
    /// If this host lets nobody have one.
    pub(crate) fn new(to: SocketAddr) -> io::Result<Self> {
        let mut parameters = [0; PARAMETERS];
        // SAFETY: the parameters are as long as the kernel's, the descriptor is new, and the
        // kernel places the mappings, which stay until the process ends.
        unsafe {
            let fd = libc::syscall(libc::SYS_io_uring_setup, ENTRIES, parameters.as_mut_ptr());
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = OwnedFd::from_raw_fd(i32::try_from(fd).unwrap());
            let map = |at: i64| {
                let (read, write) = (libc::PROT_READ, libc::PROT_WRITE);
                // Both queues with their entries fit into a page.
                let none = std::ptr::null_mut();
                let place = libc::mmap(none, 4096, read | write, libc::MAP_SHARED, fd.as_raw_fd(), at);
                assert_ne!(place, libc::MAP_FAILED);
                place.cast::<u8>()
            };
            Ok(Self {
                submissions: map(AT_SUBMISSIONS),
                completions: map(AT_COMPLETIONS),
                entries: map(AT_ENTRIES).cast(),
                fd,
                parameters,
                to: Box::new(sockaddr(to)),
                submitted: 0,
            })
        }
    }

    /// Asks for the connection now.
    pub(crate) fn connect(&mut self, socket: RawFd) {
        let connect = self.connecting(socket);
        self.submit([connect]);
    }

    /// Asks for the connection once something can be read there.
    pub(crate) fn connect_after(&mut self, readable: RawFd, socket: RawFd) {
        let wait = Submission {
            operation: OP_POLL_ADD,
            flags: LINK,
            fd: readable,
            operation_flags: u32::from(libc::POLLIN.cast_unsigned()),
            ..Submission::default()
        };
        let connect = self.connecting(socket);
        self.submit([wait, connect]);
    }

    fn connecting(&self, socket: RawFd) -> Submission {
        Submission {
            operation: OP_CONNECT,
            fd: socket,
            offset: size_of::<libc::sockaddr_in>() as u64,
            address: (&raw const *self.to) as u64,
            ..Submission::default()
        }
    }

    fn submit<const N: usize>(&mut self, operations: [Submission; N]) {
        assert_eq!(self.submitted, 0);
        self.submitted = u32::try_from(N).unwrap();
        assert!(self.submitted <= ENTRIES);
        let array = self.parameters[SUBMISSION_ARRAY] as usize;
        // SAFETY: all places lie within the mappings, as the kernel said; it looks at them in
        // the call.
        unsafe {
            for (index, operation) in operations.into_iter().enumerate() {
                self.entries.add(index).write(operation);
                self.submissions.add(array).cast::<u32>().add(index).write(u32::try_from(index).unwrap());
            }
            self.tail(self.submissions, SUBMISSION_TAIL).store(self.submitted, Ordering::Release);
        }
        assert_eq!(self.enter(self.submitted, 0, 0), i64::from(self.submitted));
    }

    /// Waits for all that was submitted, which must have come out well.
    pub(crate) fn finish(self) {
        let tail = self.tail(self.completions, COMPLETION_TAIL);
        while tail.load(Ordering::Acquire) < self.submitted {
            self.enter(0, self.submitted, GET_EVENTS);
        }
        for index in 0..self.submitted as usize {
            // SAFETY: it lies within the mapping, and the kernel has written so many.
            let result = unsafe {
                let all = self.completions.add(self.parameters[COMPLETIONS] as usize);
                all.cast::<Completion>().add(index).read().result
            };
            assert!(result >= 0, "{}", io::Error::from_raw_os_error(-result));
        }
    }

    fn enter(&self, submit: u32, wait_for: u32, flags: u32) -> i64 {
        let none = std::ptr::null::<libc::c_void>();
        // SAFETY: it reads and writes what is mapped, and the address in `to`.
        unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd.as_raw_fd(),
                submit,
                wait_for,
                flags,
                none,
                0_usize,
            )
        }
    }

    fn tail(&self, queue: *mut u8, parameter: usize) -> &AtomicU32 {
        // SAFETY: the kernel said that it lies there, and changes it as an atomic, too.
        unsafe { AtomicU32::from_ptr(queue.add(self.parameters[parameter] as usize).cast()) }
    }
}
