//! Permanent consumers of WMI events, as WMI logs them.

use event_model::{EventType, Field};

use super::Told;

pub(super) const MADE: (&str, &[EventType]) =
    ("Microsoft-Windows-WMI-Activity/Operational", &[EventType::Persistence]);

/// A filter that was bound to a consumer: from now on something is run by itself.
pub(super) fn meaning(told: &mut Told<'_>, id: i64) -> Option<EventType> {
    if id != 5_861 {
        return None;
    }
    told.put(Field::EventAction, Some("create".to_owned()));
    told.put(Field::PersistenceKind, Some("wmi_consumer".to_owned()));
    // It lies in WMI's own store: its name there is what comes nearest to a path.
    let consumer = told.record.get("CONSUMER").or_else(|| told.record.get("Consumer")).map(str::to_owned);
    told.put(Field::FilePath, consumer);
    told.take(Field::ChangeNew, "PossibleCause");
    Some(EventType::Persistence)
}
