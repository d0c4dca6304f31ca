use sensor_api::ObservedExit;

use super::*;

const MS: u64 = 1_000_000;

fn key(pid: u32, start_ns: u64) -> ProcessKey {
    ProcessKey { pid, start_ns }
}

fn image(key: ProcessKey, parent: ProcessKey, executable: &str) -> Box<ObservedImage> {
    Box::new(ObservedImage {
        pid: key.pid,
        start_ns: key.start_ns,
        parent_pid: parent.pid,
        parent_start_ns: parent.start_ns,
        executable: executable.to_owned(),
        args: vec![executable.to_owned()],
        ..ObservedImage::default()
    })
}

struct Fixture {
    table: ProcessTable,
    images: Images,
}

impl Fixture {
    /// With a shell, PID 10, that is there from the start.
    fn new() -> Self {
        let mut fixture = Self { table: ProcessTable::default(), images: Images::default() };
        let shell = image(SHELL, key(1, 0), "/bin/sh");
        assert_eq!(fixture.see(1, Observation::ProcessExisting(shell)), []);
        fixture
    }

    fn see(&mut self, at_ns: u64, what: Observation) -> Vec<Life> {
        let mut steps = Vec::new();
        self.table.observe(at_ns, what, &mut self.images, &mut steps);
        steps
    }

    fn fork(&mut self, at_ns: u64, child: ProcessKey) -> Vec<Life> {
        self.see(at_ns, Observation::ProcessForked(ObservedFork { child, parent: SHELL }))
    }

    fn exit(&mut self, at_ns: u64, process: ProcessKey) -> Vec<Life> {
        self.see(at_ns, Observation::ProcessExited(ObservedExit { process, wait_status: Some(0) }))
    }

    fn told(&mut self, now_ns: u64) -> Vec<Life> {
        let mut steps = Vec::new();
        self.table.tell_waiting(now_ns, &mut steps);
        steps
    }

    fn executable(&self, key: ProcessKey) -> &str {
        &self.table.entry(key).unwrap().image.executable
    }
}

const SHELL: ProcessKey = ProcessKey { pid: 10, start_ns: 1 };

fn started(key: ProcessKey, kind: StartKind, at_ns: u64) -> Life {
    Life::Started { key, kind, at_ns }
}

fn ended(key: ProcessKey, at_ns: u64) -> Life {
    Life::Ended { key, at_ns, wait_status: Some(0) }
}

#[test]
fn fork_and_exec_are_one_start() {
    let mut fixture = Fixture::new();
    let child = key(11, 5);
    assert_eq!(fixture.fork(5, child), []);
    let exec = Observation::ProcessExecuted(image(child, SHELL, "/bin/ls"));
    assert_eq!(fixture.see(6, exec), [started(child, StartKind::Exec, 6)]);
    assert_eq!(fixture.exit(7, child), [ended(child, 7)]);
    assert_eq!(fixture.told(10_000 * MS), []);
    assert_eq!(fixture.executable(child), "/bin/ls");
}

#[test]
fn a_fork_that_never_execs_is_told_after_a_while_or_at_its_end() {
    let mut fixture = Fixture::new();
    let (stays, goes) = (key(11, 5), key(12, 6));
    fixture.fork(5, stays);
    fixture.fork(6, goes);
    assert_eq!(fixture.exit(100, goes), [started(goes, StartKind::Fork, 6), ended(goes, 100)]);
    assert_eq!(fixture.told(499 * MS), []);
    assert_eq!(fixture.told(501 * MS), [started(stays, StartKind::Fork, 5)]);
    assert_eq!(fixture.told(900 * MS), [], "told once");
    assert_eq!(fixture.executable(stays), "/bin/sh", "it runs its parent's image");
    assert_eq!(fixture.exit(901 * MS, stays), [ended(stays, 901 * MS)]);
}

#[test]
fn a_child_finds_its_ended_parent_for_a_while_and_then_memory_is_free_again() {
    let mut fixture = Fixture::new();
    let (parent, child) = (key(11, 5), key(12, 7));
    fixture.fork(5, parent);
    fixture.see(6, Observation::ProcessExecuted(image(parent, SHELL, "/bin/daemon")));
    let fork = ObservedFork { child, parent };
    fixture.see(7, Observation::ProcessForked(fork));
    fixture.exit(8, parent);
    let ancestors: Vec<_> = fixture.table.ancestors(child).map(|(key, _)| key).collect();
    assert_eq!(ancestors, [parent, SHELL]);
    fixture.fork(61_000 * MS, key(13, 9));
    assert!(fixture.table.entry(parent).is_none());
    for pid in 100..100 + 20_000 {
        fixture.fork(62_000 * MS, key(pid, 62_000 * MS));
        fixture.exit(62_000 * MS, key(pid, 62_000 * MS));
    }
    assert!(fixture.table.entries.len() <= MAX_ENDED + 3);
}

#[test]
fn a_reused_pid_inherits_nothing() {
    let mut fixture = Fixture::new();
    let (first, second) = (key(11, 5), key(11, 50));
    fixture.see(6, Observation::ProcessExecuted(image(first, SHELL, "/bin/evil")));
    // The exit of the first was lost.
    fixture.see(51, Observation::ProcessExecuted(image(second, SHELL, "/bin/good")));
    assert_eq!((fixture.executable(first), fixture.executable(second)), ("/bin/evil", "/bin/good"));
    assert_eq!(fixture.table.live(), 2, "the shell and the second");
}

#[test]
fn snapshot_and_stream_may_overlap_in_either_order() {
    let mut fixture = Fixture::new();
    let child = key(11, 5);
    // Snapshot first: the fork that the stream then tells is still a start.
    fixture.see(9, Observation::ProcessExisting(image(child, SHELL, "/bin/sh")));
    fixture.fork(5, child);
    assert_eq!(fixture.told(600 * MS), [started(child, StartKind::Fork, 5)]);
    // Stream first: the snapshot adds nothing.
    let other = key(12, 6);
    fixture.see(6, Observation::ProcessExecuted(image(other, SHELL, "/bin/ls")));
    fixture.see(9, Observation::ProcessExisting(image(other, SHELL, "/bin/stale")));
    assert_eq!(fixture.executable(other), "/bin/ls");
}

#[test]
fn what_a_crash_interrupts_survives_in_a_note() {
    let mut fixture = Fixture::new();
    let child = key(11, 5);
    fixture.fork(5, child);
    let ls = key(12, 6);
    fixture.see(6, Observation::ProcessExecuted(image(ls, SHELL, "/bin/ls")));
    let note: Vec<WaitingFork> = fixture.table.waiting().collect();
    let young: Vec<YoungProcess> = fixture.table.young(10).collect();
    // As at a start: what waits is restored before the snapshot tells of the parent.
    let mut next = Fixture { table: ProcessTable::default(), images: Images::default() };
    next.table.restore(note, young);
    next.see(1, Observation::ProcessExisting(image(SHELL, key(1, 0), "/bin/sh")));
    assert!(!next.table.entry(SHELL).unwrap().provisional, "a snapshot knows more than a note");
    assert_eq!(next.exit(700 * MS, child), [started(child, StartKind::Fork, 5), ended(child, 700 * MS)]);
    assert_eq!(next.executable(child), "/bin/sh");
    assert_eq!(next.exit(701 * MS, ls), [ended(ls, 701 * MS)]);
    assert_eq!(next.executable(ls), "/bin/ls", "its end is told with its name");
}

#[test]
fn an_exit_of_an_unknown_process_is_told() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.exit(5, key(77, 3)), [ended(key(77, 3), 5)]);
}

#[test]
fn lost_exits_are_swept() {
    let mut fixture = Fixture::new();
    fixture.see(6, Observation::ProcessExecuted(image(key(11, 5), SHELL, "/bin/ls")));
    fixture.table.sweep(7, |pid| pid == SHELL.pid);
    assert_eq!(fixture.table.live(), 1);
}

#[test]
fn who_had_a_pid_at_a_time_is_known_after_its_end_too() {
    const SECOND: u64 = 1_000_000_000;
    let mut fixture = Fixture::new();
    let (first, second) = (key(20, 10 * SECOND), key(20, 20 * SECOND));
    fixture.fork(10 * SECOND, first);
    fixture.exit(11 * SECOND, first);
    assert_eq!(fixture.table.living(20), None);
    assert_eq!(fixture.table.life_at(20, 10 * SECOND + MS), Some(first), "it has ended since");
    assert_eq!(fixture.table.life_at(20, 9 * SECOND + 500 * MS), Some(first), "a log's seconds are blurred");
    assert_eq!(fixture.table.life_at(20, 5 * SECOND), None, "it began later");
    fixture.fork(20 * SECOND, second);
    assert_eq!(fixture.table.life_at(20, 10 * SECOND + MS), Some(first), "the PID is in use again");
    assert_eq!(fixture.table.life_at(20, 21 * SECOND), Some(second));
    assert_eq!(fixture.table.life_at(21, 21 * SECOND), None);
}

#[test]
fn the_lineage_leads_past_parents_that_have_ended() {
    let mut fixture = Fixture::new();
    let (between, orphan, late) = (key(11, 5), key(12, 6), key(13, 7));
    fixture.see(5, Observation::ProcessExecuted(image(between, SHELL, "/bin/between")));
    fixture.see(6, Observation::ProcessExecuted(image(orphan, between, "/bin/orphan")));
    let lineage = fixture.table.keep_lineage();
    assert_eq!(lineage.below(SHELL), [between, orphan]);
    fixture.exit(8, between);
    assert_eq!(lineage.below(SHELL), [orphan]);
    // Seen only after its parent's end.
    fixture.see(9, Observation::ProcessExecuted(image(late, between, "/bin/late")));
    assert_eq!(lineage.below(SHELL), [orphan, late]);
    fixture.exit(10, orphan);
    fixture.exit(11, late);
    assert_eq!(lineage.below(SHELL), []);
}
