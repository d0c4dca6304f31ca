//! Sigma files, as bytes: several documents, anchors, correlations and filters among them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rule_engine::parse_rules_bytes;

fuzz_target!(|data: &[u8]| {
    let outcome = parse_rules_bytes("fuzz.yml", data);
    fuzz::rules::use_rules(outcome, &String::from_utf8_lossy(data));
});
