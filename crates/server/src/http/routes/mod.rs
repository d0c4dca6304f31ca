//! The handlers: read the request, ask the application, shape the answer.

pub(crate) mod alerts;
pub(crate) mod behaviours;
pub(crate) mod content;
pub(crate) mod events;
pub(crate) mod hosts;
pub(crate) mod overview;
pub(crate) mod responses;
pub(crate) mod rules;
pub(crate) mod runs;
pub(crate) mod session;
pub(crate) mod settings;
pub(crate) mod stream;
pub(crate) mod tokens;
pub(crate) mod users;

use std::sync::Arc;

pub(crate) use axum::Json;
use axum::extract::State;
pub(crate) use axum::http::StatusCode;

pub(crate) use super::auth::SignedIn;
pub(crate) use super::dto::*;
pub(crate) use super::extract::*;
use super::problem::ApiError;
pub(crate) use crate::app::Caller;
use crate::app::{App, AppError};

/// What every handler gets.
pub(crate) type Application = State<Arc<App>>;

/// What every handler gives.
pub(crate) type Answer<T> = Result<T, ApiError>;

/// Items of a page: 1 to 500, 100 where nothing is said.
pub(crate) fn page_size(limit: Option<u32>) -> Result<usize, AppError> {
    match limit {
        None => Ok(100),
        Some(limit @ 1..=500) => Ok(usize::try_from(limit).unwrap_or(500)),
        Some(_) => Err(AppError::Invalid("`limit` is 1 to 500".to_owned())),
    }
}
