//! Accounts and groups.

use std::fs;

use event_model::{EventType, Field};
use sensor_api::ObservedActivity;

use crate::host::{Host, Watching, list, text};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbin:x:2:2:bin:/bin:/usr/sbin/nologin\nann:x:1000:1000:Ann:/home/ann:/bin/bash\n";
const SHADOW: &str =
    "root:*:19000:0:99999:7:::\nbin:*:19000:0:99999:7:::\nann:$6$annsalt$annhash:19000:0:99999:7:::\n";
const GROUP: &str = "root:x:0:\nbin:x:2:\nsudo:x:27:ann\nann:x:1000:\n";
const GSHADOW: &str = "root:*::\nbin:*::\nsudo:*::ann\nann:!::\n";

fn host() -> Host {
    Host::with(&[
        ("/etc/passwd", PASSWD),
        ("/etc/shadow", SHADOW),
        ("/etc/group", GROUP),
        ("/etc/gshadow", GSHADOW),
    ])
}

fn next(watching: &mut Watching, event_type: EventType, name: &str) -> ObservedActivity {
    watching.next(&format!("{event_type} of {name}"), |event| {
        event.event_type == event_type && text(event, Field::UserTargetName) == name
    })
}

/// As useradd does: locks, then each file beside itself and renamed into place, one after the other.
fn useradd(host: &Host) {
    for file in ["passwd", "group", "shadow", "gshadow"] {
        host.write(format!("/etc/{file}.lock"), "1");
    }
    host.replace("/etc/passwd", &format!("{PASSWD}bob:x:1001:1001:Bob,,,:/home/bob:/bin/sh\n"));
    host.replace("/etc/shadow", &format!("{SHADOW}bob:!:19500:0:99999:7:::\n"));
    // Longer than changes are waited for, were it not for the locks.
    std::thread::park_timeout(std::time::Duration::from_millis(400));
    host.replace(
        "/etc/group",
        &format!("{}bob:x:1001:\n", GROUP.replace("sudo:x:27:ann", "sudo:x:27:ann,bob")),
    );
    host.replace("/etc/gshadow", &format!("{}bob:!::\n", GSHADOW.replace("sudo:*::ann", "sudo:*::ann,bob")));
    for file in ["passwd", "group", "shadow", "gshadow"] {
        host.remove(format!("/etc/{file}.lock"));
    }
}

#[test]
fn an_account_is_told_from_its_making_to_its_end() {
    let host = host();
    let mut watching = host.watch();
    useradd(&host);
    let event = next(&mut watching, EventType::AccountCreate, "bob");
    assert_eq!(text(&event, Field::UserTargetId), "1001");
    assert_eq!(text(&event, Field::AccountShell), "/bin/sh");
    assert_eq!(text(&event, Field::AccountHome), "/home/bob");
    assert_eq!(list(&event, Field::AccountGroups), ["bob", "sudo"], "a tool's four files are one change");
    assert!(text(&event, Field::ChangeNew).contains("password=none"), "{event:?}");
    assert!(event.actor.is_none());

    let shadow = |bob: &str| format!("{SHADOW}bob:{bob}\n");
    // Where each change is told by itself: what is written, the fields' names, old and new.
    let steps: [(&str, &[&str], &str, &str); 7] = [
        (
            "$y$salt$one:19501:0:99999:7:::",
            &["password", "locked"],
            "password=none locked=true",
            "password=set locked=false",
        ),
        ("$y$salt$two:19501:0:99999:7:::", &["password"], "password=set", "password=changed"),
        ("!$y$salt$two:19501:0:99999:7:::", &["locked"], "locked=false", "locked=true"),
        ("$y$salt$two:19501:0:99999:7:::", &["locked"], "locked=true", "locked=false"),
        (
            "$y$salt$two:0:0:99999:7:::",
            &["password_must_change"],
            "password_must_change=false",
            "password_must_change=true",
        ),
        (
            "$y$salt$two:0:0:90:7::20000:",
            &["password_aging", "expires_on_day"],
            "password_aging=0,99999,7, expires_on_day=",
            "password_aging=0,90,7, expires_on_day=20000",
        ),
        (":0:0:90:7::20000:", &["password"], "password=set", "password=empty"),
    ];
    for (line, fields, old, new) in steps {
        host.replace("/etc/shadow", &shadow(line));
        let event = next(&mut watching, EventType::AccountModify, "bob");
        assert_eq!(list(&event, Field::ChangedFields), fields, "{line}");
        assert_eq!((text(&event, Field::ChangeOld), text(&event, Field::ChangeNew)), (old, new), "{line}");
    }

    // In place, as vipw on some systems and careless scripts do.
    host.write("/etc/passwd", format!("{PASSWD}bob:x:0:1001:Bob,,,:/home/bob:/bin/zsh\n"));
    let event = next(&mut watching, EventType::AccountModify, "bob");
    assert_eq!(list(&event, Field::ChangedFields), ["uid", "shell"]);
    assert_eq!(text(&event, Field::ChangeOld), "uid=1001 shell=/bin/sh");
    assert_eq!(text(&event, Field::ChangeNew), "uid=0 shell=/bin/zsh");
    assert_eq!(text(&event, Field::UserTargetId), "0");

    host.replace("/etc/passwd", PASSWD);
    let event = next(&mut watching, EventType::AccountDelete, "bob");
    assert_eq!(text(&event, Field::UserTargetId), "0");
    watching.stop();
}

#[test]
fn no_hash_of_a_password_gets_into_events_or_state() {
    let host = host();
    let mut watching = host.watch();
    host.replace("/etc/shadow", &SHADOW.replace("annhash", "otherhash"));
    let event = next(&mut watching, EventType::AccountModify, "ann");
    assert_eq!(list(&event, Field::ChangedFields), ["password"]);
    // A hash where it does not belong, and everything that goes with files that were removed.
    host.replace("/etc/passwd", &PASSWD.replace("ann:x:", "ann:$1$old$passwdhash:"));
    let other = next(&mut watching, EventType::AccountModify, "ann");
    host.remove("/etc/shadow");
    host.remove("/etc/gshadow");
    let mut told = watching.settle(&host);
    told.extend(watching.stop());
    told.extend([event, other]);
    let text = format!("{told:?}");
    let state = fs::read(host.state("watched-files")).unwrap();
    for secret in ["annsalt", "annhash", "otherhash", "passwdhash", "$6$", "$1$"] {
        assert!(!text.contains(secret), "{secret} in {text}");
        assert!(
            !state.windows(secret.len()).any(|part| part == secret.as_bytes()),
            "{secret} is in the state"
        );
    }
    // Nor the digests, which are the host's own business.
    assert!(!text.contains(":#") && !text.contains("=#"), "{text}");
}

#[test]
fn a_second_root_and_twice_the_same_name_are_told() {
    let host = host();
    let mut watching = host.watch();
    host.replace(
        "/etc/passwd",
        &format!("{PASSWD}toor::0:0::/root:/bin/sh\nann:x:0:0::/:/bin/sh\n+::::::\n"),
    );
    let event = next(&mut watching, EventType::AccountCreate, "+");
    assert!(text(&event, Field::ChangeNew).contains("password=empty"), "{event:?}");
    let event = next(&mut watching, EventType::AccountCreate, "ann");
    assert_eq!(text(&event, Field::UserTargetId), "0", "the second ann");
    let event = next(&mut watching, EventType::AccountCreate, "toor");
    assert_eq!(text(&event, Field::UserTargetId), "0");
    assert_eq!(list(&event, Field::AccountGroups), ["root"]);
    assert!(text(&event, Field::ChangeNew).contains("password=empty"), "{event:?}");
    assert_eq!(watching.settle(&host), []);
}

#[test]
fn membership_names_and_groups_are_told() {
    let host = host();
    let mut watching = host.watch();
    host.replace("/etc/group", &GROUP.replace("sudo:x:27:ann", "sudo:x:27:ann,bin,ldapuser"));
    let event = next(&mut watching, EventType::AccountModify, "bin");
    assert_eq!(list(&event, Field::ChangedFields), ["groups"]);
    assert_eq!(
        (text(&event, Field::ChangeOld), text(&event, Field::ChangeNew)),
        ("groups=bin", "groups=bin,sudo")
    );
    let event = next(&mut watching, EventType::AccountModify, "ldapuser");
    assert_eq!(text(&event, Field::ChangeNew), "groups=sudo");

    host.replace("/etc/passwd", &PASSWD.replace("ann:x:", "anna:x:"));
    let event = next(&mut watching, EventType::AccountModify, "anna");
    assert_eq!(list(&event, Field::ChangedFields)[0], "name");
    assert!(text(&event, Field::ChangeOld).starts_with("name=ann "), "{event:?}");

    host.replace("/etc/group", &format!("{GROUP}wheel:x:10:\n"));
    let event = watching.next("group", |event| {
        text(event, Field::PersistenceKind) == "group" && text(event, Field::EventAction) == "create"
    });
    assert_eq!(text(&event, Field::ChangeNew), "group=wheel gid=10 password=none");
    host.write("/etc/gshadow", GSHADOW.replace("sudo:*:", "sudo:$6$x$y:ann"));
    let event = watching.next("group's password", |event| {
        text(event, Field::EventAction) == "modify" && text(event, Field::PersistenceKind) == "group"
    });
    assert_eq!(text(&event, Field::ChangeOld), "group=sudo gid=27 password=none");
    assert_eq!(text(&event, Field::ChangeNew), "group=sudo gid=27 password=set");
    assert_eq!(list(&event, Field::ChangedFields), ["password"]);
}

#[test]
fn whoever_may_read_shadow_now_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let host = host();
    fs::set_permissions(host.path("/etc/shadow"), fs::Permissions::from_mode(0o640)).unwrap();
    let mut watching = host.watch();
    fs::set_permissions(host.path("/etc/shadow"), fs::Permissions::from_mode(0o644)).unwrap();
    let event = watching.next_at(EventType::Persistence, "/etc/shadow");
    assert_eq!(text(&event, Field::PersistenceKind), "account_file");
    assert!(text(&event, Field::ChangeOld).starts_with("mode 0640 "), "{event:?}");
    assert!(text(&event, Field::ChangeNew).starts_with("mode 0644 "), "{event:?}");
    assert_eq!(watching.settle(&host), []);
}

#[test]
fn account_files_that_can_t_be_read_make_no_account_go_away() {
    let host = host();
    let mut watching = host.watch();
    let file = fs::OpenOptions::new().write(true).open(host.path("/etc/passwd")).unwrap();
    file.set_len(64 << 20).unwrap();
    let event = watching.next_at(EventType::Persistence, "/etc/passwd");
    assert_eq!(text(&event, Field::PersistenceKind), "account_file");
    assert_eq!(list(&event, Field::EventIncomplete), ["rampart.change.new: too_large"]);
    assert_eq!(watching.settle(&host), []);
}
