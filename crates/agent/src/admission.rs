//! As which host this agent works: by the identity that it has, or anew by a token.

use std::time::Duration;

use anyhow::bail;
use event_model::{BootId, Timestamp};
use protocol::enrollment::{EnrollmentToken, sha256};
use protocol::link::HighWaterMarks;

use crate::host::HostFacts;
use crate::options::Options;
use crate::uplink::enroll;
use crate::uplink::first_word::{self, FirstWord};
use crate::uplink::identity::Identity;
use crate::uplink::server_address::ServerAddress;

/// A host that has an identity watches with it when it can't get a new one in this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is known before the agent begins.
pub(crate) struct Admission {
    /// Who the agent is.
    pub(crate) identity: Identity,
    /// What the server has of this host, where it was asked and answered.
    pub(crate) marks: Option<HighWaterMarks>,
}

/// The identity from the state directory, or a new one by the token: where there is none,
/// or where the server shuts out the one that is there. `spool_is_new` has the server asked
/// what it has of this boot, as numbers may have been given that nothing here tells of.
///
/// # Errors
/// There is no identity and none can be had.
pub(crate) async fn admission(
    options: &Options,
    address: &ServerAddress,
    facts: &HostFacts,
    boot_id: BootId,
    now: Timestamp,
    spool_is_new: bool,
) -> anyhow::Result<Admission> {
    let Some(identity) = Identity::load(&options.state_dir)? else {
        let Some(token) = &options.token else {
            bail!(
                "this host is not enrolled yet; hint: give `-token TOKEN` once (the server's console makes one under \
                 Settings), or `-standalone` to work without a server"
            );
        };
        let identity = enroll::enroll(options, address, token, facts).await?;
        identity.store(&options.state_dir)?;
        tracing::info!(host = %identity.host_id, server = %address, "this host is enrolled");
        return Ok(Admission { identity, marks: None });
    };
    if options.token.is_none() && !spool_is_new {
        return Ok(Admission { identity, marks: None });
    }
    let word = first_word::ask(options, address, &identity, facts, boot_id).await;
    let (reason, marks) = match word {
        FirstWord::LetIn(marks) => (None, marks),
        FirstWord::ShutOut(reason) => (Some(reason), None),
        FirstWord::Nothing(error) => {
            tracing::warn!(server = %address, error, "the server gave no first word, the agent begins without");
            (why_no_answer(options, &identity, now), None)
        }
    };
    let Some(token) = &options.token else { return Ok(Admission { identity, marks }) };
    let Some(reason) = reason else {
        tracing::info!(host = %identity.host_id, "this host is enrolled already, the token is not used");
        return Ok(Admission { identity, marks });
    };
    tracing::warn!(host = %identity.host_id, reason, "the identity of this host is not good any more, enrolling anew");
    let place = options.state_dir.join("identity.json");
    let enrolled = tokio::time::timeout(PATIENCE, enroll::enroll(options, address, token, facts)).await;
    let error = match enrolled {
        Ok(Ok(new)) => {
            new.store(&options.state_dir)?;
            tracing::warn!(
                host = %new.host_id, before = %identity.host_id, server = %address,
                "this host is enrolled anew and has a new id; what waits under the old one is given up and counted"
            );
            return Ok(Admission { identity: new, marks: None });
        }
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => format!("not done within {} s", PATIENCE.as_secs()),
    };
    // Watching with an old identity, and spooling, is worth more than not watching.
    tracing::error!(
        error,
        "this host could not be enrolled anew and goes on with {}; hint: make a new token and start the agent with it",
        place.display()
    );
    Ok(Admission { identity, marks: None })
}

/// A server that was not heard may have ended the connection for what can be seen here too.
fn why_no_answer(options: &Options, identity: &Identity, now: Timestamp) -> Option<String> {
    let token = EnrollmentToken::parse(options.token.as_deref()?).ok()?;
    if token.ca_sha256() != sha256(&identity.ca_certificate) {
        return Some("the token is of another server than the identity".to_owned());
    }
    let (_, end) = identity.renewal()?;
    (now.as_nanos() / 1_000_000_000 > end).then(|| "the certificate of this host has expired".to_owned())
}
