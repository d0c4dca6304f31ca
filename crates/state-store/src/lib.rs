//! What the server must not forget besides telemetry: hosts, enrolment and API
//! tokens, users and their sessions, rules, alerts, settings and the audit log.
//!
//! [`StateStore`] is the boundary; [`SqliteStateStore`] keeps it in the one file
//! of `-db`. Every method is one transaction, durable when it returns. The store
//! is synchronous (call it from blocking threads), and it knows no clock: the
//! caller says what time it is.
//!
//! Secrets never enter: of tokens and session ids only the SHA-256 is kept
//! ([`SecretDigest`]), of passwords only the Argon2id hash ([`PasswordHash`]).

#![deny(missing_docs)]

mod access;
mod activity;
mod alert;
mod content;
pub mod contract;
mod error;
mod host;
mod response;
mod rule;
mod run;
mod secret;
mod sqlite;
mod store;

pub use access::{
    ApiToken, EnrollmentToken, NewApiToken, NewEnrollmentToken, NewSession, NewUser, RedeemError, Role,
    Session, TokenRefusal, User,
};
pub use activity::{AuditEntry, AuditRow, OutboxRow, RefusedCount, Retention};
pub use alert::{
    Alert, AlertChange, AlertChangeKind, AlertDetail, AlertId, AlertNote, AlertProcess, AlertQuery,
    AlertStatus, AlertUpdate, CloseReason, DetectionInput, Findings, FindingsOutcome, HourCount, RuleCount,
    SeverityCount,
};
pub use content::{ContentHead, ContentKind, ContentSet, KeptContentFile, NewContentFile};
pub use error::StateError;
pub use host::{AgentFigures, AgentStatus, Certificate, Host, HostContact, NewHost};
pub use response::{Decision, NewResponse, Response, ResponseState};
pub use rule::{NewRule, Rule, RuleHead, RuleOrigin, RulePatch, RuleSet};
pub use run::{NewRun, PlaybookRun, RunQuery, RunReport, RunState};
pub use secret::{PasswordError, PasswordHash, SecretDigest, Token, one_time_password};
pub use sqlite::SqliteStateStore;
pub use store::{
    AccessStore, ActivityStore, AlertStore, ContentStore, HostStore, Page, ResponseStore, RuleStore,
    RunStore, StateStore,
};
