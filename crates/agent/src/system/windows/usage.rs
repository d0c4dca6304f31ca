//! What this process uses.

pub(crate) use win32::clock::process_cpu as cpu_time;
pub(crate) use win32::process::own_resident_bytes as resident_bytes;
