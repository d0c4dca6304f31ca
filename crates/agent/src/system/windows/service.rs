//! The agent as a service of Windows: installing, removing, starting, stopping, and being it.
//!
//! The program goes to a folder where only administrators write, and its settings to a file beside its state
//! that only the system and administrators read: they may hold an enrolment token.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use win32::event_log::{Level, Reporter};
use win32::host::PROGRAM_FOLDER;
use win32::service::{self, Config};

use super::signals;
use crate::options::{Options, ServiceAct};

/// The service's name.
const NAME: &str = win32::filtering::SERVICE_NAME;
const DISPLAY_NAME: &str = "Rampart agent";
const DESCRIPTION: &str =
    "Watches this host, judges what it sees by rules, acts, and tells the Rampart server.";

const DATA_FOLDER: &str = r"C:\ProgramData\Rampart";

/// `SERVICE_WIN32_OWN_PROCESS`, `SERVICE_AUTO_START`, `SERVICE_ERROR_NORMAL`.
const OWN_PROCESS: u32 = 0x10;
const BY_ITSELF: u32 = 2;
const ERROR_NORMAL: u32 = 1;

/// It is started again so long after it ended unasked, the first, the second, and every further time.
const AGAIN_AFTER: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(60)];

const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// Does it, and says what was done.
///
/// # Errors
/// What stood against it.
pub fn act(act: &ServiceAct, options: &Options) -> anyhow::Result<String> {
    let subject =
        || format!("the service {NAME}; hint: it takes an administrator, and a service that is installed");
    match act {
        ServiceAct::Install(config) => install(config, options),
        ServiceAct::Uninstall => {
            let removed = service::stop(NAME, STOPS_WITHIN).and_then(|()| service::delete(NAME));
            // Also without a service: what one left behind that is gone, nobody else removes.
            let lifted = remove_filters();
            if let (Err(_), Err(left)) = (&removed, &lifted) {
                eprintln!("note: {left:#}");
            }
            removed.with_context(subject)?;
            if let Err(error) = win32::event_log::forget_source(NAME) {
                eprintln!("note: the event log's source {NAME} could not be removed: {error}");
            }
            lifted.with_context(|| format!("the service {NAME} is removed, but not all of its filters"))?;
            Ok(format!(
                "the service {NAME} is removed; {PROGRAM_FOLDER} and {DATA_FOLDER} stay, remove them by hand when \
                 nothing of them is needed"
            ))
        }
        ServiceAct::Start => {
            service::start(NAME).with_context(subject)?;
            Ok(format!("the service {NAME} is started"))
        }
        ServiceAct::Stop => {
            service::stop(NAME, STOPS_WITHIN).with_context(subject)?;
            Ok(format!("the service {NAME} is stopped"))
        }
        ServiceAct::Lift(name) => {
            response::lift_filters(name).with_context(|| format!("removing the filters `{name}`"))?;
            Ok(format!("there are no network filters named `{name}` any more"))
        }
        ServiceAct::Run => anyhow::bail!("`-service=run` is for the service manager; hint: `-service=start`"),
    }
}

/// Nobody lifts what an agent leaves behind that is removed. Where the system has no filtering service there is nothing.
fn remove_filters() -> anyhow::Result<()> {
    if matches!(service::is_there("BFE"), Ok(false)) {
        return Ok(());
    }
    win32::filtering::Engine::open().and_then(|engine| engine.remove_all()).context(
        "network filters of the agent may be left; hint: as administrator, with the service BFE running, \
         `edr-agent -service=uninstall` again, or `edr-agent \"-service=lift NAME\"`",
    )
}

const INSTALLED_ALREADY: &str = "the service RampartAgent is installed already; hint: `edr-agent -service=uninstall` first, its state stays";

fn install(config: &Value, options: &Options) -> anyhow::Result<String> {
    // Where the service manager does not answer, making the service below says so.
    if service::is_there(NAME).unwrap_or(false) {
        anyhow::bail!(INSTALLED_ALREADY);
    }
    // Without a state nobody knows of filters that are left of an earlier one.
    if !options.state_dir.join("responses").exists()
        && let Err(left) = remove_filters()
    {
        eprintln!("note: {left:#}");
    }
    let program = install_program()?;
    let settings = install_settings(config, options)?;
    let made = Config {
        display_name: DISPLAY_NAME.to_owned(),
        kind: OWN_PROCESS,
        start: BY_ITSELF,
        error_control: ERROR_NORMAL,
        command_line: format!("\"{}\" -service=run -config={}", program.display(), settings.display()),
        ..Config::default()
    };
    service::create(NAME, &made).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => anyhow::anyhow!(INSTALLED_ALREADY),
        _ => anyhow::Error::new(error).context("making the service; hint: run this as administrator"),
    })?;
    // Without these it is a service all the same.
    let notes = [
        ("it has no description", service::describe(NAME, DESCRIPTION)),
        (
            "it may not be started again when it ends unasked; its recovery options",
            service::start_again_after(NAME, &AGAIN_AFTER),
        ),
        ("the event log shows its reports without their text", win32::event_log::register_source(NAME)),
    ];
    for (note, done) in notes {
        if let Err(error) = done {
            eprintln!("note: {note}: {error}");
        }
    }
    Ok(format!(
        "the service {NAME} is installed: {}, settings in {}; it starts with the host, or now with \
         `edr-agent -service=start`",
        program.display(),
        settings.display()
    ))
}

/// Where nobody but administrators may put another program in its place.
fn install_program() -> anyhow::Result<PathBuf> {
    let folder = Path::new(PROGRAM_FOLDER);
    make_closed(folder)?;
    let own = std::env::current_exe().context("this program's own path")?;
    let program = folder.join("edr-agent.exe");
    let is_there = own.to_string_lossy().eq_ignore_ascii_case(&program.to_string_lossy());
    if !is_there {
        fs::copy(&own, &program)
            .with_context(|| format!("copying {} to {}", own.display(), program.display()))?;
    }
    Ok(program)
}

fn install_settings(config: &Value, options: &Options) -> anyhow::Result<PathBuf> {
    let folder = Path::new(DATA_FOLDER);
    make_closed(folder)?;
    let mut config = config.clone();
    // The server's certificate may lie where anybody could put another.
    if let Some(certificate) = &options.certificate {
        let kept = folder.join("server.pem");
        fs::copy(certificate, &kept)
            .with_context(|| format!("copying {} to {}", certificate.display(), kept.display()))?;
        config["cert_file"] = Value::String(kept.to_string_lossy().into_owned());
    }
    let path = folder.join("agent.json");
    fs::write(&path, format!("{config:#}\n")).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Only the system and administrators get in, and whatever is there already is theirs: anybody may make folders in
/// `C:\ProgramData`, and what lies in this one is run and obeyed.
fn make_closed(folder: &Path) -> anyhow::Result<()> {
    let hint = || format!("making {}; hint: run this as administrator", folder.display());
    fs::create_dir_all(folder).with_context(hint)?;
    win32::access_list::close_folder(folder)
        .with_context(|| format!("letting only administrators into {}", folder.display()))
}

/// Where its log is.
pub fn log_path() -> PathBuf {
    Path::new(DATA_FOLDER).join("agent.log")
}

/// Tells the event log and the service manager why the service can't run at all.
///
/// # Errors
/// This process was not started by the service manager.
pub fn fail(why: String) -> std::io::Result<()> {
    run(move || Err(why))
}

/// Runs `body` as the service. Its errors go to the event log, too.
///
/// # Errors
/// This process was not started by the service manager.
pub fn run(body: impl FnOnce() -> Result<(), String> + Send + 'static) -> std::io::Result<()> {
    service::run(NAME, |host| {
        if let Some(requests) = host.requests() {
            signals::heed(requests);
        }
        host.is_up();
        let reporter = Reporter::open(NAME);
        let report = |level, text: &str| {
            if let Ok(reporter) = &reporter {
                let _ = reporter.report(level, text);
            }
        };
        report(Level::Information, "The agent is started.");
        match body() {
            Ok(()) => {
                report(Level::Information, "The agent is stopped, as it was asked to.");
                0
            }
            Err(why) => {
                report(Level::Error, &format!("The agent ended: {why}"));
                1
            }
        }
    })
}
