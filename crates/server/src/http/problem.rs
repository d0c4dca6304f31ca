//! Errors as `application/problem+json`.
//!
//! A handler's error carries its problem in the response's extensions; one layer
//! over all routes ([`finish`]) gives it the request's id, writes the cause to the
//! log and makes the body. So whatever refuses a request answers in one form.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::dto::{Problem, RuleDiagnostic};
use crate::app::{AppError, causes};

/// A refusal on its way out.
#[derive(Debug)]
pub(crate) struct ApiError(pub(crate) AppError);

impl<E: Into<AppError>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

#[derive(Clone)]
struct Pending {
    status: StatusCode,
    code: &'static str,
    detail: String,
    diagnostics: Vec<RuleDiagnostic>,
    /// For the log alone.
    cause: Option<String>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = self.0;
        let (status, code) = classify(&error);
        let mut response = status.into_response();
        if let AppError::Throttled { retry_after } = &error {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after.as_secs().max(1).into());
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let cause = status.is_server_error().then(|| causes(&error));
        let detail = error.to_string();
        let diagnostics = match error {
            AppError::RuleRefused(diagnostics) => diagnostics.into_iter().map(RuleDiagnostic::from).collect(),
            _ => Vec::new(),
        };
        response.extensions_mut().insert(Pending { status, code, detail, diagnostics, cause });
        response
    }
}

fn classify(error: &AppError) -> (StatusCode, &'static str) {
    match error {
        AppError::NotSignedIn => (StatusCode::UNAUTHORIZED, "not_signed_in"),
        AppError::WrongPassword => (StatusCode::UNAUTHORIZED, "wrong_password"),
        AppError::PasswordChangeRequired => (StatusCode::FORBIDDEN, "password_change_required"),
        AppError::Forbidden { .. } => (StatusCode::FORBIDDEN, "forbidden"),
        AppError::CrossSite => (StatusCode::FORBIDDEN, "cross_site"),
        AppError::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found"),
        AppError::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
        AppError::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
        AppError::BadBody(_) => (StatusCode::BAD_REQUEST, "bad_body"),
        AppError::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json"),
        AppError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        AppError::Throttled { .. } => (StatusCode::TOO_MANY_REQUESTS, "throttled"),
        AppError::RuleRefused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "rule_refused"),
        AppError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        AppError::State(_) | AppError::Events(_) => (StatusCode::INTERNAL_SERVER_ERROR, "store_failed"),
        AppError::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

/// The layer that completes problems.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    let id = Uuid::new_v4();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    let pending = match response.extensions_mut().remove::<Pending>() {
        Some(pending) => pending,
        // What the framework itself refuses has no form of ours yet.
        None if response.status().is_client_error() || response.status().is_server_error() => {
            if response.headers().contains_key(header::CONTENT_TYPE) && !is_plain(&response) {
                return response;
            }
            framework_refusal(response.status())
        }
        None => return response,
    };
    if let Some(cause) = &pending.cause {
        tracing::error!(request_id = %id, %method, path, cause, "request failed");
    }
    let problem = Problem {
        problem_type: "about:blank".to_owned(),
        title: pending.status.canonical_reason().unwrap_or("Error").to_owned(),
        status: pending.status.as_u16(),
        code: pending.code.to_owned(),
        detail: pending.detail,
        request_id: id.to_string(),
        diagnostics: pending.diagnostics,
    };
    let mut full = (pending.status, Json(problem)).into_response();
    full.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE, header::ALLOW] {
        if let Some(value) = response.headers_mut().remove(&name) {
            full.headers_mut().insert(name, value);
        }
    }
    full
}

fn is_plain(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/plain"))
}

fn framework_refusal(status: StatusCode) -> Pending {
    let (code, detail) = match status {
        StatusCode::NOT_FOUND => ("not_found", "there is nothing at this address"),
        StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "this method is not for this address"),
        StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "the body is too large"),
        StatusCode::REQUEST_TIMEOUT => ("timeout", "the request took too long"),
        status if status.is_server_error() => ("internal", "the server failed; its log says why"),
        _ => ("bad_request", "the request can't be read"),
    };
    Pending { status, code, detail: detail.to_owned(), diagnostics: Vec::new(), cause: None }
}
