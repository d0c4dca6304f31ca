//! Actions on hosts: ordered by who may, signed, sent once on a link, answered once.

use event_model::Timestamp;
use protocol::command::verify_command;
use protocol::link::agent_message::Message as FromAgent;
use protocol::link::server_message::Message as ToAgent;
use protocol::link::{Command, CommandReceipt};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::agent::{Agent, Stream};
use crate::running::{Running, eventually};

async fn next_command(agent: &Agent, stream: &mut Stream) -> (Uuid, Command) {
    match stream.next_answer().await {
        ToAgent::Command(signed) => {
            verify_command(&signed, &agent.command_key, agent.host).expect("signed for this host")
        }
        other => panic!("{other:?}"),
    }
}

async fn answer(stream: &Stream, id: Uuid, state: &str, reason: &str) {
    let receipt = json!({
        "id": id, "action": "release_host", "state": state, "reason": reason, "plan": ["do it"],
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
        (json!({ "action": "release_host", "expires_in_seconds": 86_401 }), "expires_in_seconds"),
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
