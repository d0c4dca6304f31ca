//! `edr api-token create`: a token for scripts that use the API.

use std::ffi::OsString;
use std::time::Duration;

use state_store::{AccessStore as _, NewApiToken, Role, Token};

use crate::arguments::{Usage, nearest};
use crate::state::{Options, after, audit, now, open};
use crate::{Outcome, print};

const DAY: Duration = Duration::from_secs(86_400);

/// Makes a token and prints its text, which is shown nowhere again.
pub(crate) fn create(arguments: Vec<OsString>) -> anyhow::Result<Outcome> {
    let options = Options::read(arguments, &["name", "role", "ttl"])?;
    options.no_values()?;
    let name = options.required("name", "nightly-report")?;
    let role = role(&options.required("role", "viewer")?)?;
    let ttl = options.span("ttl", 90 * DAY, 3_650 * DAY)?;
    let store = open(&options.db())?;

    let token = Token::for_api()?;
    let now = now()?;
    let expires_at = after(now, ttl);
    let new = NewApiToken {
        secret: token.digest(),
        name: name.clone(),
        role,
        expires_at,
        created_by: "edr".to_owned(),
    };
    let id = store.create_api_token(&new, now)?;
    let detail = serde_json::json!({ "name": name, "role": role, "expires_at": expires_at });
    audit(&store, "api_token.create", id.to_string(), detail, now)?;
    eprintln!("good as {role} until {expires_at}; it is shown this once");
    print(&format!("{}\n", token.as_str()))?;
    Ok(Outcome::Success)
}

fn role(word: &str) -> Result<Role, Usage> {
    Role::from_word(word).ok_or_else(|| {
        let words = Role::ALL.iter().map(|role| role.as_str());
        let hint = match nearest(word, words.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", words.collect::<Vec<_>>().join(", ")),
        };
        Usage::new(format!("unknown role `{word}`"), hint)
    })
}
