//! The API and the console over HTTP.
//!
//! Every request passes, from the outside in: security headers, the completion of
//! problems, then for the API the limits, the question who asks and whether they
//! may ([`permission`]), and the handler, which asks the application.

mod auth;
mod console;
pub(crate) mod dto;
mod extract;
mod openapi;
pub mod permission;
mod problem;
mod routes;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use crate::app::App;
use crate::link;
use permission::API;

pub use openapi::{document, document_text};

/// For the head of an answer. (A stream's body may take as long as it likes.)
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// A page may load only what the server itself serves, nothing may frame it, and
/// scripts can't make markup out of text (Trusted Types).
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'";
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// Everything that the port serves: the API, the agents' link, the console.
pub fn router(app: Arc<App>) -> Router {
    let api = openapi::router()
        .layer(DefaultBodyLimit::max(extract::MAX_BODY_BYTES))
        .route_layer(from_fn_with_state(Arc::clone(&app), auth::authorise))
        .fallback(nothing_there)
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIME))
        .layer(CatchPanicLayer::new())
        .layer(from_fn(problem::finish));
    Router::new()
        .merge(api.with_state(Arc::clone(&app)))
        .layer(from_fn(security_headers))
        .route_service("/rampart.link.v1.AgentLink/{*call}", link::service(app))
}

/// What is under no route: a problem under the API's path, a page of the console elsewhere.
async fn nothing_there(request: Request) -> Response {
    let path = request.uri().path();
    if path == "/api" || path.starts_with("/api/") || path.starts_with(API) {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    let (parts, _) = request.into_parts();
    console::serve(parts.method, parts.uri, parts.headers).await
}

async fn security_headers(request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let policy = if is_api { API_POLICY } else { PAGE_POLICY };
    let always: [(HeaderName, &'static str); 7] = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ];
    for (name, value) in always {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_api {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}
