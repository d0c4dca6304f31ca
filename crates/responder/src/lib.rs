//! The responder: takes alerts from the bus and runs playbooks. See `docs/reference/playbooks.md`.
//!
//! An alert comes in ([`consumer`]), is claimed for each playbook that it triggers, and becomes a run
//! with a journal on disk ([`journal`]). A run's thread ([`runner`]) asks the engine what is next,
//! writes it down, and only then acts ([`act`], [`api`]). Nothing here decides by itself.

#![deny(missing_docs)]

pub mod act;
pub mod config;
pub mod consumer;
pub mod journal;
pub mod library;
pub mod runner;

use std::sync::Arc;

use server_api::ServerApi;

use crate::act::Outside;
use crate::journal::Journals;
use crate::library::Library;

/// What every run needs.
#[derive(Debug)]
pub struct Context {
    /// The playbooks.
    pub library: Library,
    /// The server.
    pub server: ServerApi,
    /// Mail, web hooks, log servers, scripts.
    pub outside: Outside,
    /// Journals of runs.
    pub journals: Arc<Journals>,
}
