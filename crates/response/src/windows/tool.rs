//! Programs of the system that are run to act, always from the system's own folder.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::firewall_rules::typed;
use crate::platform::Failure;

/// Letters of what a program said that go into a receipt.
const MOST_SAID: usize = 300;

/// Longest that one may take: the firewall's service answers in some tenths of a second, after a boot in some seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes that are read of what a program says. Of more the rest is thrown away.
const MOST_READ: u64 = 64 << 10;

/// Runs it; what it said, if it was content. One that does not end within a minute is ended, since the thread that
/// waits carries out all orders.
pub(super) fn run(program: &str, words: &[String]) -> Result<String, Failure> {
    run_within(LIMIT, &win32::host::system_folder().join(program), words)
}

fn run_within(limit: Duration, program: &Path, words: &[String]) -> Result<String, Failure> {
    let name = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let doing = || format!("{name} {}", typed(words));
    let failure = |error| Failure::system(doing(), error);
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failure)?;
    // Read beside the wait: a full pipe would keep the program from ending.
    let (output, errors) = (reader(child.stdout.take()), reader(child.stderr.take()));
    if !win32::process::child_ends_within(&child, limit) {
        let _ = child.kill();
        let _ = child.wait();
        let why = format!("it had not ended after {} s and was ended", limit.as_secs());
        return Err(Failure::system(doing(), why));
    }
    let status = child.wait().map_err(failure)?;
    // A program that it left running may hold the pipe: what was read by then has to do.
    let said = |of: &mpsc::Receiver<String>| of.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    let (output, errors) = (said(&output), said(&errors));
    if status.success() {
        return Ok(output);
    }
    // Each of them has its own opinion on where errors belong.
    let said = [errors, output].into_iter().find(|said| !said.is_empty());
    Err(Failure::system(doing(), said.unwrap_or_else(|| format!("it ended with {status}"))))
}

/// What comes out of a pipe, trimmed and cut, once it is at its end.
fn reader(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        let Some(mut pipe) = pipe else { return };
        let mut bytes = Vec::new();
        let _ = (&mut pipe).take(MOST_READ).read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).trim().chars().take(MOST_SAID).collect();
        let _ = sender.send(text);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    };
    // Where the system refuses a thread nothing is known of what it said; whether it was content is.
    let _ = std::thread::Builder::new().name("tool".into()).spawn(read);
    receiver
}

pub(super) fn netsh(words: &[String]) -> Result<(), Failure> {
    run("netsh.exe", words).map(drop)
}

pub(super) fn schtasks(words: &[&str]) -> Result<String, Failure> {
    run("schtasks.exe", &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
}
