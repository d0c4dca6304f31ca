//! Starting again. The service's recovery options do it where the agent ended unasked.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where this process's program is.
#[derive(Debug)]
pub struct Program(PathBuf);

impl Program {
    /// The program of this process.
    pub fn of_this_process() -> Self {
        Self(std::env::current_exe().unwrap_or_else(|_| "edr-agent.exe".into()))
    }

    /// Starts it in a process of its own and ends this one. Comes back only with an error.
    #[allow(
        clippy::disallowed_methods,
        reason = "the new process takes this one's place, as exec(3) does elsewhere"
    )]
    pub fn begin_anew(&self, arguments: &[OsString]) -> std::io::Error {
        match Command::new(&self.0).args(arguments).spawn() {
            Ok(_) => std::process::exit(0),
            Err(error) => error,
        }
    }
}

/// Whether this process's parent is a supervisor of ours.
pub fn is_supervised() -> bool {
    false
}

/// Nobody leaves word of how the last agent ended.
pub fn last_end(_: &Path) -> Option<String> {
    None
}

/// Refuses.
///
/// # Errors
/// Always: services have recovery options.
pub fn run(_: &Program, _: &[OsString], _: &Path) -> std::io::Result<u8> {
    let why = "there is no -supervise on Windows; hint: install the agent as a service with recovery options";
    Err(std::io::Error::new(std::io::ErrorKind::Unsupported, why))
}
