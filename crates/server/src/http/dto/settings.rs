//! Settings, keys, tokens.

use event_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::words::{RoleWord, TimeText};
use state_store::Role;

/// How long things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Events, in days.
    #[schema(minimum = 1, maximum = 3650)]
    pub events_retention_days: u32,
    /// Alerts, in days.
    #[schema(minimum = 1, maximum = 3650)]
    pub alerts_retention_days: u32,
}

/// The server's certificates and public keys.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Keys {
    /// The CA that signs agents' certificates.
    pub ca: CertificateInfo,
    /// The certificate of this address.
    pub tls: CertificateInfo,
    /// Agents seal their batches with this.
    pub batch_key: PublicKeyInfo,
    /// Agents check rule bundles with this.
    pub command_key: CommandKeyInfo,
}

/// A certificate.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct CertificateInfo {
    /// Subject.
    pub subject: String,
    /// Names and addresses.
    pub sans: Vec<String>,
    /// Start.
    #[schema(value_type = TimeText)]
    pub not_before: Timestamp,
    /// End.
    #[schema(value_type = TimeText)]
    pub not_after: Timestamp,
    /// SHA-256 of the DER in hex.
    pub sha256: String,
}

/// An RSA public key.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PublicKeyInfo {
    /// Length in bits.
    pub bits: u32,
    /// SHA-256 of the SPKI in hex.
    pub sha256: String,
    /// The key, for an agent's `-pubkey`.
    pub pem: String,
}

/// The Ed25519 key that signs rule bundles.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct CommandKeyInfo {
    /// SHA-256 of the public key in hex.
    pub sha256: String,
}

/// A token with which hosts enrol.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EnrollmentToken {
    /// Id.
    pub id: String,
    /// When it was made.
    #[schema(value_type = TimeText)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends.
    #[schema(value_type = TimeText)]
    pub expires_at: Timestamp,
    /// How many hosts may use it in all.
    pub uses: u32,
    /// How many have.
    pub used: u32,
    /// Taken back.
    pub revoked: bool,
}

super::page!(
    /// Enrolment tokens, the latest first.
    EnrollmentTokenPage of EnrollmentToken
);

/// A new enrolment token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnrollmentTokenCreate {
    /// How long it may be used; an hour by default.
    #[serde(default = "an_hour")]
    #[schema(minimum = 60, maximum = 86400)]
    pub ttl_seconds: u32,
    /// How many hosts may use it; one by default.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 1000)]
    pub uses: u32,
}

fn an_hour() -> u32 {
    3600
}

fn one() -> u32 {
    1
}

/// The token, this one time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EnrollmentTokenCreated {
    /// Id.
    pub id: String,
    /// The token. It can't be shown again.
    pub token: String,
    /// When it ends.
    #[schema(value_type = TimeText)]
    pub expires_at: Timestamp,
    /// The line to paste on the host.
    pub command: String,
    /// The line to paste on a Windows host, in the folder of the unpacked agent.
    pub windows_command: String,
}

/// A token for scripts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiToken {
    /// Id.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What it may do.
    #[schema(value_type = RoleWord)]
    pub role: Role,
    /// When it was made.
    #[schema(value_type = TimeText)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends.
    #[schema(value_type = TimeText)]
    pub expires_at: Timestamp,
    /// When it was last used.
    #[schema(value_type = Option<TimeText>, required)]
    pub last_used_at: Option<Timestamp>,
}

super::page!(
    /// API tokens, the latest first.
    ApiTokenPage of ApiToken
);

/// A new API token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiTokenCreate {
    /// What it is for.
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    /// What it may do.
    #[schema(value_type = RoleWord)]
    pub role: Role,
    /// How long it may be used, in days.
    #[schema(minimum = 1, maximum = 366)]
    pub ttl_days: u32,
}

/// The token, this one time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiTokenCreated {
    /// Id.
    pub id: String,
    /// The token. It can't be shown again.
    pub token: String,
    /// When it ends.
    #[schema(value_type = TimeText)]
    pub expires_at: Timestamp,
}

impl From<crate::pki::CertificateFacts> for CertificateInfo {
    fn from(facts: crate::pki::CertificateFacts) -> Self {
        let crate::pki::CertificateFacts { subject, sans, not_before, not_after, sha256 } = facts;
        Self { subject, sans, not_before, not_after, sha256 }
    }
}

impl From<crate::pki::PkiFacts> for Keys {
    fn from(facts: crate::pki::PkiFacts) -> Self {
        Self {
            ca: facts.ca.into(),
            tls: facts.tls.into(),
            batch_key: PublicKeyInfo {
                bits: facts.sealing_key_bits,
                sha256: facts.sealing_key_sha256,
                pem: facts.sealing_key_pem,
            },
            command_key: CommandKeyInfo { sha256: facts.command_key_sha256 },
        }
    }
}

impl From<state_store::Retention> for Settings {
    fn from(retention: state_store::Retention) -> Self {
        Self { events_retention_days: retention.events_days, alerts_retention_days: retention.alerts_days }
    }
}

impl From<Settings> for state_store::Retention {
    fn from(settings: Settings) -> Self {
        Self { events_days: settings.events_retention_days, alerts_days: settings.alerts_retention_days }
    }
}

impl From<state_store::EnrollmentToken> for EnrollmentToken {
    fn from(token: state_store::EnrollmentToken) -> Self {
        Self {
            id: token.id.to_string(),
            created_at: token.created_at,
            created_by: token.created_by,
            expires_at: token.expires_at,
            uses: token.uses,
            used: token.uses.saturating_sub(token.uses_left),
            revoked: token.revoked_at.is_some(),
        }
    }
}

impl From<state_store::ApiToken> for ApiToken {
    fn from(token: state_store::ApiToken) -> Self {
        Self {
            id: token.id.to_string(),
            name: token.name,
            role: token.role,
            created_at: token.created_at,
            created_by: token.created_by,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
        }
    }
}
