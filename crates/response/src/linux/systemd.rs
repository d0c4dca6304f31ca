//! What systemd says of a unit, and what it is told to do with it.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::platform::Failure;
use crate::proc;

use super::tree::wait_until;

/// An answer that takes longer is not waited for: a unit says itself how long its start and its stop take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// So long a unit may take to stop by itself, and then by SIGKILL.
const STOPS_WITHIN: Duration = Duration::from_secs(10);
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Between two looks: each starts a program.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is kept of what `systemctl` prints, in bytes: thousands of instances of a template.
const MOST_PRINTED: u64 = 4 << 20;

/// A unit as it is now; of a template (`name@.service`), all its instances together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The units that are not at rest: `activating` is what a oneshot service is for its whole life.
    pub(super) running: Vec<String>,
    /// Their cgroups, as systemd names them.
    pub(super) groups: Vec<String>,
    main: Vec<u32>,
}

impl State {
    pub(super) fn of(unit: &str) -> Result<Self, Failure> {
        if !runs() {
            return Ok(Self::default());
        }
        let properties = "--property=Id,ActiveState,MainPID,ControlPID,ControlGroup";
        Ok(parse(&systemctl(&["show", properties, &with_instances(unit)])?))
    }

    /// Every process that a stop would end.
    pub(super) fn processes(&self) -> Vec<u32> {
        let mut processes = self.main.clone();
        processes.extend(processes_in(&self.groups));
        processes.sort_unstable();
        processes.dedup();
        processes
    }
}

/// Living processes of these cgroups and of those below them.
pub(super) fn processes_in(groups: &[String]) -> Vec<u32> {
    let lives = |pid: &u32| proc::stat(*pid).is_some_and(|stat| !stat.is_ended());
    match groups.is_empty() {
        true => Vec::new(),
        false => {
            proc::pids().into_iter().filter(|pid| proc::is_in_group(*pid, groups)).filter(lives).collect()
        }
    }
}

/// Properties as `systemctl show` prints them: a line each, an empty line between two units.
fn parse(text: &str) -> State {
    let mut state = State::default();
    for unit in text.split("\n\n") {
        let value = |name: &str| {
            unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
        };
        if !matches!(value("ActiveState"), "" | "inactive" | "failed") {
            state.running.push(value("Id").to_owned());
        }
        let pids = ["MainPID", "ControlPID"].into_iter().filter_map(|name| value(name).parse::<u32>().ok());
        state.main.extend(pids.filter(|pid| *pid != 0));
        let group = value("ControlGroup");
        if group.len() > 1 {
            state.groups.push(group.to_owned());
        }
    }
    state
}

/// What is said of a template is said of its instances.
fn with_instances(unit: &str) -> String {
    unit.replace("@.", "@*.")
}

/// Whether systemd is what runs this host.
pub(super) fn runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Stops a unit whatever systemd says that it is doing, by force if need be. What a unit leaves behind in its cgroups
/// (`KillMode=process`) is ended too.
pub(super) fn stop(unit: &str, groups: &[String]) -> Result<(), Failure> {
    let named = with_instances(unit);
    let at_rest =
        || State::of(unit).is_ok_and(|state| state.running.is_empty()) && processes_in(groups).is_empty();
    // Of a unit that can't be loaded systemd takes no stop; what counts is whether it is at rest.
    let asked = systemctl(&["stop", "--no-block", &named]);
    if wait_until(STOPS_WITHIN, LOOK_EVERY, at_rest) {
        return Ok(());
    }
    let forced = systemctl(&["kill", "--signal=SIGKILL", &named]);
    if wait_until(ENDS_WITHIN, LOOK_EVERY, at_rest) {
        return Ok(());
    }
    asked.and(forced)?;
    Err(Failure::NotProved(format!("{unit} still runs {} s after it was stopped", STOPS_WITHIN.as_secs())))
}

/// Starts a unit. One that is still starting after [`ANSWERS_WITHIN`] is on its way.
pub(super) fn start(unit: &str) -> Result<(), Failure> {
    let Err(failure) = systemctl(&["start", unit]) else { return Ok(()) };
    match State::of(unit)?.running.is_empty() {
        true => Err(failure),
        false => Ok(()),
    }
}

/// Has a unit started, and does not wait until it is.
pub(super) fn start_soon(unit: &str) -> Result<(), Failure> {
    systemctl(&["start", "--no-block", unit]).map(|_| ())
}

/// Runs it and gives what it printed.
pub(super) fn systemctl(arguments: &[&str]) -> Result<String, Failure> {
    let doing = || format!("systemctl {}", arguments.join(" "));
    let failure = |error: std::io::Error| Failure::system(doing(), error);
    let mut child = Command::new("/usr/bin/systemctl")
        .args(arguments)
        .env_clear()
        .env("SYSTEMD_PAGER", "")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failure)?;
    // A template with many instances prints more than a pipe holds, and would wait for a reader for ever.
    let said = (read_aside(child.stdout.take()), read_aside(child.stderr.take()));
    let ended =
        wait_until(ANSWERS_WITHIN, Duration::from_millis(5), || !matches!(child.try_wait(), Ok(None)));
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait().map_err(failure)?;
    let (printed, said) = (said.0.map_err(failure)?, said.1.map_err(failure)?);
    let text = |reader: JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    let (printed, said) = (text(printed), text(said));
    if status.success() {
        return Ok(printed);
    }
    let why = if ended { "it failed" } else { "it did not end within 30 s" };
    Err(Failure::system(doing(), said.lines().next().unwrap_or(why)))
}

/// Reads what a program prints, on a thread of its own, up to [`MOST_PRINTED`] bytes; the rest is read and dropped.
fn read_aside(from: Option<impl Read + Send + 'static>) -> std::io::Result<JoinHandle<Vec<u8>>> {
    std::thread::Builder::new().name("systemctl".to_owned()).spawn(move || {
        let mut printed = Vec::new();
        if let Some(mut from) = from {
            let _ = from.by_ref().take(MOST_PRINTED).read_to_end(&mut printed);
            let _ = std::io::copy(&mut from, &mut std::io::sink());
        }
        printed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_a_pipe_is_read_all_the_same() {
        let long = vec![b'x'; 1 << 20];
        let reader = read_aside(Some(std::io::Cursor::new(long.clone()))).expect("a thread");
        assert_eq!(reader.join().expect("it ends"), long);
        let longer = std::io::Cursor::new(vec![b'x'; MOST_PRINTED as usize + 1]);
        let reader = read_aside(Some(longer)).expect("a thread");
        assert_eq!(reader.join().expect("it ends").len() as u64, MOST_PRINTED);
    }

    #[test]
    fn whatever_is_not_at_rest_runs_and_a_stop_would_end_all_of_it() {
        let oneshot = "Id=evil.service\nActiveState=activating\nMainPID=42\nControlPID=0\n\
                       ControlGroup=/system.slice/evil.service\n";
        let expected = State {
            running: vec!["evil.service".to_owned()],
            groups: vec!["/system.slice/evil.service".to_owned()],
            main: vec![42],
        };
        assert_eq!(parse(oneshot), expected);
        for state in ["active", "reloading", "deactivating", "maintenance", "refreshing"] {
            assert!(!parse(&format!("Id=x\nActiveState={state}\n")).running.is_empty(), "{state}");
        }
        for state in ["inactive", "failed"] {
            let at_rest = format!("Id=x\nActiveState={state}\nMainPID=0\nControlPID=0\nControlGroup=\n");
            assert_eq!(parse(&at_rest), State::default(), "{state}");
        }
    }

    #[test]
    fn a_template_is_all_its_instances() {
        assert_eq!(with_instances("evil@.service"), "evil@*.service");
        assert_eq!(with_instances("evil@1.service"), "evil@1.service");
        let text = "Id=evil@1.service\nActiveState=active\nMainPID=7\n\n\
                    Id=evil@2.service\nActiveState=inactive\nMainPID=0\n\n\
                    Id=evil@3.service\nActiveState=active\nMainPID=9\n";
        let state = parse(text);
        assert_eq!(state.running, ["evil@1.service", "evil@3.service"]);
        assert_eq!(state.main, [7, 9]);
        assert_eq!(parse(""), State::default());
    }
}
