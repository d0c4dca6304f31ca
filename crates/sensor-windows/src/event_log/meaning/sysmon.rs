//! Records of Sysmon's channel, where Sysmon is installed: what the agent's own sensor does not see on Windows.
//! Starts of processes, connections, files and the registry it sees itself; of those Sysmon's records stand as
//! they are.

use event_model::{EventType, Field, Value};

use super::Told;
use crate::dns;

pub(super) const MADE: (&str, &[EventType]) = (
    "Microsoft-Windows-Sysmon/Operational",
    &[
        EventType::ModuleLoad,
        EventType::ImageLoad,
        EventType::ProcessTamper,
        EventType::ProcessAccess,
        EventType::RawAccessRead,
        EventType::PipeCreate,
        EventType::Persistence,
        EventType::DnsQuery,
    ],
);

pub(super) fn meaning(told: &mut Told<'_>, id: i64) -> Option<EventType> {
    let said = |method: &str| Some(method.to_owned());
    Some(match id {
        6 => {
            let path = told.record.get("ImageLoaded")?.to_owned();
            told.put(Field::ModuleName, path.rsplit('\\').next().map(str::to_owned));
            told.put(Field::FilePath, Some(path));
            told.put(Field::FileSha256, sha256(told.record.get("Hashes")));
            told.put(Field::AccessMethod, said("driver"));
            signed(told);
            EventType::ModuleLoad
        }
        7 => {
            told.actor = told.process("ProcessId");
            told.take(Field::LibraryPath, "ImageLoaded");
            told.put(Field::LibrarySha256, sha256(told.record.get("Hashes")));
            EventType::ImageLoad
        }
        8 => {
            told.actor = told.process("SourceProcessId");
            told.target = told.process("TargetProcessId");
            told.put(Field::AccessMethod, said("CreateRemoteThread"));
            told.take(Field::AccessAddress, "StartAddress");
            EventType::ProcessTamper
        }
        9 => {
            told.actor = told.process("ProcessId");
            told.take(Field::FilePath, "Device");
            told.put(Field::AccessMode, said("read"));
            EventType::RawAccessRead
        }
        10 => {
            told.actor = told.process("SourceProcessId").or_else(|| told.process("SourceProcessID"));
            told.target = told.process("TargetProcessId").or_else(|| told.process("TargetProcessID"));
            told.put(Field::AccessMethod, said("OpenProcess"));
            told.take(Field::AccessMode, "GrantedAccess");
            EventType::ProcessAccess
        }
        17 => {
            told.actor = told.process("ProcessId");
            told.take(Field::PipeName, "PipeName");
            EventType::PipeCreate
        }
        19..=21 => {
            let action = match told.record.get("Operation") {
                Some("Deleted") => "delete",
                Some("Modified") => "modify",
                _ => "create",
            };
            let kind = match id {
                19 => "wmi_filter",
                20 => "wmi_consumer",
                _ => "wmi_binding",
            };
            told.put(Field::EventAction, said(action));
            told.put(Field::PersistenceKind, said(kind));
            told.take(Field::UserName, "User");
            let of = ["Name", "Consumer"].iter().find_map(|name| told.record.get(name)).map(str::to_owned);
            // It lies in WMI's own store: its name there is what comes nearest to a path.
            told.put(Field::FilePath, of);
            let new = ["Query", "Destination", "Filter"].iter().find_map(|name| told.record.get(name));
            told.put(Field::ChangeNew, new.map(str::to_owned));
            EventType::Persistence
        }
        22 => {
            told.actor = told.process("ProcessId");
            let name = told.record.get("QueryName")?.trim_end_matches('.').to_ascii_lowercase();
            told.put(Field::DnsName, Some(name));
            let (kind, answers) = dns::answers(told.record.get("QueryResults").unwrap_or_default());
            told.put(Field::DnsType, Some(kind.to_owned()));
            told.put(Field::DnsResponseCode, told.record.get("QueryStatus").map(dns::response_code));
            if !answers.is_empty() {
                told.fields.push((Field::DnsAnswers, Value::TextList(answers)));
            }
            EventType::DnsQuery
        }
        25 => {
            told.actor = told.process("ProcessId");
            // It runs what is not its image any more: what was done was done to itself.
            told.target = told.actor;
            told.take(Field::AccessMethod, "Type");
            EventType::ProcessTamper
        }
        _ => return None,
    })
}

fn signed(told: &mut Told<'_>) {
    if let Some(signed) = told.record.get("Signed") {
        told.fields.push((Field::ModuleSigned, Value::Boolean(signed.eq_ignore_ascii_case("true"))));
    }
}

/// `SHA1=…,MD5=…,SHA256=…,IMPHASH=…`, in any order and as many as are configured.
fn sha256(hashes: Option<&str>) -> Option<String> {
    let each = hashes?.split(',').filter_map(|one| one.trim().split_once('='));
    each.into_iter()
        .find(|(kind, value)| kind.eq_ignore_ascii_case("sha256") && value.len() == 64)
        .map(|(_, value)| value.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_hashes_is_found() {
        let whole = "a".repeat(64);
        assert_eq!(sha256(Some(&format!("SHA1=b,SHA256={whole}"))), Some(whole));
        for other in ["", "SHA256=", "MD5=x", "SHA256"] {
            assert_eq!(sha256(Some(other)), None, "{other}");
        }
    }
}
