//! The condition language against events: condition in, verdict out.

mod events;

use event_model::{EventRecord, EventType};
use events::{event, holds, process_start, rule_text, set};
use rule_engine::Phase;
use serde_json::json;

fn bash() -> EventRecord {
    process_start(json!({
        "process.pid": 4711,
        "process.name": "Bash",
        "process.executable": "/usr/bin/Bash",
        "process.command_line": r"bash -c 'echo ÄRGER' C:\Temp\x",
        "process.args": ["bash", "-c", "echo ÄRGER"],
        "rampart.process.args_truncated": false,
        "process.start": "2026-11-21T20:15:03.5Z",
        "process.parent.name": "nginx",
        "user.name": "www-data",
        "user.id": "33",
    }))
}

#[track_caller]
fn check(cases: &[(&str, bool)]) {
    let event = bash();
    for (condition, expected) in cases {
        assert_eq!(holds(condition, &event), *expected, "{condition}");
    }
}

#[test]
fn texts_compare_without_case() {
    check(&[
        ("name = 'BASH'", true),
        ("name = bash", true),
        ("name = 'bas'", false),
        ("name != 'bash'", false),
        ("name != 'zsh'", true),
        ("cmdline contains 'ärger'", true),
        ("cmdline contains 'echo  '", false),
        ("path startswith '/USR/bin/'", true),
        ("path startswith 'bin'", false),
        ("path endswith '/BASH'", true),
        ("path endswith 'bas'", false),
        ("name in ('sh', 'BASH')", true),
        ("name in ['sh', \"dash\"]", false),
        ("name not in ('sh', 'dash')", true),
        ("name NOT IN (bash)", false),
        (r"cmdline contains 'c:\temp\\'", true),
        (r#"cmdline endswith "\x""#, true),
    ]);
}

#[test]
fn regular_expressions_see_case_as_written_anywhere_in_the_text() {
    check(&[
        ("name matches 'Bash'", true),
        ("name matches 'bash'", false),
        ("name matches '(?i)^bASH$'", true),
        ("name matches 'as'", true),
        ("path matches '^/usr/.*/Bash$'", true),
        (r"pid matches '^47\d\d$'", true),
        (r"cmdline matches 'C:\\Temp'", true),
    ]);
}

#[test]
fn numbers_compare_as_numbers_and_texts_that_look_like_numbers_as_texts() {
    check(&[
        ("pid = 4711", true),
        ("pid = '4711'", true),
        ("pid != 4711", false),
        ("pid > 4710", true),
        ("pid > 4711", false),
        ("pid >= 4711", true),
        ("pid < 10000", true),
        ("pid <= 4710", false),
        ("pid in (1, 4711)", true),
        ("pid not in (1, 2)", true),
        ("pid startswith 47", true),
        ("pid contains '71'", true),
        ("uid = 33", true),
        ("uid = 033", false),
    ]);
}

#[test]
fn any_element_of_a_list_is_enough() {
    check(&[
        ("args = '-C'", true),
        ("args contains 'ärg'", true),
        ("args endswith 'GER'", true),
        ("args matches '^-[a-z]$'", true),
        ("args in ('-x', 'bash')", true),
        ("args != '-c'", false),
        ("args not in ('-x', '-y')", true),
    ]);
}

#[test]
fn booleans_and_times_compare() {
    check(&[
        ("args_truncated = false", true),
        ("args_truncated = TRUE", false),
        ("args_truncated != true", true),
        ("start_time > '2026-11-21T20:15:03Z'", true),
        ("start_time = '2026-11-21T21:15:03.5+01:00'", true),
        ("start_time != '2026-11-21T20:15:03.5Z'", false),
        ("start_time <= '2026-11-21T20:15:03Z'", false),
    ]);
}

#[test]
fn not_binds_closer_than_and_and_closer_than_or() {
    check(&[
        ("name = 'x' and user = 'x' or name = 'bash'", true),
        ("name = 'x' and (user = 'x' or name = 'bash')", false),
        ("name = 'bash' or name = 'x' and user = 'x'", true),
        ("not name = 'x' and name = 'bash'", true),
        ("not (name = 'x' or name = 'bash')", false),
        ("NOT NOT name = 'bash' AND Parent = 'nginx'", true),
        ("((name = 'bash'))", true),
    ]);
}

#[test]
fn a_test_of_a_missing_field_is_false_and_not_turns_it() {
    check(&[
        ("cwd = '/'", false),
        ("cwd != '/'", false),
        ("cwd not in ('/', '/tmp')", false),
        ("cwd matches ''", false),
        ("not cwd = '/'", true),
        ("args_bytes < 5", false),
        ("not args_bytes < 5", true),
    ]);
}

#[test]
fn every_spelling_of_a_field_means_the_same() {
    check(&[
        ("command contains 'echo'", true),
        ("command_line contains 'echo'", true),
        ("CommandLine contains 'echo'", true),
        ("process.command_line contains 'echo'", true),
        ("Image endswith '/bash'", true),
        ("PROCESS.PARENT.NAME = nginx", true),
    ]);
}

#[test]
fn rules_that_use_what_only_an_exit_has_judge_exits() {
    let set = set(&rule_text("process", "exit_code = 137 and name = 'miner'", &json!({})));
    let fields = json!({"process.name": "miner", "process.exit_code": 137});
    assert_eq!(set.evaluate(&event(EventType::ProcessExit, &fields), Phase::All).len(), 1);
    assert_eq!(set.evaluate(&event(EventType::ProcessStart, &fields), Phase::All).len(), 0);
    let set = events::set(&rule_text("process", "name = 'miner'", &json!({})));
    assert_eq!(set.evaluate(&event(EventType::ProcessExit, &fields), Phase::All).len(), 0);
}

#[test]
fn a_long_text_is_judged_at_both_ends_by_regular_expressions_and_whole_by_the_rest() {
    let padding = "é".repeat(100_000);
    let event = process_start(json!({
        "process.command_line": format!("first {padding} middle {padding} last"),
    }));
    assert!(holds("cmdline matches '^first'", &event));
    assert!(holds("cmdline matches 'last$'", &event));
    assert!(holds("cmdline contains 'MIDDLE'", &event));
    assert!(!holds("cmdline matches 'middle'", &event));
}

#[test]
fn an_expensive_regular_expression_stays_within_its_bounds() {
    let event = process_start(json!({ "process.command_line": "а".repeat(1_000_000) }));
    for pattern in ["(a+)+$", "(?-u)\\w{200}x", "(.*)(.*)(.*)(.*)x"] {
        holds(&format!("cmdline matches '{pattern}'"), &event);
    }
}
