//! Who logged on, who was not let in, and who left.
//!
//! Four kinds of witnesses: the text log of syslog (`/var/log/auth.log`,
//! `/var/log/secure`), the journal, and the records of `wtmp` and `btmp`. Which of
//! them a host has differs, and often several speak of one logon: [`merge`] makes
//! one event of that. All are files that grow; they are looked at twice a second,
//! which costs less than being woken for each line of each log.
//!
//! How far each was read is kept, so that a restart finds what was logged meanwhile.

mod auth_line;
mod auth_message;
mod fact;
mod journal;
mod merge;
mod sessions;
mod tail;
mod utmp;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use event_model::{EventType, Field, GapReason, Timestamp, Value};
use jiff::tz::TimeZone;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sensor_api::{Actor, ObservationSender, ObservedActivity, ObservedLoss, Provision, Source, StopSignal};
use serde::{Deserialize, Serialize};

use crate::boot_clock::Moment;
use crate::{SourceOptions, escape, state_file};
use fact::{Fact, Outcome, Provider};
use journal::{Entry, Journal};
use merge::{HOLD, Logon, Merge};
use sessions::{OpenSession, Sessions};
use tail::{Framing, Place, Tail};

/// Between two looks at the logs.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Between two looks for new files of the journal.
const LIST_EVERY: Duration = Duration::from_secs(5);

/// What was handed to the agent is in its spool after so long.
const SPOOLED_AFTER: Duration = Duration::from_secs(2);

/// A host that was set to another time zone is noticed after this.
const ZONE_EVERY: Duration = Duration::from_secs(300);

const MAX_STATE: u64 = 4 << 20;

/// Texts that others chose are cut at so many bytes.
const MAX_TEXT: usize = 1_024;

const TEXT_LOGS: [&str; 2] = ["var/log/auth.log", "var/log/secure"];
const WTMP: &str = "var/log/wtmp";
const BTMP: &str = "var/log/btmp";
const UTMP: &str = "run/utmp";

/// Reads the logs of logons.
#[derive(Debug)]
pub struct LogonSource {
    root: PathBuf,
    state_path: Option<PathBuf>,
}

impl LogonSource {
    /// Looks under the options' root.
    pub fn new(options: &SourceOptions) -> Self {
        let state_path = options.state_dir.as_ref().map(|dir| dir.join("logon.json"));
        Self { root: options.root.clone(), state_path }
    }
}

impl Source for LogonSource {
    fn name(&self) -> &'static str {
        "logon"
    }

    fn provisions(&self) -> Vec<Provision> {
        let there = |path: &&str| self.root.join(path).exists();
        let mut text: Vec<&str> = TEXT_LOGS.iter().copied().filter(|path| there(path)).collect();
        if ["var/log/journal", "run/log/journal"].iter().any(there) {
            text.push("journal");
        }
        let with = |record: &'static str| -> Vec<&str> {
            text.iter().copied().chain(there(&record).then_some(record)).collect()
        };
        let provision = |event_type, from: Vec<&str>| {
            Provision {
            event_type,
            missing: from.is_empty().then(|| {
                "there is no auth.log, secure, journal, wtmp or btmp yet; they are read as soon as they appear".to_owned()
            }),
            source: format!("logon ({})", from.join(", ")),
        }
        };
        vec![
            provision(EventType::UserLogon, with(WTMP)),
            provision(EventType::UserLogoff, with(WTMP)),
            provision(EventType::UserLogonFailed, with(BTMP)),
        ]
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        let mut watch = Watch::new(&self.root, self.state_path.clone());
        loop {
            let more = watch.look(sender);
            let wait = if more { Duration::ZERO } else { watch.wait() };
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
            let stopped = poll(&mut [PollFd::new(stop, PollFlags::IN)], Some(&timeout));
            if stopped.is_ok_and(|ready| ready > 0) {
                watch.finish(sender);
                return;
            }
        }
    }
}

/// What a restart needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    tails: BTreeMap<String, Place>,
    journal: Option<journal::Place>,
    sessions: Sessions,
}

struct Watch {
    tails: Vec<(&'static str, Tail)>,
    journal: Journal,
    listed: Option<Instant>,
    sessions: Sessions,
    /// When the system came up, as wtmp says it; 0 while it has not said.
    booted_ns: i64,
    merge: Merge,
    zone: TimeZone,
    zone_read: Instant,
    state_path: Option<PathBuf>,
    stored: State,
    /// How far everything was read at that moment; stored once all of it is spooled.
    snapshot: Option<(Instant, State)>,
    warned: bool,
}

impl Watch {
    fn new(root: &Path, state_path: Option<PathBuf>) -> Self {
        let stored = state_path.as_ref().and_then(|path| state_file::read(path, MAX_STATE));
        let stored: Option<State> = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let known = stored.is_some();
        let stored = stored.unwrap_or_default();
        let mut tails = Vec::new();
        for (path, framing) in [
            (TEXT_LOGS[0], Framing::Lines),
            (TEXT_LOGS[1], Framing::Lines),
            (WTMP, Framing::Records(utmp::RECORD)),
            (BTMP, Framing::Records(utmp::RECORD)),
        ] {
            let place = stored.tails.get(path).cloned();
            tails.push((path, Tail::new(root.join(path), framing, place)));
        }
        let mut sessions = stored.sessions.clone();
        if !known {
            already_in(&root.join(UTMP), &mut sessions);
        }
        Self {
            tails,
            journal: Journal::new(root, stored.journal.clone()),
            listed: None,
            sessions,
            booted_ns: 0,
            merge: Merge::default(),
            zone: TimeZone::system(),
            zone_read: Instant::now(),
            state_path,
            stored,
            snapshot: None,
            warned: false,
        }
    }

    /// Reads what is new and tells what is due; true if there is more to read.
    fn look(&mut self, sender: &ObservationSender) -> bool {
        let moment = Moment::now();
        let now = Instant::now();
        if self.zone_read.elapsed() >= ZONE_EVERY {
            self.zone = TimeZone::system();
            self.zone_read = now;
        }
        let mut more = false;
        let mut facts = Vec::new();
        let mut booted_ns = self.booted_ns;
        for (path, tail) in &mut self.tails {
            let zone = &self.zone;
            let result = tail.read(&mut |frame, cut| match *path {
                WTMP => match utmp::session(frame) {
                    Some(utmp::Record::Fact(fact)) => facts.push(*fact),
                    Some(utmp::Record::Boot(at_ns)) => booted_ns = booted_ns.max(at_ns),
                    None => {}
                },
                BTMP => facts.extend(utmp::failure(frame)),
                _ => facts.extend(of_line(frame, cut, moment, zone)),
            });
            match result {
                Ok(found) => {
                    more |= found.more;
                    if found.lost {
                        tell_lost(sender, moment);
                    }
                }
                Err(error) => self.warned = warn_once(self.warned, path, &error),
            }
        }
        if booted_ns > self.booted_ns {
            self.booted_ns = booted_ns;
            self.sessions.end_before(booted_ns);
        }
        if self.listed.is_none_or(|listed| listed.elapsed() >= LIST_EVERY) {
            self.listed = Some(now);
            if let Err(error) = self.journal.look() {
                self.warned = warn_once(self.warned, "the journal", &error);
            }
        }
        more |= self.journal.read(&mut |entry| facts.extend(of_entry(entry)));
        for fact in facts {
            self.merge.take(fact, now, &self.sessions);
        }
        self.tell_due(sender, false);
        self.keep();
        more
    }

    /// Until there is something to do again.
    fn wait(&self) -> Duration {
        let due = self.merge.next_due().map(|due| due.saturating_duration_since(Instant::now()));
        due.map_or(LOOK_EVERY, |due| due.clamp(Duration::from_millis(20), LOOK_EVERY))
    }

    fn finish(&mut self, sender: &ObservationSender) {
        self.look(sender);
        self.tell_due(sender, true);
        let state = self.state();
        self.store(state);
    }

    fn tell_due(&mut self, sender: &ObservationSender, all: bool) {
        let moment = Moment::now();
        for mut logon in self.merge.due(Instant::now(), all) {
            let at_ns = logon.fact.at_ns.unwrap_or(moment.wall_ns);
            match logon.fact.outcome {
                Outcome::In if at_ns < self.booted_ns => {}
                Outcome::In => self.sessions.opened(open_session(&logon, at_ns)),
                Outcome::Out => {
                    if let Some(open) = self.sessions.closed(&logon.fact, &logon.pids) {
                        logon.length_ns =
                            Some(at_ns.saturating_sub(open.since_ns)).filter(|length| *length >= 0);
                        let fact = &mut logon.fact;
                        fact.terminal = fact.terminal.take().or(open.terminal);
                        fact.session = fact.session.take().or(open.session);
                        fact.target_user = fact.target_user.take().or(open.target_user);
                    }
                }
                Outcome::Refused => {}
            }
            let (at_ns, activity) = event(logon, moment);
            sender.send(at_ns, activity);
        }
    }

    fn state(&self) -> State {
        let tails = self.tails.iter().filter_map(|(path, tail)| Some(((*path).to_owned(), tail.place()?)));
        State { tails: tails.collect(), journal: Some(self.journal.place()), sessions: self.sessions.clone() }
    }

    /// Stores how far things were read once all that was read so far is surely told:
    /// after a crash something may be told twice, but nothing is left out.
    fn keep(&mut self) {
        if self.state_path.is_none() {
            return;
        }
        match &self.snapshot {
            Some((taken, _)) if taken.elapsed() >= HOLD + SPOOLED_AFTER => {
                if let Some((_, state)) = self.snapshot.take() {
                    self.store(State { sessions: self.sessions.clone(), ..state });
                }
            }
            Some(_) => {}
            None => {
                let state = self.state();
                if state != self.stored {
                    self.snapshot = Some((Instant::now(), state));
                }
            }
        }
    }

    fn store(&mut self, state: State) {
        let Some(path) = &self.state_path else { return };
        let written = serde_json::to_vec(&state).map_err(std::io::Error::from);
        match written.and_then(|bytes| state_file::write(path, &bytes)) {
            Ok(()) => self.stored = state,
            Err(error) => self.warned = warn_once(self.warned, "logon.json in the state directory", &error),
        }
    }
}

fn warn_once(warned: bool, what: &str, error: &std::io::Error) -> bool {
    if !warned {
        tracing::warn!(%error, "{what} can't be read or written; logons may be missing or told again");
    }
    true
}

fn tell_lost(sender: &ObservationSender, moment: Moment) {
    sender.lost(ObservedLoss {
        reason: GapReason::AgentDown,
        what: EventType::UserLogon.as_str(),
        count: None,
        from_ns: 0,
        until_ns: moment.boot_ns,
    });
}

/// Those who were in before the agent first looked: their end will have a length.
fn already_in(utmp: &Path, sessions: &mut Sessions) {
    let Some(records) = state_file::read(utmp, 1 << 20) else { return };
    for record in records.chunks_exact(utmp::RECORD) {
        if let Some(utmp::Record::Fact(fact)) = utmp::session(record)
            && fact.outcome == Outcome::In
        {
            sessions.opened(OpenSession {
                user: fact.user.unwrap_or_default(),
                service: fact.service.unwrap_or_else(|| service_of(fact.origin.address.is_some()).to_owned()),
                target_user: None,
                terminal: fact.terminal,
                session: None,
                pids: fact.pid.into_iter().collect(),
                since_ns: fact.at_ns.unwrap_or(0),
            });
        }
    }
}

/// A record alone does not say what let the user in: from afar it is nearly always sshd.
fn service_of(from_afar: bool) -> &'static str {
    if from_afar { "sshd" } else { "login" }
}

fn of_line(bytes: &[u8], cut: bool, moment: Moment, zone: &TimeZone) -> Option<Fact> {
    let text = escape::text(bytes);
    let line = auth_line::parse(&text, moment.wall_ns, zone)?;
    let mut fact = auth_message::fact(line.program, line.message)?;
    (fact.at_ns, fact.pid, fact.provider) = (Some(line.at_ns), line.pid, Provider::AuthLog);
    if cut {
        fact.incomplete.push("message: cut".to_owned());
    }
    Some(fact)
}

fn of_entry(entry: Entry) -> Option<Fact> {
    let mut fact = auth_message::fact(&entry.program, &entry.message)?;
    (fact.at_ns, fact.pid, fact.provider) = (Some(entry.at_ns), entry.pid, Provider::Journal);
    if let Some(why) = entry.incomplete {
        fact.incomplete.push(format!("message: {why}"));
    }
    // Anybody may write to syslog in sshd's name. The journal knows who did; sudo and
    // su are started by users, and run as them for a while.
    let services = ["sshd", "login", "cron"];
    if let Some(uid) = entry.uid.filter(|uid| *uid != 0)
        && fact.service.as_deref().is_none_or(|service| services.contains(&service))
    {
        let by = entry.command_name.as_deref().unwrap_or("?");
        fact.incomplete.push(format!("service: written by {by} of user {uid}, not by the service"));
    }
    Some(fact)
}

fn open_session(logon: &Logon, since_ns: i64) -> OpenSession {
    let fact = &logon.fact;
    OpenSession {
        user: fact.user.clone().or_else(|| fact.target_user.clone()).unwrap_or_default(),
        service: fact.service.clone().unwrap_or_else(|| service_of(fact.origin.address.is_some()).to_owned()),
        target_user: fact.target_user.clone(),
        terminal: fact.terminal.clone(),
        session: fact.session.clone(),
        pids: logon.pids.clone(),
        since_ns,
    }
}

/// The event and when it happened, in nanoseconds since boot.
fn event(logon: Logon, moment: Moment) -> (u64, ObservedActivity) {
    let Logon { fact, mut providers, length_ns, .. } = logon;
    let mut incomplete = fact.incomplete;
    let mut fields = Vec::with_capacity(16);
    let mut text = |field, value: Option<String>| {
        if let Some(mut value) = value {
            if value.len() > MAX_TEXT {
                value.truncate(value.floor_char_boundary(MAX_TEXT));
                incomplete.push(format!("{}: cut", field_name(field)));
            }
            fields.push((field, Value::Text(value)));
        }
    };
    let user = fact.user.or_else(|| fact.target_user.clone()).unwrap_or_default();
    text(Field::UserName, Some(user));
    text(Field::UserTargetName, fact.target_user);
    let service = fact.service.unwrap_or_else(|| service_of(fact.origin.address.is_some()).to_owned());
    text(Field::LogonService, Some(service));
    text(Field::LogonMethod, fact.method);
    text(Field::LogonSession, fact.session);
    text(Field::LogonTerminal, fact.terminal);
    text(Field::LogonCommand, fact.command);
    text(Field::SourceAddress, fact.origin.address.map(|address| address.to_string()));
    text(Field::SourceDomain, fact.origin.host);
    let (event_type, outcome) = match fact.outcome {
        Outcome::In => (EventType::UserLogon, "success"),
        Outcome::Out => (EventType::UserLogoff, "success"),
        Outcome::Refused => (EventType::UserLogonFailed, "failure"),
    };
    let reason = match fact.outcome {
        Outcome::Refused => fact.reason.or_else(|| Some("authentication failure".to_owned())),
        _ => fact.reason,
    };
    text(Field::EventReason, reason);
    text(Field::EventOutcome, Some(outcome.to_owned()));
    providers.sort_unstable();
    let providers: Vec<&str> = providers.iter().map(|provider| provider.as_str()).collect();
    text(Field::EventProvider, Some(providers.join(", ")));
    if let Some(port) = fact.origin.port {
        fields.push((Field::SourcePort, Value::Integer(port.into())));
    }
    if let Some(length) = length_ns {
        fields.push((Field::EventDuration, Value::Integer(length)));
    }
    if fact.count > 1 {
        fields.push((Field::EventCount, Value::Integer(fact.count.into())));
    }
    let since_boot = fact.at_ns.map(|wall_ns| moment.since_boot(wall_ns));
    if let (Some(None), Some(wall_ns)) = (since_boot, fact.at_ns) {
        fields.push((Field::EventStart, Value::Time(Timestamp::from_nanos(wall_ns))));
    }
    if !incomplete.is_empty() {
        fields.push((Field::EventIncomplete, Value::TextList(incomplete)));
    }
    let at_ns = since_boot.flatten().unwrap_or(moment.boot_ns);
    // A PID from before the boot is somebody else's now.
    let actor = fact.pid.filter(|_| since_boot != Some(None)).map(Actor::Pid);
    (at_ns, ObservedActivity { event_type, actor, target: None, fields })
}

fn field_name(field: Field) -> &'static str {
    field.spec().ecs
}
