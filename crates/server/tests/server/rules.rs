//! Rules: kept as written, judged by the engine before.

use event_model::{EventRecord, EventType, Field, Record, RecordBody, Value};
use protocol::bundle::verify_bundle;
use protocol::link::server_message::Message as ToAgent;
use serde_json::{Value as Json, json};

use crate::agent::Agent;
use crate::api::Api;
use crate::running::{Running, now};

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

const SIGMA: &str = "title: Whoami\nid: 8f9b6c2e-0000-4000-8000-000000000001\nlevel: high\ntags: [attack.t1033]\nlogsource:\n    product: linux\n    category: process_creation\ndetection:\n    sel:\n        Image|endswith: /whoami\n    condition: sel\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_sigma_rule_is_kept_as_written_switched_and_pushed() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let checked = admin.post("/rules/check", json!({ "text": SIGMA })).await;
    assert_eq!(
        (&checked.json["ok"], &checked.json["rule"]["name"]),
        (&json!(true), &json!("Whoami")),
        "{}",
        checked.json
    );
    let before = policy_version(&running.app);
    let made = admin.post("/rules", json!({ "text": SIGMA })).await;
    assert_eq!(made.status, 201, "{}", made.json);
    assert_eq!((&made.json["text"], &made.json["severity"]), (&json!(SIGMA), &json!("high")));
    assert_eq!((&made.json["attack"], &made.json["type"]), (&json!(["T1033"]), &json!("process")));
    assert!(policy_version(&running.app) > before, "a new bundle");

    let again = admin.post("/rules", json!({ "text": SIGMA })).await;
    assert_eq!((again.status, again.code()), (409, "conflict"));
    let id = "8f9b6c2e-0000-4000-8000-000000000001";
    assert!(again.json.to_string().contains(id), "the reason names the id: {}", again.json);

    let path = format!("/rules/{id}");
    let switched = admin.patch(&path, json!({ "mode": "auto", "enabled": false })).await;
    assert_eq!(switched.status, 200, "{}", switched.json);
    let text = switched.json["text"].as_str().unwrap();
    assert!(text.starts_with(SIGMA) && text.ends_with("enabled: false\nmode: \"auto\"\n"), "{text}");
    let agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.expect("connected");
    let Some(ToAgent::Policy(signed)) = stream.next().await.unwrap() else { panic!("a bundle comes first") };
    let bundle = verify_bundle(&signed, &agent.command_key, 0, now()).expect("signed by the server");
    let pushed = bundle.rules.iter().find(|rule| rule.id == id).expect("it is in the bundle");
    let read = rule_engine::parse_rule_text("pushed", &pushed.json);
    assert!(read.is_ok(), "{:?}", read.diagnostics);
    assert!(!read.rules[0].head().enabled && read.rules[0].head().mode == event_model::ResponseMode::Auto);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_sigma_rule_is_refused_with_its_place() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    for (text, line, code) in [
        (SIGMA.replace("|endswith", "|endwith"), 10, "bad-modifier"),
        (SIGMA.replace("condition: sel", "condition: sell"), 11, "bad-reference"),
        (SIGMA.replace("level: high", "level: hihg"), 3, "bad-value"),
        (SIGMA.replace("level: high", "level: high\nmode: atuo"), 4, "bad-value"),
    ] {
        let saved = admin.post("/rules", json!({ "text": text })).await;
        assert_eq!((saved.status, saved.code()), (422, "rule_refused"), "{text}");
        let found = &saved.json["diagnostics"][0];
        assert_eq!(&found["line"], &json!(line), "{found}");
        assert_eq!(&found["code"], &json!(code), "{found}");
        assert!(found["column"].as_u64().unwrap() >= 1);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_taken_whole_or_not_at_all() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let second = SIGMA.replace("000000000001", "000000000002").replace("Whoami", "Other");
    let both = format!("{SIGMA}---\n{second}");
    let one_at_a_time = admin.post("/rules", json!({ "text": both })).await;
    assert_eq!(one_at_a_time.code(), "invalid");
    assert!(one_at_a_time.json.to_string().contains("/rules/import"), "{}", one_at_a_time.json);

    let twice = admin.post("/rules/import", json!({ "text": format!("{both}---\n{SIGMA}") })).await;
    assert_eq!(twice.code(), "rule_refused");
    let found = &twice.json["diagnostics"][0];
    assert_eq!((&found["code"], &found["line"]), (&json!("duplicate-id"), &json!(26)), "{found}");

    let taken = admin.post("/rules/import", json!({ "text": both })).await;
    assert_eq!(taken.status, 201, "{}", taken.json);
    let names: Vec<&str> =
        taken.json["items"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Whoami", "Other"]);
    // Each can be switched alone.
    let path = "/rules/8f9b6c2e-0000-4000-8000-000000000001";
    assert_eq!(admin.patch(path, json!({ "mode": "shadow" })).await.json["mode"], "shadow");

    let third = SIGMA.replace("000000000001", "000000000003");
    let half_known = admin.post("/rules/import", json!({ "text": format!("{third}---\n{second}") })).await;
    assert_eq!(half_known.code(), "conflict");
    assert_eq!(admin.get("/rules/8f9b6c2e-0000-4000-8000-000000000003").await.status, 404, "none of it");

    let count = |of: &str| {
        format!(
            "title: Many\nid: 8f9b6c2e-0000-4000-8000-00000000000a\nlevel: high\ncorrelation:\n    type: event_count\n    rules: [{of}]\n    group-by: [User]\n    timespan: 1m\n    condition: {{gte: 2}}\n"
        )
    };
    let dangling = admin.post("/rules", json!({ "text": count("nowhere") })).await;
    assert_eq!(dangling.code(), "rule_refused", "{}", dangling.json);
    let good = admin.post("/rules", json!({ "text": count("8f9b6c2e-0000-4000-8000-000000000002") })).await;
    assert_eq!(good.status, 201, "{}", good.json);

    let global = "action: global\nlevel: low\n---\ntitle: a\nid: a\nlogsource: {category: process_creation}\ndetection: {s: {Image: x}, condition: s}\n";
    let refused = admin.post("/rules/import", json!({ "text": global })).await;
    assert_eq!(refused.code(), "invalid");
    assert!(refused.json.to_string().contains("write it whole"), "{}", refused.json);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_can_never_fire_on_a_host_is_told_on_both() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut agent = Agent::first(&running).await;
    let host = format!("/hosts/{}/coverage", agent.host);
    let unknown = admin.get(&host).await.json;
    assert_eq!((&unknown["known"], &unknown["rules_without_source"]), (&json!(false), &json!([])));

    let files = GOOD
        .replace("9001", "9003")
        .replace("\"process\"", "\"file\"")
        .replace("name contains", "file_path contains");
    let windows = SIGMA.replace("product: linux", "product: windows");
    for text in [GOOD, &files, &windows] {
        let made = admin.post("/rules", json!({ "text": text })).await;
        assert_eq!(made.status, 201, "{}", made.json);
    }
    let sources = ["process_start=ebpf (exec)", "file_create=none: the kernel has no such hook (ebpf)"];
    let fields = vec![
        (Field::AgentVersion, Value::Text("1".into())),
        (Field::AgentSources, Value::TextList(sources.map(str::to_owned).to_vec())),
    ];
    let start = EventRecord::from_fields(agent.header(1), EventType::AgentStart, fields);
    let mut stream = agent.connect(&running, u64::MAX).await.unwrap();
    let record = Record { header: agent.header(1), body: RecordBody::Event(start) };
    let batch = agent.batch_of(&[record]);
    let sealed = agent.sealer.seal(&batch);
    stream.send_batch(sealed).await;
    stream.acknowledged(1).await;

    let shown = admin.get(&host).await.json;
    assert_eq!((&shown["known"], &shown["sources"]), (&json!(true), &json!(sources)));
    let starved = shown["rules_without_source"].as_array().unwrap();
    let reason = |id: &str| {
        starved.iter().find(|rule| rule["id"] == id).map(|rule| rule["reason"].as_str().unwrap().to_owned())
    };
    assert_eq!(reason("9001"), None, "{shown}");
    assert!(reason("9003").unwrap().starts_with("no source of file_create"), "{shown}");
    let windows = "8f9b6c2e-0000-4000-8000-000000000001";
    assert_eq!(
        reason(windows).as_deref(),
        Some("no source of events of product windows, category process_creation")
    );

    let rule = admin.get("/rules/9003/coverage").await.json;
    assert_eq!(
        (&rule["known_hosts"], &rule["hosts_without_source"][0]["id"]),
        (&json!(1), &json!(agent.host.to_string()))
    );
    assert_eq!(admin.get("/rules/9001/coverage").await.json["hosts_without_source"], json!([]));
    assert_eq!(admin.get("/rules/nobody/coverage").await.status, 404);
    running.stop().await;
}
