//! Which rules can fire on which hosts. An agent says at its start where each type of events comes from
//! (`rampart.agent.sources`); a rule whose events come from nowhere can never fire there, and is told here.

use event_model::{EventRecord, EventType, Field, FieldSource as _, HostId, RuleId, ValueRef};
use event_store::EventQuery;
use rule_engine::{CompileOptions, RuleSet, parse_rule_text};
use state_store::Host;

use super::{App, AppError};

/// Hosts that are looked at for one rule.
const HOSTS_LIMIT: usize = 1_000;

/// What a host can tell, and what it can't.
#[derive(Debug, Clone, Default)]
pub struct HostCoverage {
    /// False: its agent has not said yet what it collects, or that was too long ago.
    pub is_known: bool,
    /// `type=source`, or `type=none: reason`.
    pub sources: Vec<String>,
    /// Rules that can't fire there.
    pub without_source: Vec<StarvedRule>,
}

/// A rule that can't fire.
#[derive(Debug, Clone)]
pub struct StarvedRule {
    /// Its id.
    pub id: RuleId,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Where a rule can't fire.
#[derive(Debug, Clone, Default)]
pub struct RuleCoverage {
    /// Hosts whose agents have said what they collect.
    pub known_hosts: u64,
    /// Those where the rule can't fire.
    pub without_source: Vec<StarvedHost>,
    /// False where there are more hosts than are looked at.
    pub is_whole: bool,
}

/// A host where a rule can't fire.
#[derive(Debug, Clone)]
pub struct StarvedHost {
    /// Its id.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl App {
    /// What of the rules can't fire on a host.
    pub(crate) fn host_coverage(&self, id: HostId) -> Result<HostCoverage, AppError> {
        let host = self.state.host(id)?.ok_or_else(|| AppError::not_found("host", id))?;
        let Some(sources) = self.sources_of(id)? else { return Ok(HostCoverage::default()) };
        let texts = self.state.rules()?.rules.into_iter().map(|rule| rule.text);
        let set = compiled(texts, product_of(&host));
        let without_source = set.without_source(&collected(&sources)).into_iter().map(|(rule, reason)| {
            StarvedRule { id: rule.head().id.clone(), name: rule.head().name.clone(), reason }
        });
        let without_source = without_source.collect();
        Ok(HostCoverage { is_known: true, without_source, sources })
    }

    /// On which hosts a rule can't fire.
    pub(crate) fn rule_coverage(&self, id: &RuleId) -> Result<RuleCoverage, AppError> {
        let rule = self.state.rule(id)?.ok_or_else(|| AppError::not_found("rule", id))?;
        let sets = ["linux", "windows"].map(|product| (product, compiled([rule.text.clone()], product)));
        let hosts = self.state.hosts()?;
        let mut coverage = RuleCoverage { is_whole: hosts.len() <= HOSTS_LIMIT, ..RuleCoverage::default() };
        for host in hosts.into_iter().filter(|host| !host.is_revoked()).take(HOSTS_LIMIT) {
            let Some(sources) = self.sources_of(host.id)? else { continue };
            coverage.known_hosts += 1;
            let product = product_of(&host);
            let set = sets.iter().find(|(own, _)| *own == product).map(|(_, set)| set);
            let starved = set.and_then(|set| set.without_source(&collected(&sources)).into_iter().next());
            if let Some((_, reason)) = starved {
                coverage.without_source.push(StarvedHost { id: host.id, name: host.name, reason });
            }
        }
        Ok(coverage)
    }

    /// What the host's agent said when it last began.
    fn sources_of(&self, host: HostId) -> Result<Option<Vec<String>>, AppError> {
        let query = EventQuery {
            host: Some(host),
            event_types: vec![EventType::AgentStart],
            ..EventQuery::newest(1)
        };
        let page = self.events.search(&query)?;
        Ok(page.events.first().map(sources_in))
    }
}

fn sources_in(start: &EventRecord) -> Vec<String> {
    match start.value(Field::AgentSources) {
        Some(ValueRef::TextList(lines)) => lines.to_vec(),
        _ => Vec::new(),
    }
}

/// The types of events that some source gives.
fn collected(sources: &[String]) -> Vec<EventType> {
    let given = sources.iter().filter_map(|line| line.split_once('='));
    let given = given.filter(|(_, source)| *source != "none" && !source.starts_with("none:"));
    given.filter_map(|(word, _)| EventType::from_word(word)).collect()
}

fn compiled(texts: impl IntoIterator<Item = String>, product: &str) -> RuleSet {
    let rules = texts.into_iter().flat_map(|text| parse_rule_text("rule", &text).rules);
    let options = CompileOptions { live_product: Some(product.to_owned()), ..CompileOptions::default() };
    RuleSet::compile_with(rules, options).rules
}

/// The system of a host in Sigma's words.
fn product_of(host: &Host) -> &'static str {
    if host.os.to_ascii_lowercase().contains("windows") { "windows" } else { "linux" }
}
