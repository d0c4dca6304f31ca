//! Reused PIDs, forced: in a PID namespace of its own, where the next PID can be chosen.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use event_model::{DetectionId, ProcessEntityId, ReceiptState, ResponseMode, RuleId};
use response::{Action, Guards, OrderState, Plan, ProcessTarget, Target, Terminator};
use sensor_api::ProcessClock;
use uuid::Uuid;

use crate::bench::{Owned, boot, command, now, open_with, rounds};

const CHILD: &str = "RAMPART_TEST_PID_REUSE";

/// The sensor's clock as the sensor has it, exact to the nanosecond: the test notes each start.
/// `in_between` is what happens while the identity is being checked.
#[derive(Default)]
struct Lives {
    starts: Mutex<HashMap<u32, u64>>,
    in_between: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Whether that happens after the start was read.
    after: bool,
}

impl ProcessClock for Lives {
    fn start_ns(&self, pid: u32) -> Option<u64> {
        let swap = || self.in_between.lock().unwrap().take().into_iter().for_each(|swap| swap());
        if !self.after {
            swap();
        }
        let start = self.starts.lock().unwrap().get(&pid).copied();
        if self.after {
            swap();
        }
        start
    }

    fn precision_ns(&self) -> u64 {
        1
    }
}

#[test]
fn a_reused_pid_is_never_hit() {
    let own = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(own)
        .args(["--exact", "pid_reuse::within", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let line = said.lines().find(|line| line.contains("reuses")).unwrap();
    println!("{line}");
}

fn sleeper() -> Owned {
    Owned(Command::new("/bin/sleep").arg("600").spawn().unwrap())
}

/// A process that gets this PID.
fn sleeper_with(pid: u32) -> Option<Owned> {
    for _ in 0..50 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let child = sleeper();
        if child.0.id() == pid {
            return Some(child);
        }
    }
    None
}

/// Not a test by itself: the one above runs it in the namespace.
#[test]
fn within() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let wanted = rounds(60, 1_000);
    let (mut reuses, mut number) = (0, 0);
    while reuses < wanted {
        number += 1;
        assert!(number < 10 * wanted, "the PID can't be forced");
        // Before the act, while the identity is checked, and right after that.
        let moment = number % 3;
        let lives = Arc::new(Lives { after: moment == 2, ..Lives::default() });
        let first = sleeper();
        let pid = first.0.id();
        lives.starts.lock().unwrap().insert(pid, 1_000);
        let entity_id = ProcessEntityId::new(boot(), pid, 1_000);
        let second: Arc<Mutex<Option<Owned>>> = Arc::default();
        let swap = {
            let (second, starts) = (Arc::clone(&second), Arc::clone(&lives));
            move || {
                drop(first);
                let next = sleeper_with(pid);
                starts.starts.lock().unwrap().insert(pid, 2_000);
                *second.lock().unwrap() = next;
            }
        };
        if moment == 0 {
            swap();
        } else {
            *lives.in_between.lock().unwrap() = Some(Box::new(swap));
        }
        let by_order = number % 2 == 0;
        let done = if by_order { order(&lives, entity_id) } else { act(&lives, entity_id) };
        let Some(mut innocent) = second.lock().unwrap().take() else { continue };
        assert!(!done, "a success is told though the target was gone");
        assert_eq!(innocent.0.try_wait().unwrap(), None, "the innocent process was ended");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        assert!(!stat.contains(") T"), "the innocent process was stopped");
        reuses += 1;
    }
    println!("{reuses} forced reuses, 0 wrong kills");
}

fn act(lives: &Arc<Lives>, entity_id: ProcessEntityId) -> bool {
    let (sender, receipts) = mpsc::channel();
    let processes: Arc<dyn ProcessClock> = Arc::clone(lives) as _;
    let terminator = Terminator::new(processes, Arc::new(now), sender).unwrap();
    let target = Target { entity_id, executable: String::new(), image: None, kernel_thread: false };
    let plan = Plan {
        detection_id: DetectionId::from_uuid(Uuid::new_v4()),
        rule_id: RuleId::new("1"),
        target,
        grace: Duration::ZERO,
    };
    let authorised = Guards::of_this_host().authorise(plan, ResponseMode::Auto).unwrap();
    terminator.act(authorised);
    let receipt = receipts.recv_timeout(Duration::from_secs(20)).unwrap();
    // It may be told that the process, which another ended, is gone; not that it was ended here.
    receipt.state == ReceiptState::Verified && receipt.steps.iter().any(|step| step.what.starts_with("sent"))
}

fn order(lives: &Arc<Lives>, entity_id: ProcessEntityId) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (mut responder, _) = open_with(dir.path(), None, Arc::clone(lives) as _);
    let target = ProcessTarget { entity_id, executable: None, image: None };
    let receipt = responder.run(command(Action::KillTree(target)));
    receipt.state == OrderState::Verified
}
