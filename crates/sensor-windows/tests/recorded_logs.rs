//! Recorded Windows logs by the code that a live subscription feeds. They are not in this repository: see
//! CONTRIBUTING.md on `RAMPART_CORPORA`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use event_model::{EventType, Field, Value};
use log_reader::{FieldLayout, LogDecoder};
use sensor_windows::event_log::{Records, is_collected, meaning};

fn recorded() -> Vec<PathBuf> {
    let root = std::env::var_os("RAMPART_CORPORA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpora")),
        PathBuf::from,
    );
    let entries = fs::read_dir(root.join("evtx")).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "evtx"))
        .collect();
    files.sort();
    if files.is_empty() {
        println!("skipped: no recorded logs in {}", root.join("evtx").display());
    }
    files
}

#[test]
fn recorded_logs_become_events_that_tell_what_their_types_must() {
    let files = recorded();
    if files.is_empty() {
        return;
    }
    let layout = Arc::new(FieldLayout::built_in().unwrap());
    let mut decoder = LogDecoder::new(layout, Records::default());
    let mut told: BTreeMap<EventType, usize> = BTreeMap::new();
    let mut collected = 0;
    for path in &files {
        decoder.read_log(&mut fs::File::open(path).unwrap()).unwrap();
        for record in decoder.consumer().whole.drain(..) {
            // Traces that were saved as a log have none; a subscription always has.
            if record.channel().is_empty() {
                continue;
            }
            let event = record.event();
            let id = event.fields.iter().find(|(field, _)| *field == Field::LogEventId);
            assert!(matches!(id, Some((_, Value::Integer(id))) if *id > 0), "{}: {record:?}", path.display());
            collected += usize::from(is_collected(record.channel(), record.id().unwrap_or(0)));
            for event in [Some(event), meaning(&record)].into_iter().flatten() {
                for needed in event.event_type.spec().needs {
                    let by_target = *needed == Field::TargetPid && event.target.is_some();
                    let has = by_target || event.fields.iter().any(|(field, _)| field == needed);
                    assert!(has, "{}: {:?} lacks {needed:?}: {record:?}", path.display(), event.event_type);
                }
                let mut fields: Vec<_> = event.fields.iter().map(|(field, _)| *field).collect();
                fields.sort();
                fields.dedup();
                assert_eq!(fields.len(), event.fields.len(), "a field twice: {event:?}");
                *told.entry(event.event_type).or_default() += 1;
            }
        }
    }
    println!("{} files, {collected} records of collected ids, events: {told:?}", files.len());
    for event_type in [
        EventType::EventLogRecord,
        EventType::UserLogon,
        EventType::Service,
        EventType::ImageLoad,
        EventType::ProcessAccess,
        EventType::ProcessTamper,
        EventType::PipeCreate,
        EventType::ModuleLoad,
        EventType::Persistence,
        EventType::ScriptContent,
    ] {
        assert!(told.contains_key(&event_type), "no {event_type} in {} files", files.len());
    }
    assert!(collected > 1_000, "{collected}");
}
