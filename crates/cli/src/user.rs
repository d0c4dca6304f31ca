//! `edr user reset-password`: the way back in for who lost a password.

use std::ffi::OsString;

use state_store::{AccessStore as _, PasswordHash, StateError, one_time_password};

use crate::arguments::Usage;
use crate::state::{Options, audit, now, open};
use crate::{Outcome, print};

/// Gives a user a password that is good for one sign-in, prints it, and ends the
/// user's sessions.
pub(crate) fn reset_password(arguments: Vec<OsString>) -> anyhow::Result<Outcome> {
    let options = Options::read(arguments, &[])?;
    let [username] = options.values.as_slice() else {
        return Err(Usage::new("one username is wanted", "write `edr user reset-password admin`").into());
    };
    let username = username.to_string_lossy();
    let store = open(&options.db())?;
    let password = one_time_password()?;
    match store.set_password(&username, &PasswordHash::of(&password)?, true, None) {
        Err(error @ StateError::NotFound { .. }) => {
            let names: Vec<String> = store.users()?.into_iter().map(|user| user.username).collect();
            anyhow::bail!("{error}; hint: users are {}", names.join(", "));
        }
        other => other?,
    }
    audit(&store, "user.reset_password", username.clone().into_owned(), serde_json::json!({}), now()?)?;
    let disabled = store.user(&username)?.is_some_and(|user| user.disabled);
    if disabled {
        eprintln!("the user is disabled; hint: an administrator can enable the user in the settings");
    }
    eprintln!("one-time password of `{username}`, to be changed at sign-in:");
    print(&format!("{password}\n"))?;
    Ok(Outcome::Success)
}
