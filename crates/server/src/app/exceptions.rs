//! What an exception would have hidden: tried on the alerts that its rule made.

use std::time::Duration;

use event_model::{RuleId, Timestamp};
use rule_engine::{ExceptionPreview, HostNames, parse_rules};
use state_store::{Alert, AlertQuery};

use super::past_event::past_event;
use super::{App, AppError, before, now};

/// Alerts that are looked at, the newest first. Each is some 0.2 ms of reading.
const ALERTS_LOOKED_AT: usize = 2_000;
const PAGE: usize = 500;
/// Alerts that are shown as a sample.
const SAMPLE: usize = 20;
/// How far back it looks where nothing is said.
const DEFAULT_SPAN: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What an exception would have hidden.
#[derive(Debug)]
pub(crate) struct HiddenAlerts {
    /// From when on alerts were looked at.
    pub(crate) since: Timestamp,
    /// Alerts that were looked at.
    pub(crate) examined: u64,
    /// Of them, those that would not be there.
    pub(crate) hidden: u64,
    /// Detections that the hidden ones stand for; a repeat is taken to be like its alert's first.
    pub(crate) hidden_detections: u64,
    /// Alerts whose event this version can't read.
    pub(crate) unreadable: u64,
    /// True where there were more alerts than are looked at.
    pub(crate) incomplete: bool,
    /// The newest of the hidden ones.
    pub(crate) sample: Vec<Alert>,
}

impl App {
    /// Tries an exception (the JSON that would stand in the rule's `exceptions`) on the rule's past alerts, as their
    /// first events were.
    pub(crate) fn preview_exception(
        &self,
        id: &RuleId,
        text: &str,
        since: Option<Timestamp>,
    ) -> Result<HiddenAlerts, AppError> {
        let rule = self.state.rule(id)?.ok_or_else(|| AppError::not_found("rule", id))?;
        let parsed = parse_rules("rule", &rule.text);
        let Some(rule) = parsed.rules.first() else { return Err(AppError::RuleRefused(parsed.diagnostics)) };
        let preview = ExceptionPreview::new(rule, text).map_err(AppError::RuleRefused)?;
        let since = since.unwrap_or_else(|| before(now(), DEFAULT_SPAN));
        let mut found = HiddenAlerts {
            since,
            examined: 0,
            hidden: 0,
            hidden_detections: 0,
            unreadable: 0,
            incomplete: false,
            sample: Vec::new(),
        };
        let mut query =
            AlertQuery { rule: Some(id.clone()), from: Some(since), limit: PAGE, ..AlertQuery::default() };
        let mut left = ALERTS_LOOKED_AT;
        loop {
            let page = self.state.alerts(&query)?;
            for alert in page.items.into_iter().take(left) {
                left -= 1;
                self.try_on(&preview, alert, &mut found)?;
            }
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                return Ok(found);
            }
            if left == 0 {
                found.incomplete = true;
                return Ok(found);
            }
        }
    }

    fn try_on(
        &self,
        preview: &ExceptionPreview,
        alert: Alert,
        found: &mut HiddenAlerts,
    ) -> Result<(), AppError> {
        // Retention may have taken it meanwhile.
        let Some(detail) = self.state.alert(alert.id)? else { return Ok(()) };
        found.examined += 1;
        let Some(event) = past_event(&detail.event) else {
            found.unreadable += 1;
            return Ok(());
        };
        let host = HostNames { name: alert.host_name.clone(), id: alert.host_id.to_string() };
        if preview.hides(&event, &host) {
            found.hidden += 1;
            found.hidden_detections += alert.count;
            if found.sample.len() < SAMPLE {
                found.sample.push(alert);
            }
        }
        Ok(())
    }
}
