//! Signing in, and the users who may.

use event_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::words::{RoleWord, TimeText};
use state_store::Role;

/// Signing in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginRequest {
    /// Name of the user.
    #[schema(max_length = 64)]
    pub username: String,
    /// Password.
    #[schema(max_length = 256)]
    pub password: String,
}

/// A new password for oneself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordChange {
    /// The password so far.
    #[schema(max_length = 256)]
    pub current_password: String,
    /// At least 12 characters.
    #[schema(min_length = 12, max_length = 256)]
    pub new_password: String,
}

/// Who is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Session {
    /// The user.
    pub user: SessionUser,
}

/// The user who is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionUser {
    /// Name.
    pub username: String,
    /// Role.
    #[schema(value_type = RoleWord)]
    pub role: Role,
    /// True until a first password was replaced; all but `/session` is refused so long.
    pub must_change_password: bool,
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User {
    /// Name.
    pub username: String,
    /// Role.
    #[schema(value_type = RoleWord)]
    pub role: Role,
    /// Can't sign in.
    pub disabled: bool,
    /// Has a first password that is yet to be replaced.
    pub must_change_password: bool,
    /// When the account was made.
    #[schema(value_type = TimeText)]
    pub created_at: Timestamp,
    /// When the user last signed in.
    #[schema(value_type = Option<TimeText>, required)]
    pub last_login_at: Option<Timestamp>,
}

super::page!(
    /// Users.
    UserPage of User
);

/// A new user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserCreate {
    /// Letters, digits, `.`, `_`, `-`; at most 64.
    #[schema(min_length = 1, max_length = 64)]
    pub username: String,
    /// First password; the user replaces it when signing in. At least 12 characters.
    #[schema(min_length = 12, max_length = 256)]
    pub password: String,
    /// Role.
    #[schema(value_type = RoleWord)]
    pub role: Role,
}

/// A change of a user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserChange {
    /// New role.
    #[serde(default)]
    #[schema(value_type = Option<RoleWord>)]
    pub role: Option<Role>,
    /// Whether the user is kept out.
    #[serde(default)]
    pub disabled: Option<bool>,
    /// New first password; the user replaces it when signing in.
    #[serde(default)]
    #[schema(min_length = 12, max_length = 256)]
    pub new_password: Option<String>,
}

impl From<state_store::User> for User {
    fn from(user: state_store::User) -> Self {
        Self {
            username: user.username,
            role: user.role,
            disabled: user.disabled,
            must_change_password: user.must_change_password,
            created_at: user.created_at,
            last_login_at: user.last_sign_in_at,
        }
    }
}
