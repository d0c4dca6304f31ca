//! The BPF programs by family: which object they stand in, and which events they make.
//!
//! A family is one object file (`bpf/NAME.bpf.c`). Without the first, process, there
//! is no eBPF sensor; every other one adds event types where the kernel takes it.

#[cfg(test)]
mod stack;

use std::path::Path;

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
    /// A tracepoint (`category/name`) that makes the family unneeded where it is there.
    /// One that has it stands in for that tracepoint, is dear, and is loaded only if asked for.
    pub(crate) only_without: Option<&'static str>,
}

/// The one that must be there. The iterator `each_task` is not among what it makes.
pub(crate) fn process() -> Family {
    Family {
        name: "process",
        object: object!("process"),
        makes: &[(EventType::ProcessStart, &["on_exec", "on_fork"]), (EventType::ProcessExit, &["on_exit"])],
        only_without: None,
    }
}

/// The others that this kernel has a use for, in the order in which they are loaded.
pub(crate) fn optional() -> Vec<Family> {
    let mut families = all_optional();
    families.retain(|family| family.only_without.is_none_or(|tracepoint| !is_there(tracepoint)));
    families
}

/// Where tracefs is mounted, the second on older systems.
const TRACING: [&str; 2] = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];

fn is_there(tracepoint: &str) -> bool {
    TRACING.iter().any(|events| Path::new(events).join(tracepoint).exists())
}

fn all_optional() -> Vec<Family> {
    vec![
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
            only_without: None,
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
            only_without: None,
        },
        Family {
            name: "network",
            object: object!("network"),
            makes: &[
                (EventType::NetworkConnect, &["enter_connect", "exit_connect", "on_tcp_state"]),
                (EventType::NetworkAccept, &["exit_accept4", "exit_accept"]),
                (EventType::NetworkClose, &["on_tcp_state", "on_destroy"]),
                (EventType::NetworkListen, &["on_tcp_state", "enter_bind", "exit_bind"]),
            ],
            only_without: None,
        },
        Family {
            name: "dns",
            object: object!("dns"),
            makes: &[
                // Of datagrams the first packet says that there is a flow.
                (EventType::NetworkConnect, &["on_packet_out", "on_raw_packet"]),
                (EventType::NetworkAccept, &["on_packet_out", "on_packet_in"]),
                (EventType::NetworkClose, &["on_packet_out", "on_packet_in", "on_socket_end"]),
                (EventType::DnsQuery, &["on_packet_out", "on_packet_in"]),
            ],
            only_without: None,
        },
        Family {
            name: "memory",
            object: object!("memory"),
            makes: &[
                (
                    EventType::ProcessAccess,
                    &[
                        "exit_ptrace",
                        "exit_vm_readv",
                        "exit_pidfd_getfd",
                        "exit_open_proc",
                        "exit_openat_proc",
                        "exit_openat2_proc",
                    ],
                ),
                (
                    EventType::ProcessTamper,
                    &["exit_ptrace", "exit_vm_writev", "exit_openat_proc", "exit_prctl"],
                ),
            ],
            only_without: None,
        },
        Family {
            name: "mapping",
            object: object!("mapping"),
            makes: &[
                (EventType::ImageLoad, &["exit_mmap"]),
                (EventType::ProcessTamper, &["exit_mmap", "exit_mprotect", "exit_pkey_mprotect"]),
            ],
            only_without: None,
        },
        Family {
            name: "signal",
            object: object!("signal"),
            makes: &[(
                EventType::Signal,
                &["on_signal", "exit_kill", "exit_tkill", "exit_tgkill", "exit_pidfd_send_signal"],
            )],
            only_without: None,
        },
        Family {
            name: "privilege",
            object: object!("privilege"),
            makes: &[(
                EventType::PrivilegeChange,
                &[
                    "enter_setuid",
                    "exit_setuid",
                    "enter_setreuid",
                    "exit_setreuid",
                    "enter_setresuid",
                    "exit_setresuid",
                    "enter_setgid",
                    "exit_setgid",
                    "enter_setregid",
                    "exit_setregid",
                    "enter_setresgid",
                    "exit_setresgid",
                    "enter_capset",
                    "exit_capset",
                ],
            )],
            only_without: None,
        },
        Family {
            name: "kernel_objects",
            object: object!("kernel_objects"),
            makes: &[
                (EventType::MemfdCreate, &["exit_memfd_create"]),
                (EventType::BpfLoad, &["exit_bpf"]),
                (EventType::Namespace, &["exit_unshare", "exit_setns", "on_fork_namespaces"]),
                (
                    EventType::ModuleLoad,
                    &["exit_init_module", "exit_finit_module", "exit_delete_module", "on_module_load"],
                ),
            ],
            only_without: None,
        },
        Family {
            name: "module_calls",
            object: object!("module_calls"),
            makes: &[(EventType::ModuleLoad, &["on_any_call"])],
            only_without: Some("syscalls/sys_exit_finit_module"),
        },
        Family {
            name: "mount",
            object: object!("mount"),
            makes: &[(
                EventType::Mount,
                &["exit_mount", "exit_umount", "exit_move_mount", "exit_pivot_root"],
            )],
            only_without: None,
        },
        Family {
            name: "unix_socket",
            object: object!("unix_socket"),
            makes: &[(EventType::UnixConnect, &["exit_connect_unix"])],
            only_without: None,
        },
    ]
}

/// Tells this build's programs from another's.
pub(crate) fn object_hash() -> u64 {
    env!("RAMPART_BPF_OBJECT_HASH").parse().expect("build.rs writes a number")
}
