//! Whatever the text, reading it ends, and what it says of places is inside the text.

mod events;

use event_model::EventType;
use events::{process_start, rule_text};
use proptest::prelude::*;
use rule_engine::{Phase, RuleSet, parse_rules, parse_rules_bytes, set_key};
use serde_json::json;

/// Reads, draws, compiles and judges; panics are what the tests look for.
fn exercise(bytes: &[u8]) {
    exercise_file("fuzz.json", bytes);
}

fn exercise_file(name: &str, bytes: &[u8]) {
    let outcome = parse_rules_bytes(name, bytes);
    let text = String::from_utf8_lossy(bytes);
    let lines = text.split('\n').count();
    for diagnostic in &outcome.diagnostics {
        assert!((1..=lines).contains(&(diagnostic.line as usize)), "{diagnostic:?}");
        assert!(diagnostic.column >= 1 && diagnostic.end_column > diagnostic.column, "{diagnostic:?}");
        assert!(!diagnostic.render(&text).is_empty());
    }
    let refused = outcome.diagnostics.iter().any(|diagnostic| diagnostic.is_error());
    assert_eq!(refused, outcome.refused > 0, "{:?}", outcome.diagnostics);
    let compiled = RuleSet::compile(outcome.rules);
    compiled.rules.without_source(&[EventType::ProcessStart]);
    let event = process_start(json!({
        "process.name": "İstanbul-ſ-ß", "process.command_line": "a 'b' \u{0} ]", "process.pid": -1,
        "process.args": ["", "a"], "process.hash.sha256": "",
    }));
    // Twice, as correlations count.
    compiled.rules.evaluate(&event, Phase::All);
    compiled.rules.evaluate(&event, Phase::All);
}

const SIGMA: &str = r"title: t
id: a
level: low
logsource: &l {product: linux, category: process_creation}
detection:
    sel_one:
        Image|endswith: ['/a', '*b?\\*']
        CommandLine|re|i: '^a+(b|c){2,3}$'
        User|windash|contains: ' -x'
    sel_two:
        - ParentImage|base64offset|contains: abc
        - ProcessId|gte: 5
    words: [x, 'y*z', null]
    condition: (1 of sel_* or words) and not all of them
---
title: f
logsource: *l
filter: {rules: any, s: {User|cidr: 10.0.0.0/8}, condition: not s}
---
title: c
correlation: {type: event_count, rules: [a], group-by: [User], timespan: 5m, condition: {gte: 2}}
";

/// Pieces that conditions are made of, so that random ones get far into the parser.
fn condition_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "name", "pid", "args", "cmdline", "exit_code", "sha256", "args_truncated", "start_time", "user",
            "=", "!=", ">", "<=", "contains", "startswith", "endswith", "matches", "in", "not", "and", "or",
            "(", ")", "[", "]", ",", "'a'", "\"b\"", "''", "5", "-1", "true", "'2026-01-01T00:00:00Z'", "'(a|b)*'",
            "'[', '\\d+'", "\\'", "'", "\"", "\\\\'", "可疑", "‘", "&", "!",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
    ];
    (prop::collection::vec(piece, 0..14), prop::sample::select(vec![" ", ""]))
        .prop_map(|(words, gap)| words.join(gap))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        exercise(&bytes);
    }

    #[test]
    fn any_condition(condition in condition_text(), kind in prop::sample::select(vec!["process", "attack", "file"])) {
        exercise(rule_text(kind, &condition, &json!({})).as_bytes());
    }

    #[test]
    fn a_good_rule_with_one_part_replaced(at in 0usize..400, length in 0usize..12, new in "\\PC{0,4}|[\\x00-\\x20\"\\\\{}\\[\\],:]{0,4}") {
        let text = rule_text("process", "name contains 'x' and not (pid in (1, 2) or cmdline matches '^a+$')", &json!({
            "match": "all", "attack": ["T1059.001"], "mode": "auto", "terminate_grace": "0s",
            "exceptions": [{"condition": "user = 'x'", "reason": "y", "expires": "2027-01-01T00:00:00Z"}],
        }));
        let start = at.min(text.len());
        let end = (start + length).min(text.len());
        exercise(format!("{}{new}{}", &text[..start], &text[end..]).as_bytes());
    }

    #[test]
    fn any_yaml(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}:,&*!|>'\"#%@` \n\t?a-c~-]{0,60}") {
        exercise_file("fuzz.yml", &bytes);
        exercise_file("fuzz.yml", text.as_bytes());
    }

    #[test]
    fn a_good_sigma_rule_with_one_part_replaced(at in 0usize..500, length in 0usize..12, new in "\\PC{0,4}|[\\x00-\\x20\"\\\\{}\\[\\],:&*|'%-]{0,4}") {
        let start = (0..=at.min(SIGMA.len())).rev().find(|at| SIGMA.is_char_boundary(*at)).unwrap_or(0);
        let end = (start + length).min(SIGMA.len());
        let rest = SIGMA.get(end..).unwrap_or_default();
        exercise_file("fuzz.yml", format!("{}{new}{rest}", &SIGMA[..start]).as_bytes());
    }

    #[test]
    fn setting_a_key_changes_that_key_alone(
        keys in prop::collection::btree_map("[a-z]{1,6}", any::<i32>(), 0..5),
        key in "[a-z]{1,6}|\\PC{1,4}",
        value in any::<bool>(),
        pretty in any::<bool>(),
    ) {
        let before = serde_json::to_value(&keys).unwrap();
        let text = if pretty { serde_json::to_string_pretty(&before).unwrap() } else { before.to_string() };
        let changed = set_key(&text, &key, &value.to_string()).unwrap();
        let mut expected = before;
        expected[key] = json!(value);
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&changed).unwrap(), expected);
    }
}

#[test]
fn a_large_file_of_rules_is_read() {
    let rules: Vec<String> =
        (0..20_000).map(|id| rule_text("process", "name = 'a'", &json!({ "id": id }))).collect();
    let outcome = parse_rules("many.json", &format!("[{}]", rules.join(",\n")));
    assert_eq!((outcome.rules.len(), outcome.diagnostics.len()), (20_000, 0));
}

#[test]
fn fifty_thousand_sigma_rules_are_read_and_judge() {
    let one = |id: u32| {
        format!(
            "title: t\nid: r{id}\nlogsource: {{category: process_creation}}\ndetection: {{s: {{Image|endswith: /{id}}}, \
             condition: s}}\n"
        )
    };
    let text = (0..50_000).map(one).collect::<Vec<_>>().join("---\n");
    let outcome = parse_rules("many.yml", &text);
    assert_eq!((outcome.rules.len(), outcome.diagnostics.len()), (50_000, 0));
    let rules = RuleSet::compile(outcome.rules).rules;
    let event = process_start(json!({ "process.executable": "/usr/bin/49999" }));
    let found: Vec<_> = rules.evaluate(&event, Phase::All).iter().map(|it| it.rule.id.to_string()).collect();
    assert_eq!(found, ["r49999"]);
}
