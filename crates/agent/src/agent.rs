//! Puts the agent together, runs it, and takes it apart again.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use event_model::{BootId, EventType, Field, HostId, Value};
use protocol::enrollment::{sha256, to_hex};
use protocol::envelope::{Purpose, Sealer};
use rule_engine::HostNames;
use sensor_api::{
    Actor, ObservationSender, ObservedActivity, Sensor, SensorPosition, SourceThreads, observation_queue,
};
use spool::{Recovery, Spool, SpoolError, SpoolOptions};

use crate::admission::{Admission, admission};
use crate::anomaly::Anomalies;
use crate::block_list::BlockList;
use crate::clock::{self, WallClock};
use crate::content_reload::ContentReload;
use crate::drop_account::DropAccount;
use crate::gate::{self, DenialFeed, GateParts};
use crate::governor::Governor;
use crate::host::{self, HostFacts};
use crate::indicator_book::IndicatorBook;
use crate::judge::Judge;
use crate::note::Note;
use crate::options::{Options, OutputTarget};
use crate::output::Output;
use crate::pipeline::{self, Before, End, Parts, Stop};
use crate::process_table::ProcessTable;
use crate::provided::described;
use crate::recorder::{Recorder, Resume, Spooling};
use crate::responding::{Responding, RespondingParts};
use crate::rules::{RuleBook, hint_of_folders};
use crate::run_state::{Caution, HEALTHY_AFTER, RunState};
use crate::scanner::{ScannerOptions, scanner};
use crate::server_mark::ServerMark;
use crate::signals::{self, Received};
use crate::state_file;
use crate::supervisor;
use crate::system::observing;
use crate::system::paths::close_state_dir;
use crate::system::self_watch::{SelfWatch, Watched};
use crate::system::service_notice::ServiceNotice;
use crate::uplink::identity::{read_certificates, read_public_key};
use crate::uplink::server_address::ServerAddress;
use crate::uplink::{Uplink, taken_in};
use crate::yara_book::YaraBook;

/// After a stop, what is spooled may still be sent for so long.
const LAST_SENDING: Duration = Duration::from_secs(2);

/// So long an agent that is ending may still hold its state directory.
const LAST_MOMENT: Duration = Duration::from_secs(3);

/// Observations of other sources that may wait for the pipeline; some 400 bytes each.
const SOURCE_QUEUE: usize = 16_384;

/// No record takes less than a byte on disk. Where the end of the spool can't be read, this
/// says how many numbers may be in use beyond the last readable one.
const RECORDS_PER_BYTE_AT_MOST: u64 = 1;

/// Runs the agent until a signal ends it, or it is to begin anew for its memory's sake.
///
/// # Errors
/// What keeps it from running, for the operator.
pub async fn run(options: Options) -> anyhow::Result<End> {
    for note in &options.notes {
        eprintln!("note: {note}");
    }
    if options.insecure {
        eprintln!(
            "WARNING: -insecure: the server's certificate is not verified. Anybody on the way can pose as the server; \
             what is sent stays sealed, and rules must still be signed. Not for production."
        );
    }
    let signals = Signals::listen()?;
    match options.server.clone() {
        None => run_standalone(options, signals).await,
        Some(server) => run_with_server(options, &server, signals).await,
    }
}

/// Signals as they come, and the way to tell of those that nobody should send.
struct Signals {
    received: tokio::sync::mpsc::UnboundedReceiver<Received>,
    tell: Option<ObservationSender>,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let received = signals::listen().context("listening for signals")?;
        Ok(Self { received, tell: None })
    }

    /// The signal that asks the agent to stop.
    async fn asked(&mut self) -> Option<Received> {
        loop {
            let Some(received) = self.received.recv().await else { return std::future::pending().await };
            if let (Some(sender), false) = (&self.tell, received.is_expected()) {
                tell_of_signal(sender, received);
            }
            if received.asks_to_stop() {
                return Some(received);
            }
        }
    }
}

fn tell_of_signal(sender: &ObservationSender, received: Received) {
    let mut fields = vec![
        (Field::AgentTampered, Value::Text("signal".to_owned())),
        (Field::SignalNumber, Value::Integer(received.signal.into())),
    ];
    fields.extend(received.by.map(|by| (Field::UserId, Value::Text(by.uid.to_string()))));
    let actor = received.by.filter(|by| by.pid != 0).map(|by| Actor::Pid(by.pid));
    let event_type = EventType::AgentTamper;
    sender.send(clock::boot_ns(), ObservedActivity { event_type, actor, target: None, fields });
}

fn open_rules(options: &Options) -> RuleBook {
    if let Some(hint) = options.rules_dir.as_deref().and_then(hint_of_folders) {
        eprintln!("note: {hint}");
    }
    RuleBook::open_with(options.rules_dir.clone(), options.builtin_behaviours)
}

async fn run_standalone(options: Options, mut signals: Signals) -> anyhow::Result<End> {
    if options.output.is_none() && options.rules_dir.is_none() {
        eprintln!(
            "note: -standalone without -rules and -output watches and tells nobody; hint: add `-output -`"
        );
    }
    // With a server its rules are judged by, and the directory may come later.
    if let Some(dir) = options.rules_dir.as_deref().filter(|dir| !dir.is_dir()) {
        bail!(
            "-rules {}: there is no such directory, so nothing would be judged; hint: give the one that holds \
             the rule files (*.json, *.yml)",
            dir.display()
        );
    }
    let facts = HostFacts::read();
    let host_id = host::local_host_id(&options.state_dir);
    let rules = Arc::new(open_rules(&options).on_host(host_names(&facts, host_id)));
    let sensor = observing::open_sensor(&options, None, None)?;
    let start = Start {
        host_id,
        facts,
        resume: Resume::default(),
        spooling: None,
        table: ProcessTable::default(),
        before: None,
        previous_end: "first_start",
        previous_cause: supervisor::last_end(&options.state_dir),
        caution: Caution::Normal,
        watched: Watched {
            configuration: options.config_file.clone(),
            rules: options.rules_dir.clone(),
            ..Watched::default()
        },
        server: None,
    };
    let running = Running::start(&options, start, sensor, rules)?;
    signals.tell = Some(running.sender.clone());
    let signal = tokio::select! {
        signal = signals.asked() => signal,
        () = running.ended() => None,
        () = running.keep_well_known() => None,
    };
    running.stop(signal).await
}

async fn run_with_server(options: Options, server: &str, mut signals: Signals) -> anyhow::Result<End> {
    let state_dir = options.state_dir.clone();
    state_file::make_dir(&state_dir).with_context(|| {
        format!("making {}; hint: run as root, or give another directory with -state", state_dir.display())
    })?;
    close_state_dir(&state_dir).with_context(|| {
        format!(
            "keeping others out of {}; hint: run as administrator, or give another directory with -state",
            state_dir.display()
        )
    })?;
    let (spool, recovery) = open_spool(&options).await?;
    let spool = Arc::new(spool);
    let address = ServerAddress::parse(server)?.remember_in(&state_dir);
    if let Some(path) = &options.certificate {
        // Said now, and not with every try to connect.
        read_certificates(path)?;
    }
    let facts = HostFacts::read();
    let boot_id = host::boot_id()?;
    let (now, spool_is_new) = (WallClock::new().now(), spool.last().is_none());
    let Admission { identity, marks } = tokio::select! {
        admission = admission(&options, &address, &facts, boot_id, now, spool_is_new) => admission?,
        _ = signals.asked() => return Ok(End::Asked),
        () = keep_starting() => return Ok(End::Asked),
    };
    let server_mark = Arc::new(ServerMark::default());
    if let Some(taken) = marks.as_ref().and_then(|marks| taken_in(marks, boot_id)) {
        server_mark.tell(taken);
    }
    let mut run_state = RunState::begin(&state_dir, boot_id, WallClock::new().now());
    warn_of(run_state.caution);
    let rules = Arc::new(open_rules(&options).on_host(host_names(&facts, identity.host_id)));
    rules.keep_bundles(&state_dir, identity.command_key.clone(), run_state.caution, run_state.good_version());

    let (mut resume, note) = resume_after(&spool, boot_id, identity.host_id);
    if recovery.unreadable_tail_bytes > 0 {
        resume.next_sequence += recovery.unreadable_tail_bytes * RECORDS_PER_BYTE_AT_MOST;
    }
    let mut table = ProcessTable::default();
    table.restore(note.waiting, note.young);
    let sensor = observing::open_sensor(&options, Some(&state_dir), resume.position)?;
    let wake = Arc::new(tokio::sync::Notify::new());
    let sealing_key = match &options.public_key {
        Some(path) => read_public_key(path)?,
        None => identity.sealing_key.clone(),
    };
    let sealer =
        Sealer::new(&sealing_key, identity.host_id, Purpose::Batch).context("the server's RSA key")?;
    let account = DropAccount::open(&state_dir.join("dropped"), identity.host_id)
        .with_context(|| format!("writing to {}", state_dir.display()))?;
    let start = Start {
        host_id: identity.host_id,
        facts: facts.clone(),
        before: spool.last().map(|last| Before {
            stream: last.header.position.map(|position| position.stream),
            until: event_model::Timestamp::from_nanos(last.header.span.1),
        }),
        resume,
        spooling: Some(Spooling {
            spool: Arc::clone(&spool),
            sealer,
            wake: Arc::clone(&wake),
            account,
            server_mark: Arc::clone(&server_mark),
        }),
        table,
        previous_end: run_state.previous_end,
        previous_cause: supervisor::last_end(&state_dir),
        caution: run_state.caution,
        watched: Watched {
            configuration: options.config_file.clone(),
            rules: options.rules_dir.clone(),
            state: Some(state_dir.clone()),
            // Kept with the process where there is no bpffs.
            pins: observing::pins(&state_dir),
        },
        server: Some(address.clone()),
    };
    let sensor_name = sensor.name().to_owned();
    let running = Running::start(&options, start, sensor, Arc::clone(&rules))?;
    signals.tell = Some(running.sender.clone());
    let linked = Arc::new(AtomicBool::new(false));
    let healthy_rules = Arc::clone(&rules);
    let uplink = Uplink {
        address,
        options,
        identity,
        state_dir,
        facts,
        boot_id,
        sensor: sensor_name,
        spool: Arc::clone(&spool),
        wake,
        server_mark,
        rules,
        responding: running.responding.clone(),
        linked: Arc::clone(&linked),
        stored: AtomicBool::new(false),
    };
    let uplink = tokio::spawn(uplink.run());
    let signal = tokio::select! {
        signal = async {
            tokio::select! {
                signal = signals.asked() => signal,
                () = async {
                    tokio::time::sleep(HEALTHY_AFTER).await;
                    run_state.healthy(healthy_rules.active().version);
                    std::future::pending::<()>().await;
                } => None,
            }
        } => signal,
        () = running.ended() => None,
        () = running.keep_well_known() => None,
    };
    let result = running.stop(signal).await;
    if linked.load(std::sync::atomic::Ordering::Relaxed) {
        let sent = async {
            while !spool.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(LAST_SENDING, sent).await.is_err() {
            tracing::info!("not everything could be sent, the rest waits in the spool for the next start");
        }
    }
    uplink.abort();
    if let Err(error) = spool.sync() {
        tracing::warn!(%error, "the spool could not be synced");
    }
    run_state.end();
    result
}

fn host_names(facts: &HostFacts, id: HostId) -> HostNames {
    HostNames { name: facts.name.clone(), id: id.to_string() }
}

/// Says that enrolling takes as long as the server can't be reached. Never ends.
async fn keep_starting() {
    match ServiceNotice::from_environment() {
        Some(notice) => notice.keep_starting().await,
        None => std::future::pending().await,
    }
}

/// Opens the spool. An agent that was just killed may hold it for another moment.
async fn open_spool(options: &Options) -> Result<(Spool, Recovery), SpoolError> {
    let limits = SpoolOptions { max_bytes: options.spool_max_bytes, ..SpoolOptions::default() };
    let deadline = Instant::now() + LAST_MOMENT;
    loop {
        match Spool::open(&options.state_dir.join("spool"), limits) {
            Err(SpoolError::Locked { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            result => return result,
        }
    }
}

fn warn_of(caution: Caution) {
    match caution {
        Caution::Normal => {}
        Caution::LastKnownGood => tracing::error!(
            "three crashes in ten minutes: rules that are not known to be good are set aside; hint: see the log for the crash"
        ),
        Caution::SafeMode => tracing::error!(
            "six crashes in ten minutes: safe mode, nothing is acted on; it ends after a minute of good health and a restart"
        ),
    }
}

/// Where the last agent of this boot stopped, and what it left.
fn resume_after(spool: &Spool, boot_id: BootId, host_id: HostId) -> (Resume, Note) {
    let Some(last) = spool.last() else { return Default::default() };
    // The sensor checks the stream by itself; it survives what the boot id can't tell.
    let position = last.header.position;
    let position = position.map(|place| SensorPosition { stream: place.stream, offset: place.offset });
    if last.header.boot_id != *boot_id.as_bytes() {
        return (Resume { position, ..Resume::default() }, Note::default());
    }
    let note = Note::decode(&last.note);
    if note.host_id.is_some_and(|numbered_as| numbered_as != host_id) {
        // Enrolled anew since: the server knows no number of the host that this is now.
        return (Resume { position, ..Resume::default() }, note);
    }
    let next_sequence = last.header.last_sequence() + 1;
    (Resume { next_sequence, counters: note.counters, account: note.account.clone(), position }, note)
}

/// Gives the sensor the block list; what it can't know by itself comes back.
fn block(path: &Path, sensor: &mut dyn Sensor, caution: Caution) -> anyhow::Result<HashSet<String>> {
    let (list, notes) = BlockList::read(path, &response::Guards::of_this_host())?;
    if caution == Caution::SafeMode {
        eprintln!("note: safe mode: the block list has no effect");
        return Ok(HashSet::new());
    }
    for note in notes {
        eprintln!("note: -blocklist: {note}");
    }
    if !list.texts.is_empty() {
        sensor.block(&list.texts).with_context(|| format!("-blocklist {}", path.display()))?;
    }
    Ok(list.hashes)
}

/// What differs between the ways to run.
struct Start {
    host_id: HostId,
    facts: HostFacts,
    resume: Resume,
    spooling: Option<Spooling>,
    table: ProcessTable,
    before: Option<Before>,
    previous_end: &'static str,
    previous_cause: Option<String>,
    caution: Caution,
    watched: Watched,
    /// Whose link no response may cut.
    server: Option<ServerAddress>,
}

/// The pipeline's thread, running.
struct Running {
    responding: Responding,
    sender: ObservationSender,
    rounds: Arc<AtomicU64>,
    sources: SourceThreads,
    stop: Arc<Stop>,
    thread: std::thread::JoinHandle<Result<End, sensor_api::SensorError>>,
    ended: tokio::sync::watch::Receiver<bool>,
}

impl Running {
    fn start(
        options: &Options,
        mut start: Start,
        mut sensor: Box<dyn Sensor>,
        rules: Arc<RuleBook>,
    ) -> anyhow::Result<Self> {
        let clock = Arc::new(WallClock::new());
        let boot_id = host::boot_id()?;
        let host_name = start.facts.name.clone();
        let output = options.output.as_ref().map(|target| open_output(target, &host_name)).transpose()?;
        let receipt_clock = Arc::clone(&clock);
        let receipt_clock: response::Clock = Arc::new(move || receipt_clock.now());
        let mut judge = Judge::new(sensor.process_clock(), Arc::clone(&receipt_clock), start.caution)
            .context("starting the response")?;
        judge.protect(options.protected.iter().cloned());
        let (sender, queue) = observation_queue(SOURCE_QUEUE);
        let responding = Responding::start(RespondingParts {
            dir: options.state_dir.join("responses"),
            vault: options.quarantine_dir.clone(),
            processes: sensor.process_clock(),
            lineage: if response::ThisHost::ASKS_FOR_LINEAGE {
                start.table.keep_lineage()
            } else {
                Arc::default()
            },
            boot: boot_id,
            clock: receipt_clock,
            server: start.server,
            protected: options.protected.clone(),
            caution: start.caution,
            tell: sender.clone(),
        })
        .context("starting the response's thread")?;
        judge.respond_with(responding.clone());
        let keeps_state = start.spooling.is_some();
        if let Some(learning) = options.anomaly_learning {
            // An agent that works alone keeps what it learnt where it was given a place.
            let dir = Some(options.state_dir.as_path()).filter(|dir| keeps_state || dir.is_dir());
            judge.watch_habits(Anomalies::open(learning, dir));
        }
        let blocked_hashes = match &options.block_list {
            // Watching is worth more than blocking: a bad list does not keep the agent from it.
            Some(path) => block(path, sensor.as_mut(), start.caution).unwrap_or_else(|error| {
                eprintln!("ERROR: nothing is blocked: {error:#}");
                HashSet::new()
            }),
            None => HashSet::new(),
        };
        let denials = DenialFeed::default();
        let gate = gate::open(
            options,
            start.caution,
            GateParts {
                rules: Arc::clone(&rules),
                blocked_hashes: blocked_hashes.clone(),
                protected: options.protected.clone(),
                switch: responding.switch().clone(),
                host_id: start.host_id,
                boot_id,
                clock: Arc::clone(&clock),
                denials: denials.clone(),
            },
        );
        let recorder =
            Recorder::new(start.host_id, boot_id, Arc::clone(&clock), start.resume, start.spooling, output);
        let config_hash = to_hex(&sha256(format!("{options:?}").as_bytes()));
        let (sensor_name, rule_count) = (sensor.name(), rules.active().set.len());
        // Without a server there is no state directory, and nothing is written.
        let kept = keeps_state.then(|| options.state_dir.clone());
        let mut others = observing::sources(options, kept);
        let (content, reader) = observing::content().context("starting to read what is run")?;
        others.push(reader);
        others.push(Box::new(SelfWatch::new(start.watched)));
        let indicators = Arc::new(IndicatorBook::open(options.rules_dir.as_deref(), &options.state_dir));
        let yara = Arc::new(YaraBook::open(options.rules_dir.as_deref()));
        let reload = ContentReload {
            rules: Arc::clone(&rules),
            indicators: Arc::clone(&indicators),
            yara: Arc::clone(&yara),
        };
        reload.take_up();
        others.push(Box::new(reload));
        let (scans, scanner) = scanner(ScannerOptions {
            yara: Arc::clone(&yara),
            indicators: Arc::clone(&indicators),
            watched: options.dirs.clone(),
            own: vec![options.state_dir.clone()],
            cpu_permille: options.budget.cpu_permille,
        })
        .context("starting to scan files")?;
        others.push(scanner);
        others.extend(gate);
        let of_others = others.iter().flat_map(|one| one.provisions());
        let provided = described(sensor.provisions().into_iter().chain(of_others));
        if options.debug {
            provided.iter().for_each(|line| eprintln!("source: {line}"));
        }
        let sources = SourceThreads::start(others, &sender).context("starting the sources' threads")?;
        let rounds = Arc::new(AtomicU64::new(0));
        let parts = Parts {
            sensor,
            queue,
            content,
            scans,
            denials,
            boot_id,
            clock,
            table: start.table,
            judge,
            recorder,
            rules,
            indicators: Arc::clone(&indicators),
            blocked_hashes,
            before: start.before,
            governor: Governor::new(options.budget),
            config_hash,
            previous_end: start.previous_end,
            sources: provided,
            previous_cause: start.previous_cause,
            rounds: Arc::clone(&rounds),
        };
        let stop = Arc::new(Stop::default());
        let (tell_end, ended) = tokio::sync::watch::channel(false);
        let asked = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("pipeline".into())
            .spawn(move || {
                let result = pipeline::run(parts, &asked);
                // Nobody listens any more once the agent is being stopped.
                let _ = tell_end.send(true);
                result
            })
            .context("starting the pipeline's thread")?;
        if !indicators.active().is_empty() {
            eprintln!("note: {} indicators are looked for", indicators.active().len());
        }
        if yara.active().count > 0 {
            eprintln!("note: files are scanned with {} YARA rules", yara.active().count);
        }
        eprintln!("agent is running: host {host_name}, sensor {sensor_name}, {rule_count} rules");
        Ok(Self { responding, sender, rounds, sources, stop, thread, ended })
    }

    /// Until the pipeline ends by itself, which only an error makes it do.
    async fn ended(&self) {
        // An error means that the thread is gone without a word.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Tells the service manager that the agent is well, where there is one. Never ends.
    async fn keep_well_known(&self) {
        match ServiceNotice::from_environment() {
            Some(notice) => notice.keep_saying(Arc::clone(&self.rounds)).await,
            None => std::future::pending().await,
        }
    }

    async fn stop(self, signal: Option<Received>) -> anyhow::Result<End> {
        // First, so that the pipeline's last look finds all that they saw.
        let sources = self.sources;
        let stuck = tokio::task::spawn_blocking(|| sources.stop()).await.unwrap_or_default();
        if !stuck.is_empty() {
            tracing::warn!(sources = ?stuck, "sources did not end in time and are left behind");
        }
        self.stop.sent_by(signal.and_then(|signal| signal.by));
        self.stop.ask(signal.map_or(0, |signal| signal.signal));
        let mut ended = self.ended.clone();
        let _ = ended.wait_for(|ended| *ended).await;
        match self.thread.join() {
            Ok(result) => result.context("the sensor failed"),
            Err(_) => bail!("the pipeline panicked; see above for where"),
        }
    }
}

fn open_output(target: &OutputTarget, host_name: &str) -> anyhow::Result<Output> {
    Output::open(target, host_name.to_owned()).with_context(|| match target {
        OutputTarget::Stdout => "-output -".to_owned(),
        OutputTarget::File(path) => format!("-output {}", path.display()),
    })
}
