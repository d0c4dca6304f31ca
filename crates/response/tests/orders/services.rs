//! Services, on a host with a `systemctl` that the test has written; and packages, on one without Debian's list of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use response::{Action, Guards, OrderState, ServiceTarget};

use crate::bench::{Owned, bench, command, open, open_guarded, wait_until};
use crate::files::file;
use crate::made_up::{HOST, behind, skipped};
use crate::processes::lives;

/// One unit, whose process is in `pid`: a oneshot service, which is `activating` for its whole life.
const SYSTEMCTL: &str = r#"#!/bin/sh
PATH=/usr/bin:/bin
cd "@DIR@" || exit 1
echo "$*" >> calls
for unit; do :; done
main=$(cat pid 2>/dev/null)
runs() {
    case "$(sed -n 's/^State:[[:space:]]*//p' "/proc/$main/status" 2>/dev/null)" in
        ""|Z*|X*) return 1 ;;
    esac
}
case $1 in
    show)
        if [ -n "$main" ] && runs; then state=activating; else state=inactive; main=0; fi
        printf 'Id=%s\nActiveState=%s\nMainPID=%s\nControlPID=0\nControlGroup=\n' "$unit" "$state" "$main" ;;
    is-active) exit 3 ;;
    stop) [ ! -e deaf ] && [ -n "$main" ] && kill -KILL "$main"; exit 0 ;;
    kill) kill -KILL "$main" ;;
    start)
        if [ -n "$main" ] && runs; then exit 0; fi
        if [ -e broken ]; then echo "Job for $unit failed." >&2; exit 1; fi
        sleep 624 </dev/null >/dev/null 2>&1 &
        echo $! > pid ;;
esac
"#;

const UNIT: &str = "rampart-evil.service";
const UNIT_FILE: &str = "/etc/systemd/system/rampart-evil.service";

/// The host's own folder, and what the made up `systemctl` knows.
struct Host(PathBuf);

impl Host {
    fn of_this_test() -> Option<Self> {
        let host = Self(PathBuf::from(std::env::var_os(HOST)?));
        fs::write(UNIT_FILE, "[Service]\nType=oneshot\nExecStart=/bin/sleep 624\n").unwrap();
        host.systemctl(&["start", UNIT]);
        Some(host)
    }

    fn systemctl(&self, arguments: &[&str]) {
        assert!(Command::new("/usr/bin/systemctl").args(arguments).status().unwrap().success());
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn main(&self) -> u32 {
        fs::read_to_string(self.at("pid")).unwrap().trim().parse().unwrap()
    }

    fn was_told(&self, what: &str) -> bool {
        fs::read_to_string(self.at("calls")).unwrap().lines().any(|call| call.starts_with(what))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("/usr/bin/systemctl").args(["kill", UNIT]).status();
    }
}

fn delete() -> Action {
    Action::DeleteService(ServiceTarget { unit: UNIT.to_owned() })
}

/// Runs a test on a host of systemd, which is not this one.
fn on_a_host_of_systemd(test: &str) {
    for needed in ["/usr/bin/systemctl", "/etc/systemd/system"] {
        if !Path::new(needed).exists() {
            return skipped(&format!("there is no {needed}"));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let program = root.join("systemctl");
    fs::write(&program, SYSTEMCTL.replace("@DIR@", root.to_str().unwrap())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let prepare = "mount -t tmpfs none /run; mkdir -p /run/systemd/system; \
                   mount -t tmpfs none /etc/systemd/system; \
                   mount --bind \"$RAMPART_TEST_HOST/systemctl\" /usr/bin/systemctl";
    let said = behind(prepare, &root, test);
    assert!(said.contains("all as it should be"), "{said}");
}

#[test]
fn a_service_is_stopped_whatever_it_is_doing_and_a_start_that_failed_can_be_tried_again() {
    on_a_host_of_systemd("services::within_a_host_with_a_oneshot");
}

/// Not a test by itself: the one above runs it.
#[test]
fn within_a_host_with_a_oneshot() {
    let Some(host) = Host::of_this_test() else { return };
    let mut bench = bench();
    let main = host.main();
    assert!(lives(main));
    // It does not heed the stop either.
    fs::write(host.at("deaf"), "").unwrap();
    let receipt = bench.run(delete());
    assert!(!lives(main), "it runs on: {}", receipt.reason);
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    assert!(host.was_told("stop") && host.was_told("kill") && !Path::new(UNIT_FILE).exists());

    let undo = receipt.undo.unwrap();
    fs::write(host.at("broken"), "").unwrap();
    let failed = bench.run(undo.clone());
    assert_eq!(failed.state, OrderState::Failed, "{}", failed.reason);
    assert!(failed.reason.contains("Job for rampart-evil.service failed"), "{}", failed.reason);
    fs::remove_file(host.at("broken")).unwrap();
    let again = bench.run(undo.clone());
    assert_eq!(again.state, OrderState::Verified, "{}", again.reason);
    assert!(lives(host.main()) && Path::new(UNIT_FILE).exists());
    let closed = bench.run(undo);
    assert!(closed.reason.contains("restored before"), "{}", closed.reason);
    println!("all as it should be");
}

#[test]
fn a_service_that_runs_a_protected_process_is_not_stopped() {
    on_a_host_of_systemd("services::within_a_host_with_a_protected_service");
}

/// Not a test by itself: the one above runs it.
#[test]
fn within_a_host_with_a_protected_service() {
    let Some(host) = Host::of_this_test() else { return };
    let program = host.at("service");
    assert!(Command::new("cp").arg("/bin/bash").arg(&program).status().unwrap().success());
    let mut guards = Guards::of_this_host();
    guards.protect([program.clone()]);
    let (mut responder, _) = open_guarded(&host.0, guards);
    host.systemctl(&["kill", UNIT]);
    let mut service = Command::new(&program);
    service.args(["-c", "echo ready; read -r line"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let service = Owned(service.spawn().unwrap());
    let runs = || fs::read_link(format!("/proc/{}/exe", service.0.id())).is_ok_and(|exe| exe == program);
    wait_until("the service", runs);
    fs::write(host.at("pid"), service.0.id().to_string()).unwrap();

    let receipt = responder.run(command(delete()));
    assert_eq!(receipt.state, OrderState::Refused, "{}", receipt.reason);
    assert!(receipt.reason.contains("is protected"), "{}", receipt.reason);
    assert!(lives(service.0.id()) && Path::new(UNIT_FILE).exists() && !host.was_told("stop"));
    println!("all as it should be");
}

#[test]
fn a_service_whose_removal_was_interrupted_is_gone_or_goes_on() {
    on_a_host_of_systemd("services::within_a_host_whose_agent_ends");
}

/// Not a test by itself: the one above runs it.
#[test]
fn within_a_host_whose_agent_ends() {
    let Some(host) = Host::of_this_test() else { return };
    let crash = |at: &'static str| {
        let checkpoint: response::Checkpoint =
            Box::new(move |step: &str| if step == at { panic!("as if the agent ended") } else { Ok(()) });
        let (mut ending, _) = open(&host.0, Some(checkpoint));
        let order = command(delete());
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ending.run(order)));
        assert!(ran.is_err(), "it ended at `{at}`");
    };
    for at in ["stopped it", "copied it, sealed, into the vault", "took its name away"] {
        crash(at);
        let (_, found) = open(&host.0, None);
        assert_eq!(found.receipts[0].state, OrderState::Failed, "{at}: {}", found.receipts[0].reason);
        assert!(Path::new(UNIT_FILE).exists() && lives(host.main()), "{at}: it goes on as it was");
    }
    for at in ["removed it", "reloaded systemd", "verify"] {
        crash(at);
        fs::write(host.at("calls"), "").unwrap();
        let (mut next, found) = open(&host.0, None);
        assert_eq!(found.receipts[0].state, OrderState::Verified, "{at}: {}", found.receipts[0].reason);
        assert!(!Path::new(UNIT_FILE).exists() && !lives(host.main()), "{at}");
        assert!(host.was_told("daemon-reload"), "{at}: the rest was done");
        let restored = next.run(command(found.receipts[0].undo.clone().unwrap()));
        assert_eq!(restored.state, OrderState::Verified, "{at}: {}", restored.reason);
    }
    println!("all as it should be");
}

/// Another system than Debian: what root has in the folders of packages may be a package's.
#[test]
fn without_a_list_of_packages_no_file_of_root_is_taken_from_their_folders() {
    if !Path::new("/usr/src").is_dir() {
        return skipped("there is no /usr/src");
    }
    let dir = tempfile::tempdir().unwrap();
    let prepare = "mount -t tmpfs none /usr/src; \
                   if [ -d /var/lib/dpkg ]; then mount -t tmpfs none /var/lib/dpkg; fi";
    let said = behind(prepare, dir.path(), "services::within_a_host_without_a_list_of_packages");
    assert!(said.contains("all as it should be"), "{said}");
}

/// Not a test by itself: the one above runs it.
#[test]
fn within_a_host_without_a_list_of_packages() {
    if std::env::var_os(HOST).is_none() {
        return;
    }
    let mut bench = bench();
    let path = Path::new("/usr/src/file");
    fs::write(path, "x").unwrap();
    let receipt = bench.run(Action::QuarantineFile(file(path)));
    assert_eq!(receipt.state, OrderState::Refused, "{}", receipt.reason);
    assert!(receipt.reason.contains("folder of packages") && path.exists(), "{}", receipt.reason);
    // What somebody else has there is no package's.
    std::os::unix::fs::chown(path, Some(1234), None).unwrap();
    let receipt = bench.run(Action::QuarantineFile(file(path)));
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    println!("all as it should be");
}
