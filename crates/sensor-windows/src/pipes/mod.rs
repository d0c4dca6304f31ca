//! Named pipes, by the list of them.

mod change;
#[cfg(windows)]
mod watch;

pub use change::Changes;
#[cfg(windows)]
pub use watch::PipeList;
