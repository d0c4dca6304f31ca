//! Rule bundles: what the server wants every agent to judge by, signed.
//!
//! The signature is Ed25519 over a domain-separating prefix and the encoded
//! bundle. An agent takes a bundle only if the signature is the pinned key's,
//! it has not expired, and its version is above that of the one in force.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use event_model::Timestamp;
use prost::Message as _;

use crate::link::{PolicyBundle, SignedBundle};

const DOMAIN: &[u8] = b"rampart policy v1\0";

/// Why a bundle was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleRefusal {
    /// It was not signed by the server's command key.
    #[error("the signature is not the server's")]
    BadSignature,
    /// It can't be decoded.
    #[error("the bundle is malformed")]
    Malformed,
    /// Its time is over.
    #[error("the bundle expired at {expired_at}, and it is {now}")]
    Expired {
        /// When.
        expired_at: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// One at least as new is in force.
    #[error("version {offered} is not above version {in_force}, which is in force")]
    NotNewer {
        /// Its version.
        offered: u64,
        /// The version in force.
        in_force: u64,
    },
}

/// Signs a bundle.
pub fn sign_bundle(bundle: &PolicyBundle, key: &Ed25519KeyPair) -> SignedBundle {
    let bundle = bundle.encode_to_vec();
    let signature = key.sign(&signed_bytes(&bundle)).as_ref().to_vec();
    SignedBundle { bundle, signature }
}

/// Verifies a bundle that was just received.
pub fn verify_bundle(
    signed: &SignedBundle,
    command_key: &[u8],
    version_in_force: u64,
    now: Timestamp,
) -> Result<PolicyBundle, BundleRefusal> {
    let bundle = verify_stored_bundle(signed, command_key)?;
    let expired_at = Timestamp::from_nanos(bundle.expires_at_ns);
    if expired_at <= now {
        return Err(BundleRefusal::Expired { expired_at, now });
    }
    if bundle.version <= version_in_force {
        return Err(BundleRefusal::NotNewer { offered: bundle.version, in_force: version_in_force });
    }
    Ok(bundle)
}

/// Verifies a bundle that was taken before and kept on disk. Its expiry no
/// longer matters: detection never turns itself off.
pub fn verify_stored_bundle(
    signed: &SignedBundle,
    command_key: &[u8],
) -> Result<PolicyBundle, BundleRefusal> {
    UnparsedPublicKey::new(&ED25519, command_key)
        .verify(&signed_bytes(&signed.bundle), &signed.signature)
        .map_err(|_| BundleRefusal::BadSignature)?;
    PolicyBundle::decode(signed.bundle.as_slice()).map_err(|_| BundleRefusal::Malformed)
}

/// The public half of a command key, as an agent pins it.
pub fn public_command_key(key: &Ed25519KeyPair) -> Vec<u8> {
    key.public_key().as_ref().to_vec()
}

fn signed_bytes(bundle: &[u8]) -> Vec<u8> {
    [DOMAIN, bundle].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_newer_unexpired_bundle_is_taken() {
        let key = Ed25519KeyPair::generate().expect("a key");
        let public = public_command_key(&key);
        let bundle =
            PolicyBundle { version: 5, created_at_ns: 0, expires_at_ns: 100, ..PolicyBundle::default() };
        let signed = sign_bundle(&bundle, &key);
        let now = Timestamp::from_nanos(99);
        assert_eq!(verify_bundle(&signed, &public, 4, now), Ok(bundle.clone()));
        assert_eq!(
            verify_bundle(&signed, &public, 5, now),
            Err(BundleRefusal::NotNewer { offered: 5, in_force: 5 })
        );
        let late = Timestamp::from_nanos(100);
        assert!(matches!(verify_bundle(&signed, &public, 4, late), Err(BundleRefusal::Expired { .. })));
        assert_eq!(verify_stored_bundle(&signed, &public), Ok(bundle));

        let stranger = public_command_key(&Ed25519KeyPair::generate().expect("a key"));
        assert_eq!(verify_bundle(&signed, &stranger, 4, now), Err(BundleRefusal::BadSignature));
        let mut changed = signed;
        changed.bundle[1] ^= 1;
        assert_eq!(verify_bundle(&changed, &public, 4, now), Err(BundleRefusal::BadSignature));
    }
}
