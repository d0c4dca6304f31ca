//! YARA files, lists of indicators and behaviours: what does not compile or can't be read is not
//! saved; what is saved goes to every agent in the signed bundle, as source (ADR 0009).

use file_scan::{CompiledYara, YaraRules, YaraSource};
use indicators::{IndicatorDefaults, read_indicators};
use rule_engine::Diagnostic;
use state_store::{ContentHead, ContentKind, KeptContentFile, NewContentFile};

use super::{App, AppError, Caller, behaviours, now};

/// Longest text of one file, in bytes.
pub const MAX_CONTENT_BYTES: usize = 4 << 20;

/// All texts together, in bytes: each agent gets all of them with every change.
pub const MAX_TOTAL_CONTENT_BYTES: u64 = 16 << 20;

/// Findings that an answer carries.
const MAX_DIAGNOSTICS: usize = 100;

/// Longest name of a file.
const MAX_NAME: usize = 100;

/// What a text is, once it was read.
#[derive(Debug)]
pub struct CheckedContent {
    /// How many rules or indicators it has.
    pub entries: u64,
    /// Errors and warnings, at most 100.
    pub diagnostics: Vec<Diagnostic>,
}

impl App {
    /// What the compiler or the reader says about a text.
    pub(crate) fn check_content(
        &self,
        kind: ContentKind,
        name: &str,
        text: &str,
    ) -> Result<CheckedContent, AppError> {
        check_name(name)?;
        if text.len() > MAX_CONTENT_BYTES {
            return Err(AppError::TooLarge { maximum: MAX_CONTENT_BYTES });
        }
        let (entries, mut diagnostics) = match kind {
            ContentKind::Yara => {
                let CompiledYara { rules, diagnostics } = YaraRules::compile(&[YaraSource::new(name, text)]);
                (rules.len() as u64, diagnostics)
            }
            ContentKind::Indicators => {
                let defaults = IndicatorDefaults::of_source(name);
                let read = read_indicators(name, text.as_bytes(), None, &defaults, &mut |_| {});
                (read.taken, read.diagnostics)
            }
            ContentKind::Behaviours => behaviours::check(name, text),
        };
        // What is wrong before what is only doubtful.
        diagnostics.sort_by_key(|diagnostic| !diagnostic.is_error());
        diagnostics.truncate(MAX_DIAGNOSTICS);
        Ok(CheckedContent { entries, diagnostics })
    }

    pub(crate) fn content_heads(&self, kind: ContentKind) -> Result<Vec<ContentHead>, AppError> {
        Ok(self.state.content_heads(kind)?)
    }

    pub(crate) fn content_file(&self, kind: ContentKind, name: &str) -> Result<KeptContentFile, AppError> {
        self.state.content_file(kind, name)?.ok_or_else(|| AppError::not_found(what(kind), name))
    }

    /// Adds a file or replaces the one of that name. Gives it, and what is doubtful in it.
    pub(crate) fn put_content(
        &self,
        caller: &Caller,
        kind: ContentKind,
        name: &str,
        text: String,
    ) -> Result<(KeptContentFile, Vec<Diagnostic>), AppError> {
        let CheckedContent { entries, diagnostics } = self.check_content(kind, name, &text)?;
        if diagnostics.iter().any(Diagnostic::is_error) {
            return Err(AppError::RuleRefused(diagnostics));
        }
        if entries == 0 {
            let wanted = match kind {
                ContentKind::Yara => "it has no rule",
                ContentKind::Indicators => {
                    "it has no indicator that can be looked for; one is a hash, an address or network, a domain, a URL \
                     or a path, in a plain list, CSV, STIX 2.1 or MISP"
                }
                ContentKind::Behaviours => {
                    "it has no behaviour; one is an entry of `behaviours`, `parent_child`, `sequences` or `overrides`"
                }
            };
            return Err(AppError::Invalid(format!("nothing of the text can be used: {wanted}")));
        }
        let bytes = text.len();
        let file = NewContentFile { kind, name: name.to_owned(), text, entries };
        self.state.put_content_file(&file, MAX_TOTAL_CONTENT_BYTES, &caller.name, now())?;
        self.publish_rules();
        let detail = format!("{entries} entries, {bytes} bytes");
        self.audit(&caller.actor(), audited(kind, "put"), name, &detail);
        Ok((self.content_file(kind, name)?, diagnostics))
    }

    pub(crate) fn delete_content(
        &self,
        caller: &Caller,
        kind: ContentKind,
        name: &str,
    ) -> Result<(), AppError> {
        self.state.delete_content_file(kind, name, now())?;
        self.publish_rules();
        self.audit(&caller.actor(), audited(kind, "delete"), name, "");
        Ok(())
    }
}

fn what(kind: ContentKind) -> &'static str {
    match kind {
        ContentKind::Yara => "YARA file",
        ContentKind::Indicators => "indicator list",
        ContentKind::Behaviours => "behaviour file",
    }
}

fn audited(kind: ContentKind, act: &str) -> &'static str {
    match (kind, act) {
        (ContentKind::Yara, "put") => "yara_file.put",
        (ContentKind::Yara, _) => "yara_file.delete",
        (ContentKind::Indicators, "put") => "indicator_list.put",
        (ContentKind::Indicators, _) => "indicator_list.delete",
        (ContentKind::Behaviours, "put") => "behaviour_file.put",
        (ContentKind::Behaviours, _) => "behaviour_file.delete",
    }
}

/// A name stands in the ids of detections, in paths of the API and in messages.
fn check_name(name: &str) -> Result<(), AppError> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins_well && name.len() <= MAX_NAME && name.chars().all(is_good) {
        return Ok(());
    }
    Err(AppError::Invalid(format!(
        "a name has 1 to {MAX_NAME} letters, digits, `.`, `_` and `-`, and begins with a letter or digit; this one does \
         not"
    )))
}
