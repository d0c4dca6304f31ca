//! One switch for the response of all hosts, and the breaker that turns it by itself.
//!
//! The switch is a row of the store. Turning it orders `stop_responses` (or `allow_responses`) on each connected host,
//! signed like any order; a host that connects later has it ordered then. So no host that this server can reach goes
//! on acting, and a host that was away does not begin again. What agents do by their rules alone is seen here only by
//! its receipts: the breaker counts the hosts that they come from.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use event_model::{
    ActionKind, Detection, DetectionId, EventHeader, EventRecord, EventType, Field, HostId, ReceiptState,
    ResponseMode, ResponseReceipt, RuleId, RuleReference, Severity, Timestamp, Value,
};
use response::Action;
use serde::{Deserialize, Serialize};
use state_store::{AuditEntry, DetectionInput, Findings, NewResponse, ResponseState, StateError, StateStore};
use uuid::Uuid;

use super::orders_of_runs::via;
use super::{App, AppError, Caller, Links, before, causes, now};

/// The row of the store.
const SETTING: &str = "fleet_stop";

/// Who turns the switch where the breaker does. No user has a colon in his name.
const BREAKER: &str = "server:breaker";

/// The built-in rule of the breaker's alerts.
const RULE: &str = "rampart.fleet_breaker";

/// The built-in rule of the operator's block list: one for all that stands in it, and meant for all hosts.
const BLOCK_LIST: &str = "rampart.block_list";

/// An agent that says again and again that it does not turn its switch is left alone for this switching.
const MOST_REFUSALS: u32 = 8;

/// Times that a host is asked in all, with those that it was away for until they expired: more than a year of days.
const MOST_ATTEMPTS: u32 = 500;

/// Orders of one transaction; what agents send waits for it.
const ORDERS_AT_ONCE: usize = 100;

/// A host that is connected takes the order at once; this is for one whose link breaks at that moment.
const LIFE: Duration = Duration::from_secs(24 * 3_600);

/// Hosts on which one rule may act by itself within an hour (research/security.md 4.2).
const MOST_HOSTS_OF_RULE: usize = 20;

/// Hosts that rules may isolate by themselves within an hour: one in a hundred, and three in any case.
const LEAST_ISOLATED: usize = 3;
const ISOLATED_ONE_IN: usize = 100;

const HOUR: Duration = Duration::from_secs(3_600);

/// Rule and host pairs that are remembered. Past it all is forgotten: agents choose the names of rules.
const MOST_COUNTED: usize = 100_000;

/// Characters of a reason.
const MOST_REASON: usize = 1_000;

/// The switch as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FleetStop {
    /// Of this stop; allowing again has the id of the stop that it ends.
    id: Uuid,
    pub(crate) is_stopped: bool,
    pub(crate) by: String,
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
}

impl App {
    /// The switch; `None` where nobody ever turned it.
    pub(crate) fn fleet_stop(&self) -> Result<Option<FleetStop>, AppError> {
        Ok(current(self.state.as_ref())?)
    }

    /// Stops the response of all hosts, or allows it again.
    pub(crate) fn turn_fleet_stop(
        &self,
        caller: &Caller,
        is_stopped: bool,
        reason: &str,
    ) -> Result<FleetStop, AppError> {
        let reason = reason.trim();
        if reason.is_empty() || reason.chars().count() > MOST_REASON {
            return Err(AppError::Invalid(format!(
                "`reason` says why, in at most {MOST_REASON} characters: it stands in the audit log and in each order"
            )));
        }
        let before = current(self.state.as_ref())?;
        if before.as_ref().is_some_and(|before| before.is_stopped) == is_stopped {
            let word = if is_stopped { "stopped" } else { "allowed" };
            return Err(AppError::Conflict(format!("the response of all hosts is {word} already")));
        }
        let id = before.filter(|_| !is_stopped).map_or_else(Uuid::now_v7, |before| before.id);
        let by = caller.name.clone();
        let stop = FleetStop { id, is_stopped, by, reason: reason.to_owned(), at: now() };
        // What tripped it before is answered; it counts anew.
        self.breaker.forget();
        turn(self.state.as_ref(), &self.links, &stop, &via(caller))?;
        let what = if is_stopped { "fleet.stop_responses" } else { "fleet.allow_responses" };
        self.audit(&caller.actor(), what, &id.to_string(), reason);
        Ok(stop)
    }

    /// Has a host that connects brought to where the switch stands.
    pub(crate) fn bring_fleet_stop(&self, host: HostId) -> Result<(), AppError> {
        let Some(stop) = current(self.state.as_ref())? else { return Ok(()) };
        let at = now();
        if let Some(order) = wanted(self.state.as_ref(), &stop, host, "", at)? {
            self.state.create_response(&order, at)?;
        }
        Ok(())
    }
}

/// What rules did by themselves, over all hosts.
#[derive(Debug, Default)]
pub(crate) struct FleetBreaker {
    /// When each host last did it, by rule; isolations of all rules together under `None`.
    hosts: Mutex<HashMap<Option<RuleId>, HashMap<HostId, Timestamp>>>,
}

impl FleetBreaker {
    /// Counts what a host's rules did; says why, once there is too much of it. `fleet` gives how many hosts there are:
    /// that is read from the store, and only isolations are held against it.
    fn note<E>(
        &self,
        done: &Done,
        now: Timestamp,
        fleet: impl FnOnce() -> Result<usize, E>,
    ) -> Result<Option<String>, E> {
        let since = before(now, HOUR);
        // An agent's clock may be ahead, and must not count for longer than an hour.
        let at = done.at.min(now);
        if at <= since {
            return Ok(None);
        }
        let count = |key: Option<RuleId>| {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            if hosts.values().map(HashMap::len).sum::<usize>() >= MOST_COUNTED {
                hosts.clear();
            }
            let times = hosts.entry(key).or_default();
            times.entry(done.host).and_modify(|known| *known = at.max(*known)).or_insert(at);
            times.retain(|_, time| *time > since);
            times.len()
        };
        if done.action == ActionKind::IsolateHost {
            let (isolated, fleet) = (count(None), fleet()?);
            let most = (fleet / ISOLATED_ONE_IN).max(LEAST_ISOLATED);
            if isolated > most {
                return Ok(Some(format!(
                    "rules isolated {isolated} hosts by themselves within an hour; {most} of {fleet} are the limit"
                )));
            }
        }
        let Some(rule) = done.rule.clone().filter(|rule| rule.as_str() != BLOCK_LIST) else {
            return Ok(None);
        };
        let acted = count(Some(rule.clone()));
        Ok((acted > MOST_HOSTS_OF_RULE).then(|| {
            format!(
                "rule `{rule}` acted by itself on {acted} hosts within an hour; {MOST_HOSTS_OF_RULE} are the limit"
            )
        }))
    }

    fn forget(&self) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What a rule did by itself, as a receipt says.
#[derive(Debug)]
pub(super) struct Done {
    host: HostId,
    detection: DetectionId,
    action: ActionKind,
    /// The time of its last step, by the host's clock: what comes after an outage is no storm.
    at: Timestamp,
    /// As far as the batch says.
    rule: Option<RuleId>,
}

/// The receipts of a batch that say that something was changed.
pub(super) fn done_in(findings: &Findings<'_>) -> Vec<Done> {
    let changes_something = |receipt: &&&ResponseReceipt| {
        let is_done = matches!(receipt.state, ReceiptState::Applied | ReceiptState::Verified);
        is_done
            && !matches!(receipt.action, ActionKind::Alert | ActionKind::Log | ActionKind::CollectEvidence)
    };
    let rule_of = |receipt: &ResponseReceipt| {
        let found = findings.detections.iter().find(|input| input.detection.id == receipt.detection_id);
        found.map(|input| input.detection.rule.id.clone())
    };
    let done = |receipt: &&ResponseReceipt| Done {
        host: findings.host,
        detection: receipt.detection_id,
        action: receipt.action,
        at: receipt.steps.last().map_or_else(now, |step| step.at),
        rule: rule_of(receipt),
    };
    findings.receipts.iter().filter(changes_something).map(done).collect()
}

/// What the thread that watches is handed: a host's name, and what its rules did.
pub(super) type Watched = (Arc<str>, Vec<Done>);

/// Watches what rules do until nobody tells any more. On a thread of its own: stopping a large fleet takes a while, and
/// what agents send is stored meanwhile.
pub(super) fn watch(
    state: &dyn StateStore,
    links: &Links,
    breaker: &FleetBreaker,
    told: &mpsc::Receiver<Watched>,
) {
    // Stops that took effect and stand in no alert yet: once they are in force nothing else would tell of them.
    let mut untold: Vec<Tripped> = Vec::new();
    for (host_name, done) in told {
        for one in done {
            match look_at(state, links, breaker, &host_name, one) {
                Ok(tripped) => untold.extend(tripped),
                Err(error) => tracing::error!(
                    error = causes(&error),
                    "the response of all hosts could not be stopped; it is tried again with what rules do next"
                ),
            }
        }
        untold.retain(|tripped| match tripped.tell(state) {
            Ok(()) => false,
            Err(error) => {
                tracing::error!(
                    error = causes(&error),
                    "that the response of all hosts is stopped could not be recorded; it is tried again with what \
                     rules do next"
                );
                true
            }
        });
    }
}

/// Looks at what a rule did, and stops the response of all hosts where that is too much.
fn look_at(
    state: &dyn StateStore,
    links: &Links,
    breaker: &FleetBreaker,
    host_name: &str,
    mut done: Done,
) -> Result<Option<Tripped>, StateError> {
    // A receipt mostly comes in a later batch than its detection.
    if done.rule.is_none() {
        done.rule = state.rule_of_detection(done.host, done.detection)?;
    }
    let Some(reason) = breaker.note(&done, now(), || fleet_size(state))? else { return Ok(None) };
    if current(state)?.is_some_and(|stop| stop.is_stopped) {
        return Ok(None);
    }
    let tripped = trip(state, links, done.host, host_name, reason)?;
    breaker.forget();
    Ok(Some(tripped))
}

fn fleet_size(state: &dyn StateStore) -> Result<usize, StateError> {
    Ok(state.hosts()?.iter().filter(|host| !host.is_revoked()).count())
}

/// The breaker stopped the response of all hosts.
struct Tripped {
    stop: FleetStop,
    /// Whose rule's act was the one too many.
    host: HostId,
    host_name: String,
}

fn trip(
    state: &dyn StateStore,
    links: &Links,
    host: HostId,
    host_name: &str,
    reason: String,
) -> Result<Tripped, StateError> {
    tracing::error!(reason, "the response of all hosts is stopped");
    let stop = FleetStop { id: Uuid::now_v7(), is_stopped: true, by: BREAKER.to_owned(), reason, at: now() };
    turn(state, links, &stop, "")?;
    Ok(Tripped { stop, host, host_name: host_name.to_owned() })
}

impl Tripped {
    /// In an alert and in the audit log; the alert first, which has one id however often this is tried.
    fn tell(&self, state: &dyn StateStore) -> Result<(), StateError> {
        let Self { stop, host, host_name } = self;
        let detection = alert(*host, stop.at, &stop.reason);
        let input = DetectionInput { detection: &detection, host_name, agent_version: None };
        state.record_findings(
            &Findings { host: *host, detections: vec![input], receipts: Vec::new() },
            stop.at,
        )?;
        let entry = AuditEntry {
            who: BREAKER.to_owned(),
            what: "fleet.stop_responses".to_owned(),
            subject: stop.id.to_string(),
            detail: stop.reason.clone(),
            address: String::new(),
        };
        state.append_audit(&entry, stop.at)
    }
}

fn current(state: &dyn StateStore) -> Result<Option<FleetStop>, StateError> {
    let Some(text) = state.setting(SETTING)? else { return Ok(None) };
    let read = serde_json::from_str(&text);
    read.map(Some)
        .map_err(|error| StateError::Invalid(format!("the setting `{SETTING}` can't be read: {error}")))
}

/// Notes where the switch stands, and has each connected host brought there. Others are when they connect.
fn turn(state: &dyn StateStore, links: &Links, stop: &FleetStop, via: &str) -> Result<(), StateError> {
    let text = serde_json::to_string(stop).map_err(|error| StateError::Invalid(error.to_string()))?;
    state.set_setting(SETTING, &text)?;
    let at = now();
    let mut orders = Vec::new();
    for (host, _) in links.last_heard() {
        // One that can't be asked keeps nobody from the others.
        match wanted(state, stop, host, via, at) {
            Ok(order) => orders.extend(order),
            Err(error) => not_ordered(host, &error),
        }
    }
    for some in orders.chunks(ORDERS_AT_ONCE) {
        if state.create_responses(some, at).is_err() {
            for order in some {
                if let Err(error) = state.create_response(order, at) {
                    not_ordered(order.host, &error);
                }
            }
        }
        some.iter().for_each(|order| links.wake(order.host));
    }
    Ok(())
}

fn not_ordered(host: HostId, error: &StateError) {
    tracing::error!(%host, error = causes(error), "a host's switch could not be ordered");
}

/// What the switch asks for on a host; `None` where that is done or under way, or there is nothing to allow.
fn wanted(
    state: &dyn StateStore,
    stop: &FleetStop,
    host: HostId,
    via: &str,
    at: Timestamp,
) -> Result<Option<NewResponse>, StateError> {
    let action = if stop.is_stopped {
        Action::StopResponses {}
    } else {
        // A host that this stop never reached may be stopped by a person for a reason of its own.
        if !asked(state, stop, host, &Action::StopResponses {}, at)?.may_be_done {
            return Ok(None);
        }
        Action::AllowResponses {}
    };
    let Some(id) = asked(state, stop, host, &action, at)?.next else { return Ok(None) };
    let text = serde_json::to_string(&action).map_err(|error| StateError::Invalid(error.to_string()))?;
    Ok(Some(NewResponse {
        id,
        host,
        created_by: stop.by.clone(),
        via: via.to_owned(),
        action: action.word().to_owned(),
        order: text,
        dry_run: false,
        comment: stop.reason.clone(),
        life: LIFE,
        undo_of: None,
        approvals_needed: 0,
        mass_above: None,
        detection: None,
        release_code: None,
    }))
}

/// How far a host was asked to turn its switch.
struct Asked {
    /// The id under which to ask next; `None` where it is done or under way, or was asked for too often.
    next: Option<Uuid>,
    /// It is done, or under way, or was sent and never answered.
    may_be_done: bool,
}

fn asked(
    state: &dyn StateStore,
    stop: &FleetStop,
    host: HostId,
    action: &Action,
    at: Timestamp,
) -> Result<Asked, StateError> {
    let (mut said_no, mut may_be_done) = (0, false);
    for attempt in 0..MOST_ATTEMPTS {
        let id = Uuid::new_v5(&stop.id, format!("{host}/{}/{attempt}", action.word()).as_bytes());
        let Some(known) = state.response(id)? else { return Ok(Asked { next: Some(id), may_be_done }) };
        match known.state {
            ResponseState::Applied | ResponseState::Verified => {
                return Ok(Asked { next: None, may_be_done: true });
            }
            ResponseState::Queued | ResponseState::Sent if known.expires_at > at => {
                return Ok(Asked { next: None, may_be_done: true });
            }
            // It expired without an answer: nobody knows, so it is asked again.
            ResponseState::Sent => may_be_done = true,
            ResponseState::Queued | ResponseState::Expired => {}
            _ => said_no += 1,
        }
        if said_no >= MOST_REFUSALS {
            break;
        }
    }
    Ok(Asked { next: None, may_be_done })
}

fn alert(host: HostId, at: Timestamp, reason: &str) -> Detection {
    let header = EventHeader {
        host_id: host,
        boot_id: event_model::BootId::from_uuid(Uuid::nil()),
        sequence: 0,
        observed_at: at,
        monotonic_ns: u64::try_from(at.as_nanos()).unwrap_or(0),
    };
    let fields = vec![(Field::EventReason, Value::Text(reason.to_owned()))];
    let event = EventRecord::from_fields(header, EventType::AgentHealth, fields);
    let rule = RuleReference {
        id: RuleId::new(RULE),
        name: "Response of all hosts stopped".to_owned(),
        description: "Rules acted by themselves on more hosts than they may within an hour, so no host acts any more: \
                      a rule matches too much, or an attack is everywhere. Look at the rule, then allow response again."
            .to_owned(),
        severity: Severity::Critical,
        attack: Vec::new(),
        mode: ResponseMode::Detect,
    };
    Detection {
        id: DetectionId::of_match(event.header.event_id(), &rule.id),
        rule,
        event,
        ancestry: Vec::new(),
        matched: vec![reason.to_owned()],
        actions: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use state_store::{ResponseStore as _, SqliteStateStore};

    use super::super::after;
    use super::*;

    fn host(number: u128) -> HostId {
        HostId::from_uuid(Uuid::from_u128(number))
    }

    fn done(number: u128, action: ActionKind, rule: Option<&str>, at: Timestamp) -> Done {
        let detection = DetectionId::of_match(
            EventHeader {
                host_id: host(number),
                boot_id: event_model::BootId::from_uuid(Uuid::nil()),
                sequence: 1,
                observed_at: at,
                monotonic_ns: 1,
            }
            .event_id(),
            &RuleId::new("any"),
        );
        Done { host: host(number), detection, action, at, rule: rule.map(RuleId::new) }
    }

    fn note(breaker: &FleetBreaker, done: &Done, fleet: usize, now: Timestamp) -> Option<String> {
        breaker.note(done, now, || Ok::<_, StateError>(fleet)).expect("a count")
    }

    #[test]
    fn one_wrong_rule_is_noticed_by_the_number_of_its_hosts() {
        let (breaker, at) = (FleetBreaker::default(), now());
        let kill = |number, at| done(number, ActionKind::KillTree, Some("wrong"), at);
        for number in 0..MOST_HOSTS_OF_RULE as u128 {
            for _ in 0..50 {
                assert_eq!(note(&breaker, &kill(number, at), 1_000, at), None, "one host counts once");
            }
        }
        let later = after(at, HOUR);
        assert_eq!(note(&breaker, &kill(99, later), 1_000, later), None, "an hour later");
        for number in 0..MOST_HOSTS_OF_RULE as u128 {
            note(&breaker, &kill(number, later), 1_000, later);
        }
        let reason = note(&breaker, &kill(98, later), 1_000, later).expect("too many");
        assert!(reason.contains("rule `wrong`"), "{reason}");
    }

    #[test]
    fn what_comes_after_an_outage_and_what_the_block_list_does_are_no_storm() {
        let (breaker, at) = (FleetBreaker::default(), now());
        for number in 0..100 {
            let old = done(number, ActionKind::IsolateHost, Some("right"), before(at, HOUR));
            assert_eq!(note(&breaker, &old, 1_000, at), None, "it was done over an hour ago");
            let blocked = done(number, ActionKind::TerminateProcess, Some(BLOCK_LIST), at);
            assert_eq!(note(&breaker, &blocked, 1_000, at), None, "all hosts have the list");
        }
        // A clock that is ahead counts as now, not for ever.
        for number in 0..MOST_HOSTS_OF_RULE as u128 {
            let ahead = done(number, ActionKind::KillTree, Some("r"), after(at, HOUR));
            assert_eq!(note(&breaker, &ahead, 1_000, at), None);
        }
        let later = after(at, HOUR);
        assert_eq!(note(&breaker, &done(99, ActionKind::KillTree, Some("r"), later), 1_000, later), None);
    }

    #[test]
    fn isolations_of_all_rules_count_together() {
        for (fleet, most) in [(5, 3), (1_000, 10)] {
            let (breaker, at) = (FleetBreaker::default(), now());
            for number in 0..most {
                let isolate = done(number, ActionKind::IsolateHost, Some(&number.to_string()), at);
                assert_eq!(note(&breaker, &isolate, fleet, at), None, "{number} of {fleet}");
            }
            let isolate = done(most, ActionKind::IsolateHost, None, at);
            assert!(note(&breaker, &isolate, fleet, at).is_some(), "{fleet}");
            breaker.forget();
            assert_eq!(note(&breaker, &isolate, fleet, at), None);
        }
    }

    #[test]
    fn who_did_not_answer_before_a_stop_expired_is_asked_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = SqliteStateStore::open(&folder.path().join("state.db")).expect("a store");
        let at = now();
        let stop = |is_stopped| FleetStop {
            id: Uuid::from_u128(1),
            is_stopped,
            by: "ada".to_owned(),
            reason: "drill".to_owned(),
            at,
        };
        let ask = |is_stopped, at| {
            let order = wanted(&state, &stop(is_stopped), host(1), "", at).expect("a look");
            order.inspect(|order| assert!(state.create_response(order, at).expect("ordered")))
        };
        assert!(ask(false, at).is_none(), "this stop never reached it");
        let first = ask(true, at).expect("an order");
        assert!(ask(true, at).is_none(), "it is under way");
        assert!(state.mark_response_sent(first.id, at).expect("sent"));
        let later = after(at, LIFE);
        let second = ask(true, later).expect("nobody answered");
        assert_ne!(second.id, first.id);
        let much_later = after(later, LIFE);
        assert!(ask(false, much_later).is_some(), "the first may have been done");
        // What was never sent reached nobody.
        let unsent = FleetStop { id: Uuid::from_u128(2), ..stop(true) };
        let order = wanted(&state, &unsent, host(1), "", at).expect("a look").expect("an order");
        assert!(state.create_response(&order, at).expect("ordered"));
        let over = FleetStop { is_stopped: false, ..unsent };
        assert!(wanted(&state, &over, host(1), "", later).expect("a look").is_none());
    }
}
