mod process_memory;
mod regular_file;

pub(crate) use process_memory::ReadProgress;
pub use process_memory::{ProcessMemory, ProcessUnread};
pub(crate) use regular_file::{identity_of, open_regular};
