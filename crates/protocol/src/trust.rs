//! How an agent makes sure that it talks to its server.
//!
//! Stock verification refuses a self-signed certificate with `CA:TRUE`, which is
//! what every `openssl req -x509` makes and what administrators give to `-cert`;
//! so a given certificate is tried as an anchor and as the server's own. An
//! agent that knows only a token pins the CA by the token's fingerprint.
//!
//! Where the operator gave the server a certificate of another CA, no chain leads from it to
//! ours. The server then sends along a certificate of our CA for the same key, which vouches
//! for it: who shows that he has the key is the server, whoever else certified it.

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
        certificate: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        anchors: &RootCertStore,
        now: UnixTime,
    ) -> Result<(), Error> {
        verify_server_cert_signed_by_trust_anchor(
            certificate,
            anchors,
            intermediates,
            now,
            self.algorithms.all,
        )
    }

    /// By its own chain, or by a certificate of an anchor for the same key.
    fn verify_by(
        &self,
        anchors: &RootCertStore,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let shown = ParsedCertificate::try_from(certificate)?;
        let verify = |certificate: &ParsedCertificate<'_>| {
            self.verify_chain(certificate, intermediates, anchors, now)?;
            verify_server_name(certificate, server_name)
        };
        let Err(error) = verify(&shown) else { return Ok(()) };
        let key = shown.subject_public_key_info();
        let parsed = intermediates.iter().filter_map(|one| ParsedCertificate::try_from(one).ok());
        let mut of_the_same_key = parsed.filter(|one| one.subject_public_key_info() == key);
        if of_the_same_key.any(|one| verify(&one).is_ok()) { Ok(()) } else { Err(error) }
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
                verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)?;
            }
            Trust::Certificates { anchors, .. } => {
                self.verify_by(anchors, certificate, intermediates, server_name, now)?;
            }
            Trust::CaFingerprint(fingerprint) => {
                let ca = intermediates
                    .iter()
                    .find(|candidate| sha256(candidate) == *fingerprint)
                    .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
                let mut anchors = RootCertStore::empty();
                anchors.add(ca.clone())?;
                self.verify_by(&anchors, certificate, intermediates, server_name, now)?;
            }
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
        KeyUsagePurpose,
    };

    use super::*;

    struct Ca {
        der: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    fn ca(name: &str) -> Ca {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Ca { der, issuer: Issuer::new(params, key) }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        params
    }

    fn issued(by: &Ca, key: &KeyPair, name: &str) -> CertificateDer<'static> {
        params(name).signed_by(key, &by.issuer).unwrap().der().clone()
    }

    /// What `openssl req -x509` makes.
    fn self_signed(key: &KeyPair, name: &str) -> CertificateDer<'static> {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(key).unwrap().der().clone()
    }

    /// In the midst of 2026.
    fn summer() -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(1_782_864_000))
    }

    fn verify(
        trust: ServerTrust,
        chain: &[CertificateDer<'static>],
        name: &str,
        now: UnixTime,
    ) -> Result<(), Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let verifier = AgentVerifier::new(trust, &provider).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now).map(|_| ())
    }

    /// By the token, and by what enrolment leaves.
    fn both(ca: &Ca) -> [ServerTrust; 2] {
        [ServerTrust::CaFingerprint(sha256(&ca.der)), ServerTrust::Certificates(vec![ca.der.to_vec()])]
    }

    fn is_refused(result: &Result<(), Error>) -> bool {
        matches!(result, Err(Error::InvalidCertificate(_)))
    }

    #[test]
    fn a_certificate_of_our_ca_is_good_for_its_name_and_its_time() {
        let (ours, key) = (ca("ours"), KeyPair::generate().unwrap());
        let chain = [issued(&ours, &key, "edr.example.org"), ours.der.clone()];
        let years_later = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
        for trust in both(&ours) {
            assert_eq!(verify(trust.clone(), &chain, "edr.example.org", summer()), Ok(()));
            assert!(is_refused(&verify(trust.clone(), &chain, "other.example.org", summer())));
            assert!(is_refused(&verify(trust, &chain, "edr.example.org", years_later)));
        }
    }

    #[test]
    fn a_certificate_of_another_ca_is_refused_also_with_ours_sent_along() {
        let (ours, other, key) = (ca("ours"), ca("other"), KeyPair::generate().unwrap());
        let leaf = issued(&other, &key, "edr.example.org");
        for trust in both(&ours) {
            for chain in [vec![leaf.clone(), other.der.clone()], vec![leaf.clone(), ours.der.clone()]] {
                assert!(is_refused(&verify(trust.clone(), &chain, "edr.example.org", summer())));
            }
        }
        // A CA of the same name is another one all the same.
        let namesake = ca("ours");
        let chain = [issued(&namesake, &key, "edr.example.org"), ours.der.clone(), namesake.der.clone()];
        for trust in both(&ours) {
            assert!(is_refused(&verify(trust, &chain, "edr.example.org", summer())));
        }
    }

    #[test]
    fn the_token_alone_needs_the_ca_to_be_sent_along() {
        let (ours, key) = (ca("ours"), KeyPair::generate().unwrap());
        let leaf = issued(&ours, &key, "edr.example.org");
        let [by_token, by_certificate] = both(&ours);
        assert!(is_refused(&verify(by_token, std::slice::from_ref(&leaf), "edr.example.org", summer())));
        assert_eq!(verify(by_certificate, &[leaf], "edr.example.org", summer()), Ok(()));
    }

    #[test]
    fn a_pinned_certificate_needs_no_issuer_but_its_name_and_its_time() {
        let key = KeyPair::generate().unwrap();
        let leaf = self_signed(&key, "edr.example.org");
        let pin = ServerTrust::Certificates(vec![leaf.to_vec()]);
        let chain = [leaf];
        assert_eq!(verify(pin.clone(), &chain, "edr.example.org", summer()), Ok(()));
        assert!(is_refused(&verify(pin.clone(), &chain, "other.example.org", summer())));
        for wrong in [1_600_000_000, 1_900_000_000] {
            let then = UnixTime::since_unix_epoch(Duration::from_secs(wrong));
            assert!(is_refused(&verify(pin.clone(), &chain, "edr.example.org", then)), "{wrong}");
        }
        let other = self_signed(&key, "edr.example.org");
        assert!(is_refused(&verify(pin, &[other], "edr.example.org", summer())), "it is not that one");
    }

    #[test]
    fn our_ca_vouches_for_the_key_of_a_certificate_of_another() {
        let (ours, key) = (ca("ours"), KeyPair::generate().unwrap());
        let voucher = issued(&ours, &key, "edr.example.org");
        let public = ca("public");
        for leaf in [self_signed(&key, "console.example.org"), issued(&public, &key, "console.example.org")] {
            let chain = [leaf, public.der.clone(), voucher.clone(), ours.der.clone()];
            for trust in both(&ours) {
                assert_eq!(verify(trust.clone(), &chain, "edr.example.org", summer()), Ok(()));
                // It is the voucher's names that are ours to give.
                assert!(is_refused(&verify(trust, &chain, "console.example.org", summer())));
            }
        }
    }

    #[test]
    fn a_voucher_for_another_key_or_of_an_agent_vouches_for_nothing() {
        let (ours, key) = (ca("ours"), KeyPair::generate().unwrap());
        let leaf = self_signed(&key, "edr.example.org");
        // Anybody can send along the server's true certificate, and has not its key.
        let of_another_key = issued(&ours, &KeyPair::generate().unwrap(), "edr.example.org");
        let mut agents = params("edr.example.org");
        agents.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let agents = agents.signed_by(&key, &ours.issuer).unwrap().der().clone();
        for voucher in [of_another_key, agents] {
            let chain = [leaf.clone(), voucher, ours.der.clone()];
            for trust in both(&ours) {
                assert!(is_refused(&verify(trust, &chain, "edr.example.org", summer())));
            }
        }
    }
}
