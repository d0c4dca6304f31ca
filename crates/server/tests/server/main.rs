//! The server as others see it: real TLS, real stores, port 0.
//!
//! One binary for all, because linking takes longer than running.

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]

mod access;
mod agent;
mod api;
mod console;
mod content;
mod enrollment;
mod fleet_stop;
mod gaps;
mod hostile;
mod ingest;
mod program;
mod responses;
mod routes;
mod rules;
mod running;
mod runs;
mod silence;
