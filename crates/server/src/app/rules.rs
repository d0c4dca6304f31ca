//! Rules: what the engine refuses is not saved; what is saved is pushed at once.

use std::collections::HashMap;
use std::time::Duration;

use event_model::{ResponseMode, RuleId};
use rule_engine::{Diagnostic, ParseOutcome, ParsedRule, RuleSet, parse_rule_text, set_key};
use rust_embed::RustEmbed;
use state_store::{NewRule, Rule, RulePatch};

use super::{App, AppError, Caller, before, causes, now};

/// Longest text of a rule.
const MAX_TEXT: usize = 64 * 1024;
/// Longest text of several rules at once; a request's body is not much longer.
const MAX_COLLECTION: usize = 200 * 1024;

/// The rules that a new server starts with.
#[derive(RustEmbed)]
#[folder = "../../rules"]
#[include = "*.json"]
#[exclude = "*.test.json"]
struct StarterPack;

/// A kept rule with what its text says, and how often it matched.
#[derive(Debug, Clone)]
pub struct RuleView {
    /// As kept.
    pub rule: Rule,
    /// As the engine reads it.
    pub head: rule_engine::RuleHead,
    /// Alerts in 24 hours.
    pub alerts_24h: u64,
}

/// The starter pack, read.
///
/// # Errors
/// [`AppError::RuleRefused`] if a rule of it is bad, which a test excludes.
pub fn starter_rules() -> Result<Vec<NewRule>, AppError> {
    let mut rules = Vec::new();
    for path in StarterPack::iter() {
        let Some(file) = StarterPack::get(&path) else { continue };
        let outcome = rule_engine::parse_rules_bytes(&path, &file.data);
        if !outcome.is_ok() {
            return Err(AppError::RuleRefused(outcome.diagnostics));
        }
        rules.extend(outcome.rules.iter().map(new_rule));
    }
    Ok(rules)
}

fn new_rule(rule: &ParsedRule) -> NewRule {
    NewRule { head: kept_head(rule.head()), text: rule.text().to_owned() }
}

fn kept_head(head: &rule_engine::RuleHead) -> state_store::RuleHead {
    state_store::RuleHead {
        id: head.id.clone(),
        name: head.name.clone(),
        rule_type: head.scope.as_str().to_owned(),
        severity: head.severity,
        enabled: head.enabled,
        mode: head.mode,
    }
}

impl App {
    /// Puts the starter pack in, if the store never had a rule.
    ///
    /// # Errors
    /// [`AppError`] if the store fails.
    pub fn insert_starter_rules(&self) -> Result<(), AppError> {
        if self.state.insert_starter_rules(&starter_rules()?, now())? {
            self.policy.refresh(self.state.as_ref(), &self.pki.command_key)?;
        }
        Ok(())
    }

    /// What the engine says about a text, one rule or several.
    pub(crate) fn check_rule(&self, text: &str) -> Result<ParseOutcome, AppError> {
        if text.len() > MAX_COLLECTION {
            return Err(AppError::TooLarge { maximum: MAX_COLLECTION });
        }
        Ok(parse_rule_text("rule", text))
    }

    /// The rules of a text that is without errors.
    fn read(&self, text: &str) -> Result<Vec<NewRule>, AppError> {
        let outcome = self.check_rule(text)?;
        if !outcome.is_ok() {
            return Err(AppError::RuleRefused(outcome.diagnostics));
        }
        let mut rules = Vec::new();
        for rule in &outcome.rules {
            let new = new_rule(rule);
            let id = &new.head.id;
            if new.text.len() > MAX_TEXT {
                return Err(AppError::Invalid(format!(
                    "rule `{id}` has {} bytes; {MAX_TEXT} are allowed for one rule",
                    new.text.len()
                )));
            }
            // Rules are kept one by one, so each text must say all of its rule.
            let alone = parse_rule_text("rule", &new.text);
            let can_be_switched = set_key(&new.text, "enabled", "true").is_ok();
            if !can_be_switched || !matches!(alone.rules.as_slice(), [one] if one.head().id == *id) {
                return Err(AppError::Invalid(format!(
                    "rule `{id}` takes parts from other documents of the text (`action: global` or `repeat`), or has several keys in one line; write it whole, each key in a line"
                )));
            }
            rules.push(new);
        }
        self.check_references(&outcome.rules)?;
        Ok(rules)
    }

    fn read_one(&self, text: &str) -> Result<NewRule, AppError> {
        if text.len() > MAX_TEXT {
            return Err(AppError::TooLarge { maximum: MAX_TEXT });
        }
        let mut rules = self.read(text)?;
        match (rules.pop(), rules.len()) {
            (Some(rule), 0) => Ok(rule),
            (_, others) => Err(AppError::Invalid(format!(
                "the text has {} rules; save one at a time, or all with POST /api/v1/rules/import",
                others + 1
            ))),
        }
    }

    /// Correlations and filters name other rules: those of the text, or those that are kept.
    fn check_references(&self, new: &[ParsedRule]) -> Result<(), AppError> {
        if !new.iter().any(|rule| rule.is_correlation() || rule.is_filter()) {
            return Ok(());
        }
        let is_new = |id: &RuleId| new.iter().any(|rule| rule.head().id == *id);
        let kept = self.state.rules()?.rules.into_iter().filter(|rule| !is_new(&rule.head.id));
        let kept = kept.flat_map(|rule| parse_rule_text("kept", &rule.text).rules);
        let compiled = RuleSet::compile(new.iter().cloned().chain(kept));
        let faults = compiled.diagnostics.into_iter().filter(|it| it.is_error() && it.file == "rule");
        let faults: Vec<Diagnostic> = faults.collect();
        if faults.is_empty() { Ok(()) } else { Err(AppError::RuleRefused(faults)) }
    }

    pub(crate) fn rule_views(&self) -> Result<Vec<RuleView>, AppError> {
        let counts = self.alerts_of_rules()?;
        let rules = self.state.rules()?.rules.into_iter();
        rules.map(|rule| view_of(rule, &counts)).collect()
    }

    pub(crate) fn rule_view(&self, id: &RuleId) -> Result<RuleView, AppError> {
        let rule = self.state.rule(id)?.ok_or_else(|| AppError::not_found("rule", id))?;
        view_of(rule, &self.alerts_of_rules()?)
    }

    fn alerts_of_rules(&self) -> Result<HashMap<RuleId, u64>, AppError> {
        let since = before(now(), Duration::from_secs(24 * 3600));
        let counts = self.state.alerts_by_rule(since, 10_000)?;
        Ok(counts.into_iter().map(|count| (count.rule_id, count.count)).collect())
    }

    pub(crate) fn create_rule(&self, caller: &Caller, text: &str) -> Result<RuleView, AppError> {
        let new = self.read_one(text)?;
        self.state.create_rules(std::slice::from_ref(&new), &caller.name, now())?;
        self.rule_changed(caller, "rule.create", &new.head.id, &new.text)
    }

    /// Adds every rule of a text, or none of them.
    pub(crate) fn import_rules(&self, caller: &Caller, text: &str) -> Result<Vec<RuleView>, AppError> {
        let new = self.read(text)?;
        if new.is_empty() {
            return Err(AppError::Invalid("the text has no rules".to_owned()));
        }
        self.state.create_rules(&new, &caller.name, now())?;
        self.publish_rules();
        for rule in &new {
            self.audit(&caller.actor(), "rule.create", rule.head.id.as_str(), &rule.text);
        }
        new.iter().map(|rule| self.rule_view(&rule.head.id)).collect()
    }

    pub(crate) fn replace_rule(
        &self,
        caller: &Caller,
        id: &RuleId,
        text: &str,
    ) -> Result<RuleView, AppError> {
        let new = self.read_one(text)?;
        if new.head.id != *id {
            return Err(AppError::Invalid(format!(
                "the text's id is `{}`, the rule's is `{id}`; an id can't change: add a new rule and remove this one",
                new.head.id
            )));
        }
        self.state.replace_rule(&new, &caller.name, now())?;
        self.rule_changed(caller, "rule.update", id, &new.text)
    }

    /// Changes the switches, in the text too, so that it says what is in force.
    pub(crate) fn change_rule(
        &self,
        caller: &Caller,
        id: &RuleId,
        enabled: Option<bool>,
        mode: Option<ResponseMode>,
    ) -> Result<RuleView, AppError> {
        let rule = self.state.rule(id)?.ok_or_else(|| AppError::not_found("rule", id))?;
        let failed = |error| AppError::internal("changing the rule's text", error);
        let mut text = rule.text;
        if let Some(enabled) = enabled {
            text = set_key(&text, "enabled", if enabled { "true" } else { "false" }).map_err(failed)?;
        }
        if let Some(mode) = mode {
            text = set_key(&text, "mode", &format!("\"{mode}\"")).map_err(failed)?;
        }
        let patch = RulePatch { enabled, mode, text: Some(text) };
        self.state.patch_rule(id, &patch, &caller.name, now())?;
        let detail = [enabled.map(|on| format!("enabled={on}")), mode.map(|mode| format!("mode={mode}"))];
        let detail: Vec<_> = detail.into_iter().flatten().collect();
        self.rule_changed(caller, "rule.switch", id, &detail.join(" "))
    }

    pub(crate) fn delete_rule(&self, caller: &Caller, id: &RuleId) -> Result<(), AppError> {
        self.state.delete_rule(id, now())?;
        self.publish_rules();
        self.audit(&caller.actor(), "rule.delete", id.as_str(), "");
        Ok(())
    }

    fn rule_changed(
        &self,
        caller: &Caller,
        what: &str,
        id: &RuleId,
        detail: &str,
    ) -> Result<RuleView, AppError> {
        self.publish_rules();
        self.audit(&caller.actor(), what, id.as_str(), detail);
        self.rule_view(id)
    }

    /// Makes and pushes a new bundle if the rules have changed. The change itself
    /// is saved, so a failure here is tried again by the next look at the version.
    pub(crate) fn publish_rules(&self) {
        if let Err(error) = self.policy.refresh(self.state.as_ref(), &self.pki.command_key) {
            tracing::error!(error = causes(&error), "rule bundle could not be made");
        }
    }
}

fn view_of(rule: Rule, counts: &HashMap<RuleId, u64>) -> Result<RuleView, AppError> {
    let alerts_24h = counts.get(&rule.head.id).copied().unwrap_or(0);
    let head = parse_rule_text("rule", &rule.text).rules.first().map(|parsed| parsed.head().clone());
    // Only a rule that another version of the engine took can fail to be read.
    let head = head.unwrap_or_else(|| head_of_unreadable(&rule));
    Ok(RuleView { rule, head, alerts_24h })
}

fn head_of_unreadable(rule: &Rule) -> rule_engine::RuleHead {
    use event_model::RuleScope;
    let scope = RuleScope::ALL.into_iter().find(|scope| scope.as_str() == rule.head.rule_type);
    rule_engine::RuleHead {
        id: rule.head.id.clone(),
        name: rule.head.name.clone(),
        description: "This version can't read the rule; agents of this version refuse it.".to_owned(),
        scope: scope.unwrap_or(RuleScope::Process),
        severity: rule.head.severity,
        enabled: rule.head.enabled,
        mode: rule.head.mode,
        actions: Vec::new(),
        match_mode: rule_engine::MatchMode::Any,
        attack: Vec::new(),
        tags: Vec::new(),
        references: Vec::new(),
        terminate_grace: Duration::ZERO,
        conditions: Vec::new(),
        exceptions: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_rule_of_the_starter_pack_is_good() {
        super::starter_rules().expect("the engine takes them");
    }
}
