//! Orders carried out on this very host: real processes, files, firewalls, and proofs read back.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]
#![allow(clippy::disallowed_methods, reason = "conditions are looked at again and again, with a deadline")]

mod bench;
mod faults;
mod files;
mod looks;
mod made_up;
mod network;
mod pid_reuse;
mod processes;
mod rails;
mod services;
mod vault;
