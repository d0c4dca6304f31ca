//! Every rule of the packs under `rules/` loads without a finding, matches the
//! events that it must, and none that it must not.

mod events;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use event_model::ResponseMode;
use events::process_start;
use rule_engine::{ParsedRule, Phase, RuleSet, parse_rules};
use serde_json::Value as Json;

fn pack() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules/linux-starter")
}

fn rule_files() -> BTreeSet<PathBuf> {
    let files = fs::read_dir(pack()).expect("the pack").map(|entry| entry.expect("an entry").path());
    files
        .filter(|path| {
            path.to_string_lossy().ends_with(".json") && !path.to_string_lossy().ends_with(".test.json")
        })
        .collect()
}

fn read(path: &Path) -> Vec<ParsedRule> {
    let text = fs::read_to_string(path).expect("a rule file");
    let outcome = parse_rules(&path.to_string_lossy(), &text);
    let findings: String = outcome.diagnostics.iter().map(|finding| finding.render(&text)).collect();
    assert!(findings.is_empty(), "{findings}");
    outcome.rules
}

#[test]
fn every_rule_matches_what_its_test_says_and_nothing_else() {
    let mut wrong = Vec::new();
    for path in rule_files() {
        let set = RuleSet::compile(read(&path)).rules;
        let tests = fs::read_to_string(path.with_extension("test.json")).expect("a test beside each rule");
        let tests: Json = serde_json::from_str(&tests).expect("JSON");
        for (list, expected) in [("match", true), ("no_match", false)] {
            let events = tests[list].as_array().unwrap_or_else(|| panic!("{}: `{list}`", path.display()));
            assert!(!events.is_empty(), "{}: `{list}` has an event", path.display());
            for event in events {
                let matched = !set.evaluate(&process_start(event.clone()), Phase::All).is_empty();
                if matched != expected {
                    wrong.push(format!("{}: {list}: {event}", path.file_name().unwrap().to_string_lossy()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_event_that_one_rule_must_not_match_is_matched_by_another() {
    let set = RuleSet::compile(rule_files().iter().flat_map(|path| read(path)));
    assert!(set.diagnostics.is_empty(), "{:?}", set.diagnostics);
    for path in rule_files() {
        let tests: Json =
            serde_json::from_str(&fs::read_to_string(path.with_extension("test.json")).unwrap()).unwrap();
        for event in tests["no_match"].as_array().unwrap() {
            let matches = set.rules.evaluate(&process_start(event.clone()), Phase::All);
            let names: Vec<&str> = matches.iter().map(|it| it.rule.name.as_str()).collect();
            assert!(names.is_empty(), "{event}: {names:?}");
        }
    }
}

#[test]
fn rules_of_the_pack_only_report_until_someone_decides_otherwise() {
    for rule in rule_files().iter().flat_map(|path| read(path)) {
        let head = rule.head();
        assert_eq!(head.mode, ResponseMode::Detect, "{}", head.name);
        assert!(!head.description.is_empty() && !head.attack.is_empty(), "{}", head.name);
    }
}
