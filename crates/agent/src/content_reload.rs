//! Takes up changed rules, indicators and YARA rules while the agent runs: those of the rules directory, and
//! indicators and YARA rules of the server's bundle too.
//!
//! Reading a million indicators or compiling thousands of rules takes seconds, so it is done on a thread of its own.
//! What is being judged meanwhile is judged by what was in force before. A file that changes all the time must not
//! keep that thread busy all the time: after each change it rests for some times as long as that one took.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sensor_api::{ObservationSender, Provision, Source, StopSignal};

use crate::indicator_book::IndicatorBook;
use crate::rules::RuleBook;
use crate::yara_book::YaraBook;

/// How often it is looked for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a change it is not looked for the next one for so many times as long as that one took,
const RESTS: u32 = 9;
/// and no longer than this: a change must come into force some time.
const LONGEST_REST: Duration = Duration::from_secs(120);

/// The thread that looks for changes. It observes nothing.
pub struct ContentReload {
    /// Where the server's bundle comes from.
    pub rules: Arc<RuleBook>,
    /// The indicators.
    pub indicators: Arc<IndicatorBook>,
    /// The YARA rules.
    pub yara: Arc<YaraBook>,
}

impl ContentReload {
    /// Takes up what the server's bundle has, for example what was kept of it over a restart,
    /// and says what is wrong with that and with the files.
    pub fn take_up(&self) {
        if let Some(bundle) = self.rules.bundle() {
            self.indicators.take_bundle(bundle.version, &bundle.indicators);
            self.yara.take_bundle(bundle.version, &bundle.yara);
        }
        let mut errors = self.indicators.active().errors.clone();
        errors.extend_from_slice(&self.yara.active().errors);
        if errors != *self.rules.content_errors() {
            self.rules.set_content_errors(errors);
        }
    }
}

impl Source for ContentReload {
    fn name(&self) -> &'static str {
        "content_reload"
    }

    fn provisions(&self) -> Vec<Provision> {
        Vec::new()
    }

    fn run(&mut self, _: &ObservationSender, stop: &StopSignal) {
        let mut rest = LOOK_EVERY;
        while !stop.asked_within(rest) {
            let begun = Instant::now();
            if self.rules.reload_if_changed() {
                tracing::info!("rules were loaded again");
            }
            self.rules.free_retired();
            self.indicators.reload_if_changed();
            self.yara.reload_if_changed();
            self.take_up();
            rest = rest_after(begun.elapsed());
        }
    }
}

/// How long to wait after a look that took so long.
fn rest_after(took: Duration) -> Duration {
    took.saturating_mul(RESTS).clamp(LOOK_EVERY, LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_all_the_time_takes_a_tenth_of_the_time() {
        let (short, long) = (Duration::from_millis(3), Duration::from_secs(4));
        assert_eq!((rest_after(short), rest_after(long)), (LOOK_EVERY, Duration::from_secs(36)));
        assert_eq!(rest_after(Duration::from_secs(3_600)), LONGEST_REST);
    }
}
