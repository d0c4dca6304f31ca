//! An indicator and what is known of it.

use event_model::Severity;
use jiff::Timestamp;

use crate::value::IndicatorValue;

/// Longer descriptions are cut.
pub const MAX_DESCRIPTION_CHARACTERS: usize = 500;

/// Longer names of sources are cut.
pub const MAX_SOURCE_CHARACTERS: usize = 100;

/// Something that is known to be bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indicator {
    /// What to look for.
    pub value: IndicatorValue,
    /// Who says so.
    pub source: String,
    /// How sure the source is, 0 to 100.
    pub confidence: u8,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about; may be empty.
    pub description: String,
    /// When it stops to count; `None` for never.
    pub expires: Option<Timestamp>,
}

/// What holds for an indicator whose list does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndicatorDefaults {
    /// The source, usually the list's name.
    pub source: String,
    /// The confidence, 0 to 100.
    pub confidence: u8,
    /// The severity.
    pub severity: Severity,
    /// The end; `None` for never.
    pub expires: Option<Timestamp>,
}

impl IndicatorDefaults {
    /// Medium severity, confidence 50, without end.
    pub fn of_source(source: impl Into<String>) -> Self {
        Self { source: source.into(), confidence: 50, severity: Severity::Medium, expires: None }
    }

    pub(crate) fn indicator(&self, value: IndicatorValue) -> Indicator {
        let Self { source, confidence, severity, expires } = self.clone();
        Indicator { value, source, confidence, severity, description: String::new(), expires }
    }
}
