//! What the server says before the agent begins, where that decides how it begins: whether
//! this host is still let in, and from where its numbers go on.

use std::time::Duration;

use anyhow::Context as _;
use event_model::BootId;
use protocol::link::agent_link_client::AgentLinkClient;
use protocol::link::agent_message::Message as ToServer;
use protocol::link::server_message::Message as FromServer;
use protocol::link::{AgentMessage, Hello, HighWaterMarks};
use protocol::trust::ServerTrust;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::channel::{causes, connect, said};
use super::enroll::{self, wire_facts};
use super::identity::Identity;
use super::server_address::ServerAddress;
use crate::host::HostFacts;
use crate::options::Options;

/// Watching must begin, server or not.
const PATIENCE: Duration = Duration::from_secs(5);

/// The answer to the hello.
#[derive(Debug)]
pub enum FirstWord {
    /// The host is let in. `None` from a server that tells no marks.
    LetIn(Option<HighWaterMarks>),
    /// It is not: the server's reason.
    ShutOut(String),
    /// There was no answer: why.
    Nothing(String),
}

/// Says hello once, and goes.
pub async fn ask(
    options: &Options,
    address: &ServerAddress,
    identity: &Identity,
    facts: &HostFacts,
    boot_id: BootId,
) -> FirstWord {
    let hello = Hello {
        host: Some(wire_facts(facts)),
        boot_id: boot_id.as_bytes().to_vec(),
        sensor: String::new(),
        policy_version: 0,
    };
    match tokio::time::timeout(PATIENCE, say(options, address, identity, hello)).await {
        Ok(Ok(marks)) => FirstWord::LetIn(marks),
        Ok(Err(error)) => match error.downcast_ref::<Status>() {
            Some(status) if status.code() == Code::PermissionDenied => {
                FirstWord::ShutOut(status.message().to_owned())
            }
            Some(status) => FirstWord::Nothing(said(status).to_string()),
            None => FirstWord::Nothing(causes(&error)),
        },
        Err(_) => FirstWord::Nothing(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

async fn say(
    options: &Options,
    address: &ServerAddress,
    identity: &Identity,
    hello: Hello,
) -> anyhow::Result<Option<HighWaterMarks>> {
    let own_ca = ServerTrust::Certificates(vec![identity.ca_certificate.clone()]);
    let trust = enroll::trust(options, own_ca)?;
    let shown = (identity.certificate.clone(), identity.private_key.clone());
    let channel = connect(address, trust, Some(shown)).await?;
    let (to_server, outgoing) = mpsc::channel(1);
    let hello = AgentMessage { message: Some(ToServer::Hello(hello)) };
    to_server.send(hello).await.ok().context("the link broke")?;
    let mut incoming =
        AgentLinkClient::new(channel).connect(ReceiverStream::new(outgoing)).await?.into_inner();
    match incoming.message().await?.context("the server ended the link")?.message {
        Some(FromServer::HighWaterMarks(marks)) => Ok(Some(marks)),
        _ => Ok(None),
    }
}
