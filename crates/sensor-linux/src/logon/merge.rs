//! One logon that several sources tell of is one event.
//!
//! A fact is held for [`HOLD`]; what else is said of the same logon meanwhile is
//! added to it. Two facts are of one logon if nothing in them contradicts and they
//! are not the same voice of the same provider: that would be two logons.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::fact::{Fact, Outcome, Provider, Voice};
use super::sessions::Sessions;

/// How long a fact waits for others. journald and syslog write within a second.
pub(super) const HOLD: Duration = Duration::from_secs(2);

/// How far the times of two facts of one logon may lie apart.
const NEAR_NS: i64 = 3_000_000_000;

/// How long sshd may take from a refusal to the end of the connection (its default
/// `LoginGraceTime` is two minutes).
const REMEMBER: Duration = Duration::from_secs(300);

/// Facts that may be held at once; more are told at once (a storm of failed logons).
const MOST_HELD: usize = 1_024;

/// One logon, as all who spoke of it say.
#[derive(Debug, Clone)]
pub(super) struct Logon {
    pub(super) fact: Fact,
    pub(super) providers: Vec<Provider>,
    /// How long the session was, in nanoseconds.
    pub(super) length_ns: Option<i64>,
    voices: Vec<(Voice, Provider)>,
    /// All PIDs by which it was named.
    pub(super) pids: Vec<u32>,
    until: Instant,
}

/// Facts on their way to be events.
#[derive(Debug, Default)]
pub(super) struct Merge {
    held: Vec<Logon>,
    /// Processes whose refusals were told lately.
    refused: VecDeque<(Instant, u32)>,
}

impl Merge {
    /// Takes a fact in.
    pub(super) fn take(&mut self, mut fact: Fact, now: Instant, sessions: &Sessions) {
        if fact.outcome == Outcome::Out && !self.name(&mut fact, sessions) {
            // The end of something that never was a logon: a getty, a session of before the first start.
            return;
        }
        let matching = |logon: &&mut Logon| logon.is_of(&fact);
        let by_pid = self
            .held
            .iter_mut()
            .filter(matching)
            .find(|logon| fact.pid.is_some_and(|pid| logon.pids.contains(&pid)));
        let found = match by_pid {
            Some(logon) => Some(logon),
            None => self.held.iter_mut().find(matching),
        };
        if let Some(logon) = found {
            logon.add(fact);
            return;
        }
        if fact.outcome == Outcome::Refused && fact.voice == Voice::Closed && self.was_refused(&fact) {
            return;
        }
        self.held.push(Logon::new(fact, now + HOLD));
    }

    /// Who it is that leaves, where only the session says it.
    fn name(&self, fact: &mut Fact, sessions: &Sessions) -> bool {
        if fact.user.is_some() {
            return true;
        }
        if let Some(open) = sessions.find(fact) {
            fact.user = Some(open.user.clone());
            fact.service = fact.service.take().or_else(|| Some(open.service.clone()));
            return true;
        }
        // In and out within the time that a fact is held.
        let of_session = |logon: &&Logon| {
            logon.fact.outcome == Outcome::In
                && ((fact.session.is_some() && logon.fact.session == fact.session)
                    || (fact.terminal.is_some() && logon.fact.terminal == fact.terminal)
                    || fact.pid.is_some_and(|pid| logon.pids.contains(&pid))
                    || (fact.target_user.is_some()
                        && logon.fact.target_user == fact.target_user
                        && logon.fact.service == fact.service))
        };
        match self.held.iter().rev().find(of_session) {
            Some(logon) => {
                fact.user.clone_from(&logon.fact.user);
                fact.service = fact.service.take().or_else(|| logon.fact.service.clone());
                fact.user.is_some()
            }
            None => {
                // Better who it was as than nobody.
                fact.user.clone_from(&fact.target_user);
                fact.user.is_some()
            }
        }
    }

    /// The end of a connection adds nothing to the attempts that were told.
    fn was_refused(&self, fact: &Fact) -> bool {
        let Some(pid) = fact.pid else { return false };
        let held = self.held.iter().filter(|logon| logon.fact.outcome == Outcome::Refused);
        held.flat_map(|logon| &logon.pids).any(|held| *held == pid)
            || self.refused.iter().any(|(_, refused)| *refused == pid)
    }

    /// Takes out what has waited long enough; all of it at the end.
    pub(super) fn due(&mut self, now: Instant, all: bool) -> Vec<Logon> {
        let surplus = self.held.len().saturating_sub(MOST_HELD);
        let mut index = 0;
        let is_due = |logon: &mut Logon| {
            index += 1;
            all || logon.until <= now || index <= surplus
        };
        let due: Vec<Logon> = self.held.extract_if(.., is_due).collect();
        let refused = due.iter().filter(|logon| logon.fact.outcome == Outcome::Refused);
        self.refused.extend(refused.flat_map(|logon| &logon.pids).map(|pid| (now, *pid)));
        while self.refused.front().is_some_and(|(at, _)| *at + REMEMBER < now)
            || self.refused.len() > MOST_HELD
        {
            self.refused.pop_front();
        }
        due
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.held.iter().map(|logon| logon.until).min()
    }
}

impl Logon {
    fn new(fact: Fact, until: Instant) -> Self {
        Self {
            providers: vec![fact.provider],
            voices: vec![(fact.voice, fact.provider)],
            pids: fact.pid.into_iter().collect(),
            length_ns: None,
            fact,
            until,
        }
    }

    fn is_of(&self, other: &Fact) -> bool {
        let own = &self.fact;
        let agrees =
            |one: &Option<String>, other: &Option<String>| one.is_none() || other.is_none() || one == other;
        let same_pid = match other.pid {
            Some(pid) => self.pids.contains(&pid) || self.pids.is_empty(),
            None => true,
        };
        let near = match (own.at_ns, other.at_ns) {
            (Some(one), Some(other)) => one.abs_diff(other) <= NEAR_NS.unsigned_abs(),
            _ => true,
        };
        // The same words by another provider come from the same process.
        let heard = |voice: &(Voice, Provider)| voice.0 == other.voice;
        let twice = self.voices.contains(&(other.voice, other.provider));
        let echo = self.voices.iter().any(heard);
        own.outcome == other.outcome
            && !twice
            && (!echo || (same_pid && agrees(&own.command, &other.command)))
            // Failures of one user come in quick succession: only the process tells which is which.
            && (own.outcome != Outcome::Refused || same_pid)
            && near
            && own.count == other.count
            && agrees(&own.user, &other.user)
            && agrees(&own.target_user, &other.target_user)
            && agrees(&own.service, &other.service)
            && agrees(&own.terminal, &other.terminal)
            && agrees(&own.session, &other.session)
            && (own.origin.address.is_none() || other.origin.address.is_none() || own.origin.address == other.origin.address)
    }

    fn add(&mut self, other: Fact) {
        let own = &mut self.fact;
        self.voices.push((other.voice, other.provider));
        if !self.providers.contains(&other.provider) {
            self.providers.push(other.provider);
        }
        if let Some(pid) = other.pid.filter(|pid| !self.pids.contains(pid)) {
            self.pids.push(pid);
        }
        // The service's own line says best why.
        if other.voice == Voice::Service && other.reason.is_some() {
            own.reason = other.reason;
        } else {
            own.reason = own.reason.take().or(other.reason);
        }
        // The record's process is the session's, the line's is the one that let the user in.
        own.pid = match (own.voice, other.voice) {
            (Voice::Record | Voice::Logind, Voice::Service | Voice::Pam) => other.pid.or(own.pid),
            _ => own.pid.or(other.pid),
        };
        own.at_ns = match (own.at_ns, other.at_ns) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        own.user = own.user.take().or(other.user);
        own.target_user = own.target_user.take().or(other.target_user);
        own.service = own.service.take().or(other.service);
        own.method = own.method.take().or(other.method);
        own.session = own.session.take().or(other.session);
        own.terminal = own.terminal.take().or(other.terminal);
        own.command = own.command.take().or(other.command);
        own.origin.address = own.origin.address.or(other.origin.address);
        own.origin.host = own.origin.host.take().or(other.origin.host);
        own.origin.port = own.origin.port.or(other.origin.port);
        for doubt in other.incomplete {
            if !own.incomplete.contains(&doubt) {
                own.incomplete.push(doubt);
            }
        }
    }
}

#[cfg(test)]
mod tests;
