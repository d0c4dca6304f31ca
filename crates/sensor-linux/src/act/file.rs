//! Files: made, written, removed, renamed, linked, their attributes set; devices
//! opened past the file system.

mod object;

use event_model::{EventType, Field, Timestamp, Value};

use super::{Act, integer, text};
use crate::record::stat_device;

/// As `bpf/act.h` numbers them.
const ACT_FILE_CREATE: u16 = 64;
const ACT_FILE_MODIFY: u16 = 65;
const ACT_RAW_ACCESS: u16 = 66;
const ACT_FILE_DELETE: u16 = 67;
const ACT_FILE_RENAME: u16 = 68;
const ACT_FILE_LINK: u16 = 69;
const ACT_FILE_SYMLINK: u16 = 70;
const ACT_DIR_CREATE: u16 = 71;
const ACT_NODE_CREATE: u16 = 72;
const ACT_FILE_MODE: u16 = 73;
const ACT_FILE_OWNER: u16 = 74;
const ACT_FILE_TIMES: u16 = 75;
const ACT_FILE_TRUNCATE: u16 = 76;
const ACT_FILE_XATTR: u16 = 77;

/// As `bpf/file.h` numbers them.
const INODE: usize = 0;
const DEVICE: usize = 1;
const MODE: usize = 2;
const OWNER: usize = 3;
const SIZE: usize = 4;
const MODIFIED: usize = 5;
const NEW: usize = 6;
const OLD: usize = 7;
const KNOWN: usize = 8;
const KNOWN_INODE: u64 = 1;
const KNOWN_OLD: u64 = 2;
const KNOWN_SAME_BASE: u64 = 4;

const S_IFMT: u64 = 0o170_000;
const S_IFIFO: u64 = 0o010_000;
const S_IFDIR: u64 = 0o040_000;
const S_IFREG: u64 = 0o100_000;
const RENAME_EXCHANGE: u64 = 2;
/// Where `chown` leaves the user or the group as it is.
const UNCHANGED: u32 = u32::MAX;
/// `utimensat` was given no time: the file's becomes that of the event.
const TIME_NOW: u64 = u64::MAX;

type Fields = Vec<(Field, Value)>;

pub(super) fn fields(act: &Act<'_>) -> Option<(EventType, Fields)> {
    let mut fields = Vec::with_capacity(14);
    let event_type = match act.kind {
        ACT_FILE_CREATE => {
            file(act, "create", &mut fields);
            EventType::FileCreate
        }
        ACT_FILE_MODIFY => {
            // Opened to be emptied, and nothing was written after.
            let operation = if act.numbers[SIZE] == 0 { "truncate" } else { "modify" };
            file(act, operation, &mut fields);
            if let Some(size) = old(act) {
                fields.push((Field::FileOldSize, integer(size)));
            }
            EventType::FileModify
        }
        ACT_RAW_ACCESS => {
            name_file(path(act, 0), None, &mut fields);
            let mode = match act.numbers[OLD] & 3 {
                2 => "write",
                3 => "read_write",
                _ => "read",
            };
            fields.push((Field::AccessMode, text(mode)));
            fields.push((Field::AccessMethod, text("open")));
            EventType::RawAccessRead
        }
        ACT_FILE_DELETE => {
            operation("delete", &mut fields);
            let is_directory = act.numbers[NEW] != 0;
            name_file(path(act, 0), is_directory.then_some("directory"), &mut fields);
            act.outcome(&mut fields);
            EventType::FileDelete
        }
        ACT_FILE_RENAME => {
            let exchanged = act.numbers[NEW] & RENAME_EXCHANGE != 0;
            operation(if exchanged { "exchange" } else { "rename" }, &mut fields);
            name_file(path(act, 2), None, &mut fields);
            fields.push((Field::FileOldPath, text(path(act, 0))));
            act.outcome(&mut fields);
            EventType::FileRename
        }
        ACT_FILE_LINK => {
            operation("link", &mut fields);
            name_file(path(act, 2), None, &mut fields);
            fields.push((Field::FileTargetPath, text(path(act, 0))));
            EventType::FileLink
        }
        ACT_FILE_SYMLINK => {
            operation("symlink", &mut fields);
            name_file(path(act, 2), None, &mut fields);
            // As it stands in the link: what it leads to depends on when one looks.
            fields.push((Field::FileTargetPath, text(act.text(0))));
            EventType::FileLink
        }
        ACT_DIR_CREATE => {
            operation("create", &mut fields);
            name_file(path(act, 0), Some("directory"), &mut fields);
            EventType::FileCreate
        }
        ACT_NODE_CREATE => made_node(act, &mut fields),
        ACT_FILE_MODE..=ACT_FILE_XATTR => {
            attribute(act, &mut fields);
            EventType::FileAttribute
        }
        _ => return None,
    };
    incomplete(act, &mut fields);
    Some((event_type, fields))
}

fn made_node(act: &Act<'_>, fields: &mut Fields) -> EventType {
    let object = match act.numbers[NEW] & S_IFMT {
        S_IFIFO => {
            fields.push((Field::PipeName, text(path(act, 0))));
            return EventType::PipeCreate;
        }
        // mknod(2): no type is a regular file.
        0 | S_IFREG => None,
        _ => Some("device"),
    };
    operation("create", fields);
    name_file(path(act, 0), object, fields);
    EventType::FileCreate
}

fn attribute(act: &Act<'_>, fields: &mut Fields) {
    let new = act.numbers[NEW];
    let inode_is_known = act.numbers[KNOWN] & KNOWN_INODE != 0;
    let what = match act.kind {
        ACT_FILE_MODE => "mode",
        ACT_FILE_OWNER => "owner",
        ACT_FILE_TIMES => "times",
        ACT_FILE_TRUNCATE => "truncate",
        _ => "xattr",
    };
    if inode_is_known {
        file(act, what, fields);
    } else {
        operation(what, fields);
        name_file(path(act, 0), None, fields);
    }
    match act.kind {
        ACT_FILE_MODE => {
            if !inode_is_known {
                fields.push((Field::FileMode, octal(new)));
            }
            fields.extend(old(act).map(|mode| (Field::FileOldMode, octal(mode))));
        }
        ACT_FILE_OWNER => {
            let (uid, gid) = owner(new);
            if !inode_is_known {
                let set = [(Field::FileOwnerId, uid), (Field::FileGroupId, gid)];
                let set = set.into_iter().filter(|(_, id)| *id != UNCHANGED);
                fields.extend(set.map(|(field, id)| (field, text(id.to_string()))));
            }
            fields.extend(old(act).map(owner).map(|(uid, gid)| {
                let before = format!("{uid}:{gid}");
                (Field::FileOldOwner, text(before))
            }));
        }
        ACT_FILE_TIMES => {
            if !inode_is_known && new != TIME_NOW {
                fields.push((Field::FileModified, time(new)));
            }
            fields.extend(old(act).map(|before| (Field::FileOldModified, time(before))));
        }
        ACT_FILE_TRUNCATE => {
            if !inode_is_known {
                fields.push((Field::FileSize, integer(new)));
            }
            fields.extend(old(act).map(|size| (Field::FileOldSize, integer(size))));
        }
        _ => {
            fields.push((Field::FileAttributeName, text(act.text(2))));
            fields.push((Field::EventAction, text(if new == 0 { "set" } else { "remove" })));
        }
    }
}

/// All that a known inode tells.
fn file(act: &Act<'_>, what: &str, fields: &mut Fields) {
    let (uid, gid) = owner(act.numbers[OWNER]);
    let is_directory = act.numbers[MODE] & S_IFMT == S_IFDIR;
    operation(what, fields);
    name_file(path(act, 0), is_directory.then_some("directory"), fields);
    fields.extend([
        (Field::FileInode, integer(act.numbers[INODE])),
        (Field::FileDevice, integer(stat_device(act.numbers[DEVICE] as u32))),
        (Field::FileMode, octal(act.numbers[MODE])),
        (Field::FileOwnerId, text(uid.to_string())),
        (Field::FileGroupId, text(gid.to_string())),
        (Field::FileSize, integer(act.numbers[SIZE])),
        (Field::FileModified, time(act.numbers[MODIFIED])),
    ]);
}

fn operation(what: &str, fields: &mut Fields) {
    fields.push((Field::FileOperation, text(what)));
}

/// The fields that follow from a path; `kind` is what is said of a file whose place says nothing.
fn name_file(path: String, kind: Option<&'static str>, fields: &mut Fields) {
    let name = path.rsplit('/').next().unwrap_or_default();
    if let Some((stem, extension)) = name.rsplit_once('.')
        && !stem.is_empty()
        && !extension.is_empty()
    {
        fields.push((Field::FileExtension, text(extension)));
    }
    fields.push((Field::FileName, text(name)));
    if let Some(object) = object::by_path(&path).or(kind) {
        fields.push((Field::FileObject, text(object)));
    }
    fields.push((Field::FilePath, text(path)));
}

/// The path in texts `index` and, where it was given to a call, `index + 1`.
fn path(act: &Act<'_>, index: usize) -> String {
    if act.numbers[KNOWN] & KNOWN_INODE != 0 {
        return act.path(index);
    }
    let same_base = index == 2 && act.numbers[KNOWN] & KNOWN_SAME_BASE != 0;
    absolute(&act.path(if same_base { 1 } else { index + 1 }), &act.text(index))
}

/// A path that was given, from where it begins. `.` and `..` are resolved by the text
/// alone: what was a link there is not known.
fn absolute(base: &str, given: &str) -> String {
    let (cut, base) = base.strip_prefix("...").map_or(("", base), |rest| ("...", rest));
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(given.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    let mut path = String::with_capacity(base.len() + given.len() + 2);
    path.push_str(cut);
    for part in &parts {
        path.push('/');
        path.push_str(part);
    }
    if parts.is_empty() {
        path.push('/');
    }
    path
}

fn incomplete(act: &Act<'_>, fields: &mut Fields) {
    if (0..4).all(|index| !act.is_cut(index)) {
        return;
    }
    let mut cut = Vec::new();
    if act.is_cut(0) || act.is_cut(1) {
        let two = matches!(act.kind, ACT_FILE_RENAME | ACT_FILE_LINK | ACT_FILE_SYMLINK);
        let field = match act.kind {
            ACT_FILE_RENAME => "rampart.file.old_path",
            _ if two => "file.target_path",
            _ => "file.path",
        };
        cut.push(format!("{field}: cut"));
    }
    if act.is_cut(2) || act.is_cut(3) {
        let field = if act.kind == ACT_FILE_XATTR { "rampart.file.attribute" } else { "file.path" };
        cut.push(format!("{field}: cut"));
    }
    fields.push((Field::EventIncomplete, Value::TextList(cut)));
}

fn old(act: &Act<'_>) -> Option<u64> {
    (act.numbers[KNOWN] & KNOWN_OLD != 0).then_some(act.numbers[OLD])
}

/// User and group.
fn owner(both: u64) -> (u32, u32) {
    (both as u32, (both >> 32) as u32)
}

fn octal(mode: u64) -> Value {
    text(format!("{:04o}", mode & 0o7777))
}

fn time(nanos: u64) -> Value {
    Value::Time(Timestamp::from_nanos(nanos.cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_paths_become_whole_ones() {
        for (base, given, whole) in [
            ("/home/a", "b", "/home/a/b"),
            ("/", "/etc/passwd", "/etc/passwd"),
            ("/srv/root", "/etc/passwd", "/srv/root/etc/passwd"),
            ("/home/a", "../b/./c//d/", "/home/b/c/d"),
            ("/", "../../..", "/"),
            ("/home/a/file", "", "/home/a/file"),
            (".../deep/dir", "x", ".../deep/dir/x"),
            ("/d", "a\nb\u{1b}[31m", "/d/a\nb\u{1b}[31m"),
        ] {
            assert_eq!(absolute(base, given), whole);
        }
    }

    #[test]
    fn names_have_extensions_only_where_one_stands() {
        let fields = |path: &str| {
            let mut fields = Vec::new();
            name_file(path.to_owned(), None, &mut fields);
            let find = |field| {
                fields.iter().find_map(|(own, value)| match value {
                    Value::Text(text) if *own == field => Some(text.clone()),
                    _ => None,
                })
            };
            (find(Field::FileName), find(Field::FileExtension))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(fields("/a/b.tar.gz"), (some("b.tar.gz"), some("gz")));
        assert_eq!(fields("/a.d/.bashrc"), (some(".bashrc"), None));
        assert_eq!(fields("/a/end."), (some("end."), None));
    }

    #[test]
    fn the_numbers_are_those_of_the_header() {
        let header = [include_str!("../../bpf/act.h"), include_str!("../../bpf/file.h")].concat();
        for (name, number) in [
            ("ACT_FILE_CREATE", u64::from(ACT_FILE_CREATE)),
            ("ACT_FILE_MODIFY", u64::from(ACT_FILE_MODIFY)),
            ("ACT_RAW_ACCESS", u64::from(ACT_RAW_ACCESS)),
            ("ACT_FILE_DELETE", u64::from(ACT_FILE_DELETE)),
            ("ACT_FILE_RENAME", u64::from(ACT_FILE_RENAME)),
            ("ACT_FILE_LINK", u64::from(ACT_FILE_LINK)),
            ("ACT_FILE_SYMLINK", u64::from(ACT_FILE_SYMLINK)),
            ("ACT_DIR_CREATE", u64::from(ACT_DIR_CREATE)),
            ("ACT_NODE_CREATE", u64::from(ACT_NODE_CREATE)),
            ("ACT_FILE_MODE", u64::from(ACT_FILE_MODE)),
            ("ACT_FILE_OWNER", u64::from(ACT_FILE_OWNER)),
            ("ACT_FILE_TIMES", u64::from(ACT_FILE_TIMES)),
            ("ACT_FILE_TRUNCATE", u64::from(ACT_FILE_TRUNCATE)),
            ("ACT_FILE_XATTR", u64::from(ACT_FILE_XATTR)),
            ("FILE_INODE", INODE as u64),
            ("FILE_DEVICE", DEVICE as u64),
            ("FILE_MODE", MODE as u64),
            ("FILE_OWNER", OWNER as u64),
            ("FILE_SIZE", SIZE as u64),
            ("FILE_MODIFIED", MODIFIED as u64),
            ("FILE_NEW", NEW as u64),
            ("FILE_OLD", OLD as u64),
            ("FILE_KNOWN", KNOWN as u64),
            ("KNOWN_INODE", KNOWN_INODE),
            ("KNOWN_OLD", KNOWN_OLD),
            ("KNOWN_SAME_BASE", KNOWN_SAME_BASE),
        ] {
            let line = header.lines().find_map(|line| line.strip_prefix(&format!("#define {name} ")));
            let stated = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            assert_eq!(stated, Some(number), "{name}");
        }
    }
}
