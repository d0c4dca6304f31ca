//! Processes that change whom they run as, or what they may.

use event_model::{EventType, Field, Value};

use super::{Act, name_of, text};

/// As `bpf/act.h` numbers them.
const ACT_IDS: u16 = 25;
const ACT_CAPSET: u16 = 26;
const CALLS: [(u64, &str); 6] =
    [(4, "setuid"), (5, "setreuid"), (6, "setresuid"), (7, "setgid"), (8, "setregid"), (9, "setresgid")];
/// The first of the calls that set groups.
const FIRST_OF_GROUPS: u64 = 7;

pub(super) fn fields(act: &Act<'_>) -> Option<(EventType, Vec<(Field, Value)>)> {
    let mut fields = Vec::with_capacity(8);
    match act.kind {
        ACT_IDS => {
            let (old, new) = (Ids::read(&act.numbers[1..4]), Ids::read(&act.numbers[4..7]));
            fields.push((Field::AccessMethod, name_of(act.numbers[0], &CALLS)));
            fields.push((Field::ChangeOld, text(old.describe())));
            fields.push((Field::ChangeNew, text(new.describe())));
            let changed = old.changed(&new);
            if !changed.is_empty() {
                fields.push((Field::ChangedFields, Value::TextList(changed)));
            }
            if act.numbers[0] < FIRST_OF_GROUPS {
                // Where it was refused, what the first argument asked for.
                let asked = u32::try_from(act.numbers[7] & u64::from(u32::MAX)).ok();
                let target = if act.result < 0 { asked.filter(|id| *id != u32::MAX) } else { Some(new.0[1]) };
                fields.extend(target.map(|id| (Field::UserTargetId, text(id.to_string()))));
            }
        }
        ACT_CAPSET => {
            fields.push((Field::AccessMethod, text("capset")));
            fields.push((Field::ChangeOld, text(capabilities(&act.numbers[1..4]))));
            fields.push((Field::ChangeNew, text(capabilities(&act.numbers[4..7]))));
        }
        _ => return None,
    }
    act.outcome(&mut fields);
    Some((EventType::PrivilegeChange, fields))
}

const NAMES: [&str; 6] = ["uid", "euid", "suid", "gid", "egid", "sgid"];

/// In the order of [`NAMES`].
struct Ids([u32; 6]);

impl Ids {
    fn read(pairs: &[u64]) -> Self {
        let mut ids = [0; 6];
        for (ids, pair) in ids.chunks_exact_mut(2).zip(pairs) {
            let bytes = pair.to_be_bytes();
            ids[0] = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            ids[1] = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        }
        Self(ids)
    }

    fn describe(&self) -> String {
        let parts: Vec<String> =
            NAMES.iter().zip(self.0).map(|(name, number)| format!("{name}={number}")).collect();
        parts.join(" ")
    }

    fn changed(&self, new: &Self) -> Vec<String> {
        let all = NAMES.iter().zip(self.0).zip(new.0);
        all.filter(|((_, old), new)| old != new).map(|((name, _), _)| (*name).to_owned()).collect()
    }
}

/// The sets as `/proc/PID/status` writes them.
fn capabilities(sets: &[u64]) -> String {
    let names = ["effective", "permitted", "inheritable"];
    let parts: Vec<String> = names.iter().zip(sets).map(|(name, set)| format!("{name}={set:016x}")).collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_in_pairs() {
        let ids = Ids::read(&[1 << 32 | 2, 3 << 32 | 4, 5 << 32 | 6]);
        assert_eq!(ids.describe(), "uid=1 euid=2 suid=3 gid=4 egid=5 sgid=6");
        let other = Ids([1, 0, 3, 4, 5, 0]);
        assert_eq!(ids.changed(&other), ["euid", "sgid"]);
    }
}
