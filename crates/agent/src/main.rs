//! `edr-agent`.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use agent::log_file::LogFile;
use agent::options::{self, Asked, Options, ServiceAct};
use agent::pipeline::End;
use agent::service;
use agent::signals;
use agent::supervisor::{self, Program};
use agent::uplink::channel::causes;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    if let Some(code) = agent::keep_gate_if_asked() {
        return code;
    }
    let program = Program::of_this_process();
    let options = match options::read(std::env::args_os().skip(1), |name| std::env::var_os(name)) {
        Ok(Asked::Run(options)) => *options,
        Ok(Asked::Print(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Asked::Release { state_dir, code }) => return release(&state_dir, &code),
        Ok(Asked::Service(ServiceAct::Run, options)) => return be_a_service(*options),
        Ok(Asked::Service(act, options)) => return do_with_service(&act, &options),
        Err(error) => {
            let why = causes(&error.into());
            eprintln!("edr-agent: {why}");
            if options::are_of_service(std::env::args_os().skip(1)) {
                fail_as_a_service(why);
            }
            return ExitCode::from(2);
        }
    };
    start_log(options.debug);
    if let Err(error) = signals::block() {
        eprintln!("edr-agent: signals can't be blocked: {error}");
        return ExitCode::FAILURE;
    }
    if options.supervise && !supervisor::is_supervised() {
        return supervise(&program, &options);
    }
    match run(options) {
        Ok(End::Asked) => ExitCode::SUCCESS,
        Ok(End::Memory) => begin_anew(&program),
        Err(why) => {
            eprintln!("edr-agent: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<End, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| format!("the system refuses a thread: {error}"))?;
    runtime.block_on(agent::agent::run(options)).map_err(|error| causes(&error))
}

/// Runs as the service that the service manager started. Whatever ends it unasked is an error, after which the
/// service manager starts it again.
fn be_a_service(options: Options) -> ExitCode {
    match LogFile::open(&service::log_path()) {
        Ok(file) => start_log_in(options.debug, file),
        Err(error) => eprintln!("edr-agent: {}: {error}", service::log_path().display()),
    }
    let ran = service::run(move || match run(options) {
        Ok(End::Asked) => Ok(()),
        Ok(End::Memory) => Err("the memory limit was reached; it begins anew".to_owned()),
        Err(why) => {
            tracing::error!(why, "the agent can't run");
            Err(why)
        }
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edr-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Nobody sees a service's standard error: says it in the log, to the event log and to the service manager.
fn fail_as_a_service(why: String) {
    if let Ok(file) = LogFile::open(&service::log_path()) {
        start_log_in(false, file);
        tracing::error!(why, "the agent can't run");
    }
    if let Err(error) = service::fail(why) {
        eprintln!("edr-agent: {error}");
    }
}

fn do_with_service(act: &ServiceAct, options: &Options) -> ExitCode {
    match service::act(act, options) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("edr-agent: {}", causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// Leaves the code for the agent, and says what became of it.
fn release(state_dir: &Path, code: &str) -> ExitCode {
    match agent::responding::release_by_code(state_dir, code) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("edr-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn supervise(program: &Program, options: &Options) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match supervisor::run(program, &arguments, &options.state_dir) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("edr-agent: the supervisor can't work: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The same program in the same process with empty memory. What waits is in the spool.
fn begin_anew(program: &Program) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let error = program.begin_anew(&arguments);
    eprintln!("edr-agent: can't begin anew: {error}");
    ExitCode::FAILURE
}

fn start_log(debug: bool) {
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(log_filter(debug)).with_ansi(colours);
    log.with_writer(std::io::stderr).init();
}

fn start_log_in(debug: bool, file: LogFile) {
    let log = tracing_subscriber::fmt().with_env_filter(log_filter(debug)).with_ansi(false);
    log.with_writer(std::sync::Mutex::new(file)).init();
}

/// `EDR_LOG` can say more exactly what is logged, for example `agent=debug,h2=warn`.
fn log_filter(debug: bool) -> EnvFilter {
    let default = if debug {
        "info,agent=debug,sensor_linux=debug,sensor_windows=debug,response=debug,spool=debug"
    } else {
        "info"
    };
    EnvFilter::try_from_env("EDR_LOG").unwrap_or_else(|_| EnvFilter::new(default))
}
