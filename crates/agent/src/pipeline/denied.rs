//! Programs that were kept from running, as events and detections.

use event_model::{Activity, EventBody, EventType, Field, GapReason, Value};
use rule_engine::Phase;
use sensor_api::{Actor, ObservedLoss};

use super::Work;
use crate::clock::boot_ns;
use crate::gate::Denial;
use crate::judge::Numbered;

impl Work {
    pub(super) fn tell_denials(&mut self) {
        let (denials, lost) = self.denials.take();
        for denial in denials {
            self.tell_denial(&denial);
        }
        if lost > 0 {
            let now_ns = boot_ns();
            let (reason, what) = (GapReason::QueueFull, EventType::ExecutionGate.as_str());
            self.tell_loss(&ObservedLoss {
                reason,
                what,
                count: Some(lost),
                from_ns: now_ns,
                until_ns: now_ns,
            });
        }
    }

    fn tell_denial(&mut self, denial: &Denial) {
        let actor = self.key_of(Actor::Pid(denial.pid), denial.at_ns);
        let who = actor.and_then(|key| self.who(key));
        let mut fields = fields_of(denial);
        if who.is_none() {
            fields.push((Field::ProcessPid, Value::Integer(denial.pid.into())));
        }
        let asker = who.as_ref().map(|who| who.process.clone());
        let activity = Activity { event_type: EventType::ExecutionGate, who, target: None, fields };
        let header = self.recorder.number(denial.at_ns);
        let body = EventBody::Activity(Box::new(activity));
        let mut verdicts = self.judge.judge(&Numbered { header: &header, body: &body }, Phase::All);
        // Of what ran after all its start tells.
        if denial.in_time != Some(false) {
            verdicts.push(self.judge.denied(header.event_id(), denial, asker.as_ref()));
        }
        let ancestry = actor.map(|key| self.ancestry(key)).unwrap_or_default();
        self.record(header, body, verdicts, ancestry, denial.pid);
    }
}

fn fields_of(denial: &Denial) -> Vec<(Field, Value)> {
    let text = |text: &str| Value::Text(text.to_owned());
    let image = &denial.image;
    let name = image.executable.rsplit('/').next().unwrap_or_default();
    let (action, outcome) = match denial.in_time {
        Some(true) => ("denied", "failure"),
        Some(false) => ("late", "success"),
        None => ("denied", "unknown"),
    };
    let mut fields = vec![
        (Field::EventAction, text(action)),
        (Field::EventOutcome, text(outcome)),
        (Field::EventReason, text(&denial.rule.name)),
        (Field::EventProvider, text("execution_gate")),
        (Field::FilePath, text(&image.executable)),
        (Field::FileName, text(name)),
        (Field::TargetExecutable, text(&image.executable)),
        (Field::TargetCommandLine, text(&image.command_line)),
    ];
    if let Some(file) = image.file {
        fields.push((Field::FileInode, Value::Integer(file.inode.cast_signed())));
        fields.push((Field::FileDevice, Value::Integer(file.device.cast_signed())));
        fields.push((Field::FileSize, Value::Integer(i64::try_from(file.size).unwrap_or(i64::MAX))));
    }
    if let Some(facts) = &denial.facts {
        fields.push((Field::FileMd5, text(&facts.md5)));
        fields.push((Field::FileSha1, text(&facts.sha1)));
        fields.push((Field::FileSha256, text(&facts.sha256)));
    }
    fields
}
