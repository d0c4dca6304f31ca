//! Recorded Windows logs, whole and damaged. They are not in this repository: see
//! CONTRIBUTING.md on `RAMPART_CORPORA`.

mod support;

use std::fs;
use std::path::PathBuf;

use log_reader::{LogFormat, ProblemKind};
use support::{decoder, read};

const HEADER: usize = 4096;
const CHUNK: usize = 65_536;

fn corpus(folder: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let root = std::env::var_os("RAMPART_CORPORA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpora")),
        PathBuf::from,
    );
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        println!("skipped: no recorded logs in {}", root.join(folder).display());
        return None;
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "evtx"))
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("a file of the corpus can be read");
        (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), bytes)
    };
    Some(files.into_iter().map(read).collect())
}

/// The first file with several chunks, and one chunk's worth of records at least.
fn several_chunks() -> Option<Vec<u8>> {
    let whole = |bytes: &Vec<u8>| {
        bytes.len() >= HEADER + 2 * CHUNK
            && bytes[HEADER + CHUNK..].starts_with(b"ElfChnk")
            && !read(bytes).0.events.is_empty()
    };
    corpus("evtx")?.into_iter().map(|(_, bytes)| bytes).find(whole)
}

#[test]
fn every_record_of_the_corpora_is_read_and_says_what_it_is() {
    for folder in ["evtx", "regression"] {
        let Some(files) = corpus(folder) else { return };
        let mut count = 0;
        for (name, bytes) in &files {
            let (seen, format) = read(bytes);
            assert_eq!(format, Some(LogFormat::Evtx), "{name}");
            let lost: Vec<_> =
                seen.problems.iter().filter(|problem| problem.kind == ProblemKind::BadRecord).collect();
            assert!(lost.is_empty(), "{name}: {lost:?}");
            for event in &seen.events {
                let says = |field| event.one(field).is_some_and(|value| !value.is_empty());
                assert!(says("EventID") && says("Channel") && says("Provider_Name"), "{name}: {event:?}");
                assert!(event.time.is_some(), "{name}: {event:?}");
                assert_eq!(event.one("EventRecordID"), Some(event.record.to_string().as_str()), "{name}");
            }
            count += seen.events.len();
        }
        println!("{folder}: {count} records in {} files", files.len());
        assert!(count > 100);
    }
}

#[test]
fn event_xml_of_a_record_gives_the_same_fields_as_the_record() {
    let Some(files) = corpus("evtx") else { return };
    let mut count = 0;
    for (name, bytes) in &files {
        let (from_evtx, _) = read(bytes);
        let mut parser = evtx::EvtxParser::from_buffer(bytes.clone()).expect("a log");
        let xml: Vec<String> = parser.records().filter_map(|record| Some(record.ok()?.data)).collect();
        let (from_export, format) = read(format!("<Events>\n{}\n</Events>", xml.join("\n")).as_bytes());
        if xml.is_empty() {
            continue;
        }
        assert_eq!(format, Some(LogFormat::EventXml), "{name}");
        assert_eq!(from_export.problems, [], "{name}");
        let mut live = decoder();
        for event in &xml {
            assert!(live.read_event_xml(event).is_continue());
        }
        let live = live.into_consumer();
        assert_eq!(live.events, from_export.events, "{name}");
        assert_eq!(from_evtx.events.len(), from_export.events.len(), "{name}");
        for (record, event) in from_evtx.events.iter().zip(&from_export.events) {
            let sorted = |seen: &support::Seen| {
                let mut fields = seen.fields.clone();
                // XML has no way to write these.
                let no_xml = |c: char| c.is_control() && !matches!(c, '\t' | '\r' | '\n');
                for (_, value) in &mut fields {
                    *value = value.replace(no_xml, "_");
                }
                fields.sort();
                fields
            };
            assert_eq!(sorted(record), sorted(event), "{name}");
            assert_eq!((record.record, &record.origin), (event.record, &event.origin), "{name}");
            count += 1;
        }
    }
    assert!(count > 1_000, "{count}");
}

#[test]
fn a_cut_file_gives_what_it_still_holds() {
    let Some(whole) = several_chunks() else { return };
    let all = read(&whole).0.events;
    for length in
        [0, 7, 100, HEADER, HEADER + 100, HEADER + CHUNK / 2, HEADER + CHUNK + 3_000, whole.len() - 1]
    {
        let (seen, _) = read(&whole[..length]);
        assert!(seen.events.len() <= all.len());
        assert!(
            all.starts_with(&seen.events) || seen.events.iter().all(|event| all.contains(event)),
            "{length}"
        );
        assert!(
            !seen.problems.is_empty() || length == HEADER || whole[length..].iter().all(|byte| *byte == 0),
            "{length}"
        );
        if length > HEADER + CHUNK {
            assert!(!seen.events.is_empty(), "{length}");
        }
    }
}

#[test]
fn damage_in_one_chunk_leaves_the_others() {
    let Some(whole) = several_chunks() else { return };
    let all = read(&whole).0.events.len();
    // The header is gone, and the first chunk's.
    let mut damaged = whole.clone();
    damaged[..16].fill(0xaa);
    let (seen, format) = read(&damaged);
    assert_eq!((format, seen.events.len()), (Some(LogFormat::Evtx), all));
    assert!(seen.problem_kinds().contains(&ProblemKind::Damaged));
    damaged[HEADER + 8..HEADER + 16].fill(0);
    damaged[HEADER..HEADER + 8].copy_from_slice(b"garbage!");
    let mut with_header = whole.clone();
    with_header[HEADER..HEADER + 8].copy_from_slice(b"garbage!");
    let (seen, _) = read(&with_header);
    assert!(!seen.events.is_empty() && seen.events.len() < all);
    assert_eq!(seen.problems[0].kind, ProblemKind::Damaged);
    assert_eq!(seen.problems[0].byte, HEADER as u64);
    // A record in the middle is overwritten.
    let mut damaged = whole.clone();
    let middle = HEADER + 5_000;
    damaged[middle..middle + 400].fill(0x5a);
    let (seen, _) = read(&damaged);
    assert!(!seen.events.is_empty());
    assert!(seen.problem_kinds().contains(&ProblemKind::Damaged), "{:?}", seen.problems);
    // A chunk alone, carved from a disk.
    let (seen, format) = read(&whole[HEADER..HEADER + CHUNK]);
    assert_eq!(format, Some(LogFormat::Evtx));
    assert!(!seen.events.is_empty());
}

#[test]
fn the_dirty_flag_is_told() {
    let Some(mut whole) = several_chunks() else { return };
    let all = read(&whole).0.events.len();
    whole[120] |= 1;
    let (seen, _) = read(&whole);
    assert_eq!(seen.events.len(), all);
    assert!(seen.problem_kinds().contains(&ProblemKind::Dirty));
}
