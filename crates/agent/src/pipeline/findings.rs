//! What the scanner found in files, as events and detections.

use event_model::{Activity, EventBody, EventType, Field, Value};
use file_scan::MatchedString;
use rule_engine::Phase;

use super::Work;
use crate::clock::boot_ns;
use crate::judge::Numbered;
use crate::scanner::Finding;

/// Matched strings that the event itself lists; its detections list their own.
const MAX_STRINGS: usize = 64;

impl Work {
    /// Tells what was found, and what was not scanned.
    pub(super) fn tell_scans(&mut self) {
        for finding in self.scans.take_findings() {
            self.tell_finding(&finding);
        }
        self.scans.take_losses().iter().for_each(|loss| self.tell_loss(loss));
    }

    fn tell_finding(&mut self, finding: &Finding) {
        let actor = finding.actor.and_then(|actor| self.key_of(actor, finding.at_ns));
        let who = actor.and_then(|key| self.who(key));
        let mut fields = fields_of(finding);
        if let (Some(actor), None) = (finding.actor, &who) {
            fields.push((Field::ProcessPid, Value::Integer(actor.pid().into())));
        }
        let activity = Activity { event_type: EventType::FileScan, who, target: None, fields };
        let header = self.recorder.number(boot_ns());
        let body = EventBody::Activity(Box::new(activity));
        let mut verdicts = self.judge.judge(&Numbered { header: &header, body: &body }, Phase::All);
        if let (Some(key), Some(verdict)) = (actor, verdicts.iter().find(|verdict| verdict.condemns())) {
            self.table.condemn(key, verdict.id());
        }
        verdicts.extend(finding.found.matches.iter().map(|one| self.judge.yara_verdict(&header, one)));
        let ancestry = actor.map(|key| self.ancestry(key)).unwrap_or_default();
        self.record(header, body, verdicts, ancestry, actor.map_or(0, |key| key.pid));
    }
}

fn fields_of(finding: &Finding) -> Vec<(Field, Value)> {
    let text = |text: &str| Value::Text(text.to_owned());
    let found = &finding.found;
    let facts = &found.facts;
    let name = finding.path.rsplit('/').next().unwrap_or_default();
    let mut fields = vec![
        (Field::FilePath, text(&finding.path)),
        (Field::FileName, text(name)),
        (Field::FileSize, Value::Integer(i64::try_from(facts.size).unwrap_or(i64::MAX))),
        (Field::FileMd5, text(&facts.md5)),
        (Field::FileSha1, text(&facts.sha1)),
        (Field::FileSha256, text(&facts.sha256)),
        (Field::FileContentType, text(facts.content_type)),
        (Field::ScanTrigger, text(finding.trigger.as_str())),
    ];
    fields.extend(facts.tlsh.as_ref().map(|tlsh| (Field::FileTlsh, text(tlsh))));
    fields.extend(found.incomplete.map(|reason| (Field::ScanIncomplete, text(reason))));
    if !found.matches.is_empty() {
        let rules = found.matches.iter().map(|one| format!("{}/{}", one.namespace, one.rule));
        fields.push((Field::YaraRules, Value::TextList(rules.collect())));
        let strings = found.matches.iter().flat_map(|one| {
            one.strings.iter().map(|string| format!("{} {}", one.rule, describe_string(string)))
        });
        fields.push((Field::YaraStrings, Value::TextList(strings.take(MAX_STRINGS).collect())));
    }
    fields
}

/// A matched string in one line: identifier, place, and the first bytes of it.
pub(crate) fn describe_string(string: &MatchedString) -> String {
    let MatchedString { name, offset, length, data } = string;
    format!("${name} at {offset:#x}, {length} bytes: \"{}\"", data.escape_ascii())
}
