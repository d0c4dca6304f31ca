//! What a step can do: one table of actions and their parameters, and what comes of them for an alert.

use std::time::Duration;

use event_model::words;
use serde_json::{Map, Value, json};

use crate::alert::{AlertProcess, Facts};
use crate::template::Template;

words! {
    /// What a step does.
    ActionKind {
        /// Ends the alert's process.
        TerminateProcess = "terminate_process",
        /// Ends the alert's process and all that came of it.
        KillTree = "kill_tree",
        /// Moves a file into the vault.
        QuarantineFile = "quarantine_file",
        /// Cuts an address off for a time.
        BlockAddress = "block_address",
        /// Cuts the host off, but for the server, for a time.
        IsolateHost = "isolate_host",
        /// Ends an isolation.
        ReleaseHost = "release_host",
        /// Gathers what tells of the attack, before it is gone.
        CollectEvidence = "collect_evidence",
        /// Sends a mail.
        SendMail = "send_mail",
        /// Posts JSON to a web hook.
        CallWebhook = "call_webhook",
        /// Sends a line to a log server (RFC 5424).
        SendSyslog = "send_syslog",
        /// Sends a message to a chat's robot.
        SendChat = "send_chat",
        /// Opens a ticket: JSON with title, text and priority to a web hook.
        OpenTicket = "open_ticket",
        /// Runs a program from the responder's folder of allowed scripts.
        RunScript = "run_script",
        /// Waits until people agree.
        WaitForApproval = "wait_for_approval",
    }
}

words! {
    /// A chat and the form of its messages.
    ChatService {
        /// DingTalk robot.
        Dingtalk = "dingtalk",
        /// Feishu (Lark) robot.
        Feishu = "feishu",
        /// WeCom robot.
        Wecom = "wecom",
        /// Slack incoming web hook.
        Slack = "slack",
    }
}

/// What a parameter's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// A text in which `{{name}}` stands for a value of the alert.
    Template,
    /// A text as it is.
    Text,
    /// Several texts as they are.
    TextList,
    /// A span such as `10m`.
    Span,
    /// A whole number within bounds.
    Number(i64, i64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A URL, `https://…` or `http://…`; `${NAME}` stands for a variable of the responder's environment.
    Url,
    /// The name of a file in the responder's folder of scripts.
    ScriptName,
}

/// A parameter of an action.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its key under `with`.
    pub name: &'static str,
    /// What its value is.
    pub kind: ParameterKind,
    /// What it is where it is not given; `None` where it must be.
    pub default: Option<&'static str>,
    /// One line about it.
    pub help: &'static str,
}

const fn parameter(
    name: &'static str,
    kind: ParameterKind,
    default: Option<&'static str>,
    help: &'static str,
) -> Parameter {
    Parameter { name, kind, default, help }
}

const MESSAGE: &str = "{{rule.name}} ({{rule.severity}}) on {{host.name}}: {{process.command_line}}";
const TARGET: Parameter = parameter(
    "target",
    ParameterKind::Word(&["process", "parent"]),
    Some("process"),
    "the alert's process, or the one that started it",
);
const URL: Parameter = parameter("url", ParameterKind::Url, None, "where to; secrets as ${NAME}");
const TEXT: Parameter = parameter("text", ParameterKind::Template, Some(MESSAGE), "what to say");

impl ActionKind {
    /// Its parameters.
    pub const fn parameters(self) -> &'static [Parameter] {
        use ParameterKind as Kind;
        match self {
            Self::TerminateProcess | Self::KillTree => const { &[TARGET] },
            Self::QuarantineFile => {
                const { &[parameter("path", Kind::Template, Some("{{process.executable}}"), "the file")] }
            }
            Self::BlockAddress => {
                const {
                    &[
                        parameter(
                            "address",
                            Kind::Template,
                            Some("{{destination.ip}}"),
                            "an IP address or CIDR range",
                        ),
                        parameter("for", Kind::Span, Some("1h"), "after this the block ends by itself"),
                    ]
                }
            }
            Self::IsolateHost => {
                const { &[parameter("for", Kind::Span, Some("4h"), "after this the isolation ends by itself")] }
            }
            Self::ReleaseHost => const { &[] },
            Self::CollectEvidence => {
                const {
                    &[parameter(
                        "include",
                        Kind::TextList,
                        Some("processes,open_files,maps,connections"),
                        "what to gather",
                    )]
                }
            }
            Self::SendMail => {
                const {
                    &[
                        parameter("to", Kind::TextList, None, "who gets it"),
                        parameter(
                            "subject",
                            Kind::Template,
                            Some("[{{rule.severity}}] {{rule.name}}"),
                            "its subject",
                        ),
                        TEXT,
                    ]
                }
            }
            Self::CallWebhook => const { &[URL, TEXT] },
            Self::SendSyslog => {
                const { &[parameter("server", Kind::Text, None, "`HOST:PORT`, over UDP"), TEXT] }
            }
            Self::SendChat => {
                const {
                    &[
                        parameter(
                            "service",
                            Kind::Word(&["dingtalk", "feishu", "wecom", "slack"]),
                            None,
                            "which chat",
                        ),
                        URL,
                        TEXT,
                    ]
                }
            }
            Self::OpenTicket => {
                const {
                    &[
                        URL,
                        parameter(
                            "title",
                            Kind::Template,
                            Some("{{rule.name}} on {{host.name}}"),
                            "its title",
                        ),
                        TEXT,
                    ]
                }
            }
            Self::RunScript => {
                const {
                    &[
                        parameter(
                            "name",
                            Kind::ScriptName,
                            None,
                            "its file name; the alert comes on its input",
                        ),
                        parameter("arguments", Kind::TextList, Some(""), "its arguments, as they are"),
                    ]
                }
            }
            Self::WaitForApproval => {
                const {
                    &[
                        parameter(
                            "people",
                            Kind::Number(1, 2),
                            Some("1"),
                            "how many different people must agree",
                        ),
                        TEXT,
                    ]
                }
            }
        }
    }

    /// How long a step may take where it says nothing.
    pub const fn default_timeout(self) -> Duration {
        Duration::from_secs(match self {
            Self::WaitForApproval => 30 * 60,
            Self::CollectEvidence => 10 * 60,
            _ => 60,
        })
    }

    /// Whether what it does can be undone.
    pub const fn can_be_undone(self) -> bool {
        matches!(self, Self::QuarantineFile | Self::BlockAddress | Self::IsolateHost)
    }

    /// Whether an agent does it, through the server.
    pub const fn is_response(self) -> bool {
        matches!(
            self,
            Self::TerminateProcess
                | Self::KillTree
                | Self::QuarantineFile
                | Self::BlockAddress
                | Self::IsolateHost
                | Self::ReleaseHost
                | Self::CollectEvidence
        )
    }
}

/// The values of a step's parameters, in the order of [`ActionKind::parameters`].
#[derive(Debug, Clone)]
pub(crate) struct Arguments(pub(crate) Vec<(&'static str, Argument)>);

#[derive(Debug, Clone)]
pub(crate) enum Argument {
    Template(Template),
    Text(String),
    Texts(Vec<String>),
    Span(Duration),
    Number(i64),
}

/// What exactly a step would do for an alert.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// An agent acts: the body of `POST /api/v1/hosts/{host_id}/responses` without `dry_run`.
    Respond {
        /// The action's word.
        action: ActionKind,
        /// Of which host.
        host_id: String,
        /// With what.
        parameters: Map<String, Value>,
    },
    /// A mail.
    Mail {
        /// To whom.
        to: Vec<String>,
        /// Its subject.
        subject: String,
        /// Its text.
        text: String,
    },
    /// JSON to a URL; `${NAME}` in the URL is yet to be filled in.
    Post {
        /// Where to.
        url: String,
        /// What.
        body: Value,
    },
    /// A line to a log server.
    Syslog {
        /// `HOST:PORT`.
        server: String,
        /// The alert's severity as syslog counts it, 0 to 7.
        severity: u8,
        /// The line.
        text: String,
    },
    /// A program.
    Script {
        /// Its file name.
        name: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// People are asked.
    Approval {
        /// How many must agree.
        people: usize,
        /// What they are asked.
        text: String,
    },
}

/// A step can't be done for this alert.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ResolveError {
    what: String,
}

impl Effect {
    /// What a step would do.
    ///
    /// # Errors
    /// [`ResolveError`] where the alert lacks what it needs, above all a process.
    pub fn of(step: &crate::Step, facts: &Facts<'_>) -> Result<Self, ResolveError> {
        let values = Values { arguments: &step.arguments, facts };
        let alert = facts.alert;
        let respond = |parameters: Value| {
            let Value::Object(parameters) = parameters else { return Err(lacking("parameters")) };
            Ok(Self::Respond { action: step.action, host_id: alert.host_id.clone(), parameters })
        };
        match step.action {
            ActionKind::TerminateProcess | ActionKind::KillTree => {
                let process = values.process()?;
                let mut parameters = json!({ "entity_id": process.entity_id });
                if let (false, Some(map)) = (process.executable.is_empty(), parameters.as_object_mut()) {
                    map.insert("executable".to_owned(), process.executable.as_str().into());
                }
                respond(parameters)
            }
            ActionKind::QuarantineFile => {
                let path = values.whole("path")?;
                if !is_absolute(&path) {
                    return Err(ResolveError { what: format!("`{path}` is no absolute path") });
                }
                // The hash of the event is the file's only where the file is the event's.
                let of_event = facts.text("process.executable").is_some_and(|own| own == path);
                let name = if of_event { "process.hash.sha256" } else { "file.hash.sha256" };
                let is_file = of_event || facts.text("file.path").is_some_and(|own| own == path);
                let hash = is_file.then(|| facts.text(name)).flatten();
                let mut parameters = json!({ "path": path });
                if let (Some(hash), Some(map)) = (hash, parameters.as_object_mut()) {
                    map.insert("sha256".to_owned(), hash.into());
                }
                respond(parameters)
            }
            ActionKind::BlockAddress => {
                let address = values.whole("address")?;
                if !is_address(&address) {
                    return Err(ResolveError { what: format!("`{address}` is no IP address or CIDR range") });
                }
                respond(json!({ "address": address, "ttl_seconds": values.seconds("for") }))
            }
            ActionKind::IsolateHost => respond(json!({ "ttl_seconds": values.seconds("for") })),
            ActionKind::ReleaseHost => respond(json!({})),
            ActionKind::CollectEvidence => {
                // Lists of processes and connections are in every archive; more is read of the alert's process.
                let wanted = values.texts("include");
                let reads_one = wanted.iter().any(|what| matches!(what.as_str(), "open_files" | "maps"));
                let pid = alert.process.as_ref().and_then(|process| process.pid).filter(|_| reads_one);
                respond(json!({ "processes": pid.into_iter().collect::<Vec<i64>>() }))
            }
            ActionKind::SendMail => Ok(Self::Mail {
                to: values.texts("to"),
                subject: one_line(&values.template("subject")?),
                text: values.template("text")?,
            }),
            ActionKind::CallWebhook => {
                let body = json!({ "text": values.template("text")?, "alert": alert });
                Ok(Self::Post { url: values.word("url"), body })
            }
            ActionKind::SendSyslog => Ok(Self::Syslog {
                server: values.word("server"),
                severity: syslog_severity(alert.rule.severity),
                text: one_line(&values.template("text")?),
            }),
            ActionKind::SendChat => {
                let service =
                    ChatService::from_word(&values.word("service")).ok_or_else(|| lacking("chat"))?;
                Ok(Self::Post { url: values.word("url"), body: service.message(&values.template("text")?) })
            }
            ActionKind::OpenTicket => {
                let (title, text) = (one_line(&values.template("title")?), values.template("text")?);
                let body = json!({
                    "title": title, "description": text, "priority": alert.rule.severity,
                    "alert_id": alert.id, "host": alert.host_name, "attack": alert.rule.attack,
                });
                Ok(Self::Post { url: values.word("url"), body })
            }
            ActionKind::RunScript => {
                Ok(Self::Script { name: values.word("name"), arguments: values.texts("arguments") })
            }
            ActionKind::WaitForApproval => {
                let people = usize::try_from(values.number("people")).unwrap_or(1);
                Ok(Self::Approval { people, text: values.template("text")? })
            }
        }
    }

    /// In one line, for plans.
    pub fn describe(&self) -> String {
        match self {
            Self::Respond { action, host_id, parameters } => {
                format!("{action} on host {host_id} with {}", Value::Object(parameters.clone()))
            }
            Self::Mail { to, subject, .. } => format!("mail `{subject}` to {}", to.join(", ")),
            Self::Post { url, body } => format!("post {body} to {url}"),
            Self::Syslog { server, text, .. } => format!("syslog `{text}` to {server}"),
            Self::Script { name, arguments } if arguments.is_empty() => format!("run {name}"),
            Self::Script { name, arguments } => format!("run {name} {}", arguments.join(" ")),
            Self::Approval { people, text } => format!("ask {people} to approve `{text}`"),
        }
    }
}

impl ChatService {
    /// A message in its form.
    fn message(self, text: &str) -> Value {
        let title = "Rampart";
        match self {
            Self::Dingtalk => {
                json!({ "msgtype": "markdown", "markdown": { "title": title, "text": format!("### {title}\n{text}") } })
            }
            Self::Feishu => json!({ "msg_type": "text", "content": { "text": text } }),
            Self::Wecom => json!({ "msgtype": "markdown", "markdown": { "content": text } }),
            // Slack reads these three as markup.
            Self::Slack => {
                let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                json!({ "text": text })
            }
        }
    }
}

struct Values<'a> {
    arguments: &'a Arguments,
    facts: &'a Facts<'a>,
}

impl Values<'_> {
    fn get(&self, name: &str) -> Option<&Argument> {
        self.arguments.0.iter().find(|(own, _)| *own == name).map(|(_, argument)| argument)
    }

    fn template(&self, name: &str) -> Result<String, ResolveError> {
        match self.get(name) {
            Some(Argument::Template(template)) => {
                template.render(self.facts).map_err(|missing| lacking(&missing))
            }
            _ => Err(lacking(name)),
        }
    }

    fn whole(&self, name: &str) -> Result<String, ResolveError> {
        match self.get(name) {
            Some(Argument::Template(template)) => {
                template.render_whole(self.facts).map_err(|missing| lacking(&missing))
            }
            _ => Err(lacking(name)),
        }
    }

    fn word(&self, name: &str) -> String {
        match self.get(name) {
            Some(Argument::Text(text)) => text.clone(),
            _ => String::new(),
        }
    }

    fn texts(&self, name: &str) -> Vec<String> {
        match self.get(name) {
            Some(Argument::Texts(texts)) => texts.clone(),
            _ => Vec::new(),
        }
    }

    fn seconds(&self, name: &str) -> u64 {
        match self.get(name) {
            // An expiry of zero would be none.
            Some(Argument::Span(span)) => span.as_secs().max(1),
            _ => 1,
        }
    }

    fn number(&self, name: &str) -> i64 {
        match self.get(name) {
            Some(Argument::Number(number)) => *number,
            _ => 0,
        }
    }

    fn process(&self) -> Result<&AlertProcess, ResolveError> {
        let alert = self.facts.alert;
        let process = match self.word("target").as_str() {
            "parent" => alert.parent().ok_or_else(|| lacking("parent process"))?,
            _ => alert.process.as_ref().ok_or_else(|| lacking("process"))?,
        };
        // What no policy may allow is refused by the agent; this is only said sooner.
        if process.pid.is_some_and(|pid| pid <= 2) {
            let what = format!("process {} is the system's own", process.pid.unwrap_or_default());
            return Err(ResolveError { what });
        }
        Ok(process)
    }
}

fn lacking(what: &str) -> ResolveError {
    ResolveError { what: format!("the alert has no {what}") }
}

fn is_absolute(path: &str) -> bool {
    let drive = |path: &str| {
        path.get(1..3) == Some(":\\") && path.starts_with(|first: char| first.is_ascii_alphabetic())
    };
    path.starts_with('/') || drive(path)
}

pub(crate) fn is_address(text: &str) -> bool {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    // Whole networks of the world are isolation, not a block.
    length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| (8..=longest).contains(&length)))
}

/// Headers and log lines have no room for line ends.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

fn syslog_severity(severity: event_model::Severity) -> u8 {
    use event_model::Severity;
    match severity {
        Severity::Critical => 2,
        Severity::High => 3,
        Severity::Medium => 4,
        Severity::Low => 5,
        Severity::Informational => 6,
    }
}
