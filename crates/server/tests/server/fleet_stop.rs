//! The switch for the response of all hosts: turned by people, and by the breaker.

use event_model::{ActionKind, RecordBody};
use serde_json::{Value as Json, json};

use crate::agent::{Agent, Stream};
use crate::api::Api;
use crate::ingest::{detection_of, receipt_of};
use crate::responses::{answer_planning, next_command, person};
use crate::running::{Running, eventually};

/// As many enrolled agents.
async fn agents(running: &Running, admin: &Api, count: usize) -> Vec<Agent> {
    let token = admin.post("/enrollment-tokens", json!({ "ttl_seconds": 3_600, "uses": count })).await.json;
    let mut agents = Vec::new();
    for _ in 0..count {
        agents.push(Agent::with_token(running, token["token"].as_str().unwrap()).await);
    }
    agents
}

async fn ordered(agent: &Agent, stream: &mut Stream) -> String {
    let (id, command) = next_command(agent, stream).await;
    answer_planning(stream, id, "verified", "turn the switch").await;
    let order: Json = serde_json::from_str(&command.action).unwrap();
    order["action"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_switch_stops_every_host_also_one_that_comes_later() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let agents = agents(&running, &admin, 3).await;
    let mut here = agents[0].connect(&running, 0).await.unwrap();
    let off = admin.get("/fleet-stop").await.json;
    assert_eq!(off, json!({ "stopped": false, "by": "", "reason": "", "at": null }));
    let turn = |stopped: bool, reason: &str| json!({ "stopped": stopped, "reason": reason });
    assert_eq!(
        admin.put("/fleet-stop", turn(true, " ")).await.status,
        422,
        "nobody stops all without a reason"
    );
    assert_eq!(admin.put("/fleet-stop", turn(false, "why not")).await.status, 409, "nothing is stopped");
    let ada = person(&running, &admin, "ada", "analyst").await;
    assert_eq!(ada.put("/fleet-stop", turn(true, "drill")).await.status, 403);

    let stopped = admin.put("/fleet-stop", turn(true, "drill")).await;
    assert_eq!((stopped.status, &stopped.json["by"]), (200, &json!("admin")), "{}", stopped.json);
    assert_eq!(ordered(&agents[0], &mut here).await, "stop_responses");
    assert_eq!(admin.put("/fleet-stop", turn(true, "again")).await.status, 409);
    // One that was away is stopped before it is told anything else.
    let mut later = agents[1].connect(&running, 0).await.unwrap();
    assert_eq!(ordered(&agents[1], &mut later).await, "stop_responses");
    eventually("both have proved it", || async {
        let all = admin.get("/responses?state=verified").await.json;
        (all["items"].as_array()?.len() == 2).then_some(())
    })
    .await;
    // Once: a host that comes again has its switch where it is to be.
    drop(later);
    let mut later = agents[1].connect(&running, 0).await.unwrap();

    assert_eq!(admin.put("/fleet-stop", turn(false, "drill is over")).await.status, 200);
    assert_eq!(ordered(&agents[0], &mut here).await, "allow_responses");
    assert_eq!(ordered(&agents[1], &mut later).await, "allow_responses");
    // One that this stop never reached is allowed nothing: a person may have stopped it.
    let _never = agents[2].connect(&running, 0).await.unwrap();
    eventually("all is proved", || async {
        let all = admin.get("/responses?state=verified").await.json;
        (all["items"].as_array()?.len() == 4).then_some(())
    })
    .await;
    let all = admin.get("/responses").await.json;
    assert_eq!(all["items"].as_array().map(Vec::len), Some(4), "{all}");
    assert!(all["items"][3]["comment"] == "drill" && all["items"][3]["created_by"] == "admin", "{all}");
    let audit = admin.get("/audit?limit=100").await.json.to_string();
    assert!(audit.contains("fleet.stop_responses") && audit.contains("fleet.allow_responses"), "{audit}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_isolates_host_after_host_stops_all_of_them() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agents = agents(&running, &admin, 4).await;
    let mut streams = Vec::new();
    for (number, agent) in agents.iter_mut().enumerate() {
        assert_eq!(admin.get("/fleet-stop").await.json["stopped"], false, "{number} are within the limit");
        let mut stream = agent.connect(&running, 0).await.unwrap();
        let event = agent.record(1, "xmrig");
        let detection = detection_of(agent, 1);
        let mut receipt = receipt_of(&detection);
        if let RecordBody::Receipt(receipt) = &mut receipt.body {
            receipt.action = ActionKind::IsolateHost;
        }
        let plain = agent.batch_of(&[event, detection, receipt]);
        stream.send_batch(agent.sealer.seal(&plain)).await;
        if number < 3 {
            stream.acknowledged(3).await;
        }
        streams.push(stream);
    }
    assert_eq!(ordered(&agents[0], &mut streams[0]).await, "stop_responses");
    let stop = admin.get("/fleet-stop").await.json;
    assert_eq!((&stop["stopped"], &stop["by"]), (&json!(true), &json!("server:breaker")), "{stop}");
    assert!(stop["reason"].as_str().unwrap().contains("isolated 4 hosts"), "{stop}");
    eventually("people are told", || async {
        let alerts = admin.get("/alerts?severity=critical").await.json;
        (alerts["items"][0]["rule"]["id"] == "rampart.fleet_breaker").then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_is_known_also_where_its_receipts_come_in_later_batches() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agents = agents(&running, &admin, 21).await;
    let mut streams = Vec::new();
    for agent in &mut agents {
        let mut stream = agent.connect(&running, 0).await.unwrap();
        let event = agent.record(1, "xmrig");
        let detection = detection_of(agent, 1);
        let receipt = receipt_of(&detection);
        let found = agent.batch_of(&[event, detection]);
        stream.send_batch(agent.sealer.seal(&found)).await;
        stream.acknowledged(2).await;
        let done = agent.batch_of(&[receipt]);
        stream.send_batch(agent.sealer.seal(&done)).await;
        streams.push(stream);
    }
    let stop = eventually("the breaker stops all", || async {
        let stop = admin.get("/fleet-stop").await.json;
        (stop["stopped"] == true).then_some(stop)
    })
    .await;
    assert!(stop["reason"].as_str().unwrap().contains("rule `9001` acted by itself on 21 hosts"), "{stop}");
    running.stop().await;
}
