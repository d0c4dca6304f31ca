//! What differs between two looks at the list of pipes.

use std::collections::BTreeSet;

use event_model::{EventType, Field, Value};
use sensor_api::ObservedActivity;

/// Pipes that are remembered.
const MOST_KNOWN: usize = 65_536;

/// The pipes as they were seen last.
#[derive(Debug, Default)]
pub struct Changes {
    known: Option<BTreeSet<String>>,
}

impl Changes {
    /// Whether there was a first look.
    pub fn has_begun(&self) -> bool {
        self.known.is_some()
    }

    /// Those that are new. The first look only fills the list; what goes is not told.
    pub fn look(&mut self, mut now: BTreeSet<String>) -> Vec<ObservedActivity> {
        while now.len() > MOST_KNOWN {
            now.pop_last();
        }
        let Some(before) = self.known.replace(now.clone()) else { return Vec::new() };
        now.difference(&before).map(String::as_str).map(created).collect()
    }
}

fn created(name: &str) -> ObservedActivity {
    let fields = vec![
        // As Sysmon writes it.
        (Field::PipeName, Value::Text(format!(r"\{name}"))),
        (Field::EventProvider, Value::Text("pipe_list".to_owned())),
    ];
    ObservedActivity { event_type: EventType::PipeCreate, actor: None, target: None, fields }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_told_each_time_it_is_new() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let mut changes = Changes::default();
        assert_eq!(changes.look(set(&["lsass"])), []);
        let told = changes.look(set(&["lsass", "evil"]));
        assert_eq!(told.len(), 1);
        assert!(told[0].fields.contains(&(Field::PipeName, Value::Text(r"\evil".to_owned()))));
        assert_eq!(changes.look(set(&["lsass"])), []);
        assert_eq!(changes.look(set(&["lsass", "evil"])).len(), 1, "it is another one of that name");
    }
}
