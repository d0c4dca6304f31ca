//! The YARA rules in force: the `*.yar` and `*.yara` files of the rules directory and
//! those of the server's bundle, compiled as one set.
//!
//! They come as source text and are compiled here (ADR 0009). A rule with an error is
//! told with its place and left out; the others count.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use file_scan::{CompiledYara, YaraRules, YaraSource, YaraSources};
use protocol::link::ContentFile;
use rule_engine::Diagnostic;

use crate::folder::{Stamp, files_below, stamp_of};

/// What a file of YARA rules ends in.
pub const YARA_EXTENSIONS: [&str; 2] = ["yar", "yara"];

/// Errors that are kept; the first ones tell what is wrong.
const MAX_ERRORS: usize = 100;

/// What files are scanned with.
#[derive(Debug, Default)]
pub struct ActiveYara {
    /// The rules; `None` where there are none.
    pub rules: Option<YaraRules>,
    /// How many.
    pub count: usize,
    /// One line for each file or rule that could not be taken; at most 100.
    pub errors: Vec<String>,
}

/// Where YARA rules come from, and those in force.
#[derive(Debug, Default)]
pub struct YaraBook {
    active: ArcSwap<ActiveYara>,
    sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
struct Sources {
    dir: Option<PathBuf>,
    stamp: Stamp,
    /// Version of the server's bundle, and its files.
    bundle: (u64, Vec<ContentFile>),
}

impl YaraBook {
    /// With the rules of that directory and its folders, if there is one. What is wrong
    /// with them goes to standard error.
    pub fn open(dir: Option<&Path>) -> Self {
        let sources = Sources { dir: dir.map(Path::to_owned), stamp: stamp(dir), ..Sources::default() };
        let book = Self { active: ArcSwap::default(), sources: Mutex::new(sources) };
        book.compile();
        book
    }

    /// The rules in force.
    pub fn active(&self) -> Arc<ActiveYara> {
        self.active.load_full()
    }

    /// Takes the files of a bundle, if it is another than the last one. True if they differ.
    pub fn take_bundle(&self, version: u64, files: &[ContentFile]) -> bool {
        let mut sources = self.lock();
        if sources.bundle.0 == version {
            return false;
        }
        let changed = sources.bundle.1 != files;
        sources.bundle = (version, files.to_vec());
        drop(sources);
        if changed {
            self.compile();
        }
        changed
    }

    /// Compiles again if a file changed; true if it did.
    pub fn reload_if_changed(&self) -> bool {
        let mut sources = self.lock();
        let now = stamp(sources.dir.as_deref());
        if now == sources.stamp {
            return false;
        }
        sources.stamp = now;
        drop(sources);
        self.compile();
        true
    }

    fn compile(&self) {
        let sources = self.lock();
        let mut texts: Vec<YaraSource> = Vec::new();
        for file in &sources.bundle.1 {
            let name = format!("YARA file {} of the server", file.name);
            texts.push(YaraSource { name, namespace: file.name.clone(), text: file.text.clone() });
        }
        let mut errors = Vec::new();
        if let Some(dir) = sources.dir.as_ref().filter(|_| !sources.stamp.is_empty()) {
            let read = YaraSources::read(std::slice::from_ref(dir));
            report(&read.diagnostics, &[], &mut errors);
            texts.extend(read.texts);
        }
        if texts.is_empty() {
            self.active.store(Arc::new(ActiveYara { errors, ..ActiveYara::default() }));
            return;
        }
        let CompiledYara { rules, diagnostics } = YaraRules::compile(&texts);
        report(&diagnostics, &texts, &mut errors);
        let count = rules.len();
        tracing::info!(rules = count, files = texts.len(), "YARA rules are in force");
        let rules = (count > 0).then_some(rules);
        self.active.store(Arc::new(ActiveYara { rules, count, errors }));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(dir: Option<&Path>) -> Stamp {
    dir.map(|dir| stamp_of(&files_below(dir, &YARA_EXTENSIONS))).unwrap_or_default()
}

fn report(diagnostics: &[Diagnostic], texts: &[YaraSource], errors: &mut Vec<String>) {
    for diagnostic in diagnostics.iter().take(MAX_ERRORS) {
        let text = texts.iter().find(|text| text.name == *diagnostic.file);
        eprint!("{}", diagnostic.render(text.map_or("", |text| &text.text)));
        if diagnostic.is_error() && errors.len() < MAX_ERRORS {
            let Diagnostic { file, line, column, reason, .. } = diagnostic;
            errors.push(format!("{file}:{line}:{column}: {reason}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn rule(name: &str) -> String {
        format!("rule {name} {{ strings: $a = \"{name}\" condition: $a }}\n")
    }

    #[test]
    fn a_bad_rule_costs_itself_only_and_changes_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("vendor")).unwrap();
        fs::write(dir.path().join("vendor/a.yar"), rule("first")).unwrap();
        fs::write(
            dir.path().join("b.yara"),
            format!("{}\nrule broken {{ condition: $x }}\n", rule("second")),
        )
        .unwrap();
        let book = YaraBook::open(Some(dir.path()));
        let active = book.active();
        assert_eq!((active.count, active.errors.len()), (2, 1));
        assert!(active.errors[0].contains("b.yara:3:"), "file and line: {:?}", active.errors);
        assert!(!book.reload_if_changed());

        fs::write(dir.path().join("b.yara"), rule("second")).unwrap();
        assert!(book.reload_if_changed() && book.active().errors.is_empty());
        let file = ContentFile { name: "apt".to_owned(), text: rule("third") };
        assert!(book.take_bundle(3, std::slice::from_ref(&file)) && !book.take_bundle(3, &[]));
        assert_eq!(book.active().count, 3);
        assert!(book.take_bundle(4, &[]));
        fs::remove_file(dir.path().join("b.yara")).unwrap();
        fs::remove_dir_all(dir.path().join("vendor")).unwrap();
        assert!(book.reload_if_changed() && book.active().rules.is_none());
    }
}
