//! Which format a log has, by its content.

use crate::problem::{Problem, ProblemKind};

/// How much of a file is looked at, in bytes.
pub(crate) const SNIFF_BYTES: u64 = 64 * 1024;
/// How much of a file is enough to know EVTX by, in bytes: its header and the mark of the first chunk.
pub(crate) const BINARY_SNIFF_BYTES: u64 = 4104;

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// The file format of the Windows event log.
    Evtx,
    /// One JSON object on each line.
    JsonLines,
    /// An array of JSON objects, one object, or several behind each other, over many lines.
    JsonDocuments,
    /// The log of the Linux audit daemon.
    Auditd,
    /// `<Event>` elements, as `wevtutil` exports them.
    EventXml,
}

/// The format, or why there is none.
pub(crate) fn sniff(start: &[u8]) -> Result<LogFormat, Problem> {
    if start.is_empty() {
        return Err(problem(ProblemKind::Empty, "the file is empty".to_owned(), "there is nothing to read"));
    }
    if is_evtx(start) {
        return Ok(LogFormat::Evtx);
    }
    let unknown = |reason: &str, hint| problem(ProblemKind::UnknownFormat, reason.to_owned(), hint);
    match start {
        [0x1f, 0x8b, ..] => return Err(unknown("a gzip file", "unpack it with `gunzip`")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return Err(unknown("a zstd file", "unpack it with `unzstd`")),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => return Err(unknown("a zip file", "unpack it with `unzip`")),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            let hint = "convert it with `iconv -f UTF-16 -t UTF-8`";
            return Err(unknown("UTF-16 text; logs are read as UTF-8", hint));
        }
        _ => {}
    }
    // A damaged header: chunks stand at fixed places, so what is in them can be read.
    if start.get(4096..4104) == Some(b"ElfChnk\0") {
        return Ok(LogFormat::Evtx);
    }
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    if text.is_empty() {
        return Err(problem(
            ProblemKind::Empty,
            "the file has only blanks".to_owned(),
            "there is nothing to read",
        ));
    }
    let mut lines = text.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default().trim_ascii();
    match first {
        [b'[', ..] => return Ok(LogFormat::JsonDocuments),
        [b'{', .., b'}'] => return Ok(LogFormat::JsonLines),
        [b'{', ..] => {
            let no_more_lines = first.len() == text.trim_ascii_end().len();
            let next_is_object = lines.next().is_some_and(|line| line.starts_with(b"{"));
            let lines = no_more_lines || next_is_object;
            return Ok(if lines { LogFormat::JsonLines } else { LogFormat::JsonDocuments });
        }
        [b'<', ..] if contains(text, b"<Event") => return Ok(LogFormat::EventXml),
        _ => {}
    }
    if std::iter::once(first).chain(lines.take(50)).any(is_audit_line) {
        return Ok(LogFormat::Auditd);
    }
    // One damaged line at the start is no reason to give up.
    let objects = text.split(|byte| *byte == b'\n').skip(1).take(50).filter(|line| line.starts_with(b"{\""));
    if objects.count() > 0 {
        return Ok(LogFormat::JsonLines);
    }
    let beginning: String = String::from_utf8_lossy(&text[..text.len().min(16)]).escape_debug().collect();
    Err(problem(
        ProblemKind::UnknownFormat,
        format!("no known log: it begins with `{beginning}`"),
        "EVTX, event XML, NDJSON, JSON and auditd logs are read",
    ))
}

/// By its first bytes alone.
pub(crate) fn is_evtx(start: &[u8]) -> bool {
    start.starts_with(b"ElfFile\0") || start.starts_with(b"ElfChnk\0")
}

pub(crate) fn is_audit_line(line: &[u8]) -> bool {
    (line.starts_with(b"type=") || line.starts_with(b"node=")) && contains(line, b"msg=audit(")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(bytes, part).is_some()
}

fn problem(kind: ProblemKind, reason: String, hint: &'static str) -> Problem {
    Problem { kind, record: None, byte: 0, reason, hint }
}
