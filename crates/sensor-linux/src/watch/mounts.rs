//! Which directories lie on file systems that may not answer, and how those that do can be reached.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// File systems whose answers come from a network or from a program: looking into
/// one can take for ever, and changes made elsewhere give no notice. With the numbers
/// that statfs(2) gives (`linux/magic.h` and their own sources); 0 where it is that of
/// another row.
const REMOTE: &[(&str, u32)] = &[
    ("fuse", 0x6573_5546),
    ("nfs", 0x6969),
    ("nfs4", 0),
    ("cifs", 0xff53_4d42),
    ("smb3", 0xfe53_4d42),
    ("smbfs", 0x517b),
    ("9p", 0x0102_1997),
    ("afs", 0x5346_414f),
    ("afs", 0x6b41_4653),
    ("ceph", 0x00c3_6400),
    ("glusterfs", 0),
    ("lustre", 0x0bd0_0bd0),
    ("gpfs", 0x4750_4653),
    ("beegfs", 0x1983_0326),
    ("ocfs2", 0x7461_636f),
    ("gfs2", 0x0116_1970),
    ("autofs", 0x0187),
    ("ncpfs", 0x564c),
    ("coda", 0x7375_7245),
    ("virtiofs", 0),
];

/// File systems whose files are the kernel's own words: some change something or wait
/// when they are read, and what they say depends on who reads (`linux/magic.h`).
const KERNEL: &[u32] = &[
    0x9fa0,      // proc
    0x9fa1,      // openprom
    0x9fa2,      // usbdevfs
    0x6265_6572, // sysfs
    0x7472_6163, // tracefs
    0x6462_6720, // debugfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x7363_6673, // securityfs
    0x5a3c_69f0, // apparmorfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0x6265_6570, // configfs
    0x6573_5543, // fusectl
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x4249_4e4d, // binfmt_misc
    0x6e73_6673, // nsfs
    0x5049_5045, // pipefs
    0x534f_434b, // sockfs
    0x0904_1934, // anon_inodefs
    0x6759_6969, // rpc_pipefs
    0x6e66_7364, // nfsd
    0x0765_5821, // resctrl
    0xabba_1974, // xenfs
    0x6c6f_6f70, // binderfs
    0x444d_4142, // dma-buf
    0x5345_434d, // secretmem
];

/// Of those, the ones that every host has mounted, by name.
const KERNEL_NAMES: &[&str] = &[
    "proc",
    "sysfs",
    "tracefs",
    "debugfs",
    "cgroup",
    "cgroup2",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "bpf",
    "pstore",
    "efivarfs",
    "configfs",
    "fusectl",
    "devpts",
    "mqueue",
    "binfmt_misc",
    "nsfs",
    "rpc_pipefs",
    "nfsd",
    "resctrl",
];

/// What a file system is, as far as reading from it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    /// On this host.
    Local,
    /// Its answers come from a network or a program.
    Remote,
    /// Its files are made by the kernel while they are read.
    Kernel,
}

impl FileSystem {
    /// By `f_type` of statfs(2). Those that nobody listed count as local.
    pub(crate) fn of(magic: i64) -> Self {
        // Some architectures give it with a sign.
        let is = |known: u32| known != 0 && i64::from(known) == magic & 0xffff_ffff;
        if KERNEL.iter().any(|known| is(*known)) {
            Self::Kernel
        } else if REMOTE.iter().any(|(_, known)| is(*known)) {
            Self::Remote
        } else {
            Self::Local
        }
    }
}

/// Mount points of such file systems.
#[derive(Debug, Default)]
pub struct RemoteMounts {
    points: Vec<Vec<u8>>,
    /// Major and minor number of each.
    devices: Vec<(u32, u32)>,
}

impl RemoteMounts {
    /// As they are now. Where the kernel does not tell, none.
    pub fn read() -> Self {
        Self::parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    /// As a process sees them, from its root on; none where it is gone.
    pub fn of_process(pid: u32) -> Self {
        Self::parse(&std::fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default())
    }

    fn parse(mountinfo: &[u8]) -> Self {
        // The root that is remote answers as well as this program's own file does.
        let remote = mounts(mountinfo).filter(Mount::may_not_answer);
        let (points, devices): (Vec<_>, Vec<_>) =
            remote.map(|mount| (mount.point, numbers(&mount.device))).unzip();
        Self { points, devices: devices.into_iter().flatten().collect() }
    }

    /// Whether a device (`st_dev` of stat(2)) is that of one.
    pub fn hold_device(&self, device: u64) -> bool {
        self.devices.contains(&(rustix::fs::major(device), rustix::fs::minor(device)))
    }

    /// Whether a path (without `..` and links) lies on one.
    pub fn hold(&self, path: &[u8]) -> bool {
        self.points.iter().any(|point| {
            path.strip_prefix(point.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        })
    }
}

/// All mounts, as the tree that they are.
#[derive(Debug)]
pub(crate) struct MountTree {
    mounts: Vec<Mount>,
    /// By the mount on which it stands and the point, its place among them. On one place of one mount there stands
    /// at most one.
    standing: HashMap<(u64, Vec<u8>), usize>,
    root: Option<usize>,
}

/// A file system that is no network's, no program's and not the kernel's own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LocalFileSystem {
    /// Where it is mounted first, and which it is: others may be mounted there, too.
    pub(crate) name: String,
    /// All points by which it is reached, without a look into what may not answer. Others are covered by other mounts.
    pub(crate) points: Vec<PathBuf>,
}

impl MountTree {
    /// As they are now. Where the kernel does not tell, none.
    pub(crate) fn read() -> Self {
        Self::parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    fn parse(mountinfo: &[u8]) -> Self {
        let mounts: Vec<Mount> = mounts(mountinfo).collect();
        let ids: HashSet<u64> = mounts.iter().map(|mount| mount.id).collect();
        let is_first = |mount: &Mount| mount.parent == mount.id || !ids.contains(&mount.parent);
        let root = mounts.iter().position(|mount| mount.point == b"/" && is_first(mount));
        let others = mounts.iter().enumerate().filter(|(_, mount)| !is_first(mount));
        let standing = others.map(|(at, mount)| ((mount.parent, mount.point.clone()), at)).collect();
        Self { mounts, standing, root }
    }

    /// The file systems of this host.
    pub(crate) fn local(&self) -> Vec<LocalFileSystem> {
        let mut found: Vec<LocalFileSystem> = Vec::new();
        let mut by_device = HashMap::new();
        let local = |mount: &Mount| !mount.is_remote && !mount.is_kernel;
        for (at, mount) in self.mounts.iter().enumerate().filter(|(_, mount)| local(mount)) {
            let point = PathBuf::from(OsString::from_vec(mount.point.clone()));
            let place = *by_device.entry(mount.device.as_slice()).or_insert_with(|| {
                let name = format!("{} ({})", point.display(), String::from_utf8_lossy(&mount.device));
                found.push(LocalFileSystem { name, points: Vec::new() });
                found.len() - 1
            });
            if self.at(&mount.point) == Ok(at) {
                found[place].points.push(point);
            }
        }
        found
    }

    /// Whether a path (without `..` and links) lies on a file system that may not answer, or behind one. The root that
    /// is remote answers as well as this program's own file does.
    pub(crate) fn is_remote(&self, path: &[u8]) -> bool {
        match self.at(path) {
            Ok(at) => self.mounts[at].may_not_answer(),
            Err(Unreachable::Remote) => true,
            Err(Unreachable::Unknown) => false,
        }
    }

    /// The mount to which a path leads.
    fn at(&self, path: &[u8]) -> Result<usize, Unreachable> {
        let mut at = self.root.ok_or(Unreachable::Unknown)?;
        let mut here = b"/".to_vec();
        let mut parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(part, [] | [b'.']));
        loop {
            // What stands upon what stands there; a list that was read while it changed may have a ring.
            for _ in 0..self.mounts.len() {
                let Some(upon) = self.standing.get(&(self.mounts[at].id, here.clone())) else { break };
                at = *upon;
            }
            let Some(part) = parts.next() else { return Ok(at) };
            if self.mounts[at].may_not_answer() {
                return Err(Unreachable::Remote);
            }
            if here != b"/" {
                here.push(b'/');
            }
            here.extend_from_slice(part);
        }
    }
}

/// Why it is not known where a path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unreachable {
    /// Past a file system that may not answer.
    Remote,
    /// There is no list of mounts.
    Unknown,
}

/// A line of `/proc/PID/mountinfo`.
#[derive(Debug)]
struct Mount {
    id: u64,
    /// On which it stands.
    parent: u64,
    /// `major:minor`.
    device: Vec<u8>,
    point: Vec<u8>,
    is_remote: bool,
    is_kernel: bool,
}

impl Mount {
    fn may_not_answer(&self) -> bool {
        self.is_remote && self.point != b"/"
    }
}

/// From the lines of proc(5), `/proc/PID/mountinfo`.
fn mounts(mountinfo: &[u8]) -> impl Iterator<Item = Mount> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
        let (id, parent) = (number()?, number()?);
        let (device, point) = (fields.next()?.to_vec(), fields.nth(1)?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        let is_remote = kind.starts_with(b"fuse") || REMOTE.iter().any(|(word, _)| word.as_bytes() == kind);
        let is_kernel = KERNEL_NAMES.iter().any(|word| word.as_bytes() == kind);
        Some(Mount { id, parent, device, point: unescaped(point), is_remote, is_kernel })
    })
}

/// `major:minor`.
fn numbers(field: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Blanks and backslashes stand as `\` and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let code = match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_known_by_their_number() {
        let of = |path: &str| FileSystem::of(rustix::fs::statfs(path).unwrap().f_type);
        assert_eq!(of("/proc/self"), FileSystem::Kernel);
        assert_eq!(FileSystem::of(0x6573_5546), FileSystem::Remote);
        assert_eq!(FileSystem::of(i64::from(0xff53_4d42_u32.cast_signed())), FileSystem::Remote);
        assert_eq!([FileSystem::of(0xef53), FileSystem::of(0)], [FileSystem::Local; 2]);
    }

    #[test]
    fn remote_file_systems_are_known_by_their_kind() {
        let mounts = RemoteMounts::parse(
            b"22 1 0:1 / / rw shared:1 - ext4 /dev/vda rw\n\
              30 22 0:9 / /home/with\\040blank rw - nfs4 host:/x rw\n\
              31 22 0:8 / /mnt/ssh rw shared:3 master:1 - fuse.sshfs x rw\n\
              bad line\n",
        );
        assert!(mounts.hold(b"/home/with blank") && mounts.hold(b"/home/with blank/.ssh"));
        assert!(mounts.hold(b"/mnt/ssh/a"));
        let device = |minor| rustix::fs::makedev(0, minor);
        assert!(mounts.hold_device(device(9)) && mounts.hold_device(device(8)));
        assert!(!mounts.hold_device(device(1)) && !mounts.hold_device(0));
        assert!(!mounts.hold(b"/home/with blanks") && !mounts.hold(b"/home") && !mounts.hold(b"/etc"));
    }

    #[test]
    fn each_local_file_system_is_reached_by_what_leads_to_it() {
        let tree = MountTree::parse(
            b"22 1 0:1 / / rw shared:1 - ext4 /dev/vda rw\n\
              23 22 0:1 /x /again rw - ext4 /dev/vda rw\n\
              24 22 0:7 / /covered rw shared:2 - tmpfs x rw\n\
              25 24 0:8 / /covered rw - tmpfs x rw\n\
              26 22 0:7 / /open rw - tmpfs x rw\n\
              30 22 0:20 / /auto rw - autofs systemd-1 rw\n\
              31 30 8:1 / /auto rw - ext4 /dev/sda1 rw\n\
              32 22 0:21 / /ssh rw - fuse.sshfs x rw\n\
              33 32 0:9 / /ssh/deep rw - tmpfs x rw\n\
              34 22 0:10 / /below rw - tmpfs x rw\n\
              35 34 0:11 / /below/it rw - tmpfs x rw\n\
              36 34 0:22 / /below rw - nfs4 host:/x rw\n\
              37 22 0:12 / /proc rw - proc proc rw\n\
              bad line\n",
        );
        let file_system = |name: &str, points: &[&str]| LocalFileSystem {
            name: name.to_owned(),
            points: points.iter().map(PathBuf::from).collect(),
        };
        assert_eq!(
            tree.local(),
            [
                file_system("/ (0:1)", &["/", "/again"]),
                file_system("/covered (0:7)", &["/open"]),
                file_system("/covered (0:8)", &["/covered"]),
                file_system("/auto (8:1)", &["/auto"]),
                file_system("/ssh/deep (0:9)", &[]),
                file_system("/below (0:10)", &[]),
                file_system("/below/it (0:11)", &[]),
            ]
        );
        for (path, is_remote) in [
            ("/", false),
            ("/usr/bin", false),
            ("/auto/x", false),
            ("/ssh", true),
            ("/ssh/x", true),
            ("/ssh/deep/x", true),
            ("/below/it", true),
            ("/sshd", false),
        ] {
            assert_eq!(tree.is_remote(path.as_bytes()), is_remote, "{path}");
        }
        // A root that is remote answers as well as the agent's own file does.
        let tree = MountTree::parse(b"1 1 0:1 / / rw - 9p x rw\n2 1 0:2 / /tmp rw - tmpfs x rw\n");
        assert_eq!(tree.local(), [file_system("/tmp (0:2)", &["/tmp"])]);
        assert!(!tree.is_remote(b"/usr") && !MountTree::parse(b"").is_remote(b"/usr"));
    }
}
