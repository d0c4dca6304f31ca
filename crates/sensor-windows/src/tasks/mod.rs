//! Scheduled tasks, by the files of their definitions.

mod change;
mod definition;
#[cfg(windows)]
mod watch;

pub use change::Changes;
pub use definition::Definition;
#[cfg(windows)]
pub use watch::TaskWatch;
