//! Names of fields as small numbers.

use std::collections::HashMap;
use std::sync::OnceLock;

use event_model::Field;

/// A field by number, valid within the [`FieldNames`] that gave it. The fields of
/// the event model have the same number in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(u32);

impl FieldId {
    /// A field that no rule names. Only keyword searches look at its values.
    pub const UNNAMED: Self = Self(u32::MAX);

    /// The id of a field of the event model.
    pub fn of(field: Field) -> Self {
        static PLACES: OnceLock<Vec<u32>> = OnceLock::new();
        let places = PLACES.get_or_init(|| {
            let highest = Field::ALL.iter().map(|field| *field as usize).max().unwrap_or(0);
            let mut places = vec![0; highest + 1];
            for (place, field) in (0_u32..).zip(Field::ALL) {
                places[*field as usize] = place;
            }
            places
        });
        Self(places[field as usize])
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The names that rules use, each with its [`FieldId`].
#[derive(Debug, Clone)]
pub struct FieldNames {
    ids: HashMap<Box<str>, FieldId>,
    names: Vec<Box<str>>,
}

impl Default for FieldNames {
    fn default() -> Self {
        let mut names = Self { ids: HashMap::new(), names: Vec::new() };
        for field in Field::ALL {
            names.intern(field.spec().ecs);
        }
        names
    }
}

impl FieldNames {
    /// The id of a name; a new one where the name is new. Spaces count for nothing, as the
    /// Sigma specification has it.
    pub(crate) fn intern(&mut self, name: &str) -> FieldId {
        if let Some(id) = self.get(name) {
            return id;
        }
        let name: Box<str> = name.chars().filter(|character| *character != ' ').collect();
        let id = FieldId(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.names.push(name.clone());
        self.ids.insert(name, id);
        id
    }

    /// The id of a name that a rule uses. Case counts, spaces don't.
    pub fn get(&self, name: &str) -> Option<FieldId> {
        if name.contains(' ') {
            return self.ids.get(name.replace(' ', "").as_str()).copied();
        }
        self.ids.get(name).copied()
    }

    /// The name of an id.
    pub fn name(&self, id: FieldId) -> Option<&str> {
        self.names.get(id.index()).map(|name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_model_keep_their_ids_and_spaces_do_not_count() {
        let mut names = FieldNames::default();
        for field in Field::ALL {
            assert_eq!(names.get(field.spec().ecs), Some(FieldId::of(*field)));
        }
        let id = names.intern("Threat Name");
        assert_eq!(names.get("ThreatName"), Some(id));
        assert_eq!(names.get("Threat Name"), Some(id));
        assert_eq!(names.get("threatname"), None);
        assert_eq!(names.name(id), Some("ThreatName"));
    }
}
