//! A client of the server's API.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// Speaks to one server, as one script or person.
#[derive(Clone)]
pub struct Api {
    client: Agent,
    base: String,
    /// Name and value of the header that says who.
    credential: (&'static str, String),
}

/// The server said no.
#[derive(Debug)]
pub struct ApiError {
    /// HTTP status; 0 where there was no answer at all.
    pub status: u16,
    /// The problem document, or the error in words.
    pub body: Value,
}

impl Api {
    /// A client of the server at `base` (`https://HOST:PORT`), by an API token.
    ///
    /// # Panics
    /// If the CA is no certificate.
    pub fn new(base: String, ca_pem: &[u8], token: String) -> Self {
        let ca = Certificate::from_pem(ca_pem).expect("the server's CA is PEM");
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[ca]))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .build();
        let client = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        Self { client, base, credential: ("authorization", format!("Bearer {token}")) }
    }

    /// A new person of that role, signed in with a password of his own. This client must be an administrator's.
    ///
    /// # Panics
    /// If the server says no.
    pub fn person(&self, name: &str, role: &str) -> Self {
        let (first, own) = ("a first password of theirs", "another password of theirs");
        let user = json!({ "username": name, "password": first, "role": role });
        self.post("/users", &user).expect("an administrator may");
        let body = json!({ "username": name, "password": first });
        let response = self.client.post(self.url("/session")).send_json(&body).expect("an answer");
        let cookie = response.headers().get("set-cookie").expect("a session").to_str().expect("text");
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        let person = Self { credential: ("cookie", cookie), ..self.clone() };
        let change = json!({ "current_password": first, "new_password": own });
        person.put("/session/password", &change).expect("his own password");
        person
    }

    /// GET, with the path below `/api/v1`.
    pub fn get(&self, path: &str) -> Result<Value, ApiError> {
        let request = self.client.get(self.url(path)).header(self.credential.0, &self.credential.1);
        answer(request.call())
    }

    /// POST of a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let request = self.client.post(self.url(path)).header(self.credential.0, &self.credential.1);
        answer(request.send_json(body))
    }

    /// PUT of a JSON body.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let request = self.client.put(self.url(path)).header(self.credential.0, &self.credential.1);
        answer(request.send_json(body))
    }

    /// PATCH with a JSON body.
    pub fn patch(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let request = self.client.patch(self.url(path)).header(self.credential.0, &self.credential.1);
        answer(request.send_json(body))
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> Result<Value, ApiError> {
        let request = self.client.delete(self.url(path)).header(self.credential.0, &self.credential.1);
        answer(request.call())
    }

    /// All items of a paged list.
    ///
    /// # Panics
    /// If a page can't be read.
    pub fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{path}{cursor}")).expect("a page");
            items.extend(page["items"].as_array().expect("items").iter().cloned());
            let Some(next) = page["next_cursor"].as_str() else { return items };
            let separator = if path.contains('?') { '&' } else { '?' };
            cursor = format!("{separator}cursor={next}");
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }
}

fn answer(response: Result<Response<Body>, ureq::Error>) -> Result<Value, ApiError> {
    let mut response =
        response.map_err(|error| ApiError { status: 0, body: Value::from(error.to_string()) })?;
    let status = response.status().as_u16();
    let text = response.body_mut().with_config().limit(64 << 20).read_to_string();
    let text = text.map_err(|error| ApiError { status, body: Value::from(error.to_string()) })?;
    let body = serde_json::from_str(&text).unwrap_or(Value::from(text));
    if (200..300).contains(&status) { Ok(body) } else { Err(ApiError { status, body }) }
}
