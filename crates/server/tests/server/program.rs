//! The program itself: what it prints, and how it ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper::body::{Bytes, Frame};
use protocol::link::AgentMessage;
use protocol::link::agent_message::Message as FromAgent;
use protocol::link::server_message::Message as ToAgent;
use rustix::process::{Pid, Signal};
use rustls_pki_types::pem::PemObject as _;
use tokio::task::JoinHandle;

use crate::agent::Agent;
use crate::api::Api;
use crate::hostile::{endless_call, stranger_http2};
use crate::running::Place;

struct Program {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_edr-server"))
            .args(arguments)
            .env_remove("EDR_CONFIG")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// In KiB.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    /// Sends SIGTERM and waits; gives what was printed besides and how long it took.
    fn terminate(mut self) -> (String, Duration, bool) {
        let start = Instant::now();
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        (rest, start.elapsed(), status.success())
    }
}

impl Program {
    /// Starts on this address and waits until it listens; gives where, and the lines of a first start.
    fn start_on(address: &str, db: &str) -> (Self, SocketAddr) {
        let mut program = Self::start(&[&format!("-addr={address}"), &format!("-db={db}")]);
        let line = program.line();
        let address = line.trim().strip_prefix("listening on https://").expect(&line).parse().unwrap();
        (program, address)
    }
}

/// Batches sent again and again until they are acknowledged, the server killed
/// meanwhile at moments that fall into every step of its work.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_doubled_over_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("rampart.db").display().to_string();
    let (mut program, address) = Program::start_on("127.0.0.1:0", &db);
    let (mut password, mut token) = (String::new(), String::new());
    while token.is_empty() {
        let line = program.line();
        let words = |marker: &str| {
            line.split(marker).nth(1).map(|rest| rest.split_whitespace().next().unwrap().to_owned())
        };
        password = words("password:").unwrap_or(password);
        token = words("-token=").unwrap_or(token);
    }
    let ca = std::fs::read(folder.path().join("ca.pem")).unwrap();
    let ca = rustls_pki_types::CertificateDer::from_pem_slice(&ca).unwrap().to_vec();
    let place = Place { address, ca };
    let mut agent = Agent::with_token(&place, &token).await;

    const BATCHES: u64 = 400;
    const SIZE: u64 = 50;
    let batches: Vec<Vec<u8>> =
        (0..BATCHES).map(|batch| agent.sealed(batch * SIZE + 1..=(batch + 1) * SIZE, "sleep")).collect();
    let mut acknowledged = 0;
    let mut kills = 0;
    while acknowledged < BATCHES * SIZE {
        let Ok(mut stream) = agent.connect(&place, 1).await else { continue };
        let first = usize::try_from(acknowledged / SIZE).unwrap();
        let rest = batches[first..].to_vec();
        let to_server = stream.to_server.clone();
        let sending = tokio::spawn(async move {
            for batch in rest {
                let message = AgentMessage { message: Some(FromAgent::Batch(batch)) };
                if to_server.send(message).await.is_err() {
                    return;
                }
            }
        });
        // Somewhere in the next forty batches, a different place each time.
        let stop_at = if kills < 10 { acknowledged + SIZE * (1 + kills * 7 % 40) } else { u64::MAX };
        while let Ok(Some(message)) = stream.next().await {
            if let ToAgent::Stored(stored) = message {
                acknowledged = acknowledged.max(stored.last_sequence);
            }
            if acknowledged >= stop_at.min(BATCHES * SIZE) {
                break;
            }
        }
        sending.abort();
        if acknowledged < BATCHES * SIZE {
            program.child.kill().unwrap();
            program.child.wait().unwrap();
            kills += 1;
            program = Program::start_on(&address.to_string(), &db).0;
        }
    }
    assert!(kills >= 5, "{kills}");
    let mut admin = Api::new(address, &place.ca);
    assert_eq!(admin.sign_in("admin", &password).await.status, 200);
    let change = serde_json::json!({ "current_password": password, "new_password": "correct horse battery" });
    assert_eq!(admin.put("/session/password", change).await.status, 204);
    let ledger = admin.get(&format!("/hosts/{}", agent.host)).await.json["ledger"].clone();
    let all = BATCHES * SIZE;
    assert_eq!(
        ledger,
        serde_json::json!({ "produced": all, "stored": all, "dropped": 0, "unexplained": 0, "kernel_lost": 0 })
    );
    let histogram = admin.get("/events/histogram?type=process_start").await.json;
    let counted: u64 =
        histogram.as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, all);
    println!("{kills} kills, {all} events, none lost, none doubled");
}

/// 64 calls without a certificate, each with 16 MiB that are sent and then more promised.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_bytes_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("rampart.db").display().to_string();
    let (program, address) = Program::start_on("127.0.0.1:0", &db);
    let ca = std::fs::read(folder.path().join("ca.pem")).unwrap();
    let ca = rustls_pki_types::CertificateDer::from_pem_slice(&ca).unwrap().to_vec();
    let place = Place { address, ca };
    let before = program.resident();
    let piece = Bytes::from(vec![7; 1 << 20]);
    let mut calls = Vec::new();
    for number in 0..64 {
        let mut connection = stranger_http2(&place).await.unwrap();
        // Some claim too much, the others what is just allowed, and never end.
        let claimed: u32 = if number % 2 == 0 { 16 << 20 } else { 64 << 10 };
        let (request, more) = endless_call("Enroll", [&[0][..], &claimed.to_be_bytes()].concat());
        let sent = if number % 2 == 0 { piece.clone() } else { piece.slice(..60 << 10) };
        for _ in 0..if number % 2 == 0 { 16 } else { 1 } {
            more.send(Ok(Frame::data(sent.clone()))).unwrap();
        }
        let answer = tokio::spawn(async move {
            let answer = connection.send_request(request).await;
            drop(more);
            answer.is_ok()
        });
        calls.push(answer);
    }
    let mut most = 0;
    while !calls.iter().all(JoinHandle::is_finished) {
        most = most.max(program.resident());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("resident: {before} KiB before, {most} KiB at most");
    assert!(most < before + 64 * 1024, "{before} KiB before, {most} KiB at most");
}

#[test]
fn the_first_start_tells_its_secrets_once_and_sigterm_ends_it_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let db = format!("-db={}", folder.path().join("rampart.db").display());
    let mut first = Program::start(&["-addr=127.0.0.1:0", &db]);
    let line = first.line();
    let port = line.trim().strip_prefix("listening on https://127.0.0.1:").expect(&line);
    assert_ne!(port.parse::<u16>().unwrap(), 0);
    let (printed, took, success) = first.terminate();
    assert!(success && took < Duration::from_secs(5), "{took:?}");
    for part in ["password:", "edr-agent -server=https://127.0.0.1:", "-token=rampart-"] {
        assert!(printed.contains(part), "{printed}");
    }
    let mut second = Program::start(&["--addr", "127.0.0.1:0", &db]);
    assert!(second.line().starts_with("listening on https://127.0.0.1:"));
    let (printed, _, success) = second.terminate();
    assert!(success);
    assert!(!printed.contains("-token=") && printed.contains("password"), "{printed}");
}

#[test]
fn a_wrong_flag_or_config_ends_it_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("server.json");
    std::fs::write(&config, r#"{"adr": ":8443"}"#).unwrap();
    let cases: [(&[&str], &str); 3] = [
        (&["-adr=:1"], "did you mean `-addr`?"),
        (&["-config", config.to_str().unwrap()], "did you mean `addr`?"),
        (&["-addr=nonsense"], "-addr: `nonsense` is not an address"),
    ];
    for (arguments, expected) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_edr-server")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains("panicked"), "{message}");
    }
}
