//! One switch for the response of all hosts, and the breaker that turns it by itself.
//!
//! The switch is a row of the store. Turning it orders `stop_responses` (or `allow_responses`) on each connected host,
//! signed like any order; a host that connects later has it ordered then. So no host that this server can reach goes
//! on acting, and a host that was away does not begin again. What agents do by their rules alone is seen here only by
//! its receipts: the breaker counts the hosts that they come from.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use event_model::{
    ActionKind, Detection, DetectionId, EventHeader, EventRecord, EventType, Field, HostId, ReceiptState,
    ResponseMode, ResponseReceipt, RuleId, RuleReference, Severity, Timestamp, Value,
};
use response::Action;
use serde::{Deserialize, Serialize};
use state_store::{AuditEntry, DetectionInput, Findings, NewResponse, ResponseState, StateError, StateStore};
use uuid::Uuid;

use super::orders_of_runs::via;
use super::{App, AppError, Caller, Links, causes, now};

/// The row of the store.
const SETTING: &str = "fleet_stop";

/// Who turns the switch where the breaker does. No user has a colon in his name.
const BREAKER: &str = "server:breaker";

/// The built-in rule of the breaker's alerts.
const RULE: &str = "rampart.fleet_breaker";

/// An agent that is asked again and again and does not turn its switch is left alone for this switching.
const MOST_ATTEMPTS: u32 = 8;

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
        order(self.state.as_ref(), &stop, host, "")?;
        Ok(())
    }
}

/// What rules did by themselves, over all hosts.
#[derive(Debug, Default)]
pub(crate) struct FleetBreaker {
    /// When each host last did it, by rule; isolations of all rules together under `None`.
    hosts: Mutex<HashMap<Option<RuleId>, HashMap<HostId, Instant>>>,
}

impl FleetBreaker {
    /// Counts what a host's rules did; says why, once there is too much of it.
    fn note(&self, host: HostId, what: &Done<'_>, fleet: usize, at: Instant) -> Option<String> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.values().map(HashMap::len).sum::<usize>() >= MOST_COUNTED {
            hosts.clear();
        }
        let mut count = |key: Option<RuleId>| {
            let times = hosts.entry(key).or_default();
            times.insert(host, at);
            times.retain(|_, time| at.duration_since(*time) < HOUR);
            times.len()
        };
        if what.action == ActionKind::IsolateHost {
            let isolated = count(None);
            let most = (fleet / ISOLATED_ONE_IN).max(LEAST_ISOLATED);
            if isolated > most {
                return Some(format!(
                    "rules isolated {isolated} hosts by themselves within an hour; {most} of {fleet} are the limit"
                ));
            }
        }
        let rule = what.rule?;
        let acted = count(Some(rule.clone()));
        (acted > MOST_HOSTS_OF_RULE).then(|| {
            format!(
                "rule `{rule}` acted by itself on {acted} hosts within an hour; {MOST_HOSTS_OF_RULE} are the limit"
            )
        })
    }

    fn forget(&self) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

struct Done<'a> {
    action: ActionKind,
    rule: Option<&'a RuleId>,
}

/// Looks at what a batch says that rules did, and stops the response of all hosts where it is too much.
pub(super) fn watch(
    state: &dyn StateStore,
    links: &Links,
    breaker: &FleetBreaker,
    findings: &Findings<'_>,
    host_name: &str,
) {
    let changes_something = |receipt: &&&ResponseReceipt| {
        let is_done = matches!(receipt.state, ReceiptState::Applied | ReceiptState::Verified);
        is_done
            && !matches!(receipt.action, ActionKind::Alert | ActionKind::Log | ActionKind::CollectEvidence)
    };
    let rule_of = |receipt: &ResponseReceipt| {
        let found = findings.detections.iter().find(|input| input.detection.id == receipt.detection_id);
        found.map(|input| &input.detection.rule.id)
    };
    let done: Vec<Done<'_>> = findings
        .receipts
        .iter()
        .filter(changes_something)
        .map(|receipt| Done { action: receipt.action, rule: rule_of(receipt) })
        .collect();
    if done.is_empty() {
        return;
    }
    let tripped = fleet_size(state).and_then(|fleet| {
        let reasons = done.iter().filter_map(|one| breaker.note(findings.host, one, fleet, Instant::now()));
        match reasons.last() {
            Some(reason) if !current(state)?.is_some_and(|stop| stop.is_stopped) => {
                trip(state, links, findings.host, host_name, &reason).map(|()| true)
            }
            _ => Ok(false),
        }
    });
    match tripped {
        Ok(true) => breaker.forget(),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(
                error = causes(&error),
                "the response of all hosts could not be stopped; it is tried again with what rules do next"
            );
        }
    }
}

fn fleet_size(state: &dyn StateStore) -> Result<usize, StateError> {
    Ok(state.hosts()?.iter().filter(|host| !host.is_revoked()).count())
}

fn trip(
    state: &dyn StateStore,
    links: &Links,
    host: HostId,
    host_name: &str,
    reason: &str,
) -> Result<(), StateError> {
    tracing::error!(reason, "the response of all hosts is stopped");
    let at = now();
    let stop = FleetStop {
        id: Uuid::now_v7(),
        is_stopped: true,
        by: BREAKER.to_owned(),
        reason: reason.to_owned(),
        at,
    };
    turn(state, links, &stop, "")?;
    let entry = AuditEntry {
        who: BREAKER.to_owned(),
        what: "fleet.stop_responses".to_owned(),
        subject: stop.id.to_string(),
        detail: reason.to_owned(),
        address: String::new(),
    };
    state.append_audit(&entry, at)?;
    let detection = alert(host, at, reason);
    let input = DetectionInput { detection: &detection, host_name, agent_version: None };
    state.record_findings(&Findings { host, detections: vec![input], receipts: Vec::new() }, at)?;
    Ok(())
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
    for (host, _) in links.last_heard() {
        // One that can't be asked keeps nobody from the others.
        match order(state, stop, host, via) {
            Ok(true) => links.wake(host),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%host, error = causes(&error), "a host's switch could not be ordered")
            }
        }
    }
    Ok(())
}

/// Orders on a host what the switch asks for; false where that is done or under way, or there is nothing to allow.
fn order(state: &dyn StateStore, stop: &FleetStop, host: HostId, via: &str) -> Result<bool, StateError> {
    let ordered = |action: &Action| attempts(state, stop, host, action);
    let (wanted, other) = if stop.is_stopped {
        (Action::StopResponses {}, None)
    } else {
        (Action::AllowResponses {}, Some(Action::StopResponses {}))
    };
    if let Some(stopped) = other {
        let (_, is_under_way) = ordered(&stopped)?;
        // A host that this stop never reached may be stopped by a person for a reason of its own.
        if !is_under_way {
            return Ok(false);
        }
    }
    let (Some(id), false) = ordered(&wanted)? else { return Ok(false) };
    let text = serde_json::to_string(&wanted).map_err(|error| StateError::Invalid(error.to_string()))?;
    let new = NewResponse {
        id,
        host,
        created_by: stop.by.clone(),
        via: via.to_owned(),
        action: wanted.word().to_owned(),
        order: text,
        dry_run: false,
        comment: stop.reason.clone(),
        life: LIFE,
        undo_of: None,
        approvals_needed: 0,
        mass_above: None,
        detection: None,
        release_code: None,
    };
    state.create_response(&new, now())
}

/// The id under which to ask next, if there is one left; and whether it is done or under way.
fn attempts(
    state: &dyn StateStore,
    stop: &FleetStop,
    host: HostId,
    action: &Action,
) -> Result<(Option<Uuid>, bool), StateError> {
    for attempt in 0..MOST_ATTEMPTS {
        let id = Uuid::new_v5(&stop.id, format!("{host}/{}/{attempt}", action.word()).as_bytes());
        match state.response(id)?.map(|known| known.state) {
            None => return Ok((Some(id), false)),
            Some(
                ResponseState::Queued
                | ResponseState::Sent
                | ResponseState::Applied
                | ResponseState::Verified,
            ) => return Ok((None, true)),
            Some(_) => {}
        }
    }
    Ok((None, false))
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
    use super::*;

    fn host(number: u128) -> HostId {
        HostId::from_uuid(Uuid::from_u128(number))
    }

    #[test]
    fn one_wrong_rule_is_noticed_by_the_number_of_its_hosts() {
        let (breaker, at) = (FleetBreaker::default(), Instant::now());
        let rule = RuleId::new("wrong");
        let kill = Done { action: ActionKind::KillTree, rule: Some(&rule) };
        for number in 0..MOST_HOSTS_OF_RULE as u128 {
            for _ in 0..50 {
                assert_eq!(breaker.note(host(number), &kill, 1_000, at), None, "one host counts once");
            }
        }
        assert_eq!(breaker.note(host(99), &kill, 1_000, at + HOUR), None, "an hour later");
        for number in 0..MOST_HOSTS_OF_RULE as u128 {
            breaker.note(host(number), &kill, 1_000, at + HOUR);
        }
        let reason = breaker.note(host(98), &kill, 1_000, at + HOUR).expect("too many");
        assert!(reason.contains("rule `wrong`"), "{reason}");
    }

    #[test]
    fn isolations_of_all_rules_count_together() {
        for (fleet, most) in [(5, 3), (1_000, 10)] {
            let (breaker, at) = (FleetBreaker::default(), Instant::now());
            for number in 0..most {
                let rule = RuleId::new(number.to_string());
                let isolate = Done { action: ActionKind::IsolateHost, rule: Some(&rule) };
                assert_eq!(breaker.note(host(number), &isolate, fleet, at), None, "{number} of {fleet}");
            }
            let isolate = Done { action: ActionKind::IsolateHost, rule: None };
            assert!(breaker.note(host(most), &isolate, fleet, at).is_some(), "{fleet}");
            breaker.forget();
            assert_eq!(breaker.note(host(most), &isolate, fleet, at), None);
        }
    }
}
