//! Batches: stored once, found again, and what is wrong with them.

use event_model::{
    ActionKind, Detection, DetectionId, EventType, KindFigures, ProcessSummary, ReceiptState, Record,
    RecordBody, RecordKind, ResponseMode, ResponseReceipt, ResponseTarget, RuleId, RuleReference, Severity,
};
use http_body_util::BodyExt as _;
use prost::Message as _;
use protocol::bundle::verify_bundle;
use protocol::envelope::{Purpose, Sealer};
use protocol::link::PolicyStatus;
use protocol::link::agent_message::Message as FromAgent;
use protocol::link::server_message::Message as ToAgent;
use protocol::wire::{Ledger, encode_batch};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::agent::Agent;
use crate::running::{PATIENCE, Running, eventually, now};

async fn count_events(api: &crate::api::Api) -> u64 {
    let histogram = api.get("/events/histogram?type=process_start").await.json;
    histogram.as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_stored_once_however_often_it_comes() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let first = agent.sealed(1..=100, "sleep");
    let second = agent.sealed(101..=150, "sleep");
    for sealed in [&first, &second, &first] {
        stream.send_batch(sealed.clone()).await;
    }
    stream.acknowledged(150).await;
    stream.acknowledged(100).await;
    drop(stream);
    let mut stream = agent.connect(&running, 0).await.unwrap();
    stream.send_batch(second).await;
    stream.acknowledged(150).await;
    assert_eq!(count_events(&admin).await, 150);
    let host = admin.get(&format!("/hosts/{}", agent.host)).await.json;
    assert_eq!(
        host["ledger"],
        json!({ "produced": 150, "stored": 150, "dropped": 0, "unexplained": 0, "kernel_lost": 0 })
    );
    assert_eq!(host["sensor"], "ebpf");

    let found = admin.get("/events?q=number%2042&limit=5").await.json;
    assert_eq!(found["items"].as_array().unwrap().len(), 1, "{found}");
    let event = &found["items"][0];
    assert_eq!((&event["process"]["name"], &event["host"]["name"]), (&json!("sleep"), &json!("test-host")));
    let id = event["event"]["id"].as_str().unwrap();
    assert_eq!(admin.get(&format!("/events/{id}")).await.json, *event);
    let by_field = admin.get("/events?field=process.name:SLEEP&field=user.name:root&limit=500").await.json;
    assert_eq!(by_field["items"].as_array().unwrap().len(), 150);

    let mut seen = Vec::new();
    let mut path = "/events?limit=40".to_owned();
    loop {
        let page = admin.get(&path).await.json;
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|event| event["event"]["sequence"].as_u64().unwrap()),
        );
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/events?limit=40&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, (1..=150).rev().collect::<Vec<_>>(), "pages fit together");
    running.stop().await;
}

/// The agent's numbers go on by what this says, and what waits there is held against it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_with_what_the_server_has() {
    let running = Running::start().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    assert_eq!(first_marks(&mut stream).await, [], "of a host that has sent nothing");
    let (one, two) = (agent.sealed(1..=10, "sleep"), agent.sealed(11..=15, "sleep"));
    for sealed in [&one, &two, &one] {
        stream.send_batch(sealed.clone()).await;
    }
    stream.acknowledged(15).await;
    stream.acknowledged(10).await;
    drop(stream);
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let marks = first_marks(&mut stream).await;
    assert_eq!(marks.len(), 1, "{marks:?}");
    assert_eq!((marks[0].boot_id.as_slice(), marks[0].last_sequence), (&agent.boot.as_bytes()[..], 15));
    assert_eq!(marks[0].batch_sha256, protocol::enrollment::sha256(&two));
    assert_eq!(marks[0].ledger.as_ref().map(|ledger| ledger.produced), Some(15));
    assert!(marks[0].last_event_at_ns > 0);

    // In the next boot the mark of this one is told without its account.
    agent.boot = event_model::BootId::from_uuid(Uuid::new_v4());
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let marks = first_marks(&mut stream).await;
    assert_eq!((marks.len(), marks[0].last_sequence, marks[0].ledger.is_none()), (1, 15, true));
    running.stop().await;
}

/// What the link before handed over is in the marks of the next one, or it is never stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_replaced_moves_no_mark_that_was_told() {
    let running = Running::start().await;
    let mut agent = Agent::first(&running).await;
    for round in 0..20 {
        let mut replaced = agent.connect(&running, 0).await.unwrap();
        first_marks(&mut replaced).await;
        let sealed = agent.sealed(round * 200 + 1..=round * 200 + 200, "sleep");
        replaced.send_batch(sealed).await;
        let mut stream = agent.connect(&running, 0).await.unwrap();
        let told = first_marks(&mut stream).await;
        let mut stream = agent.connect(&running, 0).await.unwrap();
        assert_eq!(first_marks(&mut stream).await, told, "round {round}");
    }
    running.stop().await;
}

async fn first_marks(stream: &mut crate::agent::Stream) -> Vec<protocol::link::HighWaterMark> {
    let first = tokio::time::timeout(PATIENCE, stream.incoming.message()).await.unwrap();
    match first.unwrap().and_then(|message| message.message) {
        Some(ToAgent::HighWaterMarks(marks)) => marks.marks,
        other => panic!("the stream began with {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let running = Running::start().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let batch = agent.sealed(1..=10, "sleep");
    stream.send_batch(batch.clone()).await;
    stream.acknowledged(10).await;
    let folder = running.stop().await;
    let again = server::Server::prepare(&crate::running::config(&folder)).await.unwrap();
    assert!(again.first_start().is_none(), "passwords and tokens are shown once");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let address = again.address();
    let ca = again.app().pki().ca.to_vec();
    let serving = tokio::spawn(again.serve(async move {
        let _ = stopped.await;
    }));
    let mut admin = crate::api::Api::new(address, &ca);
    // The agent's certificate is still good, and the batch known.
    admin.token = None;
    let mut client = crate::agent::client(address, &ca, Some(agent.identity.clone())).await.unwrap();
    let hello = protocol::link::Hello {
        host: Some(crate::agent::facts()),
        boot_id: agent.boot.as_bytes().to_vec(),
        sensor: "ebpf".to_owned(),
        policy_version: 0,
    };
    let messages = tokio_stream::iter([FromAgent::Hello(hello), FromAgent::Batch(batch)])
        .map(|message| protocol::link::AgentMessage { message: Some(message) });
    let mut incoming = client
        .connect(tokio_stream::StreamExt::chain(messages, tokio_stream::pending()))
        .await
        .unwrap()
        .into_inner();
    let acknowledged = async {
        while let Some(message) = incoming.message().await.unwrap() {
            if let Some(ToAgent::Stored(stored)) = message.message {
                return stored.last_sequence;
            }
        }
        0
    };
    assert_eq!(tokio::time::timeout(PATIENCE, acknowledged).await.unwrap(), 10);
    stop.send(()).unwrap();
    serving.await.unwrap();
}

use tokio_stream::StreamExt as _;

pub(crate) fn detection_of(agent: &Agent, sequence: u64) -> Record {
    let event = agent.event(sequence, "xmrig");
    let rule = RuleReference {
        id: RuleId::new("9001"),
        name: "Miner".to_owned(),
        description: "a miner".to_owned(),
        severity: Severity::High,
        attack: vec!["T1496".to_owned()],
        mode: ResponseMode::Auto,
    };
    let entity_id = event_model::ProcessEntityId::new(agent.boot, 1000, sequence * 1_000);
    let detection = Detection {
        id: DetectionId::of_match(event.header.event_id(), &rule.id),
        rule,
        ancestry: vec![ProcessSummary {
            entity_id,
            pid: 1000,
            executable: "/tmp/xmrig".to_owned(),
            command_line: "/tmp/xmrig".to_owned(),
            user: "root".to_owned(),
            start: event.header.observed_at,
        }],
        event,
        matched: vec!["name contains 'xmr'".to_owned()],
        actions: vec![ActionKind::Alert, ActionKind::TerminateProcess],
    };
    Record { header: agent.header(sequence + 1), body: RecordBody::Detection(Box::new(detection)) }
}

pub(crate) fn receipt_of(detection: &Record) -> Record {
    let RecordBody::Detection(found) = &detection.body else { panic!() };
    let mut header = detection.header.clone();
    header.sequence += 1;
    let receipt = ResponseReceipt {
        asks: None,
        id: Uuid::new_v4(),
        detection_id: found.id,
        action: ActionKind::TerminateProcess,
        target: ResponseTarget {
            entity_id: found.ancestry[0].entity_id,
            executable: "/tmp/xmrig".to_owned(),
        },
        state: ReceiptState::Verified,
        reason: "the process is gone".to_owned(),
        steps: vec![event_model::ReceiptStep { at: header.observed_at, what: "sent SIGTERM".to_owned() }],
    };
    Record { header, body: RecordBody::Receipt(Box::new(receipt)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detection_becomes_an_alert_with_its_receipt_and_is_seen_live() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let live = admin.send(admin.request("GET", "/events/stream?q=xmrig", None)).await;
    assert_eq!(live.headers()["content-type"], "text/event-stream");
    let mut live = live.into_body();

    let mut stream = agent.connect(&running, 0).await.unwrap();
    let event = Record { header: agent.header(1), body: RecordBody::Event(agent.event(1, "xmrig")) };
    let detection = detection_of(&agent, 1);
    let receipt = receipt_of(&detection);
    let plain = agent.batch_of(&[event, detection, receipt]);
    let sealed = agent.sealer.seal(&plain);
    stream.send_batch(sealed.clone()).await;
    stream.acknowledged(3).await;

    let mut heard = String::new();
    while !(heard.contains("event: event") && heard.contains("event: alert") && heard.contains("event: host"))
    {
        let frame =
            tokio::time::timeout(PATIENCE, live.frame()).await.expect("live messages").unwrap().unwrap();
        heard.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap_or_default()));
    }

    // Again: one alert, counted once.
    stream.send_batch(sealed).await;
    stream.acknowledged(3).await;
    let alerts = admin.get("/alerts?severity=high,critical&status=new").await.json;
    assert_eq!(alerts["items"].as_array().unwrap().len(), 1, "{alerts}");
    let alert = &alerts["items"][0];
    assert_eq!((&alert["count"], &alert["responses"][0]["state"]), (&json!(1), &json!("verified")));
    let path = format!("/alerts/{}", alert["id"].as_str().unwrap());
    let detail = admin.get(&path).await.json;
    assert_eq!(detail["ancestry"][0]["executable"], "/tmp/xmrig");
    assert_eq!(detail["matched"], json!(["name contains 'xmr'"]));
    assert_eq!(detail["event"]["process"]["name"], "xmrig");

    // The audit log says what was asked for, and no more.
    assert_eq!(admin.patch(&path, json!({ "note": "looked at it" })).await.status, 200);
    let audit = admin.get("/audit?limit=10").await.json;
    let row = &audit["items"][0];
    assert_eq!((&row["what"], &row["detail"]), (&json!("alert.update"), &json!("note")), "{audit}");

    let closing = admin.patch(&path, json!({ "status": "closed" })).await;
    assert_eq!(closing.status, 422, "closing needs a reason: {}", closing.json);
    let closed = admin
        .patch(
            &path,
            json!({ "status": "closed", "close_reason": "benign", "assignee": "admin", "note": "a test" }),
        )
        .await;
    assert_eq!((closed.status, &closed.json["notes"][1]["text"]), (200, &json!("a test")), "{}", closed.json);
    let dashboard = admin.get("/dashboard").await.json;
    assert_eq!(dashboard["hosts"], json!({ "total": 1, "online": 1, "offline": 0 }));
    assert_eq!(dashboard["recent_alerts"][0]["status"], "closed");
    assert_eq!(dashboard["events_per_minute"].as_array().unwrap().len(), 60);
    assert_eq!(dashboard["alerts_per_hour"].as_array().unwrap().len(), 24);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exception_is_tried_on_past_alerts_before_it_is_made() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let rule = r#"{ "id": 9001, "name": "Miner", "type": "process", "severity": "high",
        "conditions": ["name contains 'xmr'"], "actions": ["alert"] }"#;
    assert_eq!(admin.post("/rules", json!({ "text": rule })).await.status, 201);
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let event = Record { header: agent.header(1), body: RecordBody::Event(agent.event(1, "xmrig")) };
    let plain = agent.batch_of(&[event, detection_of(&agent, 1)]);
    let sealed = agent.sealer.seal(&plain);
    stream.send_batch(sealed).await;
    stream.acknowledged(2).await;

    let path = "/rules/9001/exceptions/preview";
    let tried = |exception: serde_json::Value| {
        let admin = &admin;
        async move { admin.post(path, json!({ "text": exception.to_string() })).await.json }
    };
    let hidden = tried(json!({ "condition": "name = 'xmrig'", "reason": "ours" })).await;
    assert_eq!(
        (&hidden["examined"], &hidden["hidden"], &hidden["hidden_detections"], &hidden["incomplete"]),
        (&json!(1), &json!(1), &json!(1), &json!(false)),
        "{hidden}"
    );
    assert_eq!(hidden["sample"][0]["process"]["executable"], "/tmp/xmrig", "{hidden}");
    for stays in [
        json!({ "condition": "name = 'another'", "reason": "x" }),
        json!({ "condition": "name = 'xmrig'", "hosts": ["another-host"], "reason": "x" }),
        json!({ "condition": "name = 'xmrig'", "expires": "2001-01-01T00:00:00Z", "reason": "x" }),
    ] {
        let kept = tried(stays.clone()).await;
        assert_eq!((&kept["examined"], &kept["hidden"]), (&json!(1), &json!(0)), "{stays}: {kept}");
    }
    let by_host = tried(json!({ "hosts": ["test-*"], "reason": "a test host" })).await;
    assert_eq!(by_host["hidden"], 1, "{by_host}");
    let later =
        json!({ "text": "{\"hosts\": [\"test-*\"], \"reason\": \"x\"}", "since": "2099-01-01T00:00:00Z" });
    assert_eq!(admin.post(path, later).await.json["examined"], 0);

    let bad = admin.post(path, json!({ "text": "{\"condition\": \"nam = 'x'\", \"reason\": \"x\"}" })).await;
    assert_eq!((bad.status, bad.code()), (422, "rule_refused"));
    assert_eq!(bad.json["diagnostics"][0]["code"], "unknown-field");
    let missing = admin.post("/rules/none/exceptions/preview", json!({ "text": "{}" })).await;
    assert_eq!(missing.status, 404);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_wrong_is_refused_and_the_next_is_stored() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();

    let mut flipped = agent.sealed(1..=10, "sleep");
    let middle = flipped.len() - 40;
    flipped[middle] ^= 1;
    stream.send_batch(flipped).await;
    assert!(stream.refused().await.reason.contains("could not be opened"));
    assert_eq!(admin.counter("bad_envelope").await, 1);

    stream.send_batch(b"rubbish".to_vec()).await;
    assert!(stream.refused().await.reason.contains("not an EDR1 envelope"));
    assert_eq!(admin.counter("bad_envelope").await, 2);

    let stranger = event_model::HostId::from_uuid(Uuid::new_v4());
    let mut foreign = Sealer::new(&agent.sealing_key, stranger, Purpose::Batch).unwrap();
    let plain = agent.batch_of(&[agent.record(1, "sleep")]);
    stream.send_batch(foreign.seal(&plain)).await;
    assert!(stream.refused().await.reason.contains("not this agent's"));
    assert_eq!(admin.counter("wrong_agent").await, 1);

    let sealed = agent.sealer.seal(b"\xff\xff\xff not protobuf");
    stream.send_batch(sealed).await;
    assert!(stream.refused().await.reason.contains("can't be decoded"));
    assert_eq!(admin.counter("malformed").await, 1);

    // Two records with one number: opened and read, so the refusal says which batch it was.
    let twice = agent.batch_of(&[agent.record(5, "a"), agent.record(5, "b")]);
    let sealed = agent.sealer.seal(&twice);
    stream.send_batch(sealed).await;
    let refused = stream.refused().await;
    assert_eq!((refused.first_sequence, refused.last_sequence), (5, 5));
    assert_eq!(refused.boot_id, agent.boot.as_bytes());

    // 65 MiB of zeros pack into a few kilobytes.
    let bomb = agent.sealer.seal(&vec![0; 65 * 1024 * 1024]);
    assert!(bomb.len() < 100_000);
    stream.send_batch(bomb).await;
    assert!(stream.refused().await.reason.contains("maximum"));
    assert_eq!(admin.counter("oversize").await, 1);

    let good = agent.sealed(11..=20, "sleep");
    stream.send_batch(good).await;
    stream.acknowledged(20).await;
    assert_eq!(count_events(&admin).await, 10);
    running.stop().await;
}

/// An agent of an earlier version sends more matched conditions than the server takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_past_a_limit_is_left_out_and_costs_no_other() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let event = |sequence| Record {
        header: agent.header(sequence),
        body: RecordBody::Event(agent.event(sequence, "xmrig")),
    };
    let records = [event(1), detection_of(&agent, 1), event(3), detection_of(&agent, 3)];
    let kinds = [(RecordKind::Event(EventType::ProcessStart), 2), (RecordKind::Detection, 2)]
        .map(|(kind, produced)| KindFigures { kind, produced, dropped: Vec::new() });
    let ledger = Ledger { produced: 4, kinds: kinds.to_vec(), ..Ledger::default() };
    let plain = encode_batch(agent.boot, 1, 4, &records, &ledger);
    let mut batch = protocol::link::Batch::decode(plain.as_slice()).unwrap();
    let Some(protocol::link::record::Body::Detection(detection)) = &mut batch.records[1].body else {
        panic!("a detection")
    };
    detection.matched = (0..4_200).map(|number| format!("uid!={number}")).collect();
    let sealed = agent.sealer.seal(&batch.encode_to_vec());
    // Twice: nothing is counted twice.
    for _ in 0..2 {
        stream.send_batch(sealed.clone()).await;
        stream.acknowledged(4).await;
    }

    assert_eq!(count_events(&admin).await, 2);
    let alerts = admin.get("/alerts").await.json;
    assert_eq!(alerts["items"].as_array().unwrap().len(), 1, "the other detection: {alerts}");
    assert_eq!(alerts["items"][0]["count"], 1, "{alerts}");
    let gaps = admin.get("/events?type=gap").await.json;
    let [gap] = gaps["items"].as_array().unwrap().as_slice() else { panic!("one gap: {gaps}") };
    assert_eq!(gap["event"]["sequence"], 2);
    let told = &gap["rampart"]["gap"];
    assert_eq!(
        (&told["sensor"], &told["reason"], &told["what"], &told["count"], &told["records"]),
        (&json!("server"), &json!("server_refused"), &json!("detection"), &json!(1), &json!(1)),
    );
    let host = admin.get(&format!("/hosts/{}", agent.host)).await.json;
    let ledger = json!({ "produced": 4, "stored": 3, "dropped": 1, "unexplained": 0, "kernel_lost": 0 });
    assert_eq!(host["ledger"], ledger);
    let account = admin.get(&format!("/hosts/{}/account", agent.host)).await.json;
    let rows = account["kinds"].as_array().unwrap();
    let detections = rows.iter().find(|row| row["kind"] == "detection").expect("a row");
    let dropped = json!([{ "reason": "server_refused", "count": 1 }]);
    assert_eq!((&detections["stored"], &detections["dropped"]), (&json!(1), &dropped), "{account}");
    assert!(rows.iter().all(|row| row["difference"] == 0), "{account}");
    assert_eq!(admin.counter("oversize").await, 2, "once each time that it came");
    running.stop().await;
}

/// The operator started the server with another RSA key: the batches are good, the key is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sealed_for_another_key_ends_the_link_and_is_not_refused() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let other = Running::start().await;
    let mut sealer = Sealer::new(&other.app.pki().sealing_key, agent.host, Purpose::Batch).unwrap();
    other.stop().await;
    let good = agent.sealed(1..=10, "sleep");
    let records: Vec<_> = (11..=20).map(|sequence| agent.record(sequence, "sleep")).collect();
    let foreign = sealer.seal(&agent.batch_of(&records));

    let mut stream = agent.connect(&running, 0).await.unwrap();
    stream.send_batch(good).await;
    stream.send_batch(foreign).await;
    stream.acknowledged(10).await;
    let end = loop {
        match stream.next().await {
            Ok(Some(ToAgent::Policy(_))) => {}
            Ok(other) => panic!("{other:?}"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), tonic::Code::FailedPrecondition, "{end:?}");
    assert!(end.message().contains("another key; hint:"), "{}", end.message());
    assert_eq!(admin.counter("bad_envelope").await, 1);
    let ledger = admin.get(&format!("/hosts/{}", agent.host)).await.json["ledger"].clone();
    assert_eq!(ledger["stored"], 10, "{ledger}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_100_mb_ends_its_link_and_nothing_else() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let memory_before = resident();
    stream.send_batch(vec![7; 100 * 1024 * 1024]).await;
    let end = stream.end().await;
    eventually("it is counted", || async { (admin.counter("oversize").await == 1).then_some(()) }).await;
    assert!(resident().saturating_sub(memory_before) < 400 << 20, "client and server together");
    println!("end of the link: {end:?}");
    let mut stream = agent.connect(&running, 0).await.expect("a new link");
    let good = agent.sealed(1..=10, "sleep");
    stream.send_batch(good).await;
    stream.acknowledged(10).await;
    running.stop().await;
}

/// Resident memory in bytes; 0 where the system does not say.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_reach_an_agent_when_it_connects_and_when_they_change() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let Some(ToAgent::Policy(signed)) = stream.next().await.unwrap() else { panic!("a bundle comes first") };
    let bundle = verify_bundle(&signed, &agent.command_key, 0, now()).expect("signed by the server");
    assert!(!bundle.rules.is_empty());

    let report = PolicyStatus {
        policy_version: bundle.version,
        rules_loaded: 7,
        errors: vec!["rule 3: bad".to_owned()],
    };
    stream.send(FromAgent::PolicyStatus(report)).await;
    let host = format!("/hosts/{}", agent.host);
    let shown = eventually("the agent's report is shown", || async {
        let host = admin.get(&host).await.json;
        (host["rules_loaded"] == 7).then_some(host)
    })
    .await;
    assert_eq!(shown["rules_errors"], json!(["rule 3: bad"]));

    let id = admin.get("/rules").await.json["items"][0]["id"].as_str().unwrap().to_owned();
    let start = std::time::Instant::now();
    assert_eq!(admin.patch(&format!("/rules/{id}"), json!({ "mode": "auto" })).await.status, 200);
    let Some(ToAgent::Policy(signed)) = stream.next().await.unwrap() else { panic!("a bundle comes") };
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
    let newer = verify_bundle(&signed, &agent.command_key, bundle.version, now()).expect("newer");
    let rule = newer.rules.iter().find(|rule| rule.id == id).unwrap();
    let rule: Json = serde_json::from_str(&rule.json).unwrap();
    assert_eq!(rule["mode"], "auto");

    // A change by another process is noticed too.
    use event_model::ResponseMode;
    use state_store::RuleStore as _;
    running.state().set_mode_of_all(ResponseMode::Off, "edr", now()).unwrap();
    let Some(ToAgent::Policy(signed)) = stream.next().await.unwrap() else { panic!("a bundle comes") };
    let newest = verify_bundle(&signed, &agent.command_key, newer.version, now()).expect("newer");
    assert!(newest.rules.iter().all(|rule| rule.json.contains("\"off\"")));

    drop(stream);
    let mut same = agent.connect(&running, newest.version).await.unwrap();
    let nothing = tokio::time::timeout(std::time::Duration::from_millis(300), same.next()).await;
    assert!(nothing.is_err(), "an agent that has the version gets no bundle");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_batches_under_way_are_stored_and_answered_in_order() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let batches: Vec<_> =
        (0..100).map(|batch| agent.sealed(batch * 100 + 1..=batch * 100 + 100, "sleep")).collect();
    let start = std::time::Instant::now();
    let to_server = stream.to_server.clone();
    let sending = tokio::spawn(async move {
        for batch in batches {
            let message = protocol::link::AgentMessage { message: Some(FromAgent::Batch(batch)) };
            to_server.send(message).await.unwrap();
        }
    });
    let mut last = 0;
    while last < 10_000 {
        match stream.next_answer().await {
            ToAgent::Stored(stored) => {
                assert!(stored.last_sequence > last);
                last = stored.last_sequence;
            }
            other => panic!("{other:?}"),
        }
    }
    sending.await.unwrap();
    println!("10,000 records in 100 batches, durable: {:?}", start.elapsed());
    assert_eq!(count_events(&admin).await, 10_000);
    running.stop().await;
}
