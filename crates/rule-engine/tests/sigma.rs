//! Sigma rules: what each part of the language means, and how errors are told.

mod events;
mod logs;

use event_model::{EventType, Severity};
use logs::{fault, holds, judged, routed, rule_text, rules, rules_with, set};
use rule_engine::{CompileOptions, LogSources, Phase, RuleSet, SigmaOptions, parse_rules};
use serde_json::{Value, json};

/// Whether `sel: {item}` matches a record.
fn item(item: &str, record: &Value) -> bool {
    holds(&format!("  sel:\n    {item}\n  condition: sel"), record)
}

#[test]
fn each_modifier_means_what_the_specification_says() {
    let cases: &[(&str, Value, Value)] = &[
        ("F: abc", json!("ABC"), json!("abcd")),
        ("F: 4688", json!("4688"), json!(4689)),
        ("F: '4688'", json!(4688), json!("04688")),
        ("F: [a, b]", json!("B"), json!("c")),
        ("F|contains: bc", json!("aBCd"), json!("b c")),
        ("F|contains|all: [a, b]", json!("xbxa"), json!("aa")),
        ("F|startswith: /usr", json!("/USR/bin"), json!("x/usr")),
        (r"F|endswith: '\cmd.exe'", json!(r"C:\CMD.EXE"), json!("cmd.exe")),
        ("F|cased: Abc", json!("Abc"), json!("abc")),
        ("F|contains|cased: Abc", json!("xAbcx"), json!("xabcx")),
        ("F|neq: a", json!("b"), json!("A")),
        ("F|exists: true", json!(""), Value::Null),
        ("F|re: ^a.c$", json!("abc"), json!("ABC")),
        ("F|re|i: ^a.c$", json!("ABC"), json!("abd")),
        ("F|re|s: ^a.c$", json!("a\nc"), json!("ac")),
        ("F|re|m: ^b$", json!("a\nb"), json!("ab")),
        ("F|re|startswith: b", json!("bc"), json!("ab")),
        ("F|cidr: 10.1.0.0/16", json!("10.1.255.3"), json!("10.2.0.1")),
        ("F|cidr: 2001:db8::/32", json!("2001:DB8::1"), json!("2001:db9::1")),
        ("F|base64: foobar", json!("Zm9vYmFy"), json!("Zm9v")),
        ("F|base64offset|contains: 'http://'", json!("AAh0dHA6Ly9hYg"), json!("http://")),
        ("F|wide|base64offset|contains: http", json!("xaAB0AHQAcA"), json!("aHR0cA")),
        ("F|utf16|base64|startswith: a", json!("//5hAA=="), json!("YQA=")),
        ("F|windash|contains: ' -enc'", json!("x /ENC y"), json!("x enc")),
        ("F|windash|contains: ' -a -b -c -d -e'", json!("x /a –b —c ―d -e"), json!(" -a -b -c -d e")),
        ("F|lt: 10", json!(9.5), json!(10)),
        ("F|lte: 10", json!("10"), json!("11")),
        ("F|gt: 10", json!(11), json!("x")),
        ("F|gte: 1.5", json!(1.5), json!(1)),
        ("F|hour: 20", json!("2026-11-21T20:15:03Z"), json!("2026-11-21T19:59:59Z")),
        ("F|week|gte: 47", json!("2026-11-21T20:15:03Z"), json!("2026-01-21T20:15:03Z")),
        ("F|fieldref: G", json!("SAME"), json!("other")),
        ("F|fieldref|startswith: G", json!("same-and-more"), json!("not same")),
        ("F: ''", json!(""), json!(" ")),
        ("F: '*'", json!(""), Value::Null),
        (r"F: 'a\*b'", json!("a*b"), json!("axb")),
        ("F: 'a?c*'", json!("ABCdef"), json!("ac")),
        ("F: true", json!(true), json!(false)),
        ("F Name|contains: a", json!("unused"), json!("unused")),
    ];
    for (text, yes, no) in cases {
        if text.starts_with("F Name") {
            assert!(item(text, &json!({"FName": "xax"})), "spaces in names don't count");
            continue;
        }
        assert!(item(text, &json!({"F": yes, "G": "same"})), "{text}: {yes}");
        assert!(
            !item(text, &if no.is_null() { json!({"G": "same"}) } else { json!({"F": no, "G": "same"}) }),
            "{text}: {no}"
        );
    }
}

#[test]
fn missing_null_and_empty_are_kept_apart() {
    let cases = [
        ("F: null", [true, true, false, false]),
        ("F: ''", [false, false, true, false]),
        ("F|exists: false", [true, false, false, false]),
        ("F|exists: true", [false, true, true, true]),
        ("F|neq: x", [true, true, true, false]),
        ("F: [null, '']", [true, true, true, false]),
    ];
    for (text, expected) in cases {
        let records = [json!({}), json!({"F": null}), json!({"F": ""}), json!({"F": "x"})];
        assert_eq!(records.map(|record| item(text, &record)), expected, "{text}");
    }
}

#[test]
fn a_list_matches_where_one_of_its_values_does() {
    assert!(item("F|contains|all: [a, b]", &json!({"F": ["xa", "xb"]})));
    assert!(item("F: b", &json!({"F": ["a", "b"]})));
    assert!(!item("F|neq: b", &json!({"F": ["a", "b"]})));
}

#[test]
fn identifiers_are_maps_lists_and_keywords() {
    let maps = "  sel:\n    - A: 1\n      B: 2\n    - C: 3\n  condition: sel";
    assert!(holds(maps, &json!({"A": 1, "B": 2})) && holds(maps, &json!({"C": 3})));
    assert!(!holds(maps, &json!({"A": 1, "C": 4})));
    let words = "  keywords: ['rm -rf', 'a*z']\n  condition: keywords";
    assert!(holds(words, &json!({"x": "sudo RM -RF /"})) && holds(words, &json!({"y": "-abcz-"})));
    assert!(!holds(words, &json!({"x": "rm", "y": "-rf"})));
    let all = "  keywords:\n    '|all': [one, two]\n  condition: keywords";
    assert!(holds(all, &json!({"x": "one", "y": "two"})) && !holds(all, &json!({"x": "one"})));
    let mixed = "  sel:\n    - word\n    - F: x\n  condition: sel";
    assert!(holds(mixed, &json!({"any": "a word"})) && holds(mixed, &json!({"F": "x"})));
    let regex = "  sel:\n    '|re': 'w.rd$'\n  condition: sel";
    assert!(holds(regex, &json!({"any": "a word"})) && !holds(regex, &json!({"any": "words"})));
}

#[test]
fn conditions_join_identifiers() {
    let detection = |condition: &str| {
        format!(
            "  sel_a: {{A: 1}}\n  sel_b: {{B: 1}}\n  _hidden: {{H: 1}}\n  filter: {{F: 1}}\n  condition: {condition}"
        )
    };
    let cases = [
        ("1 of sel_* and not filter", json!({"A": 1}), json!({"A": 1, "F": 1})),
        ("all of sel*", json!({"A": 1, "B": 1}), json!({"A": 1})),
        ("1 of them", json!({"F": 1}), json!({"H": 1})),
        ("any of _hid*", json!({"H": 1}), json!({"A": 1})),
        ("all of them", json!({"A": 1, "B": 1, "F": 1}), json!({"A": 1, "B": 1, "H": 1})),
        ("sel_a OR sel_b AND NOT filter", json!({"A": 1, "F": 1}), json!({"B": 1, "F": 1})),
        ("[sel_a, sel_b]", json!({"B": 1}), json!({"H": 1})),
        ("not (sel_a or filter)", json!({}), json!({"A": 1})),
    ];
    for (condition, yes, no) in cases {
        assert!(holds(&detection(condition), &yes), "{condition}");
        assert!(!holds(&detection(condition), &no), "{condition}");
    }
}

#[test]
fn errors_stand_where_the_author_made_them() {
    let one = |line: &str| rule_text(&format!("  sel:\n    {line}\n  condition: sel"));
    assert_eq!(fault(&one("Field|contians: a")), ("bad-modifier", 6, 11, 19));
    assert_eq!(fault(&one("Field|re: 'a(b'  # why")), ("bad-regex", 6, 17, 18));
    assert_eq!(fault(&one("Field|re: '(?<!a)b'")), ("bad-regex", 6, 16, 20));
    assert_eq!(fault(&one(r"Field|re: '\w{1000}x'")), ("regex-too-large", 6, 15, 26));
    assert_eq!(fault(&one("Field|cidr: 10.0.0.0/40")), ("bad-value", 6, 17, 28));
    assert_eq!(fault(&one("Field|lt: many")), ("bad-number", 6, 15, 19));
    assert_eq!(fault(&one("Field|base64: a*b")), ("bad-modifier", 6, 19, 22));
    assert_eq!(fault(&one("Field|exists: 'yes'")), ("wrong-type", 6, 19, 24));
    assert_eq!(fault(&one("Field: {a: b}")), ("wrong-type", 6, 12, 13));
    assert_eq!(fault(&one("Field: []")), ("bad-value", 6, 12, 13));
    assert_eq!(fault(&one("F: 1\n    F: 2")), ("duplicate-key", 7, 5, 6));
    let condition = |text: &str| rule_text(&format!("  sel: {{A: 1}}\n  condition: {text}"));
    assert_eq!(fault(&condition("sel and sle")), ("bad-reference", 6, 22, 25));
    assert_eq!(fault(&condition("'(sel'")), ("bad-condition", 6, 15, 16));
    assert_eq!(fault(&condition("sel | count() > 5")), ("bad-condition", 6, 18, 31));
    assert_eq!(fault(&condition("1 of filter_*")), ("bad-reference", 6, 14, 27));
    assert_eq!(
        fault("title: t\nlevel: hihg\nlogsource: {product: a}\ndetection:\n  s: {A: 1}\n  condition: s\n"),
        ("bad-value", 2, 8, 12)
    );
    assert_eq!(fault("title: t\ndetection:\n  s: {A: 1}\n  condition: s\n").0, "missing-key");
    assert_eq!(fault("title: [t\n").0, "bad-yaml");
    assert_eq!(fault("- 1\n").0, "not-a-rule");
    assert_eq!(fault("").0, "not-a-rule");
}

#[test]
fn a_bad_rule_leaves_the_others() {
    let good = |id: &str| rule_text("  s: {A: 1}\n  condition: s").replace("one", id);
    let bad = good("bad").replace("condition: s", "condition: t");
    let outcome =
        parse_rules("many.yml", &format!("{}---\n{bad}---\n{}---\n{}", good("a"), good("b"), good("a")));
    let ids: Vec<_> = outcome.rules.iter().map(|rule| rule.head().id.to_string()).collect();
    assert_eq!((ids, outcome.refused), (vec!["a".into(), "b".to_owned()], 2));
    let text = outcome.rules[1].text();
    assert!(text.contains("id: b") && !text.contains("id: a"), "{text}");
}

#[test]
fn collections_share_repeat_and_reset() {
    let text = "action: global\ntitle: t\nlogsource: {product: linux, service: auditd}\ndetection: {condition: s}\n---\n\
        id: a\ndetection: {s: {A: 1}}\n---\nid: b\naction: repeat\ndetection: {s: {B: 1}}\n---\naction: reset\n---\n\
        title: u\nid: c\nlogsource: {product: linux, service: auditd}\ndetection: {s: {C: 1}, condition: s}\n";
    let set = set(text);
    assert_eq!(judged(&set, &json!({"A": 1, "C": 1})), ["a", "c"]);
    assert_eq!(judged(&set, &json!({"A": 1, "B": 1})), ["a", "b"]);
}

#[test]
fn the_head_is_what_the_rule_says() {
    let text = "title: A thing\nid: 0c0c\nlevel: critical\nstatus: test\ntags: [attack.execution, attack.t1059.001, attack.T1003]\n\
        references: [https://example.org]\nlogsource: {category: process_creation, product: linux}\n\
        detection: {s: {Image: x}, condition: s}\n";
    let rules = rules(text);
    let head = rules[0].head();
    assert_eq!(
        (head.id.as_str(), head.name.as_str(), head.severity),
        ("0c0c", "A thing", Severity::Critical)
    );
    assert_eq!(head.attack, ["T1059.001", "T1003"]);
    assert_eq!(head.conditions, ["s"]);
    assert_eq!(rules[0].log_source().and_then(|it| it.product.as_deref()), Some("linux"));
}

#[test]
fn placeholders_need_values() {
    let text = rule_text("  s: {User|expand: '%admins%'}\n  condition: not s");
    let outcome = parse_rules("p.yml", &text);
    assert_eq!(outcome.diagnostics[0].code.as_str(), "no-placeholder");
    let set = RuleSet::compile(outcome.rules).rules;
    assert_eq!((set.len(), judged(&set, &json!({"User": "x"})).len()), (1, 0), "loaded, not judged");
    let mut options = SigmaOptions::default();
    let error = options.add_placeholders("p.yml", "admins:\n  - {a: b}\n").expect_err("a map is no value");
    assert_eq!((error.line, error.column), (2, 3));
    options.add_placeholders("p.yml", "admins: [root, adm*]\n").expect("a good file");
    let set = RuleSet::compile(rules_with(&text, &options)).rules;
    assert!(judged(&set, &json!({"User": "Admin"})).is_empty());
    assert_eq!(judged(&set, &json!({"User": "guest"})).len(), 1);
}

#[test]
fn windows_events_find_their_rules() {
    let rule = |id: &str, source: &str, detection: &str| {
        format!(
            "title: {id}\nid: {id}\nlogsource: {{product: windows, {source}}}\ndetection: {{s: {{{detection}}}, condition: s}}\n"
        )
    };
    let text = [
        rule("created", "category: process_creation", r"Image|endswith: '\cmd.exe'"),
        rule("by-service", "service: security", r"NewProcessName|endswith: '\cmd.exe'"),
        rule("renamed-only-by-category", "service: security", r"Image|endswith: '\cmd.exe'"),
        rule("set", "category: registry_set", "TargetObject|contains: Run"),
        rule("deleted", "category: registry_delete", "TargetObject|contains: Run"),
        rule("any-registry", "category: registry_event", "TargetObject|contains: Run"),
    ]
    .join("---\n");
    let set = set(&text);
    let sysmon = "Microsoft-Windows-Sysmon/Operational";
    let cases = [
        (json!({"Channel": sysmon, "EventID": 1, "Image": r"C:\cmd.exe"}), vec!["created"]),
        (
            json!({"Channel": "security", "EventID": "4688", "NewProcessName": r"C:\CMD.exe"}),
            vec!["created", "by-service"],
        ),
        (json!({"Channel": sysmon, "EventID": 13, "TargetObject": "Run"}), vec!["set", "any-registry"]),
        (
            json!({"Channel": sysmon, "EventID": 12, "EventType": "CreateKey", "TargetObject": "Run"}),
            vec!["any-registry"],
        ),
        (
            json!({"Channel": sysmon, "EventID": 12, "EventType": "DeleteValue", "TargetObject": "Run"}),
            vec!["deleted", "any-registry"],
        ),
        (json!({"Channel": "Other", "EventID": 1, "Image": r"C:\cmd.exe"}), vec![]),
        (json!({"EventID": 1, "Image": r"C:\cmd.exe"}), vec![]),
    ];
    for (record, expected) in cases {
        assert_eq!(routed(&set, &record), expected, "{record}");
    }
}

#[test]
fn documents_that_share_an_id_load_each_with_its_own() {
    let ids = |text: &str| {
        let set = RuleSet::compile(rules(text)).rules;
        set.rules().map(|rule| rule.head().id.to_string()).collect::<Vec<_>>()
    };
    let global = "action: global\ntitle: t\nid: shared\ndetection: {s: {Image: x}, condition: s}\n---\n";
    let source = |service: &str| format!("logsource: {{product: linux, service: {service}}}\n");
    let own = format!("id: own\n{}", source("cron"));
    let repeat = format!("action: repeat\n{}", source("sudo"));
    let text = [source("auditd"), own, source("sshd"), repeat].join("---\n");
    assert_eq!(ids(&format!("{global}{text}")), ["shared", "own", "shared-2", "shared-3"]);
    let by_title = global.replace("id: shared\n", "");
    assert_eq!(ids(&format!("{by_title}{text}")), ["t", "own", "t-2", "t-3"]);
    let twice = format!(
        "{}---\n{}",
        rule_text("  s: {A: b}\n  condition: s"),
        rule_text("  s: {A: b}\n  condition: s")
    );
    assert_eq!(fault(&twice).0, "duplicate-id", "who writes an id twice is told");
}

#[test]
fn a_condition_that_is_true_for_everything_is_told() {
    for selection in
        ["Image: '*'", "Image|contains: ''", "Image|exists: true", "Image|re: '.*'", "'|contains': ''"]
    {
        let text = rule_text(&format!("  s:\n    {selection}\n  condition: s"));
        assert_eq!((fault(&text).0, rules(&text).len()), ("always-true", 1), "{selection}");
    }
    for selection in ["Image: '?*'", "Image: ''", "Image: null", "Image|re: '^$'", "Image|re: 'a|b'"] {
        let text = rule_text(&format!("  s:\n    {selection}\n  condition: s"));
        assert!(parse_rules("test.yml", &text).diagnostics.is_empty(), "{selection}");
    }
    let but = rule_text("  s: {Image: '*'}\n  f: {User: x}\n  condition: s and not f");
    assert!(parse_rules("test.yml", &but).diagnostics.is_empty(), "some events are left out");
}

#[test]
fn users_add_log_sources() {
    let file = "sources:\n  - product: windows\n    category: process_creation\n    when: {kind: exec}\n    fields: {Image: exe}\n";
    let log_sources = LogSources::builtin().with_file_first("mine.yml", file).expect("a good file");
    let text = "title: t\nid: a\nlogsource: {category: process_creation}\ndetection: {s: {Image: x}, condition: s}\n";
    let options = CompileOptions { log_sources, ..CompileOptions::default() };
    let set = RuleSet::compile_with(rules(text), options).rules;
    assert_eq!(routed(&set, &json!({"kind": "EXEC", "exe": "x"})), ["a"]);
    let errors = LogSources::builtin()
        .with_file_first("mine.yml", "sources:\n  - {prodcut: a}\n")
        .expect_err("a misspelt key");
    assert_eq!((errors[0].line, errors[0].column), (2, 6));
    assert!(errors[0].hint.as_deref().is_some_and(|hint| hint.contains("product")));
}

#[test]
fn live_events_are_judged_by_sigma_rules_for_their_system() {
    let rule = |id: &str, product: &str, detection: &str| {
        format!(
            "title: {id}\nid: {id}\nlogsource: {{category: process_creation, product: {product}}}\ndetection: {{s: {{{detection}}}, condition: s}}\n"
        )
    };
    let text = [
        rule("linux", "linux", "Image|endswith: /nc, CommandLine|contains: ' -e '"),
        rule("windows", "windows", "Image|endswith: /nc"),
        rule("hash", "linux", "Hashes|contains: SHA256=AB12"),
        rule("absent", "linux", "OriginalFileName: null, User: ci"),
    ]
    .join("---\n");
    let options = CompileOptions { live_product: Some("linux".into()), ..CompileOptions::default() };
    let set = RuleSet::compile_with(rules(&text), options).rules;
    let event = events::process_start(json!({
        "process.executable": "/usr/bin/nc", "process.command_line": "nc -e /bin/sh", "process.hash.sha256": "ab12", "user.name": "ci",
    }));
    let ids = |phase| set.evaluate(&event, phase).iter().map(|it| it.rule.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(Phase::WithoutHash), ["linux", "absent"]);
    assert_eq!(ids(Phase::HashOnly), ["hash"]);
    assert!(set.needs_hash(EventType::ProcessStart));
}

#[test]
fn keywords_and_correlations_work_on_live_events() {
    let text = "title: k\nid: k\nlogsource: {product: linux}\ndetection: {words: ['/shadow', nothing], condition: words}\n---\n\
        title: base\nid: base\nlogsource: {category: process_creation}\ndetection: {s: {Image|endswith: /cat}, condition: s}\n---\n\
        title: c\nid: c\ncorrelation: {type: event_count, rules: [base], group-by: [User], timespan: 1m, condition: {gte: 2}}\n";
    let set = set(text);
    let event = |user: &str| {
        events::process_start(json!({
            "process.executable": "/usr/bin/cat", "process.command_line": "cat /etc/SHADOW", "user.name": user,
        }))
    };
    let ids = |user: &str| {
        let matches = set.evaluate(&event(user), Phase::All);
        matches.iter().map(|it| it.rule.id.to_string()).collect::<Vec<_>>().join("+")
    };
    assert_eq!(["a", "b", "a"].map(ids), ["k", "k", "k+c"]);
}

#[test]
fn native_rules_judge_records_of_logs() {
    let rules = |kind: &str, condition: &str| {
        parse_rules("a.json", &events::rule_text(kind, condition, &json!({}))).rules
    };
    let security = json!({"Channel": "Security", "EventID": 4688, "NewProcessName": r"C:\Windows\cmd.exe", "CommandLine": "cmd /c x"});
    let by_log = RuleSet::compile(rules("event_log", "event_id = 4688 and channel = 'security'")).rules;
    assert_eq!(routed(&by_log, &security), ["1"]);
    let by_process =
        RuleSet::compile(rules("process", r"path endswith '\cmd.exe' and cmdline contains '/c'")).rules;
    assert_eq!(routed(&by_process, &security), ["1"]);
    assert!(
        routed(&by_process, &json!({"Channel": "Security", "EventID": 4624, "CommandLine": "cmd /c x"}))
            .is_empty()
    );
}

#[test]
fn filters_are_added_as_written() {
    let rule = rule_text("  s: {A: 1}\n  condition: s");
    let filter = |rules: &str, condition: &str| {
        format!(
            "---\ntitle: f\nid: f\nlogsource: {{product: linux}}\nfilter:\n  rules: {rules}\n  ours: {{User: build}}\n  condition: {condition}\n"
        )
    };
    for rules_key in ["[one]", "any"] {
        let set = set(&format!("{rule}{}", filter(rules_key, "not ours")));
        assert_eq!((set.len(), set.filters()), (1, 1));
        assert_eq!(judged(&set, &json!({"A": 1})), ["one"]);
        assert!(judged(&set, &json!({"A": 1, "User": "BUILD"})).is_empty());
    }
    let outcome = parse_rules("f.yml", &format!("{rule}{}", filter("[one]", "ours")));
    assert_eq!(outcome.diagnostics[0].code.as_str(), "filter-keeps");
    let set = RuleSet::compile(outcome.rules).rules;
    assert!(
        judged(&set, &json!({"A": 1})).is_empty()
            && !judged(&set, &json!({"A": 1, "User": "build"})).is_empty()
    );
    let other = rules(&format!("{rule}{}", filter("[two]", "not ours")));
    assert_eq!(RuleSet::compile(other).diagnostics[0].code.as_str(), "bad-reference");
}

#[test]
fn counters_tell_how_much_a_rule_works() {
    let set = set(&rule_text("  s: {A|contains: longword}\n  f: {B: x}\n  condition: s and not f"));
    for record in [json!({"A": "a longword", "B": "x"}), json!({"A": "a longword"}), json!({"A": "other"})] {
        judged(&set, &record);
    }
    let counters: Vec<_> = set.counters().map(|it| (it.evaluations, it.candidates, it.matches)).collect();
    assert_eq!(counters, [(3, 2, 1)]);
}
