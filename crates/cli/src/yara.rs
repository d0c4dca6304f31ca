//! `edr yara scan`: which YARA rules match files, folders, or the memory of processes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use file_scan::{
    CompiledYara, ContentUnread, FileType, LastSymlink, ProcessMemory, RegularFile, ScanLimits, ScanSubject,
    YaraRules, YaraScan, YaraSources,
};
use rule_engine::Diagnostic;
use serde_json::{Value, json};

use crate::arguments::{Usage, parser};
use crate::{Outcome, print};

const FLAGS: &[&str] = &["rules", "pid", "max-mib", "timeout", "help"];
/// How deep folders may stand in each other.
const FOLDER_DEPTH_LIMIT: usize = 64;
/// First bytes by which the type of a file is known.
const HEAD_BYTES: usize = 4_096;
/// Most that `--max-mib` takes.
const MOST_MIB: u64 = 1 << 14;

struct Options {
    rules: Vec<PathBuf>,
    paths: Vec<PathBuf>,
    pids: Vec<u32>,
    limits: ScanLimits,
}

/// Scans what is named. One NDJSON line for each match goes to stdout, what could not be
/// scanned and the counts to stderr. Code 1 where something matched or a rule is bad.
pub(crate) fn scan(arguments: Vec<OsString>) -> anyhow::Result<Outcome> {
    let options = options(arguments)?;
    let sources = YaraSources::read(&options.rules);
    let CompiledYara { rules, diagnostics } = YaraRules::compile(&sources.texts);
    let mut bad_rules = 0;
    for diagnostic in sources.diagnostics.iter().chain(&diagnostics) {
        bad_rules += usize::from(diagnostic.is_error());
        show(diagnostic, &sources)?;
    }
    if rules.is_empty() {
        return Err(Usage::new("no YARA rules found", "rule files end in `.yar` or `.yara`").into());
    }
    let mut work = Work { rules, limits: options.limits, scanned: 0, matches: 0, unread: 0, incomplete: 0 };
    let mut files = BTreeSet::new();
    for path in &options.paths {
        work.gather(path, FOLDER_DEPTH_LIMIT, &mut files)?;
    }
    for path in &files {
        work.file(path)?;
    }
    for pid in options.pids {
        work.process(pid)?;
    }
    let Work { rules, scanned, matches, unread, incomplete, .. } = work;
    eprintln!(
        "{scanned} scanned with {} rules: {matches} matches; {unread} not read, {incomplete} incomplete, {bad_rules} errors in \
         rules",
        rules.len()
    );
    Ok(if matches == 0 && bad_rules == 0 { Outcome::Success } else { Outcome::Findings })
}

fn show(diagnostic: &Diagnostic, sources: &YaraSources) -> anyhow::Result<()> {
    let text = sources.texts.iter().find(|text| text.name == *diagnostic.file);
    let rendered = diagnostic.render(text.map_or("", |text| &text.text));
    Ok(std::io::stderr().write_all(rendered.as_bytes())?)
}

fn options(arguments: Vec<OsString>) -> anyhow::Result<Options> {
    let mut options = Options {
        rules: Vec::new(),
        paths: Vec::new(),
        pids: Vec::new(),
        limits: ScanLimits {
            max_bytes: 256 << 20,
            timeout: Duration::from_secs(60),
            ..ScanLimits::default()
        },
    };
    let mut parser = parser(arguments);
    let wrong =
        |error: lexopt::Error| Usage::new(error.to_string(), "`edr yara scan --help` shows the flags");
    let number = |flag: &str, value: OsString, most: u64| {
        let number = value.to_str().and_then(|text| text.parse::<u64>().ok());
        number.filter(|number| (1..=most).contains(number)).ok_or_else(|| {
            Usage::new(
                format!("`--{flag} {}` can't be used", value.to_string_lossy()),
                format!("write a number from 1 to {most}"),
            )
        })
    };
    while let Some(argument) = parser.next().map_err(wrong)? {
        match argument {
            lexopt::Arg::Value(path) => options.paths.push(path.into()),
            lexopt::Arg::Long("rules") => options.rules.push(parser.value().map_err(wrong)?.into()),
            lexopt::Arg::Long("pid") => {
                let pid = number("pid", parser.value().map_err(wrong)?, u32::MAX.into())?;
                options.pids.push(u32::try_from(pid).unwrap_or(u32::MAX));
            }
            lexopt::Arg::Long("max-mib") => {
                options.limits.max_bytes = number("max-mib", parser.value().map_err(wrong)?, MOST_MIB)? << 20;
            }
            lexopt::Arg::Long("timeout") => {
                let seconds = number("timeout", parser.value().map_err(wrong)?, 86_400)?;
                options.limits.timeout = Duration::from_secs(seconds);
            }
            lexopt::Arg::Long(other) => return Err(Usage::unknown_flag(other, FLAGS).into()),
            lexopt::Arg::Short(other) => {
                return Err(Usage::unknown_flag(&other.to_string(), FLAGS).into());
            }
        }
    }
    if options.rules.is_empty() {
        return Err(Usage::new("no rules given", "write `edr yara scan --rules FILE_OR_FOLDER …`").into());
    }
    if options.paths.is_empty() && options.pids.is_empty() {
        return Err(Usage::new("nothing to scan given", "name files or folders, or write `--pid PID`").into());
    }
    Ok(options)
}

struct Work {
    rules: YaraRules,
    limits: ScanLimits,
    scanned: u64,
    matches: u64,
    unread: u64,
    incomplete: u64,
}

impl Work {
    /// The regular files of a folder and those within; links are not followed.
    fn gather(
        &mut self,
        path: &Path,
        depth_left: usize,
        files: &mut BTreeSet<PathBuf>,
    ) -> anyhow::Result<()> {
        let metadata = fs::symlink_metadata(path).map_err(|error| {
            Usage::new(format!("`{}` can't be read: {error}", path.display()), "check the path")
        })?;
        if !metadata.is_dir() {
            files.insert(path.to_owned());
            return Ok(());
        }
        let Ok(entries) = fs::read_dir(path) else {
            self.not_read(&path.display().to_string(), "unreadable");
            return Ok(());
        };
        for entry in entries.flatten() {
            match entry.file_type() {
                // What is gone by now is no error.
                Ok(kind) if kind.is_dir() && depth_left > 0 && entry.path().exists() => {
                    self.gather(&entry.path(), depth_left - 1, files)?;
                }
                Ok(kind) if kind.is_file() => {
                    files.insert(entry.path());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        let shown = path.display().to_string();
        let scanned = RegularFile::open(path, LastSymlink::Refuse).and_then(|file| {
            let mut head = vec![0; HEAD_BYTES];
            let read = file.read_at(&mut head, 0).unwrap_or(0);
            let file_type = FileType::of(&head[..read]).kind.as_str();
            let subject = ScanSubject { path: Some(path), file_type, ..ScanSubject::default() };
            self.rules.scan_file(&file, subject, &self.limits)
        });
        match scanned {
            Ok(scan) => self.tell(&scan, &json!({ "file": shown })),
            Err(ContentUnread::TooLarge) => {
                self.not_read(&shown, "too_large; `--max-mib` says how large a file may be");
                Ok(())
            }
            Err(reason) => {
                self.not_read(&shown, reason.as_str());
                Ok(())
            }
        }
    }

    fn process(&mut self, pid: u32) -> anyhow::Result<()> {
        match ProcessMemory::open(pid, self.limits.max_bytes) {
            Ok(memory) => {
                let scan = self.rules.scan_process(memory, &self.limits);
                self.tell(&scan, &json!({ "pid": pid }))
            }
            Err(reason) => {
                self.not_read(&format!("process {pid}"), reason.as_str());
                Ok(())
            }
        }
    }

    fn not_read(&mut self, what: &str, reason: &str) {
        self.unread += 1;
        eprintln!("{what}: not read: {reason}");
    }

    fn tell(&mut self, scan: &YaraScan, subject: &Value) -> anyhow::Result<()> {
        self.scanned += 1;
        self.matches += scan.matches.len() as u64;
        if let Some(reason) = scan.incomplete {
            self.incomplete += 1;
            eprintln!("{subject}: incomplete: {}", reason.as_str());
        }
        for one in &scan.matches {
            let strings = one.strings.iter().map(|string| {
                json!({
                    "identifier": format!("${}", string.name),
                    "offset": string.offset,
                    "length": string.length,
                    "data": string.data.escape_ascii().to_string(),
                })
            });
            let mut line = subject.clone();
            line["rule"] = json!(one.rule);
            line["namespace"] = json!(one.namespace);
            line["tags"] = json!(one.tags);
            line["description"] = json!(one.description());
            line["attack"] = json!(one.attack());
            line["strings"] = strings.collect();
            print(&format!("{line}\n"))?;
        }
        Ok(())
    }
}
