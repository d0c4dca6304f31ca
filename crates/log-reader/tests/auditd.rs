//! The Linux audit log: lines of one event are one event.

mod support;

use log_reader::{LogFormat, ProblemKind};
use support::read;

const LOG: &str = "\
type=SYSCALL msg=audit(1700000000.100:7): arch=c000003e syscall=59 success=yes exit=0 a0=55d a1=55e items=2 ppid=10 pid=11 auid=1000 uid=0 comm=\"sh\" exe=\"/usr/bin/dash\" key=\"exec\"
type=USER_CMD msg=audit(1700000000.101:8): pid=12 uid=1000 msg='cwd=\"/home/a\" cmd=6964202D75 exe=\"/usr/bin/sudo\" res=success'
type=EXECVE msg=audit(1700000000.100:7): argc=3 a0=\"sh\" a1=\"-c\" a2_len=12 a2[0]=6563686F20 a2[1]=\"hi\"
type=CWD msg=audit(1700000000.100:7): cwd=\"/tmp\"
type=PATH msg=audit(1700000000.100:7): item=0 name=\"/bin/sh\" nametype=NORMAL
type=PATH msg=audit(1700000000.100:7): item=1 name=\"/lib64/ld.so\" nametype=NORMAL
type=PROCTITLE msg=audit(1700000000.100:7): proctitle=7368002D63006563686F206869
type=SYSCALL msg=audit(1700000001.000:9): arch=c000003e syscall=257 pid=11 exe=\"/usr/bin/touch\"
type=CWD msg=audit(1700000001.000:9): cwd=\"/etc\"
type=PATH msg=audit(1700000001.000:9): item=0 name=\"cron.d/x\" nametype=CREATE
type=PROCTITLE msg=audit(1700000001.000:9): proctitle=\"touch\"
type=SYSCALL msg=audit(1700000002.000:10): arch=c00000b7 syscall=203 pid=11 exe=\"/usr/bin/nc\"
type=SOCKADDR msg=audit(1700000002.000:10): saddr=020001BB01020304
";

#[test]
fn the_lines_of_an_event_are_joined_in_the_order_of_the_file() {
    let (seen, format) = read(LOG.as_bytes());
    assert_eq!(format, Some(LogFormat::Auditd));
    assert_eq!(seen.problems, []);
    let heads: Vec<_> = seen.events.iter().map(|event| (event.record, event.origin.as_str())).collect();
    assert_eq!(
        heads,
        [
            (1, "Auditd(ProcessCreation)"),
            (2, "Auditd(Other)"),
            (8, "Auditd(FileCreation)"),
            (12, "Auditd(NetworkConnection)"),
        ]
    );
    let exec = &seen.events[0];
    for (name, values) in [
        ("type", &["SYSCALL", "EXECVE", "CWD", "PATH", "PATH", "PROCTITLE"][..]),
        ("a0", &["55d", "sh"]),
        ("a2", &["echo hi"]),
        ("name", &["/bin/sh", "/lib64/ld.so"]),
        ("SYSCALL", &["execve"]),
        ("proctitle", &["sh -c echo hi"]),
        ("Image", &["/usr/bin/dash"]),
        ("CommandLine", &["sh -c echo hi"]),
        ("CurrentDirectory", &["/tmp"]),
        ("ProcessId", &["11"]),
        ("ParentProcessId", &["10"]),
        ("User", &["0"]),
    ] {
        assert_eq!(exec.all(name), values, "{name}");
    }
    assert_eq!(exec.time.as_deref(), Some("2023-11-14T22:13:20.100000000Z"));
    assert_eq!(seen.events[1].one("cmd"), Some("id -u"));
    assert_eq!(seen.events[1].one("CommandLine"), None);
    assert_eq!(seen.events[2].one("TargetFilename"), Some("/etc/cron.d/x"));
    assert_eq!(seen.events[3].one("DestinationIp"), Some("1.2.3.4"));
    assert_eq!(seen.events[3].one("DestinationPort"), Some("443"));
    assert_eq!(seen.events[3].one("SYSCALL"), Some("connect"));
}

#[test]
fn hosts_are_told_apart_and_bad_lines_are_left_out() {
    let log = "\
node=a type=SYSCALL msg=audit(1700000000.100:7): exe=\"/a\"
node=b type=SYSCALL msg=audit(1700000000.100:7): exe=\"/b\"
something else
node=b type=CWD msg=audit(1700000000.100:7): cwd=\"/bb\"
node=a type=CWD msg=audit(1700000000.100:7): cwd=\"/a\u{ff}\"
type=CWD msg=aud";
    let log: Vec<u8> = log.chars().map(|character| character as u8).collect();
    let (seen, _) = read(&log);
    let pairs: Vec<_> = seen.events.iter().map(|event| (event.one("exe"), event.one("cwd"))).collect();
    assert_eq!(pairs, [(Some("/a"), Some("/a\u{fffd}")), (Some("/b"), Some("/bb"))]);
    let problems: Vec<_> = seen.problems.iter().map(|problem| (problem.kind, problem.record)).collect();
    assert_eq!(
        problems,
        [(ProblemKind::BadRecord, Some(3)), (ProblemKind::Cut, Some(6)), (ProblemKind::NotUtf8, Some(2))]
    );
}

#[test]
fn events_that_never_end_do_not_pile_up() {
    let lines: Vec<String> = (0..2_000)
        .map(|serial| format!("type=SYSCALL msg=audit(1700000000.100:{serial}): pid={serial}\n"))
        .collect();
    let (seen, _) = read(lines.concat().as_bytes());
    assert_eq!(seen.events.len(), 2_000);
    assert!(seen.events.iter().zip(1..).all(|(event, record)| event.record == record));
    let many = "type=PATH msg=audit(1700000000.100:1): name=\"x\"\n".repeat(10_000);
    let (seen, _) = read(many.as_bytes());
    assert_eq!(seen.problem_kinds(), [ProblemKind::TooLarge, ProblemKind::TooLarge]);
    assert_eq!(seen.events.len(), 3);
}
