//! Programs of the system that are run to act, always from the system's own folder.

use std::process::{Command, Stdio};

use crate::firewall_rules::typed;
use crate::platform::Failure;

/// Letters of what a program said that go into a receipt.
const MOST_SAID: usize = 300;

/// Runs it; what it said, if it was content.
pub(super) fn run(program: &str, words: &[String]) -> Result<String, Failure> {
    let doing = || format!("{} {}", program.trim_end_matches(".exe"), typed(words));
    let output = Command::new(win32::host::system_folder().join(program))
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::system(doing(), error))?;
    let said =
        |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().chars().take(MOST_SAID).collect::<String>();
    if output.status.success() {
        return Ok(said(&output.stdout));
    }
    // Each of them has its own opinion on where errors belong.
    let said = [said(&output.stderr), said(&output.stdout)].into_iter().find(|said| !said.is_empty());
    Err(Failure::system(doing(), said.unwrap_or_else(|| format!("it ended with {}", output.status))))
}

pub(super) fn netsh(words: &[String]) -> Result<(), Failure> {
    run("netsh.exe", words).map(drop)
}

pub(super) fn schtasks(words: &[&str]) -> Result<String, Failure> {
    run("schtasks.exe", &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
}
