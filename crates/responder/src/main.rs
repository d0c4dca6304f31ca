//! `edr-responder`. Its log goes to stderr.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use playbook::{Entry, EntryKind};
use responder::act::Outside;
use responder::config::{Config, PROGRAM, Token};
use responder::consumer::Consumer;
use responder::journal::{Journals, RunKey};
use responder::library::Library;
use responder::report::Reports;
use responder::{Busy, Context};
use server_api::ServerApi;
use settings::Request;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let config = match read_settings() {
        Ok(Some(config)) => config,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edr-responder: {error:#}");
            return ExitCode::from(2);
        }
    };
    start_log(config.debug);
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edr-responder: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `None` if all that was asked for has been printed.
fn read_settings() -> anyhow::Result<Option<Config>> {
    let text = match PROGRAM.read(std::env::args_os().skip(1), |name| std::env::var_os(name))? {
        Request::Run(resolved) => return Ok(Some(Config::from_resolved(&resolved)?)),
        Request::Help => PROGRAM.help(),
        Request::Version => format!("edr-responder {}", env!("CARGO_PKG_VERSION")),
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(None)
}

fn start_log(debug: bool) {
    let filter = EnvFilter::try_from_env("EDR_LOG").unwrap_or_else(|_| {
        EnvFilter::new(if debug { "debug,rustls=info,ureq=info,async_nats=info" } else { "info" })
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn run(config: &Config) -> anyhow::Result<()> {
    let token = match &config.token {
        Token::Text(token) => token.clone(),
        Token::File(path) => std::fs::read_to_string(path)
            .with_context(|| format!("token {}: can't be read", path.display()))?,
    };
    let ca =
        std::fs::read(&config.ca).with_context(|| format!("CA {}: can't be read", config.ca.display()))?;
    let server = Arc::new(ServerApi::new(config.server.clone(), &ca, token.trim().to_owned())?);
    let reports = Reports::start(Arc::clone(&server)).context("no thread to tell of runs")?;
    let context = Arc::new(Context {
        library: Library::load(&config.playbooks)?,
        server,
        outside: Outside::new(config.smtp.clone(), config.mail_from.clone(), config.scripts.as_deref())?,
        journals: Arc::new(Journals::open(&config.state)?),
        reports,
        busy: Busy::default(),
    });
    if let Some(key) = &config.undo {
        let undone = undo(&context, key);
        context.reports.flush();
        return undone;
    }
    let bus = alert_bus::connect(&config.bus, alert_bus::Options::default())?;
    let (playbooks, acting) = context.library.counts();
    tracing::info!(playbooks, acting, "responder is running");
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("can't wait for signals")?;
    }
    // Runs that have not ended go on at the next start.
    let reports = context.reports.clone();
    let consumer = Arc::new(Consumer::new(context, bus, config.group.clone(), config.max_age));
    let (asked, serves) = (Arc::clone(&stop), Arc::clone(&consumer));
    std::thread::Builder::new()
        .name("requests".to_owned())
        .spawn(move || serves.serve_requests(&asked))
        .context("no thread for what people ask for")?;
    consumer.run(&stop)?;
    reports.flush();
    tracing::info!(stopped = stop.load(Ordering::Relaxed), "stopped");
    Ok(())
}

/// Undoes what a run did, and says what became of that.
fn undo(context: &Arc<Context>, key: &RunKey) -> anyhow::Result<()> {
    let journal = context.journals.find(key)?.filter(|journal| !journal.is_untouched());
    let mut journal = journal.with_context(|| format!("no run `{key}` has a journal here"))?;
    let by = format!("{}:-undo", context.journals.instance());
    let at = event_model::Timestamp::from_nanos(i64::try_from(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos(),
    )?);
    journal.append(Entry { at, by, kind: EntryKind::UndoRequested })?;
    responder::runner::run(context, journal)?;
    let journal = context.journals.find(key)?.context("the journal is gone")?;
    let mut failed = 0;
    for entry in &journal.entries {
        if let EntryKind::UndoFinished { step, succeeded, detail } = &entry.kind {
            failed += usize::from(!succeeded);
            let word = if *succeeded { "undone" } else { "NOT undone" };
            writeln!(std::io::stdout(), "{step}: {word} {detail}")?;
        }
    }
    anyhow::ensure!(failed == 0, "{failed} steps are not undone");
    Ok(())
}
