//! Which directories lie on file systems that may not answer.

/// File systems whose answers come from a network or from a program: looking into
/// one can take for ever, and changes made elsewhere give no notice.
const REMOTE: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "gpfs",
    "beegfs",
    "ocfs2",
    "gfs2",
    "autofs",
    "ncpfs",
    "coda",
    "virtiofs",
];

/// Mount points of such file systems.
#[derive(Debug, Default)]
pub(super) struct RemoteMounts {
    points: Vec<Vec<u8>>,
}

impl RemoteMounts {
    /// As they are now. Where the kernel does not tell, none.
    pub(super) fn read() -> Self {
        Self::parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    /// From the lines of proc(5), `/proc/PID/mountinfo`.
    fn parse(mountinfo: &[u8]) -> Self {
        let points = mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ');
            let point = fields.nth(4)?;
            let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
            let remote = kind.starts_with(b"fuse") || REMOTE.iter().any(|word| word.as_bytes() == kind);
            // The root that is remote answers as well as this program's own file does.
            (remote && point != b"/").then(|| unescaped(point))
        });
        Self { points: points.collect() }
    }

    /// Whether a path (without `..` and links) lies on one.
    pub(super) fn hold(&self, path: &[u8]) -> bool {
        self.points.iter().any(|point| {
            path.strip_prefix(point.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        })
    }
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
    fn remote_file_systems_are_known_by_their_kind() {
        let mounts = RemoteMounts::parse(
            b"22 1 0:1 / / rw shared:1 - ext4 /dev/vda rw\n\
              30 22 0:9 / /home/with\\040blank rw - nfs4 host:/x rw\n\
              31 22 0:8 / /mnt/ssh rw shared:3 master:1 - fuse.sshfs x rw\n\
              bad line\n",
        );
        assert!(mounts.hold(b"/home/with blank") && mounts.hold(b"/home/with blank/.ssh"));
        assert!(mounts.hold(b"/mnt/ssh/a"));
        assert!(!mounts.hold(b"/home/with blanks") && !mounts.hold(b"/home") && !mounts.hold(b"/etc"));
    }
}
