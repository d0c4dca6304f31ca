//! Acts: records of what processes did, as activities with fields.
//!
//! All hooks besides those of starts and ends write the same layout
//! (`struct act_record` of `bpf/record.h`); `bpf/act.h` says for each type what
//! its numbers and texts are, and the modules here give them their fields.

mod dns;
mod file;
mod kernel_objects;
mod mapping;
mod memory;
mod mount;
mod network;
mod privilege;
mod signal;
mod unix_socket;

use std::ops::Range;

use event_model::{EventType, Field, Value};
use sensor_api::{Actor, ObservedActivity, ProcessKey};

use crate::escape;
use crate::record::{Malformed, path_of_names, u16_at, u32_at, u64_at};

/// The first type that is an act.
pub(crate) const RECORD_ACTS: u16 = 16;

/// The types whose number 8 says for how many acts the record stands.
const COUNTED: Range<u16> = 16..64;
const COUNT_AT: usize = 8;

mod at {
    pub(super) const TARGET_PID: usize = 32;
    pub(super) const RESULT: usize = 36;
    pub(super) const TARGET_START_NS: usize = 40;
    pub(super) const NUMBERS: usize = 48;
    pub(super) const TEXT_LEN: usize = 120;
    pub(super) const SIZE: usize = 128;
}

/// A record of an act, taken apart.
#[derive(Debug)]
pub(crate) struct Act<'a> {
    /// Its type.
    pub(crate) kind: u16,
    /// When, in nanoseconds since boot.
    pub(crate) at_ns: u64,
    /// Who did it; PID 0 where the kernel could not tell.
    pub(crate) process: ProcessKey,
    /// To whom.
    pub(crate) target: Option<Actor>,
    /// 0 or more, or a negative errno.
    pub(crate) result: i32,
    pub(crate) numbers: [u64; 9],
    texts: [&'a [u8]; 4],
    cut: u16,
}

impl<'a> Act<'a> {
    /// Takes a record apart whose head has been checked.
    pub(crate) fn read(
        kind: u16,
        flags: u16,
        (at_ns, process): (u64, ProcessKey),
        bytes: &'a [u8],
    ) -> Result<Self, Malformed> {
        let mut rest = bytes.get(at::SIZE..).ok_or(Malformed)?;
        let mut texts = [[].as_slice(); 4];
        for (index, text) in texts.iter_mut().enumerate() {
            let length = usize::from(u16_at(bytes, at::TEXT_LEN + 2 * index)?);
            (*text, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        }
        if !rest.is_empty() {
            return Err(Malformed);
        }
        let mut numbers = [0; 9];
        for (index, number) in numbers.iter_mut().enumerate() {
            *number = u64_at(bytes, at::NUMBERS + 8 * index)?;
        }
        let pid = u32_at(bytes, at::TARGET_PID)?;
        let start_ns = u64_at(bytes, at::TARGET_START_NS)?;
        let target = match (pid, start_ns) {
            (0, _) => None,
            (_, 0) => Some(Actor::Pid(pid)),
            _ => Some(Actor::Life(ProcessKey { pid, start_ns })),
        };
        let result = u32_at(bytes, at::RESULT)?.cast_signed();
        Ok(Self { kind, at_ns, process, target, result, numbers, texts, cut: flags })
    }

    /// A text that is a path, as names from the last to the first.
    pub(crate) fn path(&self, index: usize) -> String {
        let path = path_of_names(self.texts[index]);
        if self.is_cut(index) { format!("...{path}") } else { path }
    }

    /// A plain text; bytes that are not UTF-8 as `\xNN`.
    pub(crate) fn text(&self, index: usize) -> String {
        let text = self.texts[index];
        escape::text(text.split(|byte| *byte == 0).next().unwrap_or(text))
    }

    /// The bytes of a text as they came.
    pub(crate) fn bytes(&self, index: usize) -> &'a [u8] {
        self.texts[index]
    }

    /// True where the text is not whole.
    pub(crate) fn is_cut(&self, index: usize) -> bool {
        self.cut & (1 << index) != 0
    }

    /// For how many acts it stands, where it is more than one.
    fn count(&self, fields: &mut Vec<(Field, Value)>) {
        if self.numbers[COUNT_AT] > 1 {
            fields.push((Field::EventCount, integer(self.numbers[COUNT_AT])));
        }
    }

    /// What of it failed: `event.outcome`, and the errno.
    pub(crate) fn outcome(&self, fields: &mut Vec<(Field, Value)>) {
        if self.result < 0 {
            fields.push((Field::EventOutcome, text("failure")));
            fields.push((Field::EventErrno, integer(self.result.unsigned_abs().into())));
        } else {
            fields.push((Field::EventOutcome, text("success")));
        }
    }
}

/// What an act of some family is, with its fields; `None` for those of the others.
type Fields = fn(&Act<'_>) -> Option<(EventType, Vec<(Field, Value)>)>;

const FAMILIES: [Fields; 9] = [
    file::fields,
    network::fields,
    memory::fields,
    mapping::fields,
    signal::fields,
    privilege::fields,
    kernel_objects::fields,
    mount::fields,
    unix_socket::fields,
];

/// The activity that an act is.
pub(crate) fn observed(act: &Act<'_>) -> Result<ObservedActivity, Malformed> {
    let (event_type, mut fields) = FAMILIES.iter().find_map(|fields| fields(act)).ok_or(Malformed)?;
    if COUNTED.contains(&act.kind) {
        act.count(&mut fields);
    }
    let actor = (act.process.pid != 0).then_some(Actor::Life(act.process));
    Ok(ObservedActivity { event_type, actor, target: act.target, fields })
}

/// The names of the bits that are set; bits without a name as one number in hex.
pub(crate) fn flag_names(flags: u64, names: &[(u64, &str)]) -> Value {
    let mut set: Vec<String> =
        names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| (*name).to_owned()).collect();
    let rest = names.iter().fold(flags, |rest, (bit, _)| rest & !bit);
    if rest != 0 {
        set.push(format!("{rest:#x}"));
    }
    Value::TextList(set)
}

/// The number's name, or the number.
pub(crate) fn name_of(number: u64, names: &[(u64, &str)]) -> Value {
    let known = names.iter().find(|(known, _)| *known == number);
    text(known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned()))
}

pub(crate) fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

/// Numbers beyond 2^63 stand at the largest value.
pub(crate) fn integer(number: u64) -> Value {
    Value::Integer(number.try_into().unwrap_or(i64::MAX))
}
