use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

/// Asks sources to stop, once it is dropped.
#[derive(Debug)]
pub struct StopHandle {
    _writer: PipeWriter,
}

/// Becomes readable (end of file) when the source is to stop.
#[derive(Debug, Clone)]
pub struct StopSignal {
    reader: Arc<PipeReader>,
}

impl AsFd for StopSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// A pair of them.
///
/// # Errors
/// If no pipe can be made.
pub fn stop_signal() -> std::io::Result<(StopHandle, StopSignal)> {
    let (reader, writer) = std::io::pipe()?;
    Ok((StopHandle { _writer: writer }, StopSignal { reader: Arc::new(reader) }))
}

impl StopSignal {
    /// Waits for so long; true once the source is to stop.
    pub fn asked_within(&self, limit: Duration) -> bool {
        let limit = Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        match poll(&mut [PollFd::new(self, PollFlags::IN)], Some(&limit)) {
            Ok(ready) => ready > 0,
            Err(error) => error != rustix::io::Errno::INTR,
        }
    }
}

/// Now, in nanoseconds since boot, suspend included.
pub fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = now.tv_sec.cast_unsigned();
    seconds.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec.cast_unsigned())
}
