//! What identifies this host and this boot.

use std::fs;
use std::path::Path;

use event_model::{BootId, HostId};
use uuid::Uuid;

use crate::system;

/// Namespace for ids made from the machine's own id (drawn once, at random): the
/// machine id itself is meant to stay on the machine (machine-id(5)).
pub(crate) const MACHINES: Uuid = Uuid::from_u128(0x52c3_07b1_6ce8_4a35_9d11_c4f0_8a77_e26b);

/// Facts about the host, as they go to the server.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// Its name.
    pub name: String,
    /// For example `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// Release of the kernel.
    pub kernel: String,
    /// A stable id of the machine; empty where it has none.
    pub machine_id: String,
}

impl HostFacts {
    /// Of this host.
    pub fn read() -> Self {
        system::host::facts()
    }
}

/// The kernel's id of this boot.
pub fn boot_id() -> anyhow::Result<BootId> {
    system::host::boot_id()
}

/// The id of a host that no server has named: made from the machine's own, else
/// drawn once and kept in the state directory.
pub fn local_host_id(state_dir: &Path) -> HostId {
    if let Some(id) = system::host::machine_uuid() {
        return HostId::from_uuid(id);
    }
    let path = state_dir.join("host-id");
    if let Some(id) = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()) {
        return id;
    }
    let id = HostId::from_uuid(Uuid::new_v4());
    if let Err(error) = crate::state_file::write(&path, format!("{id}\n").as_bytes()) {
        tracing::warn!(%error, "the host id could not be kept, the next start draws another one");
    }
    id
}
