//! The firewall through `nft`: one transaction a change, all of it or nothing.
//!
//! Only tables of our own are written; other rules of the host stay as they are.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::platform::Failure;

/// Where `nft` is looked for: folders that only root writes.
const PLACES: &[&str] = &["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft"];

/// Answers longer than that are cut; our own tables stay far below.
const MOST_ANSWER: usize = 1 << 20;

fn program() -> Result<PathBuf, Failure> {
    let is_roots = |path: &&&str| {
        std::fs::metadata(Path::new(path)).is_ok_and(|file| file.uid() == 0 && file.mode() & 0o022 == 0)
    };
    PLACES.iter().find(is_roots).map(PathBuf::from).ok_or_else(|| Failure::NotAllowed {
        subject: "the firewall".to_owned(),
        why: "can't be changed: `nft` is in none of /usr/sbin, /sbin, /usr/bin, /usr/local/sbin".to_owned(),
        hint: "install nftables (Debian: apt-get install nftables)",
    })
}

/// Whether there is an `nft` at all.
pub(super) fn is_there() -> Result<(), Failure> {
    program().map(|_| ())
}

/// Runs a script as one transaction.
pub(super) fn commit(script: &str) -> Result<(), Failure> {
    run(&["-f", "-"], Some(script)).map(|_| ())
}

/// Lets the kernel check a script without taking it.
pub(super) fn check(script: &str) -> Result<(), Failure> {
    run(&["-c", "-f", "-"], Some(script)).map(|_| ())
}

/// What `nft` says to a question; an error if what is asked for is not there.
pub(super) fn ask(arguments: &[&str]) -> Result<String, Failure> {
    run(arguments, None)
}

fn run(arguments: &[&str], script: Option<&str>) -> Result<String, Failure> {
    let doing = || format!("nft {}", arguments.join(" "));
    let failure = |error: std::io::Error| Failure::system(doing(), error);
    let mut child = Command::new(program()?)
        .args(arguments)
        .env_clear()
        .stdin(if script.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failure)?;
    if let (Some(mut stdin), Some(script)) = (child.stdin.take(), script) {
        // An `nft` that ends early tells why on standard error.
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(failure)?;
    if output.status.success() {
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.truncate(text.floor_char_boundary(MOST_ANSWER));
        return Ok(text);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or("it said nothing").trim().to_owned();
    Err(Failure::system(doing(), first))
}
