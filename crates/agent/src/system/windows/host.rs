//! What the host says of itself.

use anyhow::Context as _;
use event_model::BootId;
use uuid::Uuid;

use crate::host::{HostFacts, MACHINES};

/// Facts of this host.
pub(crate) fn facts() -> HostFacts {
    HostFacts {
        name: win32::host::name(),
        os: win32::host::product(),
        kernel: win32::host::kernel_version(),
        machine_id: machine_uuid().map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// The id that the first agent of this boot drew. It stands in a volatile key of the registry, which the
/// next boot does not have.
pub(crate) fn boot_id() -> anyhow::Result<BootId> {
    let boot = win32::clock::boot(|| Uuid::new_v4().as_u128())
        .context("keeping the id of this boot in the registry; hint: run as administrator or as a service")?;
    Ok(BootId::from_uuid(Uuid::from_u128(boot.id)))
}

/// An id made from the one that Windows drew when it was installed.
pub(crate) fn machine_uuid() -> Option<Uuid> {
    let text = win32::host::machine_guid()?;
    Some(Uuid::new_v5(&MACHINES, text.to_ascii_lowercase().as_bytes()))
}
