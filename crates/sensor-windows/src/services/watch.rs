//! The list of services, looked at when something below their key in the registry changed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use event_model::{EventType, GapReason};
use sensor_api::{ObservationSender, ObservedLoss, Provision, Source, StopSignal, boot_ns};
use win32::event::Event;
use win32::registry::Key;
use win32::service::{config, list};

use super::change::{Changes, Known};

const KEY: &str = r"HKLM\SYSTEM\CurrentControlSet\Services";
/// Looks are never nearer together, and farther apart where they are dear.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const COST_SHARE: u32 = 100;
/// Without a change it is looked all the same: the notice of one may be missed.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// `SERVICE_USERSERVICE_INSTANCE`: made of a service's template for a user at each logon, and gone with the logoff.
/// The template itself is told of.
const INSTANCE_FOR_USER: u32 = 0x80;

/// The source of services.
#[derive(Default)]
pub struct ServiceWatch {
    changes: Changes,
}

/// The key, and the event that is set at the next change below it.
struct Notice {
    key: Key,
    event: Event,
}

impl Notice {
    fn begin() -> std::io::Result<Self> {
        let new = Self { key: Key::open(KEY)?, event: Event::new()? };
        new.key.tell_change(&new.event, true)?;
        Ok(new)
    }

    /// Whether something changed; from then on the next change is waited for.
    fn came(&self) -> bool {
        let came = self.event.is_set();
        if came {
            self.event.reset();
            // A key that can't be watched any more is looked at without.
            let _ = self.key.tell_change(&self.event, true);
        }
        came
    }
}

impl Source for ServiceWatch {
    fn name(&self) -> &'static str {
        "service_list"
    }

    fn provisions(&self) -> Vec<Provision> {
        let missing = list().err().map(|error| format!("the service manager does not answer: {error}"));
        let source = "service_list (services that are no drivers, nor made for a user at a logon)".to_owned();
        vec![Provision { event_type: EventType::Service, source, missing }]
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        let notice = Notice::begin();
        let (mut looked, mut failed_since): (Option<Instant>, Option<u64>) = (None, None);
        let mut pause = LOOK_EVERY;
        loop {
            let due = looked.is_none_or(|at| at.elapsed() >= LOOK_AT_LEAST_EVERY)
                || failed_since.is_some()
                || notice.as_ref().is_ok_and(Notice::came);
            if due {
                let begun = Instant::now();
                match all() {
                    Ok(now) => {
                        if let Some(from_ns) = failed_since.take() {
                            let (until_ns, what) = (boot_ns(), EventType::Service.as_str());
                            let reason = GapReason::QueueFull;
                            sender.lost(ObservedLoss { reason, what, count: None, from_ns, until_ns });
                        }
                        for event in self.changes.look(now) {
                            sender.send(boot_ns(), event);
                        }
                    }
                    Err(error) => {
                        if failed_since.is_none() {
                            tracing::warn!(%error, "the service manager does not answer");
                        }
                        failed_since.get_or_insert(boot_ns());
                    }
                }
                looked = Some(Instant::now());
                pause = (begun.elapsed() * COST_SHARE).max(LOOK_EVERY);
            }
            if stop.asked_within(pause) {
                return;
            }
        }
    }
}

fn all() -> std::io::Result<BTreeMap<String, Known>> {
    let each = list()?.into_iter().filter_map(|one| {
        // One that was removed meanwhile is not there.
        let config = config(&one.name).ok().filter(|config| config.kind & INSTANCE_FOR_USER == 0)?;
        let start = match config.start {
            2 => "automatic",
            3 => "on demand",
            4 => "disabled",
            _ => "boot",
        };
        Some((one.name, Known { command_line: config.command_line, account: config.account, start }))
    });
    Ok(each.collect())
}
