//! Takes up changed indicators and YARA rules while the agent runs: those of the rules directory and
//! those of the server's bundle.
//!
//! Reading a million indicators or compiling thousands of rules takes seconds, so it is done on a thread of its own.
//! What is being judged meanwhile is judged by what was in force before.

use std::sync::Arc;
use std::time::Duration;

use sensor_api::{ObservationSender, Provision, Source, StopSignal};

use crate::indicator_book::IndicatorBook;
use crate::rules::RuleBook;
use crate::yara_book::YaraBook;

/// How often it is looked for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
        while !stop.asked_within(LOOK_EVERY) {
            self.indicators.reload_if_changed();
            self.yara.reload_if_changed();
            self.take_up();
        }
    }
}
