//! What a look at a task's file means, given what was known of it.

use std::collections::BTreeMap;

use event_model::{EventType, Field, Value};
use sensor_api::ObservedActivity;

use super::Definition;

/// Tasks that are remembered.
const MOST_KNOWN: usize = 65_536;

/// The tasks as they were seen last, by their names.
#[derive(Debug, Default)]
pub struct Changes {
    known: BTreeMap<String, Definition>,
}

impl Changes {
    /// What is there when the watch begins is known and not told.
    pub fn know(&mut self, name: String, definition: Definition) {
        if self.known.len() < MOST_KNOWN {
            self.known.insert(name, definition);
        }
    }

    /// Names of what is known.
    pub fn names(&self) -> Vec<String> {
        self.known.keys().cloned().collect()
    }

    /// A task as it is now, `None` where it is gone; the event, if it changed. `path` is its file.
    pub fn look(&mut self, name: &str, path: &str, now: Option<Definition>) -> Option<ObservedActivity> {
        let before = self.known.get(name).cloned();
        let (action, shown) = match (&before, &now) {
            (None, Some(now)) => ("create", now),
            (Some(before), None) => ("delete", before),
            (Some(before), Some(now)) if before != now => ("modify", now),
            _ => return None,
        };
        let text = |text: &str| Value::Text(text.to_owned());
        let mut fields = vec![
            (Field::EventAction, text(action)),
            (Field::TaskName, text(name)),
            (Field::FilePath, text(path)),
            (Field::TaskCommand, text(&shown.command)),
            (Field::TaskSchedule, text(&shown.schedule)),
            (Field::EventProvider, text("task_files")),
        ];
        fields.extend(shown.owner.as_deref().map(|owner| (Field::TaskOwner, text(owner))));
        if let (Some(before), Some(now)) = (&before, &now) {
            let parts = [
                ("command", before.command != now.command),
                ("schedule", before.schedule != now.schedule),
                ("owner", before.owner != now.owner),
            ];
            let changed = parts.iter().filter(|(_, is)| *is).map(|(name, _)| (*name).to_owned()).collect();
            fields.push((Field::ChangedFields, Value::TextList(changed)));
            fields.push((Field::ChangeOld, text(&before.command)));
            fields.push((Field::ChangeNew, text(&now.command)));
        }
        match now {
            Some(now) => self.know(name.to_owned(), now),
            None => drop(self.known.remove(name)),
        }
        Some(ObservedActivity { event_type: EventType::ScheduledTask, actor: None, target: None, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(command: &str) -> Option<Definition> {
        Some(Definition { command: command.to_owned(), ..Definition::default() })
    }

    #[test]
    fn a_task_is_told_when_it_comes_changes_and_goes_and_at_no_other_time() {
        let mut changes = Changes::default();
        changes.know(r"\old".to_owned(), task("o").unwrap());
        let mut told = |name: &str, now| {
            let event = changes.look(name, "p", now)?;
            let get = |wanted| {
                event.fields.iter().find(|(field, _)| *field == wanted).map(|(_, value)| value.clone())
            };
            for needed in event.event_type.spec().needs {
                assert!(get(*needed).is_some(), "{needed:?}");
            }
            Some((get(Field::EventAction), get(Field::TaskCommand), get(Field::ChangeOld)))
        };
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        assert_eq!(told(r"\old", task("o")), None);
        assert_eq!(told(r"\a", task("x")), Some((text("create"), text("x"), None)));
        assert_eq!(told(r"\a", task("x")), None);
        assert_eq!(told(r"\a", task("y")), Some((text("modify"), text("y"), text("x"))));
        assert_eq!(told(r"\a", None), Some((text("delete"), text("y"), None)));
        assert_eq!(told(r"\a", None), None);
    }
}
