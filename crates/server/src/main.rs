//! `edr-server`. Its log goes to stderr; stdout has only the lines for people.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use server::Server;
use server::config::{Config, PROGRAM};
use server::stop_requests::StopRequests;
use settings::Request;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let failed = |error: anyhow::Error, code: ExitCode| {
        eprintln!("edr-server: {error:#}");
        code
    };
    match read_settings() {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(config)) => match run(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(error, ExitCode::FAILURE),
        },
        // As the other programs do: 2 is for what was asked in a wrong way.
        Err(error) => failed(error, ExitCode::from(2)),
    }
}

/// `None` if all that was asked for has been printed.
fn read_settings() -> anyhow::Result<Option<Config>> {
    let mut out = std::io::stdout();
    let resolved = match PROGRAM.read(std::env::args_os().skip(1), |name| std::env::var_os(name))? {
        Request::Run(resolved) => resolved,
        Request::Help => {
            writeln!(out, "{}", PROGRAM.help())?;
            return Ok(None);
        }
        Request::Version => {
            writeln!(out, "edr-server {}", env!("CARGO_PKG_VERSION"))?;
            return Ok(None);
        }
    };
    if resolved.is_on("openapi") {
        out.write_all(server::http::document_text()?.as_bytes())?;
        return Ok(None);
    }
    Ok(Some(Config::from_resolved(&resolved)?))
}

fn run(config: &Config) -> anyhow::Result<()> {
    start_log(config.debug);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("can't start threads")?;
    runtime.block_on(serve(config))
}

fn start_log(debug: bool) {
    let level = if debug { "debug,h2=info,hyper=info,rustls=info" } else { "info" };
    let filter = EnvFilter::try_from_env("EDR_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    // Before anything is printed, so that whoever waits for a line may signal at once.
    let stop = StopRequests::listen().context("can't wait for a request to stop")?;
    let server = Server::prepare(config).await.context("the server can't start")?;
    announce(&server, config)?;
    server
        .serve(async move {
            stop.came().await;
            tracing::info!("stopping");
        })
        .await;
    tracing::info!("stopped");
    Ok(())
}

/// The lines for people, written at once: scripts read the first one, and then
/// the others must be there too.
fn announce(server: &Server, config: &Config) -> std::io::Result<()> {
    let url = server.url();
    let text = match server.first_start() {
        Some(first) => format!(
            "listening on {url}\n\n\
             This is the first start. The following is shown once:\n  \
               console:        {url}\n  \
               user:           admin\n  \
               password:       {}   (to be replaced when signing in)\n  \
               enrol a host:   {}   (within an hour, once)\n\n",
            first.password, first.enrollment_command
        ),
        None => format!(
            "listening on {url}\na lost password is replaced with: edr user reset-password -db {} admin\n",
            config.db_file.display()
        ),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
