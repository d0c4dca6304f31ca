//! `edr rules check` as a user runs it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value as Json;

fn edr(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edr")).args(arguments).current_dir(folder).output().expect("edr runs")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn rule(id: u32, condition: &str) -> String {
    format!(
        "{{\"id\": {id}, \"name\": \"r{id}\", \"type\": \"process\", \"severity\": \"low\",\n  \
         \"conditions\": [\"{condition}\"], \"actions\": [\"alert\"]}}"
    )
}

#[test]
fn the_starter_pack_is_in_order() {
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules");
    let output = edr(&pack, &["rules", "check", "."]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).ends_with(" loaded, 0 refused; 0 errors, 0 warnings\n"), "{}", out(&output));
}

#[test]
fn errors_are_shown_with_their_place_and_the_rest_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    fs::write(folder.path().join("a/good.json"), rule(1, "name = 'a'")).unwrap();
    fs::write(folder.path().join("a/b/bad.json"), rule(2, "nmae = 'a'")).unwrap();
    fs::write(folder.path().join("a/b/same.json"), rule(1, "name = 'b'")).unwrap();
    fs::write(folder.path().join("a/b/bad.test.json"), "not looked at").unwrap();
    fs::write(folder.path().join("a/b/pack.toml"), "not looked at").unwrap();
    let output = edr(folder.path(), &["rules", "check", "a"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(out(&output), "3 files: 1 rule loaded, 2 refused; 2 errors, 0 warnings\n");
    let shown = err(&output);
    assert!(
        shown.contains("a/b/bad.json:2:19: error[unknown-field]: `nmae` is not a field of process rules\n"),
        "{shown}"
    );
    assert!(shown.contains("  hint: did you mean `name`?\n"), "{shown}");
    assert!(shown.contains("error[duplicate-id]"), "{shown}");

    let output = edr(folder.path(), &["rules", "check", "-json-errors", "a/b/bad.json"]);
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<Json> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["code"], &lines[0]["line"], &lines[0]["column"]),
        (&"unknown-field".into(), &2.into(), &19.into())
    );
    assert!(err(&output).starts_with("1 file: 0 rules loaded, 1 refused"));
}

#[test]
fn a_rule_without_source_is_a_warning_and_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let registry = rule(1, "key contains 'Run'").replace("process", "registry");
    fs::write(folder.path().join("r.json"), registry).unwrap();
    fs::write(folder.path().join("sources"), "process_start=ebpf\n").unwrap();
    let output = edr(folder.path(), &["rules", "check", "r.json", "--sources", "sources"]);
    assert_eq!(output.status.code(), Some(0));
    let told = err(&output);
    let expected = "warning[no-source]: rule `1` can never fire there: no source of registry_change events";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn fields_that_live_events_do_not_have_are_a_warning_for_those_who_ask() {
    let folder = tempfile::tempdir().unwrap();
    let sigma = "title: t\nid: a\nlogsource: {category: process_creation}\ndetection:\n  s: {Imag: /x, CommandLine|contains: y, Hashes: z}\n  condition: s\n";
    fs::write(folder.path().join("a.yml"), sigma).unwrap();
    fs::write(folder.path().join("sources"), "process_start=ebpf\n").unwrap();
    let output = edr(folder.path(), &["rules", "check", "a.yml", "--sources", "sources"]);
    assert_eq!(output.status.code(), Some(0));
    let told = err(&output);
    let expected = "warning[unknown-field]: rule `a` asks for `Imag`, which no live event has that it judges";
    assert!(told.contains(expected) && told.contains("did you mean `Image`?"), "{told}");
    assert_eq!(told.matches("unknown-field").count(), 1, "{told}");
    let output = edr(folder.path(), &["rules", "check", "a.yml"]);
    assert!(!err(&output).contains("unknown-field"), "rules are for logs too");
}

#[test]
fn a_wrong_command_line_exits_with_two() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, complaint) in [
        (&["rules", "check"] as &[&str], "no path given"),
        (&["rules", "check", "missing.json"], "`missing.json` can't be read"),
        (&["rules", "check", "."], "no rule files found"),
        (&["rules", "check", "--json-error", "."], "did you mean `--json-errors`?"),
        (&["rules", "check", "--json-errors=yes", "."], "json-errors"),
        (&["rule", "check"], "did you mean `rules`?"),
        (&[], "no command given"),
    ] {
        let output = edr(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(complaint), "{arguments:?}: {}", err(&output));
        assert!(out(&output).is_empty());
    }
}

#[test]
fn help_lists_the_commands() {
    for help in ["--help", "-help", "help"] {
        let output = edr(Path::new("."), &[help]);
        assert_eq!(output.status.code(), Some(0));
        assert!(out(&output).contains("edr rules check PATH…"), "{}", out(&output));
    }
}

#[test]
fn sigma_rules_are_checked_beside_native_ones() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("native.json"), rule(1, "name = 'a'")).unwrap();
    let sigma = |id: &str, modifier: &str| {
        format!(
            "title: t\nid: {id}\nlogsource: {{product: windows, category: process_creation}}\n\
             detection:\n  sel:\n    Image|{modifier}: a\n  condition: sel\n"
        )
    };
    fs::write(folder.path().join("good.yml"), sigma("a", "endswith")).unwrap();
    fs::write(folder.path().join("bad.yaml"), sigma("b", "endwith")).unwrap();
    let output = edr(folder.path(), &["rules", "check", "."]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(out(&output), "3 files: 2 rules loaded, 1 refused; 1 error, 0 warnings\n");
    let shown = err(&output);
    assert!(shown.contains("bad.yaml:6:11: error[bad-modifier]: `endwith` is no modifier\n"), "{shown}");
    assert!(shown.contains("hint: did you mean `endswith`?"), "{shown}");
}

#[test]
fn placeholders_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let rule = "title: t\nlogsource: {product: windows}\ndetection:\n  sel:\n    User|expand: '%admins%'\n  condition: sel\n";
    fs::create_dir(folder.path().join("rules")).unwrap();
    fs::write(folder.path().join("rules/a.yml"), rule).unwrap();
    fs::write(folder.path().join("values.yml"), "admins: [root, 'adm*']\n").unwrap();
    fs::write(folder.path().join("broken.yml"), "- admins\n").unwrap();
    let output = edr(folder.path(), &["rules", "check", "rules"]);
    assert!(err(&output).contains("rules/a.yml:5:18: warning[no-placeholder]"), "{}", err(&output));
    let output = edr(folder.path(), &["rules", "check", "rules", "-placeholders=values.yml"]);
    assert_eq!(out(&output), "1 file: 1 rule loaded, 0 refused; 0 errors, 0 warnings\n");
    let output = edr(folder.path(), &["rules", "check", "rules", "--placeholders", "broken.yml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("broken.yml:1:1: error[wrong-type]"), "{}", err(&output));
}

#[test]
fn placeholders_stand_beside_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join("rules").join(name), text).unwrap();
    fs::create_dir(folder.path().join("rules")).unwrap();
    put(
        "a.yml",
        "title: t\nid: 5f0b9a1c-0f5b-4b1e-8d2c-4d4a5b8d3c11\nlogsource: {product: windows, service: security}\ndetection:\n  sel:\n    User|expand: '%admins%'\n  condition: sel\n",
    );
    put("own.placeholders.yml", "admins: [root, 'adm*']\n");
    let output = edr(folder.path(), &["rules", "check", "rules"]);
    assert_eq!(out(&output), "1 file: 1 rule loaded, 0 refused; 0 errors, 0 warnings\n");
    let event = |user: &str| format!("{{\"Channel\":\"Security\",\"EventID\":4624,\"User\":\"{user}\"}}\n");
    fs::write(folder.path().join("events.ndjson"), event("administrator") + &event("guest")).unwrap();
    let output = edr(folder.path(), &["replay", "--rules", "rules", "events.ndjson"]);
    assert_eq!(out(&output).lines().count(), 1, "{}{}", out(&output), err(&output));
    // What the command line names counts more.
    fs::write(folder.path().join("other.yml"), "admins: nobody\n").unwrap();
    let output =
        edr(folder.path(), &["replay", "--rules", "rules", "--placeholders", "other.yml", "events.ndjson"]);
    assert_eq!(out(&output), "", "{}", err(&output));
    put("a.test.json", r#"{"match": [{"User": "administrator"}], "no_match": [{"User": "guest"}]}"#);
    let output = edr(folder.path(), &["rules", "test", "rules"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    // A pack below has them, too.
    let folder_of_pack = folder.path().join("rules/pack");
    fs::create_dir(&folder_of_pack).unwrap();
    for name in ["a.yml", "a.test.json"] {
        fs::rename(folder.path().join("rules").join(name), folder_of_pack.join(name)).unwrap();
    }
    let manifest = "id = \"p\"\nname = \"p\"\nversion = \"1.0.0\"\nauthors = [\"a\"]\nlicense = \"MIT\"\ndescription = \"d\"\n";
    fs::write(folder_of_pack.join("pack.toml"), manifest).unwrap();
    let output = edr(folder.path(), &["rules", "test", "rules"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    for (text, fault) in [
        (&b"admins: []\n"[..], "1:9: error[wrong-type]"),
        (b"admins: a\nadmins: b\n", "error[duplicate-key]"),
        (b"admins: [\xff]\n", "1:10: error[not-utf8]"),
    ] {
        fs::write(folder.path().join("rules/own.placeholders.yml"), text).unwrap();
        let output = edr(folder.path(), &["rules", "check", "rules"]);
        assert!(err(&output).contains(fault), "{}", err(&output));
        assert!(out(&output).starts_with("1 file: 1 rule loaded"), "{}", out(&output));
    }
    put("own.placeholders.yml", "- admins\n");
    let output = edr(folder.path(), &["rules", "check", "rules"]);
    assert!(err(&output).contains("own.placeholders.yml:1:1: error[wrong-type]"), "{}", err(&output));
}

/// The public collection, where it is at hand: every rule loads.
#[test]
fn every_rule_of_the_public_collection_loads() {
    let corpora = std::env::var_os("RAMPART_CORPORA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora"),
        std::path::PathBuf::from,
    );
    let sigma = corpora.join("sigma");
    let folders = fs::read_dir(&sigma).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<_> = folders
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("rules")))
        .collect();
    folders.sort();
    if folders.is_empty() {
        eprintln!("skipped: no Sigma rules in {} (RAMPART_CORPORA names another place)", sigma.display());
        return;
    }
    let mut arguments = vec!["rules", "check", "--json-errors"];
    arguments.extend(folders.iter().filter_map(|path| path.to_str()));
    let output = edr(&sigma, &arguments);
    let errors = out(&output);
    let errors: Vec<&str> = errors.lines().filter(|line| line.contains("\"severity\":\"error\"")).collect();
    let counts = err(&output);
    assert!(errors.is_empty(), "{counts}{errors:#?}");
    assert!(counts.contains(" 0 refused; 0 errors, "), "{counts}");
}
