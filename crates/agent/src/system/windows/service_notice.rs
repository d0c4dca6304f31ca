//! The service manager of Windows hears nothing of an agent's health.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// There is no way to say anything.
#[derive(Debug)]
pub(crate) struct ServiceNotice(Infallible);

impl ServiceNotice {
    /// None.
    pub(crate) fn from_environment() -> Option<Self> {
        None
    }

    /// Never called.
    pub(crate) async fn keep_starting(&self) {
        match self.0 {}
    }

    /// Never called.
    pub(crate) async fn keep_saying(&self, _: Arc<AtomicU64>) {
        match self.0 {}
    }
}
