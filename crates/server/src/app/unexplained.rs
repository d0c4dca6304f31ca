//! Numbers that are missing from a host's records and that no gap record speaks of.
//!
//! For a moment that is usual: the gap comes with the batch after the hole. Where it does
//! not come, something was lost unseen, or was taken out, and an alert tells so. It closes
//! when a gap record speaks of the numbers after all.
//!
//! A host that was cut off for long sends first what it had spooled, and tells at the end
//! what had no room there. So a hole is judged only once records come that are younger than
//! the look that found it; but a host whose clock is slow is not waited for for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_model::{
    BootId, Detection, DetectionId, EventHeader, EventRecord, EventType, Field, HostId, ResponseMode, RuleId,
    RuleReference, Severity, Timestamp, Value,
};
use event_store::LedgerEntry;
use state_store::{
    AlertId, AlertQuery, AlertStatus, AlertUpdate, CloseReason, DetectionInput, Findings, FindingsOutcome,
};

use super::{App, AppError, LiveMessage, now};

/// The built-in rule of these alerts.
const RULE: &str = "rampart.unexplained_loss";

/// Who closes them.
const BY: &str = "server";

/// How many times the usual patience a host may take to send what is older than the hole.
const CATCHING_UP: u32 = 15;

/// Alerts looked through at once for those that can be closed.
const ALERTS_AT_ONCE: usize = 500;

/// Holes that are watched, by host and boot: one for each host at most.
pub(super) type Holes = HashMap<(HostId, BootId), Hole>;

/// A hole in the numbers of a boot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hole {
    /// Since when it is there, or was told of.
    since: Instant,
    /// The same by the clock, to be held against the times of records.
    seen_at: Timestamp,
    /// How many numbers were told of.
    told: u64,
}

impl Hole {
    fn seen_now(told: u64) -> Self {
        Self { since: Instant::now(), seen_at: now(), told }
    }

    fn is_to_be_told(&self, entry: &LedgerEntry, patience: Duration) -> bool {
        let younger_came = entry.last_event_at.is_some_and(|latest| latest > self.seen_at);
        let patience = if younger_came { patience } else { patience * CATCHING_UP };
        entry.unexplained() > self.told && self.since.elapsed() >= patience
    }
}

impl App {
    /// Raises an alert for each host whose account has a hole that stays.
    pub(super) async fn watch_the_accounts(self: &Arc<Self>, holes: &mut Holes) -> Result<(), AppError> {
        let mut seen = std::mem::take(holes);
        *holes = self
            .work(move |app| {
                app.look_at_the_accounts(&mut seen)?;
                Ok(seen)
            })
            .await?;
        Ok(())
    }

    fn look_at_the_accounts(&self, holes: &mut Holes) -> Result<(), AppError> {
        let entries = self.events.unexplained()?;
        holes.retain(|place, _| entries.iter().any(|entry| (entry.host, entry.boot) == *place));
        for entry in &entries {
            let hole = holes.entry((entry.host, entry.boot)).or_insert_with(|| Hole::seen_now(0));
            if hole.is_to_be_told(entry, self.unexplained_after()) {
                self.tell_of_hole(entry)?;
                *hole = Hole::seen_now(entry.unexplained());
            }
        }
        self.close_explained(&entries)
    }

    /// A minute, where nobody asked for another patience with hosts.
    fn unexplained_after(&self) -> Duration {
        self.watch.silent_after * 4 / 3
    }

    fn tell_of_hole(&self, entry: &LedgerEntry) -> Result<(), AppError> {
        let Some(host) = self.state.host(entry.host)?.filter(|host| !host.is_revoked()) else {
            return Ok(());
        };
        let numbers = entry.unexplained();
        let boot = entry.boot;
        tracing::warn!(host = %host.id, name = host.name, %boot, numbers, "records are missing that no gap record speaks of");
        let detection = loss(entry, now());
        let input = DetectionInput { detection: &detection, host_name: &host.name, agent_version: None };
        let findings = Findings { host: host.id, detections: vec![input], receipts: Vec::new() };
        let FindingsOutcome { changed, .. } = self.state.record_findings(&findings, now())?;
        self.posted.ring();
        changed.into_iter().try_for_each(|alert| self.tell_alert(alert))?;
        self.tell_host(host.id);
        Ok(())
    }

    fn tell_alert(&self, id: AlertId) -> Result<(), AppError> {
        if let Some(detail) = self.state.alert(id)? {
            self.live.tell(LiveMessage::Alert(detail.alert.into()));
        }
        Ok(())
    }

    fn close_explained(&self, entries: &[LedgerEntry]) -> Result<(), AppError> {
        let query = AlertQuery {
            status: vec![AlertStatus::New, AlertStatus::InProgress],
            rule: Some(RuleId::new(RULE)),
            limit: ALERTS_AT_ONCE,
            ..AlertQuery::default()
        };
        for alert in self.state.alerts(&query)?.items {
            if entries.iter().any(|entry| entry.host == alert.host_id) {
                continue;
            }
            // A host that has started anew has another account; the hole stays in the old one.
            let Some(detail) = self.state.alert(alert.id)? else { continue };
            let boot = detail.event.pointer("/host/boot/id").and_then(|boot| boot.as_str()?.parse().ok());
            let ledger = self.events.ledger(alert.host_id)?;
            let explained = ledger.iter().any(|entry| Some(entry.boot) == boot && entry.unexplained() == 0);
            if !explained {
                continue;
            }
            let update = AlertUpdate {
                status: Some(AlertStatus::Closed),
                close_reason: Some(CloseReason::Benign),
                assignee: None,
                note: Some("Gap records speak of all missing records now.".to_owned()),
            };
            let closed = self.state.update_alert(alert.id, &update, BY, now())?;
            self.live.tell(LiveMessage::Alert(closed.into()));
            self.tell_host(alert.host_id);
        }
        Ok(())
    }
}

fn loss(entry: &LedgerEntry, time: Timestamp) -> Detection {
    let numbers = entry.unexplained();
    let reason = format!(
        "{numbers} of the {} numbers of this boot's records never came, and no gap record speaks of them",
        entry.high_water
    );
    let header = EventHeader {
        host_id: entry.host,
        boot_id: entry.boot,
        sequence: 0,
        observed_at: time,
        monotonic_ns: 0,
    };
    let rule = RuleReference {
        id: RuleId::new(RULE),
        name: "Unexplained loss of records".to_owned(),
        description:
            "Records of a host are missing without a word about why. An agent tells of every record \
                      that it drops, so either it was tampered with, or it has a fault."
                .to_owned(),
        severity: Severity::High,
        attack: vec!["T1562.006".to_owned()],
        mode: ResponseMode::Detect,
    };
    // The same hole is the same detection, also after the server was restarted.
    let hole =
        EventHeader { sequence: entry.missing, observed_at: Timestamp::from_nanos(0), ..header.clone() };
    let count = i64::try_from(numbers).unwrap_or(i64::MAX);
    let fields = vec![
        (Field::EventReason, Value::Text(reason.clone())),
        (Field::GapSensor, Value::Text("server".to_owned())),
        (Field::GapWhat, Value::Text("unknown".to_owned())),
        (Field::GapRecords, Value::Integer(count)),
    ];
    Detection {
        id: DetectionId::of_match(hole.event_id(), &rule.id),
        rule,
        event: EventRecord::from_fields(header, EventType::Gap, fields),
        ancestry: Vec::new(),
        matched: vec![reason],
        actions: Vec::new(),
    }
}
