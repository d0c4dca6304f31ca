//! Silent hosts: those that should report and do not.
//!
//! A host that has connected is expected to be heard of, at least by the heartbeat of
//! every ten seconds, until its agent says that it was asked to stop. Where it is not,
//! an alert tells so, and closes when the host is heard of again. All of it is in the
//! state store; a server that was away itself gives the hosts time to come back first.

use std::sync::Arc;
use std::time::Duration;

use event_model::{
    BootId, Detection, DetectionId, EventHeader, EventRecord, EventType, Field, HostId, ResponseMode, RuleId,
    RuleReference, Severity, Timestamp, Value,
};
use state_store::{
    AlertStatus, AlertUpdate, CloseReason, DetectionInput, Findings, Host, HostContact, StateError,
    StateStore,
};
use uuid::Uuid;

use super::{App, AppError, LiveMessage, before, now};

/// The built-in rule of these alerts.
const RULE: &str = "rampart.silent_host";

/// Who closes them.
const BY: &str = "server";

/// How hosts are watched for silence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    /// A host that nothing was heard of for so long is silent.
    pub(crate) silent_after: Duration,
    /// Since when this server can have heard anything.
    pub(crate) since: Timestamp,
}

impl Watch {
    /// How often to look: often enough that the last look adds little.
    pub(crate) fn look_every(&self) -> Duration {
        (self.silent_after / 8).clamp(Duration::from_millis(50), Duration::from_secs(5))
    }
}

impl App {
    /// Raises an alert for each host that fell silent.
    pub(crate) async fn watch_for_silence(self: &Arc<Self>) -> Result<(), AppError> {
        self.work(|app| {
            for host in app.state.hosts()? {
                match host.contact {
                    _ if host.is_revoked() => {}
                    HostContact::Reporting => app.check_silence(&host)?,
                    // Its link stayed open all the time.
                    HostContact::Silent if app.links.status(host.id).1 > host.contact_since => {
                        app.host_reports(host.id)?;
                        app.tell_host(host.id);
                    }
                    HostContact::Silent | HostContact::Stopped | HostContact::Never => {}
                }
            }
            Ok(())
        })
        .await
    }

    fn check_silence(&self, host: &Host) -> Result<(), AppError> {
        let linked = self.links.status(host.id).1;
        let heard = linked.max(host.last_seen_at).max(host.contact_since).unwrap_or(host.enrolled_at);
        let time = now();
        if heard.max(self.watch.since) >= before(time, self.watch.silent_after) {
            return Ok(());
        }
        let reason = if linked.is_some() {
            "the link is open, but nothing comes over it"
        } else {
            "the link ended and the agent did not say that it was asked to stop"
        };
        tracing::warn!(host = %host.id, name = host.name, last_heard = %heard, reason, "host is silent");
        let detection = silence(host, heard, time, reason);
        let input = DetectionInput { detection: &detection, host_name: &host.name, agent_version: None };
        let findings = Findings { host: host.id, detections: vec![input], receipts: Vec::new() };
        let outcome = self.state.record_findings(&findings, time)?;
        self.posted.ring();
        let alert = outcome.detections.first().map(|change| change.alert);
        self.state.set_contact(host.id, HostContact::Silent, heard, alert)?;
        for id in outcome.changed {
            if let Some(detail) = self.state.alert(id)? {
                self.live.tell(LiveMessage::Alert(detail.alert.into()));
            }
        }
        self.tell_host(host.id);
        Ok(())
    }

    /// The host has said hello.
    pub(crate) fn host_reports(&self, id: HostId) -> Result<(), AppError> {
        let closed = note_contact(self.state.as_ref(), id, HostContact::Reporting)?;
        if let Some(alert) = closed {
            self.live.tell(LiveMessage::Alert(alert.into()));
        }
        Ok(())
    }
}

/// Notes whether a host reports. The alert of its silence, if there was one, is closed and given.
pub(crate) fn note_contact(
    state: &dyn StateStore,
    id: HostId,
    contact: HostContact,
) -> Result<Option<state_store::Alert>, StateError> {
    let time = now();
    let Some(before) = state.host(id)? else { return Ok(None) };
    if !state.set_contact(id, contact, time, None)? {
        return Ok(None);
    }
    let Some(alert) = before.silence_alert else { return Ok(None) };
    let open = state.alert(alert)?.is_some_and(|detail| detail.alert.status != AlertStatus::Closed);
    if !open {
        return Ok(None);
    }
    let update = AlertUpdate {
        status: Some(AlertStatus::Closed),
        close_reason: Some(CloseReason::Benign),
        assignee: None,
        note: Some("The host is heard of again.".to_owned()),
    };
    state.update_alert(alert, &update, BY, time).map(Some)
}

/// What the agent says of itself in these events: that it was asked to stop, or began again.
pub(crate) fn contact_told(events: &[EventRecord]) -> Option<HostContact> {
    events.iter().rev().find_map(|event| match event.event_type {
        EventType::AgentStart => Some(HostContact::Reporting),
        // One that failed, or begins anew for its memory's sake, is expected back.
        EventType::AgentStop if event.text(Field::AgentStopReason) == Some("signal") => {
            Some(HostContact::Stopped)
        }
        _ => None,
    })
}

fn silence(host: &Host, heard: Timestamp, time: Timestamp, reason: &str) -> Detection {
    let header = EventHeader {
        host_id: host.id,
        boot_id: host.boot_id.unwrap_or(BootId::from_uuid(Uuid::nil())),
        sequence: 0,
        observed_at: time,
        monotonic_ns: 0,
    };
    let fields =
        vec![(Field::EventReason, Value::Text(reason.to_owned())), (Field::EventUntil, Value::Time(heard))];
    let event = EventRecord::from_fields(header, EventType::HostSilent, fields);
    let rule = RuleReference {
        id: RuleId::new(RULE),
        name: "Silent host".to_owned(),
        description:
            "A host that should report is not heard of: its agent was killed, cut off or stopped in a way \
                      that it could not tell, or the host is down."
                .to_owned(),
        severity: Severity::High,
        attack: vec!["T1562.001".to_owned()],
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
