//! What of a system is never acted on, as each operating system knows it.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(windows)]
use windows as system;

pub(crate) use system::{
    file_id, is_below, is_first_process, is_name_of_service, needed_by_the_system, own_addresses, resolvers,
    services,
};
