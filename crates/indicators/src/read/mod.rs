//! Reading indicators in the forms that they are passed around in.

mod csv;
mod json;
mod list;
mod misp;
mod stix;
mod stix_pattern;

use std::sync::Arc;

use rule_engine::{Diagnostic, DiagnosticCode, DiagnosticSeverity, Place, Source, Span};

use crate::indicator::{Indicator, IndicatorDefaults};

/// Largest list or CSV: some four million hashes.
pub const MAX_LIST_BYTES: usize = 256 << 20;

/// Largest STIX bundle or MISP event.
pub const MAX_JSON_BYTES: usize = 128 << 20;

/// Findings beyond this are counted, not told.
const MAX_DIAGNOSTICS: usize = 1_000;

/// A form of indicators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndicatorFormat {
    /// One value in each line; `#` begins a comment.
    List,
    /// Columns with a heading, separated by `,`, `;` or tab.
    Csv,
    /// A STIX 2.1 bundle or object.
    Stix,
    /// A MISP event, or several as the API gives them.
    Misp,
}

impl IndicatorFormat {
    /// What a text looks like.
    pub fn detect(text: &str) -> Self {
        let text = text.trim_start_matches('\u{feff}').trim_start();
        if text.starts_with(['{', '[']) {
            // A MISP event has no key `type` on the outside; STIX has, by definition.
            let head: String = text.chars().take(4_096).filter(|c| !c.is_whitespace()).collect();
            let misp = ["\"Event\":", "\"response\":", "\"Attribute\":", "[{\"Event\""];
            return if misp.iter().any(|key| head.contains(key)) { Self::Misp } else { Self::Stix };
        }
        let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        if first.is_some_and(|line| csv::Columns::of(line).is_some()) { Self::Csv } else { Self::List }
    }
}

/// What became of a text.
#[derive(Debug, Default)]
pub struct ReadOutcome {
    /// Indicators that were taken.
    pub taken: u64,
    /// What was no indicator, or of a kind that can't be looked for.
    pub refused: u64,
    /// Why, with lines; at most 1,000.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a text, and gives each indicator to `take` as it comes. `name` stands in
/// diagnostics. Nothing of any text panics; memory stays below a few times the text's size.
pub fn read_indicators(
    name: &str,
    bytes: &[u8],
    format: Option<IndicatorFormat>,
    defaults: &IndicatorDefaults,
    take: &mut dyn FnMut(Indicator),
) -> ReadOutcome {
    let mut reading = Reading { name: name.into(), outcome: ReadOutcome::default(), take };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.trim_start_matches('\u{feff}'),
        Err(error) => {
            let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            reading.refuse(
                line,
                DiagnosticCode::NotUtf8,
                "this line is not UTF-8".to_owned(),
                Some("save the file as UTF-8"),
            );
            return reading.outcome;
        }
    };
    let format = format.unwrap_or_else(|| IndicatorFormat::detect(text));
    let limit = match format {
        IndicatorFormat::List | IndicatorFormat::Csv => MAX_LIST_BYTES,
        IndicatorFormat::Stix | IndicatorFormat::Misp => MAX_JSON_BYTES,
    };
    if bytes.len() > limit {
        let reason = format!("the file has {} bytes; {limit} are allowed in this format", bytes.len());
        reading.refuse(1, DiagnosticCode::TooLarge, reason, Some("split it"));
        return reading.outcome;
    }
    match format {
        IndicatorFormat::List => list::read(text, defaults, &mut reading),
        IndicatorFormat::Csv => csv::read(text, defaults, &mut reading),
        IndicatorFormat::Stix => stix::read(text, defaults, &mut reading),
        IndicatorFormat::Misp => misp::read(text, defaults, &mut reading),
    }
    reading.outcome
}

/// Where a reader's findings go.
struct Reading<'a> {
    name: Arc<str>,
    outcome: ReadOutcome,
    take: &'a mut dyn FnMut(Indicator),
}

impl Reading<'_> {
    fn take(&mut self, indicator: Indicator) {
        self.outcome.taken += 1;
        (self.take)(indicator);
    }

    /// A line that is no indicator.
    fn bad(&mut self, line: usize, reason: String) {
        self.refuse(line, DiagnosticCode::BadIndicator, reason, None);
    }

    fn refuse(&mut self, line: usize, code: DiagnosticCode, reason: String, hint: Option<&str>) {
        self.outcome.refused += 1;
        self.push(line, DiagnosticSeverity::Error, code, reason, hint);
    }

    /// A well-formed indicator of a kind that can't be looked for.
    fn skip(&mut self, line: usize, reason: String) {
        self.outcome.refused += 1;
        self.push(line, DiagnosticSeverity::Warning, DiagnosticCode::IndicatorSkipped, reason, None);
    }

    fn warn(&mut self, line: usize, reason: String) {
        self.push(line, DiagnosticSeverity::Warning, DiagnosticCode::BadIndicator, reason, None);
    }

    fn push(
        &mut self,
        line: usize,
        severity: DiagnosticSeverity,
        code: DiagnosticCode,
        reason: String,
        hint: Option<&str>,
    ) {
        if self.outcome.diagnostics.len() >= MAX_DIAGNOSTICS {
            return;
        }
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        let place = Place { file: Arc::clone(&self.name), line, column: 1, end_column: 2 };
        let hint = hint.map(str::to_owned);
        self.outcome.diagnostics.push(Diagnostic::new(severity, code, &place, reason, hint));
    }
}

/// Finds the line of a part of a JSON text.
struct Lines<'a> {
    text: &'a str,
    source: Source<'a>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, source: Source::new("", text) }
    }

    /// `part` must be a slice of the text; the line of anything else means nothing.
    fn of(&self, part: &str) -> usize {
        let start = part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr()).min(self.text.len());
        self.source.place(Span { start, end: start }).line as usize
    }
}

/// Text of outside, short enough to stand in a reason.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
