//! `edr-agent`.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use agent::options::{self, Asked, Options};
use agent::pipeline::End;
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
        Err(error) => {
            eprintln!("edr-agent: {}", causes(&error.into()));
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
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("edr-agent: the system refuses a thread: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(agent::agent::run(options)) {
        Ok(End::Asked) => ExitCode::SUCCESS,
        Ok(End::Memory) => begin_anew(&program),
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

/// `EDR_LOG` can say more exactly what is logged, for example `agent=debug,h2=warn`.
fn start_log(debug: bool) {
    let default = if debug {
        "info,agent=debug,sensor_linux=debug,sensor_windows=debug,response=debug,spool=debug"
    } else {
        "info"
    };
    let filter = EnvFilter::try_from_env("EDR_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}
