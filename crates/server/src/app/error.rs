//! Why the application said no.

use std::time::Duration;

/// Why the application said no. Each variant has one status and one code in the API.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Nobody is signed in.
    #[error("sign in first")]
    NotSignedIn,
    /// Name or password is wrong, or the user is disabled; which one is nobody's business.
    #[error("the user name or the password is wrong")]
    WrongPassword,
    /// A first password is yet to be replaced.
    #[error("replace the first password before anything else (PUT /api/v1/session/password)")]
    PasswordChangeRequired,
    /// The role is not enough.
    #[error("the role {role} may not do this; it takes {needed}")]
    Forbidden {
        /// The caller's role.
        role: String,
        /// What it takes.
        needed: &'static str,
    },
    /// Another web page asked.
    #[error("requests from other sites are refused")]
    CrossSite,
    /// There is no such thing.
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// What.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// There is one already.
    #[error("{0}")]
    Conflict(String),
    /// What was sent can't be used.
    #[error("{0}")]
    Invalid(String),
    /// The body is not JSON of the wanted shape.
    #[error("the body can't be read: {0}")]
    BadBody(String),
    /// The body is not marked as JSON.
    #[error("the body must be JSON, with `Content-Type: application/json`")]
    NotJson,
    /// More than is taken.
    #[error("the body is larger than {maximum} bytes")]
    TooLarge {
        /// The limit.
        maximum: usize,
    },
    /// Too many attempts.
    #[error("too many attempts; try again in {} s", .retry_after.as_secs().max(1))]
    Throttled {
        /// For so long.
        retry_after: Duration,
    },
    /// The rule engine found errors.
    #[error("the rule has errors: {}", first_error(.0))]
    RuleRefused(Vec<rule_engine::Diagnostic>),
    /// The server has too much to do.
    #[error("the server is busy; try again")]
    Busy,
    /// The state store failed.
    #[error("the state store failed")]
    State(#[source] state_store::StateError),
    /// The event store failed.
    #[error("the event store failed")]
    Events(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something that should not happen.
    #[error("{doing} failed")]
    Internal {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn first_error(diagnostics: &[rule_engine::Diagnostic]) -> String {
    let first = diagnostics.iter().find(|diagnostic| diagnostic.is_error());
    first.map_or_else(String::new, |first| {
        format!("{}:{}:{}: {}", first.file, first.line, first.column, first.reason)
    })
}

impl AppError {
    /// There is no such thing.
    pub fn not_found(what: &'static str, id: impl std::fmt::Display) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    /// Something that should not happen.
    pub fn internal(
        doing: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Internal { doing, source: source.into() }
    }
}

impl From<state_store::StateError> for AppError {
    fn from(error: state_store::StateError) -> Self {
        use state_store::StateError;
        match error {
            StateError::Conflict { .. } | StateError::LastAdministrator { .. } => {
                Self::Conflict(error.to_string())
            }
            StateError::NotFound { what, key } => Self::NotFound { what, id: key },
            StateError::Invalid(reason) => Self::Invalid(reason),
            other => Self::State(other),
        }
    }
}

impl From<event_store::EventStoreError> for AppError {
    fn from(error: event_store::EventStoreError) -> Self {
        Self::Events(error.into())
    }
}

impl From<state_store::PasswordError> for AppError {
    fn from(error: state_store::PasswordError) -> Self {
        Self::internal("hashing a password", error)
    }
}

/// An error with all that stands behind it, for the log.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
