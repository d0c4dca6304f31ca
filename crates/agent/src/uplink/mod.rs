//! The link to the server: batches up, rules down, and a new certificate in time.
//!
//! It reads the spool and nothing else of the agent. While the server is away it
//! tries again with growing, spread waits; nobody waits for it.

mod backoff;
pub mod channel;
mod commands;
pub mod enroll;
pub mod first_word;
pub mod identity;
mod marks;
pub mod server_address;
mod session;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use event_model::BootId;
use protocol::link::RenewRequest;
use protocol::link::agent_link_client::AgentLinkClient;
use protocol::trust::ServerTrust;
use spool::Spool;
use tokio::sync::Notify;
use tonic::transport::Channel;

use self::backoff::Backoff;
use self::channel::{causes, connect, said};
use self::identity::Identity;
use self::server_address::ServerAddress;
use crate::host::HostFacts;
use crate::options::Options;
use crate::responding::Responding;
use crate::rules::RuleBook;
use crate::server_mark::ServerMark;

/// A link that held for so long was a good one; after it the waits begin anew, as
/// after one on which the server stored something.
const GOOD_LINK: Duration = Duration::from_secs(10);

/// The marks of a server, as they concern one boot.
pub use self::marks::taken_in;

/// What the link works with.
pub struct Uplink {
    /// Where the server is.
    pub address: ServerAddress,
    /// `-cert` and `-insecure`.
    pub options: Options,
    /// Who the agent is.
    pub identity: Identity,
    /// Where renewed identities are kept.
    pub state_dir: PathBuf,
    /// The host.
    pub facts: HostFacts,
    /// The boot.
    pub boot_id: BootId,
    /// The sensor's name.
    pub sensor: String,
    /// What waits to be sent.
    pub spool: Arc<Spool>,
    /// Told when something was added to it.
    pub wake: Arc<Notify>,
    /// Told what the server has of this boot.
    pub server_mark: Arc<ServerMark>,
    /// Where bundles go.
    pub rules: Arc<RuleBook>,
    /// Where commands go.
    pub responding: Responding,
    /// True while a link stands.
    pub linked: Arc<AtomicBool>,
    /// True once the server stored a batch on this link.
    pub stored: AtomicBool,
}

impl Uplink {
    /// Keeps the link up, for as long as the future is polled.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut refused_once = None;
        loop {
            let begun = Instant::now();
            let ended = self.link(&mut refused_once).await;
            self.linked.store(false, Ordering::Relaxed);
            match ended {
                Ok(()) => {
                    // A new certificate: go on with it at once.
                    backoff.reset();
                    continue;
                }
                Err(error) => {
                    if self.stored.swap(false, Ordering::Relaxed) || begun.elapsed() >= GOOD_LINK {
                        backoff.reset();
                    }
                    let error = if self.has_expired() { self.expired(error) } else { error };
                    let wait = backoff.next_wait();
                    tracing::warn!(
                        server = %self.address, error = causes(&error), wait_ms = wait.as_millis(),
                        "no link to the server, events wait in the spool"
                    );
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// One link, from connecting to its end. `Ok` if it ended for a new certificate.
    async fn link(&mut self, refused_once: &mut Option<session::BatchKey>) -> anyhow::Result<()> {
        let own_ca = ServerTrust::Certificates(vec![self.identity.ca_certificate.clone()]);
        let trust = enroll::trust(&self.options, own_ca)?;
        let shown = (self.identity.certificate.clone(), self.identity.private_key.clone());
        let channel = connect(&self.address, trust, Some(shown)).await?;
        if self.renewal_is_due() {
            match self.renew(channel.clone()).await {
                Ok(()) => return Ok(()),
                // The old one still holds for half its life.
                Err(error) => tracing::warn!(error = causes(&error), "the certificate could not be renewed"),
            }
        }
        let session = session::Session { uplink: self, client: AgentLinkClient::new(channel) };
        session.run(refused_once).await
    }

    fn renewal_is_due(&self) -> bool {
        self.identity.renewal().is_some_and(|(half, _)| seconds_now() >= half)
    }

    fn has_expired(&self) -> bool {
        self.identity.renewal().is_some_and(|(_, end)| seconds_now() > end)
    }

    /// TLS says no more than that the connection was ended.
    fn expired(&self, error: anyhow::Error) -> anyhow::Error {
        error.context(format!(
            "the certificate in {} has expired; hint: to enrol this host anew, start the agent with a new -token",
            self.state_dir.join("identity.json").display()
        ))
    }

    async fn renew(&mut self, channel: Channel) -> anyhow::Result<()> {
        let (private_key, certificate_request) = enroll::certificate_request()?;
        let call = AgentLinkClient::new(channel);
        let reply = call.clone().renew(RenewRequest { certificate_request }).await;
        let certificate = reply.map_err(|status| said(&status))?.into_inner().certificate;
        let renewed = Identity { certificate, private_key, ..self.identity.clone() };
        anyhow::ensure!(renewed.renewal().is_some(), "the new certificate can't be read");
        renewed.store(&self.state_dir)?;
        self.identity = renewed;
        tracing::info!("the agent's certificate was renewed");
        Ok(())
    }
}

fn seconds_now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(now).unwrap_or(i64::MAX)
}
