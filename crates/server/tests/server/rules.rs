//! Rules: kept as written, judged by the engine before.

use serde_json::{Value as Json, json};

use crate::api::Api;
use crate::running::Running;

const GOOD: &str = r#"{
  "id": 9001, "name": "Renamed miner", "description": "x", "type": "process", "severity": "high",
  "enabled": true, "conditions": ["name contains 'xmr'"], "actions": ["alert"]
}"#;

async fn rule(api: &Api, id: &str) -> Json {
    api.get(&format!("/rules/{id}")).await.json
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_is_added_switched_replaced_and_removed() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let starter = admin.get("/rules").await.json["items"].as_array().unwrap().len();
    assert!(starter > 0, "the starter pack is there");

    let made = admin.post("/rules", json!({ "text": GOOD })).await;
    assert_eq!(made.status, 201, "{}", made.json);
    assert_eq!(
        (&made.json["id"], &made.json["mode"], &made.json["origin"]),
        (&json!("9001"), &json!("detect"), &json!("user"))
    );
    assert_eq!(made.json["text"], GOOD);
    assert_eq!(admin.post("/rules", json!({ "text": GOOD })).await.code(), "conflict");

    let version = running.app.clone();
    let before = policy_version(&version);
    let switched = admin.patch("/rules/9001", json!({ "mode": "auto", "enabled": false })).await;
    assert_eq!((&switched.json["mode"], &switched.json["enabled"]), (&json!("auto"), &json!(false)));
    let text: Json = serde_json::from_str(switched.json["text"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&text["mode"], &text["enabled"]),
        (&json!("auto"), &json!(false)),
        "the text says what is in force"
    );
    assert!(policy_version(&version) > before, "a change makes a new bundle");

    let other_id = GOOD.replace("9001", "9002");
    assert_eq!(admin.put("/rules/9001", json!({ "text": other_id })).await.code(), "invalid");
    let renamed = GOOD.replace("Renamed miner", "Miner under another name");
    assert_eq!(admin.put("/rules/9001", json!({ "text": renamed })).await.status, 200);
    assert_eq!(rule(&admin, "9001").await["name"], "Miner under another name");
    assert_eq!(admin.delete("/rules/9001").await.status, 204);
    assert_eq!(admin.get("/rules/9001").await.status, 404);
    assert_eq!(admin.delete("/rules/9001").await.status, 404);
    running.stop().await;
}

fn policy_version(app: &server::app::App) -> u64 {
    app.policy_version()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_rule_is_refused_with_the_engines_words() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let broken = GOOD.replace("name contains", "nam contains");
    let checked = admin.post("/rules/check", json!({ "text": broken })).await;
    assert_eq!((checked.status, &checked.json["ok"]), (200, &json!(false)));
    let saved = admin.post("/rules", json!({ "text": broken })).await;
    assert_eq!((saved.status, saved.code()), (422, "rule_refused"));
    let diagnostic = &saved.json["diagnostics"][0];
    assert_eq!(diagnostic["code"], "unknown-field");
    assert_eq!((&diagnostic["line"], &diagnostic["severity"]), (&json!(3), &json!("error")));
    assert!(diagnostic["hint"].as_str().unwrap().contains("name"));
    assert_eq!(checked.json["diagnostics"][0], *diagnostic);
    for text in ["", "{", "[]", "null", "\"x\"", "{\"id\":1}"] {
        assert_eq!(admin.post("/rules", json!({ "text": text })).await.status, 422, "{text}");
    }
    let two = format!("[{GOOD},{}]", GOOD.replace("9001", "9002"));
    assert_eq!(admin.post("/rules", json!({ "text": two })).await.code(), "invalid");
    assert_eq!(admin.get("/rules/9001").await.status, 404, "nothing of it was saved");
    let good = admin.post("/rules/check", json!({ "text": GOOD })).await;
    assert_eq!((&good.json["ok"], &good.json["rule"]["name"]), (&json!(true), &json!("Renamed miner")));
    running.stop().await;
}
