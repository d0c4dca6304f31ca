use super::*;
use crate::logon::auth_message;
use crate::logon::fact::Origin;
use crate::logon::sessions::OpenSession;

const SECOND: i64 = 1_000_000_000;

fn line(provider: Provider, program: &str, pid: u32, second: i64, message: &str) -> Fact {
    let fact = auth_message::fact(program, message).unwrap_or_else(|| panic!("{message}"));
    Fact { provider, pid: (pid != 0).then_some(pid), at_ns: Some(second * SECOND), ..fact }
}

fn record(
    outcome: Outcome,
    provider: Provider,
    pid: u32,
    tty: &str,
    user: Option<&str>,
    second: i64,
) -> Fact {
    Fact {
        provider,
        pid: Some(pid),
        terminal: Some(tty.to_owned()),
        user: user.map(str::to_owned),
        at_ns: Some(second * SECOND),
        ..Fact::new(outcome, Voice::Record)
    }
}

fn merged(facts: Vec<Fact>, sessions: &Sessions) -> Vec<Logon> {
    let (mut merge, now) = (Merge::default(), Instant::now());
    for fact in facts {
        merge.take(fact, now, sessions);
    }
    assert!(merge.due(now, false).is_empty(), "facts wait for others");
    merge.due(now + HOLD, false)
}

#[test]
fn a_logon_that_everybody_tells_is_one() {
    use Provider::{AuthLog, Journal, Wtmp};
    let accepted = "Accepted publickey for anna from 192.0.2.7 port 50122 ssh2: ED25519 SHA256:x";
    let opened = "pam_unix(sshd:session): session opened for user anna(uid=1000) by (uid=0)";
    let told = merged(
        vec![
            line(AuthLog, "sshd", 812, 10, accepted),
            line(AuthLog, "sshd", 812, 10, opened),
            line(Journal, "sshd", 812, 10, accepted),
            line(Journal, "systemd-logind", 300, 10, "New session 12 of user anna."),
            line(Journal, "sshd", 812, 10, opened),
            Fact {
                origin: Origin::of("192.0.2.7"),
                ..record(Outcome::In, Wtmp, 819, "pts/0", Some("anna"), 11)
            },
            line(AuthLog, "systemd-logind", 300, 10, "New session 12 of user anna."),
        ],
        &Sessions::default(),
    );
    assert_eq!(told.len(), 1, "{told:#?}");
    let Logon { fact, providers, .. } = &told[0];
    assert_eq!(providers, &[AuthLog, Journal, Wtmp]);
    assert_eq!(
        (fact.pid, fact.session.as_deref(), fact.terminal.as_deref()),
        (Some(812), Some("12"), Some("pts/0"))
    );
    assert_eq!((fact.method.as_deref(), fact.origin.port), (Some("publickey"), Some(50122)));
}

#[test]
fn two_logons_at_once_stay_two() {
    use Provider::AuthLog;
    let mut facts = Vec::new();
    for (pid, port) in [(1, 1001), (2, 1002)] {
        facts.push(line(
            AuthLog,
            "sshd",
            pid,
            10,
            &format!("Accepted password for anna from 192.0.2.7 port {port} ssh2"),
        ));
    }
    for pid in [2, 1] {
        let opened = "pam_unix(sshd:session): session opened for user anna(uid=1000) by (uid=0)";
        facts.push(line(AuthLog, "sshd", pid, 10, opened));
    }
    let told = merged(facts, &Sessions::default());
    assert_eq!(told.iter().map(|logon| logon.pids.clone()).collect::<Vec<_>>(), [[1], [2]]);

    let sudo = |command: &str| {
        line(AuthLog, "sudo", 0, 10, &format!("anna : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND={command}"))
    };
    let opened = || {
        line(
            AuthLog,
            "sudo",
            0,
            10,
            "pam_unix(sudo:session): session opened for user root(uid=0) by anna(uid=1000)",
        )
    };
    let told = merged(vec![sudo("/bin/a"), opened(), sudo("/bin/b"), opened()], &Sessions::default());
    let commands: Vec<_> = told.iter().map(|logon| logon.fact.command.as_deref().unwrap()).collect();
    assert_eq!(commands, ["/bin/a", "/bin/b"]);
}

#[test]
fn an_attempt_that_failed_is_told_once_and_each_attempt_is() {
    use Provider::{AuthLog, Btmp};
    let failed = "Failed password for root from 198.51.100.4 port 4022 ssh2";
    let pam = "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=198.51.100.4  user=root";
    let closed = "Connection closed by authenticating user root 198.51.100.4 port 4022 [preauth]";
    let told = merged(
        vec![
            line(AuthLog, "sshd", 7, 10, pam),
            line(AuthLog, "sshd", 7, 11, failed),
            Fact {
                origin: Origin::of("198.51.100.4"),
                ..record(Outcome::Refused, Btmp, 7, "ssh:notty", Some("root"), 11)
            },
            line(AuthLog, "sshd", 7, 12, failed),
            line(AuthLog, "sshd", 7, 13, closed),
            line(AuthLog, "sshd", 8, 13, closed),
        ]
        .into_iter()
        .map(|fact| Fact { terminal: None, ..fact })
        .collect(),
        &Sessions::default(),
    );
    let shown: Vec<_> = told
        .iter()
        .map(|logon| (logon.pids[0], logon.providers.len(), logon.fact.reason.clone().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            (7, 2, "wrong password".to_owned()),
            (7, 1, "wrong password".to_owned()),
            (8, 1, "connection ended before authentication".to_owned()),
        ]
    );
}

#[test]
fn who_leaves_is_known_by_the_session() {
    let mut sessions = Sessions::default();
    let open = |user: &str, tty: &str, pid: u32| OpenSession {
        user: user.to_owned(),
        service: "sshd".to_owned(),
        target_user: None,
        terminal: Some(tty.to_owned()),
        session: Some(format!("s{pid}")),
        pids: vec![pid],
        since_ns: 5 * SECOND,
    };
    sessions.opened(open("anna", "pts/0", 1));
    sessions.opened(open("bert", "pts/1", 2));
    let told = merged(
        vec![
            record(Outcome::Out, Provider::Wtmp, 99, "pts/1", None, 20),
            line(Provider::Journal, "systemd-logind", 300, 20, "Removed session s2."),
            record(Outcome::Out, Provider::Wtmp, 98, "tty1", None, 20),
            line(Provider::Journal, "systemd-logind", 300, 20, "Removed session unknown."),
        ],
        &sessions,
    );
    assert_eq!(told.len(), 1, "a getty that ends is nobody's logoff: {told:#?}");
    assert_eq!(told[0].fact.user.as_deref(), Some("bert"));
    let closed = sessions.closed(&told[0].fact, &told[0].pids).unwrap();
    assert_eq!((closed.user.as_str(), closed.since_ns), ("bert", 5 * SECOND));
    assert!(
        sessions.find(&record(Outcome::Out, Provider::Wtmp, 1, "?", None, 1)).is_some(),
        "anna is still in"
    );
}

#[test]
fn a_storm_is_held_within_a_bound() {
    let (mut merge, now) = (Merge::default(), Instant::now());
    let mut told = 0;
    for pid in 1..=3_000 {
        let fact = line(
            Provider::AuthLog,
            "sshd",
            pid,
            10,
            "Failed password for root from 198.51.100.4 port 4022 ssh2",
        );
        merge.take(fact, now, &Sessions::default());
        told += merge.due(now, false).len();
    }
    assert_eq!(told, 3_000 - MOST_HELD);
    assert_eq!(merge.due(now, true).len(), MOST_HELD);
}
