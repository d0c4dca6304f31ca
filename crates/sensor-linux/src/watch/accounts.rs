//! Accounts, as passwd(5), shadow(5), group(5) and gshadow(5) have them, and what
//! became of them. Works on texts without secrets ([`super::secrets`]).

use std::collections::{BTreeMap, BTreeSet};

use event_model::{EventType, Field};

use super::compare::{Change, Comparison};
use super::known::Known;
use super::places::Kind;
use super::telling::{Act, Telling, Told, access};

/// The texts of the four files at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AccountFiles<'a> {
    pub(super) passwd: &'a [u8],
    pub(super) shadow: &'a [u8],
    pub(super) group: &'a [u8],
    pub(super) gshadow: &'a [u8],
}

/// The password of an account or group, as far as it may be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Password<'a> {
    /// Nobody gets in by one.
    #[default]
    None,
    /// Everybody gets in without one.
    Empty,
    /// There is one; the digest tells whether it is the same.
    Set(&'a [u8]),
}

impl<'a> Password<'a> {
    /// From a field without secrets.
    fn of(field: &'a [u8]) -> Self {
        match field.strip_prefix(b"!").unwrap_or(field) {
            b"" if field.is_empty() => Self::Empty,
            [b'#', digest @ ..] => Self::Set(digest),
            _ => Self::None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Empty => "empty",
            Self::Set(_) => "set",
        }
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Account<'a> {
    uid: &'a [u8],
    gid: &'a [u8],
    gecos: &'a [u8],
    home: &'a [u8],
    shell: &'a [u8],
    password: Password<'a>,
    locked: bool,
    /// Days since 1970 of the last change of the password; 0 demands a new one.
    changed_on: &'a [u8],
    /// Days: least, most, warning and grace of a password, as they stand in shadow.
    aging: [&'a [u8]; 4],
    /// Days since 1970 at which the account ends.
    expires_on: &'a [u8],
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Group<'a> {
    gid: &'a [u8],
    password: Password<'a>,
}

/// Everything that the four files say.
#[derive(Debug, Default)]
struct Accounts<'a> {
    /// By name, and by its how manieth line that is: only the first of a name works, yet a second one is worth telling.
    accounts: BTreeMap<(&'a [u8], usize), Account<'a>>,
    groups: BTreeMap<&'a [u8], Group<'a>>,
    /// Groups of each name, that of its account too.
    member_of: BTreeMap<&'a [u8], BTreeSet<&'a [u8]>>,
    /// Groups that a name may change.
    administers: BTreeMap<&'a [u8], BTreeSet<&'a [u8]>>,
}

fn entries(text: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#');
    lines.map(|line| line.split(|byte| *byte == b':').collect())
}

fn field<'a>(fields: &[&'a [u8]], at: usize) -> &'a [u8] {
    fields.get(at).copied().unwrap_or_default()
}

fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
}

impl<'a> Accounts<'a> {
    fn parse(files: AccountFiles<'a>) -> Self {
        let mut all = Self::default();
        for fields in entries(files.passwd) {
            let password = field(&fields, 1);
            let account = Account {
                uid: field(&fields, 2),
                gid: field(&fields, 3),
                gecos: field(&fields, 4),
                home: field(&fields, 5),
                shell: field(&fields, 6),
                // `x` is looked up in shadow.
                password: if password == b"x" { Password::None } else { Password::of(password) },
                locked: password.starts_with(b"!"),
                ..Account::default()
            };
            let name = field(&fields, 0);
            let which = all.accounts.range((name, 0)..=(name, usize::MAX)).count();
            all.accounts.insert((name, which), account);
        }
        for fields in entries(files.shadow) {
            let Some(account) = all.accounts.get_mut(&(field(&fields, 0), 0)) else { continue };
            // Where passwd has a password of its own, shadow is not asked.
            if account.password == Password::None && !account.locked {
                account.password = Password::of(field(&fields, 1));
                account.locked = field(&fields, 1).starts_with(b"!");
            }
            account.changed_on = field(&fields, 2);
            account.expires_on = field(&fields, 7);
            account.aging = [3, 4, 5, 6].map(|at| field(&fields, at));
        }
        let mut names_by_gid: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
        for fields in entries(files.group) {
            let (name, gid) = (field(&fields, 0), field(&fields, 2));
            names_by_gid.entry(gid).or_insert(name);
            let password = field(&fields, 1);
            let password = if password == b"x" { Password::None } else { closed(Password::of(password)) };
            all.groups.insert(name, Group { gid, password });
            for member in members(field(&fields, 3)) {
                all.member_of.entry(member).or_default().insert(name);
            }
        }
        for fields in entries(files.gshadow) {
            let name = field(&fields, 0);
            if let Some(group) = all.groups.get_mut(name)
                && group.password == Password::None
            {
                group.password = closed(Password::of(field(&fields, 1)));
            }
            for administrator in members(field(&fields, 2)) {
                all.administers.entry(administrator).or_default().insert(name);
            }
        }
        for ((name, which), account) in &all.accounts {
            if *which == 0
                && let Some(group) = names_by_gid.get(account.gid)
            {
                all.member_of.entry(name).or_default().insert(group);
            }
        }
        all
    }

    fn groups_of(&self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.member_of.get(name).into_iter().flatten().copied()
    }
}

/// An empty password of a group lets only its members in.
fn closed(password: Password<'_>) -> Password<'_> {
    if password == Password::Empty { Password::None } else { password }
}

/// What differs between two states, by field: its name, what was, what is.
#[derive(Debug, Default)]
struct Differences {
    fields: Vec<&'static str>,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Differences {
    fn compare(&mut self, name: &'static str, old: &[u8], new: &[u8]) {
        if old != new {
            self.tell(name, old, new);
        }
    }

    fn tell(&mut self, name: &'static str, old: &[u8], new: &[u8]) {
        self.fields.push(name);
        put(&mut self.old, name, old);
        put(&mut self.new, name, new);
    }
}

fn put(text: &mut Vec<u8>, name: &str, value: &[u8]) {
    if !text.is_empty() {
        text.push(b' ');
    }
    text.extend_from_slice(name.as_bytes());
    text.push(b'=');
    text.extend_from_slice(value);
}

/// Tells what became of accounts and groups.
pub(super) fn tell(old: AccountFiles<'_>, new: AccountFiles<'_>, at_ns: u64, told: &mut Vec<Told>) {
    let (old, new) = (Accounts::parse(old), Accounts::parse(new));
    let renamed = renames(&old, &new);
    for (id, account) in &new.accounts {
        let (name, which) = *id;
        let before = renamed.get(name).filter(|_| which == 0).map_or(name, |before| *before);
        match old.accounts.get(&(before, which)) {
            Some(was) => tell_modify(&old, &new, (before, was), (name, account), which == 0, at_ns, told),
            None => {
                let telling = about(EventType::AccountCreate, at_ns, name, account, &new);
                told.push(telling.old_new(None, Some(&whole(account))).finish());
            }
        }
    }
    for ((name, which), account) in &old.accounts {
        let gone = !new.accounts.contains_key(&(name, *which));
        if gone && !renamed.values().any(|before| before == name) {
            let telling = about(EventType::AccountDelete, at_ns, name, account, &old);
            told.push(telling.old_new(Some(&whole(account)), None).finish());
        }
    }
    // Members that are no accounts of this host (of a directory service, or to come).
    let strangers: BTreeSet<&[u8]> = old.member_of.keys().chain(new.member_of.keys()).copied().collect();
    for name in strangers {
        if !old.accounts.contains_key(&(name, 0)) && !new.accounts.contains_key(&(name, 0)) {
            let mut differences = Differences::default();
            membership(&old, &new, name, name, &mut differences);
            tell_differences(name, None, differences, &new, at_ns, told);
        }
    }
    tell_groups(&old, &new, at_ns, told);
}

/// New names of accounts that are the same but for the name, with the old ones.
fn renames<'a>(old: &Accounts<'a>, new: &Accounts<'a>) -> BTreeMap<&'a [u8], &'a [u8]> {
    let gone = |one: &Accounts<'a>, other: &Accounts<'a>| {
        let mut by_uid: BTreeMap<&'a [u8], Vec<&'a [u8]>> = BTreeMap::new();
        for ((name, which), account) in &one.accounts {
            if *which == 0 && !other.accounts.contains_key(&(name, 0)) {
                by_uid.entry(account.uid).or_default().push(name);
            }
        }
        by_uid
    };
    let (lost, won) = (gone(old, new), gone(new, old));
    let mut renamed = BTreeMap::new();
    for (uid, names) in &won {
        if let ([name], Some([before])) = (names.as_slice(), lost.get(uid).map(Vec::as_slice)) {
            renamed.insert(*name, *before);
        }
    }
    renamed
}

fn about<'a>(
    event_type: EventType,
    at_ns: u64,
    name: &[u8],
    account: &Account<'a>,
    all: &Accounts<'a>,
) -> Telling {
    Telling::new(event_type, at_ns)
        .text(Field::UserTargetName, name)
        .text(Field::UserTargetId, account.uid)
        .text(Field::AccountShell, account.shell)
        .text(Field::AccountHome, account.home)
        .list(Field::AccountGroups, all.groups_of(name))
        .text(Field::FilePath, b"/etc/passwd")
}

/// The account in one line, with what may be known of its password.
fn whole(account: &Account<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in [
        ("uid", account.uid),
        ("gid", account.gid),
        ("gecos", account.gecos),
        ("home", account.home),
        ("shell", account.shell),
        ("password", account.password.as_str().as_bytes()),
        ("locked", truth(account.locked)),
    ] {
        put(&mut text, name, value);
    }
    text
}

fn truth(truth: bool) -> &'static [u8] {
    if truth { b"true" } else { b"false" }
}

fn tell_modify<'a>(
    old_all: &Accounts<'a>,
    new_all: &Accounts<'a>,
    (old_name, old): (&[u8], &Account<'a>),
    (new_name, new): (&[u8], &Account<'a>),
    first_of_its_name: bool,
    at_ns: u64,
    told: &mut Vec<Told>,
) {
    let mut differences = Differences::default();
    differences.compare("name", old_name, new_name);
    differences.compare("uid", old.uid, new.uid);
    differences.compare("gid", old.gid, new.gid);
    differences.compare("gecos", old.gecos, new.gecos);
    differences.compare("home", old.home, new.home);
    differences.compare("shell", old.shell, new.shell);
    match (old.password, new.password) {
        (old, new) if old == new => {}
        (Password::Set(_), Password::Set(_)) => differences.tell("password", b"set", b"changed"),
        (old, new) => differences.tell("password", old.as_str().as_bytes(), new.as_str().as_bytes()),
    }
    differences.compare("locked", truth(old.locked), truth(new.locked));
    let must_change = |account: &Account<'_>| truth(account.changed_on == b"0");
    differences.compare("password_must_change", must_change(old), must_change(new));
    differences.compare("password_aging", &old.aging.join(&b","[..]), &new.aging.join(&b","[..]));
    differences.compare("expires_on_day", old.expires_on, new.expires_on);
    if first_of_its_name {
        membership(old_all, new_all, old_name, new_name, &mut differences);
    }
    tell_differences(new_name, Some(new), differences, new_all, at_ns, told);
}

fn membership<'a>(
    old_all: &Accounts<'a>,
    new_all: &Accounts<'a>,
    old_name: &[u8],
    new_name: &[u8],
    differences: &mut Differences,
) {
    let list = |groups: &BTreeMap<&'a [u8], BTreeSet<&'a [u8]>>, name: &[u8]| {
        let groups: Vec<&[u8]> = groups.get(name).into_iter().flatten().copied().collect();
        groups.join(&b","[..])
    };
    differences.compare("groups", &list(&old_all.member_of, old_name), &list(&new_all.member_of, new_name));
    let (old, new) = (list(&old_all.administers, old_name), list(&new_all.administers, new_name));
    differences.compare("administers_groups", &old, &new);
}

fn tell_differences<'a>(
    name: &[u8],
    account: Option<&Account<'a>>,
    differences: Differences,
    all: &Accounts<'a>,
    at_ns: u64,
    told: &mut Vec<Told>,
) {
    if differences.fields.is_empty() {
        return;
    }
    let telling = match account {
        Some(account) => about(EventType::AccountModify, at_ns, name, account, all),
        None => Telling::new(EventType::AccountModify, at_ns)
            .text(Field::UserTargetName, name)
            .list(Field::AccountGroups, all.groups_of(name))
            .text(Field::FilePath, b"/etc/group"),
    };
    let telling = telling.list(Field::ChangedFields, &differences.fields);
    told.push(telling.old_new(Some(&differences.old), Some(&differences.new)).finish());
}

/// Groups as such; who is in them is told with the accounts.
fn tell_groups(old: &Accounts<'_>, new: &Accounts<'_>, at_ns: u64, told: &mut Vec<Told>) {
    let names: BTreeSet<&[u8]> = old.groups.keys().chain(new.groups.keys()).copied().collect();
    for name in names {
        let (was, is) = (old.groups.get(name), new.groups.get(name));
        let Some(act) = Act::of(was, is) else { continue };
        let mut differences = Differences::default();
        if let (Some(was), Some(is)) = (was, is) {
            differences.compare("gid", was.gid, is.gid);
            match (was.password, is.password) {
                (was, is) if was == is => {}
                (Password::Set(_), Password::Set(_)) => differences.tell("password", b"set", b"changed"),
                (was, is) => differences.tell("password", was.as_str().as_bytes(), is.as_str().as_bytes()),
            }
            if differences.fields.is_empty() {
                continue;
            }
        }
        let line = |group: &Group<'_>| {
            let mut text = Vec::new();
            put(&mut text, "group", name);
            put(&mut text, "gid", group.gid);
            put(&mut text, "password", group.password.as_str().as_bytes());
            text
        };
        let (was, is) = (was.map(line), is.map(line));
        let telling = Telling::new(EventType::Persistence, at_ns)
            .act(act)
            .text(Field::PersistenceKind, b"group")
            .text(Field::FilePath, b"/etc/group")
            .list(Field::ChangedFields, &differences.fields);
        told.push(telling.old_new(was.as_deref(), is.as_deref()).finish());
    }
}

/// Tells what changes of the four files come to.
pub(super) fn tell_changes(comparison: &Comparison, changes: &[&Change], told: &mut Vec<Told>) {
    let Some(at_ns) = changes.iter().map(|change| change.at_ns).max() else { return };
    for change in changes {
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && !old.same_access(new)
        {
            told.push(
                about_file(change, Act::Modify)
                    .list(Field::ChangedFields, ["access"])
                    .old_new(Some(access(old).as_bytes()), Some(access(new).as_bytes()))
                    .finish(),
            );
        }
    }
    let mut unreadable = false;
    let mut text = |name: &str, old: bool| -> Vec<u8> {
        let path = [b"/etc/", name.as_bytes()].concat();
        let known: Option<&Known> = match changes.iter().find(|change| change.path == path) {
            Some(change) if old => change.old.as_ref(),
            Some(change) => change.new.as_ref(),
            None => comparison.file(Kind::AccountFile, &path),
        };
        unreadable |= known.is_some_and(|known| known.text().is_none());
        known.and_then(Known::text).unwrap_or_default().to_vec()
    };
    let mut all =
        |old: bool| [text("passwd", old), text("shadow", old), text("group", old), text("gshadow", old)];
    let (old, new) = (all(true), all(false));
    if unreadable {
        // Half of the truth would look like accounts that went away.
        for change in changes {
            let Some(act) = Act::of(change.old.as_ref(), change.new.as_ref()) else { continue };
            let telling = about_file(change, act);
            told.push(telling.shortages(change.old.as_ref(), change.new.as_ref()).finish());
        }
        return;
    }
    tell(borrow(&old), borrow(&new), at_ns, told);
}

/// An account file as such.
fn about_file(change: &Change, act: Act) -> Telling {
    Telling::new(EventType::Persistence, change.at_ns)
        .act(act)
        .text(Field::PersistenceKind, b"account_file")
        .text(Field::FilePath, &change.path)
}

fn borrow([passwd, shadow, group, gshadow]: &[Vec<u8>; 4]) -> AccountFiles<'_> {
    AccountFiles { passwd, shadow, group, gshadow }
}
