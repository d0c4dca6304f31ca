use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Services that are never ended, wherever of these folders they are installed.
const PROTECTED_SERVICES: &[&str] = &[
    "systemd/systemd",
    "systemd/systemd-journald",
    "systemd/systemd-logind",
    "systemd/systemd-networkd",
    "systemd/systemd-resolved",
    "systemd/systemd-udevd",
    "systemd/systemd-timesyncd",
    "systemd/systemd-executor",
    "openssh/sshd-session",
    "openssh/sshd-auth",
    "NetworkManager",
    "agetty",
    "auditd",
    "containerd",
    "containerd-shim-runc-v2",
    "crio",
    "cron",
    "crond",
    "dbus-broker",
    "dbus-broker-launch",
    "dbus-daemon",
    "dhclient",
    "dockerd",
    "edr-agent",
    "edr-responder",
    "edr-server",
    "getty",
    "init",
    "kubelet",
    "libvirtd",
    "login",
    "polkit-1/polkitd",
    "polkitd",
    "rsyslogd",
    "sshd",
    "udevd",
    "wpa_supplicant",
];

const SERVICE_FOLDERS: &[&str] = &[
    "/usr/lib",
    "/usr/libexec",
    "/usr/sbin",
    "/usr/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/lib",
    "/sbin",
];

/// Files without which nobody can log in, no name is found, or the agent does not come back. A rule
/// that acts on the file of its event would take them away as soon as somebody writes them.
const NEEDED_FILES: &[&str] = &[
    "/etc/crypttab",
    "/etc/fstab",
    "/etc/group",
    "/etc/gshadow",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/login.defs",
    "/etc/machine-id",
    "/etc/nsswitch.conf",
    "/etc/pam.d",
    "/etc/passwd",
    "/etc/rampart",
    "/etc/resolv.conf",
    "/etc/shadow",
    "/etc/ssh",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/systemd/system/edr-agent.service",
    "/etc/systemd/system/edr-responder.service",
    "/etc/systemd/system/edr-server.service",
];

/// Device and inode of the services' files, of the agent's own and of server and responder beside it.
pub(crate) fn services() -> impl Iterator<Item = (u64, u64)> {
    let standard = SERVICE_FOLDERS
        .iter()
        .flat_map(|folder| PROTECTED_SERVICES.iter().map(move |service| Path::new(folder).join(service)));
    let beside = std::env::current_exe().ok().into_iter().flat_map(|exe| {
        let folder = exe.parent().map(PathBuf::from).unwrap_or_default();
        [exe, folder.join("edr-server"), folder.join("edr-responder")]
    });
    let standard: HashSet<PathBuf> = standard.collect();
    let services: Vec<PathBuf> = services_at(&standard).chain(beside).collect();
    services.into_iter().filter_map(|path| identity_of_service(&path))
}

/// Whether a service has this name.
pub(crate) fn is_name_of_service(name: &str) -> bool {
    let mut services = PROTECTED_SERVICES.iter().map(|service| Path::new(service).file_name());
    services.any(|service| service.is_some_and(|service| service == name))
}

/// Device and inode.
pub(crate) fn file_id(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Whether a path is this folder or in it.
pub(crate) fn is_below(path: &str, folder: &Path) -> bool {
    Path::new(path).starts_with(folder)
}

/// Whether it is the process that all others come from.
pub(crate) fn is_first_process(pid: u32) -> bool {
    pid <= 1
}

/// Why a file may not be taken away, if the system needs it.
pub(crate) fn needed_by_the_system(path: &str) -> Option<&'static str> {
    let is =
        |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if ["/boot", "/proc", "/sys", "/dev"].into_iter().any(is) {
        return Some("the system needs it to start or to run");
    }
    if NEEDED_FILES.iter().copied().any(is) {
        return Some("the host can't be used or reached without it; change it by hand");
    }
    let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let in_libraries = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"].into_iter().any(is);
    let is_loader = ["ld-linux", "libc.so", "libc-", "libpthread", "libdl.so", "libm.so"].iter();
    if in_libraries && (is_loader.clone().any(|start| name.starts_with(start)) || is("/usr/lib/modules")) {
        return Some("every program needs it");
    }
    None
}

/// The files at these paths. A link may lead to a file of many names (busybox):
/// that one is no service.
fn services_at(standard: &HashSet<PathBuf>) -> impl Iterator<Item = PathBuf> {
    let resolved = standard.iter().filter_map(|path| path.canonicalize().ok());
    resolved.filter(|path| standard.contains(path))
}

/// Device and inode of a service's executable, if only root can have put it there.
fn identity_of_service(path: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    let others_may_write = file.mode() & 0o022 != 0;
    (file.is_file() && file.uid() == 0 && !others_may_write).then(|| (file.dev(), file.ino()))
}

/// Every address of this host; none where the kernel does not tell.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    crate::linux::own_addresses().unwrap_or_default()
}

/// Name servers of this host, also those behind systemd's own.
pub(crate) fn resolvers() -> Vec<IpAddr> {
    let texts = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
        .into_iter()
        .filter_map(|path| fs::read(path).ok());
    texts.flat_map(|text| resolvers_of(&String::from_utf8_lossy(&text))).collect()
}

fn resolvers_of(text: &str) -> Vec<IpAddr> {
    let addresses = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    // An IPv6 address of this link has its device behind it.
    addresses.filter_map(|rest| rest.trim().split('%').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_resolver_reads_them() {
        let text = "# nameserver 192.0.2.1\nsearch example.org\nnameserver 192.0.2.53\n nameserver\tfe80::1%eth0\nnameserver x\n";
        let read: Vec<String> = resolvers_of(text).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["192.0.2.53", "fe80::1"]);
    }

    #[test]
    fn nobody_is_locked_out_by_a_file_that_is_taken_away() {
        for needed in ["/etc/sudoers", "/etc/sudoers.d/90-admins", "/etc/pam.d/sudo", "/boot/vmlinuz"] {
            assert!(needed_by_the_system(needed).is_some(), "{needed}");
        }
        for free in ["/etc/sudoers2", "/etc/cron.d/evil", "/tmp/etc/sudoers"] {
            assert_eq!(needed_by_the_system(free), None, "{free}");
        }
    }

    #[test]
    fn a_link_to_a_file_of_many_names_protects_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().canonicalize().unwrap().join(name);
        fs::write(path("busybox"), "").unwrap();
        fs::write(path("systemd"), "").unwrap();
        std::os::unix::fs::symlink(path("busybox"), path("getty")).unwrap();
        std::os::unix::fs::symlink(path("systemd"), path("init")).unwrap();
        let standard = ["getty", "init", "systemd"].map(path).into();
        let found: HashSet<PathBuf> = services_at(&standard).collect();
        assert_eq!(found, HashSet::from([path("systemd")]));
    }

    #[test]
    fn a_service_is_known_by_its_file_only_if_root_alone_can_write_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sshd");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o757)).unwrap();
        assert_eq!(identity_of_service(&path), None);
        assert_eq!(identity_of_service(&dir.path().join("missing")), None);
    }
}
