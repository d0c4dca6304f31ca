//! A session of event tracing that listens for queries of names and for libraries.

use std::io;
use std::time::{Duration, Instant};

use event_model::{EventType, GapReason};
use sensor_api::{ObservationSender, ObservedLoss, Provision, Source, StopSignal, boot_ns};
use win32::clock::since_boot_ns;
use win32::etw::{Provider, Record, Session};
use win32::file::drives;

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
    /// Begins the session.
    pub fn begin() -> Self {
        let providers =
            [Provider { id: DNS_CLIENT, keywords: 0 }, Provider { id: KERNEL_PROCESS, keywords: IMAGES }];
        Self { session: Session::begin(NAME, &providers).map_err(|error| reason(&error)) }
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
        let Ok(session) = &mut self.session else { return };
        let (stopper, mut lost_before, mut asked_ns) = (session.stopper(), 0, boot_ns());
        std::thread::scope(|scope| {
            let pumping = scope.spawn(move || {
                let (mut known, mut looked_up) = (drives(), Instant::now());
                session.pump(&mut |record: Record| {
                    if looked_up.elapsed() >= ASK_EVERY {
                        (known, looked_up) = (drives(), Instant::now());
                    }
                    let at_ns = since_boot_ns(record.time).min(boot_ns());
                    let told =
                        event_of(record).and_then(|event| meaning(&event, |path| path_of(path, &known)));
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
            if pumping.is_finished() && !stop.asked_within(Duration::ZERO) {
                tracing::error!(
                    "the session of event tracing was ended by somebody; its events are missing from now on"
                );
                for event_type in MADE {
                    let (now, what) = (boot_ns(), event_type.as_str());
                    let reason = GapReason::AgentDown;
                    sender.lost(ObservedLoss { reason, what, count: None, from_ns: now, until_ns: now });
                }
            }
            stopper.stop();
            let _ = pumping.join();
        });
    }
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

/// `C:\…` for `\Device\HarddiskVolume3\…`; what is on no drive stays as it is.
pub(crate) fn path_of(path: &str, drives: &[(String, String)]) -> String {
    let found = drives.iter().find_map(|(drive, device)| {
        let rest = path.strip_prefix(device.as_str())?;
        rest.starts_with('\\').then(|| format!("{drive}{rest}"))
    });
    found.unwrap_or_else(|| path.to_owned())
}
