//! JSON in every form that logs have it in, whole and broken.

mod support;

use log_reader::{LogFormat, ProblemKind, RECORD_LIMIT};
use support::read;

const EVTX_DUMP: &str = r##"{"Event":{"#attributes":{"xmlns":"http://x"},"System":{"Provider":{"#attributes":{"Name":"P","Guid":"g"}},"EventID":{"#attributes":{"Qualifiers":0},"#text":4624},"TimeCreated":{"#attributes":{"SystemTime":"2020-01-02T03:04:05.6Z"}},"Channel":"Security"},"EventData":{"LogonProcessName":"NtLmSsp ","Logon Type":3,"Data":["a","b"],"Gone":null}}}"##;

#[test]
fn every_layout_of_a_windows_event_gives_the_same_fields() {
    let winlogbeat = r#"{"@timestamp":"2020-01-02T03:04:05.6Z","winlog":{"channel":"Security","event_id":4624,"provider_name":"P","event_data":{"LogonProcessName":"NtLmSsp ","Logon Type":3,"Data":["a","b"]}}}"#;
    let flat = r#"{"EventID":"4624","Channel":"Security","SourceName":"P","EventTime":"2020-01-02 03:04:05.6","LogonProcessName":"NtLmSsp","LogonType":3,"Data":["a","b"]}"#;
    for layout in [EVTX_DUMP, winlogbeat, flat] {
        let (seen, format) = read(layout.as_bytes());
        assert_eq!(format, Some(LogFormat::JsonLines));
        assert_eq!(seen.problems, []);
        let event = &seen.events[0];
        for (name, values) in [
            ("EventID", &["4624"][..]),
            ("Channel", &["Security"]),
            ("Provider_Name", &["P"]),
            ("LogonProcessName", &["NtLmSsp"]),
            ("LogonType", &["3"]),
            ("Data", &["a", "b"]),
        ] {
            assert_eq!(event.all(name), values, "{name} of {layout}");
        }
        assert_eq!(event.time.as_deref(), Some("2020-01-02T03:04:05.600000000Z"), "{layout}");
        assert_eq!((event.record, event.origin.as_str()), (1, "fields"));
    }
}

#[test]
fn a_null_is_no_value_and_large_numbers_keep_their_digits() {
    let (seen, _) = read(br#"{"a":null,"b":18446744073709551615,"c":-5,"d":1.5,"e":true,"f":""}"#);
    let event = &seen.events[0];
    let values: Vec<_> =
        ["a", "b", "c", "d", "e", "f"].map(|name| event.one(name).unwrap_or("absent")).to_vec();
    assert_eq!(values, ["<null>", "18446744073709551615", "-5", "1.5", "true", ""]);
}

#[test]
fn rampart_and_ecs_documents_say_what_they_are() {
    let lines = r#"{"rampart":{"event":{"type":"process_start"}},"process":{"executable":"/bin/sh"}}
{"rampart":{"event":{"type":"detection"}}}
{"event":{"category":["process"],"type":["start"]},"process":{"executable":"C:\\x.exe"}}
{"event":{"category":["file"],"type":["deletion"]},"host":{"os":{"type":"macos"}}}
{"logsource":{"product":"windows","category":"dns_query"}}
{"x":1}
"#;
    let (seen, _) = read(lines.as_bytes());
    let origins: Vec<&str> = seen.events.iter().map(|event| event.origin.as_str()).collect();
    assert_eq!(
        origins,
        [
            "Rampart(Some(ProcessStart))",
            "Rampart(None)",
            r#"Ecs { product: Some("windows"), category: Some("process_creation") }"#,
            r#"Ecs { product: Some("macos"), category: Some("file_delete") }"#,
            r#"Stated { product: Some("windows"), service: None, category: Some("dns_query") }"#,
            "fields",
        ]
    );
    assert_eq!(seen.events[0].one("Image"), Some("/bin/sh"));
    assert_eq!(seen.events[0].one("process.executable"), Some("/bin/sh"));
}

#[test]
fn broken_lines_are_told_with_their_place_and_the_rest_is_read() {
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(10_000_000));
    let lines = [
        r#"{"n":1}"#,
        r#"{"n":2"#,
        r#"{"n":3} x"#,
        "",
        r#"[4]"#,
        long.as_str(),
        "{\"n\":\"\u{0}\"}",
        r#"{"n":8}"#,
    ];
    let mut file = lines.join("\n").into_bytes();
    file.extend_from_slice(b"\n{\"n\":\"9\xff\"}\n{\"n\":1");
    let (seen, _) = read(&file);
    let numbers: Vec<_> =
        seen.events.iter().map(|event| (event.record, event.one("n").unwrap_or_default())).collect();
    assert_eq!(numbers, [(1, "1"), (8, "8"), (9, "9\u{fffd}")]);
    let problems: Vec<_> =
        seen.problems.iter().map(|problem| (problem.kind, problem.record, problem.byte)).collect();
    let ninth = (lines.join("\n").len() + 1) as u64;
    assert_eq!(
        problems,
        [
            (ProblemKind::Cut, Some(2), 14),
            (ProblemKind::BadRecord, Some(3), 23),
            (ProblemKind::BadRecord, Some(5), 26),
            (ProblemKind::TooLarge, Some(6), 30),
            (ProblemKind::BadRecord, Some(7), 10_000_045),
            (ProblemKind::NotUtf8, Some(9), ninth + 7),
            (ProblemKind::Cut, Some(10), ninth + 17),
        ]
    );
    assert!(seen.problems.iter().all(|problem| !problem.hint.is_empty()));
}

#[test]
fn arrays_and_objects_over_many_lines() {
    let array = "[\n  {\n    \"n\": 1,\n    \"o\": {\"p\": [\"{\", \"\\\"}\"]}\n  },\n  {\"n\": 2}\n]\n";
    for file in [
        array,
        "\u{feff}[{\"n\":1,\"o\":{\"p\":[\"{\",\"\\\"}\"]}},{\"n\":2}]",
        "{\n\"n\":1,\"o\":{\"p\":[\"{\",\"\\\"}\"]}}\n{\n\"n\":2}",
    ] {
        let (seen, format) = read(file.as_bytes());
        assert_eq!(format, Some(LogFormat::JsonDocuments), "{file}");
        assert_eq!(seen.problems, [], "{file}");
        assert_eq!(seen.events.len(), 2, "{file}");
        assert_eq!(seen.events[0].all("o.p"), ["{", "\"}"]);
        assert_eq!((seen.events[1].record, seen.events[1].one("n")), (2, Some("2")));
    }
}

#[test]
fn an_array_goes_on_behind_a_broken_element() {
    let array = "[\n{\"n\": 1},\n{\"n\": \"never closed},\n{\"n\": 3},\n{\"n\": 4}\n]\n";
    let (seen, _) = read(array.as_bytes());
    let numbers: Vec<_> = seen.events.iter().filter_map(|event| event.one("n")).collect();
    assert_eq!(numbers, ["1", "3", "4"]);
    assert!(!seen.problems.is_empty());
    let (seen, _) = read(b"[{\"n\":1},{\"n\":");
    assert_eq!((seen.events.len(), seen.problem_kinds()), (1, vec![ProblemKind::Cut]));
    let large = format!("[\n{{\"n\":\"{}\"}},\n{{\"n\":2}}]", "x".repeat(RECORD_LIMIT + 10));
    let (seen, _) = read(large.as_bytes());
    assert_eq!(seen.problems[0].kind, ProblemKind::TooLarge);
}

#[test]
fn the_content_tells_the_format_and_what_is_no_log_is_told() {
    for (bytes, kind, words) in [
        (&b""[..], ProblemKind::Empty, "empty"),
        (b" \n\n", ProblemKind::Empty, "blanks"),
        (b"\x1f\x8b\x08", ProblemKind::UnknownFormat, "gzip"),
        (b"\xff\xfe{\0", ProblemKind::UnknownFormat, "UTF-16"),
        (b"hello\nworld\n", ProblemKind::UnknownFormat, "begins with `hello"),
        (b"\x7fELF\x02\x01", ProblemKind::UnknownFormat, "no known log"),
    ] {
        let (seen, format) = read(bytes);
        assert_eq!((format, seen.problem_kinds()), (None, vec![kind]));
        assert!(seen.problems[0].reason.contains(words), "{}", seen.problems[0]);
    }
}

#[test]
fn deep_nesting_and_floods_of_names_stay_bounded() {
    let deep = format!("{{\"a\":1}}\n{}1{}\n{{\"a\":2}}\n", "{\"a\":".repeat(5_000), "}".repeat(5_000));
    let (seen, _) = read(deep.as_bytes());
    assert_eq!((seen.events.len(), seen.problem_kinds()), (2, vec![ProblemKind::BadRecord]));
    let keys: Vec<String> = (0..100_000).map(|number| format!("\"k{number}\":1")).collect();
    let (seen, _) = read(format!("{{{},\"last\":1}}\n{{\"n\":1}}\n", keys.join(",")).as_bytes());
    assert_eq!(seen.problem_kinds(), [ProblemKind::TooLarge]);
    assert_eq!(seen.events[0].one("last"), None);
    assert_eq!(seen.events[1].one("n"), Some("1"));
}
