//! Wakes a thread that also waits to be stopped.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use sensor_api::StopSignal;

/// Rings until it is heard.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(crate) fn ring(&self) {
        // It can only fail where it rings already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Waits for the stop, for so long, and, if `listens`, for the bell; true if it is to stop.
    pub(crate) fn stops(&self, stop: &StopSignal, limit: Duration, listens: bool) -> bool {
        let mut descriptors = [
            PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN),
        ];
        let descriptors = if listens { &mut descriptors[..] } else { &mut descriptors[..1] };
        let timeout = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let result = poll(descriptors, Some(&timeout));
        let rings = descriptors.get(1).is_some_and(|bell| !bell.revents().is_empty());
        let stops = !descriptors[0].revents().is_empty();
        if rings {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.0, &mut count);
        }
        stops || result.is_err_and(|error| error != rustix::io::Errno::INTR)
    }
}
