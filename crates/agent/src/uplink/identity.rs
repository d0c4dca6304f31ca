//! Who this agent is for the server: host id, certificate, keys.
//!
//! One file, `identity.json` in the state directory, mode 0600, replaced as a
//! whole. What protects the private key there is the file's permission alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event_model::HostId;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::state_file;

/// What enrolment gave, and what it was given for.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// The id that the server drew.
    pub host_id: HostId,
    /// The agent's certificate (DER).
    #[serde(with = "base64_text")]
    pub certificate: Vec<u8>,
    /// Its private key (PKCS#8, DER).
    #[serde(with = "base64_text")]
    pub private_key: Vec<u8>,
    /// The server's CA (DER).
    #[serde(with = "base64_text")]
    pub ca_certificate: Vec<u8>,
    /// The server's RSA key (SubjectPublicKeyInfo, DER).
    #[serde(with = "base64_text")]
    pub sealing_key: Vec<u8>,
    /// The server's Ed25519 key for rules and commands.
    #[serde(with = "base64_text")]
    pub command_key: Vec<u8>,
}

impl Identity {
    /// From the state directory; `None` before enrolment.
    ///
    /// # Errors
    /// The file is there and can't be used.
    pub fn load(state_dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = path_in(state_dir);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("reading {}", path.display()))?,
        };
        let identity = serde_json::from_slice(&text).with_context(|| {
            format!("{} is damaged; hint: delete it and enrol again with a new -token", path.display())
        })?;
        Ok(Some(identity))
    }

    /// Into the state directory.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn store(&self, state_dir: &Path) -> anyhow::Result<()> {
        let path = path_in(state_dir);
        let text = serde_json::to_vec_pretty(self)?;
        state_file::write(&path, &text).with_context(|| format!("writing {}", path.display()))
    }

    /// When the certificate should be renewed (half its life) and when it ends, in seconds since the epoch.
    pub fn renewal(&self) -> Option<(i64, i64)> {
        let (_, certificate) = X509Certificate::from_der(&self.certificate).ok()?;
        let validity = certificate.validity();
        let (start, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Some((start + (end - start) / 2, end))
    }
}

fn path_in(state_dir: &Path) -> PathBuf {
    state_dir.join("identity.json")
}

/// The certificates of `-cert`.
///
/// # Errors
/// The file can't be read or holds none.
pub fn read_certificates(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let certificates: Vec<Vec<u8>> = CertificateDer::pem_file_iter(path)
        .and_then(|items| items.map(|item| item.map(|der| der.to_vec())).collect())
        .with_context(|| format!("-cert {}: no certificate in PEM can be read", path.display()))?;
    ensure!(!certificates.is_empty(), "-cert {}: holds no certificate in PEM", path.display());
    Ok(certificates)
}

/// The RSA key of `-pubkey` as SubjectPublicKeyInfo (DER). Both PEM forms are taken:
/// `PUBLIC KEY` and the older `RSA PUBLIC KEY`.
///
/// # Errors
/// The file can't be read or holds no such key.
pub fn read_public_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    let text = fs::read_to_string(path).with_context(|| format!("-pubkey {}", path.display()))?;
    if let Ok(key) = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()) {
        return Ok(key.to_vec());
    }
    let (begin, end) = ("-----BEGIN RSA PUBLIC KEY-----", "-----END RSA PUBLIC KEY-----");
    let body = text.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map(|(body, _)| body);
    let body = body.with_context(|| {
        format!(
            "-pubkey {}: holds no RSA public key in PEM; hint: the server writes one as server-public.pem",
            path.display()
        )
    })?;
    let compact: String = body.split_whitespace().collect();
    let pkcs1 =
        STANDARD.decode(compact).with_context(|| format!("-pubkey {}: not base64", path.display()))?;
    Ok(subject_public_key_info(&pkcs1))
}

/// Wraps a PKCS#1 key: `SEQUENCE { SEQUENCE { rsaEncryption, NULL }, BIT STRING { key } }` (RFC 8017, A.1).
fn subject_public_key_info(pkcs1: &[u8]) -> Vec<u8> {
    const ALGORITHM: [u8; 15] =
        [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let bits = [&[0], pkcs1].concat();
    let content = [ALGORITHM.to_vec(), der(0x03, &bits)].concat();
    der(0x30, &content)
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    let mut out = vec![tag];
    match (significant, content.len()) {
        ([short], 0..=127) => out.push(*short),
        (long, _) => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

mod base64_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_der() {
        assert_eq!(der(0x30, &[7]), [0x30, 1, 7]);
        assert_eq!(der(0x30, &[0; 200])[..3], [0x30, 0x81, 200]);
        assert_eq!(der(0x03, &[0; 300])[..4], [0x03, 0x82, 1, 44]);
        assert_eq!(der(0x05, &[]), [0x05, 0]);
    }

    #[test]
    fn an_identity_comes_back_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Identity::load(dir.path()).unwrap().is_none());
        let identity = Identity {
            host_id: HostId::from_uuid(uuid::Uuid::from_u128(3)),
            certificate: vec![1],
            private_key: vec![2],
            ca_certificate: vec![3],
            sealing_key: vec![4],
            command_key: vec![5],
        };
        identity.store(dir.path()).unwrap();
        let again = Identity::load(dir.path()).unwrap().unwrap();
        assert_eq!((again.host_id, again.private_key), (identity.host_id, vec![2]));
        fs::write(dir.path().join("identity.json"), "{").unwrap();
        let error = Identity::load(dir.path()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("hint"), "{error}");
    }
}
