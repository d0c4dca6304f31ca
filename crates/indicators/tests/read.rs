//! Readers: every form gives the same indicators, and bad input its line.

use event_model::Severity;
use indicators::{Indicator, IndicatorDefaults, IndicatorFormat, ReadOutcome, read_indicators};
use proptest::prelude::*;
use rule_engine::DiagnosticCode;

fn read(text: &str) -> (Vec<Indicator>, ReadOutcome) {
    let mut all = Vec::new();
    let defaults = IndicatorDefaults::of_source("feed");
    let outcome =
        read_indicators("feed.txt", text.as_bytes(), None, &defaults, &mut |indicator| all.push(indicator));
    assert_eq!(outcome.taken, all.len() as u64);
    (all, outcome)
}

fn values(all: &[Indicator]) -> Vec<String> {
    all.iter().map(|indicator| indicator.value.to_string()).collect()
}

fn told(outcome: &ReadOutcome) -> Vec<(u32, DiagnosticCode)> {
    outcome.diagnostics.iter().map(|it| (it.line, it.code)).collect()
}

const BAD: DiagnosticCode = DiagnosticCode::BadIndicator;
const SKIPPED: DiagnosticCode = DiagnosticCode::IndicatorSkipped;

#[test]
fn a_plain_list() {
    let (all, outcome) = read(
        "\u{feff}# list\n\nhxxp://evil[.]example/a#frag # dropper\n198.51.100[.]7\r\n0.0.0.0 ads.example\nwhat is this\n\
         D41D8CD98F00B204E9800998ECF8427E\n0.0.0.0/0\n",
    );
    assert_eq!(
        values(&all),
        ["evil.example/a", "198.51.100.7", "ads.example", "d41d8cd98f00b204e9800998ecf8427e"]
    );
    assert_eq!((all[0].description.as_str(), all[0].source.as_str()), ("dropper", "feed"));
    assert_eq!(told(&outcome), [(6, BAD), (8, BAD)]);
    assert!(outcome.diagnostics[0].reason.contains("`what is this`"), "{:?}", outcome.diagnostics[0]);
}

#[test]
fn csv_with_a_heading() {
    let (all, outcome) = read(
        "# exported\nType;Indicator;Severity;Confidence;Valid Until;Comment;Source\n\
         domain;evil.example;High;90;2027-01-01;\"several\nlines; \"\"quoted\"\"\";CERT\n\
         ip;198.51.100.0/24;;;;;\n\
         mutex;Global\\x;;;;;\n\
         md5;evil.example;;;;;\n\
         url;hxxps://evil.example/x;urgent;150;;;\n\
         sha1;da39a3ee5e6b4b0d3255bfef95601890afd80709;;;someday;;",
    );
    assert_eq!(values(&all), ["evil.example", "198.51.100.0/24", "evil.example/x"]);
    let first = &all[0];
    assert_eq!((first.severity, first.confidence, first.source.as_str()), (Severity::High, 90, "CERT"));
    assert_eq!(first.description, "several\nlines; \"quoted\"");
    assert_eq!(first.expires.unwrap().to_string(), "2027-01-02T00:00:00Z");
    assert_eq!(told(&outcome), [(6, SKIPPED), (7, BAD), (8, BAD), (8, BAD), (9, BAD)]);
    assert_eq!(outcome.refused, 3, "the second of line 8 is taken with a warning");
}

#[test]
fn a_stix_bundle() {
    let text = r#"{
 "type": "bundle", "id": "bundle--1",
 "objects": [
  {"type": "identity", "id": "identity--1", "name": "CERT Example"},
  {"type": "indicator", "id": "indicator--1", "created_by_ref": "identity--1", "name": "C2", "description": "of a botnet",
   "pattern_type": "stix", "pattern": "[domain-name:value = 'evil.example'] OR [ipv4-addr:value = '198.51.100.7']",
   "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2027-01-01T00:00:00Z", "confidence": 85},
  {"type": "indicator", "pattern": "[file:hashes.'SHA-1' = 'da39a3ee5e6b4b0d3255bfef95601890afd80709' AND file:size = 5]"},
  {"type": "malware", "name": "x", "is_family": true},
  {"type": "indicator", "pattern_type": "yara", "pattern": "rule x {}"},
  {"type": "indicator", "pattern": "[process:name = 'x']"},
  {"type": "indicator", "pattern": "[domain-name:value = 'com']"},
  {"type": "indicator", "pattern": 7},
  {"type": "indicator", "pattern": "[url:value = 'http://a.example/']", "revoked": true},
  {"type": "indicator", "pattern": "[url:value = 'http://b.example/']", "valid_until": "later"},
  5
 ]
}"#;
    assert_eq!(IndicatorFormat::detect(text), IndicatorFormat::Stix);
    let (all, outcome) = read(text);
    assert_eq!(values(&all), ["evil.example", "198.51.100.7", "da39a3ee5e6b4b0d3255bfef95601890afd80709"]);
    let first = &all[0];
    assert_eq!((first.source.as_str(), first.confidence), ("CERT Example", 85));
    assert_eq!(first.description, "C2: of a botnet");
    assert_eq!(first.expires.unwrap().to_string(), "2027-01-01T00:00:00Z");
    assert_eq!(
        told(&outcome),
        [(10, SKIPPED), (11, SKIPPED), (12, BAD), (13, BAD), (14, SKIPPED), (15, BAD)],
        "{:?}",
        outcome.diagnostics
    );
}

#[test]
fn a_misp_event_in_all_wrappings() {
    let event = r#"{
  "info": "Campaign", "threat_level_id": "1", "Orgc": {"name": "CIRCL"},
  "Attribute": [
   {"type": "ip-dst|port", "value": "198.51.100.7|443", "to_ids": true, "comment": "C2"},
   {"type": "filename|sha1", "value": "a.exe|da39a3ee5e6b4b0d3255bfef95601890afd80709", "to_ids": "1"},
   {"type": "domain", "value": "innocent.example", "to_ids": false},
   {"type": "domain", "value": "gone.example", "to_ids": true, "deleted": true},
   {"type": "mutex", "value": "x", "to_ids": true},
   {"type": "md5", "value": "zz", "to_ids": true}
  ],
  "Object": [{"name": "domain-ip", "Attribute": [{"type": "domain|ip", "value": "evil.example|203.0.113.9", "to_ids": true}]}]
 }"#;
    for text in [
        format!("{{\"Event\": {event}}}"),
        format!("{{\"response\": [{{\"Event\": {event}}}]}}"),
        format!("[{{\"Event\": {event}}}]"),
        event.to_owned(),
    ] {
        assert_eq!(IndicatorFormat::detect(&text), IndicatorFormat::Misp);
        let (all, outcome) = read(&text);
        assert_eq!(
            values(&all),
            ["198.51.100.7", "da39a3ee5e6b4b0d3255bfef95601890afd80709", "evil.example", "203.0.113.9"]
        );
        assert_eq!((all[0].source.as_str(), all[0].severity), ("CIRCL", Severity::High));
        assert_eq!((all[0].description.as_str(), all[1].description.as_str()), ("Campaign: C2", "Campaign"));
        assert_eq!(told(&outcome), [(8, SKIPPED), (9, BAD)]);
    }
}

#[test]
fn what_is_no_list_at_all_says_where() {
    let one = |text: &[u8], format| {
        let mut none = |indicator: Indicator| panic!("{indicator:?}");
        let outcome = read_indicators("x", text, format, &IndicatorDefaults::of_source("x"), &mut none);
        let told = told(&outcome);
        assert_eq!((told.len(), outcome.refused), (1, 1), "{:?}", outcome.diagnostics);
        told[0]
    };
    assert_eq!(one(b"{\"type\": \"bundle\",\n \"objects\": [", None), (2, DiagnosticCode::BadJson));
    assert_eq!(one(b"{\"a\": 1}", None), (1, BAD));
    assert_eq!(one(b"[]\n[]", Some(IndicatorFormat::Misp)), (2, DiagnosticCode::BadJson));
    assert_eq!(one(b"{\"Event\": 5}", None), (1, BAD));
    assert_eq!(one(b"a,b\n1,2", Some(IndicatorFormat::Csv)), (1, BAD));
    assert_eq!(one(b"evil\n\xff.example", None), (2, DiagnosticCode::NotUtf8));
    let deep = format!("{{\"Event\":{}", "[".repeat(200_000));
    assert_eq!(one(deep.as_bytes(), None).1, DiagnosticCode::BadJson);
}

#[test]
fn findings_are_bounded() {
    let (all, outcome) = read(&"no indicator\n".repeat(50_000));
    assert_eq!((all.len(), outcome.refused, outcome.diagnostics.len()), (0, 50_000, 1_000));
}

proptest! {
    #[test]
    fn no_text_panics_in_any_format(
        text in "([\\[\\]{}\",:;|#'\n\t=\\\\ ]|type|bundle|objects|indicator|pattern|Event|Attribute|value|to_ids|true|md5|ip|a\\.b|1\\.2\\.3\\.4|\\[\\.\\]|hxxp|é|0){0,80}",
        format in prop_oneof![
            Just(None),
            Just(Some(IndicatorFormat::List)),
            Just(Some(IndicatorFormat::Csv)),
            Just(Some(IndicatorFormat::Stix)),
            Just(Some(IndicatorFormat::Misp)),
        ],
    ) {
        read_indicators("x", text.as_bytes(), format, &IndicatorDefaults::of_source("x"), &mut |_| {});
    }

    #[test]
    fn no_value_in_a_well_formed_document_panics(
        kind in "[a-z0-9|-]{0,12}",
        value in any::<String>(),
        pattern in any::<String>(),
    ) {
        let misp = serde_json::json!({"Event": {"Attribute": [{"type": kind, "value": value, "to_ids": true}]}});
        let stix = serde_json::json!({"type": "bundle", "objects": [{"type": "indicator", "pattern": pattern},
            {"type": "indicator", "pattern": format!("[domain-name:value = '{value}']")}]});
        for text in [misp.to_string(), stix.to_string(), format!("value,type\n{value},{kind}")] {
            read_indicators("x", text.as_bytes(), None, &IndicatorDefaults::of_source("x"), &mut |_| {});
        }
    }

    #[test]
    fn bytes_that_are_no_text_panic_neither(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_indicators("x", &bytes, None, &IndicatorDefaults::of_source("x"), &mut |_| {});
    }
}
