//! The file system of pipes, listed again and again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use event_model::{EventType, GapReason};
use sensor_api::{ObservationSender, ObservedLoss, Provision, Source, StopSignal, boot_ns};

use super::change::Changes;

const ROOT: &str = r"\\.\pipe\";
/// Looks are never nearer together, and farther apart where they are dear.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const COST_SHARE: u32 = 100;

/// The source of named pipes.
#[derive(Debug, Default)]
pub struct PipeList {
    changes: Changes,
}

fn list() -> std::io::Result<BTreeSet<String>> {
    // A name that is no text is shown with marks in its place.
    std::fs::read_dir(ROOT)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

impl Source for PipeList {
    fn name(&self) -> &'static str {
        "pipe_list"
    }

    fn provisions(&self) -> Vec<Provision> {
        let missing = match list() {
            Ok(names) if names.is_empty() => {
                Some("source not available: the list of pipes is empty".to_owned())
            }
            Ok(_) => None,
            Err(error) => Some(format!("source not available: the list of pipes: {error}")),
        };
        let source =
            "pipe_list (each 500 ms or more; shorter lives are not seen, nor who made a pipe)".to_owned();
        vec![Provision { event_type: EventType::PipeCreate, source, missing }]
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        let mut failed_since: Option<u64> = None;
        loop {
            let begun = Instant::now();
            match list() {
                Ok(names) => {
                    if let Some(from_ns) = failed_since.take() {
                        let (until_ns, what) = (boot_ns(), EventType::PipeCreate.as_str());
                        sender.lost(ObservedLoss {
                            reason: GapReason::QueueFull,
                            what,
                            count: None,
                            from_ns,
                            until_ns,
                        });
                    }
                    for event in self.changes.look(names) {
                        sender.send(boot_ns(), event);
                    }
                }
                // Where there never was a list the start event says so; no gap each half second.
                Err(_) if !self.changes.has_begun() => return,
                Err(error) => {
                    if failed_since.is_none() {
                        tracing::warn!(%error, "the list of pipes can't be read");
                    }
                    failed_since.get_or_insert(boot_ns());
                }
            }
            if stop.asked_within((begun.elapsed() * COST_SHARE).max(LOOK_EVERY)) {
                return;
            }
        }
    }
}
