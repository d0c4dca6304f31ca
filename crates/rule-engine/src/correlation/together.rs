//! What a correlation asks of the rules that were seen, each as its place among the correlation's rules.

use crate::sigma::{ConditionTree, is_like};

/// A condition over rules.
#[derive(Debug)]
pub(super) enum Together {
    Any(Vec<Self>),
    All(Vec<Self>),
    Not(Box<Self>),
    Seen(usize),
}

impl Together {
    /// Each of so many rules.
    pub(super) fn all_of(rules: usize) -> Self {
        Self::All((0..rules).map(Self::Seen).collect())
    }

    /// The condition as it was read, over rules that are called so: each by its id, its name, or both. The error says
    /// what it names that is none of them.
    pub(super) fn bind(tree: &ConditionTree, called: &[Vec<&str>]) -> Result<Self, String> {
        let each = |parts: &[ConditionTree]| {
            parts.iter().map(|part| Self::bind(part, called)).collect::<Result<Vec<_>, _>>()
        };
        match tree {
            ConditionTree::Any(parts) => each(parts).map(Self::Any),
            ConditionTree::All(parts) => each(parts).map(Self::All),
            ConditionTree::Not(inner) => Ok(Self::Not(Box::new(Self::bind(inner, called)?))),
            ConditionTree::Name(name, _) => {
                let nth = called.iter().position(|names| names.contains(&name.as_str()));
                nth.map(Self::Seen).ok_or_else(|| format!("`{name}`"))
            }
            ConditionTree::Of { all, pattern, .. } => {
                let is_meant = |name: &&str| pattern.as_ref().is_none_or(|pattern| is_like(pattern, name));
                let meant: Vec<Self> = called
                    .iter()
                    .enumerate()
                    .filter(|(_, names)| names.iter().any(is_meant))
                    .map(|(nth, _)| Self::Seen(nth))
                    .collect();
                match pattern {
                    Some(pattern) if meant.is_empty() => Err(format!("`{pattern}`")),
                    _ if *all => Ok(Self::All(meant)),
                    _ => Ok(Self::Any(meant)),
                }
            }
        }
    }

    /// Whether it holds where these rules were seen.
    pub(super) fn holds(&self, is_seen: &impl Fn(usize) -> bool) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.holds(is_seen)),
            Self::All(parts) => parts.iter().all(|part| part.holds(is_seen)),
            Self::Not(inner) => !inner.holds(is_seen),
            Self::Seen(nth) => is_seen(*nth),
        }
    }
}
