//! What the targets that read rules share: what was read is compiled and judges events, and what was not
//! is told with a place.

use std::cell::RefCell;

use event_model::{EventType, Timestamp};
use rule_engine::{EventBuffer, LogSource, ParseOutcome, RuleSet};

/// Names and values that rules of the inputs are likely to ask for.
const VALUES: &[(&str, &str)] = &[
    ("CommandLine", "cmd.exe /c whoami -e /all 10.0.0.1"),
    ("Image", "C:\\Windows\\System32\\cmd.exe"),
    ("User", "NT AUTHORITY\\SYSTEM"),
    ("EventID", "1"),
    ("a", "b"),
];

/// Seconds at which the event happens: at once, again, late, and when most timespans are over.
const SECONDS: &[i64] = &[0, 1, 1, -20, 70, 4_000, 90_000, 89_999, 90_001];

/// Compiles what was read and judges events with it, as far apart as correlations ask for. Nothing of it may
/// panic.
pub fn use_rules(outcome: ParseOutcome, text: &str) {
    for diagnostic in &outcome.diagnostics {
        assert!(diagnostic.line >= 1 && diagnostic.column >= 1 && !diagnostic.reason.is_empty());
        assert!(!diagnostic.render(text).is_empty());
    }
    assert!(outcome.is_ok() || outcome.refused > 0, "an error refuses something");
    let sources: Vec<LogSource> =
        outcome.rules.iter().filter_map(|rule| rule.log_source().cloned()).collect();
    let compiled = RuleSet::compile(outcome.rules);
    let rules = &compiled.rules;
    thread_local!(static EVENT: RefCell<EventBuffer> = RefCell::default());
    EVENT.with_borrow_mut(|event| {
        let mut desk = rules.desk();
        for (nth, second) in SECONDS.iter().enumerate() {
            event.clear();
            event.set_time(Timestamp::from_nanos((1_795_000_000 + second) * 1_000_000_000));
            for (name, value) in VALUES {
                if let Some(field) = rules.field(name) {
                    event.push_text(field, value);
                    // Correlations measure different values too, and numbers.
                    event.push_text(field, &nth.to_string());
                }
            }
            for source in sources.iter().filter_map(|source| rules.source(source)) {
                let _ = rules.judge(event, source, &mut desk);
            }
        }
    });
    let _ = rules.correlation_counters();
    for event_type in [EventType::ProcessStart, EventType::FileCreate, EventType::NetworkConnect] {
        let _ = (rules.needs_hash(event_type), rules.may_terminate_on(event_type));
    }
}
