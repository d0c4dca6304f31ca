//! Logons from logs under a root of the test's own, as events.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use event_model::{EventType, Field, Value};
use sensor_api::{Observation, ObservationQueue, ObservedActivity, SourceThreads, observation_queue};
use sensor_linux::{LogonSource, SourceOptions};

struct Host {
    root: tempfile::TempDir,
    state: tempfile::TempDir,
}

struct Running {
    threads: SourceThreads,
    queue: ObservationQueue,
    seen: Vec<ObservedActivity>,
}

impl Host {
    fn new() -> Self {
        let host = Self { root: tempfile::tempdir().unwrap(), state: tempfile::tempdir().unwrap() };
        fs::create_dir_all(host.path("var/log")).unwrap();
        fs::create_dir_all(host.path("run")).unwrap();
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn append(&self, path: &str, bytes: &[u8]) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(path)).unwrap();
        file.write_all(bytes).unwrap();
    }

    /// A line with the time of now.
    fn log(&self, tag: &str, message: &str) {
        let now = jiff::Timestamp::now();
        self.append("var/log/auth.log", format!("{now} web-1 {tag}: {message}\n").as_bytes());
    }

    fn start(&self) -> Running {
        let options = SourceOptions {
            root: self.root.path().into(),
            state_dir: Some(self.state.path().into()),
            ..SourceOptions::default()
        };
        let (sender, queue) = observation_queue(10_000);
        let threads = SourceThreads::start(vec![Box::new(LogonSource::new(&options))], &sender).unwrap();
        Running { threads, queue, seen: Vec::new() }
    }
}

impl Running {
    fn take(&mut self) {
        let seen = &mut self.seen;
        self.queue.take(usize::MAX, &mut |observed| {
            if let Observation::Activity(activity) = observed.what {
                seen.push(*activity);
            }
        });
    }

    fn wait_for(&mut self, count: usize) -> &[ObservedActivity] {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.seen.len() < count {
            assert!(Instant::now() < deadline, "{count} events; there are {:#?}", self.seen);
            self.take();
            std::thread::yield_now();
        }
        &self.seen
    }

    /// Stops it, which tells whatever waits.
    fn stop(mut self) -> Vec<ObservedActivity> {
        self.threads.stop();
        self.queue.take(usize::MAX, &mut |observed| {
            if let Observation::Activity(activity) = observed.what {
                self.seen.push(*activity);
            }
        });
        self.seen
    }
}

fn text(activity: &ObservedActivity, field: Field) -> &str {
    match activity.fields.iter().find(|(own, _)| *own == field) {
        Some((_, Value::Text(text))) => text,
        _ => "",
    }
}

fn number(activity: &ObservedActivity, field: Field) -> Option<i64> {
    activity.fields.iter().find_map(|(own, value)| match value {
        Value::Integer(number) if *own == field => Some(*number),
        _ => None,
    })
}

fn needs_are_met(activity: &ObservedActivity) {
    for need in activity.event_type.spec().needs {
        assert!(activity.fields.iter().any(|(field, _)| field == need), "{need:?} of {activity:#?}");
    }
}

/// A record as login(1) and sshd write them.
fn utmp(kind: i16, pid: i32, line: &str, user: &str, host: &str, address: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0; size_of::<libc::utmpx>()];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    put(offset_of!(libc::utmpx, ut_type), &kind.to_ne_bytes());
    put(offset_of!(libc::utmpx, ut_pid), &pid.to_ne_bytes());
    put(offset_of!(libc::utmpx, ut_line), line.as_bytes());
    put(offset_of!(libc::utmpx, ut_user), user.as_bytes());
    put(offset_of!(libc::utmpx, ut_host), host.as_bytes());
    put(offset_of!(libc::utmpx, ut_addr_v6), &address);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    if size_of::<libc::utmpx>() == 384 {
        put(offset_of!(libc::utmpx, ut_tv), &u32::try_from(now.as_secs()).unwrap().to_ne_bytes());
    } else {
        put(offset_of!(libc::utmpx, ut_tv), &now.as_secs().to_ne_bytes());
    }
    bytes
}

/// True once the source has come to the end of the files and stored nothing yet: it
/// was started before they were written, so all of it is news.
fn started(host: &Host, running: &mut Running, marker: u32) {
    // Whatever is written before its first look is not news, so write until it sees one.
    let deadline = Instant::now() + Duration::from_secs(30);
    let user = format!("marker{marker}");
    while running.seen.is_empty() {
        assert!(Instant::now() < deadline, "the source never looked");
        host.log("su[1]", &format!("Successful su for {user} by {user}"));
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            running.take();
            std::thread::yield_now();
        }
    }
}

fn without_markers(seen: Vec<ObservedActivity>) -> Vec<ObservedActivity> {
    seen.into_iter().filter(|activity| !text(activity, Field::UserName).starts_with("marker")).collect()
}

#[test]
fn a_session_is_told_from_logon_to_logoff_by_all_its_witnesses_together() {
    let host = Host::new();
    let mut running = host.start();
    started(&host, &mut running, 1);
    host.log("sshd[812]", "Accepted publickey for anna from 192.0.2.7 port 50122 ssh2: ED25519 SHA256:x");
    host.log("sshd[812]", "pam_unix(sshd:session): session opened for user anna(uid=1000) by (uid=0)");
    host.log("systemd-logind[300]", "New session 12 of user anna.");
    host.append("var/log/wtmp", &utmp(7, 819, "pts/0", "anna", "192.0.2.7", [192, 0, 2, 7]));
    host.log("sshd[900]", "Failed password for invalid user admin from 198.51.100.4 port 4022 ssh2");
    host.append("var/log/btmp", &utmp(6, 900, "ssh:notty", "admin", "198.51.100.4", [198, 51, 100, 4]));
    let wanted = |seen: &[ObservedActivity]| {
        seen.iter().filter(|one| !text(one, Field::UserName).starts_with("marker")).count()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while wanted(&running.seen) < 2 {
        assert!(Instant::now() < deadline, "{:#?}", running.seen);
        running.take();
        std::thread::yield_now();
    }
    host.log("sshd[812]", "pam_unix(sshd:session): session closed for user anna");
    host.append("var/log/wtmp", &utmp(8, 819, "pts/0", "", "", [0; 4]));
    host.log("systemd-logind[300]", "Removed session 12.");
    let deadline = Instant::now() + Duration::from_secs(30);
    while wanted(&running.seen) < 3 {
        assert!(Instant::now() < deadline, "{:#?}", running.seen);
        running.take();
        std::thread::yield_now();
    }
    let seen = without_markers(running.stop());
    seen.iter().for_each(needs_are_met);
    assert_eq!(seen.len(), 3, "{seen:#?}");

    let logon = seen.iter().find(|one| one.event_type == EventType::UserLogon).unwrap();
    assert_eq!(text(logon, Field::UserName), "anna");
    assert_eq!(text(logon, Field::LogonService), "sshd");
    assert_eq!(text(logon, Field::LogonMethod), "publickey");
    assert_eq!(text(logon, Field::SourceAddress), "192.0.2.7");
    assert_eq!(number(logon, Field::SourcePort), Some(50122));
    assert_eq!(text(logon, Field::LogonTerminal), "pts/0");
    assert_eq!(text(logon, Field::LogonSession), "12");
    assert_eq!(text(logon, Field::EventProvider), "auth_log, wtmp");
    assert_eq!(logon.actor.map(|actor| actor.pid()), Some(812));

    let failed = seen.iter().find(|one| one.event_type == EventType::UserLogonFailed).unwrap();
    assert_eq!(text(failed, Field::UserName), "admin");
    assert_eq!(text(failed, Field::EventReason), "password of an unknown user");
    assert_eq!(text(failed, Field::EventProvider), "auth_log, btmp");
    assert_eq!(text(failed, Field::EventOutcome), "failure");

    let logoff = seen.iter().find(|one| one.event_type == EventType::UserLogoff).unwrap();
    assert_eq!(text(logoff, Field::UserName), "anna");
    assert_eq!(text(logoff, Field::LogonSession), "12");
    let length = number(logoff, Field::EventDuration).unwrap();
    assert!((1_000_000_000..60_000_000_000).contains(&length), "{length}");
}

#[test]
fn what_was_logged_while_the_agent_was_down_is_told_once_by_the_next() {
    let host = Host::new();
    let mut running = host.start();
    started(&host, &mut running, 2);
    host.log("su[5]", "(to root) anna on pts/0");
    let first = without_markers(running.stop());
    host.log("su[6]", "FAILED SU (to root) bert on pts/1");
    fs::rename(host.path("var/log/auth.log"), host.path("var/log/auth.log.1")).unwrap();
    host.log("su[7]", "(to root) clara on pts/2");
    let mut running = host.start();
    running.wait_for(if first.is_empty() { 3 } else { 2 });
    let second = without_markers(running.stop());
    let users: Vec<&str> = first.iter().chain(&second).map(|one| text(one, Field::UserName)).collect();
    assert_eq!(users, ["anna", "bert", "clara"]);
    assert!(without_markers(host.start().stop()).is_empty(), "nothing is told again");
}

#[test]
fn lines_of_before_the_boot_say_their_time_and_rubbish_does_no_harm() {
    let host = Host::new();
    host.append("var/log/auth.log", b"");
    let mut running = host.start();
    started(&host, &mut running, 3);
    let mut rubbish = vec![b'A'; 1 << 20];
    rubbish.extend(b"\n\0\xff\xfe\n\n: : :\n");
    host.append("var/log/auth.log", &rubbish);
    host.append("var/log/wtmp", &[0xff; 1_000]);
    // The system came up meanwhile: what other logs tell of before stays.
    host.append("var/log/wtmp", &vec![0; 2 * size_of::<libc::utmpx>() - 1_000 % size_of::<libc::utmpx>()]);
    host.append("var/log/wtmp", &utmp(2, 0, "~", "reboot", "6.18", [0; 4]));
    host.append("var/log/auth.log", b"2001-02-03T04:05:06+00:00 web-1 su[9]: (to root) old on pts/0\n");
    let mut long = format!("{} web-1 sshd[3]: Failed password for ", jiff::Timestamp::now()).into_bytes();
    long.extend(vec![b'u'; 3_000]);
    long.extend(b"\x1b[31m\xff from 198.51.100.4 port 1 ssh2\n");
    host.append("var/log/auth.log", &long);
    let deadline = Instant::now() + Duration::from_secs(30);
    while running.seen.iter().filter(|one| !text(one, Field::UserName).starts_with("marker")).count() < 2 {
        assert!(Instant::now() < deadline, "{:#?}", running.seen);
        running.take();
        std::thread::yield_now();
    }
    let seen = without_markers(running.stop());
    assert_eq!(seen.len(), 2, "{seen:#?}");
    let old = seen.iter().find(|one| text(one, Field::UserName) == "old").unwrap();
    let start = old.fields.iter().find(|(field, _)| *field == Field::EventStart);
    assert_eq!(
        start.map(|(_, value)| value.as_ref().to_json()),
        Some("2001-02-03T04:05:06.000000000Z".into())
    );
    assert_eq!(old.actor, None, "that PID is somebody else's now");
    let long = seen.iter().find(|one| text(one, Field::UserName) != "old").unwrap();
    assert!(text(long, Field::UserName).len() <= 1_024);
    assert!(long.fields.iter().any(|(field, _)| *field == Field::EventIncomplete));
    assert_eq!(text(long, Field::SourceAddress), "198.51.100.4");
}

#[test]
fn a_host_without_any_log_says_so() {
    use sensor_api::Source;
    let root = tempfile::tempdir().unwrap();
    let options = SourceOptions { root: root.path().into(), ..SourceOptions::default() };
    let provisions = LogonSource::new(&options).provisions();
    assert_eq!(provisions.len(), 3);
    assert!(provisions.iter().all(|one| one.missing.is_some()), "{provisions:?}");
    fs::create_dir_all(Path::new(root.path()).join("var/log")).unwrap();
    fs::write(root.path().join("var/log/secure"), "").unwrap();
    let provisions = LogonSource::new(&options).provisions();
    assert!(provisions[0].describe().contains("var/log/secure"), "{provisions:?}");
}
