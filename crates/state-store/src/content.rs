//! What agents detect with besides rules: YARA files, lists of indicators and behaviours, as their
//! authors wrote them.

use event_model::{Timestamp, words};

words! {
    /// What a file holds.
    ContentKind {
        /// YARA rules, as source.
        Yara = "yara",
        /// Indicators: a plain list, CSV, STIX or MISP.
        Indicators = "indicators",
        /// Behaviours of process trees, as JSON.
        Behaviours = "behaviours",
    }
}

/// A file to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewContentFile {
    /// What it holds.
    pub kind: ContentKind,
    /// Its name, unique within its kind.
    pub name: String,
    /// Its text as written.
    pub text: String,
    /// How many rules or indicators it has.
    pub entries: u64,
}

/// A kept file without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentHead {
    /// What it holds.
    pub kind: ContentKind,
    /// Its name.
    pub name: String,
    /// Length of its text in bytes.
    pub bytes: u64,
    /// How many rules or indicators it has.
    pub entries: u64,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// By whom.
    pub updated_by: String,
}

/// A kept file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptContentFile {
    /// All but its text.
    pub head: ContentHead,
    /// Its text as written.
    pub text: String,
}

/// All files, and the version that rules and files are together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentSet {
    /// The same version as that of the rules.
    pub version: u64,
    /// By kind and name.
    pub files: Vec<KeptContentFile>,
}
