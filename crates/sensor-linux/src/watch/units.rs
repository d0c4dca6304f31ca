//! Services and timers: systemd.unit(5) with drop-ins and enablement links, and SysV init scripts.

use std::collections::BTreeMap;

use event_model::{EventType, Field};

use super::compare::{Change, Comparison};
use super::known::{Content, Known};
use super::lines::trimmed;
use super::places::Kind;
use super::telling::{Act, Telling, Told, access, file_name, parent};

/// What runs a program when a unit starts, stops or fails.
const COMMANDS: [&[u8]; 7] = [
    b"ExecStart",
    b"ExecStartPre",
    b"ExecStartPost",
    b"ExecCondition",
    b"ExecReload",
    b"ExecStop",
    b"ExecStopPost",
];

/// When a timer runs.
const SCHEDULES: [&[u8]; 7] = [
    b"OnCalendar",
    b"OnBootSec",
    b"OnStartupSec",
    b"OnActiveSec",
    b"OnUnitActiveSec",
    b"OnUnitInactiveSec",
    b"OnClockChange",
];

/// Keys with their values in order; sections are left out, no key is in two of them.
type Settings = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

/// Reads a unit's text. A line that ends with `\` goes on; an empty value takes back those before it.
fn settings(text: &[u8]) -> Settings {
    let mut settings = Settings::new();
    let mut open: Vec<u8> = Vec::new();
    for line in trimmed(text) {
        if line.first().is_some_and(|byte| b"#;".contains(byte)) {
            continue;
        }
        if let Some(begun) = line.strip_suffix(b"\\") {
            open.extend_from_slice(begun.trim_ascii_end());
            open.push(b' ');
            continue;
        }
        open.extend_from_slice(line);
        let whole = std::mem::take(&mut open);
        let Some(equals) = whole.iter().position(|byte| *byte == b'=') else { continue };
        let (key, value) = (whole[..equals].trim_ascii().to_vec(), whole[equals + 1..].trim_ascii().to_vec());
        let values = settings.entry(key).or_default();
        if value.is_empty() {
            values.clear();
        } else {
            values.push(value);
        }
    }
    settings
}

fn joined(settings: &Settings, keys: &[&[u8]], with_key: bool) -> Option<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for key in keys {
        for value in settings.get(*key).into_iter().flatten() {
            all.push(if with_key { [key, value.as_slice()].join(&b'=') } else { value.clone() });
        }
    }
    (!all.is_empty()).then(|| all.join(&b"; "[..]))
}

/// The keys whose values differ.
fn changed_keys(old: &Settings, new: &Settings) -> Vec<Vec<u8>> {
    let mut keys: Vec<&Vec<u8>> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).cloned().collect()
}

/// What a file is to its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The unit itself.
    Unit,
    /// A drop-in, which changes it.
    DropIn,
    /// A link that has it started with another unit.
    Enablement,
}

/// The unit's name, and what the file is to it.
fn unit_of(path: &[u8]) -> (&[u8], Part) {
    let (name, dir) = (file_name(path), file_name(parent(path)));
    for suffix in [&b".wants"[..], b".requires", b".upholds"] {
        if dir.ends_with(suffix) {
            return (name, Part::Enablement);
        }
    }
    match dir.strip_suffix(b".d") {
        Some(unit) if name.ends_with(b".conf") => (unit, Part::DropIn),
        _ => (name, Part::Unit),
    }
}

/// Tells the change of a unit's file.
pub(super) fn tell(comparison: &Comparison, change: &Change, told: &mut Vec<Told>) {
    let (old, new) = (change.old.as_ref(), change.new.as_ref());
    let Some(file_act) = Act::of(old, new) else { return };
    let (unit, part) = unit_of(&change.path);
    if part == Part::Unit && unit.ends_with(b".conf") {
        return;
    }
    // Only the unit's own file makes or removes it.
    let act = if part == Part::Unit { file_act } else { Act::Modify };
    let parse = |known: Option<&Known>| settings(known.and_then(Known::text).unwrap_or_default());
    let (was, is) = (parse(old), parse(new));
    let mut changed: Vec<Vec<u8>> = Vec::new();
    match (part, file_act) {
        (Part::Enablement, _) => changed.push(b"enabled".to_vec()),
        (Part::Unit, Act::Create | Act::Delete) => {}
        _ => changed.extend(changed_keys(&was, &is)),
    }
    if part == Part::Unit && new.is_some_and(is_masked) != old.is_some_and(is_masked) {
        changed.push(b"masked".to_vec());
    }
    let access_only = match (old, new) {
        (Some(old), Some(new)) => old.same_content(new),
        _ => false,
    };
    if access_only {
        changed.push(b"access".to_vec());
    } else if act == Act::Modify && changed.is_empty() {
        changed.push(b"text".to_vec());
    }
    // What the unit does now: its own text, and where that says nothing, the unit's other files.
    let here = if new.is_some() { is } else { was };
    let elsewhere = if part == Part::Unit { Settings::new() } else { unit_settings(comparison, unit) };
    let fact = |keys: &[&[u8]], with_key| {
        joined(&here, keys, with_key).or_else(|| joined(&elsewhere, keys, with_key))
    };
    let user = fact(&[b"User"], false);
    let telling = if unit.ends_with(b".timer") {
        let starts = fact(&[b"Unit"], false)
            .unwrap_or_else(|| [unit.strip_suffix(b".timer").unwrap_or(unit), b".service"].concat());
        let service = unit_settings(comparison, &starts);
        let command = joined(&service, &COMMANDS[..1], false).unwrap_or(starts);
        let owner = joined(&service, &[b"User"], false).or_else(|| owner(&change.path));
        Telling::new(EventType::ScheduledTask, change.at_ns)
            .text(Field::TaskName, unit)
            .text(Field::TaskCommand, &command)
            .some(Field::TaskSchedule, fact(&SCHEDULES, true).as_deref())
            .some(Field::TaskOwner, owner.as_deref())
    } else {
        let runs = fact(&COMMANDS[..1], false).or_else(|| fact(&COMMANDS, true));
        Telling::new(EventType::Service, change.at_ns)
            .text(Field::ServiceName, unit)
            .some(Field::ServiceCommand, runs.as_deref())
            .some(Field::ServiceUser, user.or_else(|| owner(&change.path)).as_deref())
    };
    let telling = telling.act(act).text(Field::FilePath, &change.path).list(Field::ChangedFields, changed);
    told.push(with_change(telling, old, new, access_only).finish());
}

fn with_change(telling: Telling, old: Option<&Known>, new: Option<&Known>, access_only: bool) -> Telling {
    match (old, new) {
        (Some(old), Some(new)) if access_only => {
            telling.old_new(Some(access(old).as_bytes()), Some(access(new).as_bytes()))
        }
        _ => telling.file_change(old, new),
    }
}

/// A link to /dev/null, or an empty file, keeps a unit from ever starting.
fn is_masked(known: &Known) -> bool {
    match &known.content {
        Content::Link(target) => target == b"/dev/null",
        Content::Text(text) => text.is_empty(),
        Content::Opaque => false,
    }
}

/// All that the known files say of a unit, its own before its drop-ins.
fn unit_settings(comparison: &Comparison, unit: &[u8]) -> Settings {
    let mut all = Settings::new();
    // `/usr` comes after `/etc` in the order of paths, and the first one counts.
    let own = comparison.known().filter(|(path, kind, known)| {
        *kind == Kind::Unit && unit_of(path) == (unit, Part::Unit) && known.text().is_some()
    });
    if let Some((_, _, known)) = own.min_by_key(|(path, _, _)| path.to_vec()) {
        all.extend(settings(known.text().unwrap_or_default()));
    }
    for (path, kind, known) in comparison.known() {
        if kind == Kind::Unit && unit_of(path) == (unit, Part::DropIn) {
            for (key, values) in settings(known.text().unwrap_or_default()) {
                all.entry(key).or_default().extend(values);
            }
        }
    }
    all
}

/// Whom a unit without `User=` runs as: of the system's manager root, of a home its owner's name.
fn owner(path: &[u8]) -> Option<Vec<u8>> {
    let in_home =
        path.windows(9).any(|part| part == b"/.config/") || path.windows(8).any(|part| part == b"/.local/");
    if !in_home {
        let of_users = parent(path).split(|byte| *byte == b'/').any(|part| part == b"user");
        return (!of_users).then(|| b"root".to_vec());
    }
    let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next()) {
        (Some(b"home"), Some(name)) => Some(name.to_vec()),
        (Some(b"root"), _) => Some(b"root".to_vec()),
        _ => None,
    }
}

/// Tells the change of a SysV init script.
pub(super) fn tell_init_script(change: &Change, told: &mut Vec<Told>) {
    let (old, new) = (change.old.as_ref(), change.new.as_ref());
    let Some(act) = Act::of(old, new) else { return };
    let mut changed = Vec::new();
    let mut access_only = false;
    if let (Some(old), Some(new)) = (old, new) {
        access_only = old.same_content(new);
        changed.push(if access_only { "access" } else { "text" });
    }
    let telling = Telling::new(EventType::Service, change.at_ns)
        .act(act)
        .text(Field::ServiceName, file_name(&change.path))
        .text(Field::FilePath, &change.path)
        .text(Field::ServiceCommand, &[change.path.as_slice(), b" start"].concat())
        .text(Field::ServiceUser, b"root")
        .list(Field::ChangedFields, changed);
    told.push(with_change(telling, old, new, access_only).finish());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_text_is_read_as_systemd_reads_it() {
        let text = b"[Unit]\n# ExecStart=/no\n; User=no\n[Service]\nExecStart=/bin/a\nExecStart = /bin/b \\\n  --long\nUser=x\nUser=\nnonsense\n";
        let read = settings(text);
        assert_eq!(joined(&read, &COMMANDS, false).unwrap(), b"/bin/a; /bin/b --long");
        assert_eq!(joined(&read, &[b"User"], false), None);
        let other = settings(b"ExecStart=/bin/a\nType=oneshot\n");
        assert_eq!(changed_keys(&read, &other), [b"ExecStart".to_vec(), b"Type".to_vec(), b"User".to_vec()]);
    }

    #[test]
    fn a_path_says_what_the_file_is_to_its_unit() {
        for (path, unit, part) in [
            ("/etc/systemd/system/a.service", "a.service", Part::Unit),
            ("/etc/systemd/system/a.service.d/x.conf", "a.service", Part::DropIn),
            ("/etc/systemd/system/multi-user.target.wants/a.service", "a.service", Part::Enablement),
        ] {
            assert_eq!(unit_of(path.as_bytes()), (unit.as_bytes(), part), "{path}");
        }
        assert_eq!(owner(b"/home/bob/.config/systemd/user/a.service"), Some(b"bob".to_vec()));
        assert_eq!(owner(b"/etc/systemd/system/a.service"), Some(b"root".to_vec()));
        assert_eq!(owner(b"/etc/systemd/user/a.service"), None);
    }
}
