//! Rules and their version.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use event_model::{ResponseMode, RuleId, Severity};

use super::{NOON, Open, after_noon};
use crate::{NewRule, RuleHead, RuleOrigin, RulePatch, StateError};

fn rule(id: &str, name: &str) -> NewRule {
    NewRule {
        head: RuleHead {
            id: RuleId::new(id),
            name: name.to_owned(),
            rule_type: "process".to_owned(),
            severity: Severity::High,
            enabled: true,
            mode: ResponseMode::Detect,
        },
        text: format!("{{ \"id\": \"{id}\",\n  \"name\": \"{name}\" }}\n"),
    }
}

pub(super) fn every_change_bumps_the_version(place: &Path, open: Open<'_>) {
    let store = open(place);
    assert_eq!(store.rules().expect("rules").version, 0);
    let milliseconds = NOON.as_millis().unsigned_abs();
    let id = RuleId::new("1");
    assert_eq!(store.create_rule(&rule("1", "first"), "eve", NOON).expect("made"), milliseconds);
    assert_eq!(
        store.create_rule(&rule("2", "second"), "eve", NOON).expect("made"),
        milliseconds + 1,
        "same ms"
    );
    let replaced = store.replace_rule(&rule("1", "renamed"), "bob", NOON).expect("replaced");
    assert_eq!(replaced, milliseconds + 2);
    let patch = RulePatch { enabled: Some(false), mode: Some(ResponseMode::Auto), text: None };
    let patched = store.patch_rule(&id, &patch, "amy", after_noon(1)).expect("patched");
    assert_eq!(patched, milliseconds + 1_000);
    assert_eq!(
        store.delete_rule(&RuleId::new("2"), after_noon(-50)).expect("removed"),
        patched + 1,
        "also when the clock went back"
    );

    let several = [rule("3", "third"), rule("4", "fourth"), rule("1", "again")];
    assert!(matches!(store.create_rules(&several, "eve", NOON), Err(StateError::Conflict { .. })));
    assert_eq!(store.rule(&RuleId::new("3")).expect("read"), None, "all or none");

    for refused in [
        store.create_rule(&rule("1", "again"), "eve", NOON),
        store.replace_rule(&rule("9", "nobody"), "eve", NOON),
        store.patch_rule(&RuleId::new("9"), &patch, "eve", NOON),
        store.delete_rule(&RuleId::new("9"), NOON),
    ] {
        assert!(
            matches!(refused, Err(StateError::Conflict { .. } | StateError::NotFound { what: "rule", .. })),
            "{refused:?}"
        );
    }
    drop(store);
    let store = open(place);
    let set = store.rules().expect("rules");
    assert_eq!((set.version, store.rules_version().expect("a version")), (patched + 1, patched + 1));
    let [kept] = set.rules.as_slice() else { panic!("one rule, not {:?}", set.rules) };
    assert_eq!(kept.text, rule("1", "renamed").text, "as written");
    assert_eq!((kept.head.enabled, kept.head.mode), (false, ResponseMode::Auto));
    assert_eq!((kept.origin, kept.updated_by.as_str()), (RuleOrigin::User, "amy"));
    assert_eq!(store.rule(&id).expect("a look-up").as_ref(), Some(kept));

    assert_eq!(
        store.set_mode_of_all(ResponseMode::Auto, "amy", NOON).expect("nothing to do"),
        (patched + 1, 0)
    );
    assert_eq!(store.set_mode_of_all(ResponseMode::Detect, "amy", NOON).expect("set"), (patched + 2, 1));
}

pub(super) fn starter_rules_come_once(place: &Path, open: Open<'_>) {
    let store = open(place);
    let pack = [rule("s1", "one"), rule("s2", "two")];
    assert!(store.insert_starter_rules(&pack, NOON).expect("put in"));
    assert!(!store.insert_starter_rules(&pack, NOON).expect("there before"));
    let rules = store.rules().expect("rules").rules;
    assert!(rules.iter().all(|rule| rule.origin == RuleOrigin::Starter) && rules.len() == 2);
    for rule in &pack {
        store.delete_rule(&rule.head.id, NOON).expect("removed");
    }
    drop(store);
    let store = open(place);
    assert!(!store.insert_starter_rules(&pack, NOON).expect("they were removed on purpose"));
    assert!(store.rules().expect("rules").rules.is_empty());
}

pub(super) fn rules_and_version_are_of_one_moment(place: &Path, open: Open<'_>) {
    let store = open(place);
    let base = store.create_rule(&rule("0", "0"), "eve", NOON).expect("made");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let set = store.rules().expect("rules");
                // Rule and version change together: one more rule, one more version.
                assert_eq!(set.rules.len() as u64, set.version - base + 1);
            }
        });
        for number in 1..=40 {
            store.create_rule(&rule(&number.to_string(), "more"), "eve", NOON).expect("made");
        }
        done.store(true, Ordering::Relaxed);
        reader.join().expect("a reader that saw nothing wrong");
    });
}
