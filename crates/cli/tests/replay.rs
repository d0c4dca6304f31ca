//! `edr replay` as a user runs it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value as Json, json};

const PROCESS_RULE: &str = "
title: Encoded PowerShell
id: 00000000-0000-4000-8000-000000000001
level: high
tags: [attack.execution, attack.t1059.001]
logsource: {product: windows, category: process_creation}
detection:
  selection: {Image|endswith: '\\powershell.exe', CommandLine|contains: ' -enc '}
  condition: selection
";
const EXEC: &str = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("rules")).expect("a folder in it");
        Self(folder)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, content).expect("a file");
        self
    }

    fn edr(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_edr"))
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .expect("edr runs")
    }
}

fn lines(bytes: &[u8]) -> Vec<Json> {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn ids(output: &Output) -> Vec<String> {
    lines(&output.stdout).iter().map(|line| line["rule_id"].as_str().expect("an id").to_owned()).collect()
}

fn sysmon_start(command_line: &str) -> String {
    json!({
        "Event": {
            "System": {
                "Provider": {"#attributes": {"Name": "Microsoft-Windows-Sysmon"}},
                "EventID": 1,
                "EventRecordID": 77,
                "Channel": "Microsoft-Windows-Sysmon/Operational",
                "TimeCreated": {"#attributes": {"SystemTime": "2024-05-06T07:08:09.5Z"}},
            },
            "EventData": {"Image": EXEC, "CommandLine": command_line},
        }
    })
    .to_string()
}

#[test]
fn a_detection_is_one_line_with_all_that_was_promised() {
    let folder = Folder::new();
    let log = format!("{}\n{}\n", sysmon_start("powershell"), sysmon_start("powershell -enc AAAA"));
    folder.file("rules/a.yml", PROCESS_RULE).file("log.ndjson", log);
    let output = folder.edr(&["replay", "-rules", "rules", "--stats", "log.ndjson"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(
        lines(&output.stdout),
        [json!({
            "file": "log.ndjson",
            "record": 2,
            "rule_id": "00000000-0000-4000-8000-000000000001",
            "title": "Encoded PowerShell",
            "level": "high",
            "attack": ["T1059.001"],
            "time": "2024-05-06T07:08:09.500000000Z",
        })]
    );
    let stats = err(&output);
    for word in ["events: 2\n", "rules loaded: 1 ", "detections: 1\n", "events/s: ", "seconds: "] {
        assert!(stats.contains(word), "{word} in {stats}");
    }
}

#[test]
fn the_same_event_is_found_in_every_form_of_log() {
    let folder = Folder::new();
    let line = "powershell -enc AAAA";
    let security = json!({
        "EventID": 4688, "Channel": "Security", "Provider_Name": "Microsoft-Windows-Security-Auditing",
        "NewProcessName": EXEC, "CommandLine": line,
    });
    let winlogbeat = json!({
        "@timestamp": "2024-05-06T07:08:09.5Z",
        "winlog": {"channel": "Microsoft-Windows-Sysmon/Operational", "event_id": 1, "event_data": {"Image": EXEC, "CommandLine": line}},
    });
    let ecs = json!({
        "event": {"kind": "event", "category": ["process"], "type": ["start"]},
        "host": {"os": {"type": "windows"}},
        "process": {"executable": EXEC, "command_line": line},
    });
    let stated = json!({
        "logsource": {"product": "windows", "category": "process_creation", "service": "sysmon"}, "Image": EXEC, "CommandLine": line,
    });
    let xml = format!(
        "<?xml version=\"1.0\"?><Events><Event xmlns=\"http://schemas.microsoft.com/win/2004/08/events/event\"><System>\
         <Provider Name=\"Microsoft-Windows-Sysmon\"/><EventID>1</EventID><EventRecordID>9</EventRecordID>\
         <Channel>Microsoft-Windows-Sysmon/Operational</Channel></System><EventData><Data Name=\"Image\">{EXEC}</Data>\
         <Data Name=\"CommandLine\">{line}</Data></EventData></Event></Events>"
    );
    folder
        .file("rules/a.yml", PROCESS_RULE)
        .file("logs/1-security.json", format!("[\n{security}\n]\n"))
        .file("logs/2-winlogbeat.ndjson", winlogbeat.to_string())
        .file("logs/3-ecs.ndjson", ecs.to_string())
        .file("logs/4-stated.ndjson", stated.to_string())
        .file("logs/5-export.xml", xml)
        .file("logs/6-wrong-name.evtx", sysmon_start(line))
        .file("logs/README.md", "not a log");
    let output = folder.edr(&["replay", "--rules", "rules", "--threads", "3", "logs"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(err(&output), "");
    let found = lines(&output.stdout);
    let files: Vec<&str> = found.iter().map(|line| &line["file"].as_str().unwrap()[5..6]).collect();
    assert_eq!(files, ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(found[4]["record"], 9);
}

#[test]
fn windows_auditing_gives_sysmons_fields() {
    let folder = Folder::new();
    let rules = r"
title: run key
id: 00000000-0000-4000-8000-000000000002
logsource: {product: windows, category: registry_set}
detection:
  selection: {TargetObject|startswith: 'HKLM\Software', TargetObject|endswith: '\Run\x', Details: 'DWORD (0x0000000a)', EventType: SetValue}
  condition: selection
---
title: outbound
id: 00000000-0000-4000-8000-000000000003
logsource: {product: windows, category: network_connection}
detection:
  selection: {Initiated: 'true', DestinationIp|cidr: 10.0.0.0/8, DestinationPort: 445, Image|endswith: '\x.exe'}
  condition: selection
---
title: system
id: 00000000-0000-4000-8000-000000000004
logsource: {product: windows, category: process_creation}
detection:
  selection: {User: 'NT AUTHORITY\SYSTEM', IntegrityLevel: System, ParentImage|endswith: '\p.exe', LogonId: '0x3e7'}
  condition: selection
";
    let events = [
        json!({"EventID": 4657, "Channel": "Security", "ObjectName": r"\REGISTRY\MACHINE\SOFTWARE\Microsoft\Windows\CurrentVersion\Run", "ObjectValueName": "x",
               "NewValue": "10", "NewValueType": "%%1876", "OperationType": "%%1904"}),
        json!({"EventID": "4657", "Channel": "Security", "ObjectName": r"\REGISTRY\MACHINE\SOFTWARE\Run", "ObjectValueName": "x",
               "NewValue": "10", "NewValueType": "%%1876", "OperationType": "%%1906"}),
        json!({"EventID": 5156, "Channel": "Security", "Application": r"\device\harddiskvolume1\x.exe", "Direction": "%%14593", "DestAddress": "10.1.2.3", "DestPort": "445"}),
        json!({"EventID": 5156, "Channel": "Security", "Application": r"\device\harddiskvolume1\x.exe", "Direction": "%%14592", "DestAddress": "10.1.2.3", "DestPort": "445"}),
        json!({"EventID": 4688, "Channel": "Security", "SubjectUserName": "SYSTEM", "SubjectDomainName": "NT AUTHORITY", "MandatoryLabel": "S-1-16-16384",
               "ParentProcessName": r"C:\p.exe", "SubjectLogonId": "0x3e7"}),
    ];
    let log: String = events.iter().map(|event| format!("{event}\n")).collect();
    folder.file("rules/a.yml", rules).file("log.json", log);
    let output = folder.edr(&["replay", "--rules", "rules", "log.json"]);
    let found: Vec<_> = lines(&output.stdout)
        .iter()
        .map(|line| (line["record"].as_u64().unwrap(), line["title"].as_str().unwrap().to_owned()))
        .collect();
    let expected =
        [(1, "run key"), (3, "outbound"), (5, "system")].map(|(record, title)| (record, title.to_owned()));
    assert_eq!(found, expected, "{}", err(&output));
}

#[test]
fn audit_logs_are_judged_as_auditd_and_as_processes() {
    let folder = Folder::new();
    let rules = "
title: audit
id: 00000000-0000-4000-8000-000000000005
logsource: {product: linux, service: auditd}
detection:
  selection: {type: EXECVE, a0: nc, a1: '-e'}
  condition: selection
---
title: process
id: 00000000-0000-4000-8000-000000000006
logsource: {product: linux, category: process_creation}
detection:
  selection: {Image|endswith: /nc, CommandLine|contains: ' -e /bin/sh'}
  condition: selection
---
title: both
id: 00000000-0000-4000-8000-000000000007
logsource: {product: linux}
detection:
  keywords: [/bin/sh]
  condition: keywords
---
title: memfd
id: 00000000-0000-4000-8000-000000000008
logsource: {product: linux, service: auditd}
detection:
  selection: {type: SYSCALL, SYSCALL: memfd_create}
  condition: selection
";
    let log = "\
type=SYSCALL msg=audit(1700000000.100:7): arch=c000003e syscall=59 success=yes pid=11 exe=\"/usr/bin/nc\"
type=EXECVE msg=audit(1700000000.100:7): argc=3 a0=\"nc\" a1=\"-e\" a2=\"/bin/sh\"
type=PROCTITLE msg=audit(1700000000.100:7): proctitle=6E63
type=SYSCALL msg=audit(1700000003.000:8): arch=c000003e syscall=319 success=yes pid=12 exe=\"/tmp/x\"
";
    folder.file("rules/a.yml", rules).file("audit.log", log);
    let output = folder.edr(&["replay", "--rules", "rules", "audit.log"]);
    let ends: Vec<String> = ids(&output).iter().map(|id| id[35..].to_owned()).collect();
    assert_eq!(ends, ["5", "7", "6", "8"], "{}", err(&output));
}

#[test]
fn a_record_that_is_auditd_and_a_process_counts_once_for_a_correlation() {
    let folder = Folder::new();
    let rules = "
title: both
name: both
id: 00000000-0000-4000-8000-000000000007
logsource: {product: linux}
detection:
  keywords: [/bin/sh]
  condition: keywords
---
title: two
id: 00000000-0000-4000-8000-000000000002
level: high
correlation: {type: event_count, rules: [both], timespan: 1m, condition: {gte: 2}}
";
    let run = |second: u32| {
        format!(
            "type=SYSCALL msg=audit(170000000{second}.100:{second}): arch=c000003e syscall=59 success=yes pid=11 exe=\"/usr/bin/nc\"\n\
             type=EXECVE msg=audit(170000000{second}.100:{second}): argc=3 a0=\"nc\" a1=\"-e\" a2=\"/bin/sh\"\n\
             type=PROCTITLE msg=audit(170000000{second}.100:{second}): proctitle=6E63\n"
        )
    };
    folder.file("rules/a.yml", rules).file("one.log", run(1)).file("two.log", run(1) + &run(2));
    let found = |log: &str| ids(&folder.edr(&["replay", "--rules", "rules", log]));
    assert_eq!(found("one.log"), Vec::<String>::new());
    assert_eq!(found("two.log"), ["00000000-0000-4000-8000-000000000002"]);
}

#[test]
fn our_own_output_is_judged_as_it_was_live() {
    let folder = Folder::new();
    let native = r#"{"id": "n1", "name": "dash", "type": "process", "severity": "medium", "conditions": ["name = 'dash' and args contains 'id'"], "actions": ["alert"]}"#;
    let sigma = "
title: shell
id: 00000000-0000-4000-8000-000000000009
logsource: {product: linux, category: process_creation}
detection:
  selection: {Image|endswith: /dash, CommandLine|contains: ' -c id', ParentImage|contains: nginx}
  condition: selection
";
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/examples");
    folder.file("rules/a.json", native).file("rules/b.yml", sigma);
    let examples = examples.to_str().expect("UTF-8");
    let output = folder.edr(&["replay", "--rules", "rules", "--stats", examples]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let found = lines(&output.stdout);
    let start = |line: &&Json| line["file"].as_str().unwrap().ends_with("process_start_linux.json");
    let ids: Vec<&str> = found.iter().filter(start).map(|line| line["rule_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["n1", "00000000-0000-4000-8000-000000000009"], "{found:?}");
    assert_eq!(found.iter().find(start).unwrap()["time"], "2026-11-21T21:35:03.000000042Z");
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_judged() {
    let folder = Folder::new();
    let good = sysmon_start("powershell -enc AAAA");
    let mut broken = format!("{good}\n{{\"cut\": \n").into_bytes();
    broken.extend_from_slice(b"\xff\xfe\n");
    broken.extend_from_slice(format!("{good}\n").as_bytes());
    folder
        .file("rules/a.yml", PROCESS_RULE)
        .file("rules/bad.yml", "title: x\nlogsource: [\n")
        .file("logs/broken.ndjson", broken)
        .file("logs/empty.evtx", "")
        .file("logs/picture.evtx", b"\x89PNG\r\n\x1a\n")
        .file("logs/cut.evtx", b"ElfFile\0cut");
    let output = folder.edr(&["replay", "--rules", "rules", "--json-errors", "logs"]);
    assert_eq!(output.status.code(), Some(1), "records are missing");
    assert_eq!(lines(&output.stdout).iter().map(|line| line["record"].clone()).collect::<Vec<_>>(), [1, 4]);
    let problems = lines(&output.stderr);
    let kinds: Vec<(String, String)> = problems
        .iter()
        .filter(|problem| problem["kind"].is_string())
        .map(|problem| {
            (problem["file"].as_str().unwrap().to_owned(), problem["kind"].as_str().unwrap().to_owned())
        })
        .collect();
    let expected = [
        ("logs/broken.ndjson", "cut"),
        ("logs/broken.ndjson", "bad_record"),
        ("logs/cut.evtx", "cut"),
        ("logs/empty.evtx", "empty"),
        ("logs/picture.evtx", "unknown_format"),
    ];
    assert_eq!(kinds, expected.map(|(file, kind)| (file.to_owned(), kind.to_owned())));
    assert!(problems.iter().any(|problem| problem["file"] == "rules/bad.yml"), "{problems:?}");
    let output = folder.edr(&["replay", "--rules", "rules", "logs/broken.ndjson"]);
    let told = err(&output);
    assert!(told.contains("logs/broken.ndjson: record 2, byte "), "{told}");
    assert!(told.contains("; hint: "), "{told}");
}

#[test]
fn mappings_of_users_win() {
    let folder = Folder::new();
    let event = json!({"app": {"exe": EXEC, "args": "powershell -enc A"}, "sensor": "mine"});
    let names = "[[path]]\nfrom = \"app.exe\"\nto = [\"Image\"]\n[[path]]\nfrom = \"app.args\"\nto = [\"CommandLine\"]\n";
    let sources = "sources:\n  - {product: windows, category: process_creation, when: {sensor: mine}}\n";
    folder
        .file("rules/a.yml", PROCESS_RULE)
        .file("log.json", event.to_string())
        .file("names.toml", names)
        .file("sources.yml", sources)
        .file("wrong.toml", "[[path]]\nfrm = 1\n");
    let run = |mappings: &[&str]| {
        let mut arguments = vec!["replay", "--rules", "rules", "log.json"];
        arguments.extend(mappings.iter().flat_map(|mapping| ["--mapping", mapping]));
        folder.edr(&arguments)
    };
    assert_eq!(ids(&run(&[])).len(), 0);
    let output = run(&["names.toml", "sources.yml"]);
    assert_eq!(ids(&output).len(), 1, "{}", err(&output));
    let output = run(&["wrong.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("wrong.toml:2:1: "), "{}", err(&output));
    assert_eq!(run(&["log.json"]).status.code(), Some(2));
}

#[test]
fn the_order_does_not_depend_on_the_threads() {
    let folder = Folder::new();
    folder.file("rules/a.yml", PROCESS_RULE);
    for file in 0..40 {
        // Large and small files by turns, so that threads overtake each other.
        let count = if file % 3 == 0 { 2_000 } else { 3 };
        folder
            .file(&format!("logs/{file:02}.ndjson"), format!("{}\n", sysmon_start("x -enc y")).repeat(count));
    }
    let run =
        |threads: &str| folder.edr(&["replay", "--rules", "rules", "--threads", threads, "logs"]).stdout;
    let one = run("1");
    let expected = 14 * 2_000 + 26 * 3;
    assert_eq!(one.iter().filter(|byte| **byte == b'\n').count(), expected);
    for threads in ["2", "4", "8"] {
        assert!(run(threads) == one, "{threads} threads give another order");
    }
}

#[test]
fn correlations_are_counted_in_the_order_of_the_files_whatever_the_threads() {
    let folder = Folder::new();
    let correlation = "---\ntitle: Many\nid: many\ncorrelation:\n  type: event_count\n  \
                       rules: [00000000-0000-4000-8000-000000000001]\n  timespan: 1d\n  condition: {gte: 2000}\n";
    folder.file("rules/a.yml", format!("{PROCESS_RULE}{correlation}"));
    for file in 0..12 {
        // The large ones take longest, so that threads would come to the small ones first.
        let count = if file % 2 == 0 { 1_999 } else { 1 };
        folder
            .file(&format!("logs/{file:02}.ndjson"), format!("{}\n", sysmon_start("x -enc y")).repeat(count));
    }
    let output = folder.edr(&["replay", "--rules", "rules", "--threads", "4", "logs"]);
    let files: Vec<String> =
        lines(&output.stdout).iter().map(|line| line["file"].as_str().expect("a file").to_owned()).collect();
    let expected: Vec<String> = (0..6).map(|nth| format!("logs/{:02}.ndjson", 2 * nth + 1)).collect();
    assert_eq!(files, expected, "each second file completes what the one before it began");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let folder = Folder::new();
    folder.file("rules/a.yml", PROCESS_RULE);
    folder.file("log.ndjson", format!("{}\n", sysmon_start("x -enc y")).repeat(50_000));
    let mut edr = Command::new(env!("CARGO_BIN_EXE_edr"))
        .args(["replay", "--rules", "rules", "log.ndjson"])
        .current_dir(folder.0.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("edr runs");
    drop(edr.stdout.take());
    let output = edr.wait_with_output().expect("edr ends");
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
}

#[test]
fn a_wrong_command_line_is_told() {
    let folder = Folder::new();
    folder.file("rules/a.yml", PROCESS_RULE).file("log.ndjson", "{}");
    for (arguments, words) in [
        (&["replay", "log.ndjson"][..], "no rules given"),
        (&["replay", "--rules", "rules"], "no logs given"),
        (&["replay", "--rules", "rules", "gone.evtx"], "can't be read"),
        (&["replay", "--rules", "rules", "--threads", "0", "log.ndjson"], "1 to 256"),
        (&["replay", "--rules", "rules", "--stat", "log.ndjson"], "did you mean `--stats`?"),
        (&["replay", "--rules", "log.ndjson", "log.ndjson"], "no rule could be loaded"),
    ] {
        let output = folder.edr(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(err(&output).contains(words), "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn behaviours_of_process_trees_are_found_in_the_agents_own_output() {
    let folder = Folder::new();
    let behaviours = json!({
        "settings": { "thresholds": { "high": 60 } },
        "behaviours": [
            { "id": "copy", "name": "Copied", "weight": 30, "conditions": ["name = 'cp'"] },
            { "id": "run", "name": "Ran", "weight": 40, "rule": "ran-x" },
        ],
    });
    let rule = r#"{"id": "ran-x", "name": "x", "type": "process", "severity": "low", "conditions": ["name = 'x'"], "actions": ["log"]}"#;
    folder.file("rules/own.behaviour.json", behaviours.to_string()).file("rules/x.json", rule);
    let start = |second: u32, pid: u32, name: &str| {
        let entity = |pid: u32| format!("00000000-{pid}-1");
        json!({
            "@timestamp": format!("2026-11-21T20:15:{second:02}Z"),
            "rampart": { "event": { "type": "process_start" } },
            "process": { "entity_id": entity(pid), "name": name, "parent": { "entity_id": entity(10) } },
        })
    };
    let log = format!("{}\n{}\n", start(1, 11, "cp"), start(2, 12, "x"));
    folder.file("one.ndjson", &log).file("two.ndjson", start(3, 13, "x").to_string());
    let output = folder.edr(&["replay", "--rules", "rules", "one.ndjson", "two.ndjson"]);
    assert_eq!(
        ids(&output),
        ["ran-x", "rampart.behaviour.high", "ran-x"],
        "each log by itself: {}",
        err(&output)
    );
    let wrong = behaviours.to_string().replace("weight", "wait");
    folder.file("rules/own.behaviour.json", wrong);
    let checked = folder.edr(&["rules", "check", "rules"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(err(&checked).contains("own.behaviour.json:1:"), "{}", err(&checked));
}
