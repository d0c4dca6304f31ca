//! Signing in, sessions, users.
//!
//! A failed sign-in tells nothing: an unknown name, a wrong password and a
//! disabled user give the same answer after the same work. Guessing is slowed
//! for each pair of account and address, for each address, and (far more
//! loosely, so that nobody can lock an administrator out) for each account.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use state_store::{NewSession, NewUser, PasswordHash, Role, SecretDigest, StateError, Token, User};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::throttle::Throttle;
use super::{Actor, App, AppError, after, now};

/// A session ends when nobody used it for so long …
const IDLE_LIMIT: Duration = Duration::from_secs(30 * 60);
/// … and so long after it began in any case.
const SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);
/// Each check of a password takes 19 MiB and some 20 ms of a core, on purpose.
const PASSWORDS_AT_ONCE: usize = 2;
/// Longer than this nobody waits for a turn.
const PASSWORD_WAIT: Duration = Duration::from_secs(10);
/// Shortest password, in characters (ASVS 6.2.1 asks for 8 and recommends 15).
const MIN_PASSWORD: usize = 12;
/// Longest password, in bytes.
const MAX_PASSWORD: usize = 256;

pub(super) struct SignIns {
    by_pair: Throttle<(String, IpAddr)>,
    by_address: Throttle<IpAddr>,
    by_account: Throttle<String>,
    turns: Semaphore,
    /// Checked in place of the hash of a user who does not exist.
    nobody: PasswordHash,
}

impl SignIns {
    pub(super) fn new() -> Result<Self, AppError> {
        Ok(Self {
            by_pair: Throttle::new(5, Duration::from_secs(20)),
            by_address: Throttle::new(30, Duration::from_secs(5)),
            by_account: Throttle::new(100, Duration::from_secs(2)),
            turns: Semaphore::new(PASSWORDS_AT_ONCE),
            nobody: PasswordHash::of(&state_store::one_time_password()?)?,
        })
    }
}

/// How a caller proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// A session of a person.
    Session(SecretDigest),
    /// A token of a script.
    ApiToken(SecretDigest),
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user, or `token:<name>`.
    pub name: String,
    /// The role.
    pub role: Role,
    /// Has a first password that is yet to be replaced.
    pub must_change_password: bool,
    /// How it was proved.
    pub credential: Credential,
    /// From where.
    pub address: IpAddr,
}

impl Caller {
    pub(crate) fn actor(&self) -> Actor {
        Actor { who: self.name.clone(), address: Some(self.address) }
    }
}

/// A new user.
#[derive(Debug)]
pub struct NewUserInput {
    /// Name.
    pub username: String,
    /// First password.
    pub password: String,
    /// Role.
    pub role: Role,
}

/// A change of a user.
#[derive(Debug, Default)]
pub struct UserPatch {
    /// New role.
    pub role: Option<Role>,
    /// Whether the user is kept out.
    pub disabled: Option<bool>,
    /// New first password.
    pub new_password: Option<String>,
}

/// An IPv6 customer has a whole /64 to guess from; that is one address here.
pub(crate) fn place_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

impl App {
    /// Signs a user in; gives the session's secret and the user.
    ///
    /// # Errors
    /// [`AppError::WrongPassword`], [`AppError::Throttled`], [`AppError::Busy`].
    pub(crate) async fn sign_in(
        self: &Arc<Self>,
        username: String,
        password: String,
        address: IpAddr,
        user_agent: String,
    ) -> Result<(Token, User), AppError> {
        if username.len() > 256 || password.len() > MAX_PASSWORD {
            return Err(AppError::WrongPassword);
        }
        let account = username.to_lowercase();
        let place = place_of(address);
        let pair = (account.clone(), place);
        let attempt = Instant::now();
        let throttled = |retry_after| AppError::Throttled { retry_after };
        self.sign_ins.by_pair.take(&pair, attempt).map_err(throttled)?;
        self.sign_ins.by_address.take(&place, attempt).map_err(throttled)?;
        self.sign_ins.by_account.take(&account, attempt).map_err(throttled)?;

        let turn = timeout(PASSWORD_WAIT, self.sign_ins.turns.acquire()).await;
        let turn = turn.map_err(|_| AppError::Busy)?.map_err(|_| AppError::Busy)?;
        let signed_in =
            self.work(move |app| app.check_sign_in(&username, &password, address, user_agent)).await;
        drop(turn);
        if signed_in.is_ok() {
            self.sign_ins.by_pair.give_back(&pair);
            self.sign_ins.by_address.give_back(&place);
            self.sign_ins.by_account.give_back(&account);
        }
        signed_in
    }

    fn check_sign_in(
        &self,
        username: &str,
        password: &str,
        address: IpAddr,
        user_agent: String,
    ) -> Result<(Token, User), AppError> {
        let found = self.state.user_with_password(username)?;
        let hash = found.as_ref().map_or(&self.sign_ins.nobody, |(_, hash)| hash);
        let is_right = hash.verify(password);
        let user = found.map(|(user, _)| user).filter(|user| is_right && !user.disabled);
        let Some(user) = user else {
            // The name may be a password typed into the wrong field, so it is not logged.
            let actor = Actor { who: "server".to_owned(), address: Some(address) };
            self.audit(&actor, "session.refused", "", "");
            return Err(AppError::WrongPassword);
        };
        let token = Token::for_session()?;
        let start = now();
        let session = NewSession {
            secret: token.digest(),
            username: user.username.clone(),
            idle_limit: IDLE_LIMIT,
            expires_at: after(start, SESSION_LIFE),
            address: address.to_string(),
            user_agent: user_agent.chars().take(256).collect(),
        };
        self.state.create_session(&session, start)?;
        let actor = Actor { who: user.username.clone(), address: Some(address) };
        self.audit(&actor, "session.begin", &user.username, "");
        Ok((token, user))
    }

    /// The caller of a session, if it is good now.
    pub(crate) fn caller_of_session(
        &self,
        secret: &SecretDigest,
        address: IpAddr,
    ) -> Result<Option<Caller>, AppError> {
        let session = self.state.session(secret, now())?;
        Ok(session.map(|session| Caller {
            name: session.user.username,
            role: session.user.role,
            must_change_password: session.user.must_change_password,
            credential: Credential::Session(*secret),
            address,
        }))
    }

    /// The caller of an API token, if it is good now.
    pub(crate) fn caller_of_token(
        &self,
        secret: &SecretDigest,
        address: IpAddr,
    ) -> Result<Option<Caller>, AppError> {
        let token = self.state.authenticate_api_token(secret, now())?;
        Ok(token.map(|token| Caller {
            name: format!("token:{}", token.name),
            role: token.role,
            must_change_password: false,
            credential: Credential::ApiToken(*secret),
            address,
        }))
    }

    pub(crate) fn sign_out(&self, caller: &Caller) -> Result<(), AppError> {
        if let Credential::Session(secret) = &caller.credential {
            self.state.end_session(secret)?;
            self.audit(&caller.actor(), "session.end", &caller.name, "");
        }
        Ok(())
    }

    /// Replaces the caller's own password; the session stays, all others end.
    pub(crate) async fn change_own_password(
        self: &Arc<Self>,
        caller: Caller,
        current: String,
        new: String,
    ) -> Result<(), AppError> {
        let Credential::Session(session) = caller.credential else {
            return Err(AppError::Invalid("an API token has no password".to_owned()));
        };
        check_password(&new, &caller.name)?;
        if new == current {
            return Err(AppError::Invalid("the new password is the current one".to_owned()));
        }
        let pair = (caller.name.to_lowercase(), place_of(caller.address));
        self.sign_ins
            .by_pair
            .take(&pair, Instant::now())
            .map_err(|retry_after| AppError::Throttled { retry_after })?;
        let turn = timeout(PASSWORD_WAIT, self.sign_ins.turns.acquire()).await;
        let turn = turn.map_err(|_| AppError::Busy)?.map_err(|_| AppError::Busy)?;
        let changed = self
            .work(move |app| {
                let Some((user, hash)) = app.state.user_with_password(&caller.name)? else {
                    return Err(AppError::NotSignedIn);
                };
                if current.len() > MAX_PASSWORD || !hash.verify(&current) {
                    return Err(AppError::WrongPassword);
                }
                app.state.set_password(&user.username, &PasswordHash::of(&new)?, false, Some(&session))?;
                app.audit(&caller.actor(), "user.password", &user.username, "");
                Ok(())
            })
            .await;
        drop(turn);
        if changed.is_ok() {
            self.sign_ins.by_pair.give_back(&pair);
        }
        changed
    }

    pub(crate) fn create_user(&self, caller: &Caller, input: &NewUserInput) -> Result<User, AppError> {
        check_username(&input.username)?;
        check_password(&input.password, &input.username)?;
        let new = NewUser {
            username: input.username.clone(),
            password: PasswordHash::of(&input.password)?,
            role: input.role,
            must_change_password: true,
        };
        self.state.create_user(&new, now())?;
        self.audit(&caller.actor(), "user.create", &input.username, input.role.as_str());
        self.user(&input.username)
    }

    pub(crate) fn change_user(
        &self,
        caller: &Caller,
        username: &str,
        patch: &UserPatch,
    ) -> Result<User, AppError> {
        let user = self.user(username)?;
        if let Some(password) = &patch.new_password {
            check_password(password, &user.username)?;
        }
        if let Some(role) = patch.role.filter(|role| *role != user.role) {
            self.state.set_role(&user.username, role)?;
            self.audit(&caller.actor(), "user.role", &user.username, role.as_str());
        }
        if let Some(disabled) = patch.disabled.filter(|disabled| *disabled != user.disabled) {
            self.state.set_disabled(&user.username, disabled)?;
            let what = if disabled { "user.disable" } else { "user.enable" };
            self.audit(&caller.actor(), what, &user.username, "");
        }
        if let Some(password) = &patch.new_password {
            self.state.set_password(&user.username, &PasswordHash::of(password)?, true, None)?;
            self.audit(&caller.actor(), "user.password_reset", &user.username, "");
        }
        self.user(&user.username)
    }

    pub(crate) fn delete_user(&self, caller: &Caller, username: &str) -> Result<(), AppError> {
        let user = self.user(username)?;
        self.state.delete_user(&user.username)?;
        self.audit(&caller.actor(), "user.delete", &user.username, "");
        Ok(())
    }

    fn user(&self, username: &str) -> Result<User, AppError> {
        self.state.user(username)?.ok_or_else(|| AppError::not_found("user", username))
    }

    /// Makes the first administrator, if there is no user at all; gives the one-time password.
    ///
    /// # Errors
    /// [`AppError::State`] if the store fails.
    pub fn make_first_administrator(&self) -> Result<Option<String>, AppError> {
        if !self.state.users()?.is_empty() {
            return Ok(None);
        }
        let password = state_store::one_time_password()?;
        let new = NewUser {
            username: "admin".to_owned(),
            password: PasswordHash::of(&password)?,
            role: Role::Administrator,
            must_change_password: true,
        };
        match self.state.create_user(&new, now()) {
            Ok(()) => {}
            // Another process (`edr user`) was faster.
            Err(StateError::Conflict { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let actor = Actor { who: "server".to_owned(), address: None };
        self.audit(&actor, "user.create", "admin", "the first administrator");
        Ok(Some(password))
    }
}

fn check_username(username: &str) -> Result<(), AppError> {
    let is_good = |character: char| character.is_alphanumeric() || matches!(character, '.' | '_' | '-');
    if username.is_empty() || username.chars().count() > 64 || !username.chars().all(is_good) {
        return Err(AppError::Invalid("a user name has 1 to 64 letters, digits, `.`, `_` or `-`".to_owned()));
    }
    Ok(())
}

fn check_password(password: &str, username: &str) -> Result<(), AppError> {
    if password.chars().count() < MIN_PASSWORD || password.len() > MAX_PASSWORD {
        return Err(AppError::Invalid(format!(
            "a password has {MIN_PASSWORD} characters or more, and at most {MAX_PASSWORD} bytes"
        )));
    }
    if password.to_lowercase().contains(&username.to_lowercase()) && username.len() > 3 {
        return Err(AppError::Invalid("a password must not contain the user's name".to_owned()));
    }
    Ok(())
}
