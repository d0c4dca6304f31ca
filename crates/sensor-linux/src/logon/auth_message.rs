//! What sshd, PAM, su, sudo, login and systemd-logind write, as facts.
//!
//! Much of a line is chosen by whoever knocks: a user name may hold spaces and
//! ` from 10.0.0.1 port 22 ssh2`. So what the service itself appends is looked for
//! from the end of the line.

use super::fact::{Fact, Origin, Outcome, Voice, terminal};

/// What the program's message says of a logon; `None` if it says nothing of one.
pub(super) fn fact(program: &str, message: &str) -> Option<Fact> {
    let message = message.trim();
    if let Some((count, repeated)) = repeated(message) {
        let mut fact = fact(program, repeated)?;
        fact.count = count;
        return Some(fact);
    }
    if message.starts_with("pam_") {
        return pam(message);
    }
    let fact = match program {
        // Since OpenSSH 9.8 sessions have a program of their own.
        "sshd" | "sshd-session" | "sshd-auth" => sshd(message),
        "sudo" => sudo(message),
        "su" => su(message),
        "login" => login(message),
        "systemd-logind" | "elogind-daemon" | "elogind" => return logind(message),
        _ => None,
    }?;
    let service = if program.starts_with("sshd") { "sshd" } else { program };
    Some(Fact { service: Some(service.to_owned()), ..fact })
}

/// rsyslog's `message repeated 3 times: [ text]`.
fn repeated(message: &str) -> Option<(u32, &str)> {
    let (count, text) = message.strip_prefix("message repeated ")?.split_once(" times: [")?;
    Some((count.parse().ok()?, text.strip_suffix(']')?.trim_start()))
}

fn sshd(message: &str) -> Option<Fact> {
    let message = message.strip_suffix("[preauth]").unwrap_or(message).trim_end();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    if let Some(rest) = message.strip_prefix("Accepted ") {
        let (method, rest) = rest.split_once(" for ")?;
        let (user, origin) = user_from(rest)?;
        let method = Some(method.to_owned());
        return Some(Fact { user, origin, method, ..Fact::new(Outcome::In, Voice::Service) });
    }
    if let Some(rest) = message.strip_prefix("Failed ") {
        let (method, rest) = rest.split_once(" for ")?;
        // Only the question which methods there are.
        if method == "none" {
            return None;
        }
        let (rest, unknown) = known(rest);
        let (user, origin) = user_from(rest)?;
        let reason = if unknown { format!("{method} of an unknown user") } else { format!("wrong {method}") };
        let (method, reason) = (Some(method.to_owned()), Some(reason));
        return Some(Fact { user, origin, method, reason, ..Fact::new(Outcome::Refused, Voice::Service) });
    }
    if let Some(rest) = message.strip_prefix("maximum authentication attempts exceeded for ") {
        let (user, origin) = user_from(known(rest).0)?;
        let reason = Some("too many attempts".to_owned());
        return Some(Fact { user, origin, reason, ..Fact::new(Outcome::Refused, Voice::Closed) });
    }
    if let Some(rest) =
        ["Invalid user ", "Illegal user "].iter().find_map(|start| message.strip_prefix(start))
    {
        let (user, origin) = user_from(rest)?;
        let reason = Some("unknown user".to_owned());
        return Some(Fact { user, origin, reason, ..Fact::new(Outcome::Refused, Voice::Name) });
    }
    if let Some(rest) = message.strip_prefix("User ") {
        let (who, reason) = rest.rsplit_once(" not allowed because ")?;
        let (user, origin) = user_from(who)?;
        let reason = Some(format!("not allowed: {reason}"));
        return Some(Fact { user, origin, reason, ..Fact::new(Outcome::Refused, Voice::Name) });
    }
    if let Some(rest) = message.strip_prefix("PAM: ") {
        let (reason, rest) = rest.split_once(" for ")?;
        let rest = rest.strip_prefix("illegal user ").unwrap_or(rest);
        let (user, origin) = user_from(rest)?;
        let (method, reason) = (Some("keyboard-interactive/pam".to_owned()), Some(reason.to_owned()));
        return Some(Fact { user, origin, method, reason, ..Fact::new(Outcome::Refused, Voice::Service) });
    }
    if let Some(rest) = message.strip_prefix("Disconnected from user ") {
        let (user, origin) = user_address(rest)?;
        return Some(Fact { user, origin, ..Fact::new(Outcome::Out, Voice::Service) });
    }
    let closed = ["Connection closed by ", "Connection reset by ", "Disconnected from ", "Disconnecting "];
    let rest = closed.iter().find_map(|start| message.strip_prefix(start))?;
    let (rest, why) = match rest.strip_prefix("authenticating user ") {
        Some(rest) => (rest, "connection ended before authentication"),
        None => (rest.strip_prefix("invalid user ")?, "unknown user; connection ended before authentication"),
    };
    // `Disconnecting … port 22: Too many authentication failures`
    let (rest, said) = match rest.rsplit_once(": ") {
        Some((rest, said)) if rest.contains(" port ") => (rest, Some(said)),
        _ => (rest, None),
    };
    let (user, origin) = user_address(rest)?;
    let reason = Some(said.unwrap_or(why).to_owned());
    Some(Fact { user, origin, reason, ..Fact::new(Outcome::Refused, Voice::Closed) })
}

/// Without `invalid user ` before the name, and whether it stood there.
fn known(rest: &str) -> (&str, bool) {
    match ["invalid user ", "illegal user "].iter().find_map(|start| rest.strip_prefix(start)) {
        Some(rest) => (rest, true),
        None => (rest, false),
    }
}

/// `USER from ADDRESS port N ssh2: …`; port and all behind it may be missing.
fn user_from(text: &str) -> Option<(Option<String>, Origin)> {
    let (user, origin) = text.rsplit_once(" from ").or_else(|| Some(("", text.strip_prefix("from ")?)))?;
    let mut words = origin.split(' ');
    let address = words.next()?;
    let port = (words.next() == Some("port")).then(|| words.next().and_then(port)).flatten();
    Some((Some(user.to_owned()), Origin::of(address).with_port(port)))
}

/// `USER ADDRESS port N`.
fn user_address(text: &str) -> Option<(Option<String>, Origin)> {
    let (rest, number) = text.rsplit_once(" port ")?;
    let (user, address) = rest.rsplit_once(' ').unwrap_or(("", rest));
    Some((Some(user.to_owned()), Origin::of(address).with_port(port(number))))
}

fn port(text: &str) -> Option<u16> {
    text.trim_end_matches(|character: char| !character.is_ascii_digit()).parse().ok()
}

/// `pam_unix(sshd:session): …`, by whatever module.
fn pam(message: &str) -> Option<Fact> {
    let (place, text) = message.split_once("): ")?;
    let (module, place) = place.split_once('(')?;
    let (service, kind) = place.rsplit_once(':')?;
    // The user's own systemd is started in its wake; nobody logs on to it.
    if service == "systemd-user" {
        return None;
    }
    let service = service_name(service);
    let mut fact = match kind {
        "session" => pam_session(&service, text)?,
        "auth" => pam_failure(text)?,
        "account" => {
            let rest =
                text.strip_prefix("account ").or_else(|| text.strip_prefix("expired password for user "))?;
            let user = rest.split(' ').next().map(str::to_owned);
            let reason = Some(format!("{module}: {text}"));
            Fact { user, reason, ..Fact::new(Outcome::Refused, Voice::Pam) }
        }
        _ => return None,
    };
    fact.service = Some(service);
    Some(fact)
}

fn service_name(service: &str) -> String {
    match service {
        "su-l" => "su",
        "sudo-i" => "sudo",
        "crond" => "cron",
        "remote" => "login",
        other => other,
    }
    .to_owned()
}

fn pam_session(service: &str, text: &str) -> Option<Fact> {
    if let Some(user) = text.strip_prefix("session closed for user ") {
        let user = without_id(user).to_owned();
        let mut fact = Fact::new(Outcome::Out, Voice::Pam);
        if matches!(service, "su" | "sudo") {
            fact.target_user = Some(user);
        } else {
            fact.user = Some(user);
        }
        return Some(fact);
    }
    let (user, by) = text.strip_prefix("session opened for user ")?.rsplit_once(" by ")?;
    let (user, by) = (without_id(user).to_owned(), without_id(by));
    let mut fact = Fact::new(Outcome::In, Voice::Pam);
    if matches!(service, "su" | "sudo") {
        fact.user = (!by.is_empty()).then(|| by.to_owned());
        fact.target_user = Some(user);
    } else {
        fact.user = Some(user);
    }
    Some(fact)
}

/// `anna(uid=1000)` as `anna`.
fn without_id(user: &str) -> &str {
    match user.rsplit_once("(uid=") {
        Some((name, rest)) if rest.ends_with(')') => name,
        _ => user,
    }
}

fn pam_failure(text: &str) -> Option<Fact> {
    let (said, count, rest) = match text.strip_prefix("authentication failure; ") {
        Some(rest) => ("authentication failure", 1, rest),
        None => {
            // `2 more authentication failures; …` at the end of a conversation.
            let (count, rest) = text.split_once(" more authentication failure")?;
            (("authentication failure"), count.parse().ok()?, rest.split_once("; ")?.1)
        }
    };
    let mut fact = Fact { count, ..Fact::new(Outcome::Refused, Voice::Pam) };
    fact.reason = Some(said.to_owned());
    // `user=` stands last and may hold anything.
    let (rest, user) = match rest.find(" user=") {
        Some(at) => (&rest[..at], Some(rest[at + " user=".len()..].trim())),
        None => (rest, None),
    };
    let mut caller = None;
    for word in rest.split(' ') {
        match word.split_once('=') {
            Some(("tty", text)) => fact.terminal = terminal(text),
            Some(("rhost", host)) => fact.origin = Origin::of(host),
            Some(("ruser", name)) if !name.is_empty() => caller = Some(name.to_owned()),
            _ => {}
        }
    }
    let user = user.filter(|user| !user.is_empty()).map(str::to_owned);
    // su asks for the password of whom it is to become; who asks is the remote user.
    match caller {
        Some(caller) if user.as_ref() != Some(&caller) => {
            fact.user = Some(caller);
            fact.target_user = user;
        }
        _ => fact.user = user,
    }
    Some(fact)
}

/// `anna : TTY=pts/0 ; PWD=/home/anna ; USER=root ; COMMAND=/usr/bin/id`, with what
/// went wrong as the first part where something did.
fn sudo(message: &str) -> Option<Fact> {
    let (user, rest) = message.split_once(" : ")?;
    let user = user.trim();
    let (rest, command) = match rest.split_once("COMMAND=") {
        Some((rest, command)) => (rest, Some(command.to_owned())),
        None => (rest, None),
    };
    let mut fact = Fact::new(Outcome::In, Voice::Service);
    let mut said = None;
    let mut known = false;
    for part in rest.split(" ; ").map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("TTY", text)) => (fact.terminal, known) = (terminal(text), true),
            Some(("USER", name)) => (fact.target_user, known) = (Some(name.to_owned()), true),
            Some(("PWD" | "GROUP" | "ENV" | "HOST" | "TSID" | "CHROOT" | "CWD", _)) => {}
            _ if said.is_none() => said = Some(part.to_owned()),
            _ => {}
        }
    }
    if !known || said.as_deref() == Some("(command continued)") {
        return None;
    }
    if let Some(said) = said {
        fact.outcome = Outcome::Refused;
        let count = said.split(' ').next().and_then(|count| count.parse().ok());
        fact.count = count.filter(|_| said.contains("incorrect password")).unwrap_or(1);
        fact.reason = Some(said);
    }
    Some(Fact { user: Some(user.to_owned()), command, ..fact })
}

fn su(message: &str) -> Option<Fact> {
    let pair = |outcome, target: &str, user: &str| {
        let reason = (outcome == Outcome::Refused).then(|| "su failed".to_owned());
        let (user, target_user) = (Some(user.to_owned()), Some(target.to_owned()));
        Fact { user, target_user, reason, ..Fact::new(outcome, Voice::Service) }
    };
    // util-linux: `(to root) anna on pts/0`.
    let (rest, outcome) = match message.strip_prefix("FAILED SU ") {
        Some(rest) => (rest, Outcome::Refused),
        None => (message, Outcome::In),
    };
    if let Some(rest) = rest.strip_prefix("(to ") {
        let (target, rest) = rest.split_once(") ")?;
        let (user, tty) = rest.rsplit_once(" on ")?;
        return Some(Fact { terminal: terminal(tty), ..pair(outcome, target, user) });
    }
    // shadow: `Successful su for root by anna`, `FAILED su for root by anna`.
    for (start, outcome) in [("Successful su for ", Outcome::In), ("FAILED su for ", Outcome::Refused)] {
        if let Some((target, user)) = message.strip_prefix(start).and_then(|rest| rest.rsplit_once(" by ")) {
            return Some(pair(outcome, target, user));
        }
    }
    None
}

fn login(message: &str) -> Option<Fact> {
    if let Some(rest) = message.strip_prefix("FAILED LOGIN ") {
        let (place, who) = rest.split_once(" FOR ")?;
        let (user, reason) = who.rsplit_once(", ").unwrap_or((who, "login failed"));
        // util-linux: `1 FROM tty1`; shadow: `(1) on '/dev/tty1'`.
        let place =
            place.split_once(" FROM ").or_else(|| place.split_once(" on ")).map_or("", |(_, place)| place);
        let (place, host) = place.split_once(" from ").unwrap_or((place, ""));
        return Some(Fact {
            user: Some(user.trim_matches('\'').to_owned()),
            reason: Some(reason.to_owned()),
            terminal: terminal(place),
            origin: Origin::of(host.trim_matches('\'')),
            ..Fact::new(Outcome::Refused, Voice::Service)
        });
    }
    if let Some(rest) = message.strip_prefix("ROOT LOGIN ") {
        let rest = rest.trim_start();
        let rest = rest.strip_prefix("ON ").or_else(|| rest.strip_prefix("on "))?;
        let (tty, host) = rest.split_once(" FROM ").unwrap_or((rest, ""));
        let (user, terminal) = (Some("root".to_owned()), terminal(tty));
        return Some(Fact {
            user,
            terminal,
            origin: Origin::of(host),
            ..Fact::new(Outcome::In, Voice::Service)
        });
    }
    let (tty, rest) = message.strip_prefix("LOGIN ON ")?.split_once(" BY ")?;
    let (user, host) = rest.rsplit_once(" FROM ").unwrap_or((rest, ""));
    Some(Fact {
        user: Some(user.to_owned()),
        terminal: terminal(tty),
        origin: Origin::of(host),
        ..Fact::new(Outcome::In, Voice::Service)
    })
}

fn logind(message: &str) -> Option<Fact> {
    if let Some(rest) = message.strip_prefix("New session ") {
        let (session, user) = rest.split_once(" of user ")?;
        // Newer versions add what class and type it has.
        let user = user.split_once(" with class ").map_or(user, |(user, _)| user);
        let user = user.trim_end_matches('.').trim_matches('\'');
        let (user, session) = (Some(user.to_owned()), Some(session.trim_matches('\'').to_owned()));
        return Some(Fact { user, session, ..Fact::new(Outcome::In, Voice::Logind) });
    }
    let session = message.strip_prefix("Removed session ")?.trim_end_matches('.').trim_matches('\'');
    Some(Fact { session: Some(session.to_owned()), ..Fact::new(Outcome::Out, Voice::Logind) })
}

#[cfg(test)]
mod tests;
