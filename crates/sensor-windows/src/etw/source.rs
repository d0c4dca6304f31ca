//! A session of event tracing that listens for queries of names and for libraries.

use std::io;
use std::time::{Duration, Instant};

use event_model::{EventType, Field, GapReason, Value};
use sensor_api::{ObservationSender, ObservedActivity, ObservedLoss, Provision, Source, StopSignal, boot_ns};
use win32::clock::since_boot_ns;
use win32::etw::{Provider, Record, Session};
use win32::file::drives;

use super::again::Again;
use super::meaning::{DNS_CLIENT, Event, KERNEL_PROCESS, meaning};
use super::payload::{Property, Values};

const NAME: &str = "Rampart events";
/// Of `Microsoft-Windows-Kernel-Process`: what is mapped for execution.
const IMAGES: u64 = 0x40;

const MADE: [EventType; 2] = [EventType::DnsQuery, EventType::ImageLoad];

/// A stop is noticed after this at the latest.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it is asked how much was lost, and drives are looked up.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// The source.
pub struct EventTracing {
    session: Result<Session, String>,
}

impl EventTracing {
    /// Begins the session, where one is wanted.
    pub fn begin(is_wanted: bool) -> Self {
        if !is_wanted {
            return Self { session: Err(NOT_WANTED.to_owned()) };
        }
        Self { session: begin().map_err(|error| reason(&error)) }
    }
}

/// Why there is no session, in words.
pub(crate) fn reason(error: &io::Error) -> String {
    format!("source not available: event tracing (ETW): {error}")
}

impl Source for EventTracing {
    fn name(&self) -> &'static str {
        "etw"
    }

    fn provisions(&self) -> Vec<Provision> {
        let missing = self.session.as_ref().err().cloned();
        let provision = |event_type| Provision {
            event_type,
            source: format!("etw (session `{NAME}`)"),
            missing: missing.clone(),
        };
        MADE.into_iter().map(provision).collect()
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        let mut again = Again::new(Instant::now());
        while let Ok(session) = &mut self.session {
            follow(session, sender, stop);
            if stop.asked_within(Duration::ZERO) {
                return;
            }
            tracing::error!("the session of event tracing was ended by somebody; it is begun again");
            let ended_ns = boot_ns();
            sender.send(ended_ns, tampered(NAME));
            // Dropped before another begins: both have one name.
            self.session = Err(ENDED.to_owned());
            again.ended(Instant::now());
            while self.session.is_err() {
                if stop.asked_within(LOOK_EVERY) {
                    tell_lost(sender, ended_ns);
                    return;
                }
                if again.is_due(Instant::now()) {
                    match begin() {
                        Ok(session) => self.session = Ok(session),
                        Err(error) => {
                            tracing::warn!(%error, "event tracing does not begin again; it is tried later");
                            again.ended(Instant::now());
                        }
                    }
                }
            }
            again.began(Instant::now());
            tell_lost(sender, ended_ns);
        }
    }
}

fn begin() -> io::Result<Session> {
    let providers =
        [Provider { id: DNS_CLIENT, keywords: 0 }, Provider { id: KERNEL_PROCESS, keywords: IMAGES }];
    Session::begin(NAME, &providers)
}

/// Nobody listened since then.
fn tell_lost(sender: &ObservationSender, from_ns: u64) {
    for event_type in MADE {
        let (reason, what, until_ns) = (GapReason::AgentDown, event_type.as_str(), boot_ns());
        sender.lost(ObservedLoss { reason, what, count: None, from_ns, until_ns });
    }
}

/// Tells what the session hears, until it ends or is to stop.
fn follow(session: &mut Session, sender: &ObservationSender, stop: &StopSignal) {
    let (stopper, mut lost_before, mut asked_ns) = (session.stopper(), 0, boot_ns());
    std::thread::scope(|scope| {
        let pumping = scope.spawn(move || {
            let mut drives = Drives::known();
            session.pump(&mut |record: Record| {
                drives.refresh();
                let at_ns = since_boot_ns(record.time).min(boot_ns());
                let told = event_of(record).and_then(|event| meaning(&event, |path| drives.path_of(path)));
                if let Some(activity) = told {
                    sender.send(at_ns, activity);
                }
            })
        });
        let mut asked = Instant::now();
        while !stop.asked_within(LOOK_EVERY) && !pumping.is_finished() {
            if asked.elapsed() < ASK_EVERY {
                continue;
            }
            asked = Instant::now();
            let lost = stopper.lost().unwrap_or(lost_before);
            if lost > lost_before {
                let (count, until_ns) = (Some(lost - lost_before), boot_ns());
                // Of which of the two types they were nobody knows.
                sender.lost(ObservedLoss {
                    reason: GapReason::QueueFull,
                    what: "unknown",
                    count,
                    from_ns: asked_ns,
                    until_ns,
                });
            }
            (lost_before, asked_ns) = (lost, boot_ns());
        }
        // One that has ended by itself is not stopped: it may be another agent's by now.
        if !pumping.is_finished() {
            stopper.stop();
        }
        if let Ok(Err(error)) = pumping.join() {
            tracing::warn!(%error, "event tracing broke off");
        }
    });
}

/// What is told where no session is wanted.
pub(crate) const NOT_WANTED: &str = "event tracing is switched off by `-collect=sysmon`";

/// What is told where somebody ended a session.
pub(crate) const ENDED: &str = "source not available: somebody ended the session of event tracing";

/// The event that tells it.
pub(crate) fn tampered(session: &str) -> ObservedActivity {
    let fields = vec![
        (Field::AgentTampered, Value::Text("event_tracing".to_owned())),
        (Field::EventReason, Value::Text(format!("somebody ended the session `{session}`"))),
    ];
    ObservedActivity { event_type: EventType::AgentTamper, actor: None, target: None, fields }
}

/// An event with its values; `None` where nobody knows how its data is laid out.
pub(crate) fn event_of(record: Record) -> Option<Event> {
    let layout: Vec<Property> = record
        .layout?
        .iter()
        .map(|one| Property {
            name: one.name.clone(),
            kind: one.kind,
            length: one.length,
            length_from: one.length_from,
            is_compound: one.is_compound,
        })
        .collect();
    let values = Values::read(&layout, &record.payload);
    Some(Event { provider: record.provider, id: record.id, pid: record.pid, values })
}

/// Drives and their names in the kernel. They change: one is plugged in, another is mounted.
pub(crate) struct Drives {
    known: Vec<(String, String)>,
    looked_up: Instant,
}

impl Drives {
    /// Those there are now.
    pub(crate) fn known() -> Self {
        Self { known: drives(), looked_up: Instant::now() }
    }

    /// Looks again, where that is some seconds ago.
    pub(crate) fn refresh(&mut self) {
        if self.looked_up.elapsed() >= ASK_EVERY {
            *self = Self::known();
        }
    }

    /// `C:\…` for `\Device\HarddiskVolume3\…`; what is on no drive stays as it is.
    pub(crate) fn path_of(&self, path: &str) -> String {
        let found = self.known.iter().find_map(|(drive, device)| {
            let rest = path.strip_prefix(device.as_str())?;
            rest.starts_with('\\').then(|| format!("{drive}{rest}"))
        });
        found.unwrap_or_else(|| path.to_owned())
    }
}
