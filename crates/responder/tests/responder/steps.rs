//! What steps do, seen from where it arrives.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use test_support::{ResponderOptions, ResponderProcess, wait_for};

use crate::place::{LIMIT, Place};

/// A web hook: gives the bodies that are posted to it.
fn web_hook() -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("as the test needs it");
    let url = format!("http://{}", listener.local_addr().expect("as the test needs it"));
    let (send, bodies) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().expect("as the test needs it"));
            let (mut length, mut path) = (0, String::new());
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                if let Some(found) = line.strip_prefix("POST ") {
                    path = found.split(' ').next().unwrap_or_default().to_owned();
                }
                if let Some(found) = line.to_lowercase().strip_prefix("content-length:") {
                    length = found.trim().parse().expect("as the test needs it");
                }
            }
            let mut body = vec![0; length];
            std::io::Read::read_exact(&mut reader, &mut body).expect("as the test needs it");
            let mut stream = stream;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                .expect("as the test needs it");
            if send.send((path, serde_json::from_slice(&body).expect("as the test needs it"))).is_err() {
                return;
            }
        }
    });
    (url, bodies)
}

/// A mail relay that takes one mail and gives its text.
fn mail_relay() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("as the test needs it");
    let place = listener.local_addr().expect("as the test needs it").to_string();
    let (send, mails) = channel();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("as the test needs it");
        let mut out = stream.try_clone().expect("as the test needs it");
        out.write_all(b"220 relay\r\n").expect("as the test needs it");
        let (mut text, mut in_data) = (String::new(), false);
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            text.push_str(&line);
            text.push('\n');
            let answer = match (in_data, line.as_str()) {
                (true, ".") => "250 taken\r\n",
                (true, _) => continue,
                (false, "DATA") => "354 go on\r\n",
                (false, "QUIT") => "221 bye\r\n",
                (false, _) => "250 ok\r\n",
            };
            in_data = line == "DATA";
            out.write_all(answer.as_bytes()).expect("as the test needs it");
        }
        let _ = send.send(text);
    });
    (place, mails)
}

/// The same over TLS from the first byte, with a certificate of its own.
fn tls_mail_relay(folder: &std::path::Path) -> (String, std::path::PathBuf, Receiver<String>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let file = folder.join("relay.crt");
    std::fs::write(&file, made.cert.pem()).expect("our own folder");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a good pair");
    let config = std::sync::Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("as the test needs it");
    let url = format!("smtps://{}", listener.local_addr().expect("as the test needs it"));
    let (send, mails) = channel();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let connection =
                rustls::ServerConnection::new(std::sync::Arc::clone(&config)).expect("good settings");
            let mut stream = BufReader::new(rustls::StreamOwned::new(connection, socket));
            if stream.get_mut().write_all(b"220 relay\r\n").is_err() {
                continue;
            }
            let (mut text, mut in_data) = (String::new(), false);
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).unwrap_or(0) == 0 {
                    break;
                }
                text.push_str(&line);
                let answer = match (in_data, line.trim_end()) {
                    (true, ".") => "250 taken\r\n",
                    (true, _) => continue,
                    (false, "DATA") => "354 go on\r\n",
                    (false, _) => "250 ok\r\n",
                };
                in_data = line.trim_end() == "DATA";
                if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                    break;
                }
                if answer.starts_with("250 taken") {
                    let _ = send.send(text.clone());
                }
            }
        }
    });
    (url, file, mails)
}

#[test]
fn mails_go_over_tls_to_who_the_host_trusts() {
    let Some(place) = Place::new() else { return };
    let (url, certificate, mails) = tls_mail_relay(place.folder.path());
    place.write_playbook("tell", "id: tell\nname: Tell\nmode: auto\ntrigger: {severity: low}\nsteps:\n  - {id: mail, do: send_mail, with: {to: [a@example.org]}}\n");
    let options = |name: &str| {
        let mut options = place.responder_options(name);
        options.arguments.extend([format!("-smtp={url}"), "-mail-from=rampart@example.org".to_owned()]);
        options.arguments.push(format!("-group={name}"));
        options
    };
    // Who is not trusted gets nothing, and no plain mail either.
    let distrusts = ResponderProcess::start(options("distrusts"));
    place.alert(1, 4_242);
    let journal = wait_for("the run ends", LIMIT, || {
        place.journals("distrusts").into_iter().find(|run| run.contains("run_finished"))
    });
    assert!(journal.contains("\"failed\"") && journal.contains("certificate"), "{journal}");
    distrusts.stop();
    let mut trusting = options("trusts");
    trusting.environment.push(("SSL_CERT_FILE".to_owned(), certificate.display().to_string()));
    let _trusts = ResponderProcess::start(trusting);
    place.alert(2, 4_242);
    let mail = mails.recv_timeout(LIMIT).expect("the relay gets the mail");
    assert!(mail.contains("RCPT TO:<a@example.org>"), "{mail}");
}

#[test]
fn people_and_systems_are_told() {
    let Some(place) = Place::new() else { return };
    let (url, bodies) = web_hook();
    let (relay, mails) = mail_relay();
    let log = UdpSocket::bind("127.0.0.1:0").expect("as the test needs it");
    log.set_read_timeout(Some(LIMIT)).expect("as the test needs it");
    place.write_playbook(
        "tell",
        &format!(
            "id: tell\nname: Tell\nmode: auto\ntrigger: {{attack: [T1059]}}\nsteps:\n\
             \x20 - {{id: slack, do: send_chat, with: {{service: slack, url: '${{HOOK}}/slack', text: '<b> {{{{rule.name}}}} on {{{{host.name}}}}'}}}}\n\
             \x20 - {{id: dingtalk, do: send_chat, with: {{service: dingtalk, url: '${{HOOK}}/dingtalk'}}}}\n\
             \x20 - {{id: feishu, do: send_chat, with: {{service: feishu, url: '${{HOOK}}/feishu'}}}}\n\
             \x20 - {{id: wecom, do: send_chat, with: {{service: wecom, url: '${{HOOK}}/wecom'}}}}\n\
             \x20 - {{id: ticket, do: open_ticket, with: {{url: '${{HOOK}}/ticket'}}}}\n\
             \x20 - {{id: hook, do: call_webhook, with: {{url: '${{HOOK}}/hook'}}}}\n\
             \x20 - {{id: log, do: send_syslog, with: {{server: '{}'}}}}\n\
             \x20 - {{id: mail, do: send_mail, with: {{to: [a@example.org, b@example.org]}}}}\n",
            log.local_addr().expect("as the test needs it")
        ),
    );
    let mut options = place.responder_options("responder");
    options.environment.push(("HOOK".to_owned(), url));
    options.arguments.extend([format!("-smtp={relay}"), "-mail-from=rampart@example.org".to_owned()]);
    let responder = ResponderProcess::start(options);
    let alert = place.alert(1, 4_242);

    let next = |wanted: &str| {
        let (path, body) =
            bodies.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("{wanted}:\n{}", responder.output()));
        assert_eq!(path, wanted);
        body
    };
    assert_eq!(next("/slack"), json!({"text": "&lt;b&gt; Reverse shell on web-1"}));
    let text = "Reverse shell (high) on web-1: shell 1";
    let dingtalk = next("/dingtalk");
    assert_eq!(dingtalk["msgtype"], "markdown");
    assert!(
        dingtalk["markdown"]["text"].as_str().expect("as the test needs it").contains(text),
        "{dingtalk}"
    );
    assert_eq!(next("/feishu"), json!({"msg_type": "text", "content": {"text": text}}));
    assert_eq!(next("/wecom"), json!({"msgtype": "markdown", "markdown": {"content": text}}));
    let ticket = next("/ticket");
    assert_eq!((&ticket["priority"], &ticket["alert_id"]), (&json!("high"), &json!(alert.to_string())));
    assert_eq!(next("/hook")["alert"]["id"], alert.to_string());
    let mut line = [0; 2_048];
    let size = log.recv(&mut line).expect("as the test needs it");
    let line = String::from_utf8_lossy(&line[..size]).into_owned();
    assert!(line.starts_with("<35>1 - - edr-responder ") && line.ends_with(text), "{line}");
    let mail = mails.recv_timeout(LIMIT).expect("as the test needs it");
    for part in [
        "MAIL FROM:<rampart@example.org>",
        "RCPT TO:<a@example.org>",
        "RCPT TO:<b@example.org>",
        "Subject: [high] Reverse shell",
        text,
    ] {
        assert!(mail.contains(part), "{part} is not in:\n{mail}");
    }

    // And the alert tells what was done.
    let api = place.server.api("viewer");
    wait_for("a note", LIMIT, || {
        let alert = api.get(&format!("/alerts/{alert}")).expect("as the test needs it");
        let notes = alert["notes"].as_array().expect("as the test needs it").clone();
        notes
            .iter()
            .any(|note| {
                note["text"]
                    .as_str()
                    .expect("as the test needs it")
                    .contains("playbook tell (auto): completed")
            })
            .then_some(())
    });
}

#[test]
fn shadow_does_nothing_and_says_what_it_would_do() {
    let Some(place) = Place::new() else { return };
    let mark = place.folder.path().join("mark");
    place.write_script("mark.sh", &format!("touch {}", mark.display()));
    place.write_playbook("shadow", "id: shadow\nname: S\ntrigger: {severity: low}\nsteps:\n  - {id: kill, do: kill_tree}\n  - {id: mark, do: run_script, with: {name: mark.sh}}\n");
    let _responder = place.start_responder("responder");
    place.alert(1, 4_242);
    let journal = wait_for("the run ends", LIMIT, || {
        place.journals("responder").into_iter().find(|run| run.contains("run_finished"))
    });
    assert!(
        journal.contains("would kill_tree on host") && journal.contains("would run mark.sh"),
        "{journal}"
    );
    assert!(!journal.contains("step_started") && !mark.exists());
}

#[test]
fn a_person_decides_and_a_script_does_not() {
    let Some(place) = Place::new() else { return };
    let mark = place.folder.path().join("mark");
    place.write_script("mark.sh", &format!("touch {}", mark.display()));
    place.write_playbook("ask", "id: ask\nname: A\nmode: auto\ntrigger: {severity: low}\nsteps:\n  - {id: ok, do: wait_for_approval}\n  - {id: mark, do: run_script, with: {name: mark.sh}}\n");
    let responder = place.start_responder("responder");
    let alert = place.alert(1, 4_242);
    let api = place.server.api("responder");
    let asked = || {
        let alert = api.get(&format!("/alerts/{alert}")).expect("as the test needs it");
        let notes = alert["notes"].as_array().expect("as the test needs it").clone();
        notes
            .iter()
            .any(|note| note["text"].as_str().expect("as the test needs it").contains("approve ask/ok"))
            .then_some(())
    };
    wait_for("the question", LIMIT, asked);
    // A token is no person; and the wait outlives the responder.
    let yes = json!({"note": "approve ask/ok"});
    let scripts = place.server.api("approver");
    scripts.patch(&format!("/alerts/{alert}"), &yes).expect("as the test needs it");
    api.patch(&format!("/alerts/{alert}"), &yes).expect_err("a responder does not approve");
    let options: ResponderOptions = responder.kill();
    let _responder = ResponderProcess::start(options);
    place.note_as("ada", alert, "approve ask/nothing");
    place.note_as("ada", alert, "looks bad\napprove ask/ok");
    let journal = wait_for("the run ends", LIMIT, || {
        place.journals("responder").into_iter().find(|run| run.contains("run_finished"))
    });
    assert!(journal.contains("approved by ada\"") && mark.exists(), "{journal}");
}

/// Whoever can write to the broker can put any alert on the bus. Only the server's alerts are acted on, and
/// as the server has them.
#[test]
fn an_alert_that_the_server_does_not_have_is_not_acted_on() {
    let Some(place) = Place::new() else { return };
    let mark = place.folder.path().join("mark");
    place.write_script("mark.sh", &format!("cat >> {}", mark.display()));
    place.write_playbook("act", "id: act\nname: A\nmode: auto\ntrigger: {severity: low}\nsteps:\n  - {id: mark, do: run_script, with: {name: mark.sh}}\n");
    let bus = alert_bus::connect(&place.broker.url(), alert_bus::Options::default()).expect("a bus");
    let forged = |id: &str| {
        let alert = json!({
            "id": id, "time": crate::place::now().to_string(), "host_id": "victim", "host_name": "victim",
            "rule": {"id": "1", "name": "forged", "severity": "critical"},
        });
        bus.publish(&[alert_bus::Message { id: id.to_owned(), payload: alert.to_string() }]).expect("taken");
    };
    forged("11111111-1111-1111-1111-111111111111");
    forged("not-an-id/../..");
    let _responder = place.start_responder("responder");
    let alert = place.alert(1, 4_242);
    wait_for("the run of the real one ends", LIMIT, || {
        place.journals("responder").into_iter().find(|run| run.contains("run_finished"))
    });
    let acted = std::fs::read_to_string(&mark).expect("as the test needs it");
    assert!(acted.contains(&alert.to_string()) && !acted.contains("victim"), "{acted}");
    assert_eq!(place.journals("responder").len(), 1, "nothing was begun for the others");
}

/// `edr playbook backtest` plays playbooks over the alerts that the server has, and nothing is done.
#[test]
fn playbooks_are_played_over_the_alerts_that_there_were() {
    let Some(place) = Place::new() else { return };
    for number in 1..=3 {
        place.alert(number, 4_000);
    }
    place.write_playbook("block", "id: block\nname: Block\nmode: auto\ntrigger: {attack: [T1059]}\nsteps:\n  - {id: kill, do: kill_tree}\n  - {id: block, do: block_address, on_failure: continue}\n");
    place.write_playbook("never", "id: never\nname: Never\nmode: auto\ntrigger: {rules: [other]}\nsteps:\n  - {id: kill, do: kill_tree}\n");
    let token = place.folder.path().join("token");
    std::fs::write(&token, place.server.api_token("backtest", "viewer")).expect("our own folder");
    let run = |more: &[&str]| {
        let mut command = std::process::Command::new(test_support::binary("edr"));
        command.args(["playbook", "backtest", "--server"]).arg(place.server.url());
        command.arg("--ca").arg(place.server.ca_file()).arg("--token-file").arg(&token).args(more);
        let output = command.arg(place.path("playbooks")).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = run(&[]);
    assert!(text.contains("3 alerts since") && text.contains("3 runs on 1 hosts (web-1 3)"), "{text}");
    assert!(text.contains("(never, mode auto): 0 runs"), "{text}");
    let told: Value = serde_json::from_str(&run(&["--json", "--days", "1"])).expect("JSON");
    let steps = &told["playbooks"][0]["steps"];
    assert_eq!(
        (&steps[0]["step"], &steps[0]["outcome"], &steps[0]["count"]),
        (&json!("kill"), &json!("succeeded"), &json!(3))
    );
    assert_eq!(
        (&steps[1]["step"], &steps[1]["outcome"]),
        (&json!("block"), &json!("failed")),
        "no address in them"
    );
    let orders = place.server.api("administrator").get("/responses").expect("a list");
    assert_eq!(orders["items"], json!([]), "nothing was ordered");
}

#[test]
fn what_goes_wrong_is_said_and_bounded() {
    let Some(place) = Place::new() else { return };
    place.write_script("slow.sh", "sleep 1000");
    place.write_script("loud.sh", "head -c 1000000 /dev/zero | tr '\\0' x; exit 3");
    std::os::unix::fs::symlink("/bin/true", place.path("scripts").join("link.sh"))
        .expect("as the test needs it");
    place.write_playbook("bad", "id: bad\nname: B\nmode: auto\ntrigger: {severity: low}\nsteps:\n  - {id: slow, do: run_script, timeout: 500ms, with: {name: slow.sh}, on_failure: continue}\n  - {id: loud, do: run_script, with: {name: loud.sh}, on_failure: continue}\n  - {id: link, do: run_script, with: {name: link.sh}, on_failure: continue}\n  - {id: none, do: run_script, with: {name: none.sh}, on_failure: continue}\n  - {id: secret, do: call_webhook, with: {url: 'https://h/${NOT_SET}'}, on_failure: continue}\n  - {id: mail, do: send_mail, with: {to: a@b.c}, on_failure: continue}\n");
    std::fs::write(place.path("playbooks").join("broken.yml"), "id: broken\n").expect("as the test needs it");
    let responder = place.start_responder("responder");
    assert!(responder.output().contains("broken.yml"), "a bad playbook is told, the others load");
    place.alert(1, 4_242);
    let journal = wait_for("the run ends", LIMIT, || {
        place.journals("responder").into_iter().find(|run| run.contains("run_finished"))
    });
    for part in [
        "within 500ms",
        "exit status: 3",
        "link.sh is outside the folder",
        "none.sh: No such file",
        "`NOT_SET` is not set",
        "-smtp HOST:PORT",
    ] {
        assert!(journal.contains(part), "{part} is not in {journal}");
    }
    assert!(journal.len() < 30_000, "{}", journal.len());
}

/// A host that comes back must not act for a run that has long given up.
#[test]
fn what_a_host_that_is_away_was_to_do_is_taken_back_with_its_step() {
    let Some(place) = Place::new() else { return };
    place.enroll_host();
    for reaction in ["stop", "undo"] {
        place.write_playbook(reaction, &format!("id: {reaction}\nname: Away\nmode: auto\ntrigger: {{severity: low}}\nsteps:\n  - {{id: isolate, do: isolate_host, timeout: 1s, on_failure: {reaction}}}\n"));
    }
    let responder = place.start_responder("responder");
    place.alert(1, 4_242);
    let journals = wait_for("both runs end", LIMIT, || {
        let ended: Vec<String> = place.journals("responder");
        let ended: Vec<String> = ended.into_iter().filter(|run| run.contains("run_finished")).collect();
        (ended.len() == 2).then_some(ended)
    });
    for journal in &journals {
        assert!(journal.contains("\"outcome\":\"timed_out\""), "{journal}");
        assert!(!journal.contains("\"succeeded\":false") && !journal.contains("not undone"), "{journal}");
    }
    assert!(journals.iter().any(|run| run.contains("\"succeeded\":true")), "one was undone: {journals:?}");
    let orders = place.server.api("administrator").get("/responses").expect("a list");
    let states: Vec<&Value> =
        orders["items"].as_array().expect("items").iter().map(|order| &order["state"]).collect();
    assert_eq!(states, ["cancelled", "cancelled"], "{orders}");
    responder.stop();
}

/// A miner that is started again and again is ended again, as the process that it is then.
#[test]
fn what_comes_back_is_acted_on_as_it_came_back_within_the_limit() {
    let Some(place) = Place::new() else { return };
    let file = place.folder.path().join("written");
    place.write_script("write.sh", &format!("read -r line\nprintf '%s\\n' \"$line\" >> {}", file.display()));
    let step = "  - {id: write, do: run_script, with: {name: write.sh}}\n";
    place.write_playbook(
        "always",
        &format!("id: always\nname: A\nmode: auto\ntrigger: {{severity: low}}\nsteps:\n{step}"),
    );
    place.write_playbook("twice", "id: twice\nname: T\ntrigger: {severity: low}\nlimit: {of_alert: 2, within: 7d}\nsteps:\n  - {id: kill, do: kill_tree}\n");
    let responder = place.start_responder("responder");
    let written = |count: usize| {
        wait_for("each telling is acted on", LIMIT, || {
            let text = std::fs::read_to_string(&file).ok()?;
            (text.lines().count() == count).then_some(text)
        })
    };
    let alert = crate::place::record_detection(&place.server.database(), 1, 1, 4_001);
    for number in 2..=5 {
        // The third and the fourth are not told of.
        written(if number < 3 { 1 } else { 2 });
        crate::place::record_detection(&place.server.database(), 1, number, 4_000 + number as u32);
    }
    let seen: Vec<(Value, Value, Value)> = written(3)
        .lines()
        .map(|line| serde_json::from_str(line).expect("an alert"))
        .map(|alert: Value| {
            (alert["generation"].clone(), alert["count"].clone(), alert["process"]["pid"].clone())
        })
        .collect();
    let wanted = [(0, 1, 4_001), (1, 2, 4_002), (2, 5, 4_005)];
    assert_eq!(seen, wanted.map(|(telling, count, pid)| (json!(telling), json!(count), json!(pid))));
    let api = place.server.api("administrator");
    wait_for("the limit is said", LIMIT, || {
        let notes = api.get(&format!("/alerts/{alert}")).ok()?["notes"].to_string();
        notes.contains("playbook twice: not run again").then_some(())
    });
    let of_twice = || {
        let runs = place.journals("responder").into_iter();
        runs.filter(|run| run.starts_with("{\"playbook\":\"twice\"") && run.contains("run_finished")).count()
    };
    wait_for("it ran twice", LIMIT, || (of_twice() == 2).then_some(()));
    let runs = wait_for("the server knows of all five", LIMIT, || {
        let runs = api.get(&format!("/playbook-runs?alert={alert}")).expect("a list");
        (runs["items"].as_array().expect("items").len() == 5).then_some(runs)
    });
    let mut tellings: Vec<u64> = runs["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|run| run["generation"].as_u64())
        .collect();
    tellings.sort_unstable();
    assert_eq!(tellings, [0, 0, 1, 1, 2]);
    responder.stop();
}
