//! What is changed while no agent is there.

use std::fs;

use event_model::{EventType, Field, GapReason};

use crate::host::{Host, list, text};

const WHILE_AWAY: &str = "changed while the agent was not running";
const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nann:x:5:5::/home/ann:/bin/sh\n";

fn host() -> Host {
    Host::with(&[
        ("/etc/passwd", PASSWD),
        ("/etc/shadow", "root:$6$a$b:1::::::\nann:$6$c$d:1::::::\n"),
        ("/etc/cron.d/kept", "1 1 1 1 1 root /kept\n"),
        ("/etc/cron.d/gone", "2 2 2 2 2 root /gone\n"),
        ("/home/ann/.bashrc", "alias ls=ls\n"),
        ("/home/ann/.ssh/authorized_keys", "ssh-ed25519 A ann\n"),
        ("/usr/lib/modules/6.1.0/a.ko", "module"),
        ("/etc/systemd/system/x.service", "[Service]\nExecStart=/x\n"),
    ])
}

#[test]
fn it_is_told_at_the_next_start_once_and_marked() {
    let host = host();
    let watching = host.watch();
    assert_eq!(watching.stop(), []);

    host.replace("/etc/passwd", &format!("{PASSWD}eve:x:0:0::/home/eve:/bin/sh\n"));
    host.replace("/etc/shadow", "root:$6$a$b:1::::::\nann:$6$c$other:1::::::\neve::1::::::\n");
    host.remove("/etc/cron.d/gone");
    host.write("/etc/cron.d/new", "3 3 3 3 3 root /new\n");
    host.write("/home/ann/.ssh/authorized_keys", "ssh-ed25519 A ann\nssh-ed25519 E eve\n");
    host.write("/usr/lib/modules/6.1.0/a.ko", "infected module");
    fs::remove_dir_all(host.path("/etc/systemd")).unwrap();
    // Touched, and the same.
    host.replace("/home/ann/.bashrc", "alias ls=ls\n");

    let mut watching = host.watch();
    let mut told = watching.settle(&host);
    told.retain(|event| {
        assert_eq!(text(event, Field::EventReason), WHILE_AWAY, "{event:?}");
        true
    });
    let brief: Vec<String> = told
        .iter()
        .map(|event| {
            let what = [Field::UserTargetName, Field::FilePath].map(|field| text(event, field));
            let action = [Field::EventAction, Field::FileOperation].map(|field| text(event, field)).concat();
            let changed = list(event, Field::ChangedFields).join(",");
            format!("{} {} {action} {changed}", event.event_type, what.join(" "))
        })
        .collect();
    let mut sorted = brief.clone();
    sorted.sort();
    assert_eq!(
        sorted,
        [
            "account_create eve /etc/passwd  ",
            "account_modify ann /etc/passwd  password",
            "file_modify  /usr/lib/modules/6.1.0/a.ko modify content",
            "persistence ann /home/ann/.ssh/authorized_keys modify content",
            "scheduled_task  /etc/cron.d/gone delete ",
            "scheduled_task  /etc/cron.d/new create ",
            "service  /etc/systemd/system/x.service delete ",
        ]
    );
    // From now on it is ordinary again, and the third start has nothing to tell.
    host.write("/etc/cron.d/now", "4 4 4 4 4 root /now\n");
    let event = watching.next_at(EventType::ScheduledTask, "/etc/cron.d/now");
    assert_eq!(text(&event, Field::EventReason), "");
    watching.settle(&host);
    watching.stop();
    let mut watching = host.watch();
    assert_eq!(watching.settle(&host), []);
}

#[test]
fn a_removal_is_told_once() {
    let host = host();
    host.watch().stop();
    host.remove("/etc/cron.d/gone");
    let watching = host.watch();
    let told = watching.stop();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(text(&told[0], Field::EventAction), "delete");
    assert_eq!(host.watch().stop(), []);
}

#[test]
fn a_change_just_before_the_stop_is_told_by_one_of_both() {
    let host = host();
    let watching = host.watch();
    host.write("/etc/ld.so.preload", "/tmp/evil.so\n");
    let mut told = watching.stop();
    let mut watching = host.watch();
    told.extend(watching.settle(&host));
    let times = told.iter().filter(|event| text(event, Field::PersistenceKind) == "ld_preload").count();
    assert_eq!(times, 1, "{told:?}");
}

#[test]
fn a_damaged_baseline_is_a_gap_and_a_new_beginning() {
    let host = host();
    host.watch().stop();
    let path = host.state("watched-files");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut watching = host.watch_anew();
    assert_eq!(watching.settle(&host), []);
    let reasons: Vec<_> = watching.losses.iter().map(|loss| (loss.reason, loss.what, loss.count)).collect();
    assert_eq!(reasons, [(GapReason::MalformedRecord, "persistence", None)]);
    watching.stop();
    let mut watching = host.watch();
    assert_eq!(watching.settle(&host), []);
    assert_eq!(watching.losses, [], "the new baseline is whole");
}
