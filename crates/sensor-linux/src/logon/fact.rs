//! What one line or record says of a logon. Several may speak of the same one.

use std::net::IpAddr;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Let in.
    In,
    /// The session ended.
    Out,
    /// Not let in.
    Refused,
}

/// Which of its voices speaks. One logon gives at most one of each kind by each
/// provider, so two of one kind are two logons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    /// The service's own line: `Accepted password for …`, sudo's line with the command.
    Service,
    /// PAM's session or authentication line.
    Pam,
    /// A record of utmp, wtmp or btmp.
    Record,
    /// systemd-logind.
    Logind,
    /// sshd before authentication: a name that does not exist or is not allowed.
    Name,
    /// sshd about a connection that ended before authentication.
    Closed,
}

/// Who handed it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Provider {
    AuthLog,
    Journal,
    Wtmp,
    Btmp,
}

impl Provider {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::AuthLog => "auth_log",
            Self::Journal => "journal",
            Self::Wtmp => "wtmp",
            Self::Btmp => "btmp",
        }
    }
}

/// What one line or record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) outcome: Outcome,
    pub(super) voice: Voice,
    pub(super) provider: Provider,
    /// Wall-clock time in nanoseconds since the Unix epoch; `None` where the line has none.
    pub(super) at_ns: Option<i64>,
    /// Who was let in, or wanted to be; for su and sudo the one who called it.
    pub(super) user: Option<String>,
    /// For su and sudo: whom they became.
    pub(super) target_user: Option<String>,
    pub(super) origin: Origin,
    /// What let the user in; `None` where the record does not say.
    pub(super) service: Option<String>,
    pub(super) method: Option<String>,
    pub(super) session: Option<String>,
    pub(super) terminal: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) command: Option<String>,
    /// The process that spoke.
    pub(super) pid: Option<u32>,
    /// How many times, where the log folds like lines into one.
    pub(super) count: u32,
    /// Cuts and doubts, as `field: why`.
    pub(super) incomplete: Vec<String>,
}

/// Where a user came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Origin {
    pub(super) address: Option<IpAddr>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
}

impl Origin {
    /// From what a log gives: an address, or a name.
    pub(super) fn of(host: &str) -> Self {
        let host = host.trim();
        // IPv6 link-local addresses have the interface behind a `%`; wtmp appends the display.
        let bare = host.split_once('%').map_or(host, |(bare, _)| bare);
        match bare.parse::<IpAddr>() {
            Ok(address) => Self { address: Some(plain(address)), ..Self::default() },
            Err(_) if host.is_empty() || host == "UNKNOWN" || host == "?" => Self::default(),
            Err(_) => Self { host: Some(host.to_owned()), ..Self::default() },
        }
    }

    pub(super) fn with_port(mut self, port: Option<u16>) -> Self {
        self.port = port;
        self
    }
}

/// An IPv4 address that came through an IPv6 socket is an IPv4 address.
pub(super) fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

impl Fact {
    pub(super) fn new(outcome: Outcome, voice: Voice) -> Self {
        Self {
            outcome,
            voice,
            provider: Provider::AuthLog,
            at_ns: None,
            user: None,
            target_user: None,
            origin: Origin::default(),
            service: None,
            method: None,
            session: None,
            terminal: None,
            reason: None,
            command: None,
            pid: None,
            count: 1,
            incomplete: Vec::new(),
        }
    }
}

/// A terminal as all sources can agree on it: without `/dev/`; `None` for words
/// that PAM puts there for services without one.
pub(super) fn terminal(text: &str) -> Option<String> {
    let text = text.trim().trim_matches('\'');
    let text = text.strip_prefix("/dev/").unwrap_or(text);
    let none = matches!(text, "" | "ssh" | "cron" | "unknown" | "none" | "?" | "~" | "ssh:notty" | "sshd");
    (!none).then(|| text.to_owned())
}
