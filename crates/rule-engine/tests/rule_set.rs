//! Rules as a set: modes, phases, exceptions, ids, counters.

mod events;

use std::time::Duration;

use event_model::{ActionKind, EventRecord, EventType, ResponseMode, Severity};
use events::{process_start, rule, rule_text, set};
use rule_engine::{
    CompileOptions, DiagnosticCode, ExceptionPreview, HostNames, Phase, RuleSet, Telemetry, parse_rules,
};
use serde_json::json;

fn named(name: &str) -> EventRecord {
    process_start(json!({ "process.name": name, "process.hash.sha256": "ab12", "user.name": "ci" }))
}

#[test]
fn the_seeds_rules_load_unchanged_and_fire() {
    let text = include_str!("../testdata/seed/rules.json");
    let set = set(text);
    let trojan = process_start(json!({ "process.name": "my_trojan_x" }));
    let matches = set.evaluate(&trojan, Phase::WithoutHash);
    assert_eq!(matches.len(), 1);
    assert_eq!(matches[0].rule.name, "可疑进程名称");
    assert_eq!(matches[0].matched, ["name contains 'trojan'"]);
    assert_eq!(matches[0].rule.severity, Severity::High);
    assert_eq!(matches[0].rule.mode, ResponseMode::Detect);
    assert_eq!(matches[0].rule.actions, [ActionKind::Alert, ActionKind::Log, ActionKind::TerminateProcess]);
    assert_eq!(matches[0].rule.terminate_grace, Duration::from_secs(1));
    let encoded = process_start(json!({
        "process.name": "pwsh",
        "process.command_line": "powershell -NoProfile -eX -EncodedCommand ZQBjAGgAbwA=",
    }));
    let ids: Vec<&str> = set.evaluate(&encoded, Phase::All).iter().map(|it| it.rule.id.as_str()).collect();
    assert_eq!(ids, ["101"]);
    assert!(set.evaluate(&named("bash"), Phase::All).is_empty());
}

#[test]
fn match_all_wants_every_condition() {
    let conditions = json!(["name = 'a'", "user = 'ci'"]);
    let any = set(&rule_text("process", "", &json!({ "conditions": conditions })));
    let all = set(&rule_text("process", "", &json!({ "conditions": conditions, "match": "all" })));
    assert_eq!(any.evaluate(&named("b"), Phase::All)[0].matched, ["user = 'ci'"]);
    assert!(all.evaluate(&named("b"), Phase::All).is_empty());
    assert_eq!(all.evaluate(&named("a"), Phase::All)[0].matched, ["name = 'a'", "user = 'ci'"]);
}

#[test]
fn rules_that_are_off_are_loaded_and_not_judged() {
    for off in [json!({ "enabled": false }), json!({ "mode": "off" })] {
        let set = set(&rule_text("process", "name = 'a'", &off));
        assert_eq!((set.len(), set.evaluate(&named("a"), Phase::All).len()), (1, 0));
        assert_eq!(set.counters().count(), 0);
    }
}

#[test]
fn rules_with_hash_fields_wait_for_the_hash() {
    let plain = rule_text("process", "name = 'a'", &json!({ "id": "plain" }));
    let hashed = rule_text("process", "sha256 = 'AB12'", &json!({ "id": "hashed" }));
    let excepted =
        json!({ "id": "excepted", "exceptions": [{ "condition": "sha256 = 'ab12'", "reason": "ours" }] });
    let excepted = rule_text("process", "name = 'a'", &excepted);
    let set = set(&format!("[{plain}, {hashed}, {excepted}]"));
    let ids = |phase| {
        let matches = set.evaluate(&named("a"), phase);
        matches.iter().map(|it| it.rule.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(Phase::WithoutHash), ["plain"]);
    assert_eq!(ids(Phase::HashOnly), ["hashed"], "the exception is by hash and holds");
    assert_eq!(ids(Phase::All), ["plain", "hashed"]);
    assert!(set.needs_hash(EventType::ProcessStart));
    assert!(!set.needs_hash(EventType::ProcessExit));
    let counters: Vec<_> =
        set.counters().map(|it| (it.rule.id.to_string(), it.evaluations, it.matches)).collect();
    assert_eq!(counters, [("plain".into(), 2, 2), ("hashed".into(), 2, 2), ("excepted".into(), 2, 0)]);
}

#[test]
fn a_rule_that_is_loaded_anew_goes_on_with_its_counters() {
    let rule = |id: &str, severity: &str| {
        rule_text("process", "name = 'a'", &json!({ "id": id, "severity": severity }))
    };
    let first = set(&format!("[{}, {}]", rule("same", "low"), rule("edited", "low")));
    first.evaluate(&named("a"), Phase::All);
    let mut second = set(&format!("[{}, {}]", rule("edited", "high"), rule("same", "low")));
    second.take_over(&first);
    second.evaluate(&named("a"), Phase::All);
    let counters: Vec<_> = second
        .counters()
        .map(|it| (it.rule.id.as_str(), it.evaluations, it.candidates, it.matches))
        .collect();
    assert_eq!(counters, [("edited", 1, 1, 1), ("same", 2, 2, 2)]);
}

#[test]
fn an_exception_counts_until_it_expires() {
    // The event is of 2026-11-21T20:15:03Z.
    for (expires, fires) in
        [("2026-11-21T20:15:04Z", 0), ("2026-11-21T20:15:03Z", 1), ("2020-01-01T00:00:00Z", 1)]
    {
        let exceptions = json!({ "exceptions": [
            { "condition": "user = 'nobody'", "reason": "another" },
            { "conditions": ["user = 'ci'", "name = 'a'"], "reason": "build", "author": "eve", "expires": expires },
        ]});
        let set = set(&rule_text("process", "name in ('a', 'b')", &exceptions));
        assert_eq!(set.evaluate(&named("a"), Phase::All).len(), fires, "{expires}");
        assert_eq!(
            set.evaluate(&named("b"), Phase::All).len(),
            1,
            "all conditions of an exception must hold"
        );
    }
}

#[test]
fn of_two_rules_with_one_id_the_first_stays() {
    let rule = |name: &str, id| rule_text("process", "name = 'a'", &json!({ "id": id, "name": name }));
    let one_file =
        parse_rules("a.json", &format!("[{},\n{}]", rule("first", json!(7)), rule("second", json!("7"))));
    assert_eq!((one_file.rules.len(), one_file.refused), (1, 1));
    assert_eq!(one_file.rules[0].head().name, "first");
    assert_eq!(
        (one_file.diagnostics[0].code, one_file.diagnostics[0].line),
        (DiagnosticCode::DuplicateId, 2)
    );

    let parse = |file: &str, name| parse_rules(file, &rule(name, json!(7))).rules;
    let files = [parse("a.json", "first"), parse("b.json", "second")].into_iter().flatten();
    let compiled = RuleSet::compile(files);
    assert_eq!(compiled.rules.len(), 1);
    assert_eq!(compiled.diagnostics[0].file, "b.json");
    assert!(compiled.diagnostics[0].reason.contains("a.json:1:"), "{}", compiled.diagnostics[0].reason);
}

#[test]
fn only_an_automatic_rule_that_ends_processes_may_terminate() {
    let cases = [
        (json!({ "mode": "auto", "actions": ["alert", "terminate_process"] }), true),
        (json!({ "mode": "auto", "actions": ["kill_tree"] }), true),
        (json!({ "mode": "auto", "actions": ["alert"] }), false),
        (json!({ "mode": "detect", "actions": ["terminate_process"] }), false),
        (json!({ "mode": "auto", "actions": ["terminate_process"], "enabled": false }), false),
    ];
    for (keys, expected) in cases {
        let set = set(&rule_text("process", "name = 'a'", &keys));
        assert_eq!(set.may_terminate_on(EventType::ProcessStart), expected, "{keys}");
        assert!(!set.may_terminate_on(EventType::ProcessExit));
    }
}

#[test]
fn rules_whose_events_nobody_collects_load_and_are_known() {
    let rules = [
        ("process", "name = 'a'", Telemetry::ProcessStart),
        ("process", "exit_code > 0", Telemetry::ProcessExit),
        ("network", "remote_port = 4444 and name = 'nc'", Telemetry::Network),
        ("file", "path startswith '/etc/' and operation = 'modify'", Telemetry::File),
        ("registry", r"key contains '\Run' and data contains 'powershell'", Telemetry::Registry),
        ("attack", "task_command contains 'curl'", Telemetry::Task),
        ("attack", "file.path endswith '.so'", Telemetry::File),
        ("event_log", "event_id in (4625, 1102) and channel = 'Security'", Telemetry::EventLog),
    ];
    for (kind, condition, telemetry) in rules {
        let condition = condition.replace("name = 'nc'", "process.name = 'nc'");
        let rule = rule(&rule_text(kind, &condition, &json!({})));
        assert_eq!(rule.telemetry(), telemetry, "{condition}");
        let compiled = RuleSet::compile([rule]).rules;
        let starves = telemetry != Telemetry::ProcessStart;
        assert_eq!(
            compiled.without_source(&[EventType::ProcessStart]).len(),
            usize::from(starves),
            "{condition}"
        );
    }
}

#[test]
fn a_rule_keeps_its_text_and_its_head_serialises() {
    let text = "[ {\"id\": 1, \"name\":\"a\",\n \"type\":\"process\", \"severity\":\"low\", \"conditions\": [ \"pid = 1\" ],\"actions\":[\"alert\",\"alert\"]} ]";
    let rule = rule(text);
    assert_eq!(rule.text(), text.trim_matches(['[', ']', ' ']));
    let head = serde_json::to_value(rule.head()).expect("serialises");
    let expected = json!({
        "id": "1", "name": "a", "description": "", "type": "process", "severity": "low", "enabled": true,
        "mode": "detect", "actions": ["alert"], "match": "any", "attack": [], "tags": [], "references": [],
        "terminate_grace_ms": 1000, "conditions": ["pid = 1"], "exceptions": [],
    });
    assert_eq!(head, expected);
}

#[test]
fn a_set_is_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&RuleSet::default());
}

#[test]
fn an_exception_can_be_for_some_hosts() {
    let exceptions = json!({ "exceptions": [
        { "condition": "user = 'ci'", "hosts": ["build-*", "0B0B0B0B-0000-0000-0000-000000000001"], "reason": "builds" },
    ] });
    let text = rule_text("process", "name = 'a'", &exceptions);
    let found_on = |host: Option<(&str, &str)>| {
        let host = host.map(|(name, id)| HostNames { name: name.into(), id: id.into() });
        let options = CompileOptions { host, ..CompileOptions::default() };
        RuleSet::compile_with([rule(&text)], options).rules.evaluate(&named("a"), Phase::All).len()
    };
    assert_eq!(found_on(Some(("Build-7", "x"))), 0, "by a part of the name, without case");
    assert_eq!(found_on(Some(("web", "0b0b0b0b-0000-0000-0000-000000000001"))), 0, "by the id");
    assert_eq!((found_on(Some(("rebuild-7", "x"))), found_on(None)), (1, 1));
    let whole =
        rule_text("process", "name = 'a'", &json!({ "exceptions": [{ "hosts": ["lab"], "reason": "lab" }] }));
    assert_eq!(rule(&whole).head().exceptions[0].hosts, ["lab"], "a host alone is enough");
    for hosts in [json!([]), json!(["*"]), json!("lab"), json!([7])] {
        let exceptions = json!({ "exceptions": [{ "hosts": hosts, "reason": "x" }] });
        assert!(!parse_rules("x.json", &rule_text("process", "name = 'a'", &exceptions)).is_ok(), "{hosts}");
    }
}

#[test]
fn a_preview_tells_which_events_an_exception_would_hide() {
    let rule = rule(&rule_text("process", "name = 'a'", &json!({})));
    let host = HostNames { name: "web-1".into(), id: "7".into() };
    let hides = |exception: &serde_json::Value, event: &EventRecord| {
        ExceptionPreview::new(&rule, &exception.to_string()).expect("a good one").hides(event, &host)
    };
    let event = named("a");
    let with = |more: serde_json::Value| {
        let mut exception = json!({ "condition": "user = 'ci'", "reason": "x" });
        more.as_object().expect("keys").iter().for_each(|(key, value)| exception[key] = value.clone());
        exception
    };
    assert!(hides(&with(json!({})), &event));
    assert!(hides(&with(json!({ "condition": "sha256 = 'ab12'" })), &event), "what needs the hash has it");
    assert!(!hides(&with(json!({ "condition": "user = 'root'" })), &event));
    assert!(hides(&with(json!({ "hosts": ["web-*"] })), &event));
    assert!(!hides(&with(json!({ "hosts": ["db-*"] })), &event));
    assert!(hides(&json!({ "hosts": ["web-1"], "reason": "x" }), &event), "all of the rule on this host");
    assert!(!hides(&with(json!({ "expires": "2026-11-21T20:15:03Z" })), &event), "it had expired by then");
    for (bad, part) in [
        (json!({ "condition": "usr = 'ci'", "reason": "x" }), "`usr` is not a field"),
        (json!({ "condition": "user = 'ci'" }), "no `reason`"),
        (json!({ "condition": "exit_code = 1", "reason": "x" }), "which have no"),
        (json!([]), "a list"),
    ] {
        let diagnostics = ExceptionPreview::new(&rule, &bad.to_string()).expect_err("refused");
        assert!(diagnostics.iter().any(|it| it.reason.contains(part)), "{part}: {diagnostics:#?}");
    }
    assert!(ExceptionPreview::new(&rule, "{").is_err());
}
