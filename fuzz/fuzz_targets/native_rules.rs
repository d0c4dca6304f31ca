//! Native rule files, as bytes: JSON that is cut, wrong or no text at all.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rule_engine::parse_rules_bytes;

fuzz_target!(|data: &[u8]| {
    let outcome = parse_rules_bytes("fuzz.json", data);
    fuzz::rules::use_rules(outcome, &String::from_utf8_lossy(data));
});
