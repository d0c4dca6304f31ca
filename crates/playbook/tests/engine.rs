//! Alert and journal in, next steps out.

use std::collections::BTreeSet;

use event_model::Timestamp;
use playbook::{
    Alert, Decision, Entry, EntryKind, Facts, HostGroups, Mode, Outcome, Playbook, RunEnd, RunState, next,
    read_playbook,
};

const ALERT: &str = r#"{"id": "a1", "time": "2026-11-26T06:00:00Z", "host_id": "h1", "host_name": "web-1",
    "rule": {"id": "r1", "name": "R", "severity": "high", "attack": ["T1059.004"]},
    "process": {"entity_id": "b:42:1", "pid": 42, "executable": "/tmp/x", "command_line": "x -y", "user": "u"},
    "event": {"destination": {"ip": "192.0.2.1"}}}"#;

fn alert() -> Alert {
    Alert::from_json(ALERT.as_bytes()).expect("an alert")
}

fn playbook(steps: &str) -> Playbook {
    let text =
        format!("id: p\nname: P\nmode: auto\ntimeout: 1h\ntrigger: {{severity: high}}\nsteps:\n{steps}");
    let outcome = read_playbook("p.yml", text.as_bytes(), &HostGroups::default());
    outcome.playbook.unwrap_or_else(|| panic!("{:#?}", outcome.diagnostics))
}

/// A run whose journal can be written to.
struct Run {
    playbook: Playbook,
    alert: Alert,
    entries: Vec<Entry>,
    now: i64,
    in_flight: BTreeSet<usize>,
}

impl Run {
    fn of(steps: &str) -> Self {
        Self {
            playbook: playbook(steps),
            alert: alert(),
            entries: Vec::new(),
            now: 0,
            in_flight: BTreeSet::new(),
        }
    }

    fn write(&mut self, kind: EntryKind) {
        self.write_as("responder", kind);
    }

    fn write_as(&mut self, by: &str, kind: EntryKind) {
        self.entries.push(Entry { at: seconds(self.now), by: by.to_owned(), kind });
    }

    fn start(&mut self, step: &str) {
        self.write(EntryKind::StepStarted { step: step.to_owned() });
    }

    fn submit(&mut self, step: &str) {
        self.start(step);
        self.write(EntryKind::StepSubmitted { step: step.to_owned(), response: format!("response-{step}") });
    }

    fn finish(&mut self, step: &str, outcome: Outcome) {
        self.write(EntryKind::StepFinished { step: step.to_owned(), outcome, detail: String::new() });
    }

    fn next(&self) -> Vec<Decision> {
        let state = RunState::of(&self.playbook, seconds(0), &self.entries).expect("a good journal");
        let facts = Facts { alert: &self.alert, host_groups: Vec::new() };
        next(&self.playbook, &facts, &state, &self.in_flight, seconds(self.now))
    }

    /// The ids of the steps that begin now; panics where something else is decided.
    fn begins(&self) -> Vec<String> {
        self.next()
            .iter()
            .map(|decision| match decision {
                Decision::Start { step, .. } => self.playbook.steps[*step].id.clone(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn end(&self) -> RunEnd {
        match self.next().as_slice() {
            [Decision::End { end, .. }] => *end,
            other => panic!("{other:?}"),
        }
    }
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

const PARALLEL: &str = "  - {id: kill, do: kill_tree, after: []}\n  - {id: block, do: block_address, after: []}\n  - {id: tell, do: send_mail, with: {to: a@b}, after: [kill, block]}\n";

#[test]
fn branches_run_side_by_side_and_meet_again() {
    let mut run = Run::of(PARALLEL);
    assert_eq!(run.begins(), ["kill", "block"]);
    run.start("kill");
    run.start("block");
    run.in_flight = BTreeSet::from([0, 1]);
    assert!(matches!(run.next()[..], [Decision::Wait { until: Some(_) }]));
    run.finish("kill", Outcome::Succeeded);
    run.in_flight.remove(&0);
    assert!(matches!(run.next()[..], [Decision::Wait { .. }]));
    run.finish("block", Outcome::Succeeded);
    run.in_flight.clear();
    assert_eq!(run.begins(), ["tell"]);
    run.start("tell");
    run.finish("tell", Outcome::Succeeded);
    assert_eq!(run.end(), RunEnd::Completed);
}

#[test]
fn a_step_that_began_is_never_begun_again_wherever_the_responder_ended() {
    // The journal of a whole run, cut off behind each entry: what another responder decides then.
    let mut whole = Run::of(PARALLEL);
    whole.submit("kill");
    whole.finish("kill", Outcome::Succeeded);
    whole.submit("block");
    whole.finish("block", Outcome::Succeeded);
    whole.start("tell");
    whole.finish("tell", Outcome::Succeeded);
    whole.write(EntryKind::RunFinished { end: RunEnd::Completed, detail: String::new() });
    for cut in 0..=whole.entries.len() {
        let run = Run { entries: whole.entries[..cut].to_vec(), ..Run::of(PARALLEL) };
        for decision in run.next() {
            let Decision::Start { step, .. } = decision else { continue };
            let id = &run.playbook.steps[step].id;
            let began = run
                .entries
                .iter()
                .any(|entry| matches!(&entry.kind, EntryKind::StepStarted { step } if step == id));
            assert!(!began, "{id} begins a second time behind entry {cut}");
        }
    }
    // Begun, and nobody knows more: reported. Taken by the server: followed up.
    let mut run = Run::of(PARALLEL);
    run.start("kill");
    assert!(matches!(&run.next()[..], [Decision::Finish { step: 0, outcome: Outcome::Lost, .. }]));
    let mut run = Run::of(PARALLEL);
    run.submit("kill");
    assert_eq!(run.next(), [Decision::Follow { step: 0, response: "response-kill".to_owned() }]);
    // And a journal in which a step did begin twice is refused.
    run.start("kill");
    assert!(RunState::of(&run.playbook, seconds(0), &run.entries).is_err());
}

#[test]
fn what_comes_of_a_failure_is_up_to_the_step() {
    let steps = |reaction: &str| {
        format!(
            "  - {{id: block, do: block_address}}\n  - {{id: isolate, do: isolate_host, on_failure: {reaction}}}\n  - {{id: tell, do: send_mail, with: {{to: a@b}}}}\n"
        )
    };
    let failed = |reaction: &str| {
        let mut run = Run::of(&steps(reaction));
        run.submit("block");
        run.finish("block", Outcome::Succeeded);
        run.start("isolate");
        run.finish("isolate", Outcome::Failed);
        run
    };
    assert_eq!(failed("stop").end(), RunEnd::Stopped);
    assert_eq!(failed("continue").begins(), ["tell"]);

    let mut run = failed("undo");
    assert_eq!(run.next(), [Decision::Undo { step: 0, response: "response-block".to_owned() }]);
    run.write(EntryKind::UndoStarted { step: "block".to_owned() });
    // The responder ends here: the undoing is not done twice either.
    assert!(matches!(run.next()[..], [Decision::UndoFailed { step: 0, .. }]));
    run.write(EntryKind::UndoFinished { step: "block".to_owned(), succeeded: true, detail: String::new() });
    assert_eq!(run.end(), RunEnd::Undone);
}

#[test]
fn a_run_that_ended_is_undone_when_someone_asks_the_last_step_first() {
    let mut run = Run::of(
        "  - {id: block, do: block_address}\n  - {id: isolate, do: isolate_host}\n  - {id: kill, do: kill_tree}\n",
    );
    for step in ["block", "isolate", "kill"] {
        run.submit(step);
        run.finish(step, Outcome::Succeeded);
    }
    run.write(EntryKind::RunFinished { end: RunEnd::Completed, detail: String::new() });
    assert!(matches!(run.next()[..], [Decision::Wait { until: None }]));
    run.write_as("ada", EntryKind::UndoRequested);
    for step in ["isolate", "block"] {
        let place = run.playbook.place_of(step).expect("there");
        assert_eq!(run.next(), [Decision::Undo { step: place, response: format!("response-{step}") }]);
        run.write(EntryKind::UndoStarted { step: step.to_owned() });
        run.write(EntryKind::UndoFinished { step: step.to_owned(), succeeded: true, detail: String::new() });
    }
    // A kill can't be undone, and is not said to be.
    assert_eq!(run.end(), RunEnd::Undone);
    run.write(EntryKind::RunFinished { end: RunEnd::Undone, detail: String::new() });
    assert!(matches!(run.next()[..], [Decision::Wait { until: None }]));
}

#[test]
fn approval_takes_as_many_different_people_as_it_says_and_time_is_a_no() {
    let steps = "  - {id: ok, do: wait_for_approval, timeout: 10m, with: {people: 2}}\n  - {id: isolate, do: isolate_host}\n";
    let approve = |approve| EntryKind::Approval { step: "ok".to_owned(), approve };
    let mut run = Run::of(steps);
    run.start("ok");
    assert_eq!(run.next(), [Decision::Wait { until: Some(seconds(600)) }]);
    run.write_as("ada", approve(true));
    run.write_as("ada", approve(true));
    assert!(matches!(run.next()[..], [Decision::Wait { .. }]), "one person is one");
    run.write_as("bob", approve(true));
    assert!(
        matches!(&run.next()[..], [Decision::Finish { outcome: Outcome::Succeeded, detail, .. }] if detail == "approved by ada, bob")
    );
    run.finish("ok", Outcome::Succeeded);
    assert_eq!(run.begins(), ["isolate"]);

    let mut run = Run::of(steps);
    run.start("ok");
    run.write_as("bob", approve(false));
    assert!(matches!(run.next()[..], [Decision::Finish { outcome: Outcome::Denied, .. }]));

    let mut run = Run::of(steps);
    run.start("ok");
    run.now = 600;
    assert!(matches!(run.next()[..], [Decision::Finish { outcome: Outcome::TimedOut, .. }]));
    run.finish("ok", Outcome::TimedOut);
    assert_eq!(run.end(), RunEnd::Stopped);
}

#[test]
fn times_run_out() {
    let mut run = Run::of(
        "  - {id: a, do: kill_tree, timeout: 10s, on_failure: continue}\n  - {id: b, do: isolate_host}\n",
    );
    run.start("a");
    run.in_flight.insert(0);
    run.now = 10;
    assert!(matches!(run.next()[..], [Decision::Finish { step: 0, outcome: Outcome::TimedOut, .. }]));
    run.finish("a", Outcome::TimedOut);
    run.now = 3_600;
    assert!(matches!(run.next()[..], [Decision::Wait { .. }]), "its thread may still order something");
    run.in_flight.clear();
    assert_eq!(run.end(), RunEnd::TimedOut, "the run's own hour is over before `b` begins");
}

/// The order may reach the agent after the step's time: it is undone, or said not to be.
#[test]
fn what_timed_out_is_undone_like_what_was_lost() {
    let mut run = Run::of("  - {id: isolate, do: isolate_host, timeout: 10s, on_failure: undo}\n");
    run.start("isolate");
    run.in_flight.insert(0);
    run.now = 10;
    assert!(matches!(run.next()[..], [Decision::Finish { step: 0, outcome: Outcome::TimedOut, .. }]));
    run.finish("isolate", Outcome::TimedOut);
    // The request for it is not answered yet.
    assert!(matches!(run.next()[..], [Decision::Wait { .. }]));
    let (mut answered, mut unanswered) =
        (run, Run::of("  - {id: isolate, do: isolate_host, on_failure: undo}\n"));
    let response = "response-isolate".to_owned();
    answered.write(EntryKind::StepSubmitted { step: "isolate".to_owned(), response: response.clone() });
    assert!(matches!(answered.next()[..], [Decision::Wait { .. }]), "its thread takes it back first");
    answered.in_flight.clear();
    assert_eq!(answered.next(), [Decision::Undo { step: 0, response }]);
    answered.write(EntryKind::UndoStarted { step: "isolate".to_owned() });
    answered.in_flight.insert(0);
    assert!(matches!(answered.next()[..], [Decision::Wait { until: None }]));

    // No answer ever came: nobody calls that undone.
    unanswered.start("isolate");
    unanswered.finish("isolate", Outcome::TimedOut);
    assert!(matches!(unanswered.next()[..], [Decision::UndoFailed { step: 0, .. }]));
    unanswered.write(EntryKind::UndoFinished {
        step: "isolate".to_owned(),
        succeeded: false,
        detail: String::new(),
    });
    assert!(
        matches!(&unanswered.next()[..], [Decision::End { end: RunEnd::Undone, detail }] if detail.contains("isolate"))
    );
}

#[test]
fn conditions_choose_the_way_and_shadow_goes_it_without_acting() {
    let steps = "  - {id: a, do: kill_tree, on_failure: continue}\n  - {id: b, do: isolate_host, when: step.a = failed and rule.attack = 'T1059.004'}\n  - {id: c, do: block_address, when: step.a = succeeded}\n";
    let mut run = Run::of(steps);
    run.start("a");
    run.finish("a", Outcome::Failed);
    assert_eq!(run.begins(), ["b"]);

    let mut run = Run::of(steps);
    run.playbook.mode = Mode::Shadow;
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        for decision in run.next() {
            match decision {
                Decision::Finish { step, outcome, detail } => {
                    let id = run.playbook.steps[step].id.clone();
                    outcomes.push((id.clone(), outcome, detail));
                    run.finish(&id, outcome);
                }
                Decision::End { end, .. } => {
                    assert_eq!(end, RunEnd::Completed);
                    run.write(EntryKind::RunFinished { end, detail: String::new() });
                }
                Decision::Wait { .. } => {}
                other => panic!("acts in shadow: {other:?}"),
            }
        }
    }
    let words: Vec<_> = outcomes.iter().map(|(id, outcome, _)| (id.as_str(), *outcome)).collect();
    assert_eq!(words, [("a", Outcome::Shadowed), ("b", Outcome::Skipped), ("c", Outcome::Shadowed)]);
    assert!(
        outcomes[2].2.starts_with("would block_address on host h1") && outcomes[2].2.contains("192.0.2.1"),
        "{}",
        outcomes[2].2
    );
}

#[test]
fn what_the_alert_does_not_have_is_not_made_up() {
    let mut run = Run::of(
        "  - {id: kill, do: kill_tree, on_failure: continue}\n  - {id: file, do: quarantine_file, with: {path: '{{file.path}}'}, on_failure: continue}\n",
    );
    run.alert.process = None;
    assert!(
        matches!(&run.next()[..], [Decision::Finish { outcome: Outcome::Failed, detail, .. }] if detail.contains("has no process"))
    );
    run.finish("kill", Outcome::Failed);
    assert!(
        matches!(&run.next()[..], [Decision::Finish { outcome: Outcome::Failed, detail, .. }] if detail.contains("file.path"))
    );
    // PID 1 and the first kernel thread are nobody's target, whatever an alert says.
    for pid in [0, 1, 2, -7] {
        let mut run = Run::of("  - {id: kill, do: terminate_process}\n");
        run.alert.process.as_mut().expect("there").pid = Some(pid);
        assert!(matches!(run.next()[..], [Decision::Finish { outcome: Outcome::Failed, .. }]), "{pid}");
    }
}

/// A part that the alert lacks must not make another path: `/srv/-/x` would be some other file.
#[test]
fn a_path_or_an_address_with_a_missing_part_is_not_acted_on() {
    for with in ["path: '/srv/{{file.name}}/x'", "path: '{{file.path}}'"] {
        let run = Run::of(&format!("  - {{id: take, do: quarantine_file, with: {{{with}}}}}\n"));
        let decisions = run.next();
        let [Decision::Finish { outcome: Outcome::Failed, detail, .. }] = decisions.as_slice() else {
            panic!("{with}: {decisions:?}");
        };
        assert!(detail.contains("the alert has no file."), "{detail}");
    }
    let run = Run::of("  - {id: take, do: quarantine_file, with: {path: '/srv/{{host.name}}/x'}}\n");
    assert!(matches!(run.next().as_slice(), [Decision::Start { .. }]));
}
