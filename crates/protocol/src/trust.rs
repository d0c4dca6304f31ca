//! How an agent makes sure that it talks to its server.
//!
//! Stock verification refuses a self-signed certificate with `CA:TRUE`, which is
//! what every `openssl req -x509` makes and what administrators give to `-cert`;
//! so a given certificate is tried as an anchor and as the server's own. An
//! agent that knows only a token pins the CA by the token's fingerprint.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::enrollment::sha256;

/// What the server's certificate is held against.
#[derive(Debug, Clone)]
pub enum ServerTrust {
    /// These certificates (DER): each a CA, or the server's own.
    Certificates(Vec<Vec<u8>>),
    /// The CA with this SHA-256, which the server sends along; from a token.
    CaFingerprint([u8; 32]),
    /// Nothing: anybody can pose as the server. What the agent sends stays sealed
    /// for the server's RSA key, and what it takes must be signed.
    DangerNoVerification,
}

/// The trust can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{what} can't be used")]
pub struct TrustError {
    what: &'static str,
    #[source]
    source: Error,
}

/// TLS 1.3 with that trust; with `identity` (certificate and PKCS#8 key, DER) the agent shows who it is.
pub fn client_config(
    trust: ServerTrust,
    identity: Option<(Vec<u8>, Vec<u8>)>,
) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = AgentVerifier::new(trust, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| TrustError { what: "TLS 1.3", source })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::Pkcs8(key.into());
            builder
                .with_client_auth_cert(vec![CertificateDer::from(certificate)], key)
                .map_err(|source| TrustError { what: "the agent's certificate and key", source })?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct AgentVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Trust {
    Certificates { anchors: RootCertStore, pinned: Vec<[u8; 32]> },
    CaFingerprint([u8; 32]),
    Nothing,
}

impl AgentVerifier {
    fn new(trust: ServerTrust, provider: &CryptoProvider) -> Result<Self, TrustError> {
        let trust = match trust {
            ServerTrust::Certificates(certificates) => {
                let mut anchors = RootCertStore::empty();
                for certificate in &certificates {
                    anchors
                        .add(CertificateDer::from(certificate.as_slice()))
                        .map_err(|source| TrustError { what: "the given server certificate", source })?;
                }
                let pinned = certificates.iter().map(|certificate| sha256(certificate)).collect();
                Trust::Certificates { anchors, pinned }
            }
            ServerTrust::CaFingerprint(fingerprint) => Trust::CaFingerprint(fingerprint),
            ServerTrust::DangerNoVerification => Trust::Nothing,
        };
        Ok(Self { trust, algorithms: provider.signature_verification_algorithms })
    }

    fn verify_chain(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        anchors: &RootCertStore,
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, anchors, intermediates, now, self.algorithms.all)
    }
}

impl ServerCertVerifier for AgentVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Nothing => return Ok(ServerCertVerified::assertion()),
            Trust::Certificates { pinned, .. } if pinned.contains(&sha256(certificate)) => {
                verify_validity(certificate, now)?;
            }
            Trust::Certificates { anchors, .. } => {
                self.verify_chain(certificate, intermediates, anchors, now)?;
            }
            Trust::CaFingerprint(fingerprint) => {
                let ca = intermediates
                    .iter()
                    .find(|candidate| sha256(candidate) == *fingerprint)
                    .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
                let mut anchors = RootCertStore::empty();
                anchors.add(ca.clone())?;
                self.verify_chain(certificate, intermediates, &anchors, now)?;
            }
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A pinned certificate needs no issuer, but its time counts.
fn verify_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error)))))?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        Err(Error::InvalidCertificate(CertificateError::NotValidYet))
    } else if now > validity.not_after.timestamp() {
        Err(Error::InvalidCertificate(CertificateError::Expired))
    } else {
        Ok(())
    }
}
