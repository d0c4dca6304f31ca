//! Memory that can be executed.

use event_model::{EventType, Field, Value};

use super::{Act, integer, name_of, text};
use crate::record::stat_device;

/// As `bpf/act.h` numbers them.
const ACT_EXECUTABLE_MEMORY: u16 = 20;
const ACT_IMAGE_LOAD: u16 = 22;
const CALLS: [(u64, &str); 3] = [(1, "mmap"), (2, "mprotect"), (3, "pkey_mprotect")];
const BACKINGS: [(u64, &str); 4] =
    [(0, "not known"), (1, "anonymous"), (2, "file"), (3, "changed copy of a file")];
const DELETED: u64 = 1;
const MEMFD: u64 = 2;
const WORLD_WRITABLE: u64 = 4;

pub(super) fn fields(act: &Act<'_>) -> Option<(EventType, Vec<(Field, Value)>)> {
    let mut fields = Vec::with_capacity(8);
    match act.kind {
        ACT_EXECUTABLE_MEMORY => {
            fields.push((Field::AccessMethod, name_of(act.numbers[3], &CALLS)));
            fields.push((Field::AccessMode, name_of(act.numbers[4], &BACKINGS)));
            fields.push((Field::AccessAddress, text(format!("{:#x}", act.numbers[0]))));
            fields.push((Field::AccessBytes, integer(act.numbers[1])));
            fields.push((Field::MemoryProtection, text(protection(act.numbers[2]))));
            if !act.bytes(0).is_empty() {
                fields.push((Field::FilePath, text(act.path(0))));
            }
            act.outcome(&mut fields);
            Some((EventType::ProcessTamper, fields))
        }
        ACT_IMAGE_LOAD => {
            fields.push((Field::LibraryPath, text(act.path(0))));
            fields.push((Field::FileInode, integer(act.numbers[0])));
            let device = u32::try_from(act.numbers[1]).unwrap_or(0);
            fields.push((Field::FileDevice, integer(stat_device(device))));
            if let Some(origin) = origin(act.numbers[2]) {
                fields.push((Field::LibraryOrigin, text(origin)));
            }
            Some((EventType::ImageLoad, fields))
        }
        _ => None,
    }
}

/// Bits of mmap(2): 1 read, 2 write, 4 execute.
fn protection(bits: u64) -> String {
    let letters = [(1, 'r'), (2, 'w'), (4, 'x')];
    letters.iter().map(|(bit, letter)| if bits & bit != 0 { *letter } else { '-' }).collect()
}

/// What is oddest about it.
fn origin(odd: u64) -> Option<&'static str> {
    match odd {
        _ if odd & MEMFD != 0 => Some("memfd"),
        _ if odd & DELETED != 0 => Some("deleted"),
        _ if odd & WORLD_WRITABLE != 0 => Some("world_writable"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protection_reads_as_in_proc_maps() {
        assert_eq!(protection(7), "rwx");
        assert_eq!(protection(5), "r-x");
        assert_eq!(protection(4), "--x");
    }
}
