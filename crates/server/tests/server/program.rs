//! The program itself: what it prints, and how it ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    /// Sends SIGTERM and waits; gives what was printed besides and how long it took.
    fn terminate(mut self) -> (String, Duration, bool) {
        let start = Instant::now();
        let sent = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        (rest, start.elapsed(), status.success())
    }
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
        assert!(!output.status.success());
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains("panicked"), "{message}");
    }
}
