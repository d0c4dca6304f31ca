//! `edr rules test`, `stats` and `explain` as a user runs them.

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value as Json, json};

const SIGMA: &str = "title: Whoami\nid: 8f9b6c2e-0000-4000-8000-000000000001\nlevel: high\ntags: [attack.t1033]\n\
    logsource: {product: windows, category: process_creation}\n\
    detection:\n    sel:\n        Image|endswith: '\\whoami.exe'\n    filter:\n        User: admin\n    condition: sel and not filter\n";

fn edr(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edr")).args(arguments).current_dir(folder).output().expect("edr runs")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules")
}

fn native(id: &str, condition: &str) -> String {
    json!({"id": id, "name": "n", "description": "d", "type": "process", "severity": "low", "enabled": true,
        "conditions": [condition], "actions": ["log"]})
    .to_string()
}

/// A pack with a native rule and a Sigma rule, both with good tests.
fn pack() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "pack.toml",
        "id = \"p\"\nname = \"P\"\nversion = \"1.0.0\"\nauthors = [\"a\"]\nlicense = \"MIT\"\ndescription = \"d\"\nrequires = [\"process_start\"]\n",
    );
    write("one.json", &native("one", "name = 'nc' and cmdline contains '-e'"));
    write(
        "one.test.json",
        r#"{"match": [{"process": {"name": "nc", "command_line": "nc -e /bin/sh"}}], "no_match": [{"process.name": "nc"}]}"#,
    );
    write("two.yml", SIGMA);
    write(
        "two.test.json",
        r#"{"match": [{"Image": "C:\\x\\whoami.exe"}, {"rampart.event.type": "process_start", "process.executable": "C:\\whoami.exe"}],
            "no_match": [{"Image": "C:\\x\\whoami.exe", "User": "ADMIN"}]}"#,
    );
    folder
}

#[test]
fn every_rule_of_the_shipped_packs_passes_its_test() {
    let output = edr(&shipped(), &["rules", "test", "."]);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    assert!(out(&output).contains("pack linux-starter 1.0.0"), "{}", out(&output));
    assert!(out(&output).ends_with("0 failed, 0 without a test, 0 other faults\n"), "{}", out(&output));
}

#[test]
fn a_pack_with_native_and_sigma_rules_passes() {
    let pack = pack();
    let output = edr(pack.path(), &["rules", "test", "."]);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    assert!(out(&output).contains("2 rules with 5 events: 0 failed"), "{}", out(&output));
    // A file named alone is still of its pack.
    let output = edr(pack.path(), &["rules", "test", "./two.yml"]);
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
    assert!(out(&output).contains("pack p 1.0.0"), "{}", out(&output));
}

#[test]
fn what_is_wrong_with_a_pack_is_told_and_ends_with_1() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "one.test.json",
            r#"{"match": [{"process.name": "sh"}], "no_match": [{"process.name": "sh"}]}"#,
            "match[0]: the rule does not match, and must",
        ),
        (
            "one.test.json",
            r#"{"match": [{"process.name": "nc", "process.command_line": "-e"}], "no_match": [{"process.name": "nc", "process.command_line": "-e"}]}"#,
            "no_match[0]: the rule matches, and must not",
        ),
        ("one.test.json", r#"{"match": [], "no_match": [{"process.name": "sh"}]}"#, "`match` has no event"),
        (
            "one.test.json",
            r#"{"match": [{"process.nam": "nc"}], "no_match": [{"process.pid": "x"}]}"#,
            "did you mean `process.name`?",
        ),
        (
            "one.test.json",
            r#"{"match": [{"process.pid": "x"}], "no_match": [{"process.pid": 1}]}"#,
            "`process.pid` should be a whole number",
        ),
        (
            "one.test.json",
            r#"{"match": [{"rampart.event.type": "proces_start"}], "no_match": [3]}"#,
            "did you mean `process_start`?",
        ),
        ("one.test.json", "{\"matches\": []}", "one.test.json:1:10: unknown field `matches`"),
        ("one.test.json", "{", "hint: a test is"),
        (
            "one.test.json",
            r#"[{"rule": "other", "match": [], "no_match": []}]"#,
            "no rule of the file has the id `other`; it has one",
        ),
        ("three.json", &native("three", "name = 'x'"), "NO TEST three.json: three n"),
        ("three.json", &native("three", "nam = 'x'"), "1 other fault"),
        (
            "pack.toml",
            "id = \"P!\"\nname = \"\"\nversion = \"1\"\nauthors = []\nlicense = \"MIT\"\ndescription = \"d\"\nrequires = [\"proces_start\"]\n",
            "did you mean `process_start`?",
        ),
        ("pack.toml", "id = \"p\"\nnam = \"P\"\n", "pack.toml:2:1: unknown field `nam`"),
        (
            "pack.toml",
            "id = \"p\"\nname = \"P\"\nversion = \"1.0.0\"\nauthors = [\"a\"]\nlicense = \"MIT\"\ndescription = \"d\"\nrequires = [\"file_create\"]\n",
            "rule one judges process start events; `requires`",
        ),
    ];
    for (file, text, expected) in cases {
        let pack = pack();
        fs::write(pack.path().join(file), text).unwrap();
        let output = edr(pack.path(), &["rules", "test", "."]);
        let all = out(&output).replace("./", "") + &err(&output);
        assert_eq!(output.status.code(), Some(1), "{file} {text}: {all}");
        assert!(all.contains(expected), "{expected}: {all}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(edr(empty.path(), &["rules", "test", "."]).status.code(), Some(2));
    assert_eq!(edr(empty.path(), &["rules", "test", "nowhere"]).status.code(), Some(2));
    assert_eq!(edr(empty.path(), &["rules", "test"]).status.code(), Some(2));
}

#[test]
fn rules_that_count_are_tested_with_sequences() {
    let folder = tempfile::tempdir().unwrap();
    let rules = format!(
        "{SIGMA}---\ntitle: Many\nid: 8f9b6c2e-0000-4000-8000-000000000002\nlevel: high\ncorrelation:\n    type: event_count\n    \
         rules: [8f9b6c2e-0000-4000-8000-000000000001]\n    group-by: [User]\n    timespan: 1m\n    condition: {{gte: 2}}\n    generate: true\n"
    );
    fs::write(folder.path().join("r.yml"), rules).unwrap();
    let event = |second: u32, user: &str| json!({"Image": "C:\\whoami.exe", "User": user, "@timestamp": format!("2026-01-01T00:00:{second:02}Z")});
    let tests = json!([
        {"rule": "8f9b6c2e-0000-4000-8000-000000000001", "match": [event(1, "a")], "no_match": [{"Image": "x"}]},
        {"rule": "8f9b6c2e-0000-4000-8000-000000000002",
         "match": [[event(1, "a"), event(9, "a")]], "no_match": [[event(1, "a"), event(9, "b")], event(1, "a")]},
    ]);
    fs::write(folder.path().join("r.test.json"), tests.to_string()).unwrap();
    let output = edr(folder.path(), &["rules", "test", "r.yml"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    assert!(out(&output).contains("2 rules with 5 events: 0 failed"), "{}", out(&output));
}

#[test]
fn explain_tells_each_part_and_whether_the_rule_is_a_candidate() {
    let pack = pack();
    let explain = |event: &Json| {
        fs::write(pack.path().join("event.json"), event.to_string()).unwrap();
        edr(pack.path(), &["rules", "explain", "two.yml", "--event", "event.json"])
    };
    let output = explain(&json!({"Image": "C:\\a\\whoami.exe", "User": "admin"}));
    let text = out(&output);
    assert_eq!(output.status.code(), Some(1), "no event matches: {text}");
    assert!(text.contains("the rule does not match\n  candidate: yes"), "{text}");
    assert!(text.contains("true  Image ends with '\\whoami.exe'   (it is C:\\a\\whoami.exe)"), "{text}");
    assert!(text.contains("false not\n"), "{text}");
    assert!(text.contains("true  User = 'admin'   (it is admin)"), "{text}");

    let output = explain(&json!({"Image": "C:\\a\\cmd.exe"}));
    let text = out(&output);
    assert!(text.contains("candidate: no: not computed"), "{text}");
    assert!(text.contains("false User = 'admin'   (the event does not have it)"), "{text}");

    let output = explain(&json!({"Image": "C:\\whoami.exe"}));
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
    // Every event of a test, and the rule chosen by its id.
    let output =
        edr(pack.path(), &["rules", "explain", ".", "--rule", "one", "--event", "one.test.json", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    let lines: Vec<Json> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["event"], &lines[0]["explanation"]["matches"]), (&json!("match[0]"), &json!(true)));
    assert_eq!(
        (&lines[1]["event"], &lines[1]["explanation"]["matches"]),
        (&json!("no_match[0]"), &json!(false))
    );

    for (arguments, told) in [
        (&["two.yml"][..], "0 files of events given"),
        (&[".", "--event", "one.test.json"], "choose one with `--rule ID`"),
        (&[".", "--rule", "on", "--event", "one.test.json"], "did you mean `one`?"),
        (&["two.yml", "--event", "nowhere.json"], "can't be read"),
        (&["two.yml", "--event", "two.test.json", "--record", "9"], "has 3 events"),
    ] {
        let output = edr(pack.path(), &[&["rules", "explain"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(err(&output).contains(told), "{}", err(&output));
    }
}

#[test]
fn stats_count_rules_and_what_they_cost() {
    let pack = pack();
    let always = SIGMA.replace("0001", "0009").replace("sel and not filter", "not filter");
    fs::write(pack.path().join("always.yml"), always).unwrap();
    let event =
        json!({"Channel": "Microsoft-Windows-Sysmon/Operational", "EventID": 1, "Image": "C:\\whoami.exe"});
    let other =
        json!({"Channel": "Microsoft-Windows-Sysmon/Operational", "EventID": 1, "Image": "C:\\cmd.exe"});
    fs::write(pack.path().join("events.ndjson"), format!("{event}\n{other}\n")).unwrap();
    let output = edr(pack.path(), &["rules", "stats", ".", "--events", "events.ndjson", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let stats: Json = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(stats["by_kind"], json!({"Sigma": 2, "native": 1}));
    assert_eq!(stats["by_level"], json!({"high": 2, "low": 1}));
    assert_eq!((&stats["by_technique"], &stats["without_technique"]), (&json!({"T1033": 2}), &json!(1)));
    assert_eq!(stats["prefilter"]["by_quality"], json!({"texts": 2, "none": 1}));
    assert_eq!(stats["prefilter"]["on_every_event"].as_array().unwrap().len(), 1);
    let events = &stats["events"];
    assert_eq!((&events["events"], &events["detections"]), (&json!(2), &json!(3)));
    assert_eq!(events["candidates_per_event"], json!(1.5), "{events}");

    let words = out(&edr(pack.path(), &["rules", "stats", ".", "--events", "events.ndjson"]));
    assert!(
        words.contains("3 rules in 3 files, 0 refused") && words.contains("on every event: 8f9b6c2e"),
        "{words}"
    );
    assert!(words.contains("2 events in"), "{words}");
    assert_eq!(edr(pack.path(), &["rules", "stats", ".", "--top", "0"]).status.code(), Some(2));
}

#[test]
fn check_tells_which_rules_can_never_fire_where_the_sources_are_known() {
    let pack = pack();
    let linux = SIGMA.replace("0001", "0005").replace("product: windows", "product: linux");
    fs::write(pack.path().join("linux.yml"), linux).unwrap();
    let check = |sources: &str, more: &[&str]| {
        fs::write(pack.path().join("sources.txt"), sources).unwrap();
        edr(pack.path(), &[&["rules", "check", ".", "--sources", "sources.txt"], more].concat())
    };
    let output =
        check("# as -debug prints it\nsource: process_start=ebpf (exec)\nfile_create=none: no hook\n", &[]);
    assert_eq!(output.status.code(), Some(0), "warnings only: {}", err(&output));
    let told = err(&output);
    assert!(
        told.contains(
            "can never fire there: no source of events of product windows, category process_creation"
        ),
        "{told}"
    );
    assert!(out(&output).contains("0 errors, 1 warning"), "{}{told}", out(&output));
    assert!(out(&check("process_start=none: no rights\n", &[])).contains("0 errors, 3 warnings"));
    assert!(out(&check("process_start\n", &["--product", "windows"])).contains("0 errors, 1 warning"));
    for (sources, more, expected) in [
        (
            "proces_start=x\n",
            &[][..],
            "sources.txt:1: there are no events of type `proces_start`; hint: did you mean `process_start`?",
        ),
        ("process_start\n", &["--product", "amiga"], "allowed are linux and windows"),
    ] {
        let output = check(sources, more);
        assert_eq!(output.status.code(), Some(2));
        assert!(err(&output).contains(expected), "{}", err(&output));
    }
}
