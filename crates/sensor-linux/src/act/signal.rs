//! Signals from one process to another.

use event_model::{EventType, Field, Value};

use super::{Act, integer};

/// As `bpf/act.h` numbers it.
const ACT_SIGNAL: u16 = 24;

pub(super) fn fields(act: &Act<'_>) -> Option<(EventType, Vec<(Field, Value)>)> {
    (act.kind == ACT_SIGNAL).then(|| {
        let mut fields = vec![(Field::SignalNumber, integer(act.numbers[0]))];
        act.outcome(&mut fields);
        (EventType::Signal, fields)
    })
}
