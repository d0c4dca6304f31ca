//! YARA files and lists of indicators: checked, kept, and sent to agents in the signed bundle.

use protocol::bundle::verify_bundle;
use protocol::link::server_message::Message as ToAgent;
use serde_json::json;

use crate::agent::Agent;
use crate::running::{Running, now};

const YARA: &str =
    "rule first { strings: $a = \"marker\" condition: $a }\nrule second { condition: first }\n";

#[tokio::test(flavor = "multi_thread")]
async fn yara_files_and_indicator_lists_reach_agents_signed_and_go_again() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let Some(ToAgent::Policy(signed)) = stream.next().await.unwrap() else { panic!("a bundle comes first") };
    let before = verify_bundle(&signed, &agent.command_key, 0, now()).unwrap();
    assert!(before.yara.is_empty() && before.indicators.is_empty() && !before.rules.is_empty());

    let saved = admin.put("/yara-files/apt.yar", json!({ "text": YARA })).await;
    assert_eq!((saved.status, &saved.json["entries"]), (200, &json!(2)), "{}", saved.json);
    assert_eq!((&saved.json["bytes"], &saved.json["warnings"]), (&json!(YARA.len()), &json!([])));
    let Some(ToAgent::Policy(signed)) = stream.next().await.unwrap() else { panic!("a bundle comes") };
    let bundle = verify_bundle(&signed, &agent.command_key, before.version, now()).unwrap();
    assert_eq!((bundle.yara[0].name.as_str(), bundle.yara[0].text.as_str()), ("apt.yar", YARA));
    assert_eq!(bundle.rules.len(), before.rules.len(), "rules stay what they were");

    let list = "value,confidence\nevil.example,90\n203.0.113.0/24,80\n";
    assert_eq!(admin.put("/indicator-lists/feed", json!({ "text": list })).await.json["entries"], 2);
    let Some(ToAgent::Policy(signed)) = stream.next().await.unwrap() else { panic!("a bundle comes") };
    let bundle = verify_bundle(&signed, &agent.command_key, bundle.version, now()).unwrap();
    assert_eq!((bundle.indicators[0].name.as_str(), bundle.indicators[0].text.as_str()), ("feed", list));

    let listed = admin.get("/indicator-lists").await.json;
    assert_eq!((&listed["items"][0]["name"], &listed["items"][0]["text"]), (&json!("feed"), &json!(null)));
    assert_eq!(admin.get("/indicator-lists/feed").await.json["text"], list);
    assert_eq!(admin.delete("/indicator-lists/feed").await.status, 204);
    assert_eq!(admin.get("/indicator-lists/feed").await.code(), "not_found");
    assert_eq!(admin.delete("/indicator-lists/feed").await.status, 404);
    let Some(ToAgent::Policy(signed)) = stream.next().await.unwrap() else { panic!("a bundle comes") };
    let bundle = verify_bundle(&signed, &agent.command_key, bundle.version, now()).unwrap();
    assert!(bundle.indicators.is_empty() && bundle.yara.len() == 1);

    let audited = admin.get("/audit").await.json.to_string();
    for what in ["yara_file.put", "indicator_list.put", "indicator_list.delete"] {
        assert!(audited.contains(what), "{what} in {audited}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behaviours_are_switched_off_and_edited_for_every_agent() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    let Some(ToAgent::Policy(signed)) = stream.next().await.unwrap() else { panic!("a bundle comes first") };
    let before = verify_bundle(&signed, &agent.command_key, 0, now()).unwrap();
    let of = |listed: &serde_json::Value, id: &str| {
        let items = listed["items"].as_array().unwrap();
        items.iter().find(|it| it["id"] == id).cloned().unwrap_or_default()
    };
    let listed = admin.get("/behaviours").await.json;
    let built_in = of(&listed, "linux-download-command");
    assert_eq!(
        (&built_in["enabled"], &built_in["file"]),
        (&json!(true), &json!("built-in linux")),
        "{listed}"
    );
    assert_eq!(of(&listed, "linux-dropper")["shown_by"], "sequence");

    let off = admin.patch("/behaviours/linux-download-command", json!({ "enabled": false })).await;
    assert_eq!((off.status, &off.json["enabled"]), (200, &json!(false)), "{}", off.json);
    let lighter = admin.patch("/behaviours/linux-made-executable", json!({ "weight": 3.5 })).await;
    assert_eq!((lighter.status, &lighter.json["weight"]), (200, &json!(3.5)), "{}", lighter.json);
    let mut version = before.version;
    let mut bundle = before;
    for _ in 0..2 {
        let Some(ToAgent::Policy(signed)) = stream.next().await.unwrap() else { panic!("a bundle comes") };
        bundle = verify_bundle(&signed, &agent.command_key, version, now()).unwrap();
        version = bundle.version;
    }
    let sent: serde_json::Value = serde_json::from_str(&bundle.behaviours[0].text).unwrap();
    let expected = json!([
        { "id": "linux-download-command", "enabled": false }, { "id": "linux-made-executable", "weight": 3.5 },
    ]);
    assert_eq!(sent["overrides"], expected);
    assert_eq!(of(&admin.get("/behaviours").await.json, "linux-download-command")["enabled"], false);
    let too_heavy = admin.patch("/behaviours/linux-made-executable", json!({ "weight": 5000 })).await;
    assert_eq!(too_heavy.code(), "rule_refused", "{}", too_heavy.json);
    assert_eq!(admin.patch("/behaviours/nothing", json!({ "enabled": false })).await.status, 404);

    let own =
        r#"{"behaviours": [{"id": "mine", "name": "Mine", "weight": 20, "conditions": ["name = 'x'"]}]}"#;
    let saved = admin.put("/behaviour-files/ours", json!({ "text": own })).await;
    assert_eq!((saved.status, &saved.json["entries"]), (200, &json!(1)), "{}", saved.json);
    let mine = of(&admin.get("/behaviours").await.json, "mine");
    assert_eq!((&mine["file"], &mine["shown_by"]), (&json!("ours"), &json!("conditions")));
    let broken =
        admin.put("/behaviour-files/ours", json!({ "text": own.replace("name = 'x'", "nam = 'x'") })).await;
    assert_eq!((broken.status, broken.code()), (422, "rule_refused"), "{}", broken.json);
    assert_eq!(admin.put("/behaviour-files/ours", json!({ "text": "{}" })).await.code(), "invalid");

    // Back to what the files say: nothing is left of the overrides.
    for id in ["linux-download-command", "linux-made-executable"] {
        assert_eq!(admin.patch(&format!("/behaviours/{id}"), json!({})).await.json["enabled"], true);
    }
    let names = admin.get("/behaviour-files").await.json["items"].to_string();
    assert!(names.contains("ours") && !names.contains("zz-overrides"), "{names}");
    assert_eq!(admin.delete("/behaviour-files/ours").await.status, 204);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_compile_or_is_no_indicator_is_refused_with_its_place() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let version = running.app.policy_version();
    let broken = format!("{YARA}rule third {{ condition: $nothing }}\n");
    let refused = admin.put("/yara-files/apt", json!({ "text": broken })).await;
    assert_eq!((refused.status, refused.code()), (422, "rule_refused"), "{}", refused.json);
    assert_eq!(refused.json["diagnostics"][0]["line"], 3);
    let checked = admin.post("/yara-files/apt/check", json!({ "text": broken })).await.json;
    assert_eq!((&checked["ok"], &checked["entries"]), (&json!(false), &json!(2)));
    assert_eq!(checked["diagnostics"], refused.json["diagnostics"]);

    let refused =
        admin.put("/indicator-lists/feed", json!({ "text": "evil.example\nnonsense here\n" })).await;
    assert_eq!(
        (refused.status, &refused.json["diagnostics"][0]["line"]),
        (422, &json!(2)),
        "{}",
        refused.json
    );
    for (path, text) in [
        ("/indicator-lists/feed", ""),
        ("/indicator-lists/feed", "# nothing but a comment\n"),
        ("/yara-files/apt", ""),
        ("/yara-files/.hidden", YARA),
        ("/yara-files/a%2F..%2Fb", YARA),
        ("/indicator-lists/%20", "evil.example"),
    ] {
        assert_eq!(admin.put(path, json!({ "text": text })).await.code(), "invalid", "{path} {text}");
    }
    let include = "include \"/etc/passwd\"\n";
    assert_eq!(admin.put("/yara-files/apt", json!({ "text": include })).await.status, 422);
    let long = "a".repeat((4 << 20) + 1);
    assert_eq!(admin.put("/yara-files/apt", json!({ "text": long })).await.code(), "too_large");

    // All together have a limit too, and what goes beyond it changes nothing.
    let list: String = (0..225_000_u32).map(|n| format!("{n:05}.bad.example\n")).collect();
    assert!(list.len() > 4_000_000 && list.len() < 4 << 20, "{}", list.len());
    for n in 0..3 {
        assert_eq!(admin.put(&format!("/indicator-lists/big{n}"), json!({ "text": list })).await.status, 200);
    }
    let fourth = admin.put("/indicator-lists/big3", json!({ "text": list })).await;
    let fifth = admin.put("/indicator-lists/big4", json!({ "text": list })).await;
    assert_eq!((fourth.status, fifth.code()), (200, "invalid"), "{}", fifth.json);
    assert!(fifth.json["detail"].as_str().unwrap().contains("16777216"), "{}", fifth.json);
    assert_eq!(admin.get("/indicator-lists").await.json["items"].as_array().unwrap().len(), 4);
    assert_eq!(admin.get("/yara-files").await.json["items"], json!([]));
    assert!(running.app.policy_version() > version);
    running.stop().await;
}
