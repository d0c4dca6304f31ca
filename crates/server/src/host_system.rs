//! What the operating system is asked for: private files, this machine's names.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::path::Path;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Its owner.
    Owner,
    /// Everybody.
    Everybody,
}

/// Writes a file so that after a crash it is either whole or not there.
pub(crate) fn write_atomically(path: &Path, content: &[u8], readers: Readers) -> io::Result<()> {
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    // One left by a crash may have other rights, so it is not written over.
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    restrict(&mut options, readers);
    let mut file = options.open(temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(temporary, path)?;
    sync_folder(path)
}

#[cfg(unix)]
fn restrict(options: &mut OpenOptions, readers: Readers) {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(match readers {
        Readers::Owner => 0o600,
        Readers::Everybody => 0o644,
    });
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

/// Whether anybody but the owner may read the file.
#[cfg(unix)]
pub(crate) fn others_can_read(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(std::fs::metadata(path)?.mode() & 0o077 != 0)
}

// On Windows a file inherits its folder's access list, which is the installer's to set.
#[cfg(not(unix))]
fn restrict(_options: &mut OpenOptions, _readers: Readers) {}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn others_can_read(_path: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Raises the limit of open files to what the system allows: each connection is one.
#[cfg(unix)]
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, current = limit.current, "the limit of open files could not be raised");
    }
}

#[cfg(not(unix))]
pub(crate) fn raise_file_limit() {}

/// This machine's name.
pub(crate) fn host_name() -> Option<String> {
    let from_file = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok());
    let name = from_file.or_else(|| std::env::var("COMPUTERNAME").ok())?;
    let name = name.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

/// This machine's addresses as others may reach it: those of its name, and those
/// that its routes would use. No packet is sent.
pub(crate) fn addresses() -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    // Addresses for documentation (RFC 5737, RFC 3849): routed by the default route everywhere.
    for (local, remote) in [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")] {
        let address = UdpSocket::bind(local).and_then(|socket| {
            socket.connect(remote)?;
            socket.local_addr()
        });
        found.extend(address.map(|address| address.ip()).ok());
    }
    if let Some(name) = host_name() {
        let resolved = (name.as_str(), 0).to_socket_addrs();
        found.extend(resolved.into_iter().flatten().map(|address: SocketAddr| address.ip()));
    }
    found.retain(|ip| !ip.is_loopback() && !ip.is_unspecified());
    found.dedup();
    found
}
