//! One agent's stream: records up, rules down.
//!
//! Batches are opened, decoded and handed to the ingest thread while earlier ones
//! are still being written, at most [`UNDER_WAY`] of them; answers go back in the
//! order of the batches, so an agent knows which one an answer without numbers
//! (the seal did not open, so nobody knows them) is about.

use std::sync::Arc;
use std::time::Duration;

use event_model::{BootId, HostId};
use prost::Message as _;
use protocol::enrollment::sha256;
use protocol::envelope::{OpenError, Purpose};
use protocol::link::agent_message::Message as FromAgent;
use protocol::link::server_message::Message as ToAgent;
use protocol::link::{
    AgentMessage, BatchRefused, BatchStored, CommandReceipt, Heartbeat, Hello, HighWaterMarks, PolicyStatus,
    ServerMessage,
};
use protocol::wire::{self, Batch, WireError};
use state_store::{AgentStatus, Host};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use crate::app::{
    App, Counter, EndReason, IngestError, Link, Origin, Stored, before, causes, named, now, shown,
};

/// Batches of one link that are under way at once.
const UNDER_WAY: usize = 8;
/// From the connection to the hello.
const HELLO_TIME: Duration = Duration::from_secs(15);
/// A link on which nothing comes for so long is given up.
const MAX_SILENCE: Duration = Duration::from_secs(90);
/// How often the agent hears that the link is there.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// For the answers to an agent that has said its last word.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// Most lines of rule errors that are kept.
const MAX_RULE_ERRORS: usize = 200;

pub(super) struct Session {
    pub(super) app: Arc<App>,
    pub(super) openings: Arc<Semaphore>,
    pub(super) host: Host,
    pub(super) outgoing: mpsc::Sender<Result<ServerMessage, Status>>,
}

/// An answer that waits for its turn.
enum Answer {
    Stored {
        first_sequence: u64,
        boot: BootId,
        last: u64,
        done: oneshot::Receiver<Result<Stored, IngestError>>,
    },
    Refused(BatchRefused),
}

/// What became of a batch that came in.
enum Taken {
    Answer(Answer),
    /// The server stops.
    Stopping,
    /// It is sealed for a key that this server does not have; the link ends so.
    OtherKey(Status),
}

/// Why a batch was refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Sealed(#[from] OpenError),
    #[error("{error}")]
    Malformed { error: WireError, numbers: Box<BatchRefused> },
    #[error("the server could not open the batch")]
    Failed,
}

impl Session {
    pub(super) async fn run(self, mut incoming: Streaming<AgentMessage>) {
        let host = self.host.id;
        let hello = match timeout(HELLO_TIME, incoming.message()).await {
            Ok(Ok(Some(AgentMessage { message: Some(FromAgent::Hello(hello)) }))) => hello,
            Ok(Err(status)) => return self.refuse(self.broken_stream(&status)).await,
            Ok(Ok(None)) => return,
            Ok(Ok(Some(_))) => {
                self.app.counters.count(Counter::Malformed);
                return self.refuse(Status::invalid_argument("the first message must be the hello")).await;
            }
            Err(_) => return self.refuse(Status::deadline_exceeded("no hello came")).await,
        };
        let Ok(boot) = BootId::from_slice(&hello.boot_id) else {
            self.app.counters.count(Counter::Malformed);
            return self.refuse(Status::invalid_argument("the hello has no boot id")).await;
        };
        let link = self.app.links.open(host);
        let mut status = status_of_hello(&hello, &self.host);
        tracing::info!(%host, name = status.name, version = status.agent_version, "agent connected");
        self.record(boot, &status, host).await;
        let reports = self.app.work(move |app| {
            app.host_reports(host)?;
            app.tell_host(host);
            app.bring_fleet_stop(host)
        });
        if let Err(error) = reports.await {
            tracing::error!(%host, error = causes(&error), "it could not be noted that the host reports, or whether it may act");
        }
        let mut ending = link.ending();
        // An agent that reads nothing blocks its own link, but not the word that ends it.
        let end = tokio::select! {
            biased;
            reason = ended(&mut ending) => Some(end_status(reason)),
            end = self.serve(&mut incoming, &link, boot, &mut status, hello.policy_version) => end,
        };
        let was_current = self.app.links.close(&link);
        if let Some(end) = end {
            self.refuse(end).await;
        }
        if was_current {
            let seen = [(host, link.last_heard())];
            let told = self.app.work(move |app| {
                app.state.record_seen(&seen)?;
                app.tell_host(host);
                Ok(())
            });
            if let Err(error) = told.await {
                tracing::warn!(%host, error = causes(&error), "host's last sign could not be noted");
            }
        }
        tracing::info!(%host, "agent disconnected");
    }

    /// Gives the status to end with; `None` where the agent ended it.
    async fn serve(
        &self,
        incoming: &mut Streaming<AgentMessage>,
        link: &Arc<Link>,
        boot: BootId,
        status: &mut AgentStatus,
        policy_there: u64,
    ) -> Option<Status> {
        let mut policy = self.app.policy.watch();
        let mut heartbeat = interval(HEARTBEAT);
        let origin =
            Arc::new(Origin { host_name: status.name.clone(), agent_version: status.agent_version.clone() });
        let (answers, to_answer) = mpsc::channel(UNDER_WAY);
        let mut answering = JoinSet::new();
        answering.spawn(answer_in_order(Arc::clone(&self.app), self.outgoing.clone(), to_answer));
        let host = link.host;
        // What the host's link before this one handed over is stored by then, or never will be: else the agent would
        // be told of marks that move while it reads them.
        if self.app.ingest.settled().await.is_none() {
            return Some(Status::unavailable("the server is stopping"));
        }
        let marks = self.app.work(move |app| app.high_water_marks(host, boot));
        match marks.await {
            // Before all else: the agent sends no batch until it has them.
            Ok(marks) => self.send(ToAgent::HighWaterMarks(HighWaterMarks { marks })).await?,
            Err(error) => {
                tracing::error!(host = %link.host, error = causes(&error), "the host's marks could not be read");
                return Some(Status::unavailable("the server could not read what it has of this host"));
            }
        }
        let current = policy.borrow_and_update().clone();
        if current.version != policy_there {
            self.send_policy(&current).await?;
        }
        let mut sent = Vec::new();
        self.send_commands(link.host, &mut sent).await?;
        loop {
            let message = tokio::select! {
                biased;
                ended = answering.join_next() => break ended.and_then(|ended| ended.ok().flatten()),
                changed = policy.changed() => {
                    if changed.is_err() {
                        break Some(Status::unavailable("the server is stopping"));
                    }
                    let current = policy.borrow_and_update().clone();
                    self.send_policy(&current).await?;
                    continue;
                }
                () = link.ordered.notified() => {
                    self.send_commands(link.host, &mut sent).await?;
                    continue;
                }
                _ = heartbeat.tick() => {
                    if link.last_heard() < before(now(), MAX_SILENCE) {
                        break Some(Status::deadline_exceeded("nothing came for too long"));
                    }
                    self.send(ToAgent::Heartbeat(Heartbeat {})).await?;
                    continue;
                }
                message = incoming.message() => message,
            };
            let message = match message {
                Err(status) => break Some(self.broken_stream(&status)),
                Ok(None) => {
                    // It says no more, but may wait for what it is still owed.
                    drop(answers);
                    let _ = timeout(LAST_ANSWERS, answering.join_next()).await;
                    break None;
                }
                Ok(Some(AgentMessage { message })) => message,
            };
            link.heard();
            match message {
                Some(FromAgent::Batch(sealed)) => {
                    let answer = match self.take_batch(link, &origin, sealed).await {
                        Taken::Answer(answer) => answer,
                        Taken::Stopping => break None,
                        Taken::OtherKey(end) => {
                            // What was stored before is still owed its answer.
                            drop(answers);
                            let _ = timeout(LAST_ANSWERS, answering.join_next()).await;
                            break Some(end);
                        }
                    };
                    if answers.send(answer).await.is_err() {
                        break answering.join_next().await.and_then(|ended| ended.ok().flatten());
                    }
                }
                Some(FromAgent::PolicyStatus(report)) => {
                    note_policy(status, report);
                    self.record(boot, status, link.host).await;
                }
                Some(FromAgent::CommandReceipt(receipt)) => self.take_receipt(link.host, receipt).await,
                Some(FromAgent::Heartbeat(_)) => {}
                Some(FromAgent::Hello(_)) => {
                    self.app.counters.count(Counter::Malformed);
                    break Some(Status::invalid_argument("a second hello"));
                }
                // A newer agent's message; it does without an answer.
                None => {}
            }
        }
    }

    async fn take_batch(&self, link: &Arc<Link>, origin: &Arc<Origin>, sealed: Vec<u8>) -> Taken {
        match self.open(link.host, sealed).await {
            Ok((batch, sha256)) => {
                self.note_refused_records(&batch);
                let (boot, first_sequence, last) = (batch.boot_id, batch.first_sequence, batch.last_sequence);
                match self.app.ingest.store(Arc::clone(link), Arc::clone(origin), batch, sha256).await {
                    Some(done) => Taken::Answer(Answer::Stored { first_sequence, boot, last, done }),
                    None => Taken::Stopping,
                }
            }
            // Refused, the agent would give up one good batch after the other.
            Err(Refusal::Sealed(error @ OpenError::OtherKey)) => {
                self.app.counters.count(Counter::BadEnvelope);
                tracing::error!(host = %link.host, %error, "link ended, the agent keeps its batches");
                Taken::OtherKey(Status::failed_precondition(error.to_string()))
            }
            Err(refusal) => {
                let reason = refusal.to_string();
                tracing::warn!(host = %link.host, reason, "batch refused");
                let numbers = match refusal {
                    Refusal::Sealed(error) => {
                        self.app.counters.count(match error {
                            OpenError::TooLarge { .. } => Counter::Oversize,
                            OpenError::WrongSender => Counter::WrongAgent,
                            OpenError::NotAnEnvelope | OpenError::OtherKey | OpenError::Broken => {
                                Counter::BadEnvelope
                            }
                        });
                        BatchRefused::default()
                    }
                    Refusal::Malformed { error, numbers } => {
                        self.app.counters.count(counter_of(&error));
                        *numbers
                    }
                    Refusal::Failed => BatchRefused::default(),
                };
                Taken::Answer(Answer::Refused(BatchRefused { reason, ..numbers }))
            }
        }
    }

    /// One line for each batch, so that an agent can't fill the log with its records.
    fn note_refused_records(&self, batch: &Batch) {
        batch.refused.iter().for_each(|record| self.app.counters.count(counter_of(&record.error)));
        if let Some(first) = batch.refused.first() {
            tracing::warn!(
                host = %self.host.id,
                records = batch.refused.len(),
                first = %first.kind,
                reason = %first.error,
                "records left out of a batch; gaps stand in their places"
            );
        }
    }

    /// The batch, and the SHA-256 by which its agent knows it again.
    /// Opening and decoding takes milliseconds for a large batch, so it has threads of its own.
    async fn open(&self, host: HostId, sealed: Vec<u8>) -> Result<(Batch, [u8; 32]), Refusal> {
        let turn = Arc::clone(&self.openings).acquire_owned().await.map_err(|_| Refusal::Failed)?;
        let app = Arc::clone(&self.app);
        let opened = tokio::task::spawn_blocking(move || {
            let opened = app.pki.opener.open(&sealed, Purpose::Batch, Some(host))?;
            let batch = wire::decode_batch(host, &opened.plain).map_err(|error| {
                // What can be read of it tells the agent which batch it was.
                let numbers = protocol::link::Batch::decode(opened.plain.as_slice()).unwrap_or_default();
                Refusal::Malformed {
                    error,
                    numbers: Box::new(BatchRefused {
                        boot_id: numbers.boot_id,
                        first_sequence: numbers.first_sequence,
                        last_sequence: numbers.last_sequence,
                        reason: String::new(),
                    }),
                }
            });
            let batch = batch.map(|batch| (batch, sha256(&sealed)));
            drop(turn);
            batch
        });
        opened.await.unwrap_or(Err(Refusal::Failed))
    }

    async fn record(&self, boot: BootId, status: &AgentStatus, host: HostId) {
        let status = status.clone();
        let recorded = self.app.work(move |app| {
            app.state.record_status(host, boot, &status, now())?;
            app.tell_host(host);
            Ok(())
        });
        if let Err(error) = recorded.await {
            tracing::error!(%host, error = causes(&error), "agent's status could not be stored");
        }
    }

    async fn send_policy(&self, policy: &crate::app::SignedPolicy) -> Option<()> {
        self.send(ToAgent::Policy(policy.bundle.clone())).await
    }

    /// Sends what was ordered and not sent on this link yet.
    async fn send_commands(&self, host: HostId, sent: &mut Vec<Uuid>) -> Option<()> {
        let before = std::mem::take(sent);
        let commands = self.app.work(move |app| {
            let mut sent = before;
            let commands = app.commands_for(host, &mut sent)?;
            Ok((commands, sent))
        });
        match commands.await {
            Ok((commands, now_sent)) => {
                *sent = now_sent;
                for command in commands {
                    self.send(ToAgent::Command(command)).await?;
                }
            }
            // They wait; the next link or order tries again.
            Err(error) => tracing::error!(%host, error = causes(&error), "commands could not be read"),
        }
        Some(())
    }

    async fn take_receipt(&self, host: HostId, receipt: CommandReceipt) {
        let recorded = self.app.work(move |app| app.record_command_receipt(host, &receipt));
        if let Err(error) = recorded.await {
            // The agent keeps it, and is asked again on the next link.
            tracing::error!(%host, error = causes(&error), "a command's receipt could not be stored");
        }
    }

    /// `None` if the stream is gone.
    async fn send(&self, message: ToAgent) -> Option<()> {
        self.outgoing.send(Ok(ServerMessage { message: Some(message) })).await.ok()
    }

    async fn refuse(&self, status: Status) {
        // Fails where nobody listens any more; where nobody reads, dropping the stream must do.
        let _ = timeout(Duration::from_secs(1), self.outgoing.send(Err(status))).await;
    }

    /// The agent's stream gave an error: a frame past the limit, rubbish, or the end of the connection.
    fn broken_stream(&self, status: &Status) -> Status {
        match status.code() {
            Code::OutOfRange | Code::ResourceExhausted => {
                self.app.counters.count(Counter::Oversize);
                tracing::warn!(host = %self.host.id, reason = status.message(), "message refused");
                Status::out_of_range(format!(
                    "a message is larger than {} bytes",
                    protocol::MAX_SEALED_BATCH_BYTES
                ))
            }
            Code::Internal | Code::InvalidArgument => {
                self.app.counters.count(Counter::Malformed);
                tracing::warn!(host = %self.host.id, reason = status.message(), "message refused");
                Status::invalid_argument("a message can't be decoded")
            }
            _ => Status::cancelled("the stream broke"),
        }
    }
}

/// Sends answers in the order of the batches. Ends with the status to end the
/// link with, or `None` when the link is gone.
async fn answer_in_order(
    app: Arc<App>,
    outgoing: mpsc::Sender<Result<ServerMessage, Status>>,
    mut answers: mpsc::Receiver<Answer>,
) -> Option<Status> {
    while let Some(answer) = answers.recv().await {
        let message = match answer {
            Answer::Refused(refused) => ToAgent::Refused(refused),
            Answer::Stored { first_sequence, boot, last, done } => match done.await {
                Ok(Ok(stored)) => ToAgent::Stored(BatchStored {
                    boot_id: stored.boot.as_bytes().to_vec(),
                    last_sequence: stored.last_sequence,
                }),
                Ok(Err(IngestError::Refused(reason))) => {
                    app.counters.count(Counter::Malformed);
                    let boot_id = boot.as_bytes().to_vec();
                    ToAgent::Refused(BatchRefused { boot_id, first_sequence, last_sequence: last, reason })
                }
                Ok(Err(IngestError::NotNow)) | Err(_) => {
                    return Some(Status::unavailable(
                        "the server could not store a batch; it is to be sent again",
                    ));
                }
            },
        };
        outgoing.send(Ok(ServerMessage { message: Some(message) })).await.ok()?;
    }
    None
}

fn counter_of(error: &WireError) -> Counter {
    match error {
        WireError::TooMany { .. } => Counter::Oversize,
        WireError::Undecodable | WireError::Malformed { .. } => Counter::Malformed,
    }
}

fn status_of_hello(hello: &Hello, host: &Host) -> AgentStatus {
    let facts = hello.host.clone().unwrap_or_default();
    AgentStatus {
        name: named(&facts),
        os: shown(&facts.os),
        kernel: shown(&facts.kernel),
        agent_version: shown(&facts.agent_version),
        sensor: shown(&hello.sensor),
        rules_version: hello.policy_version,
        rules_loaded: host.rules_loaded,
        rules_errors: host.rules_errors.clone(),
        figures: host.figures,
    }
}

fn note_policy(status: &mut AgentStatus, report: PolicyStatus) {
    status.rules_version = report.policy_version;
    status.rules_loaded = report.rules_loaded.into();
    status.rules_errors = report.errors.iter().take(MAX_RULE_ERRORS).map(|line| shown(line)).collect();
}

/// Waits for the word to end. (`None`: the link was forgotten, which ends it too.)
async fn ended(ending: &mut watch::Receiver<Option<EndReason>>) -> Option<EndReason> {
    ending.wait_for(Option::is_some).await.ok().and_then(|reason| *reason)
}

fn end_status(reason: Option<EndReason>) -> Status {
    match reason {
        Some(EndReason::Revoked) => Status::permission_denied("this host was revoked"),
        Some(EndReason::Replaced) => Status::aborted("the host connected again; this link is its old one"),
        Some(EndReason::ShuttingDown) | None => Status::unavailable("the server is stopping"),
    }
}
