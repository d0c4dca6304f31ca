//! What every process sensor must do, as checks that each sensor's tests run.
//!
//! The checks start processes of their own, know them by a mark among their
//! arguments, and look at nothing else, so other processes may come and go on the
//! machine. A check panics where the sensor breaks the contract.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Observation, Observed, ObservedImage, ProcessKey, Sensor, SensorPosition};

/// How long a check waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A shell that waits for a line on its standard input and then exits with 7. It can
/// be told apart from all others by its arguments.
pub struct MarkedProcess {
    /// The process.
    pub child: Child,
    args: Vec<String>,
}

impl MarkedProcess {
    /// Starts one; `more` are further arguments.
    pub fn start(mark: &str, more: &[String]) -> Self {
        let mark = unique(mark);
        let mut args = vec!["-c".to_owned(), "read line; exit 7".to_owned(), mark];
        args.extend_from_slice(more);
        let child = Command::new("/bin/sh")
            .args(&args)
            .current_dir("/usr")
            .stdin(Stdio::piped())
            .spawn()
            .expect("a contract test must be able to start /bin/sh");
        args.insert(0, "/bin/sh".to_owned());
        Self { child, args }
    }

    /// Its arguments.
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// Whether this is its image.
    pub fn is(&self, image: &ObservedImage) -> bool {
        image.pid == self.child.id() && image.args.get(..4) == self.args.get(..4)
    }

    /// Lets it exit, and waits for that.
    pub fn finish(&mut self) {
        if let Some(mut input) = self.child.stdin.take() {
            // A shell that is gone already has no need of the line.
            let _ = input.write_all(b"\n");
        }
        self.child.wait().expect("waiting for one's own child can't fail");
    }
}

impl Drop for MarkedProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A text that no other process has among its arguments.
pub fn unique(mark: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("contract-{mark}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Reads until `done` is true of all that was read.
pub fn read_until(
    sensor: &mut dyn Sensor,
    seen: &mut Vec<Observed>,
    what: &str,
    mut done: impl FnMut(&[Observed]) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    while !done(seen) {
        assert!(
            Instant::now() < deadline,
            "{}: no {what} within {PATIENCE:?} among {} observations; lost: {:?}",
            sensor.name(),
            seen.len(),
            seen.iter().filter(|observed| matches!(observed.what, Observation::Lost(_))).collect::<Vec<_>>(),
        );
        sensor
            .poll(Duration::from_millis(5), &mut |observed| seen.push(observed))
            .expect("a sensor must go on");
    }
}

fn executed<'a>(process: &MarkedProcess, seen: &'a [Observed]) -> Option<(usize, &'a ObservedImage)> {
    seen.iter().enumerate().find_map(|(index, observed)| match &observed.what {
        Observation::ProcessExecuted(image) if process.is(image) => Some((index, image.as_ref())),
        _ => None,
    })
}

fn exited(key: ProcessKey, seen: &[Observed]) -> Option<(usize, Option<u32>)> {
    seen.iter().enumerate().find_map(|(index, observed)| match observed.what {
        Observation::ProcessExited(exit) if exit.process == key => Some((index, exit.wait_status)),
        _ => None,
    })
}

/// Fork, exec and exit of a process come in this order, under one key, with its facts.
pub fn a_process_is_seen_from_fork_to_exit(sensor: &mut dyn Sensor) {
    let mut seen = Vec::new();
    let before_ns = seen_time(sensor);
    let mut process = MarkedProcess::start("life", &[]);
    let pid = process.child.id();
    read_until(sensor, &mut seen, "exec", |seen| executed(&process, seen).is_some());
    let clock = sensor.process_clock();
    let alive = clock.start_ns(pid).expect("the clock knows a live process");
    process.finish();
    let key = executed(&process, &seen).map(|(_, image)| image.key()).expect("it was just found");
    read_until(sensor, &mut seen, "exit", |seen| exited(key, seen).is_some());

    let forked = seen.iter().position(|observed| {
        matches!(observed.what, Observation::ProcessForked(fork) if fork.child == key && fork.parent.pid == std::process::id())
    });
    let forked = forked.expect("a fork with the same key comes before the exec");
    let (executed, image) = executed(&process, &seen).expect("it was just found");
    let (exited, wait_status) = exited(key, &seen).expect("it was just found");
    assert!(forked < executed && executed < exited, "fork {forked}, exec {executed}, exit {exited}");
    assert_eq!(wait_status, Some(7 << 8), "the wait status is that of wait(2)");

    assert_eq!(image.args, process.args());
    assert_eq!(image.args_bytes, process.args().iter().map(|arg| arg.len() as u64 + 1).sum::<u64>());
    assert!(!image.args_truncated);
    assert_eq!(image.working_directory.as_deref(), Some("/usr"));
    assert_eq!(image.parent_pid, std::process::id());
    assert!(image.executable.starts_with('/'), "{} is no absolute path", image.executable);
    assert!(!image.image_deleted && !image.kernel_thread);
    assert!(image.image.is_some_and(|file| file.size > 0 && file.inode > 0));

    assert!(
        key.start_ns.abs_diff(alive) < clock.precision_ns(),
        "the clock says {alive}, the sensor {key:?}"
    );
    assert_eq!(clock.start_ns(pid), None, "nobody has the PID any more");
    let times: Vec<u64> = [forked, executed, exited].iter().map(|index| seen[*index].at_ns).collect();
    assert!(times.is_sorted() && times[0] >= before_ns, "{times:?} after {before_ns}");
}

/// A time before anything that is started now.
fn seen_time(sensor: &mut dyn Sensor) -> u64 {
    let mut last = 0;
    sensor.poll(Duration::ZERO, &mut |observed| last = observed.at_ns).expect("a sensor must go on");
    last
}

/// Long arguments come whole or marked as cut, with their full length.
pub fn long_arguments_are_whole_or_marked(sensor: &mut dyn Sensor) {
    for length in [300, 5_000, 100_000] {
        let mut seen = Vec::new();
        let long = "x".repeat(length);
        let mut process = MarkedProcess::start("long", &[long.clone(), "last".to_owned()]);
        read_until(sensor, &mut seen, "exec", |seen| executed(&process, seen).is_some());
        process.finish();
        let (_, image) = executed(&process, &seen).expect("it was just found");
        assert_eq!(image.args_bytes, process.args().iter().map(|arg| arg.len() as u64 + 1).sum::<u64>());
        if image.args_truncated {
            assert!(length > 1_000, "{length} bytes are not worth a cut");
            let kept = image.args.get(4).expect("the long argument is begun");
            assert!(long.starts_with(kept.as_str()) && kept.len() > 1_000);
            assert!(image.args.len() <= 5 || kept.len() == length);
        } else {
            assert_eq!(image.args, process.args());
        }
    }
}

/// A process that was there first is listed with its facts.
pub fn what_was_there_is_listed(open: &mut dyn FnMut() -> Box<dyn Sensor>) {
    let process = MarkedProcess::start("there", &[]);
    // It may still be on its way to its image: what is listed then is what runs.
    wait_for_image(&process);
    let mut sensor = open();
    let mut seen = Vec::new();
    let of = |seen: &[Observed], pid: u32| {
        seen.iter().find_map(|observed| match &observed.what {
            Observation::ProcessExisting(image) if image.pid == pid => Some(image.as_ref().clone()),
            _ => None,
        })
    };
    let pid = process.child.id();
    read_until(sensor.as_mut(), &mut seen, "listed process", |seen| of(seen, pid).is_some());
    let image = of(&seen, pid).expect("it was just found");
    assert!(process.is(&image), "{image:?}");
    assert_eq!(image.working_directory.as_deref(), Some("/usr"));
    let parent = of(&seen, std::process::id()).expect("this process is listed too");
    assert_eq!(image.parent_key(), Some(parent.key()));
    let clock = sensor.process_clock();
    assert!(
        clock.start_ns(pid).is_some_and(|start_ns| start_ns.abs_diff(image.start_ns) < clock.precision_ns())
    );
    sensor.shut_down().expect("a sensor must end");
}

fn wait_for_image(process: &MarkedProcess) {
    let deadline = Instant::now() + PATIENCE;
    let path = format!("/proc/{}/cmdline", process.child.id());
    while !std::fs::read(&path).is_ok_and(|bytes| bytes.starts_with(b"/bin/sh\0-c")) {
        assert!(Instant::now() < deadline, "the shell did not start");
        std::thread::yield_now();
    }
}

/// Runs a short process, known by its mark.
fn run_marked(mark: &str) {
    Command::new("/bin/true").arg(mark).status().expect("a contract test must be able to start /bin/true");
}

fn marks<'a>(seen: impl IntoIterator<Item = &'a Observed>, prefix: &str) -> Vec<String> {
    let mark = |observed: &Observed| match &observed.what {
        Observation::ProcessExecuted(image) => {
            image.args.get(1).filter(|arg| arg.starts_with(prefix)).cloned()
        }
        _ => None,
    };
    seen.into_iter().filter_map(mark).collect()
}

/// For sensors with positions: what happened while no agent was there, and what one
/// had read but not stored, comes once more; what it had stored does not, whether it
/// came to commit it or not.
pub fn a_restart_loses_and_repeats_nothing(open: &mut dyn FnMut(Option<SensorPosition>) -> Box<dyn Sensor>) {
    const EACH: usize = 20;
    let prefix = unique("restart");
    let run = |round: usize| (0..EACH).for_each(|index| run_marked(&format!("{prefix}-{round}-{index}")));

    let mut stored: Vec<Observed> = Vec::new();
    let mut stored_to: Option<SensorPosition> = None;
    for (round, commit) in [(0, true), (1, false), (2, true)] {
        let mut sensor = open(stored_to);
        // These are read by this agent; those at the end by nobody.
        run(round);
        let mut seen = Vec::new();
        let expected = if round == 0 { EACH } else { EACH + EACH / 2 + EACH };
        read_until(sensor.as_mut(), &mut seen, "marked process", |seen| {
            marks(seen, &prefix).len() >= expected
        });
        // Only a part gets into the store: up to the middle of this round's.
        let middle = format!("{prefix}-{round}-{}", EACH / 2 - 1);
        let keep = seen
            .iter()
            .position(|observed| marks([observed], &prefix).contains(&middle))
            .expect("this round's marks were read");
        seen.truncate(keep + 1);
        stored_to = seen.last().and_then(|observed| observed.position);
        assert!(stored_to.is_some(), "an observation has a position");
        if commit && let Some(position) = stored_to {
            sensor.commit(position);
        }
        stored.append(&mut seen);
        drop(sensor);
        run(round + 10);
    }
    let mut sensor = open(stored_to);
    let all = 6 * EACH;
    let before = marks(&stored, &prefix).len();
    let mut seen = Vec::new();
    read_until(sensor.as_mut(), &mut seen, "marked process", |seen| {
        before + marks(seen, &prefix).len() >= all
    });
    let last = unique("last");
    run_marked(&last);
    read_until(sensor.as_mut(), &mut seen, "last process", |seen| !marks(seen, &last).is_empty());
    stored.append(&mut seen);

    let mut found = marks(&stored, &prefix);
    let mut wanted: Vec<String> = [0, 1, 2, 10, 11, 12]
        .iter()
        .flat_map(|round| (0..EACH).map(move |index| (round, index)))
        .map(|(round, index)| format!("{prefix}-{round}-{index}"))
        .collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    sensor.shut_down().expect("a sensor must end");
}

/// A sensor that is not read while more happens than it can keep counts what it
/// could not hand over, to the one: compared with a second sensor that keeps up.
/// Returns how many starts were handed over and how many were counted as lost.
pub fn losses_are_counted_exactly(
    stalled: &mut dyn Sensor,
    witness: &mut dyn Sensor,
    processes: usize,
) -> (u64, u64) {
    let (begin, end) = (unique("begin"), unique("end"));
    let prefix = unique("storm");
    let mut by_stalled = Vec::new();
    let mut by_witness = Vec::new();
    let has = |seen: &[Observed], mark: &str| marks(seen, mark).iter().any(|found| found == mark);
    // What others did since the stalled one was opened may have filled it; its report of
    // that comes before the beginning.
    settle(stalled, &mut by_stalled);
    settle(witness, &mut by_witness);
    by_stalled.clear();
    run_marked(&begin);
    read_until(stalled, &mut by_stalled, "first mark", |seen| has(seen, &begin));
    commit_last(stalled, &by_stalled);
    read_until(witness, &mut by_witness, "first mark", |seen| has(seen, &begin));
    commit_last(witness, &by_witness);

    for index in 0..processes {
        run_marked(&format!("{prefix}-{index}"));
        if index % 100 == 0 {
            read_until(witness, &mut by_witness, "batch", |_| true);
            witness
                .poll(Duration::ZERO, &mut |observed| by_witness.push(observed))
                .expect("a sensor must go on");
            commit_last(witness, &by_witness);
        }
    }
    // The stalled one wakes up, and has room again once it has committed.
    let told = |seen: &[Observed]| seen.iter().any(|observed| matches!(observed.what, Observation::Lost(_)));
    read_until(stalled, &mut by_stalled, "report of losses", told);
    commit_last(stalled, &by_stalled);
    settle(stalled, &mut by_stalled);
    settle(witness, &mut by_witness);
    run_marked(&end);
    read_until(stalled, &mut by_stalled, "last mark", |seen| has(seen, &end));
    commit_last(stalled, &by_stalled);
    read_until(witness, &mut by_witness, "last mark", |seen| has(seen, &end));
    // A report that came too early is followed by another.
    settle(stalled, &mut by_stalled);

    let between = |seen: &[Observed]| {
        let place = |mark: &str| seen.iter().position(|observed| has(std::slice::from_ref(observed), mark));
        let (first, last) = (place(&begin).expect("was read"), place(&end).expect("was read"));
        let starts =
            seen[first..last].iter().filter(|one| matches!(one.what, Observation::ProcessExecuted(_)));
        starts.count() as u64
    };
    let lost: u64 = by_stalled.iter().map(|observed| lost_starts(&observed.what)).sum();
    assert_eq!(
        by_witness.iter().map(|observed| lost_starts(&observed.what)).sum::<u64>(),
        0,
        "the witness must keep up"
    );
    assert_eq!(marks(&by_witness, &prefix).len(), processes, "the witness sees all");
    let handed_over = between(&by_stalled);
    assert!(lost > 0, "the ring was not small enough to lose anything");
    assert_eq!(handed_over + lost, between(&by_witness), "handed over {handed_over}, lost {lost}");
    (handed_over, lost)
}

/// Reads and commits for a while, so that there is room and what was lost is told.
fn settle(sensor: &mut dyn Sensor, seen: &mut Vec<Observed>) {
    let settled = Instant::now() + Duration::from_millis(300);
    while Instant::now() < settled {
        sensor
            .poll(Duration::from_millis(5), &mut |observed| seen.push(observed))
            .expect("a sensor must go on");
        commit_last(sensor, seen);
    }
}

fn lost_starts(what: &Observation) -> u64 {
    match what {
        Observation::Lost(loss) if loss.what == "process_start" => loss.count.expect("the kernel counts"),
        _ => 0,
    }
}

fn commit_last(sensor: &mut dyn Sensor, seen: &[Observed]) {
    if let Some(position) = seen.iter().rev().find_map(|observed| observed.position) {
        sensor.commit(position);
    }
}
