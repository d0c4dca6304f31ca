//! `-supervise`: a small parent that starts the agent again when it ends unasked.
//!
//! For hosts without systemd. It forwards signals, waits longer between starts that
//! fail soon, kills an agent that no longer says that it is well, and leaves word of
//! how the agent ended for the agent's next start.
//!
//! It ends only when it was itself asked to, or when the agent's settings can't be used:
//! an agent that somebody else asked to stop ends well, and comes back.

use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{signals, state_file};

/// Tells the agent that its parent is a supervisor of ours.
const MARK: &str = "EDR_SUPERVISED";
/// An agent that ran for so long starts again at once.
const GOOD_RUN: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// An agent that has said that it runs, and then says nothing for so long, hangs.
const HANGS_AFTER: Duration = Duration::from_secs(30);
/// An agent that was asked to stop may take so long.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// An agent has so long to say that it runs, or that its start takes longer.
const START_LIMIT: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where this process's program is, as it was when the process began: after an upgrade the
/// new program is there, while the kernel calls the running one deleted.
#[derive(Debug)]
pub struct Program(PathBuf);

/// The running program itself, whatever became of its path.
const RUNNING: &str = "/proc/self/exe";

impl Program {
    /// The program of this process. To be called when the process begins.
    pub fn of_this_process() -> Self {
        Self(std::env::current_exe().unwrap_or_else(|_| RUNNING.into()))
    }

    /// Starts it; where nothing is at its path any more, the running program.
    ///
    /// # Errors
    /// What `start` says.
    pub fn with<T>(&self, start: impl Fn(&Path) -> std::io::Result<T>) -> std::io::Result<T> {
        start(&self.0).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => start(Path::new(RUNNING)),
            _ => Err(error),
        })
    }

    /// Puts it in this process's place. Comes back only with the error of the last try,
    /// after about a minute of tries.
    #[allow(clippy::disallowed_methods, reason = "the pause between two tries; the tries are counted")]
    pub fn begin_anew(&self, arguments: &[OsString]) -> std::io::Error {
        let mut wait = FIRST_WAIT;
        loop {
            let tried = self.with(|path| Err::<(), _>(Command::new(path).args(arguments).exec()));
            let error = tried.err().unwrap_or_else(|| std::io::ErrorKind::Other.into());
            if wait > LONGEST_WAIT / 2 {
                return error;
            }
            eprintln!("edr-agent: can't begin anew ({error}), trying again");
            std::thread::sleep(wait);
            wait *= 2;
        }
    }
}

/// Whether this process's parent is a supervisor.
pub fn is_supervised() -> bool {
    std::env::var_os(MARK).is_some()
}

/// How the last agent ended, if a supervisor left word; the word is taken away.
pub fn last_end(state_dir: &Path) -> Option<String> {
    let path = word_file(state_dir);
    let text = std::fs::read_to_string(&path).ok()?;
    let _ = std::fs::remove_file(path);
    // Nothing that stands there may be long.
    Some(text.trim().chars().take(200).collect()).filter(|text: &String| !text.is_empty())
}

fn word_file(state_dir: &Path) -> PathBuf {
    state_dir.join("last-end")
}

/// Runs the agent with these arguments until this process is asked to stop; gives the
/// agent's exit code. Signals must be [blocked](signals::block).
///
/// # Errors
/// If the supervisor itself can't work. A start of the agent that fails is tried again.
pub fn run(program: &Program, arguments: &[OsString], state_dir: &Path) -> std::io::Result<u8> {
    state_file::make_dir(state_dir)?;
    let socket_path = state_dir.join("supervisor.sock");
    let _ = std::fs::remove_file(&socket_path);
    let socket = UnixDatagram::bind(&socket_path)?;
    socket.set_read_timeout(Some(LOOK_EVERY))?;
    let asked = Arc::new(AtomicBool::new(false));
    let pid = Arc::new(std::sync::atomic::AtomicI32::new(0));
    forward_signals(Arc::clone(&asked), Arc::clone(&pid))?;
    let mut wait = FIRST_WAIT;
    loop {
        let begun = Instant::now();
        let started = program.with(|path| {
            Command::new(path)
                .args(arguments)
                .env(MARK, "1")
                .env("NOTIFY_SOCKET", &socket_path)
                .env("WATCHDOG_USEC", HANGS_AFTER.as_micros().to_string())
                .spawn()
        });
        let cause = match started {
            Ok(mut child) => {
                pid.store(child.id().cast_signed(), Ordering::SeqCst);
                if asked.load(Ordering::SeqCst) {
                    // The signal came before there was anyone to forward it to.
                    let _ = kill_process(Pid::from_child(&child), Signal::TERM);
                }
                let (status, hung) = watch(&mut child, &socket, &asked)?;
                pid.store(0, Ordering::SeqCst);
                if asked.load(Ordering::SeqCst) || status.code() == Some(2) {
                    // Code 2: settings that can't be used; they do not get better.
                    let _ = std::fs::remove_file(&socket_path);
                    return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
                }
                describe(status, hung)
            }
            // A process too many, memory too short, a program that is being replaced: it passes.
            Err(error) => format!("it could not be started: {error}"),
        };
        eprintln!("edr-agent ended ({cause}), it is started again");
        if let Err(error) = state_file::write(&word_file(state_dir), cause.as_bytes()) {
            eprintln!("edr-agent: no word could be left of that: {error}");
        }
        wait = if begun.elapsed() >= GOOD_RUN { FIRST_WAIT } else { (wait * 2).min(LONGEST_WAIT) };
        let until = Instant::now() + wait;
        while Instant::now() < until && !asked.load(Ordering::SeqCst) {
            // Nobody has anything to say now; it waits as long as the socket does.
            let _ = socket.recv(&mut [0; 256]);
        }
        if asked.load(Ordering::SeqCst) {
            return Ok(1);
        }
    }
}

/// Until the child has ended; true if it hung and was killed for that.
fn watch(
    child: &mut Child,
    socket: &UnixDatagram,
    asked: &AtomicBool,
) -> std::io::Result<(ExitStatus, bool)> {
    let (mut heard, mut stopping): (Option<Instant>, Option<Instant>) = (None, None);
    let mut runs_by = Instant::now() + START_LIMIT;
    let mut message = [0; 256];
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, false));
        }
        if let Ok(length) = socket.recv(&mut message) {
            for line in message[..length].split(|byte| *byte == b'\n') {
                if line == b"WATCHDOG=1" || line == b"READY=1" {
                    heard = Some(Instant::now());
                } else if line.starts_with(b"EXTEND_TIMEOUT_USEC=") {
                    // However long it says: it says so again if it takes longer still.
                    runs_by = Instant::now() + START_LIMIT;
                }
            }
        }
        let hangs = match heard {
            Some(heard) => heard.elapsed() >= HANGS_AFTER,
            None => Instant::now() >= runs_by,
        };
        if asked.load(Ordering::SeqCst) {
            stopping.get_or_insert_with(Instant::now);
        }
        let overdue = stopping.is_some_and(|since| since.elapsed() >= STOP_LIMIT);
        if hangs || overdue {
            child.kill()?;
            return Ok((child.wait()?, hangs));
        }
    }
}

/// Passes signals on, from a thread of its own.
fn forward_signals(asked: Arc<AtomicBool>, pid: Arc<std::sync::atomic::AtomicI32>) -> std::io::Result<()> {
    let mut file = signals::descriptor()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while let Ok(received) = signals::next(&mut file) {
            if received.is_unvouched {
                // Passed on, it would have this process's name.
                eprintln!("signal {} of an unknown sender is not heeded", received.signal);
                continue;
            }
            if received.asks_to_stop() {
                asked.store(true, Ordering::SeqCst);
            }
            let child = Pid::from_raw(pid.load(Ordering::SeqCst));
            let signal = Signal::from_named_raw(received.signal.into());
            if let (Some(child), Some(signal)) = (child, signal) {
                let _ = kill_process(child, signal);
            }
        }
    })?;
    Ok(())
}

fn describe(status: ExitStatus, hung: bool) -> String {
    match (hung, status.signal(), status.code()) {
        (true, ..) => "it hung and was killed by its supervisor".to_owned(),
        (_, Some(signal), _) => format!("signal {signal}"),
        (_, _, Some(0)) => "asked to stop, but not by its supervisor".to_owned(),
        (_, _, Some(code)) => format!("exit code {code}"),
        _ => "unknown".to_owned(),
    }
}
