//! Plain lists and CSV of indicators, and what their form is taken for.

#![no_main]

use indicators::{IndicatorDefaults, read_indicators};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut taken = 0;
    let defaults = IndicatorDefaults::of_source("fuzz");
    let format = None;
    let outcome = read_indicators("fuzz.csv", data, format, &defaults, &mut |indicator| {
        // A value is written as it is read.
        assert!(!indicator.value.to_string().is_empty());
        taken += 1;
    });
    assert_eq!(outcome.taken, taken);
    assert!(outcome.diagnostics.iter().all(|found| found.line >= 1 && !found.reason.is_empty()));
});
