//! Text in, findings with places out.

use playbook::{HostGroups, Limit, Mode, ReadOutcome, read_playbook};

const GOOD: &str = "id: p\nname: P\ntrigger: {severity: high}\nsteps:\n  - {id: a, do: kill_tree}\n";

fn read(text: &str) -> ReadOutcome {
    let groups = HostGroups::parse("host-groups.yml", "web: [web-*]\n").expect("good");
    read_playbook("p.yml", text.as_bytes(), &groups)
}

/// Line, column, reason and hint of the only error.
fn error(text: &str) -> (u32, u32, String, String) {
    let outcome = read(text);
    assert!(outcome.playbook.is_none(), "must be refused: {text}");
    let errors: Vec<_> = outcome.diagnostics.into_iter().filter(|found| found.is_error()).collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    let found = errors.into_iter().next().expect("one");
    (found.line, found.column, found.reason, found.hint.unwrap_or_default())
}

fn with_steps(steps: &str) -> String {
    format!("id: p\nname: P\ntrigger: {{severity: high}}\nsteps:\n{steps}")
}

#[test]
fn a_playbook_that_says_nothing_of_its_mode_does_nothing() {
    let playbook = read(GOOD).playbook.expect("good");
    assert_eq!(playbook.mode, Mode::Shadow);
    assert!(read(GOOD).diagnostics.is_empty());
}

#[test]
fn what_is_misspelt_is_named_with_its_place_and_the_nearest() {
    let (line, column, reason, hint) = error(&GOOD.replace("kill_tree", "kill_tre"));
    assert_eq!((line, column), (5, 17));
    assert!(reason.contains("`kill_tre`") && hint.contains("did you mean `kill_tree`"), "{reason} {hint}");

    let (line, column, reason, hint) =
        error(&GOOD.replace("trigger", "triger").replace("steps:", "trigger: {severity: low}\nsteps:"));
    assert_eq!((line, column), (3, 1));
    assert!(reason.contains("`triger`") && hint.contains("`trigger`"), "{reason} {hint}");

    let (line, column, _, hint) = error(&GOOD.replace("high", "hihg"));
    assert_eq!((line, column), (3, 21));
    assert!(hint.contains("`high`"), "{hint}");

    let (line, column, reason, hint) =
        error(&with_steps("  - id: a\n    do: send_mail\n    with: {to: x@y, text: 'on {{host.nmae}}'}\n"));
    assert_eq!((line, column), (7, 31), "{reason}");
    assert!(hint.contains("`host.name`"), "{hint}");

    let text = with_steps("  - id: a\n    do: kill_tree\n    when: proces.executable = 'x'\n");
    let (line, column, _, hint) = error(&text);
    assert_eq!((line, column), (7, 11));
    assert!(hint.contains("`process.executable`"), "{hint}");
}

#[test]
fn what_is_missing_is_named() {
    assert!(error("id: p\nname: P\ntrigger: {severity: high}\n").2.contains("has no `steps`"));
    assert!(error(&with_steps("  - {do: kill_tree}\n")).2.contains("has no `id`"));
    assert!(error(&with_steps("  - {id: a}\n")).2.contains("has no `do`"));
    let (.., reason, hint) = error(&with_steps("  - {id: a, do: send_chat, with: {service: slack}}\n"));
    assert!(reason.contains("has no `url`") && hint.contains("with: {url: …}"), "{reason} {hint}");
    assert!(
        error("id: p\nname: P\ntrigger: {}\nsteps: [{id: a, do: kill_tree}]\n").2.contains("every alert")
    );
    assert!(error("").2.contains("one document"));
}

#[test]
fn steps_that_wait_for_each_other_are_a_circle() {
    let text = with_steps(
        "  - {id: a, do: kill_tree, after: [c]}\n  - {id: b, do: kill_tree}\n  - {id: c, do: kill_tree}\n",
    );
    let (line, _, reason, _) = error(&text);
    assert_eq!(line, 5);
    assert!(reason.contains("a after c after b after a"), "{reason}");
    assert!(error(&with_steps("  - {id: a, do: kill_tree, after: [a]}\n")).2.contains("circle"));
    let (.., hint) =
        error(&with_steps("  - {id: kill, do: kill_tree}\n  - {id: b, do: isolate_host, after: [kil]}\n"));
    assert!(hint.contains("`kill`"), "{hint}");
}

#[test]
fn a_condition_may_only_ask_about_steps_that_have_ended() {
    let text = "  - {id: a, do: kill_tree, after: []}\n  - {id: b, do: isolate_host, after: [], when: step.a = failed}\n";
    let (line, _, reason, hint) = error(&with_steps(text));
    assert_eq!(line, 6);
    assert!(reason.contains("does not wait for it") && hint.contains("`after`"), "{reason} {hint}");
    assert!(
        error(&with_steps("  - {id: a, do: kill_tree, when: step.nosuch = failed}\n"))
            .2
            .contains("step.nosuch")
    );
}

#[test]
fn values_out_of_bounds_are_refused() {
    for (with, part) in [
        ("run_script, with: {name: ../x.sh}", "outside the folder"),
        ("run_script, with: {name: /bin/sh}", "outside the folder"),
        ("run_script, with: {name: .hidden}", "outside the folder"),
        ("block_address, with: {address: 0.0.0.0/0}", "no address"),
        ("block_address, with: {address: everywhere}", "no address"),
        ("block_address, with: {for: 90d}", "no span"),
        ("isolate_host, with: {for: forever}", "no span"),
        ("wait_for_approval, with: {people: 3}", "from 1 to 2"),
        ("send_syslog, with: {server: nowhere}", "HOST:PORT"),
        ("call_webhook, with: {url: 'file:///etc/shadow'}", "no URL"),
        ("kill_tree, with: {pid: 1}", "no key `pid`"),
        ("kill_tree, timeout: 0s", "no span"),
    ] {
        let (.., reason, _) = error(&with_steps(&format!("  - {{id: a, do: {with}}}\n")));
        assert!(reason.contains(part), "{with}: {reason}");
    }
    assert!(error(&GOOD.replace("severity: high", "attack: [X1059]")).2.contains("ATT&CK"));
    assert!(error(&GOOD.replace("severity: high", "host_groups: [db]")).2.contains("no host group `db`"));
    assert!(read(&GOOD.replace("severity: high", "host_groups: [web]")).playbook.is_some());
}

#[test]
fn how_often_a_playbook_runs_is_bounded_whatever_it_says() {
    assert_eq!(read(GOOD).playbook.expect("good").limit, Limit::default());
    let own =
        read(&GOOD.replace("steps:", "limit: {of_alert: 1, within: 1d}\nsteps:")).playbook.expect("good");
    let wanted = Limit { of_alert: 1, within: std::time::Duration::from_secs(86_400), ..Limit::default() };
    assert_eq!(own.limit, wanted);
    for (limit, part) in [
        ("{of_alert: 0}", "from 1 to 1000"),
        ("{of_host: 1001}", "from 1 to 1000"),
        ("{of_host: many}", "from 1 to 1000"),
        ("{within: 31d}", "no span"),
        ("{within: 8d}", "at most 7d"),
        ("{per_host: 1}", "no key `per_host`"),
    ] {
        let (.., reason, _) = error(&GOOD.replace("steps:", &format!("limit: {limit}\nsteps:")));
        assert!(reason.contains(part), "{limit}: {reason}");
    }
}

#[test]
fn a_secret_in_a_url_is_warned_of() {
    let step = "  - {id: a, do: send_chat, with: {service: dingtalk, url: 'https://oapi.example/robot/send?access_token=abc'}}\n";
    let outcome = read(&with_steps(step));
    assert!(outcome.playbook.is_some());
    assert!(outcome.diagnostics[0].reason.contains("secret"), "{:?}", outcome.diagnostics);
}

#[test]
fn no_text_panics() {
    let whole =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../playbooks/reverse-shell.yml"))
            .expect("there");
    for (end, _) in whole.char_indices() {
        read(&whole[..end]);
    }
    for (at, character) in whole.char_indices() {
        let mut text = whole.clone();
        text.replace_range(at..at + character.len_utf8(), "[");
        read(&text);
    }
    assert!(read_playbook("p.yml", &[0xff, 0xfe], &HostGroups::default()).playbook.is_none());
    assert!(read(&"a".repeat(300_000)).diagnostics[0].reason.contains("limit"));
}
