//! The agent's settings: the table, and what becomes of it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::governor::Budget;
use crate::system::{observing, paths};
use settings::{Kind, Program, Request, Resolved, Setting, SettingsError};

/// Where an agent keeps what must survive it.
pub const DEFAULT_STATE_DIR: &str = paths::DEFAULT_STATE_DIR;

/// Where the server is looked for if nothing says it.
pub const DEFAULT_SERVER: &str = "https://localhost:8443";

const DEFAULT_SPOOL_BYTES: u64 = 512 << 20;
/// Comparing more often would do nothing else.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
const LEAST_SPOOL_BYTES: u64 = 1 << 20;
const DEFAULT_CPU_PERCENT: f64 = 5.0;
const DEFAULT_MEMORY_MIB: f64 = 200.0;
/// Less than this it can't do with its kernel ring mapped.
const LEAST_MEMORY_MIB: f64 = 64.0;

/// A week has every habit of an office.
const DEFAULT_LEARNING: Duration = Duration::from_secs(7 * 86_400);
const LONGEST_LEARNING: Duration = Duration::from_secs(90 * 86_400);

macro_rules! setting {
    ($flag:literal, $key:literal, $kind:ident, $value:literal, $help:literal) => {
        Setting { flag: $flag, key: $key, kind: Kind::$kind, value_name: $value, help: $help }
    };
}

/// The agent's flags, environment variables and config keys.
pub const PROGRAM: Program = Program {
    name: "edr-agent",
    about: "watches this host, judges what it sees by rules, acts, and tells the server",
    settings: &[
        setting!("server", "server_addr", Text, "URL", "the server (default https://localhost:8443)"),
        setting!("token", "token", Text, "TOKEN", "enrolment token, needed once"),
        setting!("cert", "cert_file", Text, "FILE", "the server's CA, or its own certificate (PEM)"),
        setting!(
            "insecure",
            "insecure",
            Switch,
            "",
            "don't verify the server's certificate; needs -pubkey; not for production"
        ),
        setting!(
            "pubkey",
            "public_key_file",
            Text,
            "FILE",
            "the server's RSA public key (PEM) that seals what is sent"
        ),
        setting!("standalone", "standalone", Switch, "", "work without a server"),
        setting!(
            "output",
            "output",
            Text,
            "FILE",
            "write events and alerts as ECS NDJSON; `-` is standard output"
        ),
        setting!(
            "rules",
            "rules_dir",
            Text,
            "DIR",
            "load rules of this directory: *.json, Sigma's *.yml, YARA's *.yar and *.yara, and the lists of its folder `indicators`"
        ),
        setting!(
            "blocklist",
            "block_list_file",
            Text,
            "FILE",
            "programs that may not run (JSON: names, paths, sha256); they are ended before their first instruction"
        ),
        setting!(
            "execgate",
            "execution_gate",
            List,
            "all|DIR,…",
            "judge programs by rules in mode `auto` before they run, on all local file systems or those of these directories; a late verdict lets them run"
        ),
        setting!(
            "state",
            "state_dir",
            Text,
            "DIR",
            "what must survive a restart (default /var/lib/rampart/agent)"
        ),
        setting!(
            "spool-max-bytes",
            "spool_max_bytes",
            Number,
            "BYTES",
            "limit of what waits for the server (default 536870912)"
        ),
        setting!(
            "interval",
            "scan_interval",
            Text,
            "DURATION",
            "between comparisons of -dirs with their baseline (default 30s)"
        ),
        setting!(
            "dirs",
            "monitor_dirs",
            List,
            "DIR,…",
            "directories whose files are watched for changes, each with its hash"
        ),
        setting!(
            "regs",
            "monitor_regs",
            List,
            "KEY,…",
            "Windows registry keys to watch besides the built-in ones"
        ),
        setting!(
            "collect",
            "collection",
            Text,
            "etw|sysmon|both",
            "on Windows: take the kernel's events from sessions of event tracing, from Sysmon's channel where it is installed, or from both (default both)"
        ),
        setting!(
            "quarantine",
            "quarantine_dir",
            Text,
            "DIR",
            "where quarantined files go, sealed (default: responses/vault in -state)"
        ),
        setting!(
            "release",
            "release_code",
            Text,
            "CODE",
            "let this isolated host go by the code that the server shows, and end (needs the -state of the agent)"
        ),
        setting!(
            "protect",
            "protected_programs",
            List,
            "FILE,…",
            "programs that no response touches, besides those of the system; absolute paths"
        ),
        setting!(
            "cpulimit",
            "cpu_limit",
            Number,
            "PERCENT",
            "CPU that the agent may use, in percent of one core over ten seconds (default 5; 0 is no limit)"
        ),
        setting!(
            "memlimit",
            "memory_limit",
            Number,
            "MB",
            "memory that the agent may use, in MiB (default 200; 0 is no limit)"
        ),
        setting!(
            "supervise",
            "supervise",
            Switch,
            "",
            "start the agent as a child and start it again when it ends unasked; for hosts without systemd"
        ),
        setting!(
            "module-attempts",
            "module_attempts",
            Switch,
            "",
            "on kernels without modules: see attempts to load one (starting a process gets some 5 % dearer)"
        ),
        setting!(
            "anomaly",
            "anomaly",
            Text,
            "on|off",
            "learn what is usual on this host and report, with low severity, what is not (default on)"
        ),
        setting!(
            "anomaly-learning",
            "anomaly_learning",
            Text,
            "DURATION",
            "how long to learn before anything unusual is reported, in time in which events came (default 7d)"
        ),
        setting!(
            "builtin-behaviours",
            "builtin_behaviours",
            Text,
            "on|off",
            "weigh the behaviours of process trees that are built in; files of behaviours count either way (default on)"
        ),
        setting!(
            "service",
            "",
            Text,
            "WHAT",
            "on Windows: `install` the agent as a service with the other flags, `uninstall`, `start`, `stop`; `run` is for the service manager"
        ),
        setting!("debug", "debug", Switch, "", "log more"),
    ],
};

/// Settings whose feature a later version brings.
const NO_EFFECT: &[(&str, &str)] = observing::SETTINGS_WITHOUT_EFFECT;

/// What the agent is to do, checked.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server's address; `None` in standalone mode.
    pub server: Option<String>,
    /// Enrolment token.
    pub token: Option<String>,
    /// CA or certificate of the server.
    pub certificate: Option<PathBuf>,
    /// No verification of the server's certificate.
    pub insecure: bool,
    /// The server's RSA key.
    pub public_key: Option<PathBuf>,
    /// Where NDJSON goes.
    pub output: Option<OutputTarget>,
    /// Rules on disk.
    pub rules_dir: Option<PathBuf>,
    /// Programs that may not run.
    pub block_list: Option<PathBuf>,
    /// Where programs are judged before they run, `all` for everywhere; `None` for no gate.
    pub execution_gate: Option<Vec<PathBuf>>,
    /// What survives a restart.
    pub state_dir: PathBuf,
    /// Limit of the spool.
    pub spool_max_bytes: u64,
    /// Directories whose files are watched for changes.
    pub dirs: Vec<PathBuf>,
    /// Registry keys that are watched besides the built-in ones, on Windows.
    pub registry_keys: Vec<String>,
    /// Where the kernel's events are taken from, on Windows.
    pub collection: Collection,
    /// How often they are compared with their baseline, where that was said.
    pub interval: Option<Duration>,
    /// Where quarantined files go, where that was said.
    pub quarantine_dir: Option<PathBuf>,
    /// Programs that no response touches.
    pub protected: Vec<PathBuf>,
    /// What the agent may use of the host.
    pub budget: Budget,
    /// The configuration file, if there is one.
    pub config_file: Option<PathBuf>,
    /// Run as the supervisor of an agent.
    pub supervise: bool,
    /// See attempts to load a kernel module where the kernel has none.
    pub module_attempts: bool,
    /// How long to learn what is usual on this host; `None` where nobody asked to be told what is not.
    pub anomaly_learning: Option<Duration>,
    /// Weigh the behaviours that are built in.
    pub builtin_behaviours: bool,
    /// Log more.
    pub debug: bool,
    /// Lines for the operator about settings that do nothing yet.
    pub notes: Vec<String>,
}

/// Where the kernel's events are taken from, on Windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    /// Sessions of event tracing of the agent's own.
    Etw,
    /// Sysmon's channel of the event log.
    Sysmon,
    /// Both.
    Both,
}

/// Where NDJSON goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputTarget {
    /// Standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// What the command line asked for.
#[derive(Debug)]
pub enum Asked {
    /// Run.
    Run(Box<Options>),
    /// Print this and end.
    Print(String),
    /// Do something with the agent's service.
    Service(ServiceAct, Box<Options>),
    /// Let the host go by this code.
    Release {
        /// The agent's folder.
        state_dir: PathBuf,
        /// As it was typed.
        code: String,
    },
}

/// What can be done with the agent's service.
#[derive(Debug, Clone, PartialEq)]
pub enum ServiceAct {
    /// Make it; with these settings, as a config file has them.
    Install(serde_json::Value),
    /// Remove it.
    Uninstall,
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Be it.
    Run,
    /// Remove the network filters of this name: for the task that lifts what a dead agent can't.
    Lift(String),
}

/// Settings that name a file or folder; a service has another working directory than whoever installs it.
const PATHS: [&str; 7] = ["cert", "pubkey", "output", "rules", "blocklist", "state", "quarantine"];

/// Reads flags (without the program's own name), environment and config file.
///
/// # Errors
/// [`SettingsError`] for the first setting that can't be used.
pub fn read(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Asked, SettingsError> {
    Ok(match PROGRAM.read(arguments, environment)? {
        Request::Help => Asked::Print(PROGRAM.help()),
        Request::Version => Asked::Print(format!("edr-agent {}", env!("CARGO_PKG_VERSION"))),
        Request::Run(resolved) if resolved.has("release") => Asked::Release {
            state_dir: state_dir(&resolved),
            code: resolved.text("release").unwrap_or_default().to_owned(),
        },
        Request::Run(resolved) if resolved.has("service") => {
            let act = service_act(&resolved)?;
            Asked::Service(act, Box::new(resolve(&resolved)?))
        }
        Request::Run(resolved) => Asked::Run(Box::new(resolve(&resolved)?)),
    })
}

/// Whether the service manager gave these arguments, by themselves: also where the settings can't be read.
pub fn are_of_service(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let mut arguments = arguments.into_iter();
    arguments.any(|one| one.to_str().is_some_and(|one| one.trim_start_matches('-') == "service=run"))
}

fn service_act(given: &Resolved) -> Result<ServiceAct, SettingsError> {
    match given.text("service").unwrap_or_default() {
        "install" => {
            let mut kept = given.clone();
            for flag in PATHS {
                let absolute = given.path(flag).and_then(|path| std::path::absolute(path).ok());
                if let Some(path) = absolute.filter(|_| given.text(flag) != Some("-")) {
                    kept.replace_text(flag, path.to_string_lossy().into_owned());
                }
            }
            Ok(ServiceAct::Install(kept.config(PROGRAM.settings)))
        }
        "uninstall" => Ok(ServiceAct::Uninstall),
        "start" => Ok(ServiceAct::Start),
        "stop" => Ok(ServiceAct::Stop),
        "run" => Ok(ServiceAct::Run),
        other if other.starts_with("lift ") => {
            Ok(ServiceAct::Lift(other.trim_start_matches("lift ").to_owned()))
        }
        _ => Err(given.refuse("service", "`install`, `uninstall`, `start`, `stop` or `run`")),
    }
}

fn state_dir(given: &Resolved) -> PathBuf {
    given.path("state").unwrap_or_else(|| DEFAULT_STATE_DIR.into())
}

fn resolve(given: &Resolved) -> Result<Options, SettingsError> {
    let standalone = given.is_on("standalone");
    if standalone {
        let needs_server = ["server", "token", "cert", "pubkey"].into_iter().find(|flag| given.has(flag));
        if let Some(flag) = needs_server {
            return Err(given
                .refuse(flag, "allowed with -standalone, which has no server; hint: leave one of them out"));
        }
    }
    let insecure = given.is_on("insecure");
    if insecure && !given.has("pubkey") {
        return Err(given.refuse(
            "insecure",
            "allowed without -pubkey: with neither, anybody could read what is sent; hint: add `-pubkey FILE` with the server's server-public.pem",
        ));
    }
    let server = given.text("server").unwrap_or(DEFAULT_SERVER);
    if !is_server_url(server) {
        return Err(given.refuse("server", "a server's address like `https://edr.example.org:8443`"));
    }
    let interval = match given.text("interval").map(duration) {
        None => None,
        Some(Some(interval)) if interval >= LEAST_INTERVAL => Some(interval),
        Some(_) => return Err(given.refuse("interval", "a duration like `30s`, `5m` or `1h`, at least `1s`")),
    };
    let dirs: Vec<PathBuf> = given.list("dirs").unwrap_or_default().iter().map(PathBuf::from).collect();
    if dirs.iter().any(|dir| !dir.is_absolute()) {
        return Err(
            given.refuse("dirs", "absolute paths of directories, separated by commas, like `/etc,/usr/bin`")
        );
    }
    let protected: Vec<PathBuf> =
        given.list("protect").unwrap_or_default().iter().map(PathBuf::from).collect();
    if protected.iter().any(|path| !path.is_absolute()) {
        return Err(given.refuse("protect", "absolute paths of programs, separated by commas"));
    }
    let execution_gate: Option<Vec<PathBuf>> =
        given.list("execgate").map(|places| places.iter().map(PathBuf::from).collect());
    let is_place = |place: &PathBuf| place.is_absolute();
    if execution_gate
        .as_ref()
        .is_some_and(|places| *places != [PathBuf::from("all")] && !places.iter().all(is_place))
    {
        return Err(given.refuse("execgate", "`all`, or absolute paths of directories, separated by commas"));
    }
    let quarantine_dir = given.path("quarantine");
    if quarantine_dir.as_ref().is_some_and(|dir| !dir.is_absolute()) {
        return Err(given.refuse("quarantine", "an absolute path, like `/var/lib/rampart/vault`"));
    }
    let cpu = given.number("cpulimit").unwrap_or(DEFAULT_CPU_PERCENT);
    if !(0.0..=100.0).contains(&cpu) {
        return Err(given.refuse("cpulimit", "a percentage from 0 (no limit) up to 100"));
    }
    let memory = given.number("memlimit").unwrap_or(DEFAULT_MEMORY_MIB);
    if memory != 0.0 && !(LEAST_MEMORY_MIB..=1_048_576.0).contains(&memory) {
        return Err(given.refuse("memlimit", "a number of MiB from 64 up, or 0 for no limit"));
    }
    let budget = Budget {
        // Checked above; the smallest limit that is one is a thousandth of a core.
        cpu_permille: (cpu > 0.0).then_some(((cpu * 10.0).round() as u32).max(1)),
        memory_bytes: (memory > 0.0).then_some((memory as u64) << 20),
    };
    let spool_max_bytes = match given.number("spool-max-bytes") {
        None => DEFAULT_SPOOL_BYTES,
        Some(bytes) if (LEAST_SPOOL_BYTES as f64..1e15).contains(&bytes) => {
            // Checked above to lie in the range where this is exact enough.
            format!("{bytes:.0}").parse().unwrap_or(DEFAULT_SPOOL_BYTES)
        }
        Some(_) => return Err(given.refuse("spool-max-bytes", "a number of bytes from 1048576 up")),
    };
    let learning = match given.text("anomaly-learning") {
        None => DEFAULT_LEARNING,
        Some(text) => match days(text).filter(|learning| *learning <= LONGEST_LEARNING) {
            Some(learning) => learning,
            None => {
                return Err(given.refuse("anomaly-learning", "a duration like `7d` or `12h`, up to `90d`"));
            }
        },
    };
    let anomaly_learning = match given.text("anomaly") {
        None | Some("on") => Some(learning),
        Some("off") => None,
        Some(_) => return Err(given.refuse("anomaly", "`on` or `off`")),
    };
    let builtin_behaviours = match given.text("builtin-behaviours") {
        None | Some("on") => true,
        Some("off") => false,
        Some(_) => return Err(given.refuse("builtin-behaviours", "`on` or `off`")),
    };
    let collection = match given.text("collect") {
        None | Some("both") => Collection::Both,
        Some("etw") => Collection::Etw,
        Some("sysmon") => Collection::Sysmon,
        Some(_) => return Err(given.refuse("collect", "`etw`, `sysmon` or `both`")),
    };
    let notes = NO_EFFECT.iter().filter(|(flag, _)| given.has(flag));
    let notes = notes.map(|(flag, why)| format!("-{flag} has no effect here: {why}")).collect();
    let output = given.text("output").map(|target| match target {
        "-" => OutputTarget::Stdout,
        path => OutputTarget::File(path.into()),
    });
    Ok(Options {
        server: (!standalone).then(|| server.to_owned()),
        token: given.text("token").map(str::to_owned),
        certificate: given.path("cert"),
        insecure,
        public_key: given.path("pubkey"),
        output,
        rules_dir: given.path("rules"),
        block_list: given.path("blocklist"),
        execution_gate,
        state_dir: state_dir(given),
        spool_max_bytes,
        dirs,
        registry_keys: given.list("regs").unwrap_or_default().iter().map(ToString::to_string).collect(),
        collection,
        interval,
        quarantine_dir,
        protected,
        budget,
        config_file: given.config_file.clone(),
        supervise: given.is_on("supervise"),
        module_attempts: given.is_on("module-attempts"),
        anomaly_learning,
        builtin_behaviours,
        debug: given.is_on("debug"),
        notes,
    })
}

fn is_server_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty())
}

/// A duration in days, which Go has no unit for, or as Go writes it.
fn days(text: &str) -> Option<Duration> {
    match text.strip_suffix('d') {
        Some(number) => {
            number.parse().ok().and_then(|days: u64| days.checked_mul(86_400)).map(Duration::from_secs)
        }
        None => duration(text),
    }
}

/// As Go writes durations: numbers with units, for example `1m30s`.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0)];
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|character: char| character.is_ascii_digit() || character == '.');
        let number: f64 = rest[..rest.len() - after.len()].parse().ok()?;
        let unit = UNITS.iter().find_map(|(unit, length)| Some((after.strip_prefix(unit)?, length)));
        let (after, length) = unit?;
        seconds += number * length;
        rest = after;
    }
    let is_some = !text.is_empty();
    is_some.then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

#[cfg(test)]
mod tests;
