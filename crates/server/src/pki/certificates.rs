//! Making and reading certificates.

use std::net::IpAddr;
use std::time::Duration;

use event_model::{HostId, Timestamp};
use protocol::enrollment::{agent_uri, sha256, to_hex};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

use super::error::PkiError;
use crate::config::Config;
use crate::host_system;

/// The CA's certificate is what every agent trusts; it lives with the installation.
const CA_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Browsers take no more than 398 days.
const SERVER_LIFE: Duration = Duration::from_secs(397 * 24 * 3600);
/// Made anew at a start that finds less than this left.
const SERVER_RENEWAL: Duration = Duration::from_secs(60 * 24 * 3600);
/// An agent renews at half its life.
const AGENT_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Clocks that are behind by less still take a new certificate.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3600);

/// An agent's new certificate.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) der: Vec<u8>,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) expires_at: Timestamp,
}

/// What a certificate says.
#[derive(Debug, Clone)]
pub struct CertificateFacts {
    /// Subject.
    pub subject: String,
    /// Names and addresses.
    pub sans: Vec<String>,
    /// Start.
    pub not_before: Timestamp,
    /// End.
    pub not_after: Timestamp,
    /// SHA-256 of the DER in hex.
    pub sha256: String,
}

fn failed(what: &'static str) -> impl Fn(rcgen::Error) -> PkiError {
    move |source| PkiError::Make { what, reason: source.to_string() }
}

/// Parameters with subject, serial number and span; the start is a day back, for clocks that are behind.
fn params(common_name: &str, now: Timestamp, life: Duration) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since_epoch = Duration::from_secs(u64::try_from(now.as_nanos() / 1_000_000_000).unwrap_or(0));
    params.not_before = epoch + since_epoch.saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + since_epoch + life;
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial)
        .map_err(|_| PkiError::Make { what: "a serial number", reason: "no random numbers".to_owned() })?;
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

pub(super) fn make_ca(key: &KeyPair, now: Timestamp) -> Result<CertificateDer<'static>, PkiError> {
    let mut params = params("Rampart CA", now, CA_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = params.self_signed(key).map_err(failed("the CA's certificate"))?;
    Ok(ca.der().clone())
}

/// Every name under which this server may be called.
pub(super) fn server_names(config: &Config) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(host_system::host_name().map(|name| name.to_ascii_lowercase()));
    names.extend(host_system::addresses().iter().map(ToString::to_string));
    names.extend(
        config
            .addresses
            .iter()
            .map(|address| address.ip())
            .filter(|ip| !ip.is_unspecified())
            .map(|ip| ip.to_string()),
    );
    names.extend(config.public_names.iter().cloned());
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

pub(super) fn make_server_certificate(
    issuer: &Issuer<'static, KeyPair>,
    key: &PrivateKeyDer<'static>,
    names: &[String],
    now: Timestamp,
) -> Result<CertificateDer<'static>, PkiError> {
    let key = KeyPair::try_from(key).map_err(failed("the server's certificate"))?;
    server_certificate(issuer, &key, names, now)
}

/// A certificate of our CA for the key of one that is not: agents, who know our CA alone, take
/// it for the server's word. It is good for the names of both.
pub(super) fn vouch_for(
    issuer: &Issuer<'static, KeyPair>,
    certificate: &CertificateDer<'_>,
    names: Vec<String>,
    now: Timestamp,
) -> Result<CertificateDer<'static>, PkiError> {
    const WHAT: &str = "the CA's certificate for the key of -cert";
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| PkiError::Make { what: WHAT, reason: error.to_string() })?;
    let key = SubjectPublicKeyInfo::from_der(parsed.public_key().raw).map_err(failed(WHAT))?;
    let mut all = names;
    // An URI is no name that a server is called by.
    all.extend(
        sans(&parsed).into_iter().filter(|name| !name.contains(':') || name.parse::<IpAddr>().is_ok()),
    );
    let mut seen = std::collections::HashSet::new();
    all.retain(|name| seen.insert(name.clone()));
    server_certificate(issuer, &key, &all, now)
}

fn server_certificate(
    issuer: &Issuer<'static, KeyPair>,
    key: &impl PublicKeyData,
    names: &[String],
    now: Timestamp,
) -> Result<CertificateDer<'static>, PkiError> {
    let mut params = params("Rampart server", now, SERVER_LIFE)?;
    for name in names {
        let san = match name.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => match name.as_str().try_into() {
                Ok(name) => SanType::DnsName(name),
                Err(_) => {
                    let reason = format!("`{name}` is not a host name or address");
                    return Err(PkiError::Make { what: "the server's certificate", reason });
                }
            },
        };
        params.subject_alt_names.push(san);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let made = params.signed_by(key, issuer).map_err(failed("the server's certificate"))?;
    Ok(made.der().clone())
}

/// Whether a kept certificate can be used on: our CA's, for this key and all names, its end not near.
pub(super) fn is_still_good(
    kept: &CertificateDer<'_>,
    ca: &CertificateDer<'_>,
    key: &PrivateKeyDer<'static>,
    names: &[String],
    now: Timestamp,
) -> bool {
    let (Ok((_, parsed)), Ok((_, ca)), Ok(key)) =
        (X509Certificate::from_der(kept), X509Certificate::from_der(ca), KeyPair::try_from(key))
    else {
        return false;
    };
    let known = sans(&parsed);
    let seconds = now.as_nanos() / 1_000_000_000;
    let renewal = i64::try_from(SERVER_RENEWAL.as_secs()).unwrap_or(i64::MAX);
    parsed.verify_signature(Some(ca.public_key())).is_ok()
        && parsed.public_key().raw == key.subject_public_key_info().as_slice()
        && names.iter().all(|name| known.contains(name))
        && parsed.validity().not_before.timestamp() <= seconds
        && parsed.validity().not_after.timestamp() - seconds > renewal
}

pub(super) fn issue_for_agent(
    issuer: &Issuer<'static, KeyPair>,
    request: &[u8],
    host: HostId,
    now: Timestamp,
) -> Result<Issued, PkiError> {
    let request = CertificateSigningRequestDer::from(request);
    let request = CertificateSigningRequestParams::from_der(&request).map_err(|_| PkiError::BadRequest)?;
    let mut params = params(&host.to_string(), now, AGENT_LIFE)?;
    let uri = agent_uri(host).try_into().map_err(failed("an agent's certificate"))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let made = params.signed_by(&request.public_key, issuer).map_err(failed("an agent's certificate"))?;
    let der = made.der().to_vec();
    let life = i64::try_from(AGENT_LIFE.as_nanos()).unwrap_or(i64::MAX);
    let expires_at = Timestamp::from_nanos(now.as_nanos().saturating_add(life));
    Ok(Issued { fingerprint: sha256(&der), der, expires_at })
}

pub(super) fn facts_of(certificate: &CertificateDer<'_>) -> Result<CertificateFacts, PkiError> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| PkiError::Unusable { path: "certificate".into(), reason: error.to_string() })?;
    let time = |seconds: i64| Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000));
    Ok(CertificateFacts {
        subject: parsed.subject().to_string(),
        sans: sans(&parsed),
        not_before: time(parsed.validity().not_before.timestamp()),
        not_after: time(parsed.validity().not_after.timestamp()),
        sha256: to_hex(&sha256(certificate)),
    })
}

fn sans(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extensions = certificate.extensions().iter();
    let names = extensions.filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let text = names.flatten().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(IpAddr::from(v4).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(|v6| IpAddr::from(v6).to_string()),
        },
        _ => None,
    });
    text.collect()
}

/// Length of an RSA key (SubjectPublicKeyInfo, DER).
pub(super) fn rsa_bits(public_key: &[u8]) -> u32 {
    let parsed = aws_lc_rs::rsa::PublicEncryptingKey::from_der(public_key);
    parsed.map_or(0, |key| u32::try_from(key.key_size_bits()).unwrap_or(0))
}
