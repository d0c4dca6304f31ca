//! What is done without the server: mail, web hooks, log servers, scripts.

use std::io::{Read as _, Write as _};
use std::net::{ToSocketAddrs as _, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::{Message, SmtpTransport, Transport as _};
use playbook::{Alert, Effect};
use ureq::Agent;

use crate::api;

/// Where Debian and most others keep the certificates of public CAs.
const PUBLIC_CAS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// What a script says is kept up to so many bytes.
const SCRIPT_OUTPUT: usize = 4_000;
/// How often a script is asked whether it has ended.
const SCRIPT_LOOK: Duration = Duration::from_millis(20);

/// How to reach the world outside.
#[derive(Debug)]
pub struct Outside {
    web: Agent,
    smtp: Option<Relay>,
    mail_from: Option<String>,
    scripts: Option<PathBuf>,
}

/// The server that takes mails.
#[derive(Clone, PartialEq, Eq)]
pub enum Relay {
    /// Without TLS, meant to be on this machine.
    Plain(String, u16),
    /// `smtps://…`, or `smtp://…?tls=required` for STARTTLS; it may hold a password.
    Tls(String),
}

/// Without the password.
impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl Relay {
    /// From what stands in `-smtp`; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_tls =
            text.starts_with("smtps://") || text.starts_with("smtp://") && text.ends_with("?tls=required");
        if is_tls {
            return SmtpTransport::from_url(text).is_ok().then(|| Self::Tls(text.to_owned()));
        }
        let (host, port) = text.rsplit_once(':')?;
        (!host.is_empty() && !host.contains('/')).then_some(Self::Plain(host.to_owned(), port.parse().ok()?))
    }

    /// For people: without what stands before `@`.
    fn name(&self) -> String {
        match self {
            Self::Plain(host, port) => format!("{host}:{port}"),
            Self::Tls(url) => match (url.split_once("://"), url.rsplit_once('@')) {
                (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
                _ => url.clone(),
            },
        }
    }
}

impl Outside {
    /// With a mail relay and a folder of scripts, where there are.
    ///
    /// # Errors
    /// If the folder of scripts is none.
    pub fn new(
        smtp: Option<Relay>,
        mail_from: Option<String>,
        scripts: Option<&Path>,
    ) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let scripts = match scripts {
            None => None,
            Some(folder) => {
                let whole = folder.canonicalize();
                let whole = whole.with_context(|| format!("scripts {}: can't be read", folder.display()))?;
                anyhow::ensure!(whole.is_dir(), "scripts {}: not a folder", folder.display());
                Some(whole)
            }
        };
        // Without public CAs `https` fails, and says so; `http` works.
        let public = std::fs::read(PUBLIC_CAS).unwrap_or_default();
        let web = Agent::config_builder()
            .tls_config(api::tls_of(&api::certificates(&public)))
            .max_redirects(0)
            .http_status_as_error(false)
            .build()
            .new_agent();
        Ok(Self { web, smtp, mail_from, scripts })
    }

    /// Does it; gives what there is to say about it.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn perform(&self, effect: &Effect, alert: &Alert, timeout: Duration) -> Result<String, String> {
        match effect {
            Effect::Mail { to, subject, text } => self.mail(to, subject, text, timeout),
            Effect::Post { url, body } => self.post(url, body, timeout),
            Effect::Syslog { server, severity, text } => syslog(server, *severity, text),
            Effect::Script { name, arguments } => self.script(name, arguments, alert, timeout),
            Effect::Respond { .. } | Effect::Approval { .. } => Err("not done here".to_owned()),
        }
    }

    fn mail(&self, to: &[String], subject: &str, text: &str, timeout: Duration) -> Result<String, String> {
        let (Some(relay), Some(from)) = (&self.smtp, &self.mail_from) else {
            return Err(
                "no mail relay; hint: start edr-responder with -smtp HOST:PORT and -mail-from ADDRESS"
                    .to_owned(),
            );
        };
        let address = |text: &str| {
            text.parse::<Mailbox>().map_err(|error| format!("`{text}` is no mail address: {error}"))
        };
        let mut message = Message::builder().from(address(from)?).subject(subject);
        for one in to {
            message = message.to(address(one)?);
        }
        let message = message.header(ContentType::TEXT_PLAIN).body(text.to_owned());
        let message = message.map_err(|error| error.to_string())?;
        let name = relay.name();
        let builder = match relay {
            Relay::Plain(host, port) => SmtpTransport::builder_dangerous(host).port(*port),
            Relay::Tls(url) => SmtpTransport::from_url(url).map_err(|error| format!("{name}: {error}"))?,
        };
        let sent = builder.timeout(Some(timeout)).build().send(&message);
        sent.map_err(|error| format!("{name}: {}", causes(&error)))?;
        Ok(format!("taken by {name}"))
    }

    fn post(&self, url: &str, body: &serde_json::Value, timeout: Duration) -> Result<String, String> {
        let whole = with_environment(url, |name| std::env::var(name).ok())?;
        if !whole.starts_with("https://") && !whole.starts_with("http://") {
            return Err(format!("`{url}` is no URL"));
        }
        // The URL may be a secret, so it is said as the playbook has it.
        let request = self.web.post(&whole).config().timeout_global(Some(timeout)).build();
        let mut answer = request.send_json(body).map_err(|error| format!("{url}: {error}"))?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(64 << 10).read_to_string().unwrap_or_default();
        let said: String = text.chars().take(200).collect();
        if !(200..300).contains(&status) {
            return Err(format!("{url} says {status}: {said}"));
        }
        // These chats answer 200 also where they take nothing.
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        match answer["errcode"].as_i64().or(answer["code"].as_i64()) {
            Some(code) if code != 0 => Err(format!("{url} says {said}")),
            _ => Ok(format!("{status}")),
        }
    }

    fn script(
        &self,
        name: &str,
        arguments: &[String],
        alert: &Alert,
        timeout: Duration,
    ) -> Result<String, String> {
        let Some(folder) = &self.scripts else {
            return Err("no script is allowed; hint: start edr-responder with -scripts DIR".to_owned());
        };
        // Also what a link in the folder leads to must be in the folder.
        let path = folder.join(name).canonicalize().map_err(|error| format!("{name}: {error}"))?;
        if path.parent() != Some(folder.as_path()) || !path.is_file() {
            return Err(format!("{name} is outside the folder of allowed scripts"));
        }
        let mut command = Command::new(&path);
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command.spawn().map_err(|error| format!("{name}: can't be started: {error}"))?;
        run(child, serde_json::to_vec(alert).unwrap_or_default(), timeout)
            .map_err(|reason| format!("{name}: {reason}"))
    }
}

/// Feeds a script, waits for it, and ends it and what it started when its time is over.
fn run(mut child: Child, input: Vec<u8>, timeout: Duration) -> Result<String, String> {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(mut stdin) = child.stdin.take() {
        // A script need not read it.
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let (out, said) = channel();
    let streams = [child.stdout.take().map(Stream::Out), child.stderr.take().map(Stream::Error)];
    for stream in streams.into_iter().flatten() {
        let out = out.clone();
        std::thread::spawn(move || out.send(stream.read()));
    }
    drop(out);
    let until = Instant::now() + timeout;
    let (_keep, pause) = channel::<()>();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => {
                let Err(RecvTimeoutError::Timeout) = pause.recv_timeout(SCRIPT_LOOK) else { continue };
            }
            Ok(None) => {
                if let Some(group) = group {
                    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                }
                let _ = child.wait();
                return Err(format!("not done within {timeout:?}, and ended"));
            }
            Err(error) => return Err(error.to_string()),
        }
    };
    // What it left running may hold the streams; that is not waited for.
    let mut text = String::new();
    while let Ok(part) = said.recv_timeout(Duration::from_millis(500)) {
        text.push_str(&part);
    }
    let text: String = text.trim().chars().take(SCRIPT_OUTPUT).collect();
    if status.success() { Ok(text) } else { Err(format!("{status}: {text}")) }
}

/// An error with what is behind it: of TLS, only that says why.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

enum Stream {
    Out(std::process::ChildStdout),
    Error(std::process::ChildStderr),
}

impl Stream {
    /// Its beginning; the rest is read too, so that a script is not held up.
    fn read(self) -> String {
        let mut reader: Box<dyn std::io::Read> = match self {
            Self::Out(stream) => Box::new(stream),
            Self::Error(stream) => Box::new(stream),
        };
        let mut kept = Vec::new();
        let _ = (&mut reader).take(SCRIPT_OUTPUT as u64).read_to_end(&mut kept);
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
        String::from_utf8_lossy(&kept).into_owned()
    }
}

/// RFC 5424 over UDP: facility 4 (security), the process's name and no structured data.
fn syslog(server: &str, severity: u8, text: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{server}: {error}");
    let address = server.to_socket_addrs().map_err(failed)?.next();
    let address = address.ok_or_else(|| format!("{server}: no address"))?;
    let own = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(own).map_err(failed)?;
    let line: String =
        format!("<{}>1 - - edr-responder {} - - {text}", 4 * 8 + severity.min(7), std::process::id())
            .chars()
            .take(2_000)
            .collect();
    socket.send_to(line.as_bytes(), address).map_err(failed)?;
    Ok("sent; UDP tells no more".to_owned())
}

/// `${NAME}` filled in.
fn with_environment(url: &str, value_of: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut whole = String::new();
    let mut rest = url;
    while let Some(open) = rest.find("${") {
        let Some(close) = rest[open..].find('}').map(|close| open + close) else {
            return Err(format!("`{url}` has `${{` without `}}`"));
        };
        let name = &rest[open + 2..close];
        let value = value_of(name).filter(|value| !value.is_empty());
        let value = value
            .ok_or_else(|| format!("`{name}` is not set; hint: set it in edr-responder's environment"))?;
        whole.push_str(&rest[..open]);
        whole.push_str(&value);
        rest = &rest[close + 1..];
    }
    whole.push_str(rest);
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_plain_only_where_it_is_written_so_and_shows_no_password() {
        assert_eq!(Relay::parse("127.0.0.1:25"), Some(Relay::Plain("127.0.0.1".to_owned(), 25)));
        for (text, name) in [
            ("smtps://ada:secret@mail.example.org", "smtps://mail.example.org"),
            ("smtp://mail.example.org:587?tls=required", "smtp://mail.example.org:587?tls=required"),
        ] {
            let relay = Relay::parse(text).unwrap();
            assert_eq!(relay.name(), name);
            assert!(!format!("{relay:?}").contains("secret"));
        }
        for bad in ["", ":25", "host", "smtp://host:25", "smtp://host?tls=none", "http://host:25", "smtps://"]
        {
            assert_eq!(Relay::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn secrets_are_filled_in_and_a_missing_one_is_named() {
        let value_of = |name: &str| (name == "KEY").then(|| "abc".to_owned());
        assert_eq!(with_environment("https://x/${KEY}/y", value_of).unwrap(), "https://x/abc/y");
        assert!(with_environment("${OTHER}", value_of).unwrap_err().contains("`OTHER` is not set"));
        assert!(with_environment("${KEY", value_of).is_err());
    }
}
