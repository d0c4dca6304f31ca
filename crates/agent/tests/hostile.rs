//! The real agent among those who mean it harm, and what it says of itself.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use event_model::EventType;
use serde_json::Value as Json;
use test_support::{AgentOptions, AgentProcess, can_load_bpf, skip, wait_for};

const LIMIT: Duration = Duration::from_secs(120);

/// An agent without a server that writes its events to a file.
struct Standalone {
    agent: AgentProcess,
    output: PathBuf,
}

impl Standalone {
    /// `None`, said aloud, where it would not see all that is asked for here.
    fn start(dir: &Path, arguments: &[&str]) -> Option<Self> {
        if !can_load_bpf() {
            skip("needs root and /sys/kernel/btf/vmlinux");
            return None;
        }
        let output = dir.join("events.ndjson");
        let mut all = vec!["-standalone".to_owned(), format!("-output={}", output.display())];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let agent = AgentProcess::start(AgentOptions { state: dir.join("state"), arguments: all });
        Some(Self { agent, output })
    }

    /// All lines so far; each has to be one record, but for the last, which may still be written.
    fn records(&self) -> Vec<Json> {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn wait_for(&self, what: &str, wanted: impl Fn(&Json) -> bool) -> Json {
        wait_for(what, LIMIT, || self.records().into_iter().find(&wanted))
    }

    fn wait_for_start(&self, executable: &str) -> Json {
        self.wait_for(executable, |record| {
            event_type(record) == "process_start" && record["process"]["executable"] == executable
        })
    }
}

fn event_type(record: &Json) -> &str {
    record["rampart"]["event"]["type"].as_str().unwrap_or_default()
}

/// A signal with whatever sender one likes: the kernel takes that from the one who sends it.
#[allow(unsafe_code, reason = "no safe wrapper sends a signal with information of one's own")]
fn send_as_if_from_init(pid: u32, signal: i32) {
    // As `siginfo_t`: signal, error, code, and from byte 16 on the sender's PID and user.
    let mut info = [0_u64; 16];
    let words =
        |low: i32, high: i32| u64::from(low.cast_unsigned()) | (u64::from(high.cast_unsigned()) << 32);
    info[0] = words(signal, 0);
    info[1] = words(libc::SI_QUEUE, 0);
    info[2] = words(1, 0);
    // SAFETY: `info` is as large and as aligned as a `siginfo_t`, and lives through the call.
    let sent = unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, pid, signal, info.as_ptr()) };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_signal_that_only_says_that_it_comes_from_init_is_told_of_and_not_heeded() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut standalone) = Standalone::start(dir.path(), &[]) else { return };
    send_as_if_from_init(standalone.agent.pid(), libc::SIGTERM);
    let told = standalone.wait_for("the forged signal", |record| {
        event_type(record) == "agent_tamper" && record["rampart"]["agent"]["tampered"] == "signal"
    });
    assert_eq!(told["rampart"]["signal"]["number"], 15, "{told}");
    assert!(told["user"].is_null(), "nobody knows by whom: {told}");
    let Standalone { agent, output } = standalone;
    agent.stop();
    let text = fs::read_to_string(output).unwrap();
    let stop: Json = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(event_type(&stop), "agent_stop");
    assert_eq!(stop["process"]["pid"], std::process::id(), "by the one who asked for it: {stop}");
}

#[test]
fn the_source_of_each_type_of_event_is_said_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut standalone) = Standalone::start(dir.path(), &["-debug"]) else { return };
    let said = standalone.agent.output();
    let sources: Vec<&str> = said.lines().filter_map(|line| Some(line.split_once("source: ")?.1)).collect();
    // What is made by the server, by another system, or by the agent of itself has no source to be named.
    let without = [
        EventType::AgentStart,
        EventType::AgentStop,
        EventType::AgentHealth,
        EventType::Gap,
        EventType::HostSilent,
        EventType::RegistryChange,
        EventType::EventLogRecord,
        EventType::ExecutionGate,
        EventType::ContainerStart,
    ];
    for event_type in EventType::ALL.iter().filter(|event_type| !without.contains(event_type)) {
        let of_type = format!("{event_type}=");
        let source = sources.iter().find_map(|line| line.strip_prefix(&of_type));
        assert!(source.is_some_and(|source| !source.is_empty()), "no source of {event_type}:\n{said}");
    }
    // The same stands in the event of the start, for those who are not at the console.
    let start = standalone.wait_for("the start", |record| event_type(record) == "agent_start");
    let told: Vec<&str> =
        start["rampart"]["agent"]["sources"].as_array().unwrap().iter().filter_map(Json::as_str).collect();
    for source in sources {
        assert!(told.contains(&source), "{source} is not in {told:?}");
    }
}

#[test]
fn names_and_arguments_that_would_break_a_line_are_told_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let Some(standalone) = Standalone::start(dir.path(), &[]) else { return };
    let folder = dir.path().canonicalize().unwrap().join("new\nline \u{1b}[2J\u{202e}dir");
    fs::create_dir(&folder).unwrap();
    let program = folder.join("pro\ngram\t\"{'\u{7}\\");
    test_support::copy_program("/bin/true", &program, "");
    let arguments = ["a\nb", "\u{1b}]0;title\u{7}", "\"}\n{\"event\":{\"kind\":\"alert\"}}", "\\n", "", "\r"];
    let raw = OsStr::from_bytes(b"\xff\n\xfe");
    assert!(Command::new(&program).args(arguments).arg(raw).status().unwrap().success());
    let path = program.to_str().unwrap();
    let start = standalone.wait_for_start(path);
    let mut expected = vec![path];
    expected.extend(arguments);
    expected.push("\\xff\n\\xfe");
    assert_eq!(start["process"]["args"], Json::from(expected));
    assert_eq!(start["rampart"]["process"]["args_truncated"], false, "{start}");
    // A record that was written into an argument is none.
    let forged = |record: &Json| record["event"]["kind"] == "alert" && record["rule"]["id"].is_null();
    assert!(!standalone.records().iter().any(forged));
    standalone.agent.stop();
}

#[test]
fn two_megabytes_of_arguments_are_cut_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let Some(standalone) = Standalone::start(dir.path(), &[]) else { return };
    let program = dir.path().canonicalize().unwrap().join("much-to-say");
    test_support::copy_program("/bin/true", &program, "");
    // The kernel takes 128 KiB for one argument, and a quarter of the stack's limit, mostly 8 MiB, for all.
    let long = "x".repeat(131_000);
    let many = 15;
    let mut command = Command::new(&program);
    command.env_clear().args(std::iter::repeat_n(&long, many));
    assert!(command.status().unwrap().success());
    let path = program.to_str().unwrap();
    let start = standalone.wait_for_start(path);
    let process = &start["rampart"]["process"];
    assert_eq!(process["args_truncated"], true);
    assert_eq!(process["args_bytes"], path.len() + 1 + many * (long.len() + 1));
    let line = start["process"]["command_line"].as_str().unwrap();
    assert!(line.starts_with(&format!("{path} xxxx")) && line.len() < long.len());
    // Whoever comes after is told whole.
    let after = dir.path().canonicalize().unwrap().join("little-to-say");
    test_support::copy_program("/bin/true", &after, "");
    assert!(Command::new(&after).arg("y").status().unwrap().success());
    let start = standalone.wait_for_start(after.to_str().unwrap());
    assert_eq!(start["rampart"]["process"]["args_truncated"], false, "{start}");
    standalone.agent.stop();
}
