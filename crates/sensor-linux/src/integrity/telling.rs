//! What changed between two states of a name, and the events that tell it.

use event_model::{EventType, Field, Timestamp, Value};
use sensor_api::{Actor, ObservedActivity};

use super::live::What;
use super::tree::{Content, State};
use crate::escape;

/// Longer paths are cut at their beginning: the end says more.
const MAX_PATH: usize = 8 << 10;

/// How a change came to be known.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// What the kernel told; nothing for a scan.
    pub(super) what: What,
    pub(super) by: Actors,
    /// How many acts of the kind there were.
    pub(super) count: u32,
    pub(super) by_scan: bool,
    /// There was no state to compare with yet.
    pub(super) no_before: bool,
}

/// Who did what of it: one makes a file, another writes to it, a third removes it, all
/// within a moment. Of several who did the same, the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Actors {
    made: Option<u32>,
    wrote: Option<u32>,
    removed: Option<u32>,
    set_attributes: Option<u32>,
    renamed: Option<u32>,
}

impl Actors {
    pub(super) fn of(what: What, pid: Option<u32>) -> Self {
        let if_did = |did: bool| pid.filter(|_| did);
        Self {
            made: if_did(what.made),
            wrote: if_did(what.written),
            removed: if_did(what.removed),
            set_attributes: if_did(what.attributes),
            renamed: None,
        }
    }

    pub(super) fn renamed(pid: Option<u32>) -> Self {
        Self { renamed: pid, ..Self::default() }
    }

    /// Both, where the later one counts.
    pub(super) fn then(self, later: Self) -> Self {
        Self {
            made: later.made.or(self.made),
            wrote: later.wrote.or(self.wrote),
            removed: later.removed.or(self.removed),
            set_attributes: later.set_attributes.or(self.set_attributes),
            renamed: later.renamed.or(self.renamed),
        }
    }

    fn who(self, difference: Difference) -> Option<u32> {
        let Self { made, wrote, removed, set_attributes, renamed } = self;
        match difference {
            Difference::Created => made.or(wrote),
            // What takes the place of a file changes what stands there.
            Difference::Modified => wrote.or(renamed).or(made),
            Difference::Deleted => removed.or(renamed),
            Difference::Mode | Difference::Owner | Difference::Times | Difference::ExtendedAttribute => {
                set_attributes.or(renamed).or(wrote).or(made)
            }
        }
    }
}

/// One thing that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Difference {
    Created,
    Modified,
    Deleted,
    Mode,
    Owner,
    Times,
    ExtendedAttribute,
}

/// All that is different. Both `None`: it came and went.
pub(super) fn differences(old: Option<&State>, new: Option<&State>, known: &Known) -> Vec<Difference> {
    use Difference::{Created, Deleted, ExtendedAttribute, Mode, Modified, Owner, Times};
    let (old, new) = match (old, new) {
        (None, None) if known.what.made => return vec![Created, Deleted],
        (None, None) => return Vec::new(),
        (None, Some(_)) if known.no_before && !known.what.made => return vec![Modified],
        (None, Some(_)) => return vec![Created],
        (Some(_), None) => return vec![Deleted],
        (Some(old), Some(new)) if old.kind() != new.kind() => {
            return vec![Deleted, Created];
        }
        (Some(old), Some(new)) => (old, new),
    };
    let mut all = Vec::new();
    let is_content = !new.is_dir();
    let hashes = matches!((old.content, new.content), (Content::Sha256(_), Content::Sha256(_)));
    let other_time = old.modified_ns != new.modified_ns;
    // Without hashes size and time have to tell.
    let other_content = is_content
        && (old.size != new.size
            || (old.content != new.content)
            || (!hashes && other_time && !known.what.attributes));
    let replaced = is_content && old.inode != new.inode;
    if other_content || replaced || (is_content && known.what.written && other_time) {
        all.push(Modified);
    }
    if old.mode != new.mode {
        all.push(Mode);
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        all.push(Owner);
    }
    // Writing sets the time to now. To anything else only utimensat(2) can set it, and
    // that it can't hide: the time of the inode's change stays true.
    let by_hand = other_time && !all.contains(&Modified);
    if is_content && (by_hand || (all.contains(&Modified) && is_set_back(old, new))) {
        all.push(Times);
    }
    let only_inode = old.changed_ns != new.changed_ns && old.links == new.links && all.is_empty();
    if is_content && only_inode && (known.by_scan || known.what.attributes) && !known.what.written {
        all.push(ExtendedAttribute);
    }
    all
}

/// The file claims to be older than it was, or as old, though its content is new.
pub(super) fn is_set_back(old: &State, new: &State) -> bool {
    // A file that another takes the place of brings its own times along.
    let same_file = old.inode == new.inode;
    same_file
        && (new.modified_ns < old.modified_ns
            || (new.modified_ns == old.modified_ns && old.content != new.content))
}

/// The event of one difference.
pub(super) fn event(
    path: &[u8],
    difference: Difference,
    old: Option<&State>,
    new: Option<&State>,
    link_target: Option<&[u8]>,
    known: &Known,
) -> ObservedActivity {
    use Difference::{Created, Deleted, ExtendedAttribute, Mode, Modified, Owner, Times};
    let is_link = |state: &State| state.kind() == libc::S_IFLNK;
    let target = link_target.filter(|_| difference == Created && new.is_some_and(is_link));
    let (event_type, operation) = match difference {
        Created if target.is_some() => (EventType::FileLink, "symlink"),
        Created => (EventType::FileCreate, "create"),
        Modified => (EventType::FileModify, "modify"),
        Deleted => (EventType::FileDelete, "delete"),
        Mode => (EventType::FileAttribute, "mode"),
        Owner => (EventType::FileAttribute, "owner"),
        Times => (EventType::FileAttribute, "times"),
        ExtendedAttribute => (EventType::FileAttribute, "xattr"),
    };
    let mut fields = Fields::of(path, operation, known);
    if let Some(target) = target.or(link_target.filter(|_| difference == Modified)) {
        fields.path(Field::FileTargetPath, target);
    }
    let gone = difference == Deleted;
    if let Some(state) = new.filter(|_| !gone) {
        fields.state(state);
    }
    if let Some(old) = old.filter(|_| difference != Created) {
        fields.before(old);
    }
    if new.is_none() && old.is_none() && difference == Created {
        fields.incomplete.push("file: gone before it could be read".to_owned());
    }
    if difference == Times {
        let set_back = old.zip(new).is_some_and(|(old, new)| is_set_back(old, new));
        fields.text(
            Field::EventReason,
            if set_back { "modification time set back" } else { "modification time set" },
        );
    }
    if difference == Modified && known.no_before && old.is_none() {
        fields.incomplete.push("before: not in the baseline yet".to_owned());
    }
    fields.activity(event_type, known.by.who(difference))
}

/// The event of a name that became another.
pub(super) fn renamed(from: &[u8], to: &[u8], new: Option<&State>, known: &Known) -> ObservedActivity {
    let mut fields = Fields::of(to, "rename", known);
    fields.path(Field::FileOldPath, from);
    if let Some(state) = new {
        fields.state(state);
    }
    fields.activity(EventType::FileRename, known.by.renamed)
}

struct Fields {
    all: Vec<(Field, Value)>,
    incomplete: Vec<String>,
}

impl Fields {
    fn of(path: &[u8], operation: &str, known: &Known) -> Self {
        let mut fields = Self { all: Vec::with_capacity(20), incomplete: Vec::new() };
        fields.path(Field::FilePath, path);
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        fields.text(Field::FileName, &escape::text(name));
        if let Some(dot) = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0) {
            fields.text(Field::FileExtension, &escape::text(&name[dot + 1..]));
        }
        fields.text(Field::FileOperation, operation);
        fields.text(Field::EventProvider, "integrity");
        if known.by_scan && operation != "times" {
            fields.text(Field::EventReason, "found by a scan; when and by whom is not known");
        }
        if known.count > 1 {
            fields.number(Field::EventCount, known.count.into());
        }
        fields
    }

    fn path(&mut self, field: Field, path: &[u8]) {
        let text = escape::text(path);
        if text.len() <= MAX_PATH {
            self.text(field, &text);
            return;
        }
        self.incomplete.push(format!("{}: cut", field.spec().ecs));
        let from = text.ceil_char_boundary(text.len() - MAX_PATH + 3);
        self.text(field, &format!("...{}", &text[from..]));
    }

    fn text(&mut self, field: Field, text: &str) {
        self.all.push((field, Value::Text(text.to_owned())));
    }

    fn number(&mut self, field: Field, number: u64) {
        self.all.push((field, Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))));
    }

    fn state(&mut self, state: &State) {
        self.text(Field::FileMode, &octal(state.mode));
        self.text(Field::FileOwnerId, &state.uid.to_string());
        self.text(Field::FileGroupId, &state.gid.to_string());
        self.number(Field::FileInode, state.inode);
        self.number(Field::FileDevice, state.device);
        self.all.push((Field::FileModified, Value::Time(Timestamp::from_nanos(state.modified_ns))));
        if let Some(kind) = kind_word(state) {
            self.text(Field::FileContentType, kind);
        } else {
            self.number(Field::FileSize, state.size);
        }
        match state.content {
            Content::Sha256(hash) if kind_word(state).is_none() => self.text(Field::FileSha256, &hex(&hash)),
            Content::Sha256(_) => {}
            skipped => {
                if let Some(word) = skipped.skipped() {
                    self.text(Field::FileHashSkipped, word);
                }
            }
        }
    }

    fn before(&mut self, old: &State) {
        self.text(Field::FileOldMode, &octal(old.mode));
        self.text(Field::FileOldOwner, &format!("{}:{}", old.uid, old.gid));
        self.all.push((Field::FileOldModified, Value::Time(Timestamp::from_nanos(old.modified_ns))));
        if kind_word(old).is_none() {
            self.number(Field::FileOldSize, old.size);
            if let Content::Sha256(hash) = old.content {
                self.text(Field::FileOldSha256, &hex(&hash));
            }
        }
    }

    fn activity(mut self, event_type: EventType, pid: Option<u32>) -> ObservedActivity {
        if !self.incomplete.is_empty() {
            self.all.push((Field::EventIncomplete, Value::TextList(self.incomplete)));
        }
        ObservedActivity { event_type, actor: pid.map(Actor::Pid), target: None, fields: self.all }
    }
}

fn octal(mode: u32) -> String {
    format!("{:04o}", mode & 0o7777)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What it is, other than a regular file.
fn kind_word(state: &State) -> Option<&'static str> {
    match state.kind() {
        libc::S_IFDIR => Some("directory"),
        libc::S_IFLNK => Some("symlink"),
        libc::S_IFIFO => Some("fifo"),
        libc::S_IFSOCK => Some("socket"),
        libc::S_IFBLK | libc::S_IFCHR => Some("device"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            mode: libc::S_IFREG | 0o644,
            uid: 0,
            gid: 0,
            links: 1,
            size: 10,
            modified_ns: 1_000,
            changed_ns: 1_000,
            inode: 5,
            device: 1,
            content: Content::Sha256([1; 32]),
        }
    }

    #[test]
    fn each_change_is_told_by_its_name() {
        use Difference::{Created, Deleted, ExtendedAttribute, Mode, Modified, Owner, Times};
        let old = state();
        let with = |change: &dyn Fn(&mut State)| {
            let mut new = State { changed_ns: 2_000, ..old };
            change(&mut new);
            new
        };
        let scan = Known { by_scan: true, ..Known::default() };
        let written = Known { what: What { written: true, ..What::default() }, ..Known::default() };
        let content = Content::Sha256([2; 32]);
        for (new, known, expected) in [
            (with(&|new| (new.content, new.modified_ns) = (content, 2_000)), &scan, vec![Modified]),
            (with(&|new| new.content = content), &scan, vec![Modified, Times]),
            (with(&|new| (new.content, new.modified_ns) = (content, 500)), &written, vec![Modified, Times]),
            (with(&|new| new.modified_ns = 500), &scan, vec![Times]),
            (with(&|new| new.modified_ns = 2_000), &written, vec![Modified]),
            (with(&|new| new.mode = libc::S_IFREG | 0o4755), &scan, vec![Mode]),
            (with(&|new| (new.mode, new.uid) = (libc::S_IFREG | 0o600, 7)), &scan, vec![Mode, Owner]),
            (with(&|_| {}), &scan, vec![ExtendedAttribute]),
            (with(&|new| new.links = 2), &scan, vec![]),
            (with(&|new| new.changed_ns = 1_000), &written, vec![]),
            (with(&|new| new.mode = libc::S_IFIFO | 0o644), &scan, vec![Deleted, Created]),
            (with(&|new| (new.content, new.modified_ns) = (Content::TooLarge, 2_000)), &scan, vec![Modified]),
        ] {
            assert_eq!(differences(Some(&old), Some(&new), known), expected, "{new:?}");
        }
        assert_eq!(differences(None, Some(&old), &scan), [Created]);
        assert_eq!(differences(Some(&old), None, &scan), [Deleted]);
        let made = Known { what: What { made: true, ..What::default() }, ..Known::default() };
        assert_eq!(differences(None, None, &made), [Created, Deleted], "it came and went");
        let early = Known { no_before: true, ..written };
        assert_eq!(differences(None, Some(&old), &early), [Modified]);
    }

    #[test]
    fn a_path_that_is_too_long_keeps_its_end() {
        let mut path = b"/".repeat(20_000);
        path.extend(b"end");
        let event = event(&path, Difference::Deleted, Some(&state()), None, None, &Known::default());
        let Some((_, Value::Text(text))) = event.fields.iter().find(|(field, _)| *field == Field::FilePath)
        else {
            panic!()
        };
        assert!(text.len() <= MAX_PATH && text.starts_with("...") && text.ends_with("/end"));
        assert!(event.fields.iter().any(|(field, _)| *field == Field::EventIncomplete));
    }
}
