//! Files in watched folders: what is known of them, and what differs.

mod baseline;
#[cfg(windows)]
mod watch;

pub use baseline::{Baseline, Facts, Found, describe};
#[cfg(windows)]
pub use watch::FileWatch;
