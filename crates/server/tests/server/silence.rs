//! Hosts that should report and do not, and records that should be there and are not.

use std::time::Duration;

use event_model::{EventRecord, EventType, Field, Record, RecordBody, Value};
use serde_json::Value as Json;

use crate::agent::{Agent, Stream};
use crate::api::Api;
use crate::running::{PATIENCE, Running, eventually};

/// Short, so that the tests are; longer than whatever a busy machine holds up.
const SILENT_AFTER: Duration = Duration::from_secs(3);

async fn host(admin: &Api, agent: &Agent) -> Json {
    admin.get(&format!("/hosts/{}", agent.host)).await.json
}

/// Alerts of a host's silence.
async fn alerts(admin: &Api, agent: &Agent) -> Vec<Json> {
    let answer = admin.get(&format!("/alerts?rule=rampart.silent_host&host={}", agent.host)).await;
    answer.json["items"].as_array().cloned().unwrap_or_default()
}

async fn contact_becomes(admin: &Api, agent: &Agent, wanted: &str) -> Json {
    eventually(&format!("the host is {wanted}"), || async {
        Some(host(admin, agent).await).filter(|host| host["contact"] == wanted)
    })
    .await
}

async fn another(running: &Running, admin: &Api) -> Agent {
    let wish = serde_json::json!({"ttl_seconds": 600, "uses": 1});
    let made = admin.post("/enrollment-tokens", wish).await;
    Agent::with_token(running, made.json["token"].as_str().expect("a token")).await
}

/// What an agent says of itself, as one batch.
async fn say(agent: &mut Agent, stream: &mut Stream, sequence: u64, event_type: EventType) {
    let fields = vec![(Field::AgentStopReason, Value::Text("signal".to_owned()))];
    let event = EventRecord::from_fields(agent.header(sequence), event_type, fields);
    let record = Record { header: agent.header(sequence), body: RecordBody::Event(event) };
    let plain = agent.batch_of(&[record]);
    let sealed = agent.sealer.seal(&plain);
    stream.send_batch(sealed).await;
    stream.acknowledged(sequence).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_cut_off_raises_an_alert_which_closes_when_it_returns() {
    let running = Running::start_watching(tempfile::tempdir().unwrap(), SILENT_AFTER).await;
    let admin = running.administrator().await;
    let (mut stopped, cut_off) = (Agent::first(&running).await, another(&running, &admin).await);
    assert_eq!(host(&admin, &cut_off).await["contact"], "never");
    // This one is asked to stop, and says so.
    let mut stream = stopped.connect(&running, 0).await.unwrap();
    contact_becomes(&admin, &stopped, "reporting").await;
    say(&mut stopped, &mut stream, 1, EventType::AgentStop).await;
    contact_becomes(&admin, &stopped, "stopped").await;
    drop(stream);
    // This one is gone without a word, after the other.
    drop(cut_off.connect(&running, 0).await.unwrap());
    contact_becomes(&admin, &cut_off, "silent").await;
    let raised = alerts(&admin, &cut_off).await;
    assert_eq!((raised.len(), &raised[0]["status"]), (1, &"new".into()), "{raised:?}");
    assert_eq!(raised[0]["rule"]["severity"], "high");
    assert_eq!(alerts(&admin, &stopped).await, Vec::<Json>::new(), "a planned stop is no silence");
    assert_eq!(host(&admin, &stopped).await["contact"], "stopped");

    let _stream = cut_off.connect(&running, 0).await.unwrap();
    contact_becomes(&admin, &cut_off, "reporting").await;
    let closed = eventually("the alert is closed", || async {
        alerts(&admin, &cut_off).await.into_iter().find(|alert| alert["status"] == "closed")
    })
    .await;
    assert_eq!((&closed["id"], &closed["close_reason"]), (&raised[0]["id"], &"benign".into()));

    // The one that was stopped begins again, and is watched again.
    let mut stream = stopped.connect(&running, 0).await.unwrap();
    say(&mut stopped, &mut stream, 2, EventType::AgentStart).await;
    contact_becomes(&admin, &stopped, "reporting").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_link_over_which_nothing_comes_is_silence_too() {
    let running = Running::start_watching(tempfile::tempdir().unwrap(), SILENT_AFTER).await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    contact_becomes(&admin, &agent, "silent").await;
    let raised = alerts(&admin, &agent).await;
    let detail = admin.get(&format!("/alerts/{}", raised[0]["id"].as_str().unwrap())).await.json;
    assert!(detail["matched"][0].as_str().unwrap().contains("link is open"), "{detail}");
    // As after a SIGSTOP that is over.
    say(&mut agent, &mut stream, 1, EventType::AgentHealth).await;
    contact_becomes(&admin, &agent, "reporting").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_gives_hosts_time_to_come_back() {
    let running = Running::start_watching(tempfile::tempdir().unwrap(), SILENT_AFTER).await;
    let admin = running.administrator().await;
    let (back, away) = (Agent::first(&running).await, another(&running, &admin).await);
    let streams = [back.connect(&running, 0).await.unwrap(), away.connect(&running, 0).await.unwrap()];
    contact_becomes(&admin, &back, "reporting").await;
    contact_becomes(&admin, &away, "reporting").await;
    let folder = running.stop().await;
    drop(streams);
    // Longer than the hosts may be silent.
    tokio::time::sleep(SILENT_AFTER).await;
    let running = Running::start_watching(folder, SILENT_AFTER).await;
    let admin = running.administrator_again().await;
    let stream = back.connect(&running, 0).await.unwrap();
    let beat = protocol::link::agent_message::Message::Heartbeat(protocol::link::Heartbeat {});
    let beating = async {
        loop {
            stream.send(beat.clone()).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    tokio::select! {
        () = beating => {}
        _ = contact_becomes(&admin, &away, "silent") => {}
    }
    assert_eq!(alerts(&admin, &away).await.len(), 1);
    assert_eq!(alerts(&admin, &back).await, Vec::<Json>::new(), "it came back in time");
    assert_eq!(host(&admin, &back).await["contact"], "reporting");
    running.stop().await;
}

/// A host that goes on reporting.
struct Reporting {
    agent: Agent,
    stream: Stream,
    next: u64,
}

impl Reporting {
    async fn from(running: &Running, agent: Agent, next: u64) -> Self {
        let stream = agent.connect(running, 0).await.unwrap();
        Self { agent, stream, next }
    }

    async fn report(&mut self) {
        say(&mut self.agent, &mut self.stream, self.next, EventType::AgentHealth).await;
        self.next += 1;
    }

    /// The alert of the host's unexplained loss, if there is one that is `wanted`.
    async fn loss_alert(&self, admin: &Api, wanted: &str) -> Option<Json> {
        let path = format!("/alerts?rule=rampart.unexplained_loss&host={}", self.agent.host);
        let alerts = admin.get(&path).await.json;
        alerts["items"].as_array()?.iter().find(|alert| alert["status"] == wanted).cloned()
    }
}

/// All report until the last one has such an alert.
async fn report_until_alert(hosts: &mut [&mut Reporting], admin: &Api, wanted: &str) -> Json {
    let start = std::time::Instant::now();
    loop {
        for host in hosts.iter_mut() {
            host.report().await;
        }
        let last = hosts.last().expect("a host");
        if let Some(alert) = last.loss_alert(admin, wanted).await {
            return alert;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for an alert that is {wanted}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_no_gap_explains_raise_an_alert_which_closes_when_one_does() {
    let running = Running::start_watching(tempfile::tempdir().unwrap(), SILENT_AFTER).await;
    let admin = running.administrator().await;
    let other = another(&running, &admin).await;
    let mut holed = Reporting::from(&running, Agent::first(&running).await, 1).await;
    holed.report().await;
    // Numbers 2 to 4 never come.
    holed.next = 5;
    holed.report().await;
    let ledger = host(&admin, &holed.agent).await["ledger"].clone();
    assert_eq!((ledger["dropped"].as_u64(), ledger["unexplained"].as_u64()), (Some(3), Some(3)), "{ledger}");
    let alert = report_until_alert(&mut [&mut holed], &admin, "new").await;
    assert_eq!(alert["rule"]["severity"], "high");
    let detail = admin.get(&format!("/alerts/{}", alert["id"].as_str().unwrap())).await.json;
    assert!(detail["matched"][0].as_str().unwrap().starts_with("3 of the "), "{detail}");

    // A server that was started anew finds both holes, and this one after that one.
    let folder = running.stop().await;
    let Reporting { agent, next, .. } = holed;
    let running = Running::start_watching(folder, SILENT_AFTER).await;
    let admin = running.administrator_again().await;
    let mut holed = Reporting::from(&running, agent, next).await;
    let mut other = Reporting::from(&running, other, 2).await;
    report_until_alert(&mut [&mut holed, &mut other], &admin, "new").await;
    let alert = holed.loss_alert(&admin, "new").await.expect("it is open still");
    assert_eq!(alert["count"], 1, "the same hole is told once");

    let header = holed.agent.header(holed.next);
    let fields = vec![
        (Field::GapReason, Value::Text("spool_corrupt".to_owned())),
        (Field::GapCount, Value::Integer(3)),
        (Field::GapRecords, Value::Integer(3)),
    ];
    let event = EventRecord::from_fields(header.clone(), EventType::Gap, fields);
    let plain = holed.agent.batch_of(&[Record { header, body: RecordBody::Event(event) }]);
    let sealed = holed.agent.sealer.seal(&plain);
    holed.stream.send_batch(sealed).await;
    holed.stream.acknowledged(holed.next).await;
    assert_eq!(host(&admin, &holed.agent).await["ledger"]["unexplained"], 0);
    let closed = eventually("the alert is closed", || holed.loss_alert(&admin, "closed")).await;
    assert_eq!(closed["close_reason"], "benign");
    let alert = other.loss_alert(&admin, "new").await.expect("nobody explained that one");
    assert_eq!(alert["count"], 1);
    running.stop().await;
}
