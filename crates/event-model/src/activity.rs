//! What a process did, other than starting and ending, and what was found out
//! about the host. Sensors fill in fields of the table; who did it comes from the
//! agent's table of processes.

use crate::body::{entity, string, text, who};
use crate::{EventType, Field, ParentProcess, Process, Value, ValueRef};

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The process.
    pub process: Process,
    /// Its parent, where it is known.
    pub parent: Option<ParentProcess>,
}

/// Something that was done or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// What kind of thing.
    pub event_type: EventType,
    /// Who did it; `None` where nobody knows (found by comparing, read from a log).
    pub who: Option<Who>,
    /// To whom it was done.
    pub target: Option<Who>,
    /// The rest, in any order, each field at most once. A field here wins over the
    /// same field of `who` and `target`.
    pub fields: Vec<(Field, Value)>,
}

impl Activity {
    /// The value of a field, where this event has it.
    pub(crate) fn value(&self, field: Field) -> Option<ValueRef<'_>> {
        if let Some((_, value)) = self.fields.iter().find(|(own, _)| *own == field) {
            return Some(value.as_ref());
        }
        self.of_who(field).or_else(|| self.of_target(field))
    }

    pub(crate) fn of_who(&self, field: Field) -> Option<ValueRef<'_>> {
        let one = self.who.as_ref()?;
        match field {
            Field::ContainerId => Some(text(one.process.image.container_id.as_deref()?)),
            // Those stand in the start event; here they would only cost room.
            Field::UserEffectiveId | Field::UserGroupId => None,
            _ => who(&one.process, one.parent.as_ref(), field),
        }
    }

    pub(crate) fn of_target(&self, field: Field) -> Option<ValueRef<'_>> {
        let one = self.target.as_ref()?;
        Some(match field {
            Field::TargetEntityId => entity(one.process.entity_id),
            Field::TargetPid => ValueRef::Integer(one.process.entity_id.pid().into()),
            Field::TargetName => text(one.process.name()),
            Field::TargetExecutable => text(&one.process.image.executable),
            Field::TargetCommandLine => text(&one.process.image.command_line),
            Field::TargetUserId => string(one.process.image.user.id),
            _ => return None,
        })
    }
}
