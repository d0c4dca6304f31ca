//! What the operator asked for.

use std::path::PathBuf;
use std::time::Duration;

use crate::act::Relay;
use crate::journal::RunKey;
use settings::{Kind, Program, Resolved, Setting, SettingsError};

const fn setting(
    flag: &'static str,
    key: &'static str,
    kind: Kind,
    value_name: &'static str,
    help: &'static str,
) -> Setting {
    Setting { flag, key, kind, value_name, help }
}

/// The responder's table of settings.
pub const PROGRAM: Program = Program {
    name: "edr-responder",
    about: "takes alerts from the bus of Rampart and runs playbooks",
    settings: &[
        setting("bus", "bus", Kind::Text, "URL", "alert bus: redis://HOST:PORT or nats://HOST:PORT"),
        setting("server", "server_addr", Kind::Text, "URL", "the server, https://HOST:PORT"),
        setting("playbooks", "playbooks_dir", Kind::Text, "DIR", "folder of playbooks"),
        setting("token", "token", Kind::Text, "TOKEN", "API token; better EDR_TOKEN or -token-file"),
        setting("token-file", "token_file", Kind::Text, "FILE", "file with the API token in it"),
        setting(
            "ca",
            "ca_file",
            Kind::Text,
            "FILE",
            "certificate of the server's CA (ca.pem beside its database)",
        ),
        setting(
            "state",
            "state_dir",
            Kind::Text,
            "DIR",
            "where journals of runs are kept (default responder-state)",
        ),
        setting(
            "scripts",
            "scripts_dir",
            Kind::Text,
            "DIR",
            "folder of the scripts that playbooks may run (default none)",
        ),
        setting("smtp", "smtp", Kind::Text, "HOST:PORT", "mail relay, without TLS, so one of this machine"),
        setting("mail-from", "mail_from", Kind::Text, "ADDRESS", "who mails are from"),
        setting(
            "group",
            "group",
            Kind::Text,
            "NAME",
            "consumer group; responders of one group share the work (default responder)",
        ),
        setting(
            "max-age",
            "max_age_seconds",
            Kind::Number,
            "SECONDS",
            "alerts that are older are not acted on (default 3600)",
        ),
        setting("undo", "", Kind::Text, "ALERT/PLAYBOOK", "undo what that run did, and end"),
        setting("debug", "debug", Kind::Switch, "", "say more in the log"),
    ],
};

/// The settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// URL of the bus.
    pub bus: String,
    /// URL of the server.
    pub server: String,
    /// Folder of playbooks.
    pub playbooks: PathBuf,
    /// API token, or the file it is in.
    pub token: Token,
    /// Certificate of the server's CA.
    pub ca: PathBuf,
    /// Folder of journals.
    pub state: PathBuf,
    /// Folder of scripts.
    pub scripts: Option<PathBuf>,
    /// Mail relay.
    pub smtp: Option<Relay>,
    /// Who mails are from.
    pub mail_from: Option<String>,
    /// Consumer group.
    pub group: String,
    /// Alerts that are older are left alone.
    pub max_age: Duration,
    /// The run that is to be undone.
    pub undo: Option<RunKey>,
    /// Say more in the log.
    pub debug: bool,
}

/// Where the API token is. Not shown in logs.
#[derive(Clone)]
pub enum Token {
    /// Here.
    Text(String),
    /// In this file.
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// A setting is missing.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// One that must be given.
    #[error("`-{flag}` is not given; hint: `edr-responder -{flag}={example}`")]
    Missing {
        /// Its flag.
        flag: &'static str,
        /// What it could be.
        example: &'static str,
    },
    /// One that can't be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl Config {
    /// From what was given.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing that is missing or can't be used.
    pub fn from_resolved(resolved: &Resolved) -> Result<Self, ConfigError> {
        let needed = |flag: &'static str, example: &'static str| {
            let text = resolved.text(flag).filter(|text| !text.is_empty()).map(str::to_owned);
            text.ok_or(ConfigError::Missing { flag, example })
        };
        let bus = needed("bus", "redis://127.0.0.1:6379")?;
        if bus == "memory:" {
            let allowed = "a bus that the responder shares with the server, like `redis://HOST:PORT` or \
                           `nats://HOST:PORT`; `memory:` ends at the server's process";
            return Err(resolved.refuse("bus", allowed).into());
        }
        if alert_bus::connect(&bus, alert_bus::Options::default()).is_err() {
            return Err(resolved
                .refuse("bus", "a bus, like `redis://HOST:PORT` or `nats://HOST:PORT`")
                .into());
        }
        let server = needed("server", "https://127.0.0.1:8443")?;
        if !server.starts_with("https://") {
            return Err(resolved.refuse("server", "a server, like `https://HOST:PORT`").into());
        }
        let playbooks = PathBuf::from(needed("playbooks", "playbooks")?);
        let ca = PathBuf::from(needed("ca", "ca.pem")?);
        let token = match (resolved.text("token"), resolved.path("token-file")) {
            (_, Some(file)) => Token::File(file),
            (Some(token), None) => Token::Text(token.to_owned()),
            (None, None) => return Err(ConfigError::Missing { flag: "token-file", example: "token" }),
        };
        let smtp = match resolved.text("smtp") {
            None => None,
            Some(text) => match Relay::parse(text) {
                Some(relay) => Some(relay),
                None => {
                    let allowed = "a mail relay: `HOST:PORT` without TLS, `smtps://[USER:PASSWORD@]HOST[:PORT]`, or \
                                   `smtp://[USER:PASSWORD@]HOST[:PORT]?tls=required` for STARTTLS";
                    return Err(resolved.refuse("smtp", allowed).into());
                }
            },
        };
        let max_age = match resolved.number("max-age") {
            None => Duration::from_secs(3_600),
            Some(seconds) if (1.0..=604_800.0).contains(&seconds) => Duration::from_secs_f64(seconds),
            Some(_) => return Err(resolved.refuse("max-age", "a number of seconds from 1 to 604800").into()),
        };
        let undo = match resolved.text("undo") {
            None => None,
            Some(text) => match run_of(text) {
                Some(run) => Some(run),
                None => {
                    let allowed = "a run, written ALERT/PLAYBOOK, with /NUMBER for one of a repeat";
                    return Err(resolved.refuse("undo", allowed).into());
                }
            },
        };
        Ok(Self {
            bus,
            server: server.trim_end_matches('/').to_owned(),
            playbooks,
            token,
            ca,
            state: resolved.path("state").unwrap_or_else(|| PathBuf::from("responder-state")),
            scripts: resolved.path("scripts"),
            smtp,
            mail_from: resolved.text("mail-from").map(str::to_owned),
            group: resolved.text("group").unwrap_or("responder").to_owned(),
            max_age,
            undo,
            debug: resolved.is_on("debug"),
        })
    }
}

/// `ALERT/PLAYBOOK` or `ALERT/PLAYBOOK/NUMBER`.
fn run_of(text: &str) -> Option<RunKey> {
    let mut parts = text.split('/');
    let (alert, playbook, number) = (parts.next()?, parts.next()?, parts.next());
    let generation = number.map_or(Some(0), |number| number.parse().ok())?;
    let is_whole = parts.next().is_none() && !alert.is_empty() && !playbook.is_empty();
    is_whole.then(|| RunKey { alert: alert.to_owned(), playbook: playbook.to_owned(), generation })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use settings::Request;

    use super::*;

    const GOOD: [&str; 5] =
        ["-bus=redis://h:1", "-server=https://h:2", "-playbooks=p", "-ca=ca.pem", "-token-file=t"];

    fn read(arguments: &[&str]) -> Result<Config, String> {
        let read = PROGRAM
            .read(arguments.iter().map(OsString::from), |_| None)
            .map_err(|error| error.to_string())?;
        match read {
            Request::Run(resolved) => Config::from_resolved(&resolved).map_err(|error| error.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        assert_eq!(read(&GOOD).unwrap().group, "responder");
        for left_out in GOOD {
            let some: Vec<&str> = GOOD.into_iter().filter(|argument| *argument != left_out).collect();
            let flag = left_out.split('=').next().unwrap();
            assert!(read(&some).unwrap_err().contains(flag), "{flag}");
        }
        let with = |place: usize, other: &'static str| {
            let mut all = GOOD;
            all[place] = other;
            read(&all).unwrap_err()
        };
        assert!(with(0, "-bus=memory:").contains("server's process"));
        assert!(with(0, "-bus=kafka://h").contains("redis://"));
        assert!(with(1, "-server=http://h").contains("https://"));
        assert!(with(4, "-tokenfile=t").contains("token-file"));
    }

    #[test]
    fn the_token_is_not_shown() {
        assert!(!format!("{:?}", Token::Text("secret".to_owned())).contains("secret"));
    }
}
