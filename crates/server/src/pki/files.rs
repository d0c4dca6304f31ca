//! PEM files.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::error::PkiError;
use crate::host_system::{Readers, others_can_read, write_atomically};

/// The certificates of a file, at least one; `None` where there is no file.
pub(super) fn read_certificates(path: &Path) -> Result<Option<Vec<CertificateDer<'static>>>, PkiError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates
        .map_err(|error| PkiError::Unusable { path: path.to_owned(), reason: format!("not PEM: {error}") })?;
    if certificates.is_empty() {
        return Err(PkiError::Unusable { path: path.to_owned(), reason: "no certificate in it".to_owned() });
    }
    Ok(Some(certificates))
}

/// The first private key of a file; `None` where there is no file.
pub(super) fn read_private_key(path: &Path) -> Result<Option<PrivateKeyDer<'static>>, PkiError> {
    let Some(text) = read(path)? else { return Ok(None) };
    if others_can_read(path).map_err(|source| PkiError::Read { path: path.to_owned(), source })? {
        return Err(PkiError::Exposed { path: path.to_owned() });
    }
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| PkiError::Unusable {
        path: path.to_owned(),
        reason: format!("no private key in PEM: {error}"),
    })?;
    Ok(Some(key))
}

/// An RSA key as PKCS#8; files may also hold PKCS#1 (`RSA PRIVATE KEY`).
pub(super) fn read_rsa_key(path: &Path) -> Result<Option<Vec<u8>>, PkiError> {
    Ok(match read_private_key(path)? {
        None => None,
        Some(PrivateKeyDer::Pkcs8(key)) => Some(key.secret_pkcs8_der().to_vec()),
        Some(PrivateKeyDer::Pkcs1(key)) => Some(pkcs8_of_pkcs1(key.secret_pkcs1_der())),
        Some(_) => {
            return Err(PkiError::Unusable { path: path.to_owned(), reason: "not an RSA key".to_owned() });
        }
    })
}

/// Wraps an RSAPrivateKey (RFC 8017) into a PrivateKeyInfo (RFC 5208).
fn pkcs8_of_pkcs1(key: &[u8]) -> Vec<u8> {
    // Version 0, and the algorithm rsaEncryption with its NULL.
    let head = [
        0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05,
        0x00,
    ];
    let inner = [head.as_slice(), &der(0x04, key)].concat();
    der(0x30, &inner)
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    let mut out = vec![tag];
    match significant {
        [short] if *short < 0x80 => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

/// Writes a private key in PKCS#8, for its owner alone.
pub(super) fn write_private_key(path: &Path, pkcs8: &[u8]) -> Result<(), PkiError> {
    write(path, &pem_text("PRIVATE KEY", pkcs8), Readers::Owner)
}

/// Writes a certificate.
pub(super) fn write_certificate(path: &Path, der: &[u8]) -> Result<(), PkiError> {
    write(path, &pem_text("CERTIFICATE", der), Readers::Everybody)
}

/// Writes a public file, if it does not have this content already.
pub(super) fn write_if_different(path: &Path, label: &str, der: &[u8]) -> Result<(), PkiError> {
    let text = pem_text(label, der);
    if read(path)?.is_some_and(|kept| kept == text.as_bytes()) {
        return Ok(());
    }
    write(path, &text, Readers::Everybody)
}

/// DER as PEM.
pub(super) fn pem_text(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, PkiError> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::Read { path: path.to_owned(), source }),
    }
}

fn write(path: &Path, text: &str, readers: Readers) -> Result<(), PkiError> {
    write_atomically(path, text.as_bytes(), readers)
        .map_err(|source| PkiError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_lengths_are_in_the_shortest_form() {
        assert_eq!(der(0x04, &[]), [0x04, 0x00]);
        assert_eq!(der(0x04, &[7; 127])[..2], [0x04, 0x7f]);
        assert_eq!(der(0x04, &[7; 128])[..3], [0x04, 0x81, 0x80]);
        assert_eq!(der(0x04, &[7; 1700])[..4], [0x04, 0x82, 0x06, 0xa4]);
    }
}
