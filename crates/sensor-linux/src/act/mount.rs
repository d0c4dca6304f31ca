//! File systems that are mounted, moved and unmounted.

use event_model::{EventType, Field, Value};

use super::{Act, flag_names, text};

/// As `bpf/act.h` numbers them.
const ACT_MOUNT: u16 = 27;
const ACT_UMOUNT: u16 = 28;
const ACT_MOVE_MOUNT: u16 = 29;
const ACT_PIVOT_ROOT: u16 = 30;

/// Flags of mount(2) (`linux/mount.h`).
const MS_REMOUNT: u64 = 32;
const MS_MOVE: u64 = 8192;
const MOUNT_FLAGS: [(u64, &str); 20] = [
    (1, "MS_RDONLY"),
    (2, "MS_NOSUID"),
    (4, "MS_NODEV"),
    (8, "MS_NOEXEC"),
    (16, "MS_SYNCHRONOUS"),
    (MS_REMOUNT, "MS_REMOUNT"),
    (64, "MS_MANDLOCK"),
    (128, "MS_DIRSYNC"),
    (256, "MS_NOSYMFOLLOW"),
    (1024, "MS_NOATIME"),
    (2048, "MS_NODIRATIME"),
    (4096, "MS_BIND"),
    (MS_MOVE, "MS_MOVE"),
    (16384, "MS_REC"),
    (32768, "MS_SILENT"),
    (1 << 17, "MS_UNBINDABLE"),
    (1 << 18, "MS_PRIVATE"),
    (1 << 19, "MS_SLAVE"),
    (1 << 20, "MS_SHARED"),
    (1 << 21, "MS_RELATIME"),
];
/// The old mark of a call of mount(2), in the upper half of the flags; it means nothing.
const MS_MGC_MASK: u64 = 0xffff_0000;
const MS_MGC_VAL: u64 = 0xc0ed_0000;
const UMOUNT_FLAGS: [(u64, &str); 4] =
    [(1, "MNT_FORCE"), (2, "MNT_DETACH"), (4, "MNT_EXPIRE"), (8, "UMOUNT_NOFOLLOW")];

pub(super) fn fields(act: &Act<'_>) -> Option<(EventType, Vec<(Field, Value)>)> {
    let mut fields = Vec::with_capacity(8);
    let mut flags = None;
    let action = match act.kind {
        ACT_MOUNT => {
            let mut bits = act.numbers[0];
            if bits & MS_MGC_MASK == MS_MGC_VAL {
                bits &= !MS_MGC_MASK;
            }
            flags = Some(flag_names(bits, &MOUNT_FLAGS));
            match bits {
                _ if bits & MS_REMOUNT != 0 => "remount",
                _ if bits & MS_MOVE != 0 => "move",
                _ => "mount",
            }
        }
        ACT_UMOUNT => {
            flags = Some(flag_names(act.numbers[0], &UMOUNT_FLAGS));
            "unmount"
        }
        ACT_MOVE_MOUNT if act.numbers[0] != 0 => "mount",
        ACT_MOVE_MOUNT => "move",
        ACT_PIVOT_ROOT => "pivot_root",
        _ => return None,
    };
    fields.push((Field::EventAction, text(action)));
    fields.push((Field::MountTarget, text(target(act))));
    if matches!(act.kind, ACT_MOUNT | ACT_MOVE_MOUNT) {
        for (index, field) in [(1, Field::MountSource), (2, Field::MountType)] {
            if !act.text(index).is_empty() {
                fields.push((field, text(act.text(index))));
            }
        }
    }
    fields.extend(flags.map(|flags| (Field::MountFlags, flags)));
    act.outcome(&mut fields);
    Some((EventType::Mount, fields))
}

/// Where: as the kernel sees it, else as the caller said it, from its working directory on.
fn target(act: &Act<'_>) -> String {
    if act.kind == ACT_MOVE_MOUNT {
        return if act.bytes(0).is_empty() { act.text(3) } else { act.path(0) };
    }
    let given = act.text(0);
    if given.starts_with('/') {
        return given;
    }
    let directory = act.path(3);
    match given.trim_start_matches("./") {
        "" | "." => directory,
        name => format!("{}/{name}", directory.trim_end_matches('/')),
    }
}
