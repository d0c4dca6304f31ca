//! What a process runs, and as whom: one copy that its events, its children's and the agent's table share.

use std::sync::Arc;

use crate::body::name_of;
use crate::{ProcessEntityId, Timestamp, words};

words! {
    /// What of a program stands on the block list.
    BlockedBy {
        /// The name of its file.
        Name = "name",
        /// Its path.
        Path = "path",
        /// The hash of its content.
        Hash = "hash",
    }
}

/// A process as every event about it shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// One life of one process.
    pub entity_id: ProcessEntityId,
    /// When it was created (wall clock).
    pub start: Timestamp,
    /// What it runs.
    pub image: Arc<Image>,
}

impl Process {
    /// Last part of the image's path; the ` (deleted)` that Linux appends is no part of it.
    pub fn name(&self) -> &str {
        name_of(&self.image.executable)
    }
}

/// The parent of a process.
pub type ParentProcess = Process;

/// An image and its surroundings at the exec. Forked children share their parent's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// Absolute path; empty where nobody saw the exec.
    pub executable: String,
    /// Arguments joined by spaces.
    pub command_line: String,
    /// The arguments one by one.
    pub args: Vec<String>,
    /// Full length of the arguments in bytes.
    pub args_bytes: u64,
    /// True where `args` is shorter than what the process got.
    pub args_truncated: bool,
    /// Working directory.
    pub working_directory: Option<String>,
    /// Whom it runs as.
    pub user: User,
    /// Controlling terminal.
    pub tty: Option<String>,
    /// PID of the session leader.
    pub session_id: Option<u32>,
    /// The file.
    pub file: Option<ImageFile>,
    /// The file had no name in any directory.
    pub image_deleted: bool,
    /// Container id.
    pub container_id: Option<String>,
    /// Cgroup path.
    pub cgroup_path: Option<String>,
    /// More about the container, where it is known.
    pub container: Option<Arc<Container>>,
    /// A thread of the kernel itself.
    pub kernel_thread: bool,
    /// Effective capabilities by name. Most processes of a host have the same: one list for all of them.
    pub capabilities: Arc<[String]>,
    /// Variables of the environment that change what is run.
    pub environment: Vec<String>,
    /// The file is one in memory that never had a name.
    pub memfd: bool,
    /// Namespaces other than the host's, as `kind:inode`.
    pub namespaces: Vec<String>,
    /// It was ended before its first instruction, because this stands on the block list.
    pub blocked: Option<BlockedBy>,
}

impl Image {
    /// For a process whose exec nobody saw.
    pub fn unknown() -> Arc<Self> {
        // The kernel's own "no such id": 0 would say that it was root's.
        let (id, effective_id, group_id) = (u32::MAX, u32::MAX, u32::MAX);
        let user = User { id, effective_id, group_id, ..User::default() };
        Arc::new(Self { user, ..Self::default() })
    }

    /// False for [`unknown`](Self::unknown).
    pub fn is_known(&self) -> bool {
        self.kernel_thread || !self.executable.is_empty()
    }
}

/// A file by what does not change while its content does not. Its owner may set
/// `modified_ns` and restore `size` after a change; `changed_ns` is the kernel's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ImageFile {
    /// Device, as `st_dev` of stat(2) gives it.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Modification time in nanoseconds since the Unix epoch.
    pub modified_ns: i64,
    /// Time of the last change of the inode (`st_ctime`) in nanoseconds since the Unix epoch.
    pub changed_ns: i64,
    /// Size in bytes.
    pub size: u64,
}

/// Whom a process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// Real user id.
    pub id: u32,
    /// Its name, where the host's user table has one.
    pub name: Option<String>,
    /// Effective user id.
    pub effective_id: u32,
    /// Real group id.
    pub group_id: u32,
    /// The user who logged in; `None` where nobody did.
    pub login_id: Option<u32>,
    /// That user's name.
    pub login_name: Option<String>,
}

/// What the content of a file is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileFacts {
    /// MD5 in hex.
    pub md5: String,
    /// SHA-1 in hex.
    pub sha1: String,
    /// SHA-256 in hex.
    pub sha256: String,
    /// TLSH; `None` where the content is too short or uniform for one.
    pub tlsh: Option<String>,
    /// Shannon entropy in thousandths of a bit per byte.
    pub entropy_milli: u32,
    /// Size in bytes.
    pub size: u64,
    /// The first bytes, at most 16, in hex.
    pub header: String,
    /// What they say it is.
    pub content_type: &'static str,
}

/// A container, as far as the runtime's files and the cgroup's name tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    /// `docker`, `containerd` and so on.
    pub runtime: Option<&'static str>,
    /// Its name.
    pub name: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// Kubernetes pod.
    pub pod: Option<String>,
    /// Its namespace.
    pub pod_namespace: Option<String>,
    /// The pod's uid.
    pub pod_uid: Option<String>,
    /// Labels as `name=value`.
    pub labels: Vec<String>,
}
