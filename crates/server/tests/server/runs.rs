//! Runs of playbooks: asked for by people, told of by responders, shown with what the agents planned.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::agent::{Agent, Stream};
use crate::api::Api;
use crate::ingest::detection_of;
use crate::responses::{answer_planning, next_command, person};
use crate::running::{Running, eventually};

/// Has the server make an alert; gives its id.
pub(crate) async fn alert(admin: &Api, agent: &mut Agent, stream: &mut Stream) -> String {
    let event = event_model::Record {
        header: agent.header(1),
        body: event_model::RecordBody::Event(agent.event(1, "xmrig")),
    };
    let detection = detection_of(agent, 1);
    let sealed = agent.sealer.seal(&agent.batch_of(&[event, detection]));
    stream.send_batch(sealed).await;
    stream.acknowledged(2).await;
    let alerts = admin.get("/alerts").await.json;
    alerts["items"][0]["id"].as_str().unwrap().to_owned()
}

async fn responder(running: &Running, admin: &Api, name: &str) -> Api {
    token_of(running, admin, name, "responder").await
}

async fn token_of(running: &Running, admin: &Api, name: &str, role: &str) -> Api {
    let token = admin.post("/api-tokens", json!({ "name": name, "role": role, "ttl_days": 1 })).await;
    running.stranger().with_token(token.json["token"].as_str().unwrap())
}

fn report(alert: &str, responder: &str, state: &str, dry_run: bool, response: Option<&str>) -> Json {
    json!({
        "alert_id": alert, "playbook": "miner", "dry_run": dry_run, "responder": responder, "state": state,
        "name": "Miner", "mode": "auto",
        "steps": [{ "id": "block", "action": "block_address", "does": "block_address on host h", "begun": true,
                    "outcome": "succeeded", "response_id": response }],
    })
}

/// A report of a run that isolates.
fn isolating(alert: &str, responder: &str, state: &str) -> Json {
    let mut body = report(alert, responder, state, false, None);
    body["steps"][0]["action"] = json!("isolate_host");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_held_against_the_run_that_follows_and_the_run_is_undone_once() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let alert = alert(&admin, &mut agent, &mut stream).await;
    let (one, other) = (responder(&running, &admin, "one").await, responder(&running, &admin, "other").await);

    // A person asks for a dry run: a responder finds it, has the agent survey, and tells.
    let ask = |dry_run: bool| json!({ "alert_id": alert, "playbook": "miner", "dry_run": dry_run });
    let dry = admin.post("/playbook-runs", ask(true)).await;
    assert_eq!((dry.status, &dry.json["state"]), (201, &json!("requested")), "{}", dry.json);
    let dry_id = dry.json["id"].as_str().unwrap().to_owned();
    let waiting = one.get("/playbook-runs?waiting=true").await.json;
    assert_eq!(waiting["items"][0]["id"], dry_id.as_str(), "{waiting}");
    let mut orders = Vec::new();
    for (run_dry, plan) in [(true, "refuse 192.0.2.7 (order ID)"), (false, "refuse 192.0.2.7 (order ID)")] {
        let parameters = json!({ "address": "192.0.2.7" });
        let body = json!({ "action": "block_address", "parameters": parameters, "dry_run": run_dry });
        let ordered = one.post(&format!("/hosts/{}/responses", agent.host), body).await;
        assert_eq!(ordered.status, 201, "{}", ordered.json);
        let (id, _) = next_command(&agent, &mut stream).await;
        let state = if run_dry { "planned" } else { "verified" };
        answer_planning(&stream, id, state, &plan.replace("ID", &id.to_string())).await;
        orders.push(id.to_string());
    }
    let path = format!("/playbook-runs/{dry_id}");
    let told = one.put(&path, report(&alert, "r1", "completed", true, Some(&orders[0]))).await;
    assert_eq!(told.status, 204, "{}", told.json);
    let shown = eventually("the plan is there", || async {
        let shown = admin.get(&path).await.json;
        (shown["steps"][0]["response_state"] == "planned").then_some(shown)
    })
    .await;
    assert!(shown["steps"][0]["plan"][0].as_str().unwrap().contains(&orders[0]), "{shown}");
    assert_eq!((&shown["can_undo"], &shown["compared"]), (&json!(false), &Json::Null), "{shown}");
    assert!(one.get("/playbook-runs?waiting=true").await.json["items"].as_array().unwrap().is_empty());

    // The run itself has one id for everybody, and belongs to who told of it first.
    let id = Uuid::new_v5(&alert.parse().unwrap(), b"miner").to_string();
    let path = format!("/playbook-runs/{id}");
    assert_eq!(one.put(&path, report(&alert, "r1", "running", false, None)).await.status, 204);
    let again = admin.post("/playbook-runs", ask(false)).await;
    assert_eq!((again.status, again.code()), (409, "conflict"), "an alert has one run of a playbook");
    assert_eq!(admin.post(&format!("{path}/undo"), json!({})).await.status, 409, "it is under way");
    let stolen = other.put(&path, report(&alert, "r2", "completed", false, None)).await;
    assert_eq!((stolen.status, stolen.code()), (409, "conflict"));
    assert_eq!(one.put(&path, report(&alert, "r1", "completed", false, Some(&orders[1]))).await.status, 204);
    let same = eventually("the receipt is there", || async {
        let shown = admin.get(&path).await.json;
        (shown["steps"][0]["response_state"] == "verified").then_some(shown)
    })
    .await;
    assert_eq!(
        same["compared"],
        json!({ "dry_run_id": dry_id, "same": true, "differing_steps": [] }),
        "{same}"
    );
    assert_eq!(same["can_undo"], true);

    // What did something else than was said is called that.
    let mut changed = report(&alert, "r1", "completed", false, Some(&orders[1]));
    changed["steps"][0]["does"] = json!("block_address on another host");
    assert_eq!(one.put(&path, changed).await.status, 204);
    let differs = admin.get(&path).await.json;
    assert_eq!(
        (&differs["compared"]["same"], &differs["compared"]["differing_steps"]),
        (&json!(false), &json!(["block"]))
    );

    // Undone once, by its responder, whoever asks how often.
    let asked = admin.post(&format!("{path}/undo"), json!({})).await;
    assert_eq!((asked.status, &asked.json["undo_requested_by"]), (202, &json!("admin")), "{}", asked.json);
    assert_eq!(admin.post(&format!("{path}/undo"), json!({})).await.status, 409, "it is asked for already");
    let waiting = one.get("/playbook-runs?waiting=true").await.json;
    assert_eq!(waiting["items"][0]["undo_requested_by"], "admin", "{waiting}");
    assert_eq!(one.put(&path, report(&alert, "r1", "undone", false, Some(&orders[1]))).await.status, 204);
    let undone = admin.get(&path).await.json;
    assert_eq!((&undone["state"], &undone["can_undo"]), (&json!("undone"), &json!(false)), "{undone}");
    assert_eq!(undone["undo_requested_by"], Json::Null);
    assert_eq!(admin.post(&format!("{path}/undo"), json!({})).await.status, 409, "it is undone");
    let of_alert = admin.get(&format!("/playbook-runs?alert={alert}")).await.json;
    assert_eq!(of_alert["items"].as_array().map(Vec::len), Some(2), "{of_alert}");
    let audit = admin.get("/audit?limit=100").await.json.to_string();
    assert!(audit.contains("playbook_run.request") && audit.contains("playbook_run.undo"), "{audit}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_run_and_who_may_not_are_refused() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let alert = alert(&admin, &mut agent, &mut stream).await;
    let one = responder(&running, &admin, "one").await;
    let nobody = Uuid::new_v4().to_string();
    for (body, status) in [
        (json!({ "alert_id": nobody, "playbook": "miner" }), 404),
        (json!({ "alert_id": "../x", "playbook": "miner" }), 404),
        (json!({ "alert_id": alert, "playbook": "" }), 422),
        (json!({ "alert_id": alert, "playbook": "a/b" }), 422),
        (json!({ "alert_id": alert, "playbook": "x".repeat(101) }), 422),
        (json!({ "alert_id": alert, "playbook": "miner", "dry": true }), 400),
    ] {
        let refused = admin.post("/playbook-runs", body.clone()).await;
        assert_eq!(refused.status, status, "{body}: {}", refused.json);
    }
    let path = format!("/playbook-runs/{}", Uuid::new_v4());
    let good = report(&alert, "r1", "running", false, None);
    let with = |key: &str, value: Json| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    let step = |id: &str| json!({ "id": id, "action": "notify" });
    for (body, status) in [
        (with("state", json!("requested")), 422),
        (with("state", json!("excellent")), 400),
        (with("responder", json!("")), 422),
        (with("alert_id", json!(nobody)), 404),
        (with("steps", json!(vec![step("x"); 201])), 422),
        (with("steps", json!([step(&"x".repeat(2_001))])), 422),
        (with("more", json!(1)), 400),
    ] {
        let refused = one.put(&path, body).await;
        assert_eq!(refused.status, status, "{}", refused.json);
    }
    // A person tells nothing of a run; the one who asks for it is not the one who does it.
    let told = admin.put(&path, good.clone()).await;
    assert_eq!((told.status, told.code()), (422, "invalid"), "{}", told.json);
    let ada = person(&running, &admin, "ada", "analyst").await;
    let ask = json!({ "alert_id": alert, "playbook": "miner", "dry_run": true });
    assert_eq!(ada.post("/playbook-runs", ask).await.status, 403, "a dry run, too, reaches hosts");
    assert_eq!(ada.get("/playbook-runs").await.status, 200);
    assert_eq!(ada.get("/playbook-runs?waiting=maybe").await.status, 422);
    assert!(
        ada.get("/playbook-runs").await.json["items"].as_array().unwrap().is_empty(),
        "nothing was noted"
    );
    running.stop().await;
}

/// Who asks for a run does not approve what it orders, though a responder orders it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_orders_is_ordered_in_the_name_of_who_asked_for_it() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let alert = alert(&admin, &mut agent, &mut stream).await;
    crate::responses::isolate_others(&running);
    let one = token_of(&running, &admin, "one", "playbook_runner").await;
    let eve = person(&running, &admin, "eve", "administrator").await;
    let asked = eve.post("/playbook-runs", json!({ "alert_id": alert, "playbook": "miner" })).await;
    assert_eq!((asked.status, &asked.json["requested_by"]), (201, &json!("eve")), "{}", asked.json);
    let run = asked.json["id"].as_str().unwrap();
    let path = format!("/hosts/{}/responses", agent.host);
    let body = json!({ "action": "isolate_host", "run_id": run });
    // A person orders in his own name only, and a run that nobody does orders nothing.
    assert_eq!(admin.post(&path, body.clone()).await.code(), "invalid");
    assert_eq!(one.post(&path, body.clone()).await.code(), "invalid");
    let begins = isolating(&alert, "r1", "running");
    assert_eq!(one.put(&format!("/playbook-runs/{run}"), begins).await.status, 204);
    let ordered = one.post(&path, body.clone()).await;
    assert_eq!((ordered.status, &ordered.json["created_by"]), (201, &json!("eve")), "{}", ordered.json);
    assert_eq!(ordered.json["state"], "pending", "the sixth host: {}", ordered.json);
    let decide = format!("/responses/{}/decision", ordered.json["id"].as_str().unwrap());
    let own = eve.post(&decide, json!({ "approve": true })).await;
    assert_eq!((own.status, own.code()), (422, "invalid"), "{}", own.json);
    let ada = person(&running, &admin, "ada", "approver").await;
    assert_eq!(ada.post(&decide, json!({ "approve": true })).await.status, 200);
    // A run that has ended orders nothing more, and neither does one that nobody told of.
    let ended = isolating(&alert, "r1", "completed");
    assert_eq!(one.put(&format!("/playbook-runs/{run}"), ended).await.status, 204);
    assert_eq!(one.post(&path, body).await.code(), "invalid");
    let unknown = json!({ "action": "isolate_host", "run_id": Uuid::new_v4() });
    assert_eq!(one.post(&path, unknown).await.code(), "invalid");
    let audit = admin.get("/audit?limit=100").await.json.to_string();
    assert!(audit.contains("token:one"), "who did it is in the audit log: {audit}");
    running.stop().await;
}

/// A responder reads what attackers write: its token is good for what its runs do, and for nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_responders_token_is_held_to_its_runs() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let alert = alert(&admin, &mut agent, &mut stream).await;
    let one = token_of(&running, &admin, "one", "playbook_runner").await;
    let other = token_of(&running, &admin, "other", "playbook_runner").await;
    let path = format!("/hosts/{}/responses", agent.host);
    let run = Uuid::new_v5(&alert.parse().unwrap(), b"miner").to_string();
    let dry = Uuid::new_v4().to_string();
    let told = |id: &str| format!("/playbook-runs/{id}");
    assert_eq!(one.put(&told(&run), isolating(&alert, "r1", "running")).await.status, 204);
    let mut begins = isolating(&alert, "r1", "running");
    begins["dry_run"] = json!(true);
    assert_eq!(one.put(&told(&dry), begins).await.status, 204);

    // Nothing without a run, on another host, of another kind, or for another's run.
    let bare = one.post(&path, json!({ "action": "isolate_host" })).await;
    assert_eq!((bare.status, bare.code()), (403, "forbidden"), "{}", bare.json);
    let elsewhere = format!("/hosts/{}/responses", Uuid::new_v4());
    for (api, path, action, run, because) in [
        (&one, &elsewhere, "isolate_host", &run, "another host"),
        (&one, &path, "stop_responses", &run, "no step `stop_responses`"),
        (&one, &path, "release_host", &run, "no step `release_host`"),
        (&one, &path, "isolate_host", &dry, "dry run"),
        (&other, &path, "isolate_host", &run, "another responder's token"),
    ] {
        let refused = api.post(path, json!({ "action": action, "run_id": run })).await;
        assert_eq!((refused.status, refused.code()), (422, "invalid"), "{action}: {}", refused.json);
        let detail = refused.json["detail"].as_str().unwrap();
        assert!(detail.contains(because), "{because}: {detail}");
    }
    // Not even by calling itself what the other is called.
    let stolen = other.put(&told(&run), isolating(&alert, "r1", "running")).await;
    assert_eq!((stolen.status, stolen.code()), (409, "conflict"), "{}", stolen.json);

    let own = one.post(&path, json!({ "action": "isolate_host", "run_id": run })).await;
    assert_eq!((own.status, &own.json["created_by"]), (201, &json!("token:one")), "{}", own.json);
    let own = format!("/responses/{}", own.json["id"].as_str().unwrap());
    next_command(&agent, &mut stream).await;
    for (api, status) in [(&other, 403), (&one, 409)] {
        assert_eq!(api.delete(&own).await.status, status, "it was sent");
        assert_eq!(api.post(&format!("{own}/undo"), json!({})).await.status, status);
    }
    assert_eq!(one.get(&format!("{own}/release-code")).await.status, 403);
    let ask = json!({ "alert_id": alert, "playbook": "miner", "dry_run": true });
    assert_eq!(one.post("/playbook-runs", ask).await.status, 403);

    // It writes on the alert what became of the run, and closes nothing.
    let alert = format!("/alerts/{alert}");
    let closed = one.patch(&alert, json!({ "status": "closed", "close_reason": "benign" })).await;
    assert_eq!((closed.status, closed.code()), (403, "forbidden"), "{}", closed.json);
    assert_eq!(one.patch(&alert, json!({ "note": "done" })).await.status, 200);
    running.stop().await;
}
