//! Safe wrappers over the parts of the Windows API that the agent uses.
//!
//! All `unsafe` of the Windows half is in this crate, so that sensors, response and agent have
//! none. A wrapper owns its handle, bounds what it reads, and gives the system's own error.
//! On other systems the crate is empty.

#![cfg(windows)]
#![deny(missing_docs)]
#![allow(unsafe_code, reason = "the Windows API is foreign functions; each block says why it is sound")]

pub mod access_list;
pub mod clock;
mod ending;
pub mod etw;
pub mod event;
pub mod event_log;
pub mod file;
pub mod filtering;
pub mod folder_watch;
pub mod host;
pub mod network;
pub mod privilege;
pub mod process;
pub mod registry;
pub mod service;
mod text;
mod user;

pub use text::{shown, wide};
pub use user::{User, user_of_sid};

use std::io;

/// The error of the last call of this thread.
fn last_error() -> io::Error {
    io::Error::last_os_error()
}

/// The result of a call that gives false for an error.
fn check(result: windows_sys::core::BOOL) -> io::Result<()> {
    if result == 0 { Err(last_error()) } else { Ok(()) }
}

/// The result of a call that gives its error.
fn check_code(code: u32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.cast_signed())) }
}
