//! What time brings: retention, expired sessions, silent hosts, accounts that do not
//! add up, rules that another process changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use event_model::{HostId, Timestamp};
use tokio::time::{MissedTickBehavior, interval};

use super::unexplained::Holes;
use super::{App, AppError, before, causes, now};

/// How often the rules' version is looked at; pushes reach agents within 2 s.
const RULES_TICK: Duration = Duration::from_secs(1);
/// How often it is noted when hosts were last heard of, and who fell silent.
const SEEN_TICK: Duration = Duration::from_secs(5);
/// How often what is too old is removed.
const RETENTION_TICK: Duration = Duration::from_secs(3600);
/// Events removed in one transaction, so that appends are not kept waiting.
const EVENTS_AT_ONCE: u64 = 20_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

impl App {
    /// Runs until it is dropped.
    pub async fn keep_house(self: Arc<Self>) {
        let mut rules = interval(RULES_TICK);
        let mut seen = interval(SEEN_TICK);
        let mut retention = interval(RETENTION_TICK);
        let mut silence = interval(self.watch.look_every());
        let mut accounts = interval(self.watch.look_every());
        for ticks in [&mut rules, &mut seen, &mut retention, &mut silence, &mut accounts] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut online: HashMap<HostId, bool> = HashMap::new();
        let mut holes = Holes::default();
        loop {
            let done = tokio::select! {
                _ = rules.tick() => self.work(|app| { app.publish_rules(); Ok(()) }).await,
                _ = seen.tick() => self.note_hosts(&mut online).await,
                _ = silence.tick() => self.watch_for_silence().await,
                _ = accounts.tick() => self.watch_the_accounts(&mut holes).await,
                _ = retention.tick() => self.remove_old().await,
            };
            if let Err(error) = done {
                tracing::error!(error = causes(&error), "housekeeping failed; it is tried again");
            }
        }
    }

    /// Notes when hosts were last heard of, and tells of those that came or fell silent.
    async fn note_hosts(self: &Arc<Self>, online: &mut HashMap<HostId, bool>) -> Result<(), AppError> {
        let heard: Vec<(HostId, Timestamp)> = self.links.last_heard();
        let changed: Vec<HostId> = heard
            .iter()
            .map(|(host, _)| (*host, self.links.status(*host).0))
            .filter(|(host, is_online)| online.insert(*host, *is_online) != Some(*is_online))
            .map(|(host, _)| host)
            .collect();
        online.retain(|host, _| heard.iter().any(|(connected, _)| connected == host));
        if heard.is_empty() {
            return Ok(());
        }
        self.work(move |app| {
            app.state.record_seen(&heard)?;
            changed.iter().for_each(|host| app.tell_host(*host));
            Ok(())
        })
        .await
    }

    async fn remove_old(self: &Arc<Self>) -> Result<(), AppError> {
        let retention = self
            .work(|app| {
                app.note_left_out_refusals();
                app.state.delete_expired_sessions(now())?;
                Ok(app.state.retention()?)
            })
            .await?;
        let events_before = before(now(), DAY * retention.events_days);
        let alerts_before = before(now(), DAY * retention.alerts_days);
        let (mut events, mut alerts) = (0, 0);
        loop {
            let deleted =
                self.work(move |app| Ok(app.events.delete_before(events_before, EVENTS_AT_ONCE)?)).await?;
            events += deleted.events;
            if !deleted.more {
                break;
            }
        }
        loop {
            let deleted = self.work(move |app| Ok(app.state.delete_alerts_before(alerts_before)?)).await?;
            alerts += deleted;
            if deleted == 0 {
                break;
            }
        }
        if events + alerts > 0 {
            tracing::info!(events, alerts, "removed what was older than the retention");
        }
        Ok(())
    }
}
