//! The server of Rampart. See `ARCHITECTURE.md` for how it stands among the crates.
//!
//! One way: [`http`] and [`link`] ask [`app`], which asks the stores. [`listener`]
//! is the one door to all of it; [`Server`] puts them together.

#![deny(missing_docs)]

pub mod app;
pub mod config;
mod host_system;
pub mod http;
pub mod link;
pub mod listener;
mod log_limit;
pub mod pki;
mod relay;
mod server;
pub mod stop_requests;

pub use server::{FirstStart, Server, StartError};
