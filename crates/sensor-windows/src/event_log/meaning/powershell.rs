//! Script blocks of PowerShell, as it logs them.

use aws_lc_rs::digest::{SHA256, digest};
use event_model::{EventType, Field, Value};

use super::Told;

pub(super) const MADE: (&str, &[EventType]) =
    ("Microsoft-Windows-PowerShell/Operational", &[EventType::ScriptContent]);

/// A script block, or a part of a long one: each is an event.
pub(super) fn meaning(told: &mut Told<'_>, id: i64) -> Option<EventType> {
    let text = told.record.get("ScriptBlockText").filter(|_| id == 4_104)?.to_owned();
    told.actor = told.process("Execution_ProcessID");
    told.put(Field::ScriptInterpreter, Some("powershell".to_owned()));
    told.put(Field::ScriptPath, told.record.get("Path").filter(|path| !path.is_empty()).map(str::to_owned));
    let hash: String =
        digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    told.put(Field::ScriptSha256, Some(hash));
    let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
    told.fields.push((Field::ScriptBytes, Value::Integer(length)));
    told.put(Field::ScriptText, Some(text));
    let part = |name| told.record.get(name).and_then(|number| number.parse::<u32>().ok());
    let mut missing = Vec::new();
    if let (Some(number), Some(total)) = (part("MessageNumber"), part("MessageTotal"))
        && total > 1
    {
        missing.push(format!("script: part {number} of {total}; length and hash are the part's"));
    }
    if told.record.cut {
        missing.push("script: longer than what is kept".to_owned());
    }
    if !missing.is_empty() {
        told.fields.push((Field::EventIncomplete, Value::TextList(missing)));
    }
    Some(EventType::ScriptContent)
}
