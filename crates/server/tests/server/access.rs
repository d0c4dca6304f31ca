//! Signing in, sessions, users, tokens.

use http_body_util::BodyExt as _;
use serde_json::json;

use crate::running::{PATIENCE, Running};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_password_opens_only_the_way_to_an_own_one() {
    let running = Running::start().await;
    let mut api = running.stranger();
    assert_eq!(api.get("/hosts").await.code(), "not_signed_in");
    let answer = api.sign_in("admin", &running.first_password).await;
    assert_eq!((answer.status, &answer.json["user"]["must_change_password"]), (200, &json!(true)));
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    for part in ["__Host-rampart-session=", "Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert_eq!(api.get("/hosts").await.code(), "password_change_required");
    assert_eq!(api.get("/session").await.status, 200);

    let change = |current: &str, new: &str| json!({ "current_password": current, "new_password": new });
    let short = api.put("/session/password", change(&running.first_password, "short")).await;
    assert_eq!((short.status, short.code()), (422, "invalid"));
    let wrong = api.put("/session/password", change("not it", "correct horse battery")).await;
    assert_eq!(wrong.code(), "wrong_password");
    let done = api.put("/session/password", change(&running.first_password, "correct horse battery")).await;
    assert_eq!(done.status, 204, "{}", done.json);
    assert_eq!(api.get("/hosts").await.status, 200, "the session goes on");

    assert_eq!(api.delete("/session").await.status, 204);
    assert_eq!(api.get("/hosts").await.code(), "not_signed_in");
    assert_eq!(api.sign_in("admin", &running.first_password).await.code(), "wrong_password");
    assert_eq!(api.sign_in("ADMIN", "correct horse battery").await.status, 200);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_name_reads_like_a_wrong_password_and_guessing_is_slowed() {
    let running = Running::start().await;
    let mut api = running.stranger();
    let unknown = api.sign_in("nobody", "x").await;
    let wrong = api.sign_in("admin", "x").await;
    assert_eq!((unknown.status, unknown.code()), (wrong.status, wrong.code()));
    assert_eq!(unknown.json["detail"], wrong.json["detail"]);
    let mut throttled = None;
    for _ in 0..6 {
        let answer = api.sign_in("admin", "x").await;
        if answer.status == 429 {
            throttled = Some(answer);
            break;
        }
    }
    let throttled = throttled.expect("the sixth attempt is too much");
    assert_eq!(throttled.code(), "throttled");
    let wait: u64 = throttled.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    assert_eq!(api.sign_in("other", "x").await.code(), "wrong_password", "other accounts are not shut out");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_come_change_and_go_but_never_the_last_administrator() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let new = json!({ "username": "ann", "password": "a first password", "role": "viewer" });
    let made = admin.post("/users", new.clone()).await;
    assert_eq!((made.status, &made.json["must_change_password"]), (201, &json!(true)), "{}", made.json);
    assert_eq!(admin.post("/users", new).await.code(), "conflict");
    let bad = json!({ "username": "a b", "password": "a first password", "role": "viewer" });
    assert_eq!(admin.post("/users", bad).await.code(), "invalid");
    let unknown_key =
        json!({ "username": "b", "password": "a first password", "role": "viewer", "admin": true });
    assert_eq!(admin.post("/users", unknown_key).await.code(), "bad_body");

    let mut ann = running.stranger();
    assert_eq!(ann.sign_in("ann", "a first password").await.status, 200);
    assert_eq!(admin.patch("/users/ann", json!({ "disabled": true })).await.status, 200);
    assert_eq!(ann.get("/session").await.status, 401, "disabling ends her sessions");
    assert_eq!(ann.sign_in("ann", "a first password").await.code(), "wrong_password");
    assert_eq!(admin.delete("/users/ann").await.status, 204);
    assert_eq!(admin.delete("/users/ann").await.status, 404);
    for (method, body) in [("DELETE", None), ("PATCH", Some(json!({ "role": "viewer" })))] {
        let answer = admin.call(method, "/users/admin", body).await;
        assert_eq!(answer.code(), "conflict", "{method}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_token_works_until_it_is_removed() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let made = admin.post("/api-tokens", json!({ "name": "script", "role": "viewer", "ttl_days": 1 })).await;
    assert_eq!(made.status, 201, "{}", made.json);
    let token = made.json["token"].as_str().unwrap();
    let script = admin.with_token(token);
    assert_eq!(script.get("/hosts").await.status, 200);
    assert_eq!(script.get("/users").await.code(), "forbidden");
    let listed = admin.get("/api-tokens").await;
    assert!(!listed.text.contains(token), "a token is shown once");
    let id = made.json["id"].as_str().unwrap();
    assert_eq!(admin.delete(&format!("/api-tokens/{id}")).await.status, 204);
    assert_eq!(script.get("/hosts").await.status, 401);
    assert_eq!(admin.with_token("rampart-api-x").get("/hosts").await.status, 401);
    running.stop().await;
}

/// What is live ends with the right to see it, also for a script.
#[tokio::test(flavor = "multi_thread")]
async fn the_live_stream_of_a_removed_token_ends() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let made = admin.post("/api-tokens", json!({ "name": "script", "role": "viewer", "ttl_days": 1 })).await;
    let script = admin.with_token(made.json["token"].as_str().unwrap());
    let live = script.send(script.request("GET", "/events/stream", None)).await;
    assert_eq!(live.status(), 200);
    let id = made.json["id"].as_str().unwrap();
    assert_eq!(admin.delete(&format!("/api-tokens/{id}")).await.status, 204);
    let mut body = live.into_body();
    let end = async { while let Some(Ok(_)) = body.frame().await {} };
    tokio::time::timeout(PATIENCE, end).await.expect("the stream ends");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_forms_and_large_bodies_are_refused() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let body = json!({ "name": "x", "role": "viewer", "ttl_days": 1 });
    let mut foreign = admin.request("POST", "/api-tokens", Some(&body));
    foreign.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
    assert_eq!(admin.answer(foreign).await.code(), "cross_site");
    let mut form = admin.request("POST", "/api-tokens", Some(&body));
    form.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(admin.answer(form).await.code(), "not_json");
    let large = json!({ "text": "x".repeat(300_000) });
    assert_eq!(admin.post("/rules/check", large).await.code(), "too_large");
    let large = json!({ "username": "admin", "password": "x".repeat(10_000) });
    assert_eq!(running.stranger().post("/session", large).await.code(), "too_large");
    assert_eq!(admin.get("/events?limit=501").await.code(), "invalid");
    assert_eq!(admin.get("/events?nonsense=1").await.code(), "invalid");
    assert_eq!(admin.get("/events?field=procces.name:x").await.status, 422);
    assert_eq!(admin.get("/hosts?cursor=x").await.code(), "invalid");
    let traced = admin.get("/nothing").await;
    assert_eq!((traced.status, traced.code()), (404, "not_found"));
    assert_eq!(traced.headers["content-type"], "application/problem+json");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_matters_stands_in_the_audit_log() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    admin.put("/settings", json!({ "events_retention_days": 7, "alerts_retention_days": 90 })).await;
    assert_eq!(admin.get("/settings").await.json["events_retention_days"], 7);
    let refused =
        admin.put("/settings", json!({ "events_retention_days": 0, "alerts_retention_days": 90 })).await;
    assert_eq!(refused.status, 422);
    let log = admin.get("/audit?limit=50").await;
    let what: Vec<_> =
        log.json["items"].as_array().unwrap().iter().map(|row| row["what"].as_str().unwrap()).collect();
    for expected in ["settings.update", "user.password", "session.begin", "user.create"] {
        assert!(what.contains(&expected), "{expected}: {what:?}");
    }
    assert!(!log.text.contains(&running.first_password));
    running.stop().await;
}
