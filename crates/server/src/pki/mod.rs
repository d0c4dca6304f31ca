//! The server's keys and certificates.
//!
//! The first start makes what is not there, in the folder of the database:
//!
//! - a CA (P-256, ten years) that signs the server's and all agents' certificates;
//! - the TLS certificate, made anew when its names change or its end is near;
//! - an RSA-3072 key that opens agents' batches;
//! - an Ed25519 key that signs rule bundles.
//!
//! Private keys are files of mode 0600; one that others can read is refused. A
//! key is written before the certificate that names it, so that after a crash the
//! next start goes on where this one ended.

mod certificates;
mod error;
mod files;

use std::fmt;
use std::path::Path;

use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use aws_lc_rs::signature::Ed25519KeyPair;
use event_model::{HostId, Timestamp};
use protocol::enrollment::{enrollment_words, sha256, to_hex};
use protocol::envelope::{Opener, public_sealing_key};
use rcgen::{Issuer, KeyPair, SigningKey as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub use certificates::CertificateFacts;
pub(crate) use certificates::Issued;
pub use error::PkiError;

use crate::config::Config;

/// Keys and certificates, loaded.
pub struct Pki {
    issuer: Issuer<'static, KeyPair>,
    /// The CA's certificate.
    pub ca: CertificateDer<'static>,
    /// The server's certificate, then what stands between it and its root.
    pub tls_chain: Vec<CertificateDer<'static>>,
    tls_key: PrivateKeyDer<'static>,
    /// Opens batches.
    pub opener: Opener,
    /// The public half of the key that opens batches (SubjectPublicKeyInfo, DER).
    pub sealing_key: Vec<u8>,
    /// Signs rule bundles.
    pub command_key: Ed25519KeyPair,
}

impl fmt::Debug for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki").finish_non_exhaustive()
    }
}

impl Pki {
    /// Loads what is there and makes what is not.
    ///
    /// # Errors
    /// [`PkiError`] for a file that can't be read, written, used or trusted.
    pub fn load_or_make(config: &Config, now: Timestamp) -> Result<Self, PkiError> {
        let folder = config.key_folder();
        std::fs::create_dir_all(&folder)
            .map_err(|source| PkiError::Write { path: folder.clone(), source })?;
        let ca_file = folder.join("ca.pem");
        // Before the CA, so that a first start that was cut short goes on where it ended.
        let command_key = load_or_make_command_key(&folder.join("command-key.pem"), &ca_file)?;
        let ca_key = load_or_make_ec_key(&folder.join("ca-key.pem"), &ca_file)?;
        let ca = match files::read_certificates(&ca_file)? {
            Some(mut chain) => chain.remove(0),
            None => {
                let ca = certificates::make_ca(&ca_key, now)?;
                files::write_certificate(&ca_file, &ca)?;
                ca
            }
        };
        let issuer = Issuer::from_ca_cert_der(&ca, ca_key)
            .map_err(|source| PkiError::Unusable { path: ca_file, reason: source.to_string() })?;
        let (tls_chain, tls_key) = match &config.tls_files {
            Some((certificate, key)) => {
                let (mut chain, key) = own_tls_files(certificate, key)?;
                let names = certificates::server_names(config);
                match chain.first().map(|shown| certificates::vouch_for(&issuer, shown, names, now)) {
                    // Browsers pass over certificates that lead nowhere for them.
                    Some(Ok(voucher)) => chain.extend([voucher, ca.clone()]),
                    Some(Err(error)) => tracing::warn!(
                        %error,
                        "agents can't make sure of this server by a token alone; hint: give them the file of -cert with -cert"
                    ),
                    None => {}
                }
                (chain, key)
            }
            None => made_tls_files(&folder, config, &issuer, &ca, now)?,
        };
        let private_key = match &config.private_key_file {
            Some(path) => files::read_rsa_key(path)?.ok_or_else(|| PkiError::Missing {
                path: path.clone(),
                hint: "-privkey names a file that is not there",
            })?,
            None => load_or_make_rsa_key(&folder)?,
        };
        let unusable = |reason: String| PkiError::Unusable {
            path: config.private_key_file.clone().unwrap_or_else(|| folder.join("server-private.pem")),
            reason,
        };
        let opener = Opener::new(&private_key).map_err(|error| unusable(error.to_string()))?;
        let sealing_key = public_sealing_key(&private_key).map_err(|error| unusable(error.to_string()))?;
        if config.private_key_file.is_none() {
            files::write_if_different(&folder.join("server-public.pem"), "PUBLIC KEY", &sealing_key)?;
        }
        Ok(Self { issuer, ca, tls_chain, tls_key, opener, sealing_key, command_key })
    }

    /// A copy of the TLS key, for the listener.
    pub(crate) fn tls_key(&self) -> PrivateKeyDer<'static> {
        self.tls_key.clone_key()
    }

    /// A certificate for the key of an agent's request. Of the request only the
    /// key is taken: who the agent is, is the server's word.
    ///
    /// # Errors
    /// [`PkiError::BadRequest`] if the request is malformed or not signed by its key.
    pub(crate) fn issue_agent_certificate(
        &self,
        request: &[u8],
        host: HostId,
        now: Timestamp,
    ) -> Result<Issued, PkiError> {
        certificates::issue_for_agent(&self.issuer, request, host, now)
    }

    /// The CA's word on a reply to an enrolment: the keys that come with it are this server's.
    ///
    /// # Errors
    /// [`PkiError::Make`] if the cryptographic library fails.
    pub(crate) fn sign_enrollment(&self, request: &[u8], host: HostId) -> Result<Vec<u8>, PkiError> {
        let command_key = protocol::bundle::public_command_key(&self.command_key);
        let keys = enrollment_words(request, host, &command_key, &self.sealing_key);
        self.issuer.key().sign(&keys).map_err(|source| PkiError::Make {
            what: "the signature of an enrolment",
            reason: source.to_string(),
        })
    }

    /// What may be shown of it.
    ///
    /// # Errors
    /// [`PkiError::Unusable`] if a certificate can't be read back.
    pub fn facts(&self) -> Result<PkiFacts, PkiError> {
        let own = self.tls_chain.first().unwrap_or(&self.ca);
        Ok(PkiFacts {
            ca: certificates::facts_of(&self.ca)?,
            tls: certificates::facts_of(own)?,
            sealing_key_bits: certificates::rsa_bits(&self.sealing_key),
            sealing_key_sha256: to_hex(&sha256(&self.sealing_key)),
            sealing_key_pem: files::pem_text("PUBLIC KEY", &self.sealing_key),
            command_key_sha256: to_hex(&sha256(&protocol::bundle::public_command_key(&self.command_key))),
        })
    }
}

/// The public part of keys and certificates.
#[derive(Debug, Clone)]
pub struct PkiFacts {
    /// The CA.
    pub ca: CertificateFacts,
    /// The certificate of the address.
    pub tls: CertificateFacts,
    /// Length of the RSA key.
    pub sealing_key_bits: u32,
    /// SHA-256 of its SubjectPublicKeyInfo in hex.
    pub sealing_key_sha256: String,
    /// It in PEM.
    pub sealing_key_pem: String,
    /// SHA-256 of the Ed25519 public key in hex.
    pub command_key_sha256: String,
}

fn load_or_make_ec_key(key_file: &Path, certificate_file: &Path) -> Result<KeyPair, PkiError> {
    if let Some(key) = files::read_private_key(key_file)? {
        let unusable = |source: rcgen::Error| PkiError::Unusable {
            path: key_file.to_owned(),
            reason: source.to_string(),
        };
        let PrivateKeyDer::Pkcs8(key) = key else {
            return Err(PkiError::Unusable { path: key_file.to_owned(), reason: "not PKCS#8".to_owned() });
        };
        return KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ECDSA_P256_SHA256).map_err(unusable);
    }
    if certificate_file.exists() {
        return Err(PkiError::Missing {
            path: key_file.to_owned(),
            hint: "its certificate is there; restore the key from a backup (a new CA would lock every agent out)",
        });
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|source| PkiError::Make { what: "a P-256 key", reason: source.to_string() })?;
    files::write_private_key(key_file, key.serialized_der())?;
    Ok(key)
}

type TlsFiles = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn own_tls_files(certificate: &Path, key: &Path) -> Result<TlsFiles, PkiError> {
    let chain = files::read_certificates(certificate)?.ok_or_else(|| PkiError::Missing {
        path: certificate.to_owned(),
        hint: "-cert names a file that is not there",
    })?;
    let key = files::read_private_key(key)?.ok_or_else(|| PkiError::Missing {
        path: key.to_owned(),
        hint: "-key names a file that is not there",
    })?;
    Ok((chain, key))
}

fn made_tls_files(
    folder: &Path,
    config: &Config,
    issuer: &Issuer<'static, KeyPair>,
    ca: &CertificateDer<'static>,
    now: Timestamp,
) -> Result<TlsFiles, PkiError> {
    let key_file = folder.join("server-key.pem");
    let certificate_file = folder.join("server-cert.pem");
    let key = match files::read_private_key(&key_file)? {
        Some(key) => key,
        None => {
            let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
                .map_err(|source| PkiError::Make { what: "a P-256 key", reason: source.to_string() })?;
            files::write_private_key(&key_file, key.serialized_der())?;
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialized_der().to_vec()))
        }
    };
    let names = certificates::server_names(config);
    let kept = files::read_certificates(&certificate_file)?
        .map(|mut chain| chain.remove(0))
        .filter(|kept| certificates::is_still_good(kept, ca, &key, &names, now));
    let certificate = match kept {
        Some(certificate) => certificate,
        None => {
            let made = certificates::make_server_certificate(issuer, &key, &names, now)?;
            files::write_certificate(&certificate_file, &made)?;
            made
        }
    };
    // An agent that knows no more than the CA's fingerprint needs the CA's certificate too.
    Ok((vec![certificate, ca.clone()], key))
}

fn load_or_make_rsa_key(folder: &Path) -> Result<Vec<u8>, PkiError> {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    let path = folder.join("server-private.pem");
    if let Some(key) = files::read_rsa_key(&path)? {
        return Ok(key);
    }
    let failed =
        |_| PkiError::Make { what: "an RSA key", reason: "the cryptographic library failed".to_owned() };
    let key = PrivateDecryptingKey::generate(KeySize::Rsa3072).map_err(failed)?;
    let der: Pkcs8V1Der<'_> = key.as_der().map_err(failed)?;
    files::write_private_key(&path, der.as_ref())?;
    Ok(der.as_ref().to_vec())
}

fn load_or_make_command_key(path: &Path, ca_file: &Path) -> Result<Ed25519KeyPair, PkiError> {
    if let Some(key) = files::read_private_key(path)? {
        return Ed25519KeyPair::from_pkcs8(key.secret_der())
            .map_err(|error| PkiError::Unusable { path: path.to_owned(), reason: error.to_string() });
    }
    if ca_file.exists() {
        return Err(PkiError::Missing {
            path: path.to_owned(),
            hint: "there is a CA, so agents may be enrolled, and they take no rules signed with a new key; \
                   restore the key from a backup (without one: move ca.pem and ca-key.pem away too and \
                   enrol every host again)",
        });
    }
    let failed =
        |_| PkiError::Make { what: "an Ed25519 key", reason: "the cryptographic library failed".to_owned() };
    let key = Ed25519KeyPair::generate().map_err(failed)?;
    files::write_private_key(path, key.to_pkcs8().map_err(failed)?.as_ref())?;
    Ok(key)
}

#[cfg(test)]
mod tests;
