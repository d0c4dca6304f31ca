//! `edr token`, `edr api-token` and `edr user`, on the state of a server.

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use event_model::Timestamp;
use state_store::{
    AccessStore, ActivityStore, HostStore, NewUser, PasswordHash, Role, SecretDigest, SqliteStateStore,
};
use tempfile::TempDir;

/// A certificate needs no more than its frame here: its bytes are what is pinned.
const CA: &str = "-----BEGIN CERTIFICATE-----\nYSBjZXJ0aWZpY2F0ZQ==\n-----END CERTIFICATE-----\n";

struct Server {
    folder: TempDir,
    store: SqliteStateStore,
}

impl Server {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let store = SqliteStateStore::open(&folder.path().join("rampart.db")).unwrap();
        fs::write(folder.path().join("ca.pem"), CA).unwrap();
        Self { folder, store }
    }

    fn edr(&self, line: &str) -> Output {
        edr(self.folder.path(), line)
    }
}

fn edr(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edr"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn line(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "only the secret goes to stdout: {text}");
    text.trim_end().to_owned()
}

fn complaint(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap())
}

#[test]
fn a_token_is_known_to_the_running_server() {
    let server = Server::start();
    let token = line(&server.edr("token create -db rampart.db --ttl=2h -uses 3"));
    assert!(token.starts_with("rampart-"), "{token}");
    // SHA-256 of the bytes `a certificate`.
    let pin = "81acd762140fa692a142822d2fbe4dc6f54bcaa501f68ab37e5aeed0bafe4d99";
    assert_eq!(token.split_once('.').unwrap().1, pin);
    assert!(server.store.check_token(&SecretDigest::of_enrollment_token(&token), now()).is_ok());
    let kept = &server.store.enrollment_tokens().unwrap()[0];
    assert_eq!((kept.uses, kept.created_by.as_str()), (3, "edr"));
    let seconds = (kept.expires_at.as_nanos() - kept.created_at.as_nanos()) / 1_000_000_000;
    assert_eq!(seconds, 7_200);
    assert_eq!(server.store.audit(None, 1).unwrap().items[0].what, "enrollment_token.create");
}

#[test]
fn an_api_token_has_the_role_that_was_asked_for() {
    let server = Server::start();
    let token = line(&server.edr("api-token create --name nightly --role detection_engineer"));
    let found = server.store.authenticate_api_token(&SecretDigest::of(&token), now()).unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.role), ("nightly", Role::DetectionEngineer));
    let message = complaint(&server.edr("api-token create --name nightly --role viewer"), 1);
    assert!(message.contains("API token `nightly` exists already"), "{message}");
}

#[test]
fn a_reset_password_is_good_for_one_sign_in() {
    let server = Server::start();
    let user = NewUser {
        username: "admin".to_owned(),
        password: PasswordHash::of("forgotten").unwrap(),
        role: Role::Administrator,
        must_change_password: false,
    };
    server.store.create_user(&user, now()).unwrap();
    let password = line(&server.edr("user reset-password Admin"));
    let (user, hash) = server.store.user_with_password("admin").unwrap().unwrap();
    assert!(user.must_change_password && hash.verify(&password) && !hash.verify("forgotten"));
    let message = complaint(&server.edr("user reset-password root"), 1);
    assert!(message.contains("there is no user `root`; hint: users are admin"), "{message}");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let server = Server::start();
    for (line, code, wanted) in [
        ("token create --ttl 25h", 2, "`--ttl` is `25h`; allowed is a span from 1s to 24h"),
        ("token create --ttl never", 2, "write a number and s, m, h or d"),
        ("token create --uses 0", 2, "allowed are 1 to 10000"),
        ("token create --tll 1h", 2, "did you mean `--ttl`?"),
        ("token create --uses 1 --uses 2", 2, "`--uses` stands twice"),
        ("token create now", 2, "unexpected argument `now`"),
        ("token create --db other.db", 1, "other.db: no such file; hint: name the file of the server's -db"),
        ("token create --ca none.pem", 1, "none.pem: can't be read; hint: name the server's CA certificate"),
        ("token create --ca rampart.db", 1, "rampart.db: holds no certificate in PEM"),
        ("token create --db ca.pem", 1, "damaged or not a Rampart database"),
        ("token crate", 2, "did you mean `token create`?"),
        ("api-token create --role viewer", 2, "`--name` is missing"),
        ("api-token create --name x --role viwer", 2, "did you mean `viewer`?"),
        ("user reset-password", 2, "write `edr user reset-password admin`"),
    ] {
        let message = complaint(&server.edr(line), code);
        assert!(message.contains(wanted), "`edr {line}`: {message}");
    }
    assert!(server.store.enrollment_tokens().unwrap().is_empty(), "nothing was made on the way");
    assert!(!server.folder.path().join("other.db").exists());
}
