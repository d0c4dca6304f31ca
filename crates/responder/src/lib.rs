//! The responder: takes alerts from the bus and runs playbooks. See `docs/reference/playbooks.md`.
//!
//! An alert comes in ([`consumer`]) and becomes a run with a journal on disk ([`journal`]) for each playbook that
//! it triggers; once the journal is there the run is claimed on the bus. A run's thread ([`runner`]) asks the engine what is next,
//! writes it down, and only then acts ([`act`]). What people ask for in the console comes by [`requests`], and
//! how far runs are goes there by [`report`]. Nothing here decides by itself.

#![deny(missing_docs)]

pub mod act;
pub mod config;
pub mod consumer;
pub mod journal;
pub mod library;
pub mod report;
pub mod requests;
pub mod runner;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use server_api::ServerApi;

use crate::act::Outside;
use crate::journal::{Journals, RunKey};
use crate::library::Library;
use crate::report::Reports;

/// What every run needs.
#[derive(Debug)]
pub struct Context {
    /// The playbooks.
    pub library: Library,
    /// The server.
    pub server: Arc<ServerApi>,
    /// Mail, web hooks, log servers, scripts.
    pub outside: Outside,
    /// Journals of runs.
    pub journals: Arc<Journals>,
    /// The way to the server for how far runs are.
    pub reports: Reports,
    /// Runs that a thread is at.
    pub busy: Busy,
}

/// Runs that a thread is at: no second one may write the same journal.
#[derive(Debug, Clone, Default)]
pub struct Busy(Arc<Mutex<HashSet<RunKey>>>);

/// One run, until this is dropped.
#[derive(Debug)]
pub struct BusyRun {
    busy: Busy,
    key: RunKey,
}

impl Busy {
    /// Takes a run; `None` while another thread is at it.
    pub fn take(&self, key: &RunKey) -> Option<BusyRun> {
        let key = key.clone();
        let is_free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        is_free.then(|| BusyRun { busy: self.clone(), key })
    }
}

impl Drop for BusyRun {
    fn drop(&mut self) {
        self.busy.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
