//! The live subscription, with a bookmark for each channel so that nothing is missed over a restart.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_model::{EventType, GapReason};
use log_reader::{FieldLayout, LogDecoder};
use sensor_api::{ObservationSender, ObservedLoss, Provision, Source, StopSignal, boot_ns};
use win32::event::{Event, wait_any};
use win32::event_log::Subscription;

use super::channels::{CHANNELS, Channel};
use super::meaning::{MADE, meaning};
use super::records::Records;

/// A stop is noticed after this at the latest.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A channel that broke is subscribed to again this often.
const SEEK_EVERY: Duration = Duration::from_secs(30);
/// Bookmarks are kept this often.
const KEEP_EVERY: Duration = Duration::from_secs(1);

struct Live {
    channel: &'static Channel,
    subscription: Option<Subscription>,
    /// What was in the way.
    problem: Option<String>,
    /// What its bookmark named is gone.
    lost: bool,
}

/// The source of records of the event log.
pub struct EventLogs {
    live: Vec<Live>,
    bookmarks: BTreeMap<String, String>,
    kept: Option<PathBuf>,
}

impl EventLogs {
    /// Subscribes to all channels that this host has.
    pub fn begin(state_dir: Option<&Path>) -> Self {
        let kept = state_dir.map(|dir| dir.join("event-log.json"));
        let read = kept.as_ref().and_then(|path| serde_json::from_slice(&fs::read(path).ok()?).ok());
        let bookmarks: BTreeMap<String, String> = read.unwrap_or_default();
        let live = CHANNELS
            .iter()
            .map(|channel| {
                let mut one = Live { channel, subscription: None, problem: None, lost: false };
                one.subscribe(bookmarks.get(channel.name).map(String::as_str));
                one
            })
            .collect();
        Self { live, bookmarks, kept }
    }
}

impl Live {
    fn subscribe(&mut self, bookmark: Option<&str>) {
        let query = self.channel.query();
        let begun = Subscription::begin(self.channel.name, &query, bookmark).or_else(|error| {
            if bookmark.is_none() {
                return Err(error);
            }
            // The log was cleared, or has gone round since.
            let begun = Subscription::begin(self.channel.name, &query, None)?;
            self.lost = true;
            Ok(begun)
        });
        match begun {
            Ok(subscription) => (self.subscription, self.problem) = (Some(subscription), None),
            Err(error) => self.problem = Some(error.to_string()),
        }
    }
}

impl Source for EventLogs {
    fn name(&self) -> &'static str {
        "event_log"
    }

    fn provisions(&self) -> Vec<Provision> {
        let told = |one: &Live| match &one.problem {
            Some(problem) => format!("{}: {problem}", one.channel.name),
            None => one.channel.name.to_owned(),
        };
        let names = |wanted: bool| {
            let these = self.live.iter().filter(|one| one.subscription.is_some() == wanted);
            these.map(told).collect::<Vec<_>>().join(", ")
        };
        let (read, unread) = (names(true), names(false));
        let missing = read.is_empty().then(|| format!("source not available: {unread}"));
        let mut source = "event_log".to_owned();
        if missing.is_none() {
            source.push_str(&format!(" ({read})"));
            if !unread.is_empty() {
                source.push_str(&format!("; not available: {unread}"));
            }
        }
        let mut provisions = vec![Provision { event_type: EventType::EventLogRecord, source, missing }];
        for (name, types) in MADE {
            let Some(one) = self.live.iter().find(|one| one.channel.name.eq_ignore_ascii_case(name)) else {
                continue;
            };
            let missing = one.problem.is_some().then(|| format!("source not available: {}", told(one)));
            let source = format!("event_log ({name})");
            provisions.extend(types.iter().map(|event_type| Provision {
                event_type: *event_type,
                source: source.clone(),
                missing: missing.clone(),
            }));
        }
        provisions
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        let layout = match FieldLayout::built_in() {
            Ok(layout) => Arc::new(layout),
            Err(error) => {
                tracing::error!(%error, "records of the event log can't be read");
                return;
            }
        };
        let mut decoder = LogDecoder::new(layout, Records::default());
        let mut sought = Instant::now();
        let (mut kept, mut moved) = (Instant::now(), false);
        while !stop.asked_within(Duration::ZERO) {
            if sought.elapsed() >= SEEK_EVERY {
                sought = Instant::now();
                for one in self.live.iter_mut().filter(|one| one.subscription.is_none()) {
                    one.subscribe(self.bookmarks.get(one.channel.name).map(String::as_str));
                }
            }
            let events: Vec<&Event> =
                self.live.iter().filter_map(|one| Some(one.subscription.as_ref()?.event())).collect();
            if events.is_empty() || wait_any(&events, LOOK_EVERY).is_err() {
                stop.asked_within(LOOK_EVERY);
            }
            for one in &mut self.live {
                if std::mem::take(&mut one.lost) {
                    tracing::warn!(
                        channel = one.channel.name,
                        "the log was cleared or overwritten while nobody read it"
                    );
                    sender.lost(lost(GapReason::AgentDown, None));
                }
                if let Some(bookmark) = take(one, &mut decoder, sender) {
                    self.bookmarks.insert(one.channel.name.to_owned(), bookmark);
                    moved = true;
                }
            }
            if moved && kept.elapsed() >= KEEP_EVERY {
                self.keep();
                (kept, moved) = (Instant::now(), false);
            }
        }
        self.keep();
    }
}

/// Takes what a channel has; its new bookmark, if it moved.
fn take(one: &mut Live, decoder: &mut LogDecoder<Records>, sender: &ObservationSender) -> Option<String> {
    let subscription = one.subscription.as_mut().filter(|subscription| subscription.event().is_set())?;
    let taken = match subscription.take() {
        Ok(taken) => taken,
        Err(error) => {
            tracing::warn!(channel = one.channel.name, %error, "a channel of the event log broke off; it is tried again");
            sender.lost(lost(GapReason::AgentDown, None));
            (one.subscription, one.problem) = (None, Some(error.to_string()));
            return None;
        }
    };
    let moved = !taken.events.is_empty() || taken.unreadable > 0;
    let mut unreadable = taken.unreadable;
    for xml in &taken.events {
        let _ = decoder.read_event_xml(xml);
        let records = decoder.consumer();
        unreadable += u64::from(records.whole.is_empty());
        records.problems.clear();
        for record in records.whole.drain(..) {
            let now = boot_ns();
            sender.send(now, record.event());
            if let Some(event) = meaning(&record) {
                sender.send(now, event);
            }
        }
    }
    if unreadable > 0 {
        tracing::warn!(
            channel = one.channel.name,
            unreadable,
            reason = taken.reason,
            "records can't be read"
        );
        sender.lost(lost(GapReason::QueueFull, Some(unreadable)));
    }
    if moved { subscription.bookmark().ok() } else { None }
}

fn lost(reason: GapReason, count: Option<u64>) -> ObservedLoss {
    let now = boot_ns();
    ObservedLoss { reason, what: EventType::EventLogRecord.as_str(), count, from_ns: now, until_ns: now }
}

impl EventLogs {
    fn keep(&self) {
        let Some(path) = &self.kept else { return };
        let beside = path.with_extension("new");
        let text = serde_json::to_vec(&self.bookmarks).unwrap_or_default();
        if let Err(error) = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path)) {
            tracing::warn!(file = %path.display(), %error, "bookmarks of the event log could not be kept");
        }
    }
}
