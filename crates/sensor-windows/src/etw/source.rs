//! Queries of names, libraries, threads that are begun in other processes, and handles that are opened on them.

use std::time::{Duration, Instant};

use event_model::EventType;
use sensor_api::{ObservationSender, Provision, Source, StopSignal};
use win32::etw::Provider;
use win32::file::drives;

use super::access::{AUDIT_API_CALLS, OPEN_PROCESS};
use super::events::Events;
use super::meaning::{DNS_CLIENT, DNS_QUERIES_COMPLETED, Event, IMAGE_LOAD, KERNEL_PROCESS, PROCESS_START};
use super::session::{Feed, Listener, Spec, Tell, Traced};
use super::threads::THREAD_START;

/// Of `Microsoft-Windows-Kernel-Process`: processes, threads, and what is mapped for execution.
const PROCESSES: u64 = 0x10;
const THREADS: u64 = 0x20;
const IMAGES: u64 = 0x40;
/// How often drives are looked up.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);

static SPEC: Spec = Spec {
    session: "Rampart events",
    feeds: &[
        Feed {
            name: "Microsoft-Windows-DNS-Client",
            provider: Provider { id: DNS_CLIENT, keywords: 0, events: &[DNS_QUERIES_COMPLETED] },
            made: &[EventType::DnsQuery],
        },
        Feed {
            name: "Microsoft-Windows-Kernel-Process",
            provider: Provider {
                id: KERNEL_PROCESS,
                keywords: PROCESSES | THREADS | IMAGES,
                events: &[PROCESS_START, THREAD_START, IMAGE_LOAD],
            },
            made: &[EventType::ImageLoad, EventType::ProcessTamper],
        },
        Feed {
            name: "Microsoft-Windows-Kernel-Audit-API-Calls",
            provider: Provider { id: AUDIT_API_CALLS, keywords: 0, events: &[OPEN_PROCESS] },
            made: &[EventType::ProcessAccess],
        },
    ],
};

/// The source.
pub struct EventTracing(Traced<Heard>);

impl EventTracing {
    /// Begins the session, where one is wanted.
    pub fn begin(is_wanted: bool) -> Self {
        let heard = Heard { events: Events::new(std::process::id()), drives: Drives::known() };
        Self(Traced::begin(&SPEC, heard, is_wanted))
    }
}

impl Source for EventTracing {
    fn name(&self) -> &'static str {
        "etw"
    }

    fn provisions(&self) -> Vec<Provision> {
        self.0.provisions()
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        self.0.run(sender, stop);
    }
}

struct Heard {
    events: Events,
    drives: Drives,
}

impl Listener for Heard {
    fn hear(&mut self, event: &Event, at_ns: u64, tell: &mut Tell<'_>) -> bool {
        self.drives.refresh();
        let drives = &self.drives;
        self.events.hear(event, at_ns, Instant::now(), |path| drives.path_of(path), tell)
    }

    fn idle(&mut self, tell: &mut Tell<'_>) {
        self.events.idle(Instant::now(), tell);
    }

    fn flush(&mut self, tell: &mut Tell<'_>) {
        self.events.flush(tell);
    }
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
        if self.looked_up.elapsed() >= LOOK_UP_EVERY {
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
