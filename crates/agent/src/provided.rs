//! What the agent says of its sources at its start.

use std::collections::BTreeSet;

use sensor_api::Provision;

/// A line for each source of each type. One that can't start is told also where another makes events of that type:
/// the two seldom see the same.
pub(crate) fn described(provisions: impl IntoIterator<Item = Provision>) -> Vec<String> {
    let mut told = BTreeSet::new();
    let lines = provisions.into_iter().map(|one| one.describe());
    lines.filter(|line| told.insert(line.clone())).collect()
}

#[cfg(test)]
mod tests {
    use event_model::EventType;

    use super::*;

    #[test]
    fn a_source_that_can_not_start_is_told_where_another_makes_the_same_events_too() {
        let provision = |source: &str, missing: Option<&str>| Provision {
            event_type: EventType::DnsQuery,
            source: source.to_owned(),
            missing: missing.map(str::to_owned),
        };
        let all = [
            provision("event_log (Sysmon)", None),
            provision("etw", Some("access denied")),
            provision("etw", Some("access denied")),
        ];
        let expected = ["dns_query=event_log (Sysmon)", "dns_query=none: access denied (etw)"];
        assert_eq!(described(all), expected);
    }
}
