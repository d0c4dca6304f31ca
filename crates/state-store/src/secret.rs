//! Secrets, and what is kept of them.
//!
//! Tokens and session ids have 256 random bits, so a plain SHA-256 of them can't
//! be reversed by guessing. Passwords are chosen by people, so they are kept as
//! Argon2id with the parameters that OWASP recommends (19 MiB, 2 passes, 1 lane).

use std::fmt;

use argon2::password_hash::{Encoding, PasswordHasher, PasswordVerifier, Salt, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// SHA-256 of a secret: all that is kept of tokens and session ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// Of the text that its owner shows: a session id or an API token.
    pub fn of(secret: &str) -> Self {
        Self(sha256(secret.as_bytes()))
    }

    /// Of an enrolment token. What follows the dot pins the CA for the agent and
    /// is no part of the secret, so it makes no difference whether it is sent.
    pub fn of_enrollment_token(token: &str) -> Self {
        Self::of(token.split_once('.').map_or(token, |(secret, _)| secret))
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to tell two apart in a log, too little to search a database with.
        write!(f, "SecretDigest({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// A new secret, in the moment between drawing it and handing it out.
#[derive(Clone)]
pub struct Token {
    text: String,
}

impl Token {
    /// An enrolment token: `rampart-<base64url of 32 random bytes>.<SHA-256 of the
    /// CA certificate's DER in hex>`. The second half lets an agent that has never
    /// seen the server tell it from an impostor.
    pub fn for_enrollment(ca_certificate_der: &[u8]) -> Result<Self, PasswordError> {
        let pin = hex(&sha256(ca_certificate_der));
        Ok(Self { text: format!("rampart-{}.{pin}", random_text::<32>()?) })
    }

    /// An API token: `rampart-api-<base64url of 32 random bytes>`.
    pub fn for_api() -> Result<Self, PasswordError> {
        Ok(Self { text: format!("rampart-api-{}", random_text::<32>()?) })
    }

    /// A session id.
    pub fn for_session() -> Result<Self, PasswordError> {
        Ok(Self { text: random_text::<32>()? })
    }

    /// The text to hand out, once.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the store keeps.
    pub fn digest(&self) -> SecretDigest {
        // Only enrolment tokens have a dot.
        SecretDigest::of_enrollment_token(&self.text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A password for one sign-in: 120 random bits, short enough to type.
pub fn one_time_password() -> Result<String, PasswordError> {
    random_text::<15>()
}

/// The Argon2id hash of a password, in PHC form (`$argon2id$v=19$m=19456,t=2,p=1$…`).
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

/// A password could not be hashed or read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// The system's source of random numbers failed.
    #[error("the system's source of random numbers failed")]
    NoRandomness,
    /// Argon2 refused the input.
    #[error("the password can't be hashed: {0}")]
    Hashing(String),
}

impl PasswordHash {
    /// Hashes a password with a new salt. Takes some 20 ms of CPU and 19 MiB on
    /// purpose; call it from a blocking thread, and not without a bound on how
    /// many at once.
    pub fn of(password: &str) -> Result<Self, PasswordError> {
        let mut salt = [0; Salt::RECOMMENDED_LENGTH];
        rand::fill(&mut salt).map_err(|_| PasswordError::NoRandomness)?;
        let salt = SaltString::from_b64(&STANDARD_NO_PAD.encode(salt)).map_err(refused)?;
        let hash = hasher()?.hash_password(password.as_bytes(), &salt).map_err(refused)?;
        Ok(Self(hash.to_string()))
    }

    /// True if the hash is of this password. A hash that can't be read is of none.
    /// Takes as long as [`PasswordHash::of`].
    pub fn verify(&self, password: &str) -> bool {
        let Ok(hash) = argon2::PasswordHash::parse(&self.0, Encoding::B64) else { return false };
        // The parameters are those in the hash, so that older hashes go on working.
        Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
    }

    /// From its PHC text, as the store keeps it.
    pub fn from_phc(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its PHC text.
    pub fn as_phc(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

fn hasher() -> Result<Argon2<'static>, PasswordError> {
    let params =
        Params::new(19_456, 2, 1, None).map_err(|error| PasswordError::Hashing(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn refused(error: argon2::password_hash::Error) -> PasswordError {
    PasswordError::Hashing(error.to_string())
}

fn random_text<const BYTES: usize>() -> Result<String, PasswordError> {
    let mut bytes = [0; BYTES];
    rand::fill(&mut bytes).map_err(|_| PasswordError::NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_no_other_is() {
        let hash = PasswordHash::of("correct horse").unwrap();
        assert!(hash.as_phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_phc());
        assert!(hash.verify("correct horse"));
        assert!(!hash.verify("correct horse "));
        assert_ne!(hash, PasswordHash::of("correct horse").unwrap(), "each hash has its own salt");
        assert!(!PasswordHash::from_phc("$argon2id$nonsense").verify("x"));
        assert!(!PasswordHash::from_phc("").verify(""));
    }

    #[test]
    fn an_enrolment_token_pins_the_ca_and_is_known_with_or_without_the_pin() {
        let token = Token::for_enrollment(b"certificate").unwrap();
        let (secret, pin) = token.as_str().split_once('.').unwrap();
        assert_eq!(pin.len(), 64);
        assert_eq!(secret.len(), "rampart-".len() + 43);
        assert_eq!(SecretDigest::of_enrollment_token(secret), token.digest());
        assert_eq!(SecretDigest::of_enrollment_token(token.as_str()), token.digest());
        assert_ne!(token.digest(), Token::for_enrollment(b"certificate").unwrap().digest());
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let token = Token::for_api().unwrap();
        assert!(!format!("{token:?}").contains(&token.as_str()[12..20]));
        assert_eq!(format!("{:?}", PasswordHash::from_phc("$secret")), "PasswordHash(…)");
    }
}
