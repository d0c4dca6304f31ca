//! Redis over TLS: only a server that this host trusts is spoken with.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alert_bus::{Message, Options, connect};
use test_support::{BrokerKind, skip, wait_for};

const URL: &str = "RAMPART_TEST_TLS_URL";
const LIMIT: Duration = Duration::from_secs(60);

/// Not a test by itself: the one below starts it, with the certificates that it is to trust.
#[test]
fn speaks_over_tls() {
    let Ok(url) = std::env::var(URL) else { return };
    let bus = connect(&url, Options::default()).expect("a good URL");
    let message = Message { id: "id-1".to_owned(), payload: "{}".to_owned() };
    bus.publish(std::slice::from_ref(&message)).expect("published");
    let mut subscription = bus.subscribe("group", "member").expect("subscribed");
    let got = wait_for("the message", LIMIT, || {
        let got = subscription.receive(10, Duration::from_millis(200)).expect("the bus gives");
        got.into_iter().next()
    });
    assert_eq!(got.message, message);
    subscription.acknowledge(&got).expect("acknowledged");
    assert_eq!(bus.claim("key", "me").expect("claimed"), "me");
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A certificate of this machine's own and its key, as PEM files.
fn certificate(folder: &Path, name: &str) -> [std::path::PathBuf; 2] {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let files = ["crt", "key"].map(|end| folder.join(format!("{name}.{end}")));
    std::fs::write(&files[0], made.cert.pem()).expect("our own folder");
    std::fs::write(&files[1], made.signing_key.serialize_pem()).expect("our own folder");
    files
}

#[test]
fn redis_is_spoken_with_over_tls_if_the_host_trusts_it() {
    if !BrokerKind::Redis.is_installed() {
        return skip("redis-server is not installed (scripts/install-dependencies.sh test)");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let [trusted, key] = certificate(folder.path(), "server");
    let [other, _] = certificate(folder.path(), "other");
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let mut command = Command::new("redis-server");
    command.args([
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--save",
        "",
        "--tls-auth-clients",
        "no",
        "--tls-port",
    ]);
    command.arg(port.to_string()).arg("--tls-cert-file").arg(&trusted).arg("--tls-key-file").arg(&key);
    command.arg("--tls-ca-cert-file").arg(&trusted).arg("--dir").arg(folder.path());
    let mut server = Ended(command.stdout(Stdio::null()).spawn().expect("redis-server starts"));
    let listens = wait_for("Redis listens or ends", LIMIT, || match server.0.try_wait() {
        Ok(None) => TcpStream::connect(("127.0.0.1", port)).ok().map(|_| true),
        _ => Some(false),
    });
    if !listens {
        return skip("this redis-server was built without TLS");
    }
    let speak = |certificates: &Path| {
        let mut own = Command::new(std::env::current_exe().expect("a running test has a path"));
        own.args(["--exact", "speaks_over_tls", "--test-threads=1", "--nocapture"]);
        own.env(URL, format!("rediss://127.0.0.1:{port}")).env("SSL_CERT_FILE", certificates);
        let output = own.output().expect("it ran");
        (
            output.status.success(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    let (spoke, said) = speak(&trusted);
    assert!(spoke, "{said}");
    let (spoke, said) = speak(&other);
    assert!(!spoke && said.contains("certificate"), "{said}");
}
