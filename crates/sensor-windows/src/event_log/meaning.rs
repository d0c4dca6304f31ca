//! What records of well-known ids mean: the same types of events as other systems have.

use event_model::{EventType, Field, Value};
use sensor_api::ObservedActivity;

use super::records::LogRecord;

/// The event that a record tells of, besides itself.
pub fn meaning(record: &LogRecord) -> Option<ObservedActivity> {
    let channel = record.channel();
    let id = record.id()?;
    let security = channel.eq_ignore_ascii_case("Security");
    let system = channel.eq_ignore_ascii_case("System");
    let mut told = Told { record, fields: Vec::new() };
    let event_type = match id {
        4624 | 4648 if security => {
            told.logon();
            EventType::UserLogon
        }
        4625 if security => {
            told.logon();
            told.put(Field::EventReason, Some(reason(record)));
            told.put(Field::EventOutcome, Some("failure".to_owned()));
            EventType::UserLogonFailed
        }
        4634 | 4647 if security => {
            told.logon();
            EventType::UserLogoff
        }
        4720 | 4741 if security => told.account(EventType::AccountCreate),
        4726 if security => told.account(EventType::AccountDelete),
        4722 | 4723 | 4724 | 4725 | 4738 | 4740 | 4742 if security => {
            let changed = match id {
                4722 | 4725 => "enabled",
                4723 | 4724 => "password",
                4740 => "lock",
                _ => "account",
            };
            told.fields.push((Field::ChangedFields, Value::TextList(vec![changed.to_owned()])));
            told.account(EventType::AccountModify)
        }
        4728 | 4729 | 4732 | 4733 | 4756 | 4757 if security => {
            told.fields.push((Field::ChangedFields, Value::TextList(vec!["groups".to_owned()])));
            told.take(Field::ChangeNew, "TargetUserName");
            told.put(
                Field::UserTargetName,
                record.get("MemberName").or(record.get("MemberSid")).map(str::to_owned),
            );
            told.take(Field::UserTargetId, "MemberSid");
            EventType::AccountModify
        }
        4698..=4702 if security => {
            told.put(
                Field::EventAction,
                Some(["create", "delete", "modify", "modify", "modify"][(id - 4698) as usize].to_owned()),
            );
            told.take(Field::TaskName, "TaskName");
            told.take(Field::FilePath, "TaskName");
            told.put(
                Field::TaskCommand,
                Some(command_of(record.get("TaskContent").or(record.get("TaskContentNew")))),
            );
            EventType::ScheduledTask
        }
        4697 if security => told.service("ServiceFileName"),
        7045 if system => told.service("ImagePath"),
        _ => return None,
    };
    told.take(Field::UserName, "SubjectUserName");
    told.put(Field::EventProvider, Some("event_log".to_owned()));
    told.fields.extend(record.time.map(|time| (Field::EventStart, Value::Time(time))));
    // A record that does not say what such an event must tell is told as the record only.
    let has = |needed: &Field| told.fields.iter().any(|(field, _)| field == needed);
    event_type.spec().needs.iter().all(has).then_some(())?;
    Some(ObservedActivity { event_type, actor: None, target: None, fields: told.fields })
}

struct Told<'a> {
    record: &'a LogRecord,
    fields: Vec<(Field, Value)>,
}

impl Told<'_> {
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

    fn logon(&mut self) {
        self.put(Field::UserName, self.record.get("TargetUserName").map(str::to_owned));
        let kind = self.record.get("LogonType").unwrap_or("0");
        let service = match kind {
            "2" | "7" | "11" => "console",
            "3" => "network",
            "4" => "batch",
            "5" => "service",
            "8" => "network_cleartext",
            "9" => "new_credentials",
            "10" => "remote_interactive",
            _ => "windows",
        };
        self.put(Field::LogonService, Some(service.to_owned()));
        self.take(Field::LogonMethod, "AuthenticationPackageName");
        self.take(Field::LogonSession, "TargetLogonId");
        self.take(Field::SourceAddress, "IpAddress");
        self.take(Field::SourceDomain, "WorkstationName");
    }

    fn account(&mut self, event_type: EventType) -> EventType {
        self.take(Field::UserTargetName, "TargetUserName");
        self.take(Field::UserTargetId, "TargetSid");
        event_type
    }

    fn service(&mut self, path: &str) -> EventType {
        self.put(Field::EventAction, Some("create".to_owned()));
        self.take(Field::ServiceName, "ServiceName");
        self.take(Field::FilePath, path);
        EventType::Service
    }
}

fn reason(record: &LogRecord) -> String {
    let code =
        record.get("SubStatus").filter(|code| *code != "0x0").or(record.get("Status")).unwrap_or_default();
    let known = [
        ("0xc0000064", "no such user"),
        ("0xc000006a", "wrong password"),
        ("0xc000006d", "wrong user name or password"),
        ("0xc000006f", "outside of the allowed hours"),
        ("0xc0000070", "from a workstation that is not allowed"),
        ("0xc0000071", "the password has expired"),
        ("0xc0000072", "the account is disabled"),
        ("0xc0000193", "the account has expired"),
        ("0xc0000224", "the password must be changed"),
        ("0xc0000234", "the account is locked"),
    ];
    let found = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(code));
    found.map_or_else(|| code.to_owned(), |(_, words)| (*words).to_owned())
}

/// What a task runs, from its definition.
fn command_of(content: Option<&str>) -> String {
    let content = content.unwrap_or_default();
    let between = |tag: &str| {
        let (_, rest) = content.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(text, _)| text.to_owned())
    };
    [between("Command"), between("Arguments")].into_iter().flatten().collect::<Vec<_>>().join(" ")
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
        for id in 4_600..7_100 {
            for channel in ["Security", "System"] {
                let Some(event) = meaning(&record(channel, id, &all)) else { continue };
                for needed in event.event_type.spec().needs {
                    assert!(
                        event.fields.iter().any(|(field, _)| field == needed),
                        "{channel} {id}: {needed:?}"
                    );
                }
            }
        }
    }
}
