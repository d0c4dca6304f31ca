//! Events.

use event_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::words::TimeText;

/// An event as one ECS document: nested objects, names of the Elastic Common
/// Schema, ours under `rampart`.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct EcsDocument(pub serde_json::Value);

impl PartialSchema for EcsDocument {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .description(Some("An event as an ECS document: nested objects, our own names under `rampart`."))
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .into()
    }
}

impl ToSchema for EcsDocument {}

/// Events, the newest first, with the gaps among them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventPage {
    /// The items.
    pub items: Vec<EcsDocument>,
    /// Ask with this cursor for what follows; null at the end.
    #[schema(required)]
    pub next_cursor: Option<String>,
    /// How many gaps of this page's time are not among the items, where there are more than 200 besides what was searched for. A search for `type=gap` gives all.
    pub gaps_not_shown: u64,
}

/// Which events.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventQuery {
    /// Id of the host.
    pub host: Option<String>,
    /// Type, for example `process_start`; several with commas.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// Part of the command line, the executable's path, the process's or the user's name; no regard to case.
    #[param(max_length = 256)]
    pub q: Option<String>,
    /// `name:value` with the ECS name of a field: equal without regard to case. May be repeated.
    #[serde(default)]
    pub field: Vec<String>,
    /// Not before this time.
    #[param(value_type = Option<TimeText>)]
    pub from: Option<Timestamp>,
    /// Before this time.
    #[param(value_type = Option<TimeText>)]
    pub to: Option<Timestamp>,
    /// From the page before.
    pub cursor: Option<String>,
    /// At most 500; 100 by default.
    #[serde(default, deserialize_with = "super::number")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// What to count.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistogramQuery {
    /// Start of the span; an hour ago by default.
    #[param(value_type = Option<TimeText>)]
    pub from: Option<Timestamp>,
    /// End of the span; now by default.
    #[param(value_type = Option<TimeText>)]
    pub to: Option<Timestamp>,
    /// Into how many parts to cut it: at most 500; 60 by default.
    #[serde(default, deserialize_with = "super::number")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub buckets: Option<u32>,
    /// Id of the host.
    pub host: Option<String>,
    /// Type; several with commas.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
}

/// A part of the span.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistogramBucket {
    /// Where it starts.
    #[schema(value_type = TimeText)]
    pub start: Timestamp,
    /// Events in it.
    pub count: u64,
}

/// Which events to follow.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamQuery {
    /// Id of the host.
    pub host: Option<String>,
    /// Type of event; several with commas.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// Part of the command line, the executable's path, the process's or the user's name.
    #[param(max_length = 256)]
    pub q: Option<String>,
}

/// What kind of values a field has.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "stands for event-model's ValueKind in the OpenAPI document")]
pub(crate) enum FieldKind {
    Text,
    Integer,
    Boolean,
    TextList,
    Time,
}

/// A field that events can have.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FieldDescription {
    /// ECS name.
    pub name: String,
    /// What kind of values it has.
    #[schema(value_type = FieldKind)]
    pub kind: event_model::ValueKind,
    /// Short names in native rules.
    pub rule_names: Vec<String>,
    /// Names in Sigma rules.
    pub sigma_names: Vec<String>,
    /// Types of rules that can use it.
    pub rule_types: Vec<String>,
    /// What it holds.
    pub description: String,
}
