//! Files from which things are started by themselves, and kernel modules.

use event_model::{EventType, Field};

use super::compare::Change;
use super::telling::{Act, Telling, Told, access, file_name, hex};

/// What an event says of a file that came with a new home.
const FROM_SKELETON: &[u8] = b"a copy of the file in /etc/skel";

/// Tells the change of a file of some kind of persistence.
pub(super) fn tell(
    change: &Change,
    kind: &str,
    home_of: Option<&[u8]>,
    from_skeleton: bool,
    told: &mut Vec<Told>,
) {
    let (old, new) = (change.old.as_ref(), change.new.as_ref());
    let (Some(act), Some(known)) = (Act::of(old, new), new.or(old)) else { return };
    let mut telling = Telling::new(EventType::Persistence, change.at_ns)
        .act(act)
        .text(Field::PersistenceKind, kind.as_bytes())
        .text(Field::FilePath, &change.path)
        .text(Field::FileMode, format!("{:04o}", known.identity.permissions()).as_bytes())
        .some(Field::FileSha256, known.sha256.map(|hash| hex(&hash)).as_deref().map(str::as_bytes))
        .some(Field::UserTargetName, home_of)
        .some(Field::EventReason, from_skeleton.then_some(FROM_SKELETON));
    telling = match (old, new) {
        (Some(old), Some(new)) if old.same_content(new) => telling
            .list(Field::ChangedFields, ["access"])
            .old_new(Some(access(old).as_bytes()), Some(access(new).as_bytes())),
        (Some(_), Some(_)) => telling.list(Field::ChangedFields, ["content"]).file_change(old, new),
        _ => telling.file_change(old, new),
    };
    told.push(telling.finish());
}

/// Tells the change of a file of the kernel's module tree.
pub(super) fn tell_module(change: &Change, told: &mut Vec<Told>) {
    let (old, new) = (change.old.as_ref(), change.new.as_ref());
    let Some(act) = Act::of(old, new) else { return };
    let event_type = match act {
        Act::Create => EventType::FileCreate,
        Act::Modify => EventType::FileModify,
        Act::Delete => EventType::FileDelete,
    };
    let hash =
        |known: Option<&super::known::Known>| known.and_then(|known| known.sha256).map(|hash| hex(&hash));
    let mut telling = Telling::new(event_type, change.at_ns)
        .text(Field::FilePath, &change.path)
        .text(Field::FileName, file_name(&change.path))
        .text(Field::FileOperation, act.as_str().as_bytes())
        .text(Field::FileObject, b"kernel_module")
        .some(Field::FileSha256, hash(new).as_deref().map(str::as_bytes))
        .some(Field::FileOldSha256, hash(old).as_deref().map(str::as_bytes));
    if let Some(new) = new {
        telling = telling
            .number(Field::FileSize, new.identity.size)
            .text(Field::FileMode, format!("{:04o}", new.identity.permissions()).as_bytes())
            .some(Field::FileHashSkipped, new.shortage.map(|shortage| shortage.as_str().as_bytes()));
    }
    if let Some(old) = old {
        telling = telling.number(Field::FileOldSize, old.identity.size);
    }
    if let (Some(old), Some(new)) = (old, new) {
        let parts = [("content", old.same_content(new)), ("access", old.same_access(new))];
        telling = telling
            .list(Field::ChangedFields, parts.into_iter().filter(|(_, same)| !same).map(|(name, _)| name));
    }
    told.push(telling.finish());
}
