//! What records of well-known ids mean: the same types of events as other systems have.

mod powershell;
mod security;
mod sysmon;
mod wmi;

use event_model::{EventType, Field, Value};
use sensor_api::{Actor, ObservedActivity};

use super::records::LogRecord;

/// Types of events that records of these channels mean.
pub const MADE: &[(&str, &[EventType])] =
    &[security::MADE, security::MADE_OF_SYSTEM, sysmon::MADE, powershell::MADE, wmi::MADE];

/// The event that a record tells of, besides itself.
pub fn meaning(record: &LogRecord) -> Option<ObservedActivity> {
    let channel = record.channel();
    let id = record.id()?;
    let is = |made: (&str, &[EventType])| channel.eq_ignore_ascii_case(made.0);
    let mut told = Told { record, actor: None, target: None, fields: Vec::new() };
    let event_type = match () {
        () if is(security::MADE) => security::meaning(&mut told, id),
        () if is(security::MADE_OF_SYSTEM) => security::meaning_of_system(&mut told, id),
        () if is(sysmon::MADE) => sysmon::meaning(&mut told, id),
        () if is(powershell::MADE) => powershell::meaning(&mut told, id),
        () if is(wmi::MADE) => wmi::meaning(&mut told, id),
        () => None,
    }?;
    told.put(Field::EventProvider, Some("event_log".to_owned()));
    told.fields.extend(record.time.map(|time| (Field::EventStart, Value::Time(time))));
    // A record that does not say what such an event must tell is told as the record only.
    event_type.spec().needs.iter().all(|needed| told.has(*needed)).then_some(())?;
    let Told { actor, target, fields, .. } = told;
    Some(ObservedActivity { event_type, actor, target, fields })
}

struct Told<'a> {
    record: &'a LogRecord,
    actor: Option<Actor>,
    target: Option<Actor>,
    fields: Vec<(Field, Value)>,
}

impl Told<'_> {
    fn has(&self, needed: Field) -> bool {
        // Its PID is put in with the rest that is known of it.
        let by_target = needed == Field::TargetPid && self.target.is_some();
        by_target || self.fields.iter().any(|(field, _)| *field == needed)
    }

    /// Each field at most once; `-` is how Windows writes nothing.
    fn put(&mut self, field: Field, value: Option<String>) {
        let known = self.fields.iter().any(|(own, _)| *own == field);
        if let Some(value) = value.filter(|value| !known && value != "-") {
            self.fields.push((field, Value::Text(value)));
        }
    }

    fn take(&mut self, field: Field, name: &str) {
        self.put(field, self.record.get(name).map(str::to_owned));
    }

    /// The process whose PID stands under that name.
    fn process(&self, name: &str) -> Option<Actor> {
        self.record.get(name)?.parse().ok().filter(|pid| *pid != 0).map(Actor::Pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(channel: &str, id: u32, values: &[(&str, &str)]) -> LogRecord {
        let own = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let head = [("Channel".to_owned(), channel.to_owned()), ("EventID".to_owned(), id.to_string())];
        LogRecord { values: head.into_iter().chain(own).collect(), ..LogRecord::default() }
    }

    fn get(event: &ObservedActivity, wanted: Field) -> Option<String> {
        event.fields.iter().find(|(field, _)| *field == wanted).map(|(_, value)| match value {
            Value::Text(text) => text.clone(),
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn well_known_records_mean_what_they_say() {
        let failed = meaning(&record(
            "Security",
            4625,
            &[
                ("TargetUserName", "eve"),
                ("LogonType", "10"),
                ("SubStatus", "0xC000006A"),
                ("IpAddress", "10.0.0.9"),
            ],
        ))
        .unwrap();
        assert_eq!(failed.event_type, EventType::UserLogonFailed);
        assert_eq!(get(&failed, Field::UserName).as_deref(), Some("eve"));
        assert_eq!(get(&failed, Field::LogonService).as_deref(), Some("remote_interactive"));
        assert_eq!(get(&failed, Field::EventReason).as_deref(), Some("wrong password"));
        assert_eq!(get(&failed, Field::SourceAddress).as_deref(), Some("10.0.0.9"));
        let content = "<Exec><Command>cmd.exe</Command><Arguments>/c x</Arguments></Exec>";
        let task =
            meaning(&record("Security", 4698, &[("TaskName", r"\x"), ("TaskContent", content)])).unwrap();
        assert_eq!(task.event_type, EventType::ScheduledTask);
        assert_eq!(get(&task, Field::TaskCommand).as_deref(), Some("cmd.exe /c x"));
        let asked = [
            ("ProcessId", "7"),
            ("QueryName", "Evil.example."),
            ("QueryStatus", "9003"),
            ("QueryResults", "-"),
        ];
        let query = meaning(&record("Microsoft-Windows-Sysmon/Operational", 22, &asked)).unwrap();
        assert_eq!(get(&query, Field::DnsName).as_deref(), Some("evil.example"));
        assert_eq!(get(&query, Field::DnsResponseCode).as_deref(), Some("NXDOMAIN"));
        assert_eq!(query.actor, Some(Actor::Pid(7)));
        let service =
            meaning(&record("System", 7045, &[("ServiceName", "m"), ("ImagePath", "C:\\m.exe")])).unwrap();
        assert_eq!(service.event_type, EventType::Service);
        assert_eq!(
            meaning(&record("Application", 4625, &[])),
            None,
            "ids mean something in their channel only"
        );
    }

    #[test]
    fn each_type_has_the_fields_that_it_must_tell() {
        let all = [
            ("TargetUserName", "u"),
            ("TargetSid", "S-1"),
            ("MemberSid", "S-2"),
            ("TaskName", "t"),
            ("ServiceName", "s"),
            ("ServiceFileName", "f"),
            ("ImagePath", "f"),
        ];
        for id in (1..30).chain(4_100..7_100) {
            for (channel, _) in MADE {
                let Some(event) = meaning(&record(channel, id, &all)) else { continue };
                let made =
                    MADE.iter().any(|(own, types)| *own == *channel && types.contains(&event.event_type));
                assert!(made, "{channel} {id}: {} is not among what it makes", event.event_type);
                for needed in event.event_type.spec().needs {
                    let by_target = *needed == Field::TargetPid && event.target.is_some();
                    assert!(
                        by_target || event.fields.iter().any(|(field, _)| field == needed),
                        "{channel} {id}: {needed:?}"
                    );
                }
            }
        }
    }
}
