use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

/// Standard output without the standard library's buffer, which would hide how much of a failed
/// write got out.
pub(crate) fn unbuffered() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}
