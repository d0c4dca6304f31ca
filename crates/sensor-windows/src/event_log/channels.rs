//! Channels and ids that are collected.

use event_model::{EventType, Field, Value};
use sensor_api::ObservedActivity;

/// A channel.
#[derive(Debug, Clone, Copy)]
pub struct Channel {
    /// Its name.
    pub name: &'static str,
    /// The ids that are collected; all if there are none.
    pub ids: &'static [u32],
    /// Not every host has it.
    pub optional: bool,
}

/// Where Sysmon writes.
pub const SYSMON: &str = "Microsoft-Windows-Sysmon/Operational";

/// All of them.
pub const CHANNELS: &[Channel] = &[
    Channel {
        name: "Security",
        ids: &[
            1100, 1102, 4616, 4624, 4625, 4634, 4647, 4648, 4657, 4662, 4663, 4670, 4672, 4673, 4688, 4689,
            4697, 4698, 4699, 4700, 4701, 4702, 4703, 4704, 4706, 4719, 4720, 4722, 4723, 4724, 4725, 4726,
            4728, 4729, 4732, 4733, 4738, 4740, 4741, 4742, 4756, 4757, 4768, 4769, 4771, 4776, 4794, 4946,
            4947, 4948, 4950, 5136, 5140, 5145, 5156, 5379,
        ],
        optional: false,
    },
    Channel {
        name: "System",
        ids: &[104, 1074, 6005, 6006, 6008, 7022, 7023, 7034, 7036, 7040, 7045],
        optional: false,
    },
    Channel { name: "Application", ids: &[1000, 1001, 1026, 11707, 11724], optional: false },
    Channel { name: SYSMON, ids: &[], optional: true },
    Channel { name: "Microsoft-Windows-PowerShell/Operational", ids: &[4103, 4104], optional: true },
    Channel { name: "Windows PowerShell", ids: &[400, 403, 600, 800], optional: true },
    Channel {
        name: "Microsoft-Windows-TaskScheduler/Operational",
        ids: &[106, 129, 140, 141, 200],
        optional: true,
    },
    Channel {
        name: "Microsoft-Windows-WMI-Activity/Operational",
        ids: &[5857, 5858, 5859, 5860, 5861],
        optional: true,
    },
    Channel {
        name: "Microsoft-Windows-Bits-Client/Operational",
        ids: &[3, 59, 60, 61, 16403],
        optional: true,
    },
    Channel {
        name: "Microsoft-Windows-Windows Defender/Operational",
        ids: &[1006, 1007, 1008, 1015, 1116, 1117, 5001, 5004, 5007, 5010, 5012, 5013],
        optional: true,
    },
    Channel {
        name: "Microsoft-Windows-TerminalServices-LocalSessionManager/Operational",
        ids: &[21, 22, 23, 24, 25],
        optional: true,
    },
    Channel {
        name: "Microsoft-Windows-Windows Firewall With Advanced Security/Firewall",
        ids: &[2002, 2003, 2004, 2005, 2006, 2033],
        optional: true,
    },
];

/// Whether a record of that channel and id is collected.
pub fn is_collected(channel: &str, id: i64) -> bool {
    CHANNELS.iter().any(|one| {
        let all = one.ids.is_empty();
        one.name.eq_ignore_ascii_case(channel) && (all || one.ids.iter().any(|known| i64::from(*known) == id))
    })
}

/// The event that tells that somebody switched a channel off while the agent read it.
pub fn switched_off(channel: &str) -> ObservedActivity {
    let fields = vec![
        (Field::AgentTampered, Value::Text("event_log".to_owned())),
        (Field::EventReason, Value::Text(format!("somebody switched off the channel `{channel}`"))),
    ];
    ObservedActivity { event_type: EventType::AgentTamper, actor: None, target: None, fields }
}

impl Channel {
    /// What the subscription asks for. One `Select` takes some twenty terms, so there are several.
    pub fn query(&self) -> String {
        if self.ids.is_empty() {
            return "*".to_owned();
        }
        let selects = self.ids.chunks(20).map(|ids| {
            let terms: Vec<String> = ids.iter().map(|id| format!("EventID={id}")).collect();
            format!("<Select Path=\"{}\">*[System[({})]]</Select>", self.name, terms.join(" or "))
        });
        format!("<QueryList><Query Id=\"0\">{}</Query></QueryList>", selects.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_that_are_asked_of_an_agent_are_collected() {
        for id in [
            4624, 4625, 4634, 4648, 4672, 4688, 4697, 4698, 4702, 4720, 4722, 4724, 4726, 4728, 4732, 4738,
            4740, 4756, 1102,
        ] {
            assert!(is_collected("Security", id), "{id}");
        }
        assert!([104, 7045, 7040].into_iter().all(|id| is_collected("system", id)));
        assert!([1000, 1001, 1026].into_iter().all(|id| is_collected("Application", id)));
        assert!(is_collected("Microsoft-Windows-Sysmon/Operational", 8));
        assert!(!is_collected("Security", 5154) && !is_collected("Setup", 4624));
    }

    #[test]
    fn a_query_asks_for_every_id_in_terms_that_fit() {
        let query = CHANNELS[0].query();
        assert!(CHANNELS[0].ids.iter().all(|id| query.contains(&format!("EventID={id}"))));
        let longest = query.split("<Select").map(|select| select.matches("EventID=").count()).max();
        assert!(longest <= Some(20), "{longest:?}");
    }
}
