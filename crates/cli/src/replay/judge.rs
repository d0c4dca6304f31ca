//! Takes a log's events and writes what the rules find.

use std::collections::HashMap;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;

use event_model::RuleReference;
use log_reader::{AuditKind, EventHead, LogConsumer, Origin, Problem, ProblemKind};
use rule_engine::{
    BehaviourEngine, Desk, EventBuffer, FieldId, LogSource, Phase, RuleHead, RuleSet, SourceId,
};
use serde::Serialize;

use super::inputs::Input;
use super::output::{OrderedOutput, Text};
use super::progress::Progress;
use super::sensor_event::SensorEvent;

/// Problems that are shown of one file; the others are counted.
const PROBLEMS_SHOWN: u64 = 20;
/// What a thread keeps of a file's output before it waits for the file's turn, in bytes.
const PART_BYTES: usize = 1 << 20;
/// Events between two looks at whether anybody still reads.
const EVENTS_BETWEEN_LOOKS: u64 = 1_024;

/// What was read and found.
#[derive(Debug, Default, Clone)]
pub(super) struct Counts {
    pub(super) events: u64,
    pub(super) detections: u64,
    /// Events of which no rule can be sure that they are meant.
    pub(super) without_source: u64,
    pub(super) problems: u64,
    pub(super) files: u64,
    pub(super) files_skipped: u64,
    pub(super) loses_records: bool,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.detections += other.detections;
        self.without_source += other.without_source;
        self.problems += other.problems;
        self.files += other.files;
        self.files_skipped += other.files_skipped;
        self.loses_records |= other.loses_records;
    }
}

/// What a line of output says of the rule.
#[derive(Serialize)]
struct Told<'r> {
    rule_id: &'r str,
    title: &'r str,
    level: &'r str,
    attack: &'r [String],
}

impl<'r> Told<'r> {
    fn of_rule(rule: &'r RuleHead) -> Self {
        let (rule_id, level) = (rule.id.as_str(), rule.severity.as_str());
        Self { rule_id, title: &rule.name, level, attack: &rule.attack }
    }

    fn of_finding(rule: &'r RuleReference) -> Self {
        let (rule_id, level) = (rule.id.as_str(), rule.severity.as_str());
        Self { rule_id, title: &rule.name, level, attack: &rule.attack }
    }

    /// Its members, without the braces around them.
    fn members(&self) -> Vec<u8> {
        // It has nothing that JSON lacks.
        let mut json = serde_json::to_vec(self).unwrap_or_default();
        json.pop();
        json.drain(..1.min(json.len()));
        json
    }
}

/// The file that is being read.
#[derive(Default)]
struct OpenFile {
    index: usize,
    name: String,
    /// The name in JSON.
    shown: String,
    bytes: u64,
    is_expected: bool,
    is_log: bool,
    problems: u64,
    text: Text,
}

pub(super) struct Judge<'r> {
    rules: &'r RuleSet,
    /// What the open file's process trees did.
    trees: BehaviourEngine,
    output: &'r OrderedOutput,
    progress: &'r Progress,
    json_errors: bool,
    buffer: EventBuffer,
    desk: Desk,
    auditd: Option<SourceId>,
    file: OpenFile,
    counts: Counts,
    /// What lines say of rules that matched before, by the rule's address.
    told: HashMap<usize, Vec<u8>>,
}

impl<'r> Judge<'r> {
    pub(super) fn new(
        rules: &'r RuleSet,
        output: &'r OrderedOutput,
        progress: &'r Progress,
        json_errors: bool,
    ) -> Self {
        Self {
            trees: BehaviourEngine::default(),
            auditd: source_of(rules, Some("linux"), Some("auditd"), None),
            buffer: EventBuffer::new(),
            desk: rules.desk(),
            file: OpenFile::default(),
            counts: Counts::default(),
            told: HashMap::new(),
            rules,
            output,
            progress,
            json_errors,
        }
    }

    pub(super) fn begin_file(&mut self, index: usize, input: &Input) {
        self.trees = BehaviourEngine::new(Arc::clone(self.rules.behaviours()));
        let name = input.path.to_string_lossy().into_owned();
        // A text is always JSON.
        let shown = serde_json::to_string(&name).unwrap_or_default();
        let (bytes, is_expected) = (input.bytes, input.is_expected);
        self.file = OpenFile { index, name, shown, bytes, is_expected, is_log: true, ..OpenFile::default() };
    }

    pub(super) fn end_file(&mut self) {
        let hidden = self.file.problems.saturating_sub(PROBLEMS_SHOWN);
        if hidden > 0 && !self.json_errors {
            let line = format!("{}: {hidden} more problems of this file are not shown\n", self.file.name);
            self.file.text.err.extend_from_slice(line.as_bytes());
        }
        if self.file.is_log {
            self.counts.files += 1;
        } else {
            self.counts.files_skipped += 1;
        }
        self.output.end(self.file.index, std::mem::take(&mut self.file.text));
        self.progress.add_bytes(self.file.bytes);
    }

    pub(super) fn into_counts(self) -> Counts {
        self.counts
    }

    /// Tells of a problem of the open file.
    pub(super) fn report(&mut self, problem: &Problem) {
        if matches!(problem.kind, ProblemKind::UnknownFormat | ProblemKind::Empty) {
            self.file.is_log = false;
            if !self.file.is_expected {
                return;
            }
        }
        self.counts.problems += 1;
        self.counts.loses_records |= problem.kind.loses_records();
        self.file.problems += 1;
        if self.json_errors {
            #[derive(Serialize)]
            struct InFile<'a> {
                file: &'a str,
                #[serde(flatten)]
                problem: &'a Problem,
            }
            let line = serde_json::to_vec(&InFile { file: &self.file.name, problem });
            // A problem has no value that JSON lacks.
            self.file.text.err.extend(line.unwrap_or_default());
            self.file.text.err.push(b'\n');
        } else if self.file.problems <= PROBLEMS_SHOWN {
            self.file.text.err.extend_from_slice(format!("{}: {problem}\n", self.file.name).as_bytes());
        }
        self.flush_if_large();
    }

    fn flush_if_large(&mut self) {
        if self.file.text.len() > PART_BYTES {
            self.output.part(self.file.index, &mut self.file.text);
        }
    }

    fn judge(&mut self, head: &EventHead<'_>) {
        match head.origin {
            Origin::Fields => match self.rules.route(&self.buffer) {
                Some(source) => self.judge_as(&[source], head),
                None => self.counts.without_source += 1,
            },
            Origin::Rampart(None) => {}
            Origin::Rampart(Some(event_type)) => {
                let observed_at = head.time.unwrap_or_default();
                let event = SensorEvent::new(event_type, observed_at, &self.buffer);
                let rules = self.rules;
                let found = rules.verdicts(&event, Phase::All);
                let told = self.trees.observe(&event, Phase::All, &found);
                for found in found.matches {
                    self.write_rule(found.rule, head);
                }
                for finding in &told {
                    self.write(&Told::of_finding(&finding.rule).members(), head);
                }
            }
            Origin::Auditd(kind) => {
                let category = audit_source(self.rules, kind);
                match (self.auditd, category) {
                    (Some(auditd), Some(category)) => self.judge_as(&[auditd, category], head),
                    (Some(source), None) | (None, Some(source)) => self.judge_as(&[source], head),
                    (None, None) => self.counts.without_source += 1,
                }
            }
            Origin::Stated { product, service, category } => {
                let source = source_of(self.rules, product, service, category);
                self.judge_if_known(source, head);
            }
            Origin::Ecs { product, category } => {
                let source = source_of(self.rules, product, None, category);
                // Rules for Windows' categories are written for Sysmon's events.
                let source = source.or_else(|| source_of(self.rules, product, Some("sysmon"), category));
                self.judge_if_known(source, head);
            }
        }
    }

    fn judge_if_known(&mut self, source: Option<SourceId>, head: &EventHead<'_>) {
        match source {
            Some(source) => self.judge_as(&[source], head),
            None => self.counts.without_source += 1,
        }
    }

    /// Judges the event as one of each of the sources; a rule that fits several counts once.
    fn judge_as(&mut self, sources: &[SourceId], head: &EventHead<'_>) {
        let rules = self.rules;
        for matched in rules.judge_as_each(&self.buffer, sources, &mut self.desk) {
            self.write_rule(matched.rule, head);
        }
    }

    fn write_rule(&mut self, rule: &'r RuleHead, head: &EventHead<'_>) {
        let address = std::ptr::from_ref(rule).addr();
        let members = self.told.remove(&address).unwrap_or_else(|| Told::of_rule(rule).members());
        self.write(&members, head);
        self.told.insert(address, members);
    }

    /// Writes a line of output; the members tell of the rule.
    fn write(&mut self, members: &[u8], head: &EventHead<'_>) {
        self.counts.detections += 1;
        let out = &mut self.file.text.out;
        // Writing to memory can't fail.
        let _ = write!(out, "{{\"file\":{},\"record\":{},", self.file.shown, head.record);
        out.extend_from_slice(members);
        let _ = match head.time {
            Some(time) => write!(out, ",\"time\":\"{time}\"}}"),
            None => write!(out, ",\"time\":null}}"),
        };
        out.push(b'\n');
        self.flush_if_large();
    }
}

fn source_of(
    rules: &RuleSet,
    product: Option<&str>,
    service: Option<&str>,
    category: Option<&str>,
) -> Option<SourceId> {
    let own = |text: Option<&str>| text.map(str::to_owned);
    rules.source(&LogSource { product: own(product), category: own(category), service: own(service) })
}

fn audit_source(rules: &RuleSet, kind: AuditKind) -> Option<SourceId> {
    kind.category().and_then(|category| source_of(rules, Some("linux"), None, Some(category)))
}

impl LogConsumer for Judge<'_> {
    type Field = FieldId;

    fn field(&mut self, name: &str) -> Option<FieldId> {
        self.rules.field(name)
    }

    fn unnamed(&mut self) -> Option<FieldId> {
        self.rules.searches_all_values().then_some(FieldId::UNNAMED)
    }

    fn begin(&mut self) {
        self.buffer.clear();
    }

    fn text(&mut self, field: FieldId, value: &str) {
        self.buffer.push_text(field, value);
    }

    fn integer(&mut self, field: FieldId, value: i64) {
        self.buffer.push_integer(field, value);
    }

    fn written_integer(&mut self, field: FieldId, value: i64, written: &str) {
        self.buffer.push_written_integer(field, value, written);
    }

    fn float(&mut self, field: FieldId, value: f64) {
        self.buffer.push_float(field, value);
    }

    fn boolean(&mut self, field: FieldId, value: bool) {
        self.buffer.push_boolean(field, value);
    }

    fn null(&mut self, field: FieldId) {
        self.buffer.push_null(field);
    }

    fn event(&mut self, head: &EventHead<'_>) -> ControlFlow<()> {
        self.counts.events += 1;
        if let Some(time) = head.time {
            self.buffer.set_time(time);
        }
        self.judge(head);
        if self.counts.events.is_multiple_of(EVENTS_BETWEEN_LOOKS) {
            self.progress.add_events(EVENTS_BETWEEN_LOOKS);
            if self.output.is_closed() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn problem(&mut self, problem: Problem) {
        self.report(&problem);
    }
}
