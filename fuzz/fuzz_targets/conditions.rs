//! Conditions of native rules: the input is the condition, in a rule that is good otherwise.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rule_engine::parse_rules;
use serde_json::json;

fuzz_target!(|condition: &str| {
    let rule = json!({
        "id": 1, "name": "n", "description": "d", "type": "process", "severity": "low", "enabled": true,
        "conditions": [condition], "actions": ["log"],
    });
    let text = rule.to_string();
    fuzz::rules::use_rules(parse_rules("fuzz.json", &text), &text);
});
