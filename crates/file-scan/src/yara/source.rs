//! Rule texts, and reading them from files and folders.

use std::fs;
use std::path::{Path, PathBuf};

use rule_engine::{Diagnostic, DiagnosticCode, DiagnosticSeverity, Source, Span};

use crate::content_reading::ContentUnread;
use crate::regular_file::{LastSymlink, RegularFile};

/// Larger rule files are refused; the largest public ones have a tenth of it.
pub const MAX_SOURCE_BYTES: u64 = 8 << 20;

/// All texts of one set together.
pub const MAX_TOTAL_SOURCE_BYTES: u64 = 128 << 20;

/// Files in one set.
pub const MAX_SOURCES: usize = 20_000;

/// Folders within folders.
const MAX_DEPTH: usize = 16;

/// One text with rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YaraSource {
    /// The name that diagnostics give it, usually its path.
    pub name: String,
    /// Rules see each other and share imports within one namespace; a global rule
    /// counts for its namespace alone. A rule's name is unique within it.
    pub namespace: String,
    /// The text.
    pub text: String,
}

impl YaraSource {
    /// A text in the namespace of its name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let name = name.into();
        Self { namespace: name.clone(), name, text: text.into() }
    }
}

/// What was read from files and folders.
#[derive(Debug, Default)]
pub struct YaraSources {
    /// The texts, sorted by name.
    pub texts: Vec<YaraSource>,
    /// What could not be read, and why.
    pub diagnostics: Vec<Diagnostic>,
}

impl YaraSources {
    /// Reads files, and from folders all files that end in `.yar` or `.yara`, also
    /// in folders within. Each file is a namespace of its own, named by its path
    /// below the folder that was given. Links are not followed.
    pub fn read(paths: &[PathBuf]) -> Self {
        let mut sources = Self::default();
        let mut left = MAX_TOTAL_SOURCE_BYTES;
        for path in paths {
            if path.is_dir() {
                let mut files = Vec::new();
                sources.walk(path, 0, &mut files);
                files.sort();
                for file in files {
                    let namespace = file.strip_prefix(path).unwrap_or(&file).with_extension("");
                    sources.read_file(&file, &namespace, &mut left);
                }
            } else {
                let namespace = path.file_stem().map_or(path.as_path(), Path::new);
                sources.read_file(path, namespace, &mut left);
            }
        }
        sources
    }

    fn walk(&mut self, folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) if depth <= MAX_DEPTH => entries,
            Ok(_) => {
                let reason = format!("folders are nested more than {MAX_DEPTH} deep");
                return self.refuse(folder, DiagnosticCode::TooLarge, reason);
            }
            Err(error) => return self.refuse(folder, DiagnosticCode::Unreadable, error.to_string()),
        };
        for entry in entries.flatten() {
            let path = entry.path();
            // The kind of the entry itself, so that links are not followed.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.walk(&path, depth + 1, files),
                Ok(_) if path.extension().is_some_and(|end| end == "yar" || end == "yara") => {
                    if files.len() > MAX_SOURCES {
                        return;
                    }
                    files.push(path);
                }
                _ => {}
            }
        }
    }

    fn read_file(&mut self, path: &Path, namespace: &Path, left: &mut u64) {
        let limit = MAX_SOURCE_BYTES.min(*left);
        if self.texts.len() >= MAX_SOURCES {
            let reason = format!("more than {MAX_SOURCES} rule files in one set");
            return self.refuse(path, DiagnosticCode::TooLarge, reason);
        }
        let bytes = RegularFile::open(path, LastSymlink::Refuse).and_then(|file| file.read_all(limit));
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(ContentUnread::TooLarge) => {
                let reason = format!(
                    "a rule file may have {MAX_SOURCE_BYTES} bytes, and all of a set {MAX_TOTAL_SOURCE_BYTES}"
                );
                return self.refuse(path, DiagnosticCode::TooLarge, reason);
            }
            Err(error) => {
                let reason = format!("a rule file must be a readable regular file; this one is {error}");
                return self.refuse(path, DiagnosticCode::Unreadable, reason);
            }
        };
        *left = left.saturating_sub(bytes.len() as u64);
        match String::from_utf8(bytes) {
            Ok(text) => self.texts.push(YaraSource {
                name: path.display().to_string(),
                namespace: namespace.display().to_string(),
                text,
            }),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let place = Source::new(&path.display().to_string(), &text)
                    .place(Span { start: valid, end: valid.saturating_add(1) });
                let reason = "this byte is not UTF-8".to_owned();
                let hint = Some("save the file as UTF-8; write bytes in strings as \\xNN".to_owned());
                let code = DiagnosticCode::NotUtf8;
                self.diagnostics.push(Diagnostic::new(DiagnosticSeverity::Error, code, &place, reason, hint));
            }
        }
    }

    fn refuse(&mut self, path: &Path, code: DiagnosticCode, reason: String) {
        let place = Source::new(&path.display().to_string(), "").place(Span { start: 0, end: 0 });
        self.diagnostics.push(Diagnostic::new(DiagnosticSeverity::Error, code, &place, reason, None));
    }
}
