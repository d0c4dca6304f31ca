//! The agent's settings: the table, and what becomes of it.

use std::ffi::OsString;
use std::path::PathBuf;

use settings::{Kind, Program, Request, Resolved, Setting, SettingsError};

/// Where an agent keeps what must survive it.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/rampart/agent";

/// Where the server is looked for if nothing says it.
pub const DEFAULT_SERVER: &str = "https://localhost:8443";

const DEFAULT_SPOOL_BYTES: u64 = 512 << 20;
const LEAST_SPOOL_BYTES: u64 = 1 << 20;

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
        setting!("rules", "rules_dir", Text, "DIR", "load rules from *.json of this directory"),
        setting!(
            "blocklist",
            "block_list_file",
            Text,
            "FILE",
            "programs that may not run (JSON: names, paths, sha256); they are ended before their first instruction"
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
            "between scans, for example 30s (no effect yet)"
        ),
        setting!("dirs", "monitor_dirs", List, "DIR,…", "directories to watch (no effect yet)"),
        setting!("regs", "monitor_regs", List, "KEY,…", "Windows registry keys to watch (no effect yet)"),
        setting!("quarantine", "quarantine_dir", Text, "DIR", "where quarantined files go (no effect yet)"),
        setting!("cpulimit", "cpu_limit", Number, "PERCENT", "limit of the agent's CPU use (no effect yet)"),
        setting!("debug", "debug", Switch, "", "log more"),
    ],
};

/// Settings whose feature a later version brings.
const NO_EFFECT_YET: &[(&str, &str)] = &[
    ("interval", "periodic scans come later; processes are watched without any"),
    ("dirs", "file monitoring comes later"),
    ("regs", "registry monitoring comes later, on Windows"),
    ("quarantine", "quarantine comes later"),
    ("cpulimit", "the CPU limit comes later"),
];

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
    /// What survives a restart.
    pub state_dir: PathBuf,
    /// Limit of the spool.
    pub spool_max_bytes: u64,
    /// Log more.
    pub debug: bool,
    /// Lines for the operator about settings that do nothing yet.
    pub notes: Vec<String>,
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
}

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
        Request::Run(resolved) => Asked::Run(Box::new(resolve(&resolved)?)),
    })
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
    if given.text("interval").is_some_and(|text| !is_duration(text)) {
        return Err(given.refuse("interval", "a duration like `30s`, `5m` or `1h`"));
    }
    if given.number("cpulimit").is_some_and(|percent| !(percent > 0.0 && percent <= 100.0)) {
        return Err(given.refuse("cpulimit", "a percentage above 0 and up to 100"));
    }
    let spool_max_bytes = match given.number("spool-max-bytes") {
        None => DEFAULT_SPOOL_BYTES,
        Some(bytes) if (LEAST_SPOOL_BYTES as f64..1e15).contains(&bytes) => {
            // Checked above to lie in the range where this is exact enough.
            format!("{bytes:.0}").parse().unwrap_or(DEFAULT_SPOOL_BYTES)
        }
        Some(_) => return Err(given.refuse("spool-max-bytes", "a number of bytes from 1048576 up")),
    };
    let notes = NO_EFFECT_YET.iter().filter(|(flag, _)| given.has(flag));
    let notes = notes.map(|(flag, why)| format!("-{flag} has no effect in this version: {why}")).collect();
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
        state_dir: given.path("state").unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
        spool_max_bytes,
        debug: given.is_on("debug"),
        notes,
    })
}

fn is_server_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty())
}

/// As Go writes durations: numbers with units, for example `1m30s`.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let number =
            rest.trim_start_matches(|character: char| character.is_ascii_digit() || character == '.');
        let unit = ["ms", "s", "m", "h"].into_iter().find_map(|unit| number.strip_prefix(unit));
        match unit {
            Some(after) if number.len() < rest.len() => rest = after,
            _ => return false,
        }
    }
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Result<Options, String> {
        let arguments = arguments.iter().map(OsString::from);
        match read(arguments, |_| None) {
            Ok(Asked::Run(options)) => Ok(*options),
            Ok(Asked::Print(text)) => Err(text),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn all_flags_of_the_seed_are_taken_in_every_spelling() {
        let options = run(&[
            "-server=https://server-address:8443",
            "--interval",
            "30s",
            "-dirs=/etc,/bin,/usr/bin",
            r"-regs=HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run",
            "--cert=/path/to/server-cert.pem",
            "-insecure",
            "-pubkey",
            "/path/to/server-public.pem",
            "-quarantine=/path/to/quarantine",
            "-cpulimit=5.0",
            "-debug",
        ])
        .unwrap();
        assert_eq!(options.server.as_deref(), Some("https://server-address:8443"));
        assert!(options.insecure && options.debug);
        assert_eq!(options.notes.len(), 5, "five settings have no effect yet, and each says so");
        assert_eq!(run(&[]).unwrap().server.as_deref(), Some(DEFAULT_SERVER));
        assert_eq!(run(&["-standalone", "-output", "-"]).unwrap().output, Some(OutputTarget::Stdout));
    }

    #[test]
    fn the_seeds_config_file_is_taken_key_for_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.json");
        let config = r#"{
            "server_addr": "https://server-address:8443", "scan_interval": "30s",
            "monitor_dirs": ["/etc", "/bin", "/usr/bin"],
            "monitor_regs": ["HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Run"],
            "debug": false, "cert_file": "/path/to/server-cert.pem", "insecure": false,
            "public_key_file": "/path/to/server-public.pem", "quarantine_dir": "/path/to/quarantine",
            "cpu_limit": 5.0
        }"#;
        std::fs::write(&path, config).unwrap();
        let path = path.to_str().unwrap();
        let options = run(&["-config", path]).unwrap();
        assert_eq!(options.certificate, Some("/path/to/server-cert.pem".into()));
        let options = run(&["-config", path, "-server=https://other"]).unwrap();
        assert_eq!(options.server.as_deref(), Some("https://other"), "a flag wins over the file");
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_help() {
        for (arguments, part) in [
            (&["-sever=x"][..], "-server"),
            (&["-insecure"], "-pubkey"),
            (&["-server=ftp://x"], "https://"),
            (&["-interval=soon"], "30s"),
            (&["-cpulimit=900"], "up to 100"),
            (&["-spool-max-bytes=10"], "1048576"),
            (&["-standalone", "-token=x"], "-standalone"),
        ] {
            let error = run(arguments).unwrap_err();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        for good in ["30s", "1m30s", "500ms", "1.5h"] {
            assert!(is_duration(good), "{good}");
        }
        for bad in ["", "30", "s", "30x", "-1s"] {
            assert!(!is_duration(bad), "{bad}");
        }
    }
}
