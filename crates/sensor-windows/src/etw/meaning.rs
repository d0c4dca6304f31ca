//! What events of the providers that are listened to mean.

use event_model::{EventType, Field, Value};
use sensor_api::{Actor, ObservedActivity};

use super::payload::Values;

/// `Microsoft-Windows-Kernel-Process`.
pub const KERNEL_PROCESS: u128 = 0x22fb_2cd6_0e7b_422b_a0c7_2fad_1fd0_e716;
/// `Microsoft-Windows-DNS-Client`.
pub const DNS_CLIENT: u128 = 0x1c95_126e_7eea_49a9_a3fe_a378_b03d_db4d;

/// Ids of `Microsoft-Windows-Kernel-Process`.
pub(super) const PROCESS_START: u16 = 1;
const PROCESS_STOP: u16 = 2;
pub(super) const IMAGE_LOAD: u16 = 5;
/// The id of `Microsoft-Windows-DNS-Client` that has the answers.
pub const DNS_QUERIES_COMPLETED: u16 = 3_008;

/// An event with its values.
#[derive(Debug, Clone, Default)]
pub struct Event {
    /// The provider.
    pub provider: u128,
    /// Its id.
    pub id: u16,
    /// The process in which it was written.
    pub pid: u32,
    /// When, in units of 100 ns since 1601.
    pub time: u64,
    /// Its values.
    pub values: Values,
}

/// A process that started or ended, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessNotice {
    /// It started.
    Started {
        /// PID.
        pid: u32,
        /// When it was created, in units of 100 ns since 1601.
        created: u64,
        /// PID of its parent.
        parent: u32,
        /// Its session.
        session: u32,
        /// Its image, as the kernel names it: `\Device\HarddiskVolume3\…`.
        image: String,
    },
    /// It ended.
    Ended {
        /// PID.
        pid: u32,
        /// When it was created, in units of 100 ns since 1601.
        created: u64,
        /// When it ended.
        ended: u64,
        /// Its exit code.
        exit_code: u32,
    },
}

/// A start or an end of a process; `None` for any other event, and for one that lacks what is needed.
pub fn process_notice(event: &Event) -> Option<ProcessNotice> {
    let values = &event.values;
    match (event.provider, event.id) {
        (KERNEL_PROCESS, PROCESS_START) => Some(ProcessNotice::Started {
            pid: values.small("ProcessID")?,
            created: values.number("CreateTime")?,
            parent: values.small("ParentProcessID")?,
            session: values.small("SessionID").unwrap_or(0),
            image: values.text("ImageName").unwrap_or_default().to_owned(),
        }),
        (KERNEL_PROCESS, PROCESS_STOP) => Some(ProcessNotice::Ended {
            pid: values.small("ProcessID")?,
            created: values.number("CreateTime")?,
            ended: values.number("ExitTime")?,
            exit_code: values.small("ExitCode").unwrap_or(0),
        }),
        _ => None,
    }
}

/// The event that is told of it, if any. `path_of` makes a path with a drive's letter of the kernel's name.
pub fn meaning(event: &Event, path_of: impl Fn(&str) -> String) -> Option<ObservedActivity> {
    let values = &event.values;
    let text = |text: &str| Value::Text(text.to_owned());
    let (event_type, actor, mut fields) = match (event.provider, event.id) {
        (KERNEL_PROCESS, IMAGE_LOAD) => {
            let path = path_of(values.text("ImageName")?);
            (EventType::ImageLoad, values.small("ProcessID")?, vec![(Field::LibraryPath, Value::Text(path))])
        }
        (DNS_CLIENT, DNS_QUERIES_COMPLETED) => {
            let name = values.text("QueryName")?.trim_end_matches('.').to_ascii_lowercase();
            let kind = values.small("QueryType")?;
            let mut fields = vec![
                (Field::DnsName, Value::Text(name)),
                (Field::DnsType, Value::Text(crate::dns::type_name(kind))),
            ];
            let status = values.small("QueryStatus").unwrap_or(0).to_string();
            fields.push((Field::DnsResponseCode, Value::Text(crate::dns::response_code(&status))));
            let (_, answers) = crate::dns::answers(values.text("QueryResults").unwrap_or_default());
            if !answers.is_empty() {
                fields.push((Field::DnsAnswers, Value::TextList(answers)));
            }
            (EventType::DnsQuery, event.pid, fields)
        }
        _ => return None,
    };
    fields.push((Field::EventProvider, text("etw")));
    if values.is_incomplete {
        let why = vec!["event: its data is not laid out as its provider says".to_owned()];
        fields.push((Field::EventIncomplete, Value::TextList(why)));
    }
    let actor = (actor != 0).then_some(Actor::Pid(actor));
    Some(ObservedActivity { event_type, actor, target: None, fields })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::payload::Property;
    use super::*;

    fn layout(properties: &[(&str, u16)]) -> Arc<Vec<Property>> {
        let one = |(name, kind): &(&str, u16)| Property {
            name: (*name).to_owned(),
            kind: *kind,
            ..Property::default()
        };
        Arc::new(properties.iter().map(one).collect())
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    fn event(provider: u128, id: u16, values: Values) -> Event {
        Event { provider, id, pid: 4_242, time: 0, values }
    }

    /// Version 0 of Windows 7 and version 3 of Windows 10 have the same names in other places.
    #[test]
    fn a_start_is_understood_in_each_version_of_its_layout() {
        let old = [
            ("ProcessID", 8),
            ("CreateTime", 17),
            ("ParentProcessID", 8),
            ("SessionID", 8),
            ("Flags", 8),
            ("ImageName", 1),
        ];
        let new = [
            ("ProcessID", 8),
            ("ProcessSequenceNumber", 10),
            ("CreateTime", 17),
            ("ParentProcessID", 8),
            ("ParentProcessSequenceNumber", 10),
            ("SessionID", 8),
            ("Flags", 8),
            ("ProcessTokenElevationType", 8),
            ("ProcessTokenIsElevated", 8),
            ("MandatoryLabel", 19),
            ("ImageName", 1),
            ("ImageChecksum", 20),
            ("TimeDateStamp", 20),
        ];
        let image = r"\Device\HarddiskVolume3\a.exe";
        let head = |more: bool| {
            let mut bytes = 77_u32.to_le_bytes().to_vec();
            bytes.extend(if more { vec![1; 8] } else { Vec::new() });
            bytes.extend(133_000_000_000_000_000_u64.to_le_bytes());
            bytes.extend(66_u32.to_le_bytes());
            bytes.extend(if more { vec![2; 8] } else { Vec::new() });
            bytes.extend(1_u32.to_le_bytes());
            bytes.extend(0_u32.to_le_bytes());
            bytes
        };
        let mut of_new = head(true);
        of_new.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        of_new.extend([1, 1, 0, 0, 0, 0, 0, 16, 0, 48, 0, 0]);
        of_new.extend(wide(image));
        of_new.extend([0; 8]);
        let mut of_old = head(false);
        of_old.extend(wide(image));
        let expected = ProcessNotice::Started {
            pid: 77,
            created: 133_000_000_000_000_000,
            parent: 66,
            session: 1,
            image: image.to_owned(),
        };
        for (names, payload) in [(&old[..], of_old), (&new[..], of_new)] {
            let values = Values::read(&layout(names), &payload);
            assert!(!values.is_incomplete);
            assert_eq!(process_notice(&event(KERNEL_PROCESS, PROCESS_START, values)), Some(expected.clone()));
            // Whatever is missing at the end: no start is made up.
            for end in 0..26 {
                let cut = Values::read(&layout(names), &payload[..end]);
                assert!(cut.is_incomplete);
                let _ = process_notice(&event(KERNEL_PROCESS, PROCESS_START, cut));
            }
        }
    }

    #[test]
    fn a_query_and_a_library_become_events_that_tell_what_their_types_must() {
        let names = [
            ("QueryName", 1),
            ("QueryType", 8),
            ("QueryOptions", 10),
            ("QueryStatus", 8),
            ("QueryResults", 1),
        ];
        let mut payload = wide("WWW.Example.org.");
        payload.extend(28_u32.to_le_bytes());
        payload.extend(0_u64.to_le_bytes());
        payload.extend(0_u32.to_le_bytes());
        payload.extend(wide("2001:db8::1;"));
        let query = event(DNS_CLIENT, DNS_QUERIES_COMPLETED, Values::read(&layout(&names), &payload));
        let told = meaning(&query, str::to_owned).unwrap();
        assert_eq!((told.event_type, told.actor), (EventType::DnsQuery, Some(Actor::Pid(4_242))));
        for expected in [
            (Field::DnsName, Value::Text("www.example.org".to_owned())),
            (Field::DnsType, Value::Text("AAAA".to_owned())),
            (Field::DnsResponseCode, Value::Text("NOERROR".to_owned())),
            (Field::DnsAnswers, Value::TextList(vec!["2001:db8::1".to_owned()])),
        ] {
            assert!(told.fields.contains(&expected), "{expected:?}: {told:?}");
        }
        let names = [
            ("ImageBase", 16),
            ("ImageSize", 16),
            ("ProcessID", 8),
            ("ImageCheckSum", 8),
            ("TimeDateStamp", 8),
            ("DefaultBase", 16),
            ("ImageName", 1),
        ];
        let mut payload = vec![0; 16];
        payload.extend(5_u32.to_le_bytes());
        payload.extend([0; 16]);
        payload.extend(wide(r"\Device\X\l.dll"));
        let load = event(KERNEL_PROCESS, IMAGE_LOAD, Values::read(&layout(&names), &payload));
        let told = meaning(&load, |path| path.replace(r"\Device\X", "C:")).unwrap();
        assert!(told.fields.contains(&(Field::LibraryPath, Value::Text(r"C:\l.dll".to_owned()))));
        assert_eq!(told.actor, Some(Actor::Pid(5)));
        assert_eq!(meaning(&event(KERNEL_PROCESS, IMAGE_LOAD, Values::default()), str::to_owned), None);
    }
}
