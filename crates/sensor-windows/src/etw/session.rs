//! A session of event tracing: it is begun, listened to, and begun again where somebody ends it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_model::{EventType, Field, GapReason, Value};
use sensor_api::{ObservationSender, ObservedActivity, ObservedLoss, Provision, StopSignal, boot_ns};
use win32::clock::since_boot_ns;
use win32::etw::{AskLayout, Provider, Record, Session, is_registered};

use super::again::Again;
use super::layouts::Layouts;
use super::losses::Losses;
use super::meaning::Event;
use super::payload::{Property, Values};

/// A stop is noticed after this at the latest.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it is asked how much was lost.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What is told where no session is wanted.
pub(crate) const NOT_WANTED: &str = "event tracing is switched off by `-collect=sysmon`";

/// What is told where somebody ended a session.
pub(crate) const ENDED: &str = "source not available: somebody ended the session of event tracing";

/// A provider, and what is made of its events.
pub(crate) struct Feed {
    /// Its name, for messages.
    pub(crate) name: &'static str,
    pub(crate) provider: Provider,
    /// Empty where it only adds to what others see.
    pub(crate) made: &'static [EventType],
}

/// A session that is wanted.
pub(crate) struct Spec {
    /// Its name on the host.
    pub(crate) session: &'static str,
    pub(crate) feeds: &'static [Feed],
}

/// Takes what is to be told, with its time in nanoseconds since boot.
pub(crate) type Tell<'a> = dyn FnMut(u64, ObservedActivity) + 'a;

/// What listens to a session.
pub(crate) trait Listener: Send {
    /// An event that was written at `at_ns` since boot. False where it lacks what is needed.
    fn hear(&mut self, event: &Event, at_ns: u64, tell: &mut Tell<'_>) -> bool;

    /// Called several times a second.
    fn idle(&mut self, _: &mut Tell<'_>) {}

    /// The last event came: what waits for others is told now.
    fn flush(&mut self, _: &mut Tell<'_>) {}

    /// The session lost events.
    fn lost(&mut self) {}

    /// Events may come from now on; called before the first.
    fn begins(&mut self) {}

    /// None come any more.
    fn ends(&mut self) {}
}

/// A session with what listens to it. It ends when this is dropped.
pub(crate) struct Traced<L> {
    spec: &'static Spec,
    /// The session, or why there is none.
    session: Result<Session, String>,
    /// Why a feed is not to be had, by its place.
    refused: Vec<Option<String>>,
    listener: L,
    /// When the session began, in nanoseconds since boot.
    begun_ns: u64,
}

impl<L: Listener> Traced<L> {
    /// Begins the session, where one is wanted.
    pub(crate) fn begin(spec: &'static Spec, listener: L, is_wanted: bool) -> Self {
        let session = Err(NOT_WANTED.to_owned());
        let mut new = Self { spec, session, refused: Vec::new(), listener, begun_ns: 0 };
        if is_wanted {
            new.session = new.open();
        }
        new
    }

    /// Why there are none of its events; `None` where there are.
    pub(crate) fn missing(&self) -> Option<String> {
        self.session.as_ref().err().cloned()
    }

    /// The types of events that its feeds make, each with why there are none.
    pub(crate) fn provisions(&self) -> Vec<Provision> {
        let mut provisions = Vec::new();
        for (at, feed) in self.spec.feeds.iter().enumerate() {
            let refused = self.refused.get(at).cloned().flatten();
            let missing = self.missing().or(refused);
            let source = format!("etw ({}, session `{}`)", feed.name, self.spec.session);
            for event_type in feed.made {
                let (event_type, source, missing) = (*event_type, source.clone(), missing.clone());
                provisions.push(Provision { event_type, source, missing });
            }
        }
        provisions
    }

    /// Begins the session and listens to each of its providers that is to be had.
    fn open(&mut self) -> Result<Session, String> {
        self.begun_ns = boot_ns();
        let session = Session::begin(self.spec.session).map_err(|error| reason(&error))?;
        // What comes while the providers are enabled is told already.
        self.listener.begins();
        let refused = self.spec.feeds.iter().map(|feed| {
            let why = match is_registered(feed.provider.id) {
                Ok(false) => Some("this Windows does not have it".to_owned()),
                // Whether it has it is then shown by what comes.
                Ok(true) | Err(_) => session.enable(feed.provider).err().map(|error| error.to_string()),
            };
            let why =
                why.map(|why| format!("source not available: {} can't be listened to: {why}", feed.name));
            if let Some(why) = &why {
                tracing::warn!(session = self.spec.session, why, "a provider of event tracing is missing");
            }
            why
        });
        self.refused = refused.collect();
        let all_are_refused = self.refused.iter().all(Option::is_some);
        if let Some(why) = self.refused.first().cloned().flatten().filter(|_| all_are_refused) {
            self.listener.ends();
            return Err(why);
        }
        Ok(session)
    }

    /// Listens until it is to stop.
    pub(crate) fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        let mut again = Again::new(Instant::now());
        while let Ok(session) = &mut self.session {
            let losses = Losses::since(self.begun_ns);
            follow(session, self.spec, &mut self.listener, losses, sender, stop);
            self.listener.ends();
            if stop.asked_within(Duration::ZERO) {
                return;
            }
            let name = self.spec.session;
            tracing::error!(
                session = name,
                "a session of event tracing was ended by somebody; it is begun again"
            );
            let ended_ns = boot_ns();
            sender.send(ended_ns, tampered(name));
            // Dropped before another begins: both have one name.
            self.session = Err(ENDED.to_owned());
            again.ended(Instant::now());
            while self.session.is_err() {
                if stop.asked_within(LOOK_EVERY) {
                    self.tell_lost(sender, ended_ns);
                    return;
                }
                if again.is_due(Instant::now()) {
                    match self.open() {
                        Ok(session) => self.session = Ok(session),
                        Err(why) => {
                            tracing::warn!(
                                session = name,
                                why,
                                "event tracing does not begin again; it is tried later"
                            );
                            again.ended(Instant::now());
                        }
                    }
                }
            }
            again.began(Instant::now());
            self.tell_lost(sender, ended_ns);
        }
    }

    /// Nobody listened since then.
    fn tell_lost(&self, sender: &ObservationSender, from_ns: u64) {
        for event_type in self.spec.feeds.iter().flat_map(|feed| feed.made) {
            let (reason, what, until_ns) = (GapReason::AgentDown, event_type.as_str(), boot_ns());
            sender.lost(ObservedLoss { reason, what, count: None, from_ns, until_ns });
        }
    }
}

/// Tells what the session hears, until it ends or is to stop.
fn follow<L: Listener>(
    session: &mut Session,
    spec: &Spec,
    listener: &mut L,
    mut losses: Losses,
    sender: &ObservationSender,
    stop: &StopSignal,
) {
    let stopper = session.stopper();
    let unread: Vec<AtomicU64> = spec.feeds.iter().map(|_| AtomicU64::new(0)).collect();
    let listener = Mutex::new(listener);
    let tell = |at_ns: u64, activity: ObservedActivity| {
        sender.send(at_ns, activity);
    };
    let lost_at_end = std::thread::scope(|scope| {
        let pumping = scope.spawn(|| {
            let mut decoder = Decoder::default();
            session.pump(&mut |record: Record, ask: &AskLayout<'_>| {
                let mut feeds = spec.feeds.iter().zip(&unread);
                let is_wanted = |(feed, _): &(&Feed, _)| {
                    let ids = feed.provider.events;
                    feed.provider.id == record.provider && (ids.is_empty() || ids.contains(&record.id))
                };
                let Some((_, unread)) = feeds.find(is_wanted) else { return };
                let at_ns = since_boot_ns(record.time).min(boot_ns());
                let is_read = decoder.event(&record, ask).is_some_and(|event| {
                    locked(&listener).hear(&event, at_ns, &mut |at_ns, activity| tell(at_ns, activity))
                });
                if !is_read {
                    unread.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let mut asked = Instant::now();
        while !stop.asked_within(LOOK_EVERY) && !pumping.is_finished() {
            locked(&listener).idle(&mut |at_ns, activity| tell(at_ns, activity));
            if asked.elapsed() < ASK_EVERY {
                continue;
            }
            asked = Instant::now();
            let untold = losses.untold(stopper.lost().ok(), boot_ns());
            if untold.0 > 0 {
                locked(&listener).lost();
            }
            tell_losses(spec, &unread, untold, sender);
        }
        // One that has ended by itself is not asked or stopped: it may be another agent's by now.
        let mut lost_at_end = None;
        if !pumping.is_finished() {
            // One that is stopped has nobody to ask.
            lost_at_end = stopper.lost().ok();
            stopper.stop();
        }
        if let Ok(Err(error)) = pumping.join() {
            tracing::warn!(%error, session = spec.session, "event tracing broke off");
        }
        lost_at_end
    });
    locked(&listener).flush(&mut |at_ns, activity| tell(at_ns, activity));
    tell_losses(spec, &unread, losses.untold(lost_at_end, boot_ns()), sender);
}

/// What listens is only used by one at a time, and is whole after a panic of another.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells how many events the session lost, since when, and how many came that could not be read.
fn tell_losses(spec: &Spec, unread: &[AtomicU64], (lost, from_ns): (u64, u64), sender: &ObservationSender) {
    let tell = |reason, what, count| {
        sender.lost(ObservedLoss { reason, what, count: Some(count), from_ns, until_ns: boot_ns() });
    };
    if lost > 0 {
        tracing::warn!(session = spec.session, lost, "event tracing lost events");
        // Of which types they were nobody knows. Where nothing is made of them, nothing is missing.
        if spec.feeds.iter().any(|feed| !feed.made.is_empty()) {
            tell(GapReason::QueueFull, "unknown", lost);
        }
    }
    for (feed, unread) in spec.feeds.iter().zip(unread) {
        let count = unread.swap(0, Ordering::Relaxed);
        if count == 0 {
            continue;
        }
        let provider = feed.name;
        tracing::warn!(
            provider,
            count,
            "events whose template is missing, or does not fit, could not be read"
        );
        match feed.made {
            [] => {}
            [one] => tell(GapReason::MalformedRecord, one.as_str(), count),
            _ => tell(GapReason::MalformedRecord, "unknown", count),
        }
    }
}

/// Why there is no session, in words.
pub(crate) fn reason(error: &io::Error) -> String {
    format!("source not available: event tracing (ETW): {error}")
}

/// The event that tells it.
pub(crate) fn tampered(session: &str) -> ObservedActivity {
    let fields = vec![
        (Field::AgentTampered, Value::Text("event_tracing".to_owned())),
        (Field::EventReason, Value::Text(format!("somebody ended the session `{session}`"))),
    ];
    ObservedActivity { event_type: EventType::AgentTamper, actor: None, target: None, fields }
}

/// Reads records by their layouts.
#[derive(Default)]
pub(crate) struct Decoder {
    layouts: Layouts,
}

impl Decoder {
    /// An event with its values; `None` where nobody knows how its data is laid out.
    pub(crate) fn event(&mut self, record: &Record, ask: &AskLayout<'_>) -> Option<Event> {
        let kind = (record.provider, record.id, record.version);
        let layout = self.layouts.of(kind, Instant::now(), || {
            let properties = ask()?.into_iter().map(|one| Property {
                name: one.name,
                kind: one.kind,
                length: one.length,
                length_from: one.length_from,
                is_compound: one.is_compound,
            });
            Some(properties.collect())
        })?;
        let values = Values::read(&layout, &record.payload);
        let Record { provider, id, pid, time, .. } = *record;
        Some(Event { provider, id, pid, time, values })
    }
}
