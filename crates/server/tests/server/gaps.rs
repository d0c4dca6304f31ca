//! Gaps among what a search finds: all of them, or a word about how many are not shown.

use std::collections::HashSet;

use event_model::{EventRecord, EventType, Field, Record, RecordBody, Value};

use crate::agent::Agent;
use crate::running::Running;

const GAPS_BETWEEN: u64 = 5;
const GAPS: u64 = 300;

/// An agent's batch of process starts with some gaps after each.
async fn starts_and_gaps(running: &Running) {
    let mut agent = Agent::first(running).await;
    let mut stream = agent.connect(running, 0).await.unwrap();
    let last = GAPS + GAPS / GAPS_BETWEEN;
    let records: Vec<_> = (1..=last)
        .map(|sequence| {
            let fields = vec![
                (Field::GapReason, Value::Text("kernel_ring_full".to_owned())),
                (Field::GapCount, Value::Integer(1)),
            ];
            let is_start = sequence % (GAPS_BETWEEN + 1) == 1;
            if is_start {
                return agent.record(sequence, "sleep");
            }
            let event = EventRecord::from_fields(agent.header(sequence), EventType::Gap, fields);
            Record { header: event.header.clone(), body: RecordBody::Event(event) }
        })
        .collect();
    let plain = agent.batch_of(&records);
    let sealed = agent.sealer.seal(&plain);
    stream.send_batch(sealed).await;
    stream.acknowledged(last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_a_search_bring_every_gap_once() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    starts_and_gaps(&running).await;
    let first = "/events?type=process_start&limit=10".to_owned();
    let mut path = first.clone();
    let (mut gaps, mut starts) = (HashSet::new(), 0);
    loop {
        let page = admin.get(&path).await.json;
        assert_eq!(page["gaps_not_shown"], 0, "{path}");
        for event in page["items"].as_array().unwrap() {
            match event["rampart"]["event"]["type"].as_str().unwrap() {
                "gap" => assert!(gaps.insert(event["event"]["id"].as_str().unwrap().to_owned()), "{event}"),
                _ => starts += 1,
            }
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("{first}&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!((gaps.len() as u64, starts), (GAPS, GAPS / GAPS_BETWEEN));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_without_room_for_all_gaps_says_how_many_are_not_shown() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    starts_and_gaps(&running).await;
    let found = admin.get("/events?q=number%201&field=process.name:sleep&limit=500").await.json;
    let gaps = found["items"].as_array().unwrap().iter();
    let gaps = gaps.filter(|event| event["rampart"]["event"]["type"] == "gap").count() as u64;
    assert_eq!((gaps, found["gaps_not_shown"].as_u64()), (200, Some(GAPS - 200)));
    assert!(found["next_cursor"].is_null());
    // Those that were searched for are there already, and are not counted as missing.
    let found = admin.get("/events?type=gap&limit=500").await.json;
    assert_eq!(found["items"].as_array().unwrap().len() as u64, GAPS);
    assert_eq!(found["gaps_not_shown"], 0);
    let some = admin.get("/events?type=gap&limit=50").await.json;
    assert_eq!((some["items"].as_array().unwrap().len(), some["gaps_not_shown"].as_u64()), (50, Some(0)));
    running.stop().await;
}
