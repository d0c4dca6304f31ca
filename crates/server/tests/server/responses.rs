//! Actions on hosts: ordered by who may, signed, sent once on a link, answered once.

use event_model::Timestamp;
use protocol::command::verify_command;
use protocol::link::agent_message::Message as FromAgent;
use protocol::link::server_message::Message as ToAgent;
use protocol::link::{Command, CommandReceipt};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::agent::{Agent, Stream};
use crate::api::Api;
use crate::ingest::{detection_of, receipt_of};
use crate::running::{Running, eventually};

pub(crate) async fn next_command(agent: &Agent, stream: &mut Stream) -> (Uuid, Command) {
    match stream.next_answer().await {
        ToAgent::Command(signed) => {
            verify_command(&signed, &agent.command_key, agent.host).expect("signed for this host")
        }
        other => panic!("{other:?}"),
    }
}

async fn answer(stream: &Stream, id: Uuid, state: &str, reason: &str) {
    answer_with(stream, id, state, reason, "do it").await;
}

/// An answer with that plan.
pub(crate) async fn answer_planning(stream: &Stream, id: Uuid, state: &str, plan: &str) {
    answer_with(stream, id, state, "as planned", plan).await;
}

async fn answer_with(stream: &Stream, id: Uuid, state: &str, reason: &str, plan: &str) {
    let receipt = json!({
        "id": id, "action": "release_host", "state": state, "reason": reason, "plan": [plan],
        "steps": [{ "at": "2026-01-01T00:00:00Z", "what": "did it" }], "undo": null,
    });
    let receipt =
        CommandReceipt { id: id.as_bytes().to_vec(), state: state.to_owned(), receipt: receipt.to_string() };
    stream.send(FromAgent::CommandReceipt(receipt)).await;
}

fn order(action: &str, parameters: Json) -> Json {
    json!({ "action": action, "parameters": parameters, "comment": "drill" })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_goes_to_its_host_and_its_receipt_comes_back() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let agent = Agent::first(&running).await;
    let path = format!("/hosts/{}/responses", agent.host);
    // The host is away: it waits, and can be taken back.
    let block = order("block_address", json!({ "address": "192.0.2.7" }));
    let kept = admin.post(&path, block.clone()).await;
    assert_eq!((kept.status, &kept.json["state"]), (201, &json!("queued")), "{}", kept.json);
    let taken_back = admin.post(&path, block).await.json["id"].as_str().unwrap().to_owned();
    assert_eq!(admin.delete(&format!("/responses/{taken_back}")).await.status, 204);
    assert_eq!(admin.get(&format!("/responses/{taken_back}")).await.json["state"], "cancelled");

    let mut stream = agent.connect(&running, 0).await.unwrap();
    let (id, command) = next_command(&agent, &mut stream).await;
    assert_eq!(kept.json["id"], id.to_string());
    assert_eq!((command.user.as_str(), command.dry_run), ("admin", false));
    let action: Json = serde_json::from_str(&command.action).unwrap();
    assert_eq!(action["parameters"]["address"], "192.0.2.7");
    let life = command.expires_at_ns - command.created_at_ns;
    assert_eq!(Timestamp::from_nanos(life), Timestamp::from_nanos(600_000_000_000));
    let shown = format!("/responses/{id}");
    assert_eq!(admin.get(&shown).await.json["state"], "sent");
    let late = admin.delete(&shown).await;
    assert_eq!((late.status, late.code()), (409, "conflict"), "too late to take it back");
    assert_eq!(admin.post(&format!("{shown}/undo"), json!({})).await.status, 409, "nothing is done yet");

    // The link breaks before the answer: it comes again, under the same id.
    drop(stream);
    let mut stream = agent.connect(&running, 0).await.unwrap();
    assert_eq!(next_command(&agent, &mut stream).await.0, id);
    answer(&stream, id, "verified", "the kernel has it").await;
    let done = eventually("the receipt is there", || async {
        let shown = admin.get(&shown).await.json;
        (shown["state"] == "verified").then_some(shown)
    })
    .await;
    assert_eq!((&done["reason"], &done["can_undo"]), (&json!("the kernel has it"), &json!(true)));
    assert_eq!(done["steps"][0]["what"], "did it");

    // What is ordered while the host is there goes at once; so does what undoes it.
    let undone = admin.post(&format!("{shown}/undo"), json!({})).await;
    assert_eq!((undone.status, &undone.json["action"]), (201, &json!("unblock_address")), "{}", undone.json);
    assert_eq!(undone.json["undo_of"], id.to_string());
    let (undo_id, _) = next_command(&agent, &mut stream).await;
    // A second answer and one for what was never ordered change nothing.
    answer(&stream, id, "failed", "forged").await;
    answer(&stream, Uuid::new_v4(), "verified", "forged").await;
    answer(&stream, undo_id, "refused", "not blocked").await;
    eventually("the undo's receipt", || async {
        let all = admin.get("/responses").await.json;
        let states: Vec<String> = all["items"]
            .as_array()?
            .iter()
            .filter_map(|one| Some(one["state"].as_str()?.to_owned()))
            .collect();
        (states == ["refused", "cancelled", "verified"]).then_some(())
    })
    .await;
    let audit = admin.get("/audit?limit=50").await.json.to_string();
    for what in ["response.order", "response.cancel", "response.result"] {
        assert!(audit.contains(what), "{what} is in the audit log");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_sound_orders_by_those_who_may_are_taken() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let agent = Agent::first(&running).await;
    let path = format!("/hosts/{}/responses", agent.host);
    for (body, because) in [
        (order("format_disk", json!({})), "allowed: terminate_process"),
        (order("block_address", json!({ "address": "everything" })), "no address"),
        (order("block_address", json!({ "address": "192.0.2.1", "ttl_seconds": 0 })), "ttl_seconds"),
        (order("block_address", json!({ "address": "192.0.2.1", "tll_seconds": 9 })), "tll_seconds"),
        (order("quarantine_file", json!({ "path": "/tmp/../etc/shadow" })), "absolute path"),
        (order("delete_service", json!({ "unit": "-x.service" })), "name of a unit"),
        (order("kill_tree", json!({ "entity_id": "7" })), "entity id"),
        (
            json!({ "action": "release_host", "comment": "drill", "expires_in_seconds": 86_401 }),
            "expires_in_seconds",
        ),
        // Who has something done on a host says why.
        (json!({ "action": "release_host" }), "`comment` says why"),
        (json!({ "action": "release_host", "comment": " \n" }), "`comment` says why"),
    ] {
        let refused = admin.post(&path, body).await;
        assert_eq!(refused.status, 422, "{}", refused.json);
        assert!(refused.json["detail"].as_str().unwrap().contains(because), "{}", refused.json);
    }
    let nobody = format!("/hosts/{}/responses", Uuid::new_v4());
    assert_eq!(admin.post(&nobody, order("release_host", json!({}))).await.status, 404);
    assert_eq!(admin.get("/responses").await.json["items"], json!([]), "nothing was ordered");

    assert_eq!(admin.post(&format!("/hosts/{}/revoke", agent.host), json!({})).await.status, 204);
    let revoked = admin.post(&path, order("release_host", json!({}))).await;
    assert_eq!((revoked.status, revoked.code()), (409, "conflict"));
    running.stop().await;
}

/// A person of that role, signed in with a password of his own.
pub(crate) async fn person(running: &Running, admin: &Api, name: &str, role: &str) -> Api {
    let (first, own) = ("a first password of theirs", "another password of theirs");
    let made = admin.post("/users", json!({ "username": name, "password": first, "role": role })).await;
    assert_eq!(made.status, 201, "{}", made.json);
    let mut api = running.stranger();
    assert_eq!(api.sign_in(name, first).await.status, 200);
    let change = json!({ "current_password": first, "new_password": own });
    assert_eq!(api.put("/session/password", change).await.status, 204);
    api
}

/// An isolation of another host, as somebody ordered it just now.
fn isolated(number: u128) -> state_store::NewResponse {
    state_store::NewResponse {
        id: Uuid::from_u128(number),
        host: event_model::HostId::from_uuid(Uuid::from_u128(number)),
        created_by: "eve".to_owned(),
        via: String::new(),
        action: "isolate_host".to_owned(),
        order: r#"{"action":"isolate_host","parameters":{}}"#.to_owned(),
        dry_run: false,
        comment: String::new(),
        life: std::time::Duration::from_secs(600),
        undo_of: None,
        approvals_needed: 0,
        mass_above: None,
        detection: None,
        release_code: None,
    }
}

/// One more host is a mass action.
pub(crate) fn isolate_others(running: &Running) {
    use state_store::ResponseStore as _;
    for number in 1..=u128::from(response::MASS_ISOLATION_ABOVE) {
        running.state().create_response(&isolated(number), crate::running::now()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_action_is_sent_only_when_two_other_people_agree() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    isolate_others(&running);
    let ordered =
        admin.post(&format!("/hosts/{}/responses", agent.host), order("isolate_host", json!({}))).await;
    assert_eq!((ordered.status, &ordered.json["state"]), (201, &json!("pending")), "{}", ordered.json);
    assert_eq!((&ordered.json["approvals_needed"], &ordered.json["fleet_hosts"]), (&json!(2), &json!(6)));
    let path = format!("/responses/{}/decision", ordered.json["id"].as_str().unwrap());
    let yes = || json!({ "approve": true, "comment": "looked at it" });

    let own = admin.post(&path, yes()).await;
    assert_eq!((own.status, own.code()), (422, "invalid"), "who ordered it does not agree to it");
    let token = admin.post("/api-tokens", json!({ "name": "bot", "role": "approver", "ttl_days": 1 })).await;
    let bot = running.stranger().with_token(token.json["token"].as_str().unwrap());
    assert_eq!(bot.post(&path, yes()).await.status, 422, "a token is no person");
    let rita = person(&running, &admin, "rita", "responder").await;
    assert_eq!(rita.post(&path, yes()).await.status, 403, "a responder is no approver");
    let ada = person(&running, &admin, "ada", "approver").await;
    let once = ada.post(&path, yes()).await;
    assert_eq!((once.status, &once.json["state"]), (200, &json!("pending")), "{}", once.json);
    assert_eq!(ada.post(&path, yes()).await.status, 422, "once each");
    let bob = person(&running, &admin, "bob", "approver").await;
    let pending = admin.get("/responses?state=pending").await.json;
    assert_eq!(pending["items"].as_array().map(Vec::len), Some(1), "{pending}");
    let twice = bob.post(&path, yes()).await;
    assert_eq!(twice.status, 200, "{}", twice.json);

    // The agent is told who agreed, under the signature, and counts for itself.
    let (id, command) = next_command(&agent, &mut stream).await;
    assert_eq!(ordered.json["id"], id.to_string());
    let by: Vec<&str> = command.approvals.iter().map(|one| one.by.as_str()).collect();
    assert_eq!((by, command.fleet_hosts, command.user.as_str()), (vec!["ada", "bob"], 6, "admin"));
    assert_eq!(bob.post(&path, yes()).await.code(), "conflict", "it is sent");

    // The host has the hash of a code that the server shows to who may act.
    let action: Json = serde_json::from_str(&command.action).unwrap();
    let shown = admin.get(&format!("/responses/{id}/release-code")).await;
    let code = shown.json["code"].as_str().unwrap().to_owned();
    assert_eq!(action["parameters"]["release_hash"], response::release_hash(&code));
    assert_eq!(ada.get(&format!("/responses/{id}/release-code")).await.status, 403);
    assert!(!admin.get("/responses").await.json.to_string().contains(&code));

    // One no is enough; and what waits can be taken back.
    let host = format!("/hosts/{}/responses", agent.host);
    let declined = admin.post(&host, order("isolate_host", json!({}))).await.json;
    let path = format!("/responses/{}/decision", declined["id"].as_str().unwrap());
    let no = ada.post(&path, json!({ "approve": false })).await;
    assert_eq!(no.json["state"], "declined", "{}", no.json);
    assert_eq!(bob.post(&path, yes()).await.code(), "conflict");
    let taken_back = admin.post(&host, order("isolate_host", json!({}))).await.json;
    assert_eq!(admin.delete(&format!("/responses/{}", taken_back["id"].as_str().unwrap())).await.status, 204);
    let audit = admin.get("/audit?limit=100").await.json.to_string();
    assert!(audit.contains("response.approve") && audit.contains("response.decline"), "{audit}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_asks_for_waits_for_a_person_and_is_then_sent() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let detection = detection_of(&agent, 1);
    let mut receipt = receipt_of(&detection);
    let event_model::RecordBody::Receipt(asking) = &mut receipt.body else { panic!() };
    asking.state = event_model::ReceiptState::ApprovalNeeded;
    asking.reason = "mode is `ask`, waits for a person: copy /tmp/x".to_owned();
    let action =
        json!({ "rule_id": "9001", "action": "quarantine_file", "parameters": { "path": "/tmp/x" } });
    asking.asks = Some(action.to_string());
    let id = asking.id;
    let event = event_model::Record {
        header: agent.header(1),
        body: event_model::RecordBody::Event(agent.event(1, "xmrig")),
    };
    let plain = agent.batch_of(&[event, detection, receipt]);
    let sealed = agent.sealer.seal(&plain);
    stream.send_batch(sealed).await;
    stream.acknowledged(3).await;
    let waiting = admin.get(&format!("/responses/{id}")).await.json;
    assert_eq!(
        (&waiting["state"], &waiting["created_by"]),
        (&json!("pending"), &json!("rule:9001")),
        "{waiting}"
    );
    assert_eq!((&waiting["parameters"]["path"], &waiting["approvals_needed"]), (&json!("/tmp/x"), &json!(1)));
    assert!(waiting["alert_id"].is_string() && waiting["comment"].as_str().unwrap().contains("copy /tmp/x"));
    let ada = person(&running, &admin, "ada", "approver").await;
    let yes = ada.post(&format!("/responses/{id}/decision"), json!({ "approve": true })).await;
    assert_eq!(yes.status, 200, "{}", yes.json);
    let (sent, command) = next_command(&agent, &mut stream).await;
    assert_eq!((sent, command.user.as_str(), command.approvals[0].by.as_str()), (id, "rule:9001", "ada"));

    // An analyst's note is no approval of a playbook; an approver's is.
    let tom = person(&running, &admin, "tom", "analyst").await;
    let alert = format!("/alerts/{}", waiting["alert_id"].as_str().unwrap());
    let note = |text: &str| json!({ "note": text });
    assert_eq!(tom.patch(&alert, note("looks bad")).await.status, 200);
    assert_eq!(tom.patch(&alert, note("well\n Approve p/ok")).await.code(), "forbidden");
    assert_eq!(ada.patch(&alert, note("approve p/ok")).await.status, 200);
    running.stop().await;
}

/// Many decide and write at the same moment: each is heard, nobody counts twice, and one command goes out.
#[tokio::test(flavor = "multi_thread")]
async fn many_people_at_once_are_all_heard_and_one_order_comes_of_it() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let alert = crate::runs::alert(&admin, &mut agent, &mut stream).await;
    isolate_others(&running);
    let host = format!("/hosts/{}/responses", agent.host);
    let ordered = admin.post(&host, order("isolate_host", json!({}))).await.json;
    assert_eq!(ordered["state"], "pending", "{ordered}");
    let decide = format!("/responses/{}/decision", ordered["id"].as_str().unwrap());
    let note = format!("/alerts/{alert}");
    const PEOPLE: usize = 6;
    let mut people = Vec::new();
    for number in 0..PEOPLE {
        people.push(person(&running, &admin, &format!("approver-{number}"), "approver").await);
    }
    let mut work = tokio::task::JoinSet::new();
    let start = std::sync::Arc::new(tokio::sync::Barrier::new(PEOPLE));
    for (number, api) in people.into_iter().enumerate() {
        let (decide, note, start) = (decide.clone(), note.clone(), std::sync::Arc::clone(&start));
        work.spawn(async move {
            start.wait().await;
            // The same person twice at once is one person.
            let yes = || json!({ "approve": true });
            let remark = json!({ "note": format!("remark of {number}") });
            let (first, second, noted) =
                tokio::join!(api.post(&decide, yes()), api.post(&decide, yes()), api.patch(&note, remark));
            assert_eq!(noted.status, 200, "{}", noted.json);
            [first, second].into_iter().filter(|answer| answer.status == 200).count()
        });
    }
    let counted: Vec<usize> = work.join_all().await;
    assert!(counted.iter().all(|count| *count <= 1), "nobody counts twice: {counted:?}");
    assert_eq!(
        counted.iter().sum::<usize>(),
        2,
        "two were needed, and the others came too late: {counted:?}"
    );
    let (id, command) = next_command(&agent, &mut stream).await;
    assert_eq!(ordered["id"], id.to_string());
    let mut by: Vec<String> = command.approvals.iter().map(|one| one.by.clone()).collect();
    by.sort_unstable();
    by.dedup();
    assert_eq!((by.len(), command.fleet_hosts), (2, 6), "{by:?}");
    answer(&stream, id, "verified", "isolated").await;
    eventually("it is done", || async {
        (admin.get(&format!("/responses/{id}")).await.json["state"] == "verified").then_some(())
    })
    .await;
    let notes = admin.get(&format!("/alerts/{alert}")).await.json["notes"].to_string();
    for number in 0..PEOPLE {
        assert!(notes.contains(&format!("remark of {number}")), "{number} is missing: {notes}");
    }
    running.stop().await;
}

/// Somebody on the host gave the code: the isolation is over for the server too, though it ordered nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_by_code_is_an_event_and_ends_the_isolation_in_the_list() {
    use event_model::{EventRecord, EventType, Field, Record, RecordBody, Value};
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let path = format!("/hosts/{}/responses", agent.host);
    let isolated = admin.post(&path, order("isolate_host", json!({}))).await.json;
    let (id, _) = next_command(&agent, &mut stream).await;
    answer(&stream, id, "verified", "isolated").await;
    let shown = format!("/responses/{id}");
    eventually("it is isolated", || async {
        (admin.get(&shown).await.json["can_undo"] == true).then_some(())
    })
    .await;
    let released = |sequence: u64, order: Uuid| {
        let fields = vec![
            (Field::AgentTampered, Value::Text("isolation_released".to_owned())),
            (Field::EventReason, Value::Text("released by its code".to_owned())),
            (Field::AgentOrder, Value::Text(order.to_string())),
        ];
        let header = agent.header(sequence);
        let event = EventRecord::from_fields(header.clone(), EventType::AgentTamper, fields);
        Record { header, body: RecordBody::Event(event) }
    };
    // One with an order that is not its own isolation releases nobody else's.
    let plain = agent.batch_of(&[released(1, id), released(2, Uuid::new_v4())]);
    for _ in 0..2 {
        let sealed = agent.sealer.seal(&plain);
        stream.send_batch(sealed).await;
        stream.acknowledged(2).await;
    }
    let listed = admin.get("/responses").await.json;
    let by_code: Vec<&Json> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["created_by"] == "code:release")
        .collect();
    assert_eq!(by_code.len(), 2, "each event once, however often its batch comes: {listed}");
    let undoing: Vec<&Json> = by_code.into_iter().filter(|one| one["undo_of"] == isolated["id"]).collect();
    assert_eq!(undoing.len(), 1, "{listed}");
    assert_eq!((&undoing[0]["state"], &undoing[0]["action"]), (&json!("verified"), &json!("release_host")));
    assert_eq!(undoing[0]["reason"], "released by its code");
    assert_eq!(admin.get(&shown).await.json["can_undo"], false, "there is nothing left to undo");
    assert_eq!(admin.post(&format!("{shown}/undo"), json!({})).await.code(), "conflict");
    let audit = admin.get("/audit?limit=100").await.json.to_string();
    assert!(audit.contains("response.released_by_code"), "{audit}");
    running.stop().await;
}
