//! Users, sessions, API tokens.

use std::time::Duration;

use event_model::Timestamp;
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::{Columns, Result, SqliteStateStore, after, collect, conflict, execute, first};
use crate::{
    AccessStore, ApiToken, NewApiToken, NewSession, NewUser, PasswordHash, Role, SecretDigest, Session,
    StateError, User,
};

/// How exactly the last use of a session or token is known: a write for each
/// request would make every page view wait for the disk.
const USE_NOTED_EVERY: Duration = Duration::from_secs(60);

const CHANGING: &str = "change a user";

impl AccessStore for SqliteStateStore {
    fn create_user(&self, user: &NewUser, now: Timestamp) -> Result<()> {
        self.write("make a user", |transaction| {
            let sql = "INSERT INTO users (username, password, role, must_change_password, created_at)
                       VALUES (?, ?, ?, ?, ?)";
            let values = params![
                user.username,
                user.password.as_phc(),
                user.role.as_str(),
                user.must_change_password,
                now.as_nanos()
            ];
            transaction.execute(sql, values).map_err(conflict("make a user", "user", &user.username))?;
            Ok(())
        })
    }

    fn users(&self) -> Result<Vec<User>> {
        self.read("list users", |transaction| {
            collect(transaction, "list users", "SELECT * FROM users ORDER BY username", (), read_user)
        })
    }

    fn user(&self, username: &str) -> Result<Option<User>> {
        Ok(self.user_with_password(username)?.map(|(user, _)| user))
    }

    fn user_with_password(&self, username: &str) -> Result<Option<(User, PasswordHash)>> {
        self.read("read a user", |transaction| {
            first(transaction, "read a user", "SELECT * FROM users WHERE username = ?", [username], |row| {
                Ok((read_user(row)?, PasswordHash::from_phc(row.text("password")?)))
            })
        })
    }

    fn set_password(
        &self,
        username: &str,
        password: &PasswordHash,
        must_change_password: bool,
        keep: Option<&SecretDigest>,
    ) -> Result<()> {
        self.write("set a password", |transaction| {
            let sql = "UPDATE users SET password = ?, must_change_password = ? WHERE username = ?";
            let values = params![password.as_phc(), must_change_password, username];
            found(execute(transaction, "set a password", sql, values)?, username)?;
            end_sessions(transaction, username, keep)
        })
    }

    fn set_role(&self, username: &str, role: Role) -> Result<()> {
        self.write(CHANGING, |transaction| {
            let sql = "UPDATE users SET role = ? WHERE username = ?";
            found(execute(transaction, CHANGING, sql, params![role.as_str(), username])?, username)?;
            someone_administers(transaction, username)?;
            end_sessions(transaction, username, None)
        })
    }

    fn set_disabled(&self, username: &str, disabled: bool) -> Result<()> {
        self.write(CHANGING, |transaction| {
            let sql = "UPDATE users SET disabled = ? WHERE username = ?";
            found(execute(transaction, CHANGING, sql, params![disabled, username])?, username)?;
            if disabled {
                someone_administers(transaction, username)?;
                end_sessions(transaction, username, None)?;
            }
            Ok(())
        })
    }

    fn delete_user(&self, username: &str) -> Result<()> {
        self.write("remove a user", |transaction| {
            let sql = "DELETE FROM users WHERE username = ?";
            found(execute(transaction, "remove a user", sql, [username])?, username)?;
            someone_administers(transaction, username)
        })
    }

    fn create_session(&self, session: &NewSession, now: Timestamp) -> Result<()> {
        let doing = "begin a session";
        self.write(doing, |transaction| {
            let sql = "UPDATE users SET last_sign_in_at = ? WHERE username = ? AND NOT disabled";
            let user = execute(transaction, doing, sql, params![now.as_nanos(), session.username])?;
            found(user, &session.username)?;
            let sql = "INSERT INTO sessions (secret, username, session_created_at, last_seen_at, idle_limit,
                           expires_at, address, user_agent)
                       VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7)";
            let idle_limit = i64::try_from(session.idle_limit.as_nanos()).unwrap_or(i64::MAX);
            let values = params![
                session.secret.as_bytes(),
                session.username,
                now.as_nanos(),
                idle_limit,
                session.expires_at.as_nanos(),
                session.address,
                session.user_agent
            ];
            execute(transaction, doing, sql, values).map(|_| ())
        })
    }

    fn session(&self, secret: &SecretDigest, now: Timestamp) -> Result<Option<Session>> {
        let doing = "look a session up";
        let session = self.read(doing, |transaction| {
            let sql = "SELECT users.*, session_created_at, last_seen_at, expires_at, address, user_agent
                       FROM sessions JOIN users USING (username)
                       WHERE secret = ?1 AND NOT disabled AND expires_at > ?2
                           AND ?2 - last_seen_at < idle_limit";
            first(transaction, doing, sql, params![secret.as_bytes(), now.as_nanos()], read_session)
        })?;
        if session.as_ref().is_some_and(|session| now >= after(session.last_seen_at, USE_NOTED_EVERY)) {
            self.write(doing, |transaction| {
                let sql = "UPDATE sessions SET last_seen_at = max(last_seen_at, ?) WHERE secret = ?";
                execute(transaction, doing, sql, params![now.as_nanos(), secret.as_bytes()])
            })?;
        }
        Ok(session)
    }

    fn end_session(&self, secret: &SecretDigest) -> Result<()> {
        self.write("end a session", |transaction| {
            let sql = "DELETE FROM sessions WHERE secret = ?";
            execute(transaction, "end a session", sql, [secret.as_bytes()]).map(|_| ())
        })
    }

    fn delete_expired_sessions(&self, now: Timestamp) -> Result<u64> {
        let doing = "forget old sessions";
        self.write(doing, |transaction| {
            let sql = "DELETE FROM sessions WHERE expires_at <= ?1 OR ?1 - last_seen_at >= idle_limit";
            Ok(execute(transaction, doing, sql, [now.as_nanos()])? as u64)
        })
    }

    fn create_api_token(&self, token: &NewApiToken, now: Timestamp) -> Result<Uuid> {
        let id = Uuid::new_v4();
        let doing = "make an API token";
        self.write(doing, |transaction| {
            let sql = "INSERT INTO api_tokens (id, secret, name, role, created_at, created_by, expires_at)
                       VALUES (?, ?, ?, ?, ?, ?, ?)";
            let values = params![
                id.as_bytes(),
                token.secret.as_bytes(),
                token.name,
                token.role.as_str(),
                now.as_nanos(),
                token.created_by,
                token.expires_at.as_nanos()
            ];
            transaction.execute(sql, values).map_err(conflict(doing, "API token", &token.name))?;
            Ok(id)
        })
    }

    fn api_tokens(&self) -> Result<Vec<ApiToken>> {
        self.read("list API tokens", |transaction| {
            collect(
                transaction,
                "list API tokens",
                "SELECT * FROM api_tokens ORDER BY name",
                (),
                read_api_token,
            )
        })
    }

    fn authenticate_api_token(&self, secret: &SecretDigest, now: Timestamp) -> Result<Option<ApiToken>> {
        let doing = "look an API token up";
        let token = self.read(doing, |transaction| {
            let sql = "SELECT * FROM api_tokens WHERE secret = ? AND expires_at > ?";
            first(transaction, doing, sql, params![secret.as_bytes(), now.as_nanos()], read_api_token)
        })?;
        let Some(token) = token else { return Ok(None) };
        if token.last_used_at.is_none_or(|used_at| now >= after(used_at, USE_NOTED_EVERY)) {
            self.write(doing, |transaction| {
                let sql = "UPDATE api_tokens SET last_used_at = ? WHERE id = ?";
                execute(transaction, doing, sql, params![now.as_nanos(), token.id.as_bytes()])
            })?;
        }
        Ok(Some(token))
    }

    fn delete_api_token(&self, id: Uuid) -> Result<bool> {
        let doing = "remove an API token";
        self.write(doing, |transaction| {
            Ok(execute(transaction, doing, "DELETE FROM api_tokens WHERE id = ?", [id.as_bytes()])? > 0)
        })
    }
}

fn end_sessions(connection: &Connection, username: &str, keep: Option<&SecretDigest>) -> Result<()> {
    let sql = "DELETE FROM sessions WHERE username = ?1 AND secret IS NOT ?2";
    let keep = keep.map(SecretDigest::as_bytes);
    execute(connection, "end a user's sessions", sql, params![username, keep]).map(|_| ())
}

/// Called after a change, in its transaction: the error undoes it.
fn someone_administers(connection: &Connection, username: &str) -> Result<()> {
    let sql = "SELECT 1 FROM users WHERE role = ? AND NOT disabled LIMIT 1";
    let found = first(connection, CHANGING, sql, [Role::Administrator.as_str()], |_| Ok(()))?;
    found.ok_or_else(|| StateError::LastAdministrator { username: username.to_owned() })
}

fn found(changed: usize, username: &str) -> Result<()> {
    match changed {
        0 => Err(StateError::NotFound { what: "user", key: username.to_owned() }),
        _ => Ok(()),
    }
}

fn read_user(row: &Row<'_>) -> Result<User> {
    Ok(User {
        username: row.text("username")?,
        role: row.word("role", Role::from_word)?,
        must_change_password: row.flag("must_change_password")?,
        disabled: row.flag("disabled")?,
        created_at: row.time("created_at")?,
        last_sign_in_at: row.optional_time("last_sign_in_at")?,
    })
}

fn read_session(row: &Row<'_>) -> Result<Session> {
    Ok(Session {
        user: read_user(row)?,
        created_at: row.time("session_created_at")?,
        last_seen_at: row.time("last_seen_at")?,
        expires_at: row.time("expires_at")?,
        address: row.text("address")?,
        user_agent: row.text("user_agent")?,
    })
}

fn read_api_token(row: &Row<'_>) -> Result<ApiToken> {
    Ok(ApiToken {
        id: row.uuid("id")?,
        name: row.text("name")?,
        role: row.word("role", Role::from_word)?,
        created_at: row.time("created_at")?,
        created_by: row.text("created_by")?,
        expires_at: row.time("expires_at")?,
        last_used_at: row.optional_time("last_used_at")?,
    })
}
