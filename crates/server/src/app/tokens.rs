//! Enrolment tokens and API tokens.

use std::time::Duration;

use event_model::Timestamp;
use state_store::{NewApiToken, NewEnrollmentToken, Role, Token};
use uuid::Uuid;

use super::{Actor, App, AppError, Caller, after, now};

/// A token that was just made.
#[derive(Debug)]
pub(crate) struct MadeToken {
    pub(crate) id: Uuid,
    pub(crate) token: Token,
    pub(crate) expires_at: Timestamp,
}

impl App {
    pub(crate) fn create_enrollment_token(
        &self,
        actor: &Actor,
        ttl_seconds: u32,
        uses: u32,
    ) -> Result<MadeToken, AppError> {
        if !(60..=86_400).contains(&ttl_seconds) {
            return Err(AppError::Invalid("`ttl_seconds` is 60 to 86400".to_owned()));
        }
        if !(1..=1000).contains(&uses) {
            return Err(AppError::Invalid("`uses` is 1 to 1000".to_owned()));
        }
        let token = Token::for_enrollment(&self.pki.ca)?;
        let expires_at = after(now(), Duration::from_secs(ttl_seconds.into()));
        let new =
            NewEnrollmentToken { secret: token.digest(), uses, expires_at, created_by: actor.who.clone() };
        let id = self.state.create_enrollment_token(&new, now())?;
        self.audit(actor, "enrollment_token.create", &id.to_string(), &format!("uses={uses}"));
        Ok(MadeToken { id, token, expires_at })
    }

    /// The line that enrols a host.
    pub(crate) fn enrollment_command(&self, token: &Token) -> String {
        format!("sudo edr-agent -server={} -token={}", self.address, token.as_str())
    }

    /// The same for Windows, whose zip file has what installs the agent as a service.
    pub(crate) fn windows_enrollment_command(&self, token: &Token) -> String {
        format!(
            r"powershell -ExecutionPolicy Bypass -File .\install.ps1 -Server {} -Token {}",
            self.address,
            token.as_str()
        )
    }

    /// The first token and its line, for the first start.
    ///
    /// # Errors
    /// [`AppError::State`] if the store fails.
    pub fn first_enrollment_command(&self) -> Result<String, AppError> {
        let actor = Actor { who: "server".to_owned(), address: None };
        let made = self.create_enrollment_token(&actor, 3600, 1)?;
        Ok(self.enrollment_command(&made.token))
    }

    pub(crate) fn revoke_enrollment_token(&self, caller: &Caller, id: &str) -> Result<(), AppError> {
        let unknown = || AppError::not_found("enrolment token", id);
        let parsed: Uuid = id.parse().map_err(|_| unknown())?;
        if !self.state.revoke_enrollment_token(parsed, now())? {
            return Err(unknown());
        }
        self.audit(&caller.actor(), "enrollment_token.revoke", id, "");
        Ok(())
    }

    pub(crate) fn create_api_token(
        &self,
        caller: &Caller,
        name: &str,
        role: Role,
        ttl_days: u32,
    ) -> Result<MadeToken, AppError> {
        let is_good =
            |character: char| character.is_alphanumeric() || matches!(character, '.' | '_' | '-' | ' ');
        if name.trim().is_empty() || name.chars().count() > 64 || !name.chars().all(is_good) {
            return Err(AppError::Invalid(
                "the name of a token has 1 to 64 letters, digits, spaces, `.`, `_` or `-`".to_owned(),
            ));
        }
        if !(1..=366).contains(&ttl_days) {
            return Err(AppError::Invalid("`ttl_days` is 1 to 366".to_owned()));
        }
        let token = Token::for_api()?;
        let expires_at = after(now(), Duration::from_secs(u64::from(ttl_days) * 86_400));
        let new = NewApiToken {
            secret: token.digest(),
            name: name.trim().to_owned(),
            role,
            expires_at,
            created_by: caller.name.clone(),
        };
        let id = self.state.create_api_token(&new, now())?;
        self.audit(&caller.actor(), "api_token.create", &id.to_string(), &format!("{name} {role}"));
        Ok(MadeToken { id, token, expires_at })
    }

    pub(crate) fn delete_api_token(&self, caller: &Caller, id: &str) -> Result<(), AppError> {
        let unknown = || AppError::not_found("API token", id);
        let parsed: Uuid = id.parse().map_err(|_| unknown())?;
        if !self.state.delete_api_token(parsed)? {
            return Err(unknown());
        }
        self.audit(&caller.actor(), "api_token.delete", id, "");
        Ok(())
    }
}
