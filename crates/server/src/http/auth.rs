//! Who asks, and whether they may: one layer over the whole API.
//!
//! The permission of the route decides first; a route without one is refused. A
//! session comes in the cookie, a token in `Authorization`. Requests that change
//! something are refused when a browser says that another site sent them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use state_store::SecretDigest;

use super::openapi::SESSION_COOKIE;
use super::permission::{API, Permission, permission_of};
use super::problem::ApiError;
use crate::app::{App, AppError, Caller};
use crate::listener::PeerAddress;

/// Characters of a session's secret: 32 bytes in base64url.
const SESSION_LENGTH: usize = 43;
const TOKEN_PREFIX: &str = "rampart-api-";

/// The layer.
pub(crate) async fn authorise(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    match check(&app, &mut request).await {
        Ok(()) => next.run(request).await,
        Err(error) => ApiError(error).into_response(),
    }
}

async fn check(app: &Arc<App>, request: &mut Request) -> Result<(), AppError> {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && !is_same_site(request.headers()) {
        return Err(AppError::CrossSite);
    }
    // HEAD is GET without the body.
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let template = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    let permission = permission_of(method, template.strip_prefix(API).unwrap_or(template));
    if permission == Some(Permission::Public) {
        return Ok(());
    }
    let address = address_of(request);
    let caller = identify(app, request.headers(), address).await?;
    let Some(permission) = permission else {
        return Err(AppError::Forbidden { role: caller.role.to_string(), needed: "a route of its own" });
    };
    if caller.must_change_password && permission != Permission::OwnSession {
        return Err(AppError::PasswordChangeRequired);
    }
    if !permission.is_given_to(caller.role) {
        return Err(AppError::Forbidden { role: caller.role.to_string(), needed: permission.needed() });
    }
    request.extensions_mut().insert(caller);
    Ok(())
}

/// Browsers say where a request comes from; scripts say nothing.
fn is_same_site(headers: &HeaderMap) -> bool {
    match headers.get("sec-fetch-site") {
        None => true,
        Some(site) => site == "same-origin" || site == "none",
    }
}

fn address_of(request: &Request) -> IpAddr {
    let known = request.extensions().get::<PeerAddress>();
    known.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0)
}

async fn identify(app: &Arc<App>, headers: &HeaderMap, address: IpAddr) -> Result<Caller, AppError> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let found = if let Some(token) = bearer {
        let token = token.strip_prefix("Bearer ").map(str::trim).unwrap_or_default();
        // What can't be a token costs no look into the store.
        if !token.starts_with(TOKEN_PREFIX) || token.len() != TOKEN_PREFIX.len() + SESSION_LENGTH {
            return Err(AppError::NotSignedIn);
        }
        let secret = SecretDigest::of(token);
        app.work(move |app| app.caller_of_token(&secret, address)).await?
    } else {
        let secret = session_secret(headers).ok_or(AppError::NotSignedIn)?;
        app.work(move |app| app.caller_of_session(&secret, address)).await?
    };
    found.ok_or(AppError::NotSignedIn)
}

fn session_secret(headers: &HeaderMap) -> Option<SecretDigest> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(name, _)| *name == SESSION_COOKIE).map(|(_, value)| value);
    let secret = values.next().filter(|value| value.len() == SESSION_LENGTH)?;
    Some(SecretDigest::of(secret))
}

/// The caller, in a handler.
#[derive(Debug)]
pub(crate) struct SignedIn(pub(crate) Caller);

impl<S: Send + Sync> FromRequestParts<S> for SignedIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get().cloned().map(Self).ok_or(ApiError(AppError::NotSignedIn))
    }
}
