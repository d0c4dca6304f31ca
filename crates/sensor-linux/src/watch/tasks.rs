//! Scheduled tasks: cron tables, programs of run-parts, anacron, at.

use event_model::{EventType, Field, Timestamp};

use super::compare::Change;
use super::known::Known;
use super::lines::{trimmed, word};
use super::places::Kind;
use super::telling::{Act, Telling, Told, access, file_name, parent};

/// Entries of one table that are told one by one.
const MOST_ENTRIES: usize = 10_000;

/// One task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) name: Vec<u8>,
    pub(super) schedule: Vec<u8>,
    pub(super) owner: Vec<u8>,
    pub(super) command: Vec<u8>,
    /// As it stands in the table.
    line: Vec<u8>,
}

/// Tells the change of a file with tasks; `user_name` finds the name of a user id.
pub(super) fn tell(change: &Change, user_name: &dyn Fn(u32) -> Option<Vec<u8>>, told: &mut Vec<Told>) {
    if matches!(change.kind, Kind::CronScript | Kind::AtJob) {
        return tell_whole(change, user_name, told);
    }
    let readable = |known: &Option<Known>| known.as_ref().is_none_or(|known| known.text().is_some());
    if !readable(&change.old) || !readable(&change.new) {
        return tell_whole(change, user_name, told);
    }
    let tasks = |known: &Option<Known>| {
        let text = known.as_ref().and_then(Known::text).unwrap_or_default();
        table(change.kind, &change.path, text)
    };
    let (old, new) = (tasks(&change.old), tasks(&change.new));
    let mut any = false;
    for (was, is) in pairs(old, new) {
        let (Some(act), Some(task)) = (Act::of(was.as_ref(), is.as_ref()), is.as_ref().or(was.as_ref()))
        else {
            continue;
        };
        any = true;
        let telling = about(act, change, task)
            .shortages(change.old.as_ref(), change.new.as_ref())
            .list(Field::ChangedFields, changed(was.as_ref(), is.as_ref()));
        let line = |task: Option<&Task>| task.map(|task| task.line.clone());
        told.push(telling.old_new(line(was.as_ref()).as_deref(), line(is.as_ref()).as_deref()).finish());
    }
    let access_only = match (&change.old, &change.new) {
        (Some(old), Some(new)) => old.same_content(new),
        _ => false,
    };
    // A table without entries, and a change of comments, schedule nothing; one that was not read whole may.
    let cut = [&change.old, &change.new].into_iter().flatten().any(|known| known.shortage.is_some());
    if access_only || !any && cut {
        tell_whole(change, user_name, told);
    }
}

fn about(act: Act, change: &Change, task: &Task) -> Telling {
    Telling::new(EventType::ScheduledTask, change.at_ns)
        .act(act)
        .text(Field::FilePath, &change.path)
        .text(Field::TaskName, &task.name)
        .text(Field::TaskCommand, &task.command)
        .some(Field::TaskSchedule, Some(task.schedule.as_slice()).filter(|text| !text.is_empty()))
        .some(Field::TaskOwner, Some(task.owner.as_slice()).filter(|text| !text.is_empty()))
}

fn changed(was: Option<&Task>, is: Option<&Task>) -> Vec<&'static str> {
    let (Some(was), Some(is)) = (was, is) else { return Vec::new() };
    let parts = [
        ("schedule", was.schedule != is.schedule),
        ("owner", was.owner != is.owner),
        ("command", was.command != is.command),
        ("name", was.name != is.name),
    ];
    parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// A file that is one task, or that can't be read as a table.
fn tell_whole(change: &Change, user_name: &dyn Fn(u32) -> Option<Vec<u8>>, told: &mut Vec<Told>) {
    let (old, new) = (change.old.as_ref(), change.new.as_ref());
    let (Some(act), Some(known)) = (Act::of(old, new), new.or(old)) else { return };
    let owner = user_name(known.identity.uid).unwrap_or_else(|| known.identity.uid.to_string().into_bytes());
    let name = file_name(&change.path).to_vec();
    let task = match change.kind {
        Kind::AtJob => at_job(&name, known.text().unwrap_or_default(), owner, &change.path),
        Kind::CronScript => {
            let period = file_name(parent(&change.path)).strip_prefix(b"cron.").unwrap_or_default();
            let schedule = [b"@", period].concat();
            Some(Task {
                name,
                schedule,
                owner: b"root".to_vec(),
                command: change.path.clone(),
                line: Vec::new(),
            })
        }
        _ => Some(Task { name, schedule: Vec::new(), owner, command: change.path.clone(), line: Vec::new() }),
    };
    let Some(task) = task else { return };
    let mut parts = Vec::new();
    let mut telling = about(act, change, &task);
    if let (Some(old), Some(new)) = (old, new) {
        if !old.same_content(new) {
            parts.push("content");
        }
        if !old.same_access(new) {
            parts.push("access");
        }
        if old.same_content(new) {
            telling = telling.old_new(Some(access(old).as_bytes()), Some(access(new).as_bytes()));
        } else {
            telling = telling.file_change(Some(old), Some(new));
        }
    } else {
        telling = telling.file_change(old, new);
    }
    told.push(telling.list(Field::ChangedFields, parts).finish());
}

/// The entries of a table that are only in one of both, those that are most like each other together.
fn pairs(old: Vec<Task>, new: Vec<Task>) -> Vec<(Option<Task>, Option<Task>)> {
    let mut old: Vec<Option<Task>> = old.into_iter().map(Some).collect();
    let mut new: Vec<Option<Task>> = new.into_iter().map(Some).collect();
    // What begins and ends both is the same; it spares comparing all with all.
    let same =
        |old: &[Option<Task>], new: &[Option<Task>]| old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let begin = same(&old, &new);
    old.drain(..begin);
    new.drain(..begin);
    while old.last().is_some() && old.last() == new.last() {
        old.pop();
        new.pop();
    }
    let mut pairs = Vec::new();
    take_pairs(&mut old, &mut new, |a, b| a == b);
    for alike in
        [(|a, b| a.command == b.command && a.owner == b.owner) as fn(&Task, &Task) -> bool, |a, b| {
            a.schedule == b.schedule && a.owner == b.owner
        }]
    {
        pairs.extend(take_pairs(&mut old, &mut new, alike));
    }
    pairs.extend(old.into_iter().flatten().map(|task| (Some(task), None)));
    pairs.extend(new.into_iter().flatten().map(|task| (None, Some(task))));
    pairs
}

/// Takes out pairs that are alike, each with the first that fits.
fn take_pairs(
    old: &mut [Option<Task>],
    new: &mut [Option<Task>],
    alike: impl Fn(&Task, &Task) -> bool,
) -> Vec<(Option<Task>, Option<Task>)> {
    /// All with all only where that is cheap.
    const FEW: usize = 1_000;
    let mut taken = Vec::new();
    if old.len() > FEW || new.len() > FEW {
        return taken;
    }
    for was in old.iter_mut() {
        let Some(task) = was.as_ref() else { continue };
        let fits = |is: &&mut Option<Task>| is.as_ref().is_some_and(|is| alike(task, is));
        if let Some(is) = new.iter_mut().find(fits) {
            taken.push((was.take(), is.take()));
        }
    }
    taken
}

/// The entries of a table.
pub(super) fn table(kind: Kind, path: &[u8], text: &[u8]) -> Vec<Task> {
    let lines = trimmed(text).filter(|line| !line.is_empty() && line[0] != b'#');
    lines.take(MOST_ENTRIES).map(|line| entry(kind, path, line)).collect()
}

/// One line of crontab(5) or anacrontab(5). What can't be read as such is its own command.
fn entry(kind: Kind, path: &[u8], line: &[u8]) -> Task {
    let file = file_name(path).to_vec();
    let owner = if kind == Kind::CronSpool { file.clone() } else { b"root".to_vec() };
    let task = |name: &[u8], schedule: &[u8], owner: &[u8], command: &[u8]| Task {
        name: name.to_vec(),
        schedule: schedule.to_vec(),
        owner: owner.to_vec(),
        command: command.to_vec(),
        line: line.to_vec(),
    };
    if is_assignment(line) {
        return task(&file, b"environment", &owner, line);
    }
    let fields = if kind == Kind::AnacronTable { 2 } else { 5 };
    let mut schedule: Vec<&[u8]> = Vec::new();
    let mut rest = line;
    let wanted = if line[0] == b'@' && kind != Kind::AnacronTable { 1 } else { fields };
    for _ in 0..wanted {
        let (field, after) = word(rest);
        schedule.push(field);
        rest = after;
    }
    let schedule = schedule.join(&b' ');
    let (name, owner, command) = match kind {
        Kind::CronTable => {
            let (user, command) = word(rest);
            (file.as_slice(), user, command)
        }
        Kind::AnacronTable => {
            let (job, command) = word(rest);
            (job, owner.as_slice(), command)
        }
        _ => (file.as_slice(), owner.as_slice(), rest),
    };
    if command.is_empty() {
        return task(&file, b"", b"", line);
    }
    task(name, &schedule, owner, command)
}

/// `NAME = value`, which sets a variable for the entries below it.
fn is_assignment(line: &[u8]) -> bool {
    let name = line.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    name > 0 && !line[0].is_ascii_digit() && line[name..].trim_ascii_start().starts_with(b"=")
}

/// A job of at(1): its file's name says when (queue, five hex digits of the number, eight
/// of the minute since 1970), its text what, behind the environment that it restores.
/// `None` for files that are not jobs (`.SEQ`, output, a job that runs).
fn at_job(name: &[u8], text: &[u8], owner: Vec<u8>, path: &[u8]) -> Option<Task> {
    // While it runs, it bears `=` for its queue.
    let digits = str::from_utf8(name).ok().filter(|name| name.len() == 14 && !name.starts_with('='))?;
    let minute = i64::from_str_radix(digits.get(6..)?, 16).ok()?;
    u32::from_str_radix(digits.get(1..6)?, 16).ok()?;
    let at = Timestamp::from_nanos(minute.checked_mul(60_000_000_000)?).to_string();
    let mut lines = text.split(|byte| *byte == b'\n').skip_while(|line| !line.starts_with(b"cd "));
    let behind: Vec<&[u8]> = lines.by_ref().skip_while(|line| line.trim_ascii() != b"}").skip(1).collect();
    let command = behind.join(&b'\n').trim_ascii().to_vec();
    let command = match (command.is_empty(), text.is_empty()) {
        (false, _) => command,
        (true, false) => text.trim_ascii().to_vec(),
        (true, true) => path.to_vec(),
    };
    Some(Task { name: name.to_vec(), schedule: at.into_bytes(), owner, command, line: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: Kind, path: &str, text: &str) -> Vec<[String; 4]> {
        let tasks = table(kind, path.as_bytes(), text.as_bytes());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        tasks.into_iter().map(|task| [task.name, task.schedule, task.owner, task.command].map(text)).collect()
    }

    #[test]
    fn tables_are_read_as_cron_reads_them() {
        let system = "# comment\nPATH=/tmp:/bin\n 17 *\t* * *  root  cd / && run-parts  /etc/cron.hourly\n\
                      @reboot evil /tmp/x %in\nnonsense\n";
        assert_eq!(
            told(Kind::CronTable, "/etc/crontab", system),
            [
                ["crontab", "environment", "root", "PATH=/tmp:/bin"],
                ["crontab", "17 * * * *", "root", "cd / && run-parts  /etc/cron.hourly"],
                ["crontab", "@reboot", "evil", "/tmp/x %in"],
                ["crontab", "", "", "nonsense"],
            ]
        );
        assert_eq!(
            told(Kind::CronSpool, "/var/spool/cron/crontabs/bob", "*/5 * * * * curl x | sh\n@daily y\n"),
            [["bob", "*/5 * * * *", "bob", "curl x | sh"], ["bob", "@daily", "bob", "y"]]
        );
        assert_eq!(
            told(
                Kind::AnacronTable,
                "/etc/anacrontab",
                "7 10 cron.weekly run-parts /etc/cron.weekly\n@monthly 45 m x y\n"
            ),
            [
                ["cron.weekly", "7 10", "root", "run-parts /etc/cron.weekly"],
                ["m", "@monthly 45", "root", "x y"],
            ]
        );
    }

    #[test]
    fn only_entries_that_differ_come_in_pairs() {
        let table = |text: &str| table(Kind::CronSpool, b"/x/bob", text.as_bytes());
        let old = table("1 1 1 1 1 a\n2 2 2 2 2 b\n3 3 3 3 3 c\n4 4 4 4 4 d\n");
        let new = table("1 1 1 1 1 a\n9 2 2 2 2 b\n4 4 4 4 4 d\n3 3 3 3 3 C\n5 5 5 5 5 e\n");
        let lines = |task: Option<Task>| task.map(|task| String::from_utf8(task.line).unwrap());
        let pairs: Vec<_> = pairs(old, new).into_iter().map(|(was, is)| (lines(was), lines(is))).collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            pairs,
            [
                (text("2 2 2 2 2 b"), text("9 2 2 2 2 b")),
                (text("3 3 3 3 3 c"), text("3 3 3 3 3 C")),
                (None, text("5 5 5 5 5 e")),
            ]
        );
    }

    #[test]
    fn a_job_of_at_says_when_and_what() {
        let text = b"#!/bin/sh\n# atrun uid=0 gid=0\n# mail root 0\numask 22\nHOME=/root; export HOME\n\
                     cd /root || {\n\t echo 'Execution directory inaccessible' >&2\n\t exit 1\n}\n/tmp/evil\n";
        let task = at_job(b"a0000201bd0f3f", text, b"root".to_vec(), b"/p").unwrap();
        assert_eq!(String::from_utf8(task.command).unwrap(), "/tmp/evil");
        let schedule = String::from_utf8(task.schedule).unwrap();
        assert!(schedule.starts_with("20") && schedule.ends_with('Z'), "{schedule}");
        assert_eq!(at_job(b".SEQ", b"0001", Vec::new(), b"/p"), None);
        assert_eq!(at_job(b"=0000201bd0f3f", text, Vec::new(), b"/p"), None);
        assert_eq!(
            at_job(b"b0000201bd0f3f", b"", Vec::new(), b"/p").map(|task| task.command),
            Some(b"/p".to_vec())
        );
    }
}
