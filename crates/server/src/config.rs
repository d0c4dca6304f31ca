//! What the operator asked for, checked before anything is opened.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// The server's table of settings.
pub const PROGRAM: Program = Program {
    name: "edr-server",
    about: "the server of Rampart: takes in events, stores them, shows them",
    settings: &[
        setting("addr", "addr", Kind::Text, "HOST:PORT", "where to listen; `:8443` is every address"),
        setting("db", "db_file", Kind::Text, "FILE", "state database; keys and events are kept beside it"),
        setting("cert", "cert_file", Kind::Text, "FILE", "TLS certificate, instead of the one it makes"),
        setting("key", "key_file", Kind::Text, "FILE", "key of that certificate"),
        setting(
            "privkey",
            "private_key_file",
            Kind::Text,
            "FILE",
            "RSA key that opens batches, instead of its own",
        ),
        setting(
            "names",
            "public_names",
            Kind::List,
            "NAME,…",
            "more names and addresses for the certificate it makes",
        ),
        setting(
            "bus",
            "bus",
            Kind::Text,
            "URL",
            "alert bus: memory: (default), redis://HOST:PORT or nats://HOST:PORT",
        ),
        setting(
            "store",
            "store",
            Kind::Text,
            "URL",
            "event store; only the files beside -db in this version",
        ),
        setting(
            "silent-after",
            "silent_after_seconds",
            Kind::Number,
            "SECONDS",
            "a host that should report and is not heard of for so long raises an alert (default 45)",
        ),
        setting("debug", "debug", Kind::Switch, "", "say more in the log"),
        setting("openapi", "", Kind::Switch, "", "print the OpenAPI document and end"),
    ],
};

/// The settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; the first that can be bound is used.
    pub addresses: Vec<SocketAddr>,
    /// The state database.
    pub db_file: PathBuf,
    /// TLS certificate and key, where the operator has own ones.
    pub tls_files: Option<(PathBuf, PathBuf)>,
    /// RSA key, where the operator has an own one.
    pub private_key_file: Option<PathBuf>,
    /// More names for the certificate.
    pub public_names: Vec<String>,
    /// A host that should report and is not heard of for so long is silent.
    pub silent_after: Duration,
    /// URL of the alert bus.
    pub bus: String,
    /// Say more in the log.
    pub debug: bool,
}

/// Agents are heard of each ten seconds; with the time between two looks an alert comes
/// within a minute.
pub const DEFAULT_SILENT_AFTER: Duration = Duration::from_secs(45);

impl Config {
    /// From what was given.
    ///
    /// # Errors
    /// [`SettingsError`] for a value that can't be used.
    pub fn from_resolved(resolved: &Resolved) -> Result<Self, SettingsError> {
        let address = resolved.text("addr").unwrap_or(":8443");
        let addresses = parse_address(address).ok_or_else(|| {
            resolved.refuse("addr", "an address to listen on, like `:8443` or `127.0.0.1:8443`")
        })?;
        let bus = resolved.text("bus").unwrap_or("memory:").to_owned();
        if alert_bus::connect(&bus, alert_bus::Options::default()).is_err() {
            return Err(
                resolved.refuse("bus", "a bus, like `memory:`, `redis://HOST:PORT` or `nats://HOST:PORT`")
            );
        }
        if resolved.has("store") {
            return Err(resolved.refuse(
                "store",
                "a store of this version, which keeps events beside -db; leave -store out",
            ));
        }
        let tls_files = match (resolved.path("cert"), resolved.path("key")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(resolved.refuse("cert", "usable without -key")),
            (None, Some(_)) => return Err(resolved.refuse("key", "usable without -cert")),
        };
        let silent_after = match resolved.number("silent-after") {
            None => DEFAULT_SILENT_AFTER,
            Some(seconds) if (15.0..=86_400.0).contains(&seconds) => Duration::from_secs_f64(seconds),
            Some(_) => {
                return Err(resolved.refuse(
                    "silent-after",
                    "a number of seconds from 15 (agents are heard of each ten) to 86400",
                ));
            }
        };
        Ok(Self {
            addresses,
            db_file: resolved.path("db").unwrap_or_else(|| PathBuf::from("rampart.db")),
            tls_files,
            private_key_file: resolved.path("privkey"),
            public_names: resolved.list("names").unwrap_or_default().to_vec(),
            silent_after,
            bus,
            debug: resolved.is_on("debug"),
        })
    }

    /// The folder in which the keys are kept: that of the database.
    pub fn key_folder(&self) -> PathBuf {
        match self.db_file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => Path::new(".").to_owned(),
        }
    }

    /// The folder of the event store: `<db>.events`.
    pub fn event_folder(&self) -> PathBuf {
        let mut path = self.db_file.clone().into_os_string();
        path.push(".events");
        path.into()
    }
}

/// `:8443` is every address, IPv6 first (on Linux one such socket takes both).
fn parse_address(text: &str) -> Option<Vec<SocketAddr>> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    if host.is_empty() {
        let any = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        return Some(any.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
    }
    let addresses: Vec<_> = text.to_socket_addrs().ok()?.collect();
    (!addresses.is_empty()).then_some(addresses)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use settings::Request;

    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, SettingsError> {
        match PROGRAM.read(arguments.iter().map(OsString::from), |_| None)? {
            Request::Run(resolved) => Config::from_resolved(&resolved),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_help() {
        let config = config(&[]).unwrap();
        assert_eq!(config.addresses[0].port(), 8443);
        assert_eq!(config.event_folder(), Path::new("rampart.db.events"));
        assert_eq!(config.key_folder(), Path::new("."));
    }

    #[test]
    fn what_can_not_be_used_is_refused_with_the_flag() {
        let message = |arguments: &[&str]| config(arguments).unwrap_err().to_string();
        assert!(message(&["-addr=8443"]).starts_with("-addr: `8443` is not an address"));
        assert!(message(&["-silent-after=2"]).contains("from 15"));
        assert!(message(&["-cert=x"]).contains("without -key"));
        assert!(message(&["-bus=kafka://x"]).contains("redis://HOST:PORT"));
        assert!(message(&["-store=clickhouse://x"]).contains("leave -store out"));
    }
}
