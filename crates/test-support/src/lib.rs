//! The real binaries under test: start, stop, kill and ask them.
//!
//! Nothing here replaces a part of the product: [`ServerProcess`] and
//! [`AgentProcess`] run what `make build` made, [`Api`] speaks to the server as
//! any client does. Whatever a test starts ends with the test, also where it
//! fails.

mod agent;
mod api;
mod broker;
mod child;
mod first_act;
mod responder;
mod server;
mod small_disk;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub use agent::{AgentOptions, AgentProcess, can_load_bpf};
pub use api::{Api, ApiError};
pub use broker::{Broker, BrokerKind, StoppedBroker};
pub use first_act::{Then, write_first_act_program};
pub use responder::{ResponderOptions, ResponderProcess};
pub use server::{ServerOptions, ServerProcess};
pub use small_disk::SmallDisk;

/// The built binary of that name, beside the running test's.
///
/// # Panics
/// If it was not built; says how to.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    // target/release/deps/<test> and target/release/<binary>
    let folder = test.ancestors().nth(2).expect("a test lies two folders deep").to_owned();
    let path = folder.join(name);
    assert!(path.exists(), "{} was not built; run `make build` (or `make test`) first", path.display());
    path
}

/// Makes a program of a test's own: a copy with some bytes behind it, so that its hash is no other program's.
///
/// Another process writes it. A file that this one had open could be held on to by the fork of a test beside,
/// and nothing can be run that somebody has open for writing.
///
/// # Panics
/// If it can't be made.
pub fn copy_program(of: impl AsRef<Path>, to: impl AsRef<Path>, mark: &str) {
    let script = "cp -- \"$1\" \"$2\" && printf %s \"$3\" >> \"$2\"";
    let status = Command::new("/bin/sh")
        .args(["-c", script, "sh"])
        .arg(of.as_ref())
        .arg(to.as_ref())
        .arg(mark)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{} can't be made", to.as_ref().display());
}

/// Asks until there is an answer.
///
/// # Panics
/// If there is none within `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        pause(Duration::from_millis(20));
    }
}

/// Says on the terminal why a test does nothing. Where `RAMPART_NO_SKIP` is set (in
/// CI) a test that can't run has failed.
///
/// # Panics
/// If `RAMPART_NO_SKIP` is set.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("RAMPART_NO_SKIP").is_none(), "must not be skipped here: {reason}");
    // Straight to the stream: what `println!` prints in a passing test is swallowed.
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

/// Says something on the terminal that a passing test wants to be seen, a figure above all.
pub fn tell(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// Lets other processes go on for a moment, between two looks at a condition.
pub fn pause(time: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}
