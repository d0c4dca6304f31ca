//! How a sensor calls for whoever reads it, without being held while he waits.
//!
//! A process that begins is judged soonest at the CPU on which it does: that one is
//! awake, and the program stands still while a thread that goes before it has the
//! CPU. A thread that sleeps elsewhere must be woken there first, which on a virtual
//! machine takes longer than everything else together.

use std::io;
use std::time::Duration;

/// What rings where rules may act on process starts.
pub struct Doorbells {
    /// One for each CPU that this process may run on.
    pub of_cpus: Vec<DoorbellPlace>,
    /// For all else, as much as `poll` would wait for.
    pub of_stream: Box<dyn StreamDoorbell>,
}

/// Where a doorbell can be hung. Until it is, starts on that CPU ring that of the stream.
pub struct DoorbellPlace {
    /// The CPU's number.
    pub cpu: u32,
    /// Has the calling thread run on that CPU alone from now on, before all others where the system allows it, and hangs
    /// the doorbell that it is to wait at.
    pub hang: Box<dyn FnOnce() -> io::Result<Box<dyn CpuDoorbell>> + Send>,
}

/// Rings when a process starts on a certain CPU. Dropped, it is taken off.
pub trait CpuDoorbell {
    /// Waits until it rings, or until the stop that it was made with is asked for.
    ///
    /// # Errors
    /// If the system refuses it.
    fn wait(&mut self) -> io::Result<()>;
}

/// Rings when much has come together, and for process starts on CPUs without a doorbell.
pub trait StreamDoorbell: Send {
    /// Waits until it rings, at most as long as given.
    ///
    /// # Errors
    /// If the system refuses it.
    fn wait(&mut self, timeout: Duration) -> io::Result<()>;
}
