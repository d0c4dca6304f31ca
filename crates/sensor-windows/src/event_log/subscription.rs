//! The live subscription, with a bookmark for each channel so that nothing is missed over a restart.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_model::{EventType, GapReason};
use log_reader::{FieldLayout, LogDecoder};
use sensor_api::{ObservationSender, ObservedLoss, Provision, Source, StopSignal, boot_ns};
use win32::event::{Event, wait_any};
use win32::event_log::{From, Subscription, is_enabled, newest};

use super::channels::{CHANNELS, Channel, SYSMON, switched_off};
use super::meaning::{MADE, meaning};
use super::records::Records;
use super::recovery::{Next, Recovery};
use crate::state_file::{self, Kept};

/// A stop is noticed after this at the latest.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A channel that broke is subscribed to again this often, and whether one was switched off is asked.
const SEEK_EVERY: Duration = Duration::from_secs(30);
/// A channel is looked at so often, whether the system says that something came or not.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(2);
/// The bookmark of a log in which there was nothing: all that is in it later is new.
const NOTHING_YET: &str = "";
/// Bookmarks are kept this often.
const KEEP_EVERY: Duration = Duration::from_secs(1);

struct Live {
    channel: &'static Channel,
    subscription: Option<Subscription>,
    /// What was in the way.
    problem: Option<String>,
    /// It is switched off, so that nobody writes to it: since when, in nanoseconds since boot.
    off_since: Option<u64>,
    /// It was subscribed to once.
    was_there: bool,
    /// What its bookmark named is gone.
    lost: bool,
    recovery: Recovery,
    looked: Instant,
}

/// The source of records of the event log.
pub struct EventLogs {
    live: Vec<Live>,
    bookmarks: BTreeMap<String, String>,
    kept: Option<PathBuf>,
    /// Why the bookmarks of an agent before can't be read.
    damaged: Option<String>,
}

impl EventLogs {
    /// Subscribes to all channels that this host has, but to Sysmon's only where that is wanted.
    pub fn begin(state_dir: Option<&Path>, with_sysmon: bool) -> Self {
        let kept = state_dir.map(|dir| dir.join("event-log.json"));
        let (mut bookmarks, damaged) = match kept.as_deref().map_or(Kept::Nothing, state_file::read) {
            Kept::Nothing => (BTreeMap::new(), None),
            Kept::Whole(bookmarks) => (bookmarks, None),
            Kept::Damaged(why) => (BTreeMap::new(), Some(why)),
        };
        let live = CHANNELS
            .iter()
            .filter(|channel| with_sysmon || channel.name != SYSMON)
            .map(|channel| {
                let mut one = Live {
                    channel,
                    subscription: None,
                    problem: None,
                    off_since: None,
                    was_there: false,
                    lost: false,
                    recovery: Recovery::default(),
                    looked: Instant::now(),
                };
                one.subscribe(&mut bookmarks);
                one
            })
            .collect();
        Self { live, bookmarks, kept, damaged }
    }
}

impl Live {
    /// Subscribes to what comes after its bookmark. Without one, a bookmark is made at the newest record: a channel
    /// on which little happens would have none for long, and lose what comes while the agent is stopped.
    fn subscribe(&mut self, bookmarks: &mut BTreeMap<String, String>) {
        let (name, query) = (self.channel.name, self.channel.query());
        let begin = |from: From<'_>| Subscription::begin(name, &query, from);
        let bookmark = bookmarks.get(name).map(String::as_str);
        let begun = match bookmark {
            Some(NOTHING_YET) => begin(From::Oldest).map(|begun| (begun, None)),
            Some(mark) => begin(From::After(mark)).map(|begun| (begun, None)).or_else(|error| {
                if !self.recovery.gives_bookmark_up(&error) {
                    return Err(error);
                }
                // The log was cleared, or has gone round since: all that is in it now is new.
                let begun = begin(From::Oldest)?;
                self.lost = true;
                Ok((begun, Some(NOTHING_YET.to_owned())))
            }),
            // A stand-in for the API is not asked for more.
            None => begin(From::Now).map(|begun| {
                let seed = newest(name, &query).map(|mark| mark.unwrap_or_else(|| NOTHING_YET.to_owned()));
                let from = seed.as_deref().map(|mark| match mark {
                    NOTHING_YET => From::Oldest,
                    mark => From::After(mark),
                });
                match from.map(begin) {
                    Ok(Ok(seeded)) => (seeded, seed.ok()),
                    _ => (begun, None),
                }
            }),
        };
        match begun {
            Ok((subscription, seed)) => {
                (self.subscription, self.problem) = (Some(subscription), None);
                // Later, that it is off is somebody's doing, and told.
                if !std::mem::replace(&mut self.was_there, true) && is_enabled(name).is_ok_and(|on| !on) {
                    self.off_since = Some(boot_ns());
                }
                bookmarks.extend(seed.map(|seed| (name.to_owned(), seed)));
            }
            Err(error) => self.problem = Some(error.to_string()),
        }
    }

    /// Why nothing comes from it.
    fn trouble(&self) -> Option<&str> {
        self.problem.as_deref().or(self.off_since.and(Some("switched off")))
    }

    /// Tells whether somebody switched it off since, or on again.
    fn tell_switched(&mut self, sender: &ObservationSender) {
        let name = self.channel.name;
        let Ok(on) = is_enabled(name) else { return };
        match (self.off_since, on) {
            (None, false) => {
                tracing::warn!(channel = name, "somebody switched a channel of the event log off");
                self.off_since = Some(boot_ns());
                sender.send(boot_ns(), switched_off(name));
                sender.lost(lost(GapReason::AgentDown, None));
            }
            (Some(from_ns), true) => {
                tracing::info!(channel = name, "a channel of the event log is on again");
                self.off_since = None;
                sender.lost(ObservedLoss { from_ns, ..lost(GapReason::AgentDown, None) });
            }
            _ => {}
        }
    }
}

impl Source for EventLogs {
    fn name(&self) -> &'static str {
        "event_log"
    }

    fn provisions(&self) -> Vec<Provision> {
        let told = |one: &Live| match one.trouble() {
            Some(problem) => format!("{}: {problem}", one.channel.name),
            None => one.channel.name.to_owned(),
        };
        let names = |wanted: bool| {
            let these = self.live.iter().filter(|one| one.trouble().is_none() == wanted);
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
            let missing = one.trouble().is_some().then(|| format!("source not available: {}", told(one)));
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
        if let Some(error) = self.damaged.take() {
            tracing::warn!(error, "the bookmarks of the event log can't be read: it is read from now on");
            sender.lost(lost(GapReason::AgentDown, None));
        }
        // Those that were made at the beginning are worth keeping, too.
        self.keep();
        let (mut kept, mut moved) = (Instant::now(), false);
        while !stop.asked_within(Duration::ZERO) {
            if sought.elapsed() >= SEEK_EVERY {
                sought = Instant::now();
                for one in self.live.iter_mut().filter(|one| one.subscription.is_none()) {
                    one.subscribe(&mut self.bookmarks);
                    moved = true;
                }
                for one in self.live.iter_mut().filter(|one| one.was_there) {
                    one.tell_switched(sender);
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
                moved |= take(one, &mut self.bookmarks, &mut decoder, sender);
            }
            if moved && kept.elapsed() >= KEEP_EVERY {
                self.keep();
                (kept, moved) = (Instant::now(), false);
            }
        }
        self.keep();
    }
}

/// Takes what a channel has; true if its bookmark moved.
fn take(
    one: &mut Live,
    bookmarks: &mut BTreeMap<String, String>,
    decoder: &mut LogDecoder<Records>,
    sender: &ObservationSender,
) -> bool {
    let is_due = one.looked.elapsed() >= LOOK_AT_LEAST_EVERY;
    let due = one.subscription.as_mut().filter(|one| is_due || one.event().is_set());
    let Some(subscription) = due else { return false };
    one.looked = Instant::now();
    let taken = match subscription.take(one.recovery.batch()) {
        Ok(taken) => taken,
        Err(error) => {
            broke(one, &error, bookmarks, sender);
            return true;
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
    if moved {
        one.recovery.took();
        bookmarks.extend(subscription.bookmark().ok().map(|mark| (one.channel.name.to_owned(), mark)));
    }
    moved
}

/// Subscribes again after an error, at once where that helps.
fn broke(
    one: &mut Live,
    error: &io::Error,
    bookmarks: &mut BTreeMap<String, String>,
    sender: &ObservationSender,
) {
    let mut next = one.recovery.failed(error, Instant::now());
    if next == Next::Silently && !bookmarks.contains_key(one.channel.name) {
        // Nobody knows where it was.
        next = Next::AtOnce;
    }
    (one.subscription, one.problem) = (None, Some(error.to_string()));
    if next != Next::Silently {
        tracing::warn!(channel = one.channel.name, %error, "a channel of the event log broke off; it is tried again");
        sender.lost(lost(GapReason::AgentDown, None));
    }
    if next != Next::Later {
        let was_lost = one.lost;
        one.subscribe(bookmarks);
        // One gap is enough for both.
        one.lost = was_lost || (one.lost && next == Next::Silently);
    }
}

fn lost(reason: GapReason, count: Option<u64>) -> ObservedLoss {
    let now = boot_ns();
    ObservedLoss { reason, what: EventType::EventLogRecord.as_str(), count, from_ns: now, until_ns: now }
}

impl EventLogs {
    fn keep(&self) {
        let Some(path) = &self.kept else { return };
        if let Err(error) = state_file::write(path, &self.bookmarks) {
            tracing::warn!(file = %path.display(), %error, "bookmarks of the event log could not be kept");
        }
    }
}
