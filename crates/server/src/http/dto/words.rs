//! Schemas of the words that other crates own: one list, where they live.

use std::borrow::Cow;

use event_model::{ActionKind, ReceiptState, ResponseMode, RuleScope, Severity};
use state_store::{AlertStatus, CloseReason, HostContact, ResponseState, Role, RuleOrigin, RunState};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

macro_rules! word_schema {
    ($(#[$doc:meta])* $name:ident, $title:literal, $words:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let words: Vec<&'static str> = $words;
                ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).enum_values(Some(words)).into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($title)
            }
        }
    };
}

word_schema!(
    /// A severity.
    SeverityWord, "Severity", Severity::ALL.iter().map(|word| word.as_str()).collect()
);
word_schema!(
    /// A response mode.
    ModeWord, "ResponseMode", ResponseMode::ALL.iter().map(|word| word.as_str()).collect()
);
word_schema!(
    /// An action.
    ActionWord, "ActionKind", ActionKind::ALL.iter().map(|word| word.as_str()).collect()
);
word_schema!(
    /// How far a response came.
    ReceiptStateWord, "ReceiptState", ReceiptState::ALL.iter().map(|word| word.as_str()).collect()
);
word_schema!(
    /// An action on a host.
    ResponseActionWord, "ResponseAction", response::Action::WORDS.to_vec()
);
word_schema!(
    /// How far an ordered action came.
    ResponseStateWord, "ResponseState", ResponseState::ALL.iter().map(|word| word.as_str()).collect()
);
word_schema!(
    /// How far a run of a playbook came.
    RunStateWord, "PlaybookRunState", RunState::ALL.iter().map(|word| word.as_str()).collect()
);
word_schema!(
    /// The type of a rule.
    RuleTypeWord, "RuleType", RuleScope::ALL.iter().map(|word| word.as_str()).collect()
);

word_schema!(
    /// Whether a host reports.
    ContactWord, "HostContact", HostContact::ALL.iter().map(|word| word.as_str()).collect()
);
word_schema!(
    /// A role.
    RoleWord, "Role", Role::ALL.iter().map(|word| word.as_str()).collect()
);
word_schema!(
    /// How far the work on an alert is.
    AlertStatusWord, "AlertStatus", AlertStatus::ALL.iter().map(|word| word.as_str()).collect()
);
word_schema!(
    /// Why an alert was closed.
    CloseReasonWord, "CloseReason", CloseReason::ALL.iter().map(|word| word.as_str()).collect()
);
word_schema!(
    /// Where a rule came from.
    RuleOriginWord, "RuleOrigin", RuleOrigin::ALL.iter().map(|word| word.as_str()).collect()
);

/// A time in RFC 3339.
#[derive(Debug)]
pub(crate) struct TimeText;

impl PartialSchema for TimeText {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

impl ToSchema for TimeText {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Time")
    }
}
