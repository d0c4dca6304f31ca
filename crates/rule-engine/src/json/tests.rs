use super::*;

fn document(text: &str) -> Document {
    parse(text).unwrap_or_else(|fault| panic!("{text}: {}", fault.reason))
}

fn faults(text: &str) -> Vec<(String, String)> {
    let document = document(text);
    document
        .faults
        .iter()
        .map(|fault| (text[fault.span.start..fault.span.end].to_owned(), fault.reason.clone()))
        .collect()
}

#[test]
fn what_serde_json_reads_this_reads_alike() {
    for text in [
        "null",
        " true ",
        "[ ]",
        "{ }",
        "-0.5e+10",
        "[1, [2, {\"a\": []}]]",
        r#"{"a": "x\u4e2d\ud83d\ude00\n\/", "b": [false]}"#,
    ] {
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
        assert!(document(text).faults.is_empty(), "{text}");
    }
}

#[test]
fn strings_know_where_each_character_stands() {
    let text = r#"{"k": "a\\d\u4e2d\ud83d\ude00 end"}"#;
    let Json::Object(members) = document(text).root.value else { panic!("an object") };
    let Json::Text(string) = &members[0].value.value else { panic!("a string") };
    assert_eq!(string.decoded, "a\\d中😀 end");
    let source_of = |part: &str| {
        let start = string.decoded.find(part).expect("there");
        let span = string.source_span(start..start + part.len());
        &text[span.start..span.end]
    };
    assert_eq!(source_of("\\"), r"\\");
    assert_eq!(source_of("d"), "d");
    assert_eq!(source_of("中"), r"\u4e2d");
    assert_eq!(source_of("😀"), r"\ud83d\ude00");
    assert_eq!(source_of("end"), "end");
}

#[test]
fn faults_leave_the_structure_readable() {
    assert_eq!(faults(r#"{"a": 1, "b": 2, "a": 3}"#)[0].0, "\"a\"");
    assert_eq!(faults("[1e400, 2]")[0].0, "1e400");
    assert_eq!(faults(r#"["\d+"]"#)[0].0, r"\d");
    assert_eq!(faults(r#"["\ud800x"]"#)[0].0, r"\ud800");
    assert_eq!(faults(r#"["\ud800\u0041"]"#)[0].0, r"\ud800");
    assert_eq!(faults(r#"["\u12"]"#)[0].0, r"\u");
    assert_eq!(faults("[\"a\tb\"]")[0].0, "\t");
}

#[test]
fn what_is_no_json_is_refused_where_it_stands() {
    for (text, at, reason) in [
        ("", 0, "the end of the text where a value should stand"),
        ("{\"a\": NaN}", 6, "`NaN` is no JSON value"),
        ("{\"a\": 1,}", 8, "a comma before `}`"),
        ("[1 2]", 3, "`2` where `,` or `]` should stand"),
        ("[1", 2, "the text ends inside a list"),
        ("{\"a\" 1}", 5, "`1` where `:` should stand behind a key"),
        ("{'a': 1}", 1, "`'` where a key should stand"),
        ("01", 0, "a number begins with 0"),
        ("1.", 2, "the end of the text where a digit behind the point should stand"),
        ("-", 1, "the end of the text where a digit should stand"),
        ("12a", 2, "`a` inside a number"),
        ("\"abc", 0, "a string does not end on its line"),
        ("\"abc\\", 5, "the text ends inside a string"),
        ("\"abc\n\"", 0, "a string does not end on its line"),
        ("// x", 0, "`/` where a value should stand"),
        ("1 2", 2, "text behind the end of the JSON value"),
    ] {
        let fault = parse(text).expect_err(text);
        assert_eq!((fault.span.start, fault.reason.as_str()), (at, reason), "{text}");
    }
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(DEPTH_LIMIT)).is_ok());
    let fault = parse(&nested(1_000_000)).expect_err("too deep");
    assert_eq!(fault.code, DiagnosticCode::TooLarge);
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,64}|[\\[\\]{}\":,0-9eE+\\-.\\\\untrafls \n\t]{0,64}") {
        match parse(&text) {
            Ok(document) => {
                let accepted = serde_json::from_str::<serde_json::Value>(&text).is_ok();
                // What serde_json also refuses by its meaning is a fault here; the reverse is a duplicate key.
                proptest::prop_assert!(accepted || !document.faults.is_empty(), "{text}");
            }
            Err(fault) => {
                proptest::prop_assert!(text.get(fault.span.start..fault.span.end).is_some());
                proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn texts_that_serde_json_writes_are_read_back(words in proptest::collection::vec("\\PC*|[\\x00-\\x20]*", 0..4)) {
        let text = serde_json::to_string(&words).expect("strings");
        let Json::List(items) = document(&text).root.value else { panic!("a list") };
        let read: Vec<&str> = items.iter().map(|item| match &item.value {
            Json::Text(text) => text.decoded.as_str(),
            other => panic!("{other:?}"),
        }).collect();
        proptest::prop_assert_eq!(read, words);
    }
}
