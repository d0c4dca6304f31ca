//! What operating systems do differently with files, in one shape.
//!
//! On Unix these are the standard library's own extension traits, and nothing is added to
//! them. On Windows they are traits of the same names with the same duties:
//!
//! - a *mode* says nothing there: what the agent keeps is guarded by the access list of its
//!   state directory, which everything in it inherits;
//! - the *names* of a folder are journalled by the file system, so that there is no folder to
//!   be synced.

#![deny(missing_docs)]

#[cfg(unix)]
pub mod patient;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub use system::{DirBuilderExt, FileExt, Folder, OpenCautiously, OpenOptionsExt};
