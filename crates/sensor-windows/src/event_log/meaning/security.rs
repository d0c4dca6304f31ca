//! Records of the logs Security and System.

use event_model::{EventType, Field, Value};

use super::Told;
use crate::event_log::LogRecord;
use crate::tasks::Definition;

pub(super) const MADE: (&str, &[EventType]) = (
    "Security",
    &[
        EventType::UserLogon,
        EventType::UserLogoff,
        EventType::UserLogonFailed,
        EventType::AccountCreate,
        EventType::AccountModify,
        EventType::AccountDelete,
        EventType::ScheduledTask,
        EventType::Service,
    ],
);

pub(super) const MADE_OF_SYSTEM: (&str, &[EventType]) = ("System", &[EventType::Service]);

pub(super) fn meaning(told: &mut Told<'_>, id: i64) -> Option<EventType> {
    let event_type = match id {
        4624 | 4648 => {
            told.logon();
            EventType::UserLogon
        }
        4625 => {
            told.logon();
            told.put(Field::EventReason, Some(reason(told.record)));
            told.put(Field::EventOutcome, Some("failure".to_owned()));
            EventType::UserLogonFailed
        }
        4634 | 4647 => {
            told.logon();
            EventType::UserLogoff
        }
        4720 | 4741 => told.account(EventType::AccountCreate),
        4726 => told.account(EventType::AccountDelete),
        4722 | 4723 | 4724 | 4725 | 4738 | 4740 | 4742 => {
            let changed = match id {
                4722 | 4725 => "enabled",
                4723 | 4724 => "password",
                4740 => "lock",
                _ => "account",
            };
            told.fields.push((Field::ChangedFields, Value::TextList(vec![changed.to_owned()])));
            told.account(EventType::AccountModify)
        }
        4728 | 4729 | 4732 | 4733 | 4756 | 4757 => {
            told.fields.push((Field::ChangedFields, Value::TextList(vec!["groups".to_owned()])));
            told.take(Field::ChangeNew, "TargetUserName");
            told.put(
                Field::UserTargetName,
                told.record.get("MemberName").or(told.record.get("MemberSid")).map(str::to_owned),
            );
            told.take(Field::UserTargetId, "MemberSid");
            EventType::AccountModify
        }
        4698..=4702 => {
            told.put(
                Field::EventAction,
                Some(["create", "delete", "modify", "modify", "modify"][(id - 4698) as usize].to_owned()),
            );
            told.take(Field::TaskName, "TaskName");
            told.take(Field::FilePath, "TaskName");
            let content = told.record.get("TaskContent").or(told.record.get("TaskContentNew"));
            told.put(Field::TaskCommand, Some(Definition::read(content.unwrap_or_default()).command));
            EventType::ScheduledTask
        }
        4697 => told.service("ServiceFileName"),
        _ => return None,
    };
    told.take(Field::UserName, "SubjectUserName");
    Some(event_type)
}

pub(super) fn meaning_of_system(told: &mut Told<'_>, id: i64) -> Option<EventType> {
    (id == 7045).then(|| told.service("ImagePath"))
}

impl Told<'_> {
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
