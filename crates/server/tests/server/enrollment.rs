//! Tokens for certificates, certificates for links.

use event_model::Timestamp;
use protocol::enrollment::{EnrollmentToken, host_of_certificate};
use protocol::link::RenewRequest;
use protocol::trust::ServerTrust;
use rcgen::KeyPair;
use serde_json::json;
use state_store::{HostStore as _, NewEnrollmentToken, Token};
use tonic::Code;

use crate::agent::{Agent, client, client_by, client_from, enroll, enroll_with, request_for_certificate};
use crate::running::{Running, eventually, now};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_enrols_one_host_and_no_second() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let token = running.first_enrollment.split("-token=").nth(1).unwrap().to_owned();
    let (reply, _) = enroll(&running, &token).await.unwrap();
    assert_eq!(reply.ca_certificate, running.ca);
    assert!(host_of_certificate(&reply.certificate).is_some());
    let hosts = admin.get("/hosts").await.json;
    assert_eq!(hosts["items"][0]["name"], "test-host");
    assert_eq!(hosts["items"][0]["online"], false);

    let again = enroll(&running, &token).await.unwrap_err();
    assert_eq!(again.code(), Code::InvalidArgument);
    assert!(again.message().contains("used up"), "{}", again.message());
    let wrong = enroll(&running, "rampart-wrong").await.unwrap_err();
    assert!(wrong.message().contains("not known"), "{}", wrong.message());
    assert_eq!(admin.counter("bad_token").await, 2);
    assert_eq!(admin.get("/hosts").await.json["items"].as_array().unwrap().len(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_and_revoked_tokens_are_refused_with_the_reason() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let token = Token::for_enrollment(&running.ca).unwrap();
    let expired = NewEnrollmentToken {
        secret: token.digest(),
        uses: 1,
        expires_at: Timestamp::from_nanos(now().as_nanos() - 1),
        created_by: "test".to_owned(),
    };
    running.state().create_enrollment_token(&expired, Timestamp::from_nanos(now().as_nanos() - 10)).unwrap();
    let refused = enroll(&running, token.as_str()).await.unwrap_err();
    assert!(refused.message().contains("expired"), "{}", refused.message());
    assert!(refused.message().contains("`edr token create`"), "{}", refused.message());
    assert_eq!(admin.counter("bad_token").await, 1);

    let made = admin.post("/enrollment-tokens", json!({ "uses": 3 })).await;
    assert_eq!(made.status, 201, "{}", made.json);
    assert!(made.json["command"].as_str().unwrap().contains("-token=rampart-"));
    let windows = made.json["windows_command"].as_str().unwrap();
    assert!(windows.contains(r".\install.ps1 -Server ") && windows.contains(" -Token rampart-"), "{windows}");
    let id = made.json["id"].as_str().unwrap();
    assert_eq!(admin.delete(&format!("/enrollment-tokens/{id}")).await.status, 204);
    let refused = enroll(&running, made.json["token"].as_str().unwrap()).await.unwrap_err();
    assert!(refused.message().contains("revoked"), "{}", refused.message());
    for bad in [json!({ "ttl_seconds": 86_401 }), json!({ "uses": 0 })] {
        assert_eq!(admin.post("/enrollment-tokens", bad).await.status, 422);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_hosts_that_race_for_one_token_one_wins() {
    let running = Running::start().await;
    let token = running.first_enrollment.split("-token=").nth(1).unwrap();
    let attempts = futures_util::future::join_all((0..20).map(|_| enroll(&running, token))).await;
    assert_eq!(attempts.iter().filter(|attempt| attempt.is_ok()).count(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_needs_a_certificate_of_our_own_ca() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let agent = Agent::first(&running).await;
    let mut nobody = client(running.address, &running.ca, None).await.unwrap();
    let refused = nobody.connect(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);

    let key = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let uri = protocol::enrollment::agent_uri(agent.host).try_into().unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    let forged = params.self_signed(&key).unwrap().der().to_vec();
    // With TLS 1.3 the client learns of the refusal at its first read.
    let forged = client(running.address, &running.ca, Some((forged, key.serialized_der().to_vec()))).await;
    if let Ok(mut forged) = forged {
        forged.connect(tokio_stream::empty()).await.unwrap_err();
    }
    eventually("the forged certificate is counted", || async {
        (admin.counter("bad_certificate").await >= 1).then_some(())
    })
    .await;
    agent.connect(&running, 0).await.expect("the good one still gets in");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_ends_the_link_at_once_and_for_good() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let agent = Agent::first(&running).await;
    let mut stream = agent.connect(&running, 0).await.unwrap();
    stream.next().await.unwrap();
    let host = format!("/hosts/{}", agent.host);
    eventually("the host is online", || async {
        (admin.get(&host).await.json["online"] == true).then_some(())
    })
    .await;
    let start = std::time::Instant::now();
    assert_eq!(admin.call("POST", &format!("{host}/revoke"), None).await.status, 204);
    let end = stream.end().await;
    assert_eq!(end.code(), Code::PermissionDenied, "{end:?}");
    assert!(start.elapsed().as_secs() < 5);
    let refused = agent.connect(&running, 0).await.err().expect("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("revoked"), "{}", refused.message());
    let shown = admin.get(&host).await.json;
    assert_eq!((&shown["revoked"], &shown["online"]), (&json!(true), &json!(false)));
    assert!(admin.counter("revoked").await >= 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_replaces_the_old_one_once_it_is_used() {
    let running = Running::start().await;
    let mut agent = Agent::first(&running).await;
    let old = agent.identity.clone();
    let key = KeyPair::generate().unwrap();
    let request = RenewRequest { certificate_request: request_for_certificate(&key) };
    let reply = agent.client(&running).await.renew(request).await.unwrap().into_inner();
    agent.connect(&running, 0).await.expect("the old one is good until the new one is used");
    agent.identity = (reply.certificate, key.serialized_der().to_vec());
    agent.connect(&running, 0).await.expect("the new one is good");
    agent.identity = old;
    let refused = agent.connect(&running, 0).await.err().expect("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    running.stop().await;
}

/// A flood of bad tokens is slowed, fills no audit log, and keeps nobody out who comes from elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_refused_again_and_again_is_slowed_and_others_are_not() {
    let running = Running::start().await;
    let admin = running.administrator().await;
    let mut slowed = 0;
    for _ in 0..60 {
        match enroll(&running, "rampart-wrong").await.unwrap_err() {
            status if status.code() == Code::InvalidArgument => {}
            status => {
                // Not for good: an agent tries again later.
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                assert!(status.message().contains("try again in"), "{}", status.message());
                slowed += 1;
            }
        }
    }
    assert!(slowed >= 10, "{slowed}");
    assert!(admin.counter("bad_token").await >= 40);
    let log = admin.get("/audit?limit=200").await.json;
    let rows = log["items"].as_array().unwrap();
    let refused = rows.iter().filter(|row| row["what"] == "host.enroll_refused").count();
    assert_eq!(refused, 20);

    // The same server by another address of this machine.
    let token = running.first_enrollment.split("-token=").nth(1).unwrap();
    let (ca, address) = (running.ca.clone(), running.address);
    let mut client = client_from(std::net::IpAddr::from([127, 0, 0, 2]), address, &ca).await.unwrap();
    enroll_with(&mut client, token).await.expect("another address is not slowed");
    running.stop().await;
}

/// The line that is printed must do, whatever certificate the operator gave the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_enough_where_the_server_has_a_certificate_of_another_ca() {
    let key = KeyPair::generate().unwrap();
    // What `openssl req -x509` makes; its name is not the one that agents call.
    let mut params = rcgen::CertificateParams::new(vec!["console.example.org".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = params.self_signed(&key).unwrap();
    let running = Running::start_with_certificate(&own.pem(), &key.serialize_pem()).await;
    assert_eq!(running.app.pki().tls_chain[0], *own.der(), "browsers see the operator's");

    let token = running.first_enrollment.split("-token=").nth(1).unwrap();
    let pinned = EnrollmentToken::parse(token).unwrap().ca_sha256();
    let by_token = ServerTrust::CaFingerprint(pinned);
    let mut stranger = client_by(by_token, running.address).await.expect("the token's CA vouches for it");
    enroll_with(&mut stranger, token).await.expect("enrolled");
    // As an enrolled agent knows it, and as one does that was given the certificate itself.
    for known in [running.ca.clone(), own.der().to_vec()] {
        let trust = ServerTrust::Certificates(vec![known.clone()]);
        let connected = client_by(trust, running.address).await;
        assert_eq!(connected.is_ok(), known == running.ca, "the operator's is not good for this name");
    }
    let another = ServerTrust::CaFingerprint([7; 32]);
    client_by(another, running.address).await.expect_err("another server's token");
    running.stop().await;
}
