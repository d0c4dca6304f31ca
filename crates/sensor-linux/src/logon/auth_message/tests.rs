use super::*;

fn all(program: &str, message: &str) -> Fact {
    fact(program, message).unwrap_or_else(|| panic!("{program}: {message}"))
}

fn shown(fact: &Fact) -> String {
    let address = fact.origin.address.map(|address| address.to_string()).or(fact.origin.host.clone());
    format!(
        "{:?} {} {} from {} {} by {} tty {}",
        fact.outcome,
        fact.service.as_deref().unwrap_or("-"),
        fact.user.as_deref().unwrap_or("-"),
        address.as_deref().unwrap_or("-"),
        fact.origin.port.map_or("-".to_owned(), |port| port.to_string()),
        fact.method.as_deref().unwrap_or("-"),
        fact.terminal.as_deref().unwrap_or("-"),
    )
}

#[test]
fn what_sshd_says() {
    for (message, expected) in [
        (
            "Accepted publickey for anna from 192.0.2.7 port 50122 ssh2: ED25519 SHA256:Zm9vYmFy",
            "In sshd anna from 192.0.2.7 50122 by publickey tty -",
        ),
        (
            "Accepted password for anna from 2001:db8::5 port 1 ssh2",
            "In sshd anna from 2001:db8::5 1 by password tty -",
        ),
        (
            "Accepted keyboard-interactive/pam for anna from ::ffff:192.0.2.9 port 7 ssh2",
            "In sshd anna from 192.0.2.9 7 by keyboard-interactive/pam tty -",
        ),
        (
            "Failed password for root from 198.51.100.4 port 4022 ssh2",
            "Refused sshd root from 198.51.100.4 4022 by password tty -",
        ),
        (
            "Failed password for invalid user admin from 198.51.100.4 port 4022 ssh2",
            "Refused sshd admin from 198.51.100.4 4022 by password tty -",
        ),
        (
            "Invalid user oracle from 198.51.100.4 port 4022",
            "Refused sshd oracle from 198.51.100.4 4022 by - tty -",
        ),
        ("Invalid user  from 198.51.100.4 port 4022", "Refused sshd  from 198.51.100.4 4022 by - tty -"),
        (
            "Connection closed by authenticating user root 198.51.100.4 port 4022 [preauth]",
            "Refused sshd root from 198.51.100.4 4022 by - tty -",
        ),
        (
            "Connection reset by invalid user pi 198.51.100.4 port 4022 [preauth]",
            "Refused sshd pi from 198.51.100.4 4022 by - tty -",
        ),
        (
            "Disconnecting authenticating user root 198.51.100.4 port 4022: Too many authentication failures [preauth]",
            "Refused sshd root from 198.51.100.4 4022 by - tty -",
        ),
        (
            "error: maximum authentication attempts exceeded for invalid user x from 198.51.100.4 port 9 ssh2 [preauth]",
            "Refused sshd x from 198.51.100.4 9 by - tty -",
        ),
        (
            "error: PAM: Authentication failure for root from gate.example.net",
            "Refused sshd root from gate.example.net - by keyboard-interactive/pam tty -",
        ),
        (
            "User bin from 198.51.100.4 not allowed because not listed in AllowUsers",
            "Refused sshd bin from 198.51.100.4 - by - tty -",
        ),
        ("Disconnected from user anna 192.0.2.7 port 50122", "Out sshd anna from 192.0.2.7 50122 by - tty -"),
        (
            "pam_unix(sshd:session): session opened for user anna(uid=1000) by (uid=0)",
            "In sshd anna from - - by - tty -",
        ),
        ("pam_unix(sshd:session): session closed for user anna", "Out sshd anna from - - by - tty -"),
        (
            "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=198.51.100.4  user=root",
            "Refused sshd root from 198.51.100.4 - by - tty -",
        ),
        (
            "pam_sss(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=gate.example.net",
            "Refused sshd - from gate.example.net - by - tty -",
        ),
        (
            "pam_unix(sshd:account): account anna has expired (account expired)",
            "Refused sshd anna from - - by - tty -",
        ),
    ] {
        assert_eq!(shown(&all("sshd", message)), expected, "{message}");
    }
    assert_eq!(
        all("sshd-session", "Accepted password for a from 192.0.2.7 port 1 ssh2").service.as_deref(),
        Some("sshd")
    );
    let many =
        all("sshd", "message repeated 3 times: [ Failed password for root from 198.51.100.4 port 4022 ssh2]");
    assert_eq!((many.count, many.user.as_deref()), (3, Some("root")));
    let more = all(
        "sshd",
        "pam_unix(sshd:auth): 2 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=198.51.100.4  user=root",
    );
    assert_eq!(more.count, 2);
}

#[test]
fn what_the_one_who_knocks_chooses_does_not_move_the_address() {
    let message =
        "Failed password for invalid user a from 10.0.0.1 port 22 ssh2 from 198.51.100.4 port 4022 ssh2";
    let fact = all("sshd", message);
    assert_eq!(fact.user.as_deref(), Some("a from 10.0.0.1 port 22 ssh2"));
    assert_eq!(fact.origin, Origin::of("198.51.100.4").with_port(Some(4022)));
    let message = "Connection closed by invalid user a 10.0.0.1 port 22 198.51.100.4 port 4022 [preauth]";
    assert_eq!(all("sshd", message).origin, Origin::of("198.51.100.4").with_port(Some(4022)));
    let message = "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=198.51.100.4  user=a rhost=10.0.0.1";
    let fact = all("sshd", message);
    assert_eq!((fact.user.as_deref(), fact.origin), (Some("a rhost=10.0.0.1"), Origin::of("198.51.100.4")));
}

#[test]
fn what_su_and_sudo_say() {
    let fact =
        all("sudo", "    anna : TTY=pts/0 ; PWD=/home/anna ; USER=root ; COMMAND=/bin/sh -c echo ; USER=x");
    assert_eq!(shown(&fact), "In sudo anna from - - by - tty pts/0");
    assert_eq!(
        (fact.target_user.as_deref(), fact.command.as_deref()),
        (Some("root"), Some("/bin/sh -c echo ; USER=x"))
    );
    let fact =
        all("sudo", "anna : 3 incorrect password attempts ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls");
    assert_eq!(
        (fact.outcome, fact.count, fact.reason.as_deref()),
        (Outcome::Refused, 3, Some("3 incorrect password attempts"))
    );
    let fact = all("sudo", "eve : user NOT in sudoers ; TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/bin/ls");
    assert_eq!((fact.outcome, fact.reason.as_deref()), (Outcome::Refused, Some("user NOT in sudoers")));
    let fact = all("sudo", "pam_unix(sudo:session): session opened for user root(uid=0) by anna(uid=1000)");
    assert_eq!((fact.user.as_deref(), fact.target_user.as_deref()), (Some("anna"), Some("root")));
    let fact = all(
        "sudo",
        "pam_unix(sudo:auth): authentication failure; logname=anna uid=1000 euid=0 tty=/dev/pts/0 ruser=anna rhost=  user=anna",
    );
    assert_eq!(
        (shown(&fact).as_str(), fact.target_user),
        ("Refused sudo anna from - - by - tty pts/0", None)
    );
    assert_eq!(super::fact("sudo", "anna : (command continued) x"), None);

    let fact = all("su", "(to root) anna on pts/0");
    assert_eq!(
        (shown(&fact).as_str(), fact.target_user.as_deref()),
        ("In su anna from - - by - tty pts/0", Some("root"))
    );
    assert_eq!(all("su", "FAILED SU (to root) anna on pts/0").outcome, Outcome::Refused);
    assert_eq!(shown(&all("su", "Successful su for root by anna")), "In su anna from - - by - tty -");
    let fact = all(
        "su",
        "pam_unix(su-l:auth): authentication failure; logname=anna uid=1000 euid=0 tty=pts/0 ruser=anna rhost=  user=root",
    );
    assert_eq!(
        (shown(&fact).as_str(), fact.target_user.as_deref()),
        ("Refused su anna from - - by - tty pts/0", Some("root"))
    );
}

#[test]
fn what_the_others_say() {
    for (program, message, expected) in [
        ("login", "LOGIN ON tty1 BY anna", "In login anna from - - by - tty tty1"),
        ("login", "ROOT LOGIN ON tty1", "In login root from - - by - tty tty1"),
        ("login", "ROOT LOGIN  on '/dev/tty1'", "In login root from - - by - tty tty1"),
        (
            "login",
            "FAILED LOGIN 2 FROM tty1 FOR anna, Authentication failure",
            "Refused login anna from - - by - tty tty1",
        ),
        (
            "login",
            "FAILED LOGIN (1) on '/dev/tty1' FOR 'root', Authentication failure",
            "Refused login root from - - by - tty tty1",
        ),
        (
            "CRON",
            "pam_unix(cron:session): session opened for user www-data(uid=33) by (uid=0)",
            "In cron www-data from - - by - tty -",
        ),
        (
            "CRON",
            "pam_unix(cron:session): session closed for user www-data",
            "Out cron www-data from - - by - tty -",
        ),
        (
            "gdm-password",
            "pam_unix(gdm-password:auth): authentication failure; logname= uid=0 euid=0 tty=/dev/tty1 ruser= rhost=  user=anna",
            "Refused gdm-password anna from - - by - tty tty1",
        ),
        (
            "gdm-password",
            "pam_unix(gdm-password:session): session opened for user anna by (uid=0)",
            "In gdm-password anna from - - by - tty -",
        ),
        ("systemd-logind", "New session 12 of user anna.", "In - anna from - - by - tty -"),
        (
            "systemd-logind",
            "New session '12' of user 'anna' with class 'user' and type 'tty'.",
            "In - anna from - - by - tty -",
        ),
    ] {
        assert_eq!(shown(&all(program, message)), expected, "{message}");
    }
    assert_eq!(all("systemd-logind", "Removed session 12.").session.as_deref(), Some("12"));
}

#[test]
fn what_says_nothing_of_a_logon_is_none() {
    for (program, message) in [
        ("sshd", "Server listening on 0.0.0.0 port 22."),
        ("sshd", "Received disconnect from 192.0.2.7 port 50122:11: disconnected by user"),
        ("sshd", "Failed none for root from 192.0.2.7 port 1 ssh2"),
        ("sshd", "Connection closed by 192.0.2.7 port 1 [preauth]"),
        ("sshd", "pam_unix(sshd:auth): check pass; user unknown"),
        ("systemd", "pam_unix(systemd-user:session): session opened for user anna(uid=1000) by (uid=0)"),
        ("sudo", "anna : "),
        ("sudo", ""),
        ("su", "(to"),
        ("login", "FAILED LOGIN"),
        ("CRON", "(root) CMD (run-parts /etc/cron.hourly)"),
        ("x", "pam_("),
        ("x", "pam_unix(:): "),
        ("sshd", "Accepted  for  from  port "),
        ("sshd", "message repeated 2 times: ["),
        ("useradd", "new user: name=anna"),
    ] {
        if let Some(fact) = fact(program, message) {
            // Odd, but nothing that was not said.
            assert!(message.starts_with("Accepted"), "{program}: {message}: {fact:?}");
        }
    }
}
