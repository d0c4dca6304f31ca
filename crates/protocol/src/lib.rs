//! What agent and server say to each other.
//!
//! - [`link`]: the messages and the gRPC service, made from `proto/link.proto`.
//! - [`wire`]: records to messages and back; whatever comes in is checked.
//! - [`envelope`]: the seal around a batch, on the wire and in the spool.
//! - [`bundle`]: rule bundles, signed by the server.
//! - [`enrollment`]: tokens, and who a certificate speaks for.
//! - [`trust`]: how an agent makes sure of the server.

#![deny(missing_docs)]

pub mod bundle;
pub mod command;
pub mod enrollment;
pub mod envelope;
pub mod trust;
pub mod wire;

/// Messages and service of `proto/link.proto`.
#[allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated; the comments are in link.proto"
)]
pub mod link {
    tonic::include_proto!("rampart.link.v1");
}

/// The largest sealed batch that a server takes, in bytes. An agent closes a
/// batch at a sixteenth of it.
pub const MAX_SEALED_BATCH_BYTES: usize = 16 * 1024 * 1024;

/// The largest batch after unsealing and decompression, in bytes.
pub const MAX_BATCH_BYTES: usize = 64 * 1024 * 1024;
