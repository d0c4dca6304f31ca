//! Files in memory, BPF programs, kernel modules and namespaces.

use event_model::{EventType, Field, Value};

use super::{Act, flag_names, integer, name_of, text};

/// As `bpf/act.h` numbers them.
const ACT_MEMFD_CREATE: u16 = 23;
const ACT_UNSHARE: u16 = 31;
const ACT_SETNS: u16 = 32;
const ACT_CLONE_NAMESPACES: u16 = 33;
const ACT_BPF: u16 = 34;
const ACT_MODULE: u16 = 35;
const MODULE_CALLS: [(u64, &str); 3] =
    [(10, "init_module"), (11, "finit_module"), (CALL_DELETE_MODULE, "delete_module")];
const CALL_DELETE_MODULE: u64 = 12;

/// Flags of memfd_create(2) (`linux/memfd.h`).
const MEMFD_FLAGS: [(u64, &str); 5] = [
    (1, "MFD_CLOEXEC"),
    (2, "MFD_ALLOW_SEALING"),
    (4, "MFD_HUGETLB"),
    (8, "MFD_NOEXEC_SEAL"),
    (16, "MFD_EXEC"),
];
/// What the kernel writes before the name of a file in memory.
const MEMFD_PREFIX: &str = "memfd:";

/// Flags of clone(2), as the kinds that /proc/PID/ns names (`linux/sched.h`).
const NAMESPACES: [(u64, &str); 8] = [
    (0x0000_0080, "time"),
    (0x0002_0000, "mnt"),
    (0x0200_0000, "cgroup"),
    (0x0400_0000, "uts"),
    (0x0800_0000, "ipc"),
    (0x1000_0000, "user"),
    (0x2000_0000, "pid"),
    (0x4000_0000, "net"),
];

/// `enum bpf_prog_type` (`linux/bpf.h`), as bpftool writes them.
const PROGRAM_TYPES: [&str; 33] = [
    "unspec",
    "socket_filter",
    "kprobe",
    "sched_cls",
    "sched_act",
    "tracepoint",
    "xdp",
    "perf_event",
    "cgroup_skb",
    "cgroup_sock",
    "lwt_in",
    "lwt_out",
    "lwt_xmit",
    "sock_ops",
    "sk_skb",
    "cgroup_device",
    "sk_msg",
    "raw_tracepoint",
    "cgroup_sock_addr",
    "lwt_seg6local",
    "lirc_mode2",
    "sk_reuseport",
    "flow_dissector",
    "cgroup_sysctl",
    "raw_tracepoint_writable",
    "cgroup_sockopt",
    "tracing",
    "struct_ops",
    "ext",
    "lsm",
    "sk_lookup",
    "syscall",
    "netfilter",
];
const BPF_COMMANDS: [(u64, &str); 4] = [
    (BPF_PROG_LOAD, "prog_load"),
    (BPF_PROG_ATTACH, "prog_attach"),
    (17, "raw_tracepoint_open"),
    (28, "link_create"),
];
const BPF_PROG_LOAD: u64 = 5;
const BPF_PROG_ATTACH: u64 = 8;

pub(super) fn fields(act: &Act<'_>) -> Option<(EventType, Vec<(Field, Value)>)> {
    let mut fields = Vec::with_capacity(8);
    let event_type = match act.kind {
        ACT_MEMFD_CREATE => {
            let name = act.text(0);
            let name = name.strip_prefix(MEMFD_PREFIX).unwrap_or(&name);
            fields.push((Field::MemfdName, text(name)));
            fields.push((Field::MemfdFlags, flag_names(act.numbers[0], &MEMFD_FLAGS)));
            fields.push((Field::FileInode, integer(act.numbers[1])));
            EventType::MemfdCreate
        }
        ACT_UNSHARE => {
            namespace(&mut fields, "unshare", flag_names(act.numbers[0], &NAMESPACES));
            EventType::Namespace
        }
        ACT_CLONE_NAMESPACES => {
            namespace(&mut fields, "clone", flag_names(act.numbers[0], &NAMESPACES));
            EventType::Namespace
        }
        ACT_SETNS => {
            let kind = act.text(0);
            let kinds = if kind.is_empty() {
                flag_names(act.numbers[0], &NAMESPACES)
            } else {
                Value::TextList(vec![format!("{kind}:{}", act.numbers[1])])
            };
            namespace(&mut fields, "setns", kinds);
            EventType::Namespace
        }
        ACT_BPF => {
            bpf(act, &mut fields);
            EventType::BpfLoad
        }
        ACT_MODULE => {
            module(act, &mut fields);
            EventType::ModuleLoad
        }
        _ => return None,
    };
    act.outcome(&mut fields);
    Some((event_type, fields))
}

fn namespace(fields: &mut Vec<(Field, Value)>, action: &str, kinds: Value) {
    fields.push((Field::EventAction, text(action)));
    fields.push((Field::NamespaceKinds, kinds));
}

fn bpf(act: &Act<'_>, fields: &mut Vec<(Field, Value)>) {
    let [command, program_type, id, tag, attachment, ..] = act.numbers;
    let known = usize::try_from(program_type).ok().and_then(|index| PROGRAM_TYPES.get(index));
    fields.push((Field::EventAction, name_of(command, &BPF_COMMANDS)));
    fields.push((
        Field::BpfType,
        text(known.map_or_else(|| program_type.to_string(), |name| (*name).to_owned())),
    ));
    if !act.text(0).is_empty() {
        fields.push((Field::BpfName, text(act.text(0))));
    }
    if id != 0 {
        fields.push((Field::BpfId, integer(id)));
        let tag: String = tag.to_ne_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        fields.push((Field::BpfTag, text(tag)));
    }
    if !act.text(1).is_empty() {
        fields.push((Field::BpfAttachPoint, text(act.text(1))));
    } else if command == BPF_PROG_ATTACH || (command != BPF_PROG_LOAD && attachment != 0) {
        fields.push((Field::BpfAttachPoint, text(format!("attach_type {attachment}"))));
    }
}

fn module(act: &Act<'_>, fields: &mut Vec<(Field, Value)>) {
    let [call, bytes, signature, ..] = act.numbers;
    let path = if act.bytes(0).is_empty() { None } else { Some(act.path(0)) };
    let name = match (act.text(1), &path) {
        (name, Some(path)) if name.is_empty() => name_of_module_file(path),
        // From memory: where it failed, nobody but the image itself knows the name.
        (name, None) if name.is_empty() => "not known".to_owned(),
        (name, _) => name,
    };
    let action = if call == CALL_DELETE_MODULE { "unload" } else { "load" };
    fields.push((Field::ModuleName, text(name)));
    fields.push((Field::AccessMethod, name_of(call, &MODULE_CALLS)));
    fields.push((Field::EventAction, text(action)));
    fields.extend(path.map(|path| (Field::FilePath, text(path))));
    if bytes != 0 {
        fields.push((Field::FileSize, integer(bytes)));
    }
    if signature != 0 {
        fields.push((Field::ModuleSigned, Value::Boolean(signature == 2)));
    }
}

/// `/lib/modules/x/nf-nat.ko.xz` is `nf_nat`, as kmod reads names.
fn name_of_module_file(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let name = file.split_once(".ko").map_or(file, |(name, _)| name);
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_named_by_its_file() {
        assert_eq!(name_of_module_file("/lib/modules/6.1/nf-nat.ko.xz"), "nf_nat");
        assert_eq!(name_of_module_file("/tmp/evil.ko"), "evil");
        assert_eq!(name_of_module_file("/tmp/other"), "other");
    }
}
