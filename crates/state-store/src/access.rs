//! Who may do what: roles, users, sessions, tokens.

use std::time::Duration;

use event_model::{HostId, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use crate::{PasswordHash, SecretDigest, StateError};
use event_model::words;

words! {
    /// What a user or an API token may do. What each role permits is the server's
    /// to say; the store only keeps the word.
    Role {
        /// Reads.
        Viewer = "viewer",
        /// Works on alerts.
        Analyst = "analyst",
        /// Acts on hosts.
        Responder = "responder",
        /// Does what playbooks order for alerts, and nothing else on hosts: for the tokens of responders.
        PlaybookRunner = "playbook_runner",
        /// Writes rules.
        DetectionEngineer = "detection_engineer",
        /// Says yes or no to actions that wait.
        Approver = "approver",
        /// Everything.
        Administrator = "administrator",
        /// Reads the audit log.
        Auditor = "auditor",
    }
}

/// A user to be made.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Unique without regard to case.
    pub username: String,
    /// The hash of the password.
    pub password: PasswordHash,
    /// The role.
    pub role: Role,
    /// True if the password was made by another and is good for one sign-in.
    pub must_change_password: bool,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// As it was first written.
    pub username: String,
    /// The role.
    pub role: Role,
    /// True until the user has chosen a password.
    pub must_change_password: bool,
    /// True if the user may not sign in.
    pub disabled: bool,
    /// When the user was made.
    pub created_at: Timestamp,
    /// The last sign-in.
    pub last_sign_in_at: Option<Timestamp>,
}

/// A sign-in.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Of the session's id.
    pub secret: SecretDigest,
    /// Who signed in.
    pub username: String,
    /// The session ends this long after it was last used.
    pub idle_limit: Duration,
    /// And at this moment at the latest.
    pub expires_at: Timestamp,
    /// From where.
    pub address: String,
    /// With what.
    pub user_agent: String,
}

/// A session that is good now, with its user as the user is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who signed in.
    pub user: User,
    /// When.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_seen_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// From where.
    pub address: String,
    /// With what.
    pub user_agent: String,
}

/// An enrolment token to be made.
#[derive(Debug, Clone)]
pub struct NewEnrollmentToken {
    /// Of the token.
    pub secret: SecretDigest,
    /// How many hosts it is good for, from 1.
    pub uses: u32,
    /// When it ends.
    pub expires_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// An enrolment token as its administrators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnrollmentToken {
    /// Its id, which is no secret.
    pub id: Uuid,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// How many hosts it was good for.
    pub uses: u32,
    /// How many it is still good for.
    pub uses_left: u32,
    /// When it was last used.
    pub used_at: Option<Timestamp>,
    /// By which host last.
    pub used_by: Option<HostId>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// Why an enrolment token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Nobody made it.
    #[error("the enrolment token is not known")]
    Unknown,
    /// Its time is over.
    #[error("the enrolment token has expired")]
    Expired,
    /// It has enrolled as many hosts as it was made for.
    #[error("the enrolment token has been used up")]
    UsedUp,
    /// An administrator took it back.
    #[error("the enrolment token was revoked")]
    Revoked,
}

/// A host was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// The token is not good. Nothing has changed.
    #[error(transparent)]
    Refused(#[from] TokenRefusal),
    /// The store failed. Nothing has changed.
    #[error(transparent)]
    Store(#[from] StateError),
}

/// An API token to be made.
#[derive(Debug, Clone)]
pub struct NewApiToken {
    /// Of the token.
    pub secret: SecretDigest,
    /// What it is for; unique.
    pub name: String,
    /// The role.
    pub role: Role,
    /// When it ends.
    pub expires_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// An API token as its administrators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiToken {
    /// Its id, which is no secret.
    pub id: Uuid,
    /// What it is for.
    pub name: String,
    /// The role.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}
