//! Starts of processes as the kernel's own logger tells them: the only place that has the command line of one
//! that is gone before anybody could open it. Bytes from outside: whatever they are, they give a launch or none.

/// The class `Process` of the kernel's logger.
pub const SYSTEM_PROCESS: u128 = 0x3d6f_a8d0_fe05_11d0_9dda_00c0_4fd7_ba7c;

/// The opcode of a start. Those that were there before have another.
const START: u8 = 1;

/// A start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// PID.
    pub pid: u32,
    /// PID of its parent.
    pub parent: u32,
    /// The SID of whom it runs as, as the system lays it out.
    pub sid: Option<Vec<u8>>,
    /// Its command line.
    pub command_line: String,
}

/// Reads `Process_TypeGroup1` of a kernel of 64 bits, in its versions 3 and later (a later one only adds at the
/// end): key, PID, parent, session, exit status, page table, from version 4 flags; then the user, the image's
/// name and the command line, each as long as it is. `None` for any other event, and for one that ends early.
pub fn launch(opcode: u8, version: u8, payload: &[u8]) -> Option<Launch> {
    let tail = match version {
        0..=2 => return None,
        3 => 32,
        _ => 36,
    };
    if opcode != START {
        return None;
    }
    let (pid, parent) = (number(payload, 8)?, number(payload, 12)?);
    let (sid, rest) = user(payload.get(tail..)?)?;
    let image_ends = rest.iter().position(|byte| *byte == 0)?;
    let units = rest[image_ends + 1..].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let mut line: Vec<u16> = units.collect();
    // Without its zero it is not all of it.
    line.truncate(line.iter().position(|unit| *unit == 0)?);
    let command_line = String::from_utf16_lossy(&line);
    (pid != 0).then_some(Launch { pid, parent, sid, command_line })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

/// The user at the beginning, and what is behind: four zeros for none, or two pointers (of which the first is
/// never zero) and a SID.
fn user(bytes: &[u8]) -> Option<(Option<Vec<u8>>, &[u8])> {
    const POINTERS: usize = 16;
    if number(bytes, 0)? == 0 {
        return Some((None, &bytes[4..]));
    }
    let sid = bytes.get(POINTERS..)?;
    // Revision 1, how many parts, six bytes of authority, and four for each part.
    let &[1, parts @ 0..=15, ..] = sid else { return None };
    let length = 8 + 4 * usize::from(parts);
    Some((Some(sid.get(..length)?.to_vec()), &sid[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];

    fn payload(version: u8, sid: Option<&[u8]>, line: &str) -> Vec<u8> {
        let mut bytes = vec![0xab; 8];
        bytes.extend([77_u32, 66, 1, 0].into_iter().flat_map(u32::to_le_bytes));
        bytes.extend([0xcd; 8]);
        bytes.extend(if version > 3 { vec![0; 4] } else { Vec::new() });
        match sid {
            None => bytes.extend([0; 4]),
            Some(sid) => {
                bytes.extend([0xee; 16]);
                bytes.extend(sid);
            }
        }
        bytes.extend(b"cmd.exe\0");
        bytes.extend(line.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        bytes
    }

    #[test]
    fn a_launch_is_read_in_each_version_with_and_without_a_user() {
        for version in [3, 4, 5] {
            for sid in [None, Some(&SID[..])] {
                let mut bytes = payload(version, sid, "cmd /c \u{e4}");
                // Later versions tell of packages behind it.
                bytes.extend([0; 4]);
                let read = launch(1, version, &bytes).unwrap();
                assert_eq!((read.pid, read.parent, read.command_line.as_str()), (77, 66, "cmd /c \u{e4}"));
                assert_eq!(read.sid.as_deref(), sid);
            }
        }
    }

    #[test]
    fn what_ends_early_or_is_no_start_gives_none() {
        let bytes = payload(4, Some(&SID), "cmd /c x");
        for end in 0..bytes.len() {
            assert_eq!(launch(1, 4, &bytes[..end]), None, "{end}");
        }
        assert!(launch(1, 4, &bytes).is_some());
        assert_eq!(launch(3, 4, &bytes), None, "it was there before");
        assert_eq!(launch(1, 2, &bytes), None, "a layout that is not known");
        let mut broken = bytes;
        broken[36 + 16] = 9;
        assert_eq!(launch(1, 4, &broken), None, "no SID");
    }
}
