//! Processes that look into others or change them.

use event_model::{EventType, Field, Value};

use super::{Act, integer, name_of, text};

/// As `bpf/act.h` numbers them.
const ACT_PTRACE: u16 = 16;
const ACT_PROCESS_VM: u16 = 17;
const ACT_PIDFD_GETFD: u16 = 18;
const ACT_PROC_OPEN: u16 = 19;
const ACT_PRCTL: u16 = 21;

/// Requests of ptrace(2) that are told (`linux/ptrace.h`).
const PTRACE_REQUESTS: [(u64, &str); 14] = [
    (1, "PTRACE_PEEKTEXT"),
    (2, "PTRACE_PEEKDATA"),
    (3, "PTRACE_PEEKUSER"),
    (4, "PTRACE_POKETEXT"),
    (5, "PTRACE_POKEDATA"),
    (6, "PTRACE_POKEUSER"),
    (12, "PTRACE_GETREGS"),
    (13, "PTRACE_SETREGS"),
    (14, "PTRACE_GETFPREGS"),
    (15, "PTRACE_SETFPREGS"),
    (16, "PTRACE_ATTACH"),
    (0x4204, "PTRACE_GETREGSET"),
    (0x4205, "PTRACE_SETREGSET"),
    (0x4206, "PTRACE_SEIZE"),
];
/// Those that change the traced process.
const PTRACE_WRITES: [u64; 6] = [4, 5, 6, 13, 15, 0x4205];

/// Options of prctl(2) that are told, and the first arguments of the second (`linux/prctl.h`).
const PRCTL_OPTIONS: [(u64, &str); 2] = [(PR_SET_NAME, "PR_SET_NAME"), (35, "PR_SET_MM")];
const PR_SET_NAME: u64 = 15;
const MM_FIELDS: [(u64, &str); 15] = [
    (1, "PR_SET_MM_START_CODE"),
    (2, "PR_SET_MM_END_CODE"),
    (3, "PR_SET_MM_START_DATA"),
    (4, "PR_SET_MM_END_DATA"),
    (5, "PR_SET_MM_START_STACK"),
    (6, "PR_SET_MM_START_BRK"),
    (7, "PR_SET_MM_BRK"),
    (8, "PR_SET_MM_ARG_START"),
    (9, "PR_SET_MM_ARG_END"),
    (10, "PR_SET_MM_ENV_START"),
    (11, "PR_SET_MM_ENV_END"),
    (12, "PR_SET_MM_AUXV"),
    (13, "PR_SET_MM_EXE_FILE"),
    (14, "PR_SET_MM_MAP"),
    (15, "PR_SET_MM_MAP_SIZE"),
];

/// How a file was opened (`linux/fs.h`).
const FMODE_READ: u64 = 1;
const FMODE_WRITE: u64 = 2;

pub(super) fn fields(act: &Act<'_>) -> Option<(EventType, Vec<(Field, Value)>)> {
    let mut fields = Vec::with_capacity(6);
    let event_type = match act.kind {
        ACT_PTRACE => {
            fields.push((Field::AccessMethod, text("ptrace")));
            fields.push((Field::AccessMode, name_of(act.numbers[0], &PTRACE_REQUESTS)));
            access(PTRACE_WRITES.contains(&act.numbers[0]))
        }
        ACT_PROCESS_VM => {
            let writes = act.numbers[2] != 0;
            let (method, mode) =
                if writes { ("process_vm_writev", "write") } else { ("process_vm_readv", "read") };
            fields.push((Field::AccessMethod, text(method)));
            fields.push((Field::AccessMode, text(mode)));
            fields.push((Field::AccessAddress, text(format!("{:#x}", act.numbers[0]))));
            fields.push((Field::AccessBytes, integer(act.numbers[1])));
            access(writes)
        }
        ACT_PIDFD_GETFD => {
            fields.push((Field::AccessMethod, text("pidfd_getfd")));
            fields.push((Field::AccessMode, text(format!("descriptor {}", act.numbers[0]))));
            EventType::ProcessAccess
        }
        ACT_PROC_OPEN => {
            let name = act.text(0);
            let mode = act.numbers[0];
            let writes = name == "mem" && mode & FMODE_WRITE != 0;
            let mode = match (mode & FMODE_READ != 0, mode & FMODE_WRITE != 0) {
                (true, true) => "read and write",
                (_, true) => "write",
                _ => "read",
            };
            fields.push((Field::AccessMethod, text(format!("/proc/pid/{name}"))));
            fields.push((Field::AccessMode, text(mode)));
            access(writes)
        }
        ACT_PRCTL => {
            fields.push((Field::AccessMethod, text("prctl")));
            fields.push((Field::AccessMode, name_of(act.numbers[0], &PRCTL_OPTIONS)));
            if act.numbers[0] == PR_SET_NAME {
                fields.push((Field::ChangeNew, text(act.text(0))));
            } else {
                fields.push((Field::ChangedFields, Value::TextList(vec![mm_field(act.numbers[1])])));
            }
            EventType::ProcessTamper
        }
        _ => return None,
    };
    act.outcome(&mut fields);
    Some((event_type, fields))
}

fn access(writes: bool) -> EventType {
    if writes { EventType::ProcessTamper } else { EventType::ProcessAccess }
}

fn mm_field(number: u64) -> String {
    let known = MM_FIELDS.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}
