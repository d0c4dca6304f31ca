//! Alerts and the dashboard.

use std::time::Duration;

use event_model::Timestamp;
use event_store::{GapTotals, HistogramBucket};
use state_store::{
    Alert, AlertDetail, AlertId, AlertQuery, AlertUpdate, HourCount, Role, RuleCount, SeverityCount,
};

use super::orders_of_runs;
use super::{App, AppError, Caller, LiveMessage, before, now};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the dashboard shows.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) hosts_total: u64,
    pub(crate) hosts_online: u64,
    pub(crate) open_alerts: Vec<SeverityCount>,
    pub(crate) events_per_minute: Vec<HistogramBucket>,
    pub(crate) alerts_per_hour: Vec<HourCount>,
    pub(crate) top_rules: Vec<RuleCount>,
    pub(crate) recent_alerts: Vec<Alert>,
    pub(crate) gaps: GapTotals,
}

impl App {
    pub(crate) fn alert(&self, id: &str) -> Result<AlertDetail, AppError> {
        let unknown = || AppError::not_found("alert", id);
        let parsed: AlertId = id.parse().map_err(|_| unknown())?;
        self.state.alert(parsed)?.ok_or_else(unknown)
    }

    /// The alert as it was told of that time, on the bus.
    pub(crate) fn alert_as_told(&self, id: &str, generation: u32) -> Result<AlertDetail, AppError> {
        let unknown = || AppError::not_found("telling of the alert", format!("{id}/{generation}"));
        let parsed: AlertId = id.parse().map_err(|_| AppError::not_found("alert", id))?;
        self.state.alert_as_told(parsed, generation)?.ok_or_else(unknown)
    }

    pub(crate) fn change_alert(
        &self,
        caller: &Caller,
        id: &str,
        update: &AlertUpdate,
    ) -> Result<AlertDetail, AppError> {
        let parsed: AlertId = id.parse().map_err(|_| AppError::not_found("alert", id))?;
        // What became of a run is a note; what becomes of the alert is for people.
        let is_note = update.status.is_none() && update.close_reason.is_none() && update.assignee.is_none();
        if caller.role == Role::PlaybookRunner && !is_note {
            return Err(orders_of_runs::forbidden("a role that works on alerts, not only on their notes"));
        }
        let alert = self.state.update_alert(parsed, update, &caller.name, now())?;
        // Only what was asked for; a note's text stands with the alert.
        let asked = [
            update.status.map(|status| format!("status={status}")),
            update
                .assignee
                .as_ref()
                .map(|_| format!("assignee={}", alert.assignee.as_deref().unwrap_or("nobody"))),
            update.note.as_ref().map(|_| "note".to_owned()),
        ];
        let detail = asked.into_iter().flatten().collect::<Vec<_>>().join(" ");
        self.audit(&caller.actor(), "alert.update", id, &detail);
        self.live.tell(LiveMessage::Alert(alert.into()));
        self.alert(id)
    }

    pub(crate) fn overview(&self) -> Result<Overview, AppError> {
        let time = now();
        let hosts = self.state.hosts()?;
        let enrolled = hosts.iter().filter(|host| !host.is_revoked());
        let online = enrolled.clone().filter(|host| self.links.status(host.id).0).count();
        let newest = AlertQuery { limit: 10, ..AlertQuery::default() };
        // 60 whole minutes, the one that runs the last of them.
        let minute = Timestamp::from_nanos(time.as_nanos() - time.as_nanos().rem_euclid(60_000_000_000));
        let first_minute = before(minute, Duration::from_secs(59 * 60));
        Ok(Overview {
            hosts_total: enrolled.count() as u64,
            hosts_online: online as u64,
            open_alerts: self.state.open_alerts_by_severity()?,
            events_per_minute: self.events.count_by_minute(first_minute, time)?,
            alerts_per_hour: self.state.alerts_per_hour(24, time)?,
            top_rules: self.state.alerts_by_rule(before(time, DAY), 5)?,
            recent_alerts: self.state.alerts(&newest)?.items,
            gaps: self.events.gap_totals(None, before(time, DAY), super::after(time, HOUR))?,
        })
    }
}
