//! One stream: the hello, batches in order with a few under way, their answers, rules.
//!
//! The server answers batches in the order in which they were sent, so each answer
//! is for the oldest batch under way. A refusal that does not even name the batch
//! may be the server's own trouble: only when the same batch is refused a second
//! time, on another link, it is given up.
//!
//! No batch is sent before the server's first word, which says what it has already.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use event_model::Timestamp;
use protocol::envelope::sender_of;
use protocol::link::agent_link_client::AgentLinkClient;
use protocol::link::agent_message::Message as ToServer;
use protocol::link::server_message::Message as FromServer;
use protocol::link::{
    AgentMessage, BatchRefused, BatchStored, Heartbeat, Hello, HighWaterMarks, PolicyStatus, ServerMessage,
    SignedBundle, SignedCommand,
};
use spool::{BatchHeader, LossReason, Reader, StoredBatch};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::Uplink;
use super::channel::said;
use super::commands::{self, Receipts};
use super::enroll::wire_facts;
use super::marks::{Marks, taken_in};
use crate::rules::ActiveRules;

/// Batches that may be sent and not answered.
const UNDER_WAY: usize = 8;
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The server beats as well; if nothing comes for so long the link is dead.
const MAX_SILENCE: Duration = Duration::from_secs(45);
/// How often local changes (rules, certificate) are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A bundle may be large: this bounds what a server can make an agent hold.
const MAX_MESSAGE: usize = 64 << 20;

/// What names a batch.
pub(super) type BatchKey = ([u8; 16], u64);

pub(super) struct Session<'a> {
    pub(super) uplink: &'a mut Uplink,
    pub(super) client: AgentLinkClient<Channel>,
}

/// What the server was told of the rules by which events are judged.
struct Told {
    rules: Arc<ActiveRules>,
    errors: Arc<Vec<String>>,
}

/// Batches that were given up and not sent since.
#[derive(Default)]
struct GivenUp {
    numbers_taken: u64,
    of_other_host: u64,
}

/// The state of one stream.
struct Link {
    to_server: mpsc::Sender<AgentMessage>,
    reader: Reader,
    under_way: VecDeque<BatchHeader>,
    /// What the server has; `None` until it has said so.
    marks: Option<Marks>,
    /// Read, and to be given up once it is the oldest.
    held: Option<StoredBatch>,
    given_up: GivenUp,
    told: Option<Told>,
    heard: Instant,
    receipts: Receipts,
}

impl Session<'_> {
    /// Runs until the link breaks (an error) or a new certificate is due (`Ok`).
    pub(super) async fn run(self, refused_once: &mut Option<BatchKey>) -> anyhow::Result<()> {
        let Self { uplink, client } = self;
        let (to_server, outgoing) = mpsc::channel(UNDER_WAY + 4);
        let hello = Hello {
            host: Some(wire_facts(&uplink.facts)),
            boot_id: uplink.boot_id.as_bytes().to_vec(),
            sensor: uplink.sensor.clone(),
            policy_version: uplink.rules.active().version,
        };
        send(&to_server, ToServer::Hello(hello)).await?;
        let mut client = client.max_decoding_message_size(MAX_MESSAGE);
        let incoming = client.connect(ReceiverStream::new(outgoing)).await;
        let incoming = incoming.map_err(|status| not_let_in(&status, uplink))?.into_inner();
        uplink.linked.store(true, Ordering::Relaxed);
        tracing::info!(server = %uplink.address, "linked to the server");
        let mut link = Link {
            to_server,
            reader: uplink.spool.reader(),
            under_way: VecDeque::new(),
            marks: None,
            held: None,
            given_up: GivenUp::default(),
            told: None,
            heard: Instant::now(),
            receipts: Receipts::default(),
        };
        link.tell_rules(uplink).await?;
        link.serve(uplink, incoming, refused_once).await
    }
}

impl Link {
    async fn serve(
        mut self,
        uplink: &Uplink,
        mut incoming: Streaming<ServerMessage>,
        refused_once: &mut Option<BatchKey>,
    ) -> anyhow::Result<()> {
        let wake = Arc::clone(&uplink.wake);
        let (mut heartbeat, mut look) = (interval(HEARTBEAT), interval(LOOK_EVERY));
        loop {
            let may_send = self.send_batches(uplink).await?;
            tokio::select! {
                message = incoming.message() => {
                    let message = message.map_err(|status| said(&status))?.context("the server ended the link")?;
                    self.heard = Instant::now();
                    self.take(uplink, message, refused_once).await?;
                }
                receipt = self.receipts.next() => {
                    send(&self.to_server, ToServer::CommandReceipt(receipt)).await?;
                }
                () = wake.notified(), if may_send => {}
                () = uplink.rules.taken_up() => self.tell_rules(uplink).await?,
                _ = heartbeat.tick() => {
                    ensure!(self.heard.elapsed() < MAX_SILENCE, "the server was silent for {} s", MAX_SILENCE.as_secs());
                    send(&self.to_server, ToServer::Heartbeat(Heartbeat {})).await?;
                }
                _ = look.tick() => {
                    self.tell_rules(uplink).await?;
                    if uplink.renewal_is_due() && self.under_way.is_empty() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Sends what may be sent; true if more may follow.
    async fn send_batches(&mut self, uplink: &Uplink) -> anyhow::Result<bool> {
        while self.under_way.len() < UNDER_WAY {
            let Some(marks) = &mut self.marks else { return Ok(false) };
            let next = match self.held.take() {
                None => self.reader.next_batch()?,
                held => held,
            };
            let Some(batch) = next else {
                self.settle_given_up(uplink)?;
                return Ok(true);
            };
            let is_foreign =
                sender_of(&batch.payload).is_some_and(|sender| sender != uplink.identity.host_id);
            let is_lost = is_foreign || marks.contradict(&batch.header, &uplink.spool)?;
            let taken_through = marks.last_of(&batch.header.boot_id);
            if !is_lost {
                self.settle_given_up(uplink)?;
                self.under_way.push_back(batch.header);
                send(&self.to_server, ToServer::Batch(batch.payload)).await?;
                continue;
            }
            if !self.under_way.is_empty() {
                self.held = Some(batch);
                return Ok(false);
            }
            let records = u64::from(batch.header.record_count);
            let given_up = if is_foreign {
                self.given_up.of_other_host += records;
                uplink.spool.refuse(&batch.header, LossReason::OtherHost)
            } else {
                self.given_up.numbers_taken += records;
                if batch.header.boot_id == *uplink.boot_id.as_bytes() {
                    uplink.server_mark.contradict();
                }
                uplink.spool.refuse_taken(&batch.header, taken_through)
            };
            given_up.context("giving up a batch")?;
        }
        Ok(false)
    }

    /// Before anything is sent that comes after: once the server has that, its mark would
    /// make what was given up look stored.
    fn settle_given_up(&mut self, uplink: &Uplink) -> anyhow::Result<()> {
        let GivenUp { numbers_taken, of_other_host } = std::mem::take(&mut self.given_up);
        if numbers_taken > 0 {
            tracing::error!(
                records = numbers_taken,
                "the server has other records of this boot by the numbers of these, which are lost; \
                 hint: was the spool removed, or the machine set back to a snapshot?"
            );
        }
        if of_other_host > 0 {
            tracing::error!(
                records = of_other_host,
                "records that waited were sealed for another identity of this host (identity.json), they are lost"
            );
        }
        if numbers_taken + of_other_host > 0 {
            uplink.spool.sync().context("noting what was given up")?;
        }
        Ok(())
    }

    /// The server's first word. One that begins otherwise is older, and tells nothing.
    fn take_marks(&mut self, uplink: &Uplink, message: Option<&FromServer>) {
        if self.marks.is_some() {
            return;
        }
        let marks = match message {
            Some(FromServer::HighWaterMarks(marks)) => marks,
            _ => &HighWaterMarks::default(),
        };
        if let Some(taken) = taken_in(marks, uplink.boot_id) {
            uplink.server_mark.tell(taken);
        }
        self.marks = Some(Marks::of(marks));
    }

    async fn take(
        &mut self,
        uplink: &Uplink,
        message: ServerMessage,
        refused_once: &mut Option<BatchKey>,
    ) -> anyhow::Result<()> {
        self.take_marks(uplink, message.message.as_ref());
        match message.message {
            Some(FromServer::Stored(stored)) => self.stored(uplink, &stored),
            Some(FromServer::Refused(refused)) => self.refused(uplink, &refused, refused_once),
            Some(FromServer::Policy(bundle)) => self.policy(uplink, &bundle).await,
            Some(FromServer::Command(command)) => {
                self.command(uplink, &command);
                Ok(())
            }
            // Or a newer server's message; it does without an answer.
            Some(FromServer::Heartbeat(_) | FromServer::HighWaterMarks(_)) | None => Ok(()),
        }
    }

    fn stored(&mut self, uplink: &Uplink, stored: &BatchStored) -> anyhow::Result<()> {
        let Some(batch) = self.under_way.pop_front() else {
            bail!("the server stored a batch that was not sent")
        };
        let covers = stored.boot_id == batch.boot_id && stored.last_sequence >= batch.last_sequence();
        ensure!(covers, "the server's answer is for another batch");
        acknowledge(uplink, &batch);
        uplink.stored.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn refused(
        &mut self,
        uplink: &Uplink,
        refused: &BatchRefused,
        refused_once: &mut Option<BatchKey>,
    ) -> anyhow::Result<()> {
        let Some(batch) = self.under_way.pop_front() else {
            bail!("the server refused a batch that was not sent")
        };
        let key = (batch.boot_id, batch.first_sequence);
        let named = refused.boot_id == batch.boot_id && refused.first_sequence == batch.first_sequence;
        if !named && *refused_once != Some(key) {
            *refused_once = Some(key);
            bail!("the server refused a batch without naming it: {}; it is sent once more", refused.reason);
        }
        let records = u64::from(batch.record_count);
        tracing::error!(
            reason = refused.reason,
            records,
            "the server refused a batch for good, its records are lost"
        );
        // The pipeline tells of it with the next batch. Until then a restart sends it again.
        uplink.spool.refuse(&batch, LossReason::Refused).context("giving up a batch that the server refused")
    }

    async fn policy(&mut self, uplink: &Uplink, bundle: &SignedBundle) -> anyhow::Result<()> {
        match uplink.rules.take_bundle(bundle, wall_clock()) {
            // The server is told once the pipeline judges by them.
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "rules of the server were not taken");
                let mut status = status_of(&uplink.rules.active(), &uplink.rules.content_errors());
                status.errors.push(format!("bundle not taken: {error}"));
                send(&self.to_server, ToServer::PolicyStatus(status)).await
            }
        }
    }

    /// Hands a command over; its receipt goes up when there is one, on the link on which it was asked for last.
    /// If that breaks before, the server sends the command again, and is told what became of it the first time.
    fn command(&self, uplink: &Uplink, signed: &SignedCommand) {
        let identity = &uplink.identity;
        match commands::order_of(signed, &identity.command_key, identity.host_id) {
            Ok(order) => {
                let receipts = self.receipts.sender();
                uplink.responding.command(order, move |receipt| receipts.send(&receipt));
            }
            Err(refusal) => {
                tracing::error!(reason = refusal.reason, "a command of the server was not taken");
                match refusal.receipt {
                    Some(receipt) => self.receipts.sender().send(&receipt),
                    // Nobody waits for an answer to what is not the server's: it becomes an event.
                    None => uplink.responding.tell_of_refused_command(&refusal.reason),
                }
            }
        }
    }

    /// Tells the server by which rules events are judged, if that is news.
    async fn tell_rules(&mut self, uplink: &Uplink) -> anyhow::Result<()> {
        // Before the pipeline has begun, nothing is.
        let Some(rules) = uplink.rules.in_use() else { return Ok(()) };
        let errors = uplink.rules.content_errors();
        let is_told = |told: &Told| Arc::ptr_eq(&rules, &told.rules) && Arc::ptr_eq(&errors, &told.errors);
        if self.told.as_ref().is_some_and(is_told) {
            return Ok(());
        }
        let known = self.told.as_ref().map(|told| told.rules.version);
        if known.is_some_and(|version| version != rules.version) {
            let (version, rules) = (rules.version, rules.set.len());
            tracing::info!(version, rules, "rules of the server are in force");
        }
        let status = status_of(&rules, &errors);
        self.told = Some(Told { rules, errors });
        send(&self.to_server, ToServer::PolicyStatus(status)).await
    }
}

/// The server did not take the stream.
fn not_let_in(status: &Status, uplink: &Uplink) -> anyhow::Error {
    let error = said(status);
    if status.code() != Code::PermissionDenied {
        return error;
    }
    error.context(format!(
        "the server does not let in the host that {} names; hint: to enrol it anew, start the agent with a new \
         -token",
        uplink.state_dir.join("identity.json").display()
    ))
}

fn wall_clock() -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    Timestamp::from_nanos(i64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX))
}

fn status_of(rules: &ActiveRules, content_errors: &[String]) -> PolicyStatus {
    PolicyStatus {
        policy_version: rules.version,
        rules_loaded: u32::try_from(rules.set.len()).unwrap_or(u32::MAX),
        errors: rules.errors.iter().chain(content_errors).take(100).cloned().collect(),
    }
}

fn acknowledge(uplink: &Uplink, batch: &BatchHeader) {
    if let Err(error) = uplink.spool.ack(batch.boot_id, batch.last_sequence()) {
        // The server has it, and knows it if it comes again after a restart.
        tracing::warn!(%error, "acknowledged batches could not be deleted");
    }
}

async fn send(to_server: &mpsc::Sender<AgentMessage>, message: ToServer) -> anyhow::Result<()> {
    to_server.send(AgentMessage { message: Some(message) }).await.ok().context("the link broke")
}
