//! Processes that look into others or change them.

use event_model::{EventType, Field, Value};

use super::{Act, text};

/// As `bpf/act.h` numbers them.
const ACT_PTRACE: u16 = 16;

/// Requests of ptrace(2) (`linux/ptrace.h`).
const PTRACE_REQUESTS: [(u64, &str); 6] = [
    (2, "PTRACE_PEEKDATA"),
    (4, "PTRACE_POKETEXT"),
    (5, "PTRACE_POKEDATA"),
    (16, "PTRACE_ATTACH"),
    (0x4205, "PTRACE_SETREGSET"),
    (0x4206, "PTRACE_SEIZE"),
];

pub(super) fn fields(act: &Act<'_>) -> Option<(EventType, Vec<(Field, Value)>)> {
    let mut fields = Vec::with_capacity(4);
    let event_type = match act.kind {
        ACT_PTRACE => {
            let known = PTRACE_REQUESTS.iter().find(|(number, _)| *number == act.numbers[0]);
            let request = known.map_or_else(|| act.numbers[0].to_string(), |(_, name)| (*name).to_owned());
            fields.push((Field::AccessMethod, text("ptrace")));
            fields.push((Field::AccessMode, text(request)));
            EventType::ProcessAccess
        }
        _ => return None,
    };
    act.outcome(&mut fields);
    Some((event_type, fields))
}
