use std::collections::HashMap;

use super::*;

/// A record of the given type with room for all fixed fields.
fn exec_record(parts: &[(usize, &[u8])], flags: u16) -> Vec<u8> {
    let mut bytes = vec![0; at::EXEC_SIZE];
    for (len_at, part) in parts {
        put(&mut bytes, *len_at, &u16::try_from(part.len()).unwrap().to_ne_bytes());
        bytes.extend_from_slice(part);
    }
    let size = u32::try_from(bytes.len()).unwrap();
    put(&mut bytes, at::MAGIC, &RECORD_MAGIC.to_ne_bytes());
    put(&mut bytes, at::TYPE, &RECORD_EXEC.to_ne_bytes());
    put(&mut bytes, at::FLAGS, &flags.to_ne_bytes());
    put(&mut bytes, at::SIZE, &size.to_ne_bytes());
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn image(bytes: &[u8]) -> ObservedImage {
    match decode(bytes) {
        Ok((_, Observation::ProcessExecuted(image))) => *image,
        other => panic!("no exec: {other:?}"),
    }
}

#[test]
fn paths_are_turned_round() {
    let record = exec_record(
        &[
            (at::EXECUTABLE_LEN, b"true\0bin\0usr\0"),
            (at::CWD_LEN, b""),
            (at::CGROUP_LEN, b"b\0a\0"),
            (at::TTY_LEN, b"pts3\0"),
            (at::ARGS_LEN, b"true\0\0x\0"),
        ],
        0,
    );
    let image = image(&record);
    assert_eq!(image.executable, "/usr/bin/true");
    assert_eq!(image.working_directory.as_deref(), Some("/"));
    assert_eq!(image.cgroup_path.as_deref(), Some("/a/b"));
    assert_eq!(image.tty.as_deref(), Some("pts/3"));
    assert_eq!(image.args, ["true", "", "x"]);
    assert!(!image.args_truncated);
    assert!(image.image_deleted, "no links");
}

#[test]
fn a_path_that_was_cut_is_replaced_or_marked() {
    let names: &[u8] = b"x\0deep\0";
    let by_filename = exec_record(
        &[(at::EXECUTABLE_LEN, names), (at::FILENAME_LEN, b"/a/deep/x\0")],
        EXEC_EXECUTABLE_CUT | EXEC_CWD_CUT | EXEC_ARGS_CUT,
    );
    assert_eq!(image(&by_filename).executable, "/a/deep/x");
    assert_eq!(image(&by_filename).working_directory.as_deref(), Some(".../"));
    assert!(image(&by_filename).args_truncated);
    let marked = exec_record(&[(at::EXECUTABLE_LEN, names), (at::FILENAME_LEN, b"x\0")], EXEC_EXECUTABLE_CUT);
    assert_eq!(image(&marked).executable, ".../deep/x");
}

#[test]
fn devices_are_numbered_as_stat_does() {
    assert_eq!(stat_device((8 << 20) | 1), 0x801);
    for device in [0, (8 << 20) | 1, (259 << 20) | 0x12345, u32::MAX] {
        assert_eq!(kernel_device(stat_device(device)), device);
    }
    assert_eq!(stat_device((259 << 20) | 0x12345), u64::from((0x45_u32) | (259 << 8) | (0x12300 << 12)));
}

#[test]
fn no_damage_to_a_record_panics() {
    let good = exec_record(&[(at::EXECUTABLE_LEN, b"true\0bin\0"), (at::ARGS_LEN, b"true\0x\0")], 0);
    assert!(decode(&good).is_ok());
    for length in 0..good.len() {
        assert_eq!(decode(&good[..length]), Err(Malformed), "cut to {length}");
    }
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut damaged = good.clone();
            damaged[at] = value;
            // Whatever it is now, it is read or refused.
            let _ = decode(&damaged);
            let _ = forked_process(&damaged);
        }
    }
    assert_eq!(decode(&exec_record(&[(at::ARGS_LEN, b"true\0")], 0)[..at::EXEC_SIZE]), Err(Malformed));
}

/// `bpf/record.h` states every offset in an assertion that the C compiler checks;
/// here they are compared with the offsets that Rust reads at.
#[test]
fn the_layout_is_that_of_the_header() {
    let header = include_str!("../../bpf/record.h");
    let mut stated = HashMap::new();
    for line in header.lines() {
        if let Some(rest) = line.strip_prefix("AT(").and_then(|rest| rest.strip_suffix(");")) {
            let parts: Vec<&str> = rest.split(", ").collect();
            stated.insert(format!("{}.{}", parts[0], parts[1]), parts[2].parse::<usize>().unwrap());
        } else if let Some(rest) = line.strip_prefix("SIZE(").and_then(|rest| rest.strip_suffix(");")) {
            let (name, size) = rest.split_once(", ").unwrap();
            stated.insert(name.to_owned(), size.parse().unwrap());
        }
    }
    let read = [
        ("record_head.magic", at::MAGIC),
        ("record_head.type", at::TYPE),
        ("record_head.flags", at::FLAGS),
        ("record_head.size", at::SIZE),
        ("record_head.pid", at::PID),
        ("record_head.at_ns", at::AT_NS),
        ("record_head.start_ns", at::START_NS),
        ("fork_record.parent_pid", at::PARENT_PID),
        ("fork_record.parent_start_ns", at::PARENT_START_NS),
        ("fork_record", at::FORK_SIZE),
        ("exit_record.wait_status", at::WAIT_STATUS),
        ("exit_record", at::EXIT_SIZE),
        ("exec_record.parent_pid", at::PARENT_PID),
        ("exec_record.parent_start_ns", at::PARENT_START_NS),
        ("exec_record.uid", at::UID),
        ("exec_record.euid", at::EUID),
        ("exec_record.gid", at::GID),
        ("exec_record.login_uid", at::LOGIN_UID),
        ("exec_record.session_id", at::SESSION_ID),
        ("exec_record.inode", at::INODE),
        ("exec_record.modified_s", at::MODIFIED_S),
        ("exec_record.size", at::FILE_SIZE),
        ("exec_record.modified_ns", at::MODIFIED_NS),
        ("exec_record.device", at::DEVICE),
        ("exec_record.links", at::LINKS),
        ("exec_record.args_bytes", at::ARGS_BYTES),
        ("exec_record.executable_len", at::EXECUTABLE_LEN),
        ("exec_record.cwd_len", at::CWD_LEN),
        ("exec_record.cgroup_len", at::CGROUP_LEN),
        ("exec_record.tty_len", at::TTY_LEN),
        ("exec_record.filename_len", at::FILENAME_LEN),
        ("exec_record.args_len", at::ARGS_LEN),
        ("exec_record.changed_ns", at::CHANGED_NS),
        ("exec_record.changed_s", at::CHANGED_S),
        ("exec_record.capabilities", at::CAPABILITIES),
        ("exec_record.namespaces", at::NAMESPACES),
        ("exec_record.environment_len", at::ENVIRONMENT_LEN),
        ("exec_record", at::EXEC_SIZE),
    ];
    for (name, offset) in read {
        assert_eq!(stated.get(name), Some(&offset), "{name}");
    }
    for (name, number) in [
        ("RECORD_FORK", u32::from(RECORD_FORK)),
        ("RECORD_EXEC", u32::from(RECORD_EXEC)),
        ("RECORD_EXIT", u32::from(RECORD_EXIT)),
        ("EXEC_EXECUTABLE_CUT", u32::from(EXEC_EXECUTABLE_CUT)),
        ("EXEC_CWD_CUT", u32::from(EXEC_CWD_CUT)),
        ("EXEC_ARGS_CUT", u32::from(EXEC_ARGS_CUT)),
        ("EXEC_ARGS_UNREAD", u32::from(EXEC_ARGS_UNREAD)),
        ("EXEC_BLOCKED_NAME", u32::from(EXEC_BLOCKED_NAME)),
        ("EXEC_BLOCKED_PATH", u32::from(EXEC_BLOCKED_PATH)),
        ("EXEC_BLOCKED_IMAGE", u32::from(EXEC_BLOCKED_IMAGE)),
    ] {
        let line = header.lines().find_map(|line| line.strip_prefix(&format!("#define {name} "))).unwrap();
        assert_eq!(line.split_whitespace().next().and_then(|text| text.parse().ok()), Some(number), "{name}");
    }
    assert!(header.contains(&format!("#define RECORD_MAGIC {RECORD_MAGIC:#x}u")));
}
