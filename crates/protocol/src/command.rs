//! Commands: what the server orders one host to do, signed.
//!
//! The signature is Ed25519 over a domain-separating prefix of its own and the encoded
//! command, by the same key that signs rule bundles. The command names its host and
//! its end, so that neither another host nor a later time can be made to act on it;
//! that it is done only once is the agent's journal's part.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use event_model::HostId;
use prost::Message as _;
use uuid::Uuid;

use crate::link::{Command, SignedCommand};

const DOMAIN: &[u8] = b"rampart command v1\0";

/// Why a command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefusal {
    /// It was not signed by the server's command key.
    #[error("the signature is not the server's")]
    BadSignature,
    /// It can't be decoded, or has no id.
    #[error("the command is malformed")]
    Malformed,
    /// It names another host.
    #[error("the command is for another host")]
    OtherHost,
}

/// Signs a command.
pub fn sign_command(command: &Command, key: &Ed25519KeyPair) -> SignedCommand {
    let command = command.encode_to_vec();
    let signature = key.sign(&signed_bytes(&command)).as_ref().to_vec();
    SignedCommand { command, signature }
}

/// Verifies a command that came to this host. That it is not begun after its end is the guard rails' part:
/// they look first whether it was done before, and then the answer is what became of it.
///
/// # Errors
/// Why it is not taken.
pub fn verify_command(
    signed: &SignedCommand,
    command_key: &[u8],
    host: HostId,
) -> Result<(Uuid, Command), CommandRefusal> {
    UnparsedPublicKey::new(&ED25519, command_key)
        .verify(&signed_bytes(&signed.command), &signed.signature)
        .map_err(|_| CommandRefusal::BadSignature)?;
    let command = Command::decode(signed.command.as_slice()).map_err(|_| CommandRefusal::Malformed)?;
    let id = Uuid::from_slice(&command.id).map_err(|_| CommandRefusal::Malformed)?;
    if command.host_id != host.as_bytes() {
        return Err(CommandRefusal::OtherHost);
    }
    Ok((id, command))
}

fn signed_bytes(command: &[u8]) -> Vec<u8> {
    [DOMAIN, command].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{public_command_key, sign_bundle};
    use crate::link::PolicyBundle;

    #[test]
    fn only_the_servers_command_for_this_host_is_taken() {
        let key = Ed25519KeyPair::generate().expect("a key");
        let public = public_command_key(&key);
        let host = HostId::from_uuid(Uuid::from_u128(7));
        let command = Command {
            id: Uuid::from_u128(1).as_bytes().to_vec(),
            host_id: host.as_bytes().to_vec(),
            expires_at_ns: 100,
            ..Command::default()
        };
        let signed = sign_command(&command, &key);
        let verify = verify_command;
        assert_eq!(verify(&signed, &public, host), Ok((Uuid::from_u128(1), command.clone())));
        let other = HostId::from_uuid(Uuid::from_u128(8));
        assert_eq!(verify(&signed, &public, other), Err(CommandRefusal::OtherHost));
        let stranger = public_command_key(&Ed25519KeyPair::generate().expect("a key"));
        assert_eq!(verify(&signed, &stranger, host), Err(CommandRefusal::BadSignature));
        let mut changed = signed.clone();
        changed.command[3] ^= 1;
        assert_eq!(verify(&changed, &public, host), Err(CommandRefusal::BadSignature));
        let without_id = sign_command(&Command { id: Vec::new(), ..command }, &key);
        assert_eq!(verify(&without_id, &public, host), Err(CommandRefusal::Malformed));
        // A rule bundle of the same key is no command.
        let bundle = sign_bundle(&PolicyBundle::default(), &key);
        let disguised = SignedCommand { command: bundle.bundle, signature: bundle.signature };
        assert_eq!(verify(&disguised, &public, host), Err(CommandRefusal::BadSignature));
    }
}
