//! The error texts, as authors see them: each `testdata/errors/*.json` beside the
//! `.out` that it gives. `RAMPART_UPDATE=1 cargo test …` writes them anew.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use rule_engine::{DiagnosticCode, parse_rules, parse_rules_bytes};

fn described(name: &str, text: &str) -> String {
    let outcome = parse_rules(name, text);
    let mut out = String::new();
    for diagnostic in &outcome.diagnostics {
        out.push_str(&diagnostic.render(text));
        out.push('\n');
    }
    let loaded: Vec<&str> = outcome.rules.iter().map(|rule| rule.head().id.as_str()).collect();
    let _ = writeln!(out, "loaded: [{}], refused: {}", loaded.join(", "), outcome.refused);
    out
}

#[test]
fn error_texts_are_as_reviewed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/errors");
    let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    inputs.sort();
    assert!(inputs.len() > 20, "the inputs are there");
    let update = env::var_os("RAMPART_UPDATE").is_some();
    let mut differing = Vec::new();
    for input in inputs {
        let name = input.file_name().unwrap().to_string_lossy().into_owned();
        let actual = described(&name, &fs::read_to_string(&input).unwrap());
        let golden = input.with_extension("out");
        if update {
            fs::write(&golden, &actual).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if actual != expected {
            differing.push(format!("== {name}: expected\n{expected}== {name}: actual\n{actual}"));
        }
    }
    assert!(differing.is_empty(), "{}\nRAMPART_UPDATE=1 accepts the texts", differing.join("\n"));
}

#[test]
fn what_is_not_utf8_is_refused_with_its_place() {
    let outcome = parse_rules_bytes("a.json", b"\xef\xbb\xbf{\n \"name\": \"\xff\"}");
    let diagnostic = &outcome.diagnostics[0];
    assert_eq!((diagnostic.code, diagnostic.line, diagnostic.column), (DiagnosticCode::NotUtf8, 2, 11));
}

#[test]
fn every_diagnostic_serialises_with_its_stable_code() {
    let outcome = parse_rules("a.json", "{\"id\": 1, \"nam\": \"x\"}");
    let json = serde_json::to_value(&outcome.diagnostics[0]).unwrap();
    let expected = serde_json::json!({
        "severity": "error", "code": "missing-key", "file": "a.json", "line": 1, "column": 1, "end_column": 2,
        "reason": "the rule has no `name`", "hint": "add \"name\": \"what the rule finds\"",
    });
    assert_eq!(json, expected);
}
