//! Records as they are read, from a live subscription or from a file.

use std::ops::ControlFlow;

use event_model::{EventType, Field, Timestamp, Value};
use log_reader::{EventHead, LogConsumer, Problem};
use sensor_api::ObservedActivity;

/// Values that are kept of one record, and bytes of one of them.
const MOST_VALUES: usize = 256;
const MOST_VALUE: usize = 64 << 10;
/// Bytes of the message that is made of them.
const MOST_MESSAGE: usize = 16_384;

/// Names of what every record has; the rest is the event's own.
const OF_SYSTEM: [&str; 22] = [
    "EventID",
    "Channel",
    "Provider_Name",
    "Computer",
    "Level",
    "EventRecordID",
    "Version",
    "Task",
    "Opcode",
    "Keywords",
    "TimeCreated",
    "SystemTime",
    "TimeCreated_SystemTime",
    "Execution_ProcessID",
    "Execution_ThreadID",
    "Provider_Guid",
    "Security_UserID",
    "EventID_Qualifiers",
    "Correlation_ActivityID",
    "Correlation_RelatedActivityID",
    "Event_xmlns",
    "Provider_EventSourceName",
];

/// A record, whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogRecord {
    /// Its number in its log.
    pub record: u64,
    /// When it was written.
    pub time: Option<Timestamp>,
    /// Names and values, in their order.
    pub values: Vec<(String, String)>,
    /// There were more values, or longer ones.
    pub cut: bool,
}

impl LogRecord {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The id of the event.
    pub fn id(&self) -> Option<i64> {
        self.get("EventID")?.parse().ok()
    }

    /// The log that it stands in.
    pub fn channel(&self) -> &str {
        self.get("Channel").unwrap_or_default()
    }

    /// The event that tells of it as it is.
    pub fn event(&self) -> ObservedActivity {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut fields = vec![
            (Field::LogEventId, Value::Integer(self.id().unwrap_or(0))),
            (Field::LogChannel, text(self.channel())),
            (Field::LogProvider, text(self.get("Provider_Name").unwrap_or_default())),
            (Field::EventProvider, text("event_log")),
        ];
        let of = |field, name: &str| Some((field, text(self.get(name)?)));
        fields.extend(of(Field::LogLevel, "Level"));
        fields.extend(of(Field::LogComputer, "Computer"));
        fields.extend(of(Field::TaskName, "TaskName"));
        fields.extend(of(Field::TaskCommand, "TaskContent"));
        fields.extend(self.time.map(|time| (Field::EventStart, Value::Time(time))));
        let (message, cut) = self.message();
        fields.push((Field::LogMessage, Value::Text(message)));
        if self.cut || cut {
            let why = vec!["message: longer than what is kept".to_owned()];
            fields.push((Field::EventIncomplete, Value::TextList(why)));
        }
        ObservedActivity { event_type: EventType::EventLogRecord, actor: None, target: None, fields }
    }

    /// The event's own values, a line each. The texts of Windows' message files are not used: they are
    /// in the host's language. Whether there was more than fits is told, too.
    fn message(&self) -> (String, bool) {
        let mut message = String::new();
        let own =
            self.values.iter().filter(|(name, _)| !OF_SYSTEM.contains(&name.as_str()) && !name.contains('.'));
        for (name, value) in own {
            let room = MOST_MESSAGE.saturating_sub(message.len() + name.len() + 3);
            if value.len() > room {
                // What fits of the one that does not: a script's beginning is worth more than nothing.
                message.push_str(&format!("\n{name}: {}…", &value[..value.floor_char_boundary(room)]));
                return (message.trim_start_matches('\n').to_owned(), true);
            }
            if !message.is_empty() {
                message.push('\n');
            }
            message.push_str(name);
            message.push_str(": ");
            message.push_str(value);
        }
        (message, false)
    }
}

/// Collects records.
#[derive(Debug, Default)]
pub struct Records {
    names: Vec<String>,
    open: LogRecord,
    /// What was read and not taken yet.
    pub whole: Vec<LogRecord>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

impl Records {
    fn push(&mut self, field: usize, value: &str) {
        if self.open.values.len() >= MOST_VALUES {
            self.open.cut = true;
            return;
        }
        let end = value.floor_char_boundary(MOST_VALUE);
        self.open.cut |= end < value.len();
        let name = self.names.get(field).cloned().unwrap_or_default();
        self.open.values.push((name, value[..end].to_owned()));
    }
}

impl LogConsumer for Records {
    type Field = usize;

    fn field(&mut self, name: &str) -> Option<usize> {
        self.names.push(name.to_owned());
        Some(self.names.len() - 1)
    }

    fn unnamed(&mut self) -> Option<usize> {
        None
    }

    fn begin(&mut self) {
        self.open = LogRecord::default();
    }

    fn text(&mut self, field: usize, value: &str) {
        self.push(field, value);
    }

    fn integer(&mut self, field: usize, value: i64) {
        self.push(field, &value.to_string());
    }

    fn float(&mut self, field: usize, value: f64) {
        self.push(field, &value.to_string());
    }

    fn boolean(&mut self, field: usize, value: bool) {
        self.push(field, if value { "true" } else { "false" });
    }

    fn null(&mut self, _: usize) {}

    fn event(&mut self, head: &EventHead<'_>) -> ControlFlow<()> {
        let record = LogRecord { record: head.record, time: head.time, ..std::mem::take(&mut self.open) };
        self.whole.push(record);
        ControlFlow::Continue(())
    }

    fn problem(&mut self, problem: Problem) {
        if self.problems.len() < MOST_VALUES {
            self.problems.push(problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use log_reader::{FieldLayout, LogDecoder};

    use super::*;

    fn decoder() -> LogDecoder<Records> {
        LogDecoder::new(Arc::new(FieldLayout::built_in().unwrap()), Records::default())
    }

    fn xml(channel: &str, id: u32, data: &str) -> String {
        format!(
            "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='P'/>\
             <EventID>{id}</EventID><Level>0</Level><TimeCreated SystemTime='2026-01-02T03:04:05.6Z'/>\
             <EventRecordID>77</EventRecordID><Channel>{channel}</Channel><Computer>pc</Computer></System>\
             <EventData>{data}</EventData></Event>"
        )
    }

    #[test]
    fn a_record_as_the_subscription_renders_it_becomes_an_event() {
        let mut decoder = decoder();
        let data = "<Data Name='TargetUserName'>eve</Data><Data Name='IpAddress'>10.0.0.9</Data>";
        let _ = decoder.read_event_xml(&xml("Security", 4625, data));
        let records = decoder.into_consumer();
        let [record] = records.whole.as_slice() else { panic!("{records:?}") };
        assert_eq!((record.record, record.id(), record.channel()), (77, Some(4625), "Security"));
        let event = record.event();
        let has = |field: Field, value: Value| event.fields.contains(&(field, value));
        assert!(has(Field::LogEventId, Value::Integer(4625)));
        assert!(has(Field::LogProvider, Value::Text("P".to_owned())));
        assert!(has(Field::LogComputer, Value::Text("pc".to_owned())));
        let message = event.fields.iter().find(|(field, _)| *field == Field::LogMessage);
        let message = format!("{message:?}");
        assert!(
            message.contains("TargetUserName: eve") && message.contains("IpAddress: 10.0.0.9"),
            "{message}"
        );
    }

    #[test]
    fn broken_and_endless_records_are_told_or_cut() {
        let mut decoder = decoder();
        for text in
            ["", "<Event", "<Event><System><EventID>x</EventID></System></Event>", "\u{0}\u{ffff}<<>>"]
        {
            let _ = decoder.read_event_xml(text);
        }
        let data: String =
            (0..2_000).map(|at| format!("<Data Name='n{at}'>{}</Data>", "y".repeat(50))).collect();
        let _ = decoder.read_event_xml(&xml("Security", 4688, &data));
        let records = decoder.into_consumer();
        let last = records.whole.last().unwrap();
        assert!(last.cut && last.values.len() <= MOST_VALUES);
        assert!(last.event().fields.iter().any(|(field, _)| *field == Field::EventIncomplete));
    }
}
