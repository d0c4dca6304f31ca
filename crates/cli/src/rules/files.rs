//! The files of rules that paths on the command line mean, and reading them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rule_engine::{
    Diagnostic, ParseOutcome, RULE_FILE_LIMIT, SigmaOptions, is_behaviour_file, is_placeholder_file,
    is_sigma_file, parse_behaviours, parse_rules_bytes_with,
};

use crate::arguments::Usage;

/// How deep folders may stand in each other; a link that leads up ends here too.
pub(super) const FOLDER_DEPTH_LIMIT: usize = 32;

/// What was found. A file that was named is taken as it is; in folders, every `*.json` that is no rule test, and
/// Sigma's `*.yml` and `*.yaml`.
#[derive(Default)]
pub(crate) struct RuleFiles {
    /// Files with rules or behaviours.
    pub(crate) rules: BTreeSet<PathBuf>,
    /// Files with values of placeholders, which are for the rules of all files.
    placeholders: BTreeSet<PathBuf>,
}

impl RuleFiles {
    /// Those that the paths name and those in the folders that they name.
    pub(crate) fn at(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut files = Self::default();
        for path in paths {
            let metadata = fs::metadata(path).map_err(|error| {
                Usage::new(format!("`{}` can't be read: {error}", path.display()), "check the path")
            })?;
            if metadata.is_dir() {
                files.take_folder(path, FOLDER_DEPTH_LIMIT)?;
            } else {
                files.take(path.clone());
            }
        }
        Ok(files)
    }

    fn take_folder(&mut self, folder: &Path, depth_left: usize) -> anyhow::Result<()> {
        if depth_left == 0 {
            anyhow::bail!("`{}` is nested deeper than {FOLDER_DEPTH_LIMIT} folders", folder.display());
        }
        let unreadable = || format!("reading folder `{}`", folder.display());
        for entry in fs::read_dir(folder).with_context(unreadable)? {
            let path = entry.with_context(unreadable)?.path();
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if metadata.is_dir() {
                self.take_folder(&path, depth_left - 1)?;
            } else if metadata.is_file() && is_rule_file(&path) {
                self.take(path);
            }
        }
        Ok(())
    }

    fn take(&mut self, path: PathBuf) {
        let of_its_kind = if is_placeholder_file(&path.to_string_lossy()) {
            &mut self.placeholders
        } else {
            &mut self.rules
        };
        of_its_kind.insert(path);
    }

    /// What Sigma rules are read with: the values of the files that were found in the order of their paths, and then
    /// of the `named` ones; the last one that gives a name counts. `tell` hears of files that are wrong, with their
    /// text; nothing of them is taken.
    pub(crate) fn sigma_options(
        &self,
        named: &[PathBuf],
        mut tell: impl FnMut(&Diagnostic, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<SigmaOptions> {
        let mut options = SigmaOptions::default();
        for path in self.placeholders.iter().chain(named) {
            let bytes = read(path)?;
            if let Err(diagnostic) = options.add_placeholder_bytes(&path.to_string_lossy(), &bytes) {
                tell(&diagnostic, &String::from_utf8_lossy(&bytes))?;
            }
        }
        Ok(options)
    }
}

pub(super) fn is_rule_file(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    is_sigma_file(&name) || (name.ends_with(".json") && !name.ends_with(".test.json"))
}

/// What a file's text became, and the text itself for showing where something is wrong.
pub(crate) fn read_rules(path: &Path, sigma: &SigmaOptions) -> anyhow::Result<(ParseOutcome, String)> {
    let bytes = read(path)?;
    let (name, text) = (path.to_string_lossy(), String::from_utf8_lossy(&bytes).into_owned());
    if is_behaviour_file(&name) {
        let (_, diagnostics) = parse_behaviours(&name, &text);
        let refused = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
        return Ok((ParseOutcome { rules: Vec::new(), diagnostics, refused }, text));
    }
    Ok((parse_rules_bytes_with(&name, &bytes, sigma), text))
}

/// One byte more than the engine takes is enough for it to refuse the rest.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(RULE_FILE_LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .with_context(|| format!("reading `{}`", path.display()))?;
    Ok(bytes)
}

/// For people, on standard error.
pub(super) fn tell_people(diagnostic: &Diagnostic, source: &str) -> anyhow::Result<()> {
    Ok(std::io::stderr().write_all(diagnostic.render(source).as_bytes())?)
}
