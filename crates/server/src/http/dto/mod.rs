//! The JSON of the API: what comes in, what goes out. Nothing here is stored.
//!
//! The OpenAPI document, and from it the console's types, are made from these
//! structs; a field's doc comment is its description there. What comes in is
//! refused when it has a key that is not known.

mod alerts;
mod audit;
mod behaviours;
mod content;
mod coverage;
mod dashboard;
mod events;
mod hosts;
mod responses;
mod rules;
mod runs;
mod session;
mod settings;
pub(crate) mod words;

pub(crate) use alerts::*;
pub(crate) use audit::*;
pub(crate) use behaviours::*;
pub(crate) use content::*;
pub(crate) use coverage::*;
pub(crate) use dashboard::*;
pub(crate) use events::*;
pub(crate) use hosts::*;
pub(crate) use responses::*;
pub(crate) use rules::*;
pub(crate) use runs::*;
pub(crate) use session::*;
pub(crate) use settings::*;

/// An error as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the code tells them apart.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable word for programs, for example `not_found`.
    pub code: String,
    /// What is wrong, and what to do about it.
    pub detail: String,
    /// Stands in the server's log beside the cause.
    pub request_id: String,
    /// For a rule that was refused: where and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<RuleDiagnostic>,
}

macro_rules! page {
    ($(#[$doc:meta])* $name:ident of $item:ty) => {
        $(#[$doc])*
        #[derive(Debug, serde::Serialize, utoipa::ToSchema)]
        pub(crate) struct $name {
            /// The items.
            pub items: Vec<$item>,
            /// Ask with this cursor for what follows; null at the end.
            #[schema(required)]
            pub next_cursor: Option<String>,
        }
    };
}
pub(crate) use page;

/// A number in a query, where everything is text.
pub(crate) fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let text: String = serde::Deserialize::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_| serde::de::Error::custom(format!("`{text}` is not a number")))
}
