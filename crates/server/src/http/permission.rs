//! Who may do what: one table for all routes. A route that is not in it is refused.

use axum::http::Method;
use state_store::Role;

/// What it takes to use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Nothing.
    Public,
    /// To be signed in, also with a first password.
    OwnSession,
    /// To read hosts, events, alerts and rules.
    Read,
    /// To work on alerts.
    WorkOnAlerts,
    /// To change rules and their modes.
    EditRules,
    /// To act on hosts.
    Respond,
    /// To have done on hosts what a run of a playbook orders, and to tell of the run. Whoever may no more than that
    /// is held to his runs: see `app::orders_of_runs`.
    RunPlaybooks,
    /// To agree to what others ask for.
    Approve,
    /// Users, tokens, settings, revocation.
    Administer,
    /// To read the audit log.
    ReadAudit,
}

impl Permission {
    /// Whether a role has it.
    pub fn is_given_to(self, role: Role) -> bool {
        match self {
            Self::Public | Self::OwnSession | Self::Read => true,
            Self::WorkOnAlerts => {
                matches!(
                    role,
                    Role::Analyst
                        | Role::Responder
                        | Role::PlaybookRunner
                        | Role::DetectionEngineer
                        | Role::Approver
                        | Role::Administrator
                )
            }
            Self::EditRules => matches!(role, Role::DetectionEngineer | Role::Administrator),
            Self::Respond => matches!(role, Role::Responder | Role::Administrator),
            Self::RunPlaybooks => {
                matches!(role, Role::PlaybookRunner | Role::Responder | Role::Administrator)
            }
            Self::Approve => matches!(role, Role::Approver | Role::Administrator),
            Self::Administer => role == Role::Administrator,
            Self::ReadAudit => matches!(role, Role::Auditor | Role::Administrator),
        }
    }

    /// Who has it, for messages.
    pub fn needed(self) -> &'static str {
        match self {
            Self::Public => "nothing",
            Self::OwnSession | Self::Read => "any role",
            Self::WorkOnAlerts => {
                "analyst, responder, playbook_runner, detection_engineer, approver or administrator"
            }
            Self::EditRules => "detection_engineer or administrator",
            Self::Respond => "responder or administrator",
            Self::RunPlaybooks => "playbook_runner, responder or administrator",
            Self::Approve => "approver or administrator",
            Self::Administer => "administrator",
            Self::ReadAudit => "auditor or administrator",
        }
    }
}

/// Where the API lives.
pub const API: &str = "/api/v1";

/// Every route of the API.
pub const ROUTES: &[(Method, &str, Permission)] = &[
    (Method::GET, "/health", Permission::Public),
    (Method::GET, "/openapi.json", Permission::Public),
    (Method::POST, "/session", Permission::Public),
    (Method::GET, "/session", Permission::OwnSession),
    (Method::DELETE, "/session", Permission::OwnSession),
    (Method::PUT, "/session/password", Permission::OwnSession),
    (Method::GET, "/dashboard", Permission::Read),
    (Method::GET, "/hosts", Permission::Read),
    (Method::GET, "/hosts/{id}", Permission::Read),
    (Method::GET, "/hosts/{id}/account", Permission::Read),
    (Method::GET, "/hosts/{id}/coverage", Permission::Read),
    (Method::POST, "/hosts/{id}/revoke", Permission::Administer),
    (Method::POST, "/hosts/{id}/responses", Permission::RunPlaybooks),
    (Method::GET, "/responses", Permission::Read),
    (Method::GET, "/responses/{id}", Permission::Read),
    (Method::DELETE, "/responses/{id}", Permission::RunPlaybooks),
    (Method::POST, "/responses/{id}/undo", Permission::RunPlaybooks),
    (Method::GET, "/responses/{id}/release-code", Permission::Respond),
    (Method::POST, "/responses/{id}/decision", Permission::Approve),
    (Method::GET, "/fleet-stop", Permission::Read),
    (Method::PUT, "/fleet-stop", Permission::Respond),
    (Method::GET, "/playbook-runs", Permission::Read),
    (Method::POST, "/playbook-runs", Permission::Respond),
    (Method::GET, "/playbook-runs/{id}", Permission::Read),
    (Method::PUT, "/playbook-runs/{id}", Permission::RunPlaybooks),
    (Method::POST, "/playbook-runs/{id}/undo", Permission::Respond),
    (Method::GET, "/events", Permission::Read),
    (Method::GET, "/events/histogram", Permission::Read),
    (Method::GET, "/events/stream", Permission::Read),
    (Method::GET, "/events/{id}", Permission::Read),
    (Method::GET, "/fields", Permission::Read),
    (Method::GET, "/alerts", Permission::Read),
    (Method::GET, "/alerts/{id}", Permission::Read),
    (Method::PATCH, "/alerts/{id}", Permission::WorkOnAlerts),
    (Method::GET, "/rules", Permission::Read),
    (Method::POST, "/rules", Permission::EditRules),
    (Method::POST, "/rules/check", Permission::EditRules),
    (Method::POST, "/rules/import", Permission::EditRules),
    (Method::GET, "/rules/{id}", Permission::Read),
    (Method::GET, "/rules/{id}/coverage", Permission::Read),
    (Method::PUT, "/rules/{id}", Permission::EditRules),
    (Method::PATCH, "/rules/{id}", Permission::EditRules),
    (Method::DELETE, "/rules/{id}", Permission::EditRules),
    (Method::POST, "/rules/{id}/exceptions/preview", Permission::EditRules),
    (Method::GET, "/yara-files", Permission::Read),
    (Method::GET, "/yara-files/{id}", Permission::Read),
    (Method::PUT, "/yara-files/{id}", Permission::EditRules),
    (Method::POST, "/yara-files/{id}/check", Permission::EditRules),
    (Method::DELETE, "/yara-files/{id}", Permission::EditRules),
    (Method::GET, "/indicator-lists", Permission::Read),
    (Method::GET, "/indicator-lists/{id}", Permission::Read),
    (Method::PUT, "/indicator-lists/{id}", Permission::EditRules),
    (Method::POST, "/indicator-lists/{id}/check", Permission::EditRules),
    (Method::DELETE, "/indicator-lists/{id}", Permission::EditRules),
    (Method::GET, "/behaviours", Permission::Read),
    (Method::PATCH, "/behaviours/{id}", Permission::EditRules),
    (Method::GET, "/behaviour-files", Permission::Read),
    (Method::GET, "/behaviour-files/{id}", Permission::Read),
    (Method::PUT, "/behaviour-files/{id}", Permission::EditRules),
    (Method::POST, "/behaviour-files/{id}/check", Permission::EditRules),
    (Method::DELETE, "/behaviour-files/{id}", Permission::EditRules),
    (Method::GET, "/users", Permission::Administer),
    (Method::POST, "/users", Permission::Administer),
    (Method::PATCH, "/users/{id}", Permission::Administer),
    (Method::DELETE, "/users/{id}", Permission::Administer),
    (Method::GET, "/enrollment-tokens", Permission::Administer),
    (Method::POST, "/enrollment-tokens", Permission::Administer),
    (Method::DELETE, "/enrollment-tokens/{id}", Permission::Administer),
    (Method::GET, "/api-tokens", Permission::Administer),
    (Method::POST, "/api-tokens", Permission::Administer),
    (Method::DELETE, "/api-tokens/{id}", Permission::Administer),
    (Method::GET, "/settings", Permission::Read),
    (Method::PUT, "/settings", Permission::Administer),
    (Method::GET, "/settings/keys", Permission::Read),
    (Method::GET, "/ingest", Permission::Read),
    (Method::GET, "/audit", Permission::ReadAudit),
];

/// What it takes for this method on this path template (without [`API`]).
pub fn permission_of(method: &Method, template: &str) -> Option<Permission> {
    let route = ROUTES.iter().find(|(known, path, _)| known == method && *path == template)?;
    Some(route.2)
}
