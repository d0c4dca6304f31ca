//! Event XML: exports, whole and broken.

mod support;

use log_reader::{LogFormat, ProblemKind, RECORD_LIMIT};
use support::read;

fn event(id: u32, data: &str) -> String {
    format!(
        "<Event xmlns='http://x'><System><Provider Name='P' Guid='g'/><EventID Qualifiers='0'>{id}</EventID><Channel>Security</Channel>\
         <EventRecordID>{id}</EventRecordID></System><EventData>{data}</EventData></Event>\r\n"
    )
}

#[test]
fn an_export_is_read_event_by_event() {
    let data = "<Data Name='Image'>C:\\a &amp; b&#x41;&lt;</Data><Data>x</Data><Data><![CDATA[<y>]]></Data><Data Name='None'/>";
    let export = format!("<?xml version=\"1.0\"?>\n<Events>\n{}{}</Events>", event(7, data), event(8, ""));
    let (seen, format) = read(export.as_bytes());
    assert_eq!(format, Some(LogFormat::EventXml));
    assert_eq!(seen.problems, []);
    assert_eq!(seen.events.iter().map(|event| event.record).collect::<Vec<_>>(), [7, 8]);
    let event = &seen.events[0];
    assert_eq!(event.one("Image"), Some("C:\\a & bA<"));
    assert_eq!(event.all("Data"), ["x", "<y>"]);
    assert_eq!(event.one("Provider_Name"), Some("P"));
    assert_eq!(event.one("EventID"), Some("7"));
    assert_eq!(event.one("EventID_Qualifiers"), Some("0"));
    assert_eq!(event.one("None"), Some("<null>"));
}

#[test]
fn broken_events_are_told_and_the_others_are_read() {
    let entity = event(2, "<Data Name='x'>&lol;</Data>");
    let unclosed = "<Event><System><EventID>3</EventID>\n";
    let file = format!(
        "{}{entity}{unclosed}{}</Event>{}<Event><System>",
        event(1, ""),
        event(4, ""),
        event(5, "a\u{fffd}")
    );
    let (seen, _) = read(file.as_bytes());
    assert_eq!(seen.events.iter().map(|event| event.record).collect::<Vec<_>>(), [1, 4, 5]);
    assert_eq!(seen.problem_kinds(), [ProblemKind::BadRecord, ProblemKind::BadRecord, ProblemKind::Cut]);
    assert!(seen.problems[0].reason.contains("unknown entity `lol`"), "{}", seen.problems[0]);
    let place = seen.problems[0].byte as usize;
    assert!((event(1, "").len()..event(1, "").len() + entity.len()).contains(&place), "{place}");
}

#[test]
fn floods_of_starts_and_giant_events_end() {
    let starts = "<Event ".repeat(2 * RECORD_LIMIT / 7);
    let giant = event(1, &format!("<Data>{}</Data>", "x".repeat(2 * RECORD_LIMIT)));
    let (seen, _) = read(format!("<Events>{starts}{giant}{}</Events>", event(2, "")).as_bytes());
    assert_eq!(seen.events.iter().map(|event| event.record).collect::<Vec<_>>(), [2]);
    assert!(seen.problem_kinds().contains(&ProblemKind::TooLarge));
    let deep = event(1, &format!("{}{}", "<a>".repeat(500), "</a>".repeat(500)));
    let (seen, _) = read(format!("{deep}{}", event(2, "")).as_bytes());
    assert_eq!((seen.events.len(), seen.problem_kinds()), (1, vec![ProblemKind::BadRecord]));
}
