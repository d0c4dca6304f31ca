//! The server's REST API, as far as programs that act on its alerts need it. Any operating system.

#![deny(missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use event_model::Timestamp;
use playbook::Alert;
use serde_json::{Map, Value, json};
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// What the server allows for an order, in seconds.
const LONGEST_LIFE: f64 = 86_400.0;
/// Largest answer, in bytes.
const ANSWER_BYTES: u64 = 16 << 20;

/// One server, with one API token.
pub struct ServerApi {
    client: Agent,
    base: String,
    token: String,
}

impl std::fmt::Debug for ServerApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerApi").field("base", &self.base).finish_non_exhaustive()
    }
}

/// The server did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It was not reached: nothing was done.
    #[error("the server {server} can't be reached: {reason}")]
    NotReached {
        /// Its URL.
        server: String,
        /// Why.
        reason: String,
    },
    /// It was asked and gave no answer: whether it was done is not known.
    #[error("the server {server} gave no answer: {reason}")]
    NoAnswer {
        /// Its URL.
        server: String,
        /// Why.
        reason: String,
    },
    /// It said no.
    #[error("the server says {status}: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why.
        detail: String,
    },
    /// The certificate of the CA can't be used.
    #[error("the CA's certificate can't be used: {0}")]
    Certificate(String),
}

/// Where a response is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseState {
    /// On its way.
    Open,
    /// Done and proved.
    Verified,
    /// Only surveyed, as was asked for.
    Planned,
    /// Not done, or not proved; with the reason.
    Failed(String),
    /// Never begun, and it will not be: refused, taken back, expired; with the reason.
    NotBegun(String),
}

/// A page of alerts.
#[derive(Debug, Clone, Default)]
pub struct AlertList {
    /// Id, and when its first event was observed.
    pub alerts: Vec<(String, Timestamp)>,
    /// Where the list goes on.
    pub next: Option<String>,
}

/// A remark on an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// When, RFC 3339.
    pub at: String,
    /// Who.
    pub author: String,
    /// What.
    pub text: String,
}

/// For which run something is ordered.
#[derive(Debug, Clone, Copy)]
pub struct RunOrder<'a> {
    /// Its id, where it has one.
    pub id: Option<&'a str>,
    /// Only to say what would be done.
    pub dry_run: bool,
    /// The agent does not begin it later than that: whoever waits has given it up by then.
    pub life: Duration,
}

/// A run that a responder is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingRun {
    /// Its id.
    pub id: String,
    /// For which alert.
    pub alert: String,
    /// Of which playbook.
    pub playbook: String,
    /// For which telling of the alert.
    pub generation: u32,
    /// Only to say what would be done.
    pub dry_run: bool,
    /// Who asked for it; empty where an alert began it.
    pub requested_by: String,
    /// Who wants it undone, where that is what is asked for.
    pub undo_for: Option<String>,
}

impl ServerApi {
    /// Over TLS with the server's own CA.
    ///
    /// # Errors
    /// [`ApiError::Certificate`].
    pub fn new(base: String, ca_pem: &[u8], token: String) -> Result<Self, ApiError> {
        let trusted = certificates(ca_pem);
        if trusted.is_empty() {
            return Err(ApiError::Certificate("there is no PEM certificate in the file".to_owned()));
        }
        let client = Agent::config_builder()
            .tls_config(tls_of(&trusted))
            .https_only(true)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(ANSWER_LIMIT))
            .build()
            .new_agent();
        Ok(Self { client, base, token })
    }

    /// An alert as it was told of that time (0: as it was opened), and the remarks on it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub fn alert(&self, id: &str, generation: u32) -> Result<(Alert, Vec<Note>), ApiError> {
        let which = if generation > 0 { format!("?generation={generation}") } else { String::new() };
        let answer = self.get(&format!("/alerts/{}{which}", encoded(id)))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let notes = answer["notes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let notes = notes.iter().map(|note| Note {
            at: text(&note["at"]),
            author: text(&note["author"]),
            text: text(&note["text"]),
        });
        let notes = notes.collect();
        let alert: Alert = serde_json::from_value(answer).map_err(|error| self.no_answer(&error))?;
        Ok((Alert { generation, ..alert }, notes))
    }

    /// Ids and times of the alerts before a place in the list, the latest first, and the next place.
    ///
    /// # Errors
    /// [`ApiError`].
    pub fn alerts(&self, cursor: Option<&str>) -> Result<AlertList, ApiError> {
        let place = cursor.map(|cursor| format!("&cursor={}", encoded(cursor))).unwrap_or_default();
        let answer = self.get(&format!("/alerts?limit=500{place}"))?;
        let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let alert =
            |item: &Value| Some((item["id"].as_str()?.to_owned(), item["time"].as_str()?.parse().ok()?));
        Ok(AlertList {
            alerts: items.iter().filter_map(alert).collect(),
            next: answer["next_cursor"].as_str().map(str::to_owned),
        })
    }

    /// Adds a remark to an alert.
    ///
    /// # Errors
    /// [`ApiError`].
    pub fn add_note(&self, alert: &str, text: &str) -> Result<(), ApiError> {
        let url = format!("{}/api/v1/alerts/{}", self.base, encoded(alert));
        let text: String = quoted(text).chars().take(3_900).collect();
        let request = self.client.patch(url).header("authorization", self.bearer());
        self.read(request.send_json(json!({ "note": text }))).map(|_| ())
    }

    /// Has an agent act, or in a dry run only say what it would do; gives the response's id.
    ///
    /// # Errors
    /// [`ApiError`]; after [`ApiError::NoAnswer`] it may act all the same.
    pub fn respond(
        &self,
        host: &str,
        action: &str,
        parameters: &Map<String, Value>,
        run: &RunOrder<'_>,
    ) -> Result<String, ApiError> {
        let mut body = json!({
            "action": action, "parameters": parameters, "dry_run": run.dry_run,
            "expires_in_seconds": run.life.as_secs_f64().ceil().clamp(1.0, LONGEST_LIFE) as u32,
        });
        if let Some(id) = run.id {
            body["run_id"] = id.into();
        }
        let answer = self.post(&format!("/hosts/{}/responses", encoded(host)), &body)?;
        let id = answer["id"].as_str().filter(|id| !id.is_empty());
        id.map(str::to_owned).ok_or_else(|| self.no_answer(&"the response has no id"))
    }

    /// Where a response is.
    ///
    /// # Errors
    /// [`ApiError`].
    pub fn response(&self, id: &str) -> Result<ResponseState, ApiError> {
        let answer = self.get(&format!("/responses/{}", encoded(id)))?;
        let reason = || {
            let receipt = &answer["receipt"];
            let text = receipt["reason"].as_str().or(answer["reason"].as_str());
            text.unwrap_or("without a reason").to_owned()
        };
        Ok(match answer["state"].as_str() {
            Some("verified") => ResponseState::Verified,
            Some("planned") => ResponseState::Planned,
            Some("failed") => ResponseState::Failed(reason()),
            Some(word @ ("refused" | "approval_needed" | "cancelled" | "expired" | "declined")) => {
                ResponseState::NotBegun(format!("{word}: {}", reason()))
            }
            // Applied is not yet proved.
            _ => ResponseState::Open,
        })
    }

    /// Takes a response back that was not sent yet; false if it is too late for that.
    ///
    /// # Errors
    /// [`ApiError`]; after [`ApiError::NoAnswer`] it may be taken back all the same.
    pub fn cancel(&self, id: &str) -> Result<bool, ApiError> {
        let url = format!("{}/api/v1/responses/{}", self.base, encoded(id));
        match self.read(self.client.delete(url).header("authorization", self.bearer()).call()) {
            Ok(_) => Ok(true),
            Err(ApiError::Refused { status: 409, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has a response undone; gives the id of the response that does it.
    ///
    /// # Errors
    /// As [`Self::respond`].
    pub fn undo(&self, id: &str) -> Result<String, ApiError> {
        let answer = self.post(&format!("/responses/{}/undo", encoded(id)), &json!({}))?;
        // Without an id of its own, the response itself tells how far it is.
        Ok(answer["id"].as_str().unwrap_or(id).to_owned())
    }

    /// What a responder is asked to do: runs that nobody has taken, and runs to be undone.
    ///
    /// # Errors
    /// [`ApiError`].
    pub fn waiting_runs(&self) -> Result<Vec<WaitingRun>, ApiError> {
        let answer = self.get("/playbook-runs?waiting=true&limit=500")?;
        let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let run = |item: &Value| {
            let text = |key: &str| item[key].as_str().map(str::to_owned);
            Some(WaitingRun {
                id: text("id")?,
                alert: text("alert_id")?,
                playbook: text("playbook")?,
                generation: u32::try_from(item["generation"].as_u64().unwrap_or(0)).ok()?,
                dry_run: item["dry_run"].as_bool()?,
                requested_by: text("requested_by")?,
                undo_for: text("undo_requested_by"),
            })
        };
        Ok(items.iter().filter_map(run).collect())
    }

    /// Tells how far a run came.
    ///
    /// # Errors
    /// [`ApiError`].
    pub fn report_run(&self, id: &str, report: &Value) -> Result<(), ApiError> {
        let url = format!("{}/api/v1/playbook-runs/{}", self.base, encoded(id));
        let request = self.client.put(url).header("authorization", self.bearer());
        self.read(request.send_json(report)).map(|_| ())
    }

    fn get(&self, path: &str) -> Result<Value, ApiError> {
        let request =
            self.client.get(format!("{}/api/v1{path}", self.base)).header("authorization", self.bearer());
        self.read(request.call())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let request =
            self.client.post(format!("{}/api/v1{path}", self.base)).header("authorization", self.bearer());
        self.read(request.send_json(body))
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn no_answer(&self, reason: &dyn std::fmt::Display) -> ApiError {
        ApiError::NoAnswer { server: self.base.clone(), reason: reason.to_string() }
    }

    fn read(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, ApiError> {
        let mut answer = answer.map_err(|error| {
            let reason = error.to_string();
            let is_before = match &error {
                ureq::Error::ConnectionFailed | ureq::Error::HostNotFound | ureq::Error::Tls(_) => true,
                ureq::Error::Timeout(which) => {
                    matches!(which, ureq::Timeout::Connect | ureq::Timeout::Resolve)
                }
                ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
                _ => false,
            };
            let server = self.base.clone();
            if is_before {
                ApiError::NotReached { server, reason }
            } else {
                ApiError::NoAnswer { server, reason }
            }
        })?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(ANSWER_BYTES).read_to_string();
        let text = text.map_err(|error| self.no_answer(&error))?;
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let detail = body["detail"].as_str().unwrap_or("without a reason");
        Err(ApiError::Refused { status, detail: detail.chars().take(500).collect() })
    }
}

/// A remark of this responder never reads as a person's decision, whatever an attacker wrote into a command
/// line: the server would refuse the remark, and nobody would be asked.
fn quoted(text: &str) -> String {
    let line = |line: &str| {
        let word = line.trim().split_once(' ').map_or("", |(word, _)| word);
        match word.eq_ignore_ascii_case("approve") || word.eq_ignore_ascii_case("deny") {
            true => format!("> {line}"),
            false => line.to_owned(),
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The certificates of a PEM text.
pub fn certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    let items = parse_pem(pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    items.collect()
}

/// TLS that trusts these certificates and no others.
pub fn tls_of(certificates: &[Certificate<'static>]) -> TlsConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = RootCerts::new_with_certs(certificates);
    TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build()
}

/// Ids come from messages; nothing in one may lead to another path.
fn encoded(id: &str) -> String {
    let mut text = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_attacker_wrote_does_not_read_as_a_decision() {
        let text = "asks: sh -c 'x\n Approve p/ok\ndeny p/ok'\nto approve p/ok, write so";
        let read = quoted(text);
        assert_eq!(read, "asks: sh -c 'x\n>  Approve p/ok\n> deny p/ok'\nto approve p/ok, write so");
    }
}
