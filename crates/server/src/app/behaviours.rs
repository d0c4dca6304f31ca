//! Behaviours of process trees: those that agents have built in and those of the server's files, which agents get in the
//! signed bundle and which win over all others.

use std::sync::PoisonError;

use rule_engine::{
    BehaviourFile, BehaviourHead, BehaviourSet, CompileOptions, Diagnostic, RuleSet, parse_behaviours,
};
use serde_json::{Map, Value, json};
use state_store::ContentKind;

use super::{App, AppError, Caller};

/// The file into which [`App::override_behaviour`] writes. Files are taken in the order of their names; this one, as far as
/// people name theirs in letters, comes last.
const OVERRIDES: &str = "zz-overrides";

/// What is to be changed of a behaviour; what is not said goes back to what its file has.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Override {
    pub(crate) enabled: Option<bool>,
    pub(crate) weight: Option<f64>,
}

/// How many entries a text has and what is wrong with it, also beside what is built in.
pub(super) fn check(name: &str, text: &str) -> (u64, Vec<Diagnostic>) {
    let (file, mut diagnostics) = parse_behaviours(name, text);
    let entries = file.entries() as u64;
    let mut behaviours = BehaviourSet::built_in();
    behaviours.push(file);
    let options = CompileOptions { behaviours, ..CompileOptions::default() };
    diagnostics.extend(RuleSet::compile_with([], options).diagnostics);
    (entries, diagnostics)
}

impl App {
    /// Every behaviour that agents have, but for those of their own rule directories.
    pub(crate) fn behaviours(&self) -> Result<Vec<BehaviourHead>, AppError> {
        let mut files = BehaviourSet::built_in();
        files.extend(self.behaviour_files()?);
        Ok(BehaviourSet::heads(files))
    }

    fn behaviour_files(&self) -> Result<Vec<BehaviourFile>, AppError> {
        let heads = self.content_heads(ContentKind::Behaviours)?;
        let read = |name: &str| {
            Ok(parse_behaviours(name, &self.content_file(ContentKind::Behaviours, name)?.text).0)
        };
        heads.iter().map(|head| read(&head.name)).collect()
    }

    /// Switches a behaviour off or on, or gives it another weight, whatever file it is from.
    pub(crate) fn override_behaviour(
        &self,
        caller: &Caller,
        id: &str,
        change: Override,
    ) -> Result<BehaviourHead, AppError> {
        let _one_at_a_time = self.overriding.lock().unwrap_or_else(PoisonError::into_inner);
        let find = |heads: Vec<BehaviourHead>| heads.into_iter().find(|head| &*head.id == id);
        if find(self.behaviours()?).is_none() {
            return Err(AppError::not_found("behaviour", id));
        }
        let kept = match self.content_file(ContentKind::Behaviours, OVERRIDES) {
            Ok(kept) => Some(kept.text),
            Err(AppError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let text = with_override(kept.as_deref(), id, change)?;
        match text {
            Some(text) => drop(self.put_content(caller, ContentKind::Behaviours, OVERRIDES, text)?),
            None if kept.is_some() => self.delete_content(caller, ContentKind::Behaviours, OVERRIDES)?,
            None => {}
        }
        find(self.behaviours()?).ok_or_else(|| AppError::not_found("behaviour", id))
    }
}

/// The text of the overrides with this one; `None` where none is left.
fn with_override(kept: Option<&str>, id: &str, change: Override) -> Result<Option<String>, AppError> {
    let unreadable = || {
        AppError::Invalid(format!(
            "the behaviour file `{OVERRIDES}` is no object with a list of `overrides`; correct it first"
        ))
    };
    let mut file: Map<String, Value> = match kept {
        Some(text) => serde_json::from_str(text).map_err(|_| unreadable())?,
        None => Map::new(),
    };
    let list = file.entry("overrides").or_insert_with(|| json!([]));
    let Value::Array(list) = list else { return Err(unreadable()) };
    list.retain(|one| one["id"] != id);
    if change.enabled.is_some() || change.weight.is_some() {
        let mut one = json!({ "id": id });
        if let Some(enabled) = change.enabled {
            one["enabled"] = enabled.into();
        }
        if let Some(weight) = change.weight {
            one["weight"] = json!(weight);
        }
        list.push(one);
    }
    if list.is_empty() && file.len() == 1 {
        return Ok(None);
    }
    Ok(Some(serde_json::to_string_pretty(&file).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_replaces_its_own_and_keeps_the_rest() {
        let off = Override { enabled: Some(false), weight: None };
        let first = with_override(None, "a", off).unwrap().unwrap();
        let both =
            with_override(Some(&first), "b", Override { enabled: None, weight: Some(5.0) }).unwrap().unwrap();
        let on = with_override(Some(&both), "a", Override { enabled: Some(true), weight: Some(1.5) })
            .unwrap()
            .unwrap();
        let on: Value = serde_json::from_str(&on).unwrap();
        let expected = json!([{ "id": "b", "weight": 5.0 }, { "id": "a", "enabled": true, "weight": 1.5 }]);
        assert_eq!(on["overrides"], expected);
        assert_eq!(with_override(Some(&first), "a", Override::default()).unwrap(), None);
        let with_more = r#"{ "overrides": [{ "id": "a", "enabled": false }], "description": "ours" }"#;
        assert!(with_override(Some(with_more), "a", Override::default()).unwrap().unwrap().contains("ours"));
        assert!(with_override(Some("[]"), "a", off).is_err());
    }
}
