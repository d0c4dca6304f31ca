//! Rule packs: folders with a `pack.toml`, rules, and a test beside each of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use event_model::EventType;
use serde::Deserialize;

use super::files::FOLDER_DEPTH_LIMIT;
use crate::arguments::nearest;

/// What a pack is called on disk.
pub(super) const MANIFEST: &str = "pack.toml";
/// Longest `pack.toml` in bytes.
const MANIFEST_LIMIT: u64 = 64 * 1024;

/// What a pack says of itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// Stable word: small letters, digits and dashes.
    pub(super) id: String,
    /// For people.
    pub(super) name: String,
    /// `1.2.3`.
    pub(super) version: String,
    pub(super) authors: Vec<String>,
    /// SPDX expression.
    pub(super) license: String,
    pub(super) description: String,
    /// Types of events (`process_start`, …) that its rules judge.
    #[serde(default)]
    pub(super) requires: Vec<String>,
}

/// A pack, or rule files that belong to none.
pub(super) struct Group {
    /// The pack's folder.
    pub(super) folder: Option<PathBuf>,
    pub(super) manifest: Option<Manifest>,
    /// What is wrong with the manifest.
    pub(super) faults: Vec<String>,
    pub(super) files: BTreeSet<PathBuf>,
}

/// The packs at and below the paths, and the rule files found there that are in none of them.
pub(super) fn groups(paths: &[PathBuf], files: &BTreeSet<PathBuf>) -> anyhow::Result<Vec<Group>> {
    let mut folders = BTreeSet::new();
    for path in paths {
        collect_packs(path, FOLDER_DEPTH_LIMIT, &mut folders)?;
    }
    // A file named alone belongs to the pack whose folder it is in.
    for file in files {
        folders.extend(
            file.ancestors().skip(1).find(|folder| folder.join(MANIFEST).is_file()).map(Path::to_owned),
        );
    }
    let mut groups: Vec<Group> = Vec::new();
    for folder in folders {
        let (manifest, faults) = read_manifest(&folder.join(MANIFEST))?;
        groups.push(Group { folder: Some(folder), manifest, faults, files: BTreeSet::new() });
    }
    let mut loose = BTreeSet::new();
    for file in files {
        // The innermost pack.
        let own =
            groups.iter_mut().filter(|group| group.folder.as_ref().is_some_and(|it| file.starts_with(it)));
        match own.max_by_key(|group| group.folder.as_ref().map(|it| it.as_os_str().len())) {
            Some(group) => {
                group.files.insert(file.clone());
            }
            None => {
                loose.insert(file.clone());
            }
        }
    }
    if !loose.is_empty() {
        groups.push(Group { folder: None, manifest: None, faults: Vec::new(), files: loose });
    }
    Ok(groups)
}

fn collect_packs(path: &Path, depth_left: usize, folders: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    if depth_left == 0 || !path.is_dir() {
        return Ok(());
    }
    if path.join(MANIFEST).is_file() {
        folders.insert(path.to_owned());
    }
    let unreadable = || format!("reading folder `{}`", path.display());
    for entry in fs::read_dir(path).with_context(unreadable)? {
        collect_packs(&entry.with_context(unreadable)?.path(), depth_left - 1, folders)?;
    }
    Ok(())
}

/// The manifest, where it can be read, and everything that is wrong with it.
fn read_manifest(path: &Path) -> anyhow::Result<(Option<Manifest>, Vec<String>)> {
    let name = path.display();
    let length = fs::metadata(path).with_context(|| format!("reading `{name}`"))?.len();
    if length > MANIFEST_LIMIT {
        return Ok((None, vec![format!("{name}: {length} bytes; {MANIFEST_LIMIT} are allowed")]));
    }
    let text = fs::read_to_string(path).with_context(|| format!("reading `{name}`"))?;
    let manifest: Manifest = match toml::from_str(&text) {
        Ok(manifest) => manifest,
        Err(error) => {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|it| *it != '\n').count() + 1;
            let keys = "keys are id, name, version, authors, license, description, requires";
            let fault = format!("{name}:{line}:{column}: {}; hint: {keys}", error.message());
            return Ok((None, vec![fault]));
        }
    };
    let faults = manifest.faults().into_iter().map(|fault| format!("{name}: {fault}")).collect();
    Ok((Some(manifest), faults))
}

impl Manifest {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let is_word = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
        if self.id.is_empty() || self.id.len() > 64 || !self.id.chars().all(is_word) {
            faults.push(format!("`id = {:?}`: an id is 1 to 64 small letters, digits and dashes", self.id));
        }
        let parts: Vec<&str> = self.version.split('.').collect();
        if parts.len() != 3 || parts.iter().any(|part| part.parse::<u32>().is_err()) {
            faults.push(format!("`version = {:?}`: a version is three numbers, such as 1.2.0", self.version));
        }
        for (key, value) in
            [("name", &self.name), ("license", &self.license), ("description", &self.description)]
        {
            if value.trim().is_empty() {
                faults.push(format!("`{key}` is empty"));
            }
        }
        if self.authors.iter().all(|author| author.trim().is_empty()) {
            faults.push("`authors` names nobody".to_owned());
        }
        for word in &self.requires {
            if EventType::from_word(word).is_none() {
                let words = EventType::ALL.iter().map(|it| it.as_str());
                let hint = nearest(word, words).map_or_else(
                    || "docs/reference/fields.md lists them".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                faults.push(format!("`requires`: there are no events of type `{word}`; hint: {hint}"));
            }
        }
        faults
    }

    /// The types of events that its rules may judge.
    pub(super) fn required(&self) -> Vec<EventType> {
        self.requires.iter().filter_map(|word| EventType::from_word(word)).collect()
    }
}
