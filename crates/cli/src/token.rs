//! `edr token create`: a token with which hosts enrol, made beside the server.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use state_store::{HostStore as _, NewEnrollmentToken, Token};

use crate::arguments::Usage;
use crate::state::{Options, after, audit, now, open};
use crate::{Outcome, print};

const HOUR: Duration = Duration::from_secs(3_600);
const MOST_USES: u32 = 10_000;

/// Makes a token and prints its text, which is shown nowhere again.
pub(crate) fn create(arguments: Vec<OsString>) -> anyhow::Result<Outcome> {
    let options = Options::read(arguments, &["ttl", "uses", "ca"])?;
    options.no_values()?;
    let ttl = options.span("ttl", HOUR, 24 * HOUR)?;
    let uses = uses(&options)?;
    let db = options.db();
    // The server keeps its certificates beside its database.
    let ca = options.flag("ca").map_or_else(|| db.with_file_name("ca.pem"), PathBuf::from);
    let store = open(&db)?;
    let pem = std::fs::read(&ca).with_context(|| {
        format!("{}: can't be read; hint: name the server's CA certificate with `--ca FILE`", ca.display())
    })?;
    let der = CertificateDer::from_pem_slice(&pem)
        .map_err(|error| anyhow::anyhow!("{}: holds no certificate in PEM: {error}", ca.display()))?;

    let token = Token::for_enrollment(&der)?;
    let now = now()?;
    let expires_at = after(now, ttl);
    let new = NewEnrollmentToken { secret: token.digest(), uses, expires_at, created_by: "edr".to_owned() };
    let id = store.create_enrollment_token(&new, now)?;
    let detail = serde_json::json!({ "uses": uses, "expires_at": expires_at });
    audit(&store, "enrollment_token.create", id.to_string(), detail, now)?;
    eprintln!("good for {uses} host(s) until {expires_at}; it is shown this once");
    print(&format!("{}\n", token.as_str()))?;
    Ok(Outcome::Success)
}

fn uses(options: &Options) -> Result<u32, Usage> {
    let Some(text) = options.text("uses")? else { return Ok(1) };
    let uses = text.parse().ok().filter(|uses| (1..=MOST_USES).contains(uses));
    uses.ok_or_else(|| {
        Usage::new(
            format!("`--uses` is `{text}`; allowed are 1 to {MOST_USES}"),
            "write how many hosts the token is for",
        )
    })
}
