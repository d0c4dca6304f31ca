//! What the operating system has to do with it.

mod regular_file;

pub use regular_file::{FileIdentity, LastSymlink, RegularFile};
