//! Which rules can fire on which hosts.

use serde::Serialize;
use utoipa::ToSchema;

use crate::app;

/// What a host collects, and what can't fire there.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HostCoverage {
    /// False: its agent has not said yet what it collects, or that was too long ago.
    pub known: bool,
    /// Where each type of events comes from: `type=source`, or `type=none: reason`.
    pub sources: Vec<String>,
    /// Rules that can't fire there. Correlations are left out: they judge other rules' matches.
    pub rules_without_source: Vec<RuleWithoutSource>,
}

/// A rule that can't fire on a host.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleWithoutSource {
    /// Id of the rule.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Which events are missing.
    pub reason: String,
}

/// Where a rule can't fire.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleCoverage {
    /// Hosts whose agents have said what they collect.
    pub known_hosts: u64,
    /// Those where the rule can't fire.
    pub hosts_without_source: Vec<HostWithoutSource>,
    /// False where there are more hosts than were looked at.
    pub complete: bool,
}

/// A host where a rule can't fire.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HostWithoutSource {
    /// Id of the host.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Which events are missing.
    pub reason: String,
}

impl From<app::HostCoverage> for HostCoverage {
    fn from(coverage: app::HostCoverage) -> Self {
        let rules = coverage.without_source.into_iter();
        Self {
            known: coverage.is_known,
            sources: coverage.sources,
            rules_without_source: rules
                .map(|rule| RuleWithoutSource {
                    id: rule.id.to_string(),
                    name: rule.name,
                    reason: rule.reason,
                })
                .collect(),
        }
    }
}

impl From<app::RuleCoverage> for RuleCoverage {
    fn from(coverage: app::RuleCoverage) -> Self {
        let hosts = coverage.without_source.into_iter();
        Self {
            known_hosts: coverage.known_hosts,
            hosts_without_source: hosts
                .map(|host| HostWithoutSource {
                    id: host.id.to_string(),
                    name: host.name,
                    reason: host.reason,
                })
                .collect(),
            complete: coverage.is_whole,
        }
    }
}
