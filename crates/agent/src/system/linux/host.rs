//! What the host says of itself.

use std::fs;

use anyhow::Context as _;
use event_model::BootId;
use uuid::Uuid;

use crate::host::{HostFacts, MACHINES};

/// Facts of this host.
pub(crate) fn facts() -> HostFacts {
    let system = rustix::system::uname();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    HostFacts {
        name: system.nodename().to_string_lossy().into_owned(),
        os: pretty.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned()),
        kernel: system.release().to_string_lossy().into_owned(),
        machine_id: machine_uuid().map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// The kernel's id of this boot.
pub(crate) fn boot_id() -> anyhow::Result<BootId> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    text.trim().parse().with_context(|| format!("{path} holds no boot id"))
}

/// An id made from /etc/machine-id.
pub(crate) fn machine_uuid() -> Option<Uuid> {
    let text = fs::read_to_string("/etc/machine-id").ok()?;
    let text = text.trim();
    let valid = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    valid.then(|| Uuid::new_v5(&MACHINES, text.as_bytes()))
}
