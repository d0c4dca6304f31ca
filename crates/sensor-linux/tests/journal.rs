//! Logons from the files of a real systemd-journald, which runs in a mount namespace
//! of the test's own and so leaves the host's journal alone.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use event_model::{EventType, Field, Value};
use sensor_api::{Observation, ObservedActivity, SourceThreads, observation_queue};
use sensor_linux::{LogonSource, SourceOptions};

const JOURNALD: &str = "/usr/lib/systemd/systemd-journald";
const SETUP: &str = "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/log \
    && mkdir -p /run/systemd/journal /run/log/journal && exec timeout 120 /usr/lib/systemd/systemd-journald";

struct Journald(Child);

impl Drop for Journald {
    fn drop(&mut self) {
        // `timeout` hands the signal on to journald, which then ends by itself.
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

fn start() -> Option<(Journald, PathBuf)> {
    let has_id = std::fs::read_to_string("/etc/machine-id").is_ok_and(|id| id.trim().len() == 32);
    if !rustix::process::geteuid().is_root() || !PathBuf::from(JOURNALD).exists() || !has_id {
        println!("skipped: needs root, systemd-journald and a machine id");
        return None;
    }
    let mut command = Command::new("unshare");
    let child = command.args(["-m", "sh", "-c", SETUP]).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
    let mut journald = Journald(child.ok()?);
    let root = PathBuf::from(format!("/proc/{}/root", journald.0.id()));
    let socket = root.join("run/systemd/journal/socket");
    let deadline = Instant::now() + Duration::from_secs(30);
    // /run is the host's own until the namespace has its mounts.
    let is_private = || {
        std::fs::metadata(root.join("run")).ok().map(|run| run_id(&run))
            != std::fs::metadata("/run").ok().map(|run| run_id(&run))
    };
    while !(is_private() && socket.exists()) {
        if let Ok(Some(status)) = journald.0.try_wait() {
            println!("skipped: systemd-journald can't run here ({status})");
            return None;
        }
        assert!(Instant::now() < deadline, "systemd-journald did not come up");
        std::thread::yield_now();
    }
    Some((journald, root))
}

fn run_id(run: &std::fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (run.dev(), run.ino())
}

fn text(activity: &ObservedActivity, field: Field) -> &str {
    match activity.fields.iter().find(|(own, _)| *own == field) {
        Some((_, Value::Text(text))) => text,
        _ => "",
    }
}

#[test]
fn what_services_write_to_a_real_journal_is_told() {
    let Some((_journald, root)) = start() else { return };
    let options = SourceOptions { root: root.clone(), ..SourceOptions::default() };
    let (sender, queue) = observation_queue(10_000);
    let threads = SourceThreads::start(vec![Box::new(LogonSource::new(&options))], &sender).unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    let write = |fields: &[(&str, &str)]| {
        let message: String = fields.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        socket.send_to(message.as_bytes(), root.join("run/systemd/journal/socket")).unwrap();
    };
    let auth = |program: &str, message: &str| {
        write(&[
            ("MESSAGE", message),
            ("SYSLOG_IDENTIFIER", program),
            ("SYSLOG_FACILITY", "10"),
            ("SYSLOG_PID", "4242"),
        ]);
    };
    let mut seen: Vec<ObservedActivity> = Vec::new();
    let take = |seen: &mut Vec<ObservedActivity>| {
        queue.take(usize::MAX, &mut |observed| {
            if let Observation::Activity(activity) = observed.what {
                seen.push(*activity);
            }
        });
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    // What was there before its first look is not news.
    let mut number = 0;
    while seen.is_empty() {
        assert!(Instant::now() < deadline, "the journal is not followed");
        number += 1;
        auth("su", &format!("Successful su for marker{number} by marker{number}"));
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            take(&mut seen);
            std::thread::yield_now();
        }
    }
    for number in 0..100 {
        auth(
            "sshd",
            &format!("Accepted password for user{number} from 192.0.2.{number} port {} ssh2", 1_000 + number),
        );
        write(&[
            ("MESSAGE", &format!("noise {number}")),
            ("SYSLOG_IDENTIFIER", "sshd"),
            ("SYSLOG_FACILITY", "3"),
        ]);
    }
    let long = "z".repeat(1_500);
    auth("sudo", &format!("anna : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/echo {long}"));
    let wanted = |seen: &[ObservedActivity]| {
        seen.iter().filter(|one| !text(one, Field::UserName).starts_with("marker")).count()
    };
    while wanted(&seen) < 101 {
        assert!(Instant::now() < deadline, "{} of 101", wanted(&seen));
        take(&mut seen);
        std::thread::yield_now();
    }
    threads.stop();
    take(&mut seen);
    assert_eq!(wanted(&seen), 101, "each once");
    assert!(seen.iter().all(|one| one.event_type == EventType::UserLogon && text(one, Field::EventProvider) == "journal"));
    let ninth = seen.iter().find(|one| text(one, Field::UserName) == "user9").unwrap();
    assert_eq!(text(ninth, Field::SourceAddress), "192.0.2.9");
    assert_eq!(ninth.actor.map(|actor| actor.pid()), Some(4242));
    let sudo = seen.iter().find(|one| text(one, Field::UserName) == "anna").unwrap();
    assert!(
        text(sudo, Field::LogonCommand).starts_with("/bin/echo zzzz"),
        "a long message, which journald packs"
    );
}
