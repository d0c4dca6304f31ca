//! The agent as a service: that is systemd's matter, whose unit is in the tree.

use std::path::PathBuf;

use crate::options::{Options, ServiceAct};

const HINT: &str = "-service is for Windows; hint: on Linux install packaging/systemd/edr-agent.service, and start and \
                    stop it with systemctl";

/// Refuses.
///
/// # Errors
/// Always.
pub fn act(_: &ServiceAct, _: &Options) -> anyhow::Result<String> {
    anyhow::bail!(HINT)
}

/// Where its log is; the journal has it.
pub fn log_path() -> PathBuf {
    "/dev/null".into()
}

/// Refuses.
///
/// # Errors
/// Always.
pub fn fail(_: String) -> std::io::Result<()> {
    run(|| Ok(()))
}

/// Refuses.
///
/// # Errors
/// Always.
pub fn run(_: impl FnOnce() -> Result<(), String> + Send + 'static) -> std::io::Result<()> {
    Err(std::io::Error::new(std::io::ErrorKind::Unsupported, HINT))
}
