//! Tokens for enrolment, and who a certificate speaks for.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use event_model::HostId;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};
use zeroize::Zeroizing;

const PREFIX: &str = "rampart-";

/// A one-time token: a secret, and the fingerprint of the server's CA, so that
/// an agent that knows nothing but the token can make sure of the server.
///
/// Text: `rampart-<secret, 32 bytes in base64url>.<SHA-256 of the CA certificate in hex>`.
#[derive(Clone)]
pub struct EnrollmentToken {
    secret: Zeroizing<[u8; 32]>,
    ca_sha256: [u8; 32],
}

/// The text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not an enrolment token; one looks like `rampart-<43 characters>.<64 hex digits>`")]
pub struct ParseTokenError;

impl EnrollmentToken {
    /// A new token for the server with that CA certificate (DER).
    pub fn generate(ca_certificate: &[u8]) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(secret.as_mut_slice()).expect("the system's random source works");
        Self { secret, ca_sha256: sha256(ca_certificate) }
    }

    /// From its text.
    pub fn parse(text: &str) -> Result<Self, ParseTokenError> {
        let (secret, fingerprint) =
            text.trim().strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')).ok_or(ParseTokenError)?;
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).map_err(|_| ParseTokenError)?);
        Ok(Self {
            secret: Zeroizing::new(secret.as_slice().try_into().map_err(|_| ParseTokenError)?),
            ca_sha256: from_hex(fingerprint).ok_or(ParseTokenError)?,
        })
    }

    /// Its text, which is a secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let secret = URL_SAFE_NO_PAD.encode(self.secret.as_slice());
        Zeroizing::new(format!("{PREFIX}{secret}.{}", to_hex(&self.ca_sha256)))
    }

    /// SHA-256 of the server's CA certificate.
    pub fn ca_sha256(&self) -> [u8; 32] {
        self.ca_sha256
    }
}

impl fmt::Debug for EnrollmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollmentToken").field("ca_sha256", &to_hex(&self.ca_sha256)).finish_non_exhaustive()
    }
}

const REPLY_DOMAIN: &[u8] = b"rampart enrolment v1\0";

/// What the CA signs of an enrolment: the agent's request for a certificate (new for each try, so
/// that no reply fits another), as which host, and the server's keys for commands and for sealing.
pub fn enrollment_words(
    certificate_request: &[u8],
    host: HostId,
    command_key: &[u8],
    sealing_key: &[u8],
) -> Vec<u8> {
    // Of known lengths, so that nothing can be moved from one part into the next.
    let (request, command_key, sealing_key) =
        (sha256(certificate_request), sha256(command_key), sha256(sealing_key));
    [REPLY_DOMAIN, &request, host.as_bytes(), &command_key, &sealing_key].concat()
}

/// Whether the CA (its certificate, DER) signed these words.
pub fn is_signed_by_ca(ca_certificate: &[u8], words: &[u8], signature: &[u8]) -> bool {
    let Ok((_, ca)) = X509Certificate::from_der(ca_certificate) else { return false };
    let key = &ca.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(words, signature).is_ok()
}

/// The SAN URI of an agent's certificate.
pub fn agent_uri(host: HostId) -> String {
    format!("edr://agent/{host}")
}

/// The host that a client certificate (DER) speaks for. The certificate must
/// have been verified against the CA before.
pub fn host_of_certificate(certificate: &[u8]) -> Option<HostId> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    certificate.extensions().iter().find_map(|extension| {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            return None;
        };
        names.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("edr://agent/")?.parse().ok(),
            _ => None,
        })
    })
}

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Lower-case hex.
pub fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        let digit = |character: u8| char::from(character).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_text_round_trips_and_damage_is_refused() {
        let token = EnrollmentToken::generate(b"a certificate");
        let text = token.to_text();
        let again = EnrollmentToken::parse(&text).expect("our own text");
        assert_eq!(again.to_text(), text);
        assert_eq!(again.ca_sha256(), sha256(b"a certificate"));
        assert!(!format!("{token:?}").contains(&text[8..40]), "the secret must not be printed");
        for damaged in ["", "rampart-", "rampart-x.y", &text[..text.len() - 1], &text[1..]] {
            assert!(EnrollmentToken::parse(damaged).is_err(), "{damaged}");
        }
    }
}
