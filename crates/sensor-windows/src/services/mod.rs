//! Services, by what the service manager says of them.

mod change;
#[cfg(windows)]
mod watch;

pub use change::{Changes, Known};
#[cfg(windows)]
pub use watch::ServiceWatch;
