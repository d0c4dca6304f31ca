//! YARA files and lists of indicators.

use event_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::RuleDiagnostic;
use super::words::TimeText;
use state_store::{ContentHead, KeptContentFile};

/// A YARA file or a list of indicators, without its text.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ContentSummary {
    /// Its name, unique within its kind. In detections it is the namespace of YARA rules, and the source of
    /// indicators that name none.
    pub name: String,
    /// Length of its text in bytes.
    pub bytes: u64,
    /// How many rules or indicators it has.
    pub entries: u64,
    /// When it was last changed.
    #[schema(value_type = TimeText)]
    pub updated_at: Timestamp,
    /// By whom.
    pub updated_by: String,
}

super::page!(
    /// Files by name.
    ContentPage of ContentSummary
);

/// A YARA file or a list of indicators.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ContentDocument {
    /// What is known of it.
    #[serde(flatten)]
    pub summary: ContentSummary,
    /// As written.
    pub text: String,
}

/// A file that was saved.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SavedContent {
    /// What is known of it.
    #[serde(flatten)]
    pub summary: ContentSummary,
    /// What is doubtful in it: strings that are slow to search for, indicators of a kind that can't be looked for.
    pub warnings: Vec<RuleDiagnostic>,
}

/// What the compiler or the reader says about a text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ContentCheck {
    /// No errors.
    pub ok: bool,
    /// How many rules or indicators were read.
    pub entries: u64,
    /// Errors, then warnings; at most 100.
    pub diagnostics: Vec<RuleDiagnostic>,
}

/// The text of a file.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContentText {
    /// YARA rules as source; or indicators as a plain list, CSV, STIX 2.1 or MISP.
    #[schema(max_length = 4194304)]
    pub text: String,
}

impl From<ContentHead> for ContentSummary {
    fn from(head: ContentHead) -> Self {
        let ContentHead { kind: _, name, bytes, entries, updated_at, updated_by } = head;
        Self { name, bytes, entries, updated_at, updated_by }
    }
}

impl From<KeptContentFile> for ContentDocument {
    fn from(file: KeptContentFile) -> Self {
        Self { summary: file.head.into(), text: file.text }
    }
}
