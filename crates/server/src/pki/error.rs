//! What can go wrong with keys and certificates.

use std::path::PathBuf;

/// A key or certificate can't be had.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file can't be read.
    #[error("{}: can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file can't be written.
    #[error("{}: can't be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that must be there is not.
    #[error("{}: is not there; hint: {hint}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// A private key is no secret.
    #[error("{}: this private key can be read by other users; hint: `chmod 600` it, and ask who read it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{}: can't be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Making a key or certificate failed.
    #[error("can't make {what}: {reason}")]
    Make {
        /// What.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// An agent's certificate request is not good.
    #[error("the certificate request is malformed or not signed by its own key")]
    BadRequest,
}
