//! The log of the Linux audit daemon. Several lines with one serial number are one event;
//! they are joined, so that a rule can ask for the program (SYSCALL), its arguments
//! (EXECVE) and its files (PATH) at once. A field that stands in several of them has
//! several values, `type` first of all.

mod record;
mod syscalls;

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::ControlFlow;

use event_model::Timestamp;

use crate::consumer::{AuditKind, LogConsumer};
use crate::decoder::{LogDecoder, RECORD_LIMIT};
use crate::json_lines::too_long;
use crate::lines::{Line, Lines};
use crate::path_tree::Place;
use crate::problem::{Problem, ProblemKind};
use record::{AuditLine, AuditValue, parse_line, parse_pairs};
use syscalls::{Architecture, syscall_name};

/// Events that are open at once. The kernel writes the lines of one event nearly
/// together; an event that is older than this many others is whole.
const OPEN_LIMIT: usize = 64;
/// Lines of one event. An `execve` with many arguments has the most.
const EVENT_LINES_LIMIT: usize = 4_096;
/// An event is whole when the log is this much further.
const OPEN_NANOS: i64 = 2_000_000_000;

/// An event whose lines are still coming.
struct OpenEvent {
    node: Vec<u8>,
    stamp: Vec<u8>,
    time: Timestamp,
    record: u64,
    byte: u64,
    /// Its lines, each with a line feed.
    lines: Vec<u8>,
    count: usize,
    whole: bool,
}

pub(crate) fn read<C: LogConsumer>(
    input: &mut impl Read,
    decoder: &mut LogDecoder<C>,
) -> io::Result<ControlFlow<()>> {
    let mut lines = Lines::new(input);
    let mut open: VecDeque<OpenEvent> = VecDeque::new();
    let mut joiner = Joiner::default();
    let mut number = 0;
    while let Some(line) = lines.next()? {
        number += 1;
        match line {
            Line::TooLong { length, byte } => decoder.problem(too_long(number, byte, length)),
            Line::Whole { bytes, byte, ended } => match parse_line(bytes) {
                _ if bytes.iter().all(u8::is_ascii_whitespace) => {}
                Some(line) => take_line(&mut open, &line, bytes, number, byte, decoder),
                None => {
                    let kind = if ended { ProblemKind::BadRecord } else { ProblemKind::Cut };
                    let reason = "no audit record: it needs `type=… msg=audit(TIME:SERIAL):`".to_owned();
                    let hint = "the line was left out";
                    decoder.problem(Problem { kind, record: Some(number), byte, reason, hint });
                }
            },
        }
        while open.front().is_some_and(|event| event.whole) || open.len() > OPEN_LIMIT {
            let Some(event) = open.pop_front() else { break };
            if joiner.join(&event, decoder).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    for event in open {
        if joiner.join(&event, decoder).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn take_line<C: LogConsumer>(
    open: &mut VecDeque<OpenEvent>,
    line: &AuditLine<'_>,
    bytes: &[u8],
    record: u64,
    byte: u64,
    decoder: &mut LogDecoder<C>,
) {
    // What lies far enough back is whole.
    for event in open.iter_mut() {
        event.whole |= line.time.as_nanos().saturating_sub(event.time.as_nanos()) > OPEN_NANOS;
    }
    let same = |event: &OpenEvent| event.node == line.node && event.stamp == line.stamp && !event.whole;
    let place = open.iter().rposition(same).unwrap_or_else(|| {
        let (node, stamp, time) = (line.node.to_vec(), line.stamp.to_vec(), line.time);
        let lines = Vec::new();
        open.push_back(OpenEvent { node, stamp, time, record, byte, lines, count: 0, whole: false });
        open.len() - 1
    });
    let event = &mut open[place];
    if event.count >= EVENT_LINES_LIMIT || event.lines.len() + bytes.len() > RECORD_LIMIT {
        event.whole = true;
        let reason = format!("an event of more than {EVENT_LINES_LIMIT} lines or {RECORD_LIMIT} bytes");
        let hint = "its further lines are judged as another event";
        let (kind, record) = (ProblemKind::TooLarge, Some(record));
        decoder.problem(Problem { kind, record, byte, reason, hint });
    }
    event.lines.extend_from_slice(bytes);
    event.lines.push(b'\n');
    event.count += 1;
    event.whole |= line.ends_event();
}

/// What is collected over the lines of one event; its memory is used again.
#[derive(Default)]
struct Joiner {
    arguments: Vec<String>,
    /// The argument that comes in pieces (`a1[0]=`, `a1[1]=`), by its number.
    pieces: Option<(usize, String)>,
    value: String,
    executable: String,
    directory: String,
    process_title: String,
    created: Vec<String>,
    address: Option<(String, u16)>,
    pid: String,
    parent_pid: String,
    user: String,
    syscall: Option<&'static str>,
    executed: bool,
}

impl Joiner {
    fn clear(&mut self) {
        self.arguments.clear();
        self.pieces = None;
        for text in [
            &mut self.executable,
            &mut self.directory,
            &mut self.process_title,
            &mut self.pid,
            &mut self.parent_pid,
            &mut self.user,
        ] {
            text.clear();
        }
        self.created.clear();
        self.address = None;
        self.syscall = None;
        self.executed = false;
    }

    /// Hands the event to the consumer.
    fn join<C: LogConsumer>(&mut self, event: &OpenEvent, decoder: &mut LogDecoder<C>) -> ControlFlow<()> {
        self.clear();
        decoder.begin();
        let mut fields = Fields { decoder, previous: Place::NONE };
        for (index, line) in event.lines.split(|byte| *byte == b'\n').enumerate() {
            if std::str::from_utf8(line).is_err() {
                let (record, byte) = (Some(event.record + index as u64), event.byte);
                let reason = "bytes that are not UTF-8; each was read as U+FFFD".to_owned();
                let (kind, hint) = (ProblemKind::NotUtf8, "check what wrote the line");
                fields.decoder.problem(Problem { kind, record, byte, reason, hint });
            }
            if let Some(line) = parse_line(line) {
                self.line(&line, &mut fields);
            }
        }
        self.end_pieces(&mut fields);
        let kind = self.put_sigma_names(&mut fields);
        decoder.finish_audit(event.record, event.byte, event.time, kind)
    }

    fn line<C: LogConsumer>(&mut self, line: &AuditLine<'_>, fields: &mut Fields<'_, C>) {
        fields.put("type", line.kind);
        let mut architecture = Architecture::X86_64;
        let mut created = false;
        let mut path_name = String::new();
        parse_pairs(line.rest, &mut |name, value| {
            let mut text = std::mem::take(&mut self.value);
            value.read(line.kind, name, &mut text);
            match (line.kind, name) {
                ("EXECVE", "argc") => self.executed = true,
                ("EXECVE", _) if self.argument(name, value, &text, fields) => {
                    self.value = text;
                    return;
                }
                ("SYSCALL", "arch") => architecture = Architecture::from_audit(&text),
                ("SYSCALL", "syscall") => {
                    self.syscall = text.parse().ok().and_then(|number| syscall_name(architecture, number));
                }
                ("SYSCALL", "exe") => self.executable.clone_from(&text),
                ("SYSCALL", "pid") => self.pid.clone_from(&text),
                ("SYSCALL", "ppid") => self.parent_pid.clone_from(&text),
                ("SYSCALL", "UID") => self.user.clone_from(&text),
                ("SYSCALL", "uid") if self.user.is_empty() => self.user.clone_from(&text),
                ("CWD", "cwd") => self.directory.clone_from(&text),
                ("PROCTITLE", "proctitle") => self.process_title.clone_from(&text),
                ("PATH", "name") => path_name.clone_from(&text),
                ("PATH", "nametype") => created = text == "CREATE",
                ("SOCKADDR", "saddr") => self.address = record::socket_address(&text),
                _ => {}
            }
            fields.put(name, &text);
            self.value = text;
        });
        if created && self.created.len() < 64 {
            self.created.push(path_name);
        }
        if let ("SYSCALL", Some(name)) = (line.kind, self.syscall) {
            fields.put("SYSCALL", name);
        }
    }

    /// An argument of EXECVE; true where the value is a piece of one and no field itself.
    fn argument<C: LogConsumer>(
        &mut self,
        name: &str,
        value: &AuditValue<'_>,
        text: &str,
        fields: &mut Fields<'_, C>,
    ) -> bool {
        let Some(number) = name.strip_prefix('a') else { return false };
        if let Some((number, _)) = number.split_once('[') {
            let Ok(number) = number.parse::<usize>() else { return false };
            if self.pieces.as_ref().is_some_and(|(open, _)| *open != number) {
                self.end_pieces(fields);
            }
            let piece = self.pieces.get_or_insert_with(|| (number, String::new()));
            piece.1.push_str(text);
            return true;
        }
        if number.bytes().all(|digit| digit.is_ascii_digit()) && !value.is_empty_name() {
            self.end_pieces(fields);
            self.arguments.push(text.to_owned());
        }
        false
    }

    fn end_pieces<C: LogConsumer>(&mut self, fields: &mut Fields<'_, C>) {
        if let Some((number, text)) = self.pieces.take() {
            fields.put(&format!("a{number}"), &text);
            self.arguments.push(text);
        }
    }

    /// The names that rules for processes, files and connections use.
    fn put_sigma_names<C: LogConsumer>(&mut self, fields: &mut Fields<'_, C>) -> AuditKind {
        let kind = if self.executed {
            AuditKind::ProcessCreation
        } else if !self.created.is_empty() {
            AuditKind::FileCreation
        } else if self.address.is_some() && self.syscall == Some("connect") {
            AuditKind::NetworkConnection
        } else {
            return AuditKind::Other;
        };
        fields.put_known("Image", &self.executable);
        fields.put_known("ProcessId", &self.pid);
        fields.put_known("User", &self.user);
        match kind {
            AuditKind::ProcessCreation => {
                let line = self.arguments.join(" ");
                fields.put_known("CommandLine", if line.is_empty() { &self.process_title } else { &line });
                fields.put_known("CurrentDirectory", &self.directory);
                fields.put_known("ParentProcessId", &self.parent_pid);
            }
            AuditKind::FileCreation => {
                for name in &self.created {
                    let relative = !name.starts_with('/') && !self.directory.is_empty();
                    let directory = self.directory.trim_end_matches('/');
                    let path = if relative { format!("{directory}/{name}") } else { name.clone() };
                    fields.put_known("TargetFilename", &path);
                }
            }
            AuditKind::NetworkConnection => {
                if let Some((address, port)) = &self.address {
                    fields.put_known("DestinationIp", address);
                    fields.put_known("DestinationPort", &port.to_string());
                    fields.put_known("Initiated", "true");
                }
            }
            AuditKind::Other => {}
        }
        kind
    }
}

/// The fields of the event that is being joined.
struct Fields<'a, C: LogConsumer> {
    decoder: &'a mut LogDecoder<C>,
    previous: Place,
}

impl<C: LogConsumer> Fields<'_, C> {
    fn put(&mut self, name: &str, value: &str) {
        if let Some(place) = self.decoder.child(Place::ROOT, self.previous, name) {
            self.decoder.text(place, value);
            self.previous = place;
        }
    }

    fn put_known(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.put(name, value);
        }
    }
}
