//! What differs between two looks at the services.

use std::collections::BTreeMap;

use event_model::{EventType, Field, Value};
use sensor_api::ObservedActivity;

/// Services that are remembered.
const MOST_KNOWN: usize = 16_384;

/// What is known of a service, besides its name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// Its command line.
    pub command_line: String,
    /// Whom it runs as.
    pub account: String,
    /// When it starts: `automatic`, `on demand`, …
    pub start: &'static str,
}

/// The services as they were seen last.
#[derive(Debug, Default)]
pub struct Changes {
    known: Option<BTreeMap<String, Known>>,
}

impl Changes {
    /// What a new look shows. The first one only fills the list.
    pub fn look(&mut self, now: BTreeMap<String, Known>) -> Vec<ObservedActivity> {
        let mut now = now;
        while now.len() > MOST_KNOWN {
            now.pop_last();
        }
        let Some(before) = self.known.replace(now.clone()) else { return Vec::new() };
        let mut told = Vec::new();
        for (name, service) in &now {
            match before.get(name) {
                None => told.push(event("create", name, service, None)),
                Some(old) if old != service => told.push(event("modify", name, service, Some(old))),
                Some(_) => {}
            }
        }
        let gone = before.iter().filter(|(name, _)| !now.contains_key(*name));
        told.extend(gone.map(|(name, service)| event("delete", name, service, None)));
        told
    }
}

fn event(action: &str, name: &str, service: &Known, old: Option<&Known>) -> ObservedActivity {
    let text = |text: &str| Value::Text(text.to_owned());
    let mut fields = vec![
        (Field::EventAction, text(action)),
        (Field::ServiceName, text(name)),
        // As the service manager and its event log give it: with arguments, if it has any.
        (Field::FilePath, text(&service.command_line)),
        (Field::ServiceCommand, text(&service.command_line)),
        (Field::ServiceUser, text(&service.account)),
        (Field::EventProvider, text("service_list")),
    ];
    if let Some(old) = old {
        let all = |one: &Known| format!("{}; {}; {}", one.command_line, one.account, one.start);
        let parts = [
            ("command", old.command_line != service.command_line),
            ("account", old.account != service.account),
            ("start", old.start != service.start),
        ];
        let changed = parts.iter().filter(|(_, is)| *is).map(|(name, _)| (*name).to_owned()).collect();
        fields.push((Field::ChangedFields, Value::TextList(changed)));
        fields.push((Field::ChangeOld, text(&all(old))));
        fields.push((Field::ChangeNew, text(&all(service))));
    }
    ObservedActivity { event_type: EventType::Service, actor: None, target: None, fields }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_told_when_they_come_change_and_go() {
        let of = |line: &str| Known { command_line: line.to_owned(), start: "automatic", ..Known::default() };
        let list = |all: &[(&str, Known)]| {
            all.iter().map(|(name, known)| ((*name).to_owned(), known.clone())).collect::<BTreeMap<_, _>>()
        };
        let mut changes = Changes::default();
        let words = |told: Vec<ObservedActivity>| {
            let word = |event: &ObservedActivity| {
                for needed in event.event_type.spec().needs {
                    assert!(event.fields.iter().any(|(field, _)| field == needed), "{needed:?}");
                }
                let get =
                    |wanted| event.fields.iter().find(|(field, _)| *field == wanted).map(|(_, value)| value);
                format!("{:?} {:?}", get(Field::EventAction), get(Field::ServiceName))
            };
            told.iter().map(word).collect::<Vec<_>>()
        };
        assert!(words(changes.look(list(&[("a", of("1")), ("b", of("1"))]))).is_empty());
        assert!(words(changes.look(list(&[("a", of("1")), ("b", of("1"))]))).is_empty());
        let disabled = Known { start: "disabled", ..of("1") };
        let told = words(changes.look(list(&[("a", disabled), ("c", of("2"))])));
        assert_eq!(told.len(), 3, "{told:?}");
        for (one, part) in told.iter().zip(["modify", "create", "delete"]) {
            assert!(one.contains(part), "{told:?}");
        }
    }
}
