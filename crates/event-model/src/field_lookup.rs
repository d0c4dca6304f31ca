//! From a spelling in a rule or a query to the field it means.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use crate::Field;

/// The `type` of a native rule: what kind of events it judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleScope {
    /// Starts and ends of processes.
    Process,
    /// Connections, listening sockets, DNS.
    Network,
    /// Creation, change and deletion of files.
    File,
    /// Changes of the Windows registry.
    Registry,
    /// Commands, paths and scheduled tasks as ATT&CK describes them.
    Attack,
    /// Windows event log records.
    EventLog,
}

impl RuleScope {
    /// Every scope, in the order of the seed.
    pub const ALL: [Self; 6] =
        [Self::Process, Self::Network, Self::File, Self::Registry, Self::Attack, Self::EventLog];

    /// The word in a rule's `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Network => "network",
            Self::File => "file",
            Self::Registry => "registry",
            Self::Attack => "attack",
            Self::EventLog => "event_log",
        }
    }
}

impl fmt::Display for RuleScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No field of that scope has this spelling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a field of {scope} rules")]
pub struct UnknownField {
    /// What was asked for.
    pub name: String,
    /// Where.
    pub scope: RuleScope,
    /// The known spelling nearest to it, if one is near.
    pub nearest: Option<&'static str>,
}

/// The field that `name` means in rules of that scope. Spellings compare without
/// regard to case. Short names win over Sigma's, Sigma's over ECS (no two of
/// them differ in any scope; a test holds the table to that).
pub fn resolve_field(scope: RuleScope, name: &str) -> Result<Field, UnknownField> {
    static TABLE: OnceLock<HashMap<(RuleScope, String), Field>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let all = RuleScope::ALL.into_iter();
        all.flat_map(|scope| {
            spellings(scope).map(move |(name, field)| ((scope, name.to_ascii_lowercase()), field))
        })
        .collect()
    });
    if let Some(field) = table.get(&(scope, name.to_ascii_lowercase())) {
        return Ok(*field);
    }
    let distance =
        |known: &str| strsim::osa_distance(&known.to_ascii_lowercase(), &name.to_ascii_lowercase());
    let nearest = spellings(scope)
        .map(|(known, _)| (distance(known), known))
        .min()
        // Farther than a third of the word away is a guess, not help.
        .filter(|(distance, known)| *distance <= known.len().max(3) / 3)
        .map(|(_, known)| known);
    Err(UnknownField { name: name.to_owned(), scope, nearest })
}

/// Every spelling that rules of the scope can use, with its field.
pub fn spellings_in_scope(scope: RuleScope) -> Vec<(&'static str, Field)> {
    spellings(scope).collect()
}

fn spellings(scope: RuleScope) -> impl Iterator<Item = (&'static str, Field)> {
    Field::ALL.iter().flat_map(move |&field| {
        let spec = field.spec();
        let short: &[_] = if spec.home.contains(&scope) { spec.seed } else { &[] };
        let present = spec.scopes.contains(&scope);
        let sigma: &[_] = if present { spec.sigma } else { &[] };
        let ecs = present.then_some(spec.ecs);
        short.iter().chain(sigma).copied().chain(ecs).map(move |name| (name, field))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn all_spellings_of_one_field_mean_the_same() {
        for name in ["cmdline", "command", "CommandLine", "commandline", "process.command_line"] {
            assert_eq!(resolve_field(RuleScope::Attack, name), Ok(Field::ProcessCommandLine), "{name}");
        }
        assert_eq!(resolve_field(RuleScope::File, "path"), Ok(Field::FilePath));
        assert_eq!(resolve_field(RuleScope::File, "Image"), Ok(Field::ProcessExecutable));
        assert_eq!(resolve_field(RuleScope::Registry, "path"), Ok(Field::RegistryPath));
    }

    #[test]
    fn unknown_spelling_names_the_nearest() {
        let error = resolve_field(RuleScope::Process, "cmdlin").expect_err("not a field");
        assert_eq!(error.nearest, Some("cmdline"));
        let error = resolve_field(RuleScope::Process, "zzzzzzzzzz").expect_err("not a field");
        assert_eq!(error.nearest, None);
    }

    #[test]
    fn no_spelling_means_two_fields() {
        for scope in RuleScope::ALL {
            let mut seen: HashMap<String, Field> = HashMap::new();
            for (name, field) in spellings(scope) {
                let other = seen.insert(name.to_ascii_lowercase(), field);
                assert!(
                    other.is_none_or(|other| other == field),
                    "{scope}: `{name}` is {other:?} and {field:?}"
                );
            }
        }
    }

    #[test]
    fn numbers_and_ecs_names_are_unique() {
        let mut numbers = HashSet::new();
        let mut names = HashSet::new();
        let mut columns = HashSet::new();
        for field in Field::ALL {
            let spec = field.spec();
            assert!(
                numbers.insert(spec.number) && names.insert(spec.ecs) && columns.insert(field.column()),
                "{field:?}"
            );
            assert_eq!(Field::from_number(spec.number), Some(*field));
            assert!(
                spec.home.iter().all(|scope| spec.scopes.contains(scope)),
                "{field:?}: home outside scopes"
            );
        }
    }
}
