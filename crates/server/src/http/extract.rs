//! Reading requests: bodies, queries and ids, each refusal as a problem.

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::problem::ApiError;
use crate::app::{AppError, Caller};

/// Largest body of a request, where nothing else is said; the largest good one is a rule of 64 KiB.
pub(crate) const MAX_BODY_BYTES: usize = 256 * 1024;

/// Largest body of one who has not signed in: a name and a password.
const MAX_PUBLIC_BODY_BYTES: usize = 8 * 1024;
/// How long that may take to come.
const PUBLIC_BODY_TIME: Duration = Duration::from_secs(10);

/// A JSON body. Refused when it is not marked as JSON (so that a form of another
/// site can't send one), too large, or has unknown keys.
#[derive(Debug)]
pub(crate) struct Body<T, const MOST: usize = MAX_BODY_BYTES>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync, const MOST: usize> FromRequest<S> for Body<T, MOST> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Self::Rejection> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let mime = content_type.and_then(|value| value.split(';').next()).map(str::trim);
        if !mime.is_some_and(|mime| mime.eq_ignore_ascii_case("application/json")) {
            return Err(AppError::NotJson.into());
        }
        let bytes = if request.extensions().get::<Caller>().is_some() {
            to_bytes(request.into_body(), MOST).await.map_err(|_| AppError::TooLarge { maximum: MOST })?
        } else {
            timeout(PUBLIC_BODY_TIME, to_bytes(request.into_body(), MAX_PUBLIC_BODY_BYTES))
                .await
                .map_err(|_| AppError::BadBody("it took too long to come".to_owned()))?
                .map_err(|_| AppError::TooLarge { maximum: MAX_PUBLIC_BODY_BYTES })?
        };
        let body = serde_json::from_slice(&bytes).map_err(|error| AppError::BadBody(error.to_string()))?;
        Ok(Self(body))
    }
}

/// The query, with the keys that may repeat as lists.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

/// Keys that may stand several times in a query.
const REPEATED: [&str; 1] = ["field"];

/// Longest query.
const MAX_QUERY_BYTES: usize = 8 * 1024;

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let query = parts.uri.query().unwrap_or_default();
        if query.len() > MAX_QUERY_BYTES {
            return Err(AppError::Invalid(format!("the query is longer than {MAX_QUERY_BYTES} bytes")).into());
        }
        let axum::extract::Query(pairs): axum::extract::Query<Vec<(String, String)>> =
            axum::extract::Query::try_from_uri(&parts.uri)
                .map_err(|error| AppError::Invalid(error.body_text()))?;
        let mut map = serde_json::Map::new();
        for (key, value) in pairs {
            if REPEATED.contains(&key.as_str()) {
                let list = map.entry(key).or_insert_with(|| serde_json::Value::Array(Vec::new()));
                if let serde_json::Value::Array(list) = list {
                    list.push(value.into());
                }
            } else if value.is_empty() {
                // A form sends what is not filled in.
            } else if map.insert(key.clone(), value.into()).is_some() {
                return Err(AppError::Invalid(format!("`{key}` stands twice in the query")).into());
            }
        }
        let query = serde_json::from_value(map.into())
            .map_err(|error| AppError::Invalid(format!("the query: {error}")))?;
        Ok(Self(query))
    }
}

/// The id in the path.
#[derive(Debug)]
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| AppError::Invalid(error.body_text()))?;
        if id.len() > 256 {
            return Err(AppError::Invalid("the id is longer than 256 bytes".to_owned()).into());
        }
        Ok(Self(id))
    }
}
