//! With what a process stands there: capabilities, namespaces, the variables of its
//! environment that change what is run.

use std::fs;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use crate::escape;

/// Kinds of namespaces, in the order of `struct exec_record` of `bpf/record.h`.
pub(crate) const NAMESPACES: usize = 7;
const KINDS: [&str; NAMESPACES] = ["mnt", "pid", "net", "uts", "ipc", "user", "cgroup"];

/// As `linux/capability.h` numbers them.
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Variables by which a program is made to run code that it does not bring itself.
const VARIABLES: [&[u8]; 20] = [
    b"LD_PRELOAD",
    b"LD_LIBRARY_PATH",
    b"LD_AUDIT",
    b"LD_DEBUG_OUTPUT",
    b"LD_PROFILE",
    b"GCONV_PATH",
    b"GLIBC_TUNABLES",
    b"BASH_ENV",
    b"ENV",
    b"PROMPT_COMMAND",
    b"PYTHONPATH",
    b"PYTHONHOME",
    b"PYTHONSTARTUP",
    b"PERL5LIB",
    b"PERL5OPT",
    b"PERL5DB",
    b"RUBYLIB",
    b"RUBYOPT",
    b"NODE_OPTIONS",
    b"JAVA_TOOL_OPTIONS",
];

/// Values beyond so many bytes are cut.
const VALUE_MAX: usize = 1_024;

/// Different sets of capabilities whose names are kept. A host has a few: root's, nobody's, those of some services.
const SETS_KEPT: usize = 16;

/// The names of the bits; `ALL` for all that the kernel has, as root has them. Made once for each set: forty names
/// for each process that starts would cost more than all else that is read of it.
pub(crate) fn capability_names(bits: u64) -> Arc<[String]> {
    static KEPT: Mutex<Vec<(u64, Arc<[String]>)>> = Mutex::new(Vec::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, names)) = kept.iter().find(|(known, _)| *known == bits) {
        return Arc::clone(names);
    }
    let names: Arc<[String]> = names_of_capabilities(bits).into();
    if kept.len() >= SETS_KEPT {
        kept.remove(0);
    }
    kept.push((bits, Arc::clone(&names)));
    names
}

fn names_of_capabilities(bits: u64) -> Vec<String> {
    static LAST: LazyLock<u32> = LazyLock::new(|| {
        let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
        last.and_then(|text| text.trim().parse().ok()).unwrap_or(CAPABILITIES.len() as u32 - 1).min(62)
    });
    let all = (1_u64 << (*LAST + 1)) - 1;
    if bits & all == all {
        return vec!["ALL".to_owned()];
    }
    let set = (0..=*LAST).filter(|number| bits & (1 << number) != 0);
    set.map(|number| {
        CAPABILITIES.get(number as usize).map_or_else(|| format!("CAP_{number}"), |name| (*name).to_owned())
    })
    .collect()
}

/// The variables that may change what is run, of an environment as the kernel keeps it:
/// each ended by a zero byte; the last may lack its end.
pub(crate) fn interesting_variables(environment: &[u8]) -> Vec<String> {
    if environment.is_empty() {
        return Vec::new();
    }
    let is_interesting = |variable: &&[u8]| {
        let name = variable.split(|byte| *byte == b'=').next().unwrap_or_default();
        variable.len() > name.len() && VARIABLES.contains(&name)
    };
    let variables = environment.split(|byte| *byte == 0).filter(is_interesting);
    variables.map(|variable| escape::text(&variable[..variable.len().min(VALUE_MAX)])).collect()
}

/// Whether this is the path of a file in memory that never had a name. The kernel names
/// such a file as it was asked to, in no folder.
pub(crate) fn is_memfd(executable: &str, image_deleted: bool) -> bool {
    image_deleted && executable.strip_prefix("/memfd:").is_some()
}

/// The host's own namespaces; they stay the same as long as it runs.
static HOST: OnceLock<[u32; NAMESPACES]> = OnceLock::new();

/// Says which namespaces are the host's. Without a word, they are those of process 1,
/// which not everybody may look at.
pub(crate) fn host_namespaces_are(inodes: [u32; NAMESPACES]) {
    // Whoever comes later says the same.
    let _ = HOST.set(inodes);
}

/// Those that are not the host's, as `kind:inode`; 0 is not known.
pub(crate) fn foreign_namespaces(inodes: &[u32; NAMESPACES]) -> Vec<String> {
    let pairs = KINDS.iter().zip(inodes).zip(HOST.get_or_init(|| namespaces_of(1)));
    let foreign = pairs.filter(|((_, inode), host)| **inode != 0 && **host != 0 && inode != host);
    foreign.map(|((kind, inode), _)| format!("{kind}:{inode}")).collect()
}

/// The mount namespace in which this program runs, as `mnt:inode`; it never changes it.
pub(crate) fn own_mount_namespace() -> &'static str {
    static OWN: OnceLock<String> = OnceLock::new();
    OWN.get_or_init(|| format!("{}:{}", KINDS[0], namespaces_of(std::process::id())[0]))
}

/// The inodes of a live process's namespaces, as its links in /proc give them.
pub(crate) fn namespaces_of(pid: u32) -> [u32; NAMESPACES] {
    KINDS.map(|kind| {
        let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
        let inode = link.and_then(|link| {
            let text = link.to_str()?;
            text.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
        });
        inode.unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_their_names() {
        assert!(capability_names(0).is_empty());
        assert_eq!(*capability_names((1 << 10) | (1 << 21)), ["CAP_NET_BIND_SERVICE", "CAP_SYS_ADMIN"]);
        assert_eq!(*capability_names(u64::MAX), ["ALL"]);
    }

    #[test]
    fn only_variables_that_change_what_is_run_leave_the_sensor() {
        let environment = b"PATH=/bin\0LD_PRELOAD=/tmp/x.so\0SECRET=LD_PRELOAD=1\0ENV=/e\xff\0LD_PRELOADED=1\0ENV\0PYTHONPATH=/cu";
        assert_eq!(
            interesting_variables(environment),
            ["LD_PRELOAD=/tmp/x.so", "ENV=/e\\xff", "PYTHONPATH=/cu"]
        );
        let long = [b"LD_AUDIT=".as_slice(), &[b'x'; 5_000]].concat();
        assert_eq!(interesting_variables(&long)[0].len(), VALUE_MAX);
    }

    #[test]
    fn files_in_memory_are_known_by_their_path() {
        assert!(is_memfd("/memfd:payload", true));
        assert!(!is_memfd("/memfd:payload", false));
        assert!(!is_memfd("/tmp/memfd:x", true));
    }

    #[test]
    fn ones_own_namespaces_can_be_read() {
        assert!(namespaces_of(std::process::id()).iter().all(|inode| *inode != 0));
        assert_eq!(namespaces_of(u32::MAX), [0; NAMESPACES]);
    }
}
