//! The BPF programs by family: which object they stand in, and which events they make.
//!
//! A family is one object file (`bpf/NAME.bpf.c`). Without the first, process, there
//! is no eBPF sensor; every other one adds event types where the kernel takes it.

use event_model::EventType;

/// BPF objects are ELF files, which libbpf wants aligned.
#[repr(align(8))]
struct Aligned<Bytes: ?Sized>(Bytes);

macro_rules! object {
    ($name:literal) => {{
        static OBJECT: &Aligned<[u8]> =
            &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".bpf.o")));
        &OBJECT.0
    }};
}

/// Programs that stand at several system calls, with the tracepoints of category
/// `syscalls`; each link has the name of its tracepoint.
pub(crate) const AT_CALLS: &[(&str, &[&str])] = &[
    ("exit_open", OPENED),
    ("enter_close", &["sys_enter_close", "sys_enter_dup2", "sys_enter_dup3"]),
    ("exit_delete", DELETED),
    ("exit_rename", RENAMED),
    ("exit_link", LINKED),
    ("exit_make", &["sys_exit_mkdir", "sys_exit_mkdirat", "sys_exit_mknod", "sys_exit_mknodat"]),
    (
        "enter_attribute",
        &["sys_enter_fchmod", "sys_enter_fchown", "sys_enter_utimensat", "sys_enter_ftruncate"],
    ),
    ("exit_attribute", ATTRIBUTE_SET),
];

const OPENED: &[&str] =
    &["sys_exit_openat", "sys_exit_open", "sys_exit_creat", "sys_exit_openat2", "sys_exit_open_by_handle_at"];
const DELETED: &[&str] = &["sys_exit_unlink", "sys_exit_unlinkat", "sys_exit_rmdir"];
const RENAMED: &[&str] = &["sys_exit_rename", "sys_exit_renameat", "sys_exit_renameat2"];
const LINKED: &[&str] = &["sys_exit_link", "sys_exit_linkat", "sys_exit_symlink", "sys_exit_symlinkat"];
const ATTRIBUTE_SET: &[&str] = &[
    "sys_exit_chmod",
    "sys_exit_fchmod",
    "sys_exit_fchmodat",
    "sys_exit_fchmodat2",
    "sys_exit_chown",
    "sys_exit_lchown",
    "sys_exit_fchown",
    "sys_exit_fchownat",
    "sys_exit_utime",
    "sys_exit_utimes",
    "sys_exit_futimesat",
    "sys_exit_utimensat",
    "sys_exit_truncate",
    "sys_exit_ftruncate",
    "sys_exit_setxattr",
    "sys_exit_lsetxattr",
    "sys_exit_fsetxattr",
    "sys_exit_removexattr",
    "sys_exit_lremovexattr",
    "sys_exit_fremovexattr",
    "sys_exit_setxattrat",
    "sys_exit_removexattrat",
];

/// One object of programs.
pub(crate) struct Family {
    /// Its name, that of the file.
    pub(crate) name: &'static str,
    /// The compiled object.
    pub(crate) object: &'static [u8],
    /// The event types that it makes, each with the links that it takes: programs, or
    /// the tracepoints of [`AT_CALLS`]. What none of them is attached for is not seen;
    /// what only some are for is seen in part.
    pub(crate) makes: &'static [(EventType, &'static [&'static str])],
}

/// The one that must be there. The iterator `each_task` is not among what it makes.
pub(crate) fn process() -> Family {
    Family {
        name: "process",
        object: object!("process"),
        makes: &[(EventType::ProcessStart, &["on_exec", "on_fork"]), (EventType::ProcessExit, &["on_exit"])],
    }
}

/// The others, in the order in which they are loaded.
pub(crate) fn optional() -> Vec<Family> {
    vec![
        Family {
            name: "memory",
            object: object!("memory"),
            makes: &[(EventType::ProcessAccess, &["enter_ptrace", "exit_ptrace"])],
        },
        Family {
            name: "file",
            object: object!("file"),
            makes: &[
                (EventType::FileCreate, OPENED),
                (
                    EventType::FileModify,
                    &[
                        "sys_enter_close",
                        "sys_enter_dup2",
                        "sys_enter_dup3",
                        "enter_close_range",
                        "files_at_exec",
                        "files_at_exit",
                    ],
                ),
                (EventType::RawAccessRead, OPENED),
            ],
        },
        Family {
            name: "path",
            object: object!("path"),
            makes: &[
                (EventType::FileCreate, &["sys_exit_mkdir", "sys_exit_mkdirat"]),
                (EventType::FileDelete, DELETED),
                (EventType::FileRename, RENAMED),
                (EventType::FileLink, LINKED),
                (EventType::PipeCreate, &["sys_exit_mknod", "sys_exit_mknodat"]),
                (EventType::FileAttribute, ATTRIBUTE_SET),
            ],
        },
    ]
}

/// Tells this build's programs from another's.
pub(crate) fn object_hash() -> u64 {
    env!("RAMPART_BPF_OBJECT_HASH").parse().expect("build.rs writes a number")
}
