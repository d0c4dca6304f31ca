//! From a token to an identity.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use event_model::HostId;
use prost::Message as _;
use protocol::enrollment::{EnrollmentToken, enrollment_words, is_signed_by_ca, sha256};
use protocol::envelope::{Purpose, Sealer};
use protocol::link::agent_link_client::AgentLinkClient;
use protocol::link::{EnrollPayload, EnrollRequest, HostFacts as WireFacts, KeysRequest};
use protocol::trust::ServerTrust;
use rcgen::{CertificateParams, KeyPair};
use tonic::Code;
use uuid::Uuid;

use super::backoff::Backoff;
use super::channel::{causes, connect, is_untrusted, said};
use super::identity::{Identity, read_certificates, read_public_key};
use super::server_address::ServerAddress;
use crate::host::HostFacts;
use crate::options::Options;

/// A try to enrol failed.
enum Failed {
    /// Another try can't help.
    ForGood(anyhow::Error),
    /// Another try may help.
    ForNow(anyhow::Error),
}

/// What the server's certificate is held against.
///
/// # Errors
/// `-cert` can't be used.
pub fn trust(options: &Options, otherwise: ServerTrust) -> anyhow::Result<ServerTrust> {
    if options.insecure {
        return Ok(ServerTrust::DangerNoVerification);
    }
    match &options.certificate {
        Some(path) => Ok(ServerTrust::Certificates(read_certificates(path)?)),
        None => Ok(otherwise),
    }
}

/// Enrols this host, and keeps trying while the server can't be reached.
///
/// # Errors
/// The server refused, or is not the one that made the token.
pub async fn enroll(
    options: &Options,
    address: &ServerAddress,
    token: &str,
    facts: &HostFacts,
) -> anyhow::Result<Identity> {
    let parsed = EnrollmentToken::parse(token).context("-token")?;
    let trust = trust(options, ServerTrust::CaFingerprint(parsed.ca_sha256()))?;
    let public_key = options.public_key.as_deref().map(read_public_key).transpose()?;
    let mut backoff = Backoff::default();
    loop {
        match try_once(address, trust.clone(), public_key.clone(), token, facts).await {
            Ok(identity) => return Ok(identity),
            Err(Failed::ForGood(error)) => {
                return Err(error.context(format!("{address} did not enrol this host")));
            }
            Err(Failed::ForNow(error)) => {
                let wait = backoff.next_wait();
                tracing::warn!(
                    server = %address, error = causes(&error), wait_ms = wait.as_millis(),
                    "the server can't be reached to enrol, trying again"
                );
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn try_once(
    address: &ServerAddress,
    trust: ServerTrust,
    public_key: Option<Vec<u8>>,
    token: &str,
    facts: &HostFacts,
) -> Result<Identity, Failed> {
    let channel = connect(address, trust, None).await.map_err(|error| {
        if is_untrusted(&error) {
            let hint = "the server's certificate is not trusted; hint: is the token from this very server, or is -cert wrong?";
            Failed::ForGood(error.context(hint))
        } else {
            Failed::ForNow(error)
        }
    })?;
    let mut client = AgentLinkClient::new(channel);
    let sealing_key = match public_key {
        Some(key) => key,
        None => {
            let reply = with_limit(client.keys(KeysRequest {})).await?;
            reply.sealing_key
        }
    };
    let for_good = |error: anyhow::Error| Failed::ForGood(error);
    let (key, request) = certificate_request().map_err(for_good)?;
    let payload = EnrollPayload {
        token: token.trim().to_owned(),
        certificate_request: request.clone(),
        host: Some(wire_facts(facts)),
    };
    let nobody = HostId::from_uuid(Uuid::nil());
    let mut sealer = Sealer::new(&sealing_key, nobody, Purpose::Enrollment)
        .context("the server's RSA key can't be used")
        .map_err(for_good)?;
    let sealed = sealer.seal(&payload.encode_to_vec());
    let reply = with_limit(client.enroll(EnrollRequest { sealed })).await?;
    let host_id =
        HostId::from_slice(&reply.host_id).context("the server's reply has no host id").map_err(for_good)?;
    let identity = Identity {
        host_id,
        certificate: reply.certificate,
        private_key: key,
        ca_certificate: reply.ca_certificate,
        sealing_key,
        command_key: reply.command_key,
    };
    check(&identity, token, &request, &reply.signature).map_err(for_good)?;
    Ok(identity)
}

/// What came must fit the token, whoever the connection trusted: with `-insecure` anybody
/// can stand in between, and the command key says whose rules and commands are taken.
fn check(identity: &Identity, token: &str, request: &[u8], signature: &[u8]) -> anyhow::Result<()> {
    let expected = EnrollmentToken::parse(token)?.ca_sha256();
    ensure!(
        sha256(&identity.ca_certificate) == expected,
        "the server's CA is not the one that the token names"
    );
    let words = enrollment_words(request, identity.host_id, &identity.command_key, &identity.sealing_key);
    ensure!(
        is_signed_by_ca(&identity.ca_certificate, &words, signature),
        "the server's CA did not sign the keys that came with the certificate; hint: does somebody stand between \
         this host and the server, is -pubkey another server's, or is the server older than this agent?"
    );
    ensure!(identity.command_key.len() == 32, "the server's command key is not an Ed25519 key");
    if identity.renewal().is_none() {
        bail!("the certificate that the server gave can't be read");
    }
    Ok(())
}

/// A new key (PKCS#8, DER) and the request for its certificate (PKCS#10, DER).
///
/// # Errors
/// Making them failed.
pub fn certificate_request() -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let key = KeyPair::generate().context("making the agent's key")?;
    let request =
        CertificateParams::default().serialize_request(&key).context("making the certificate request")?;
    Ok((key.serialize_der(), request.der().to_vec()))
}

/// The facts as the server takes them.
pub fn wire_facts(facts: &HostFacts) -> WireFacts {
    WireFacts {
        name: facts.name.clone(),
        os: facts.os.clone(),
        kernel: facts.kernel.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        machine_id: facts.machine_id.clone(),
    }
}

/// An answer within a time, its refusals told apart.
async fn with_limit<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Failed> {
    let limit = Duration::from_secs(30);
    let answer = tokio::time::timeout(limit, call)
        .await
        .map_err(|_| Failed::ForNow(anyhow::anyhow!("no answer within {} s", limit.as_secs())))?;
    answer.map(tonic::Response::into_inner).map_err(|status| match status.code() {
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::AlreadyExists => Failed::ForGood(said(&status)),
        _ => Failed::ForNow(said(&status)),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::SigningKey as _;

    use super::*;

    #[test]
    fn only_keys_that_the_tokens_ca_signed_for_this_very_request_are_taken() {
        let ca_key = KeyPair::generate().unwrap();
        let ca = CertificateParams::default().self_signed(&ca_key).unwrap().der().to_vec();
        let token = EnrollmentToken::generate(&ca).to_text();
        let identity = Identity {
            host_id: HostId::from_uuid(Uuid::from_u128(3)),
            // Any certificate will do here that can be read.
            certificate: ca.clone(),
            private_key: Vec::new(),
            ca_certificate: ca,
            sealing_key: vec![4; 400],
            command_key: vec![5; 32],
        };
        let signature = |key: &KeyPair, identity: &Identity| {
            let (command_key, sealing_key) = (&identity.command_key, &identity.sealing_key);
            key.sign(&enrollment_words(b"request", identity.host_id, command_key, sealing_key)).unwrap()
        };
        let good = signature(&ca_key, &identity);
        check(&identity, &token, b"request", &good).expect("it is the server's");

        let refused = |identity: &Identity, request: &[u8], signature: &[u8]| {
            let error = check(identity, &token, request, signature).expect_err("refused").to_string();
            assert!(error.contains("did not sign") && error.contains("hint"), "{error}");
        };
        let swapped = Identity { command_key: vec![6; 32], ..identity.clone() };
        refused(&swapped, b"request", &good);
        // Signed by whoever swapped it.
        refused(&swapped, b"request", &signature(&KeyPair::generate().unwrap(), &swapped));
        refused(&Identity { sealing_key: vec![6; 400], ..identity.clone() }, b"request", &good);
        let other_host = HostId::from_uuid(Uuid::from_u128(4));
        refused(&Identity { host_id: other_host, ..identity.clone() }, b"request", &good);
        refused(&identity, b"another request", &good);
        refused(&identity, b"request", &[]);
    }
}
