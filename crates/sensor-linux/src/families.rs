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

/// One object of programs.
pub(crate) struct Family {
    /// Its name, that of the file.
    pub(crate) name: &'static str,
    /// The compiled object.
    pub(crate) object: &'static [u8],
    /// The event types that it makes, each with the programs that it takes. What none
    /// of them is attached for is not seen; what only some are for is seen in part.
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
            name: "network",
            object: object!("network"),
            makes: &[
                (EventType::NetworkConnect, &["enter_connect", "exit_connect", "on_packet_out"]),
                (EventType::NetworkAccept, &["exit_accept4", "exit_accept"]),
                (EventType::NetworkClose, &["on_tcp_state"]),
                (EventType::NetworkListen, &["on_tcp_state", "enter_bind", "exit_bind"]),
                (EventType::DnsQuery, &["on_packet_out", "on_packet_in", "on_tcp_query"]),
            ],
        },
        Family {
            name: "memory",
            object: object!("memory"),
            makes: &[(EventType::ProcessAccess, &["enter_ptrace", "exit_ptrace"])],
        },
    ]
}

/// Tells this build's programs from another's.
pub(crate) fn object_hash() -> u64 {
    env!("RAMPART_BPF_OBJECT_HASH").parse().expect("build.rs writes a number")
}
