//! Which files are read, in which order.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::arguments::Usage;

/// How deep folders may stand in each other; a link that leads up ends here too.
const FOLDER_DEPTH_LIMIT: usize = 32;
/// Names under which logs are kept. Such a file in a folder is expected to be one.
const LOG_EXTENSIONS: &[&str] = &["evtx", "json", "jsonl", "ndjson", "log", "xml"];

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// Whether it was named, or is called like a log: if it is none, that is worth a word.
    pub(super) is_expected: bool,
}

/// The files of the command line in its order, those of folders by name; none twice.
pub(super) fn collect_inputs(paths: &[PathBuf]) -> anyhow::Result<Vec<Input>> {
    let mut inputs: Vec<Input> = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(|error| {
            Usage::new(format!("`{}` can't be read: {error}", path.display()), "check the path")
        })?;
        if metadata.is_dir() {
            collect_folder(path, FOLDER_DEPTH_LIMIT, &mut inputs)?;
        } else if metadata.is_file() {
            inputs.push(Input { path: path.clone(), bytes: metadata.len(), is_expected: true });
        } else {
            let hint = "write the log to a file first; some formats are not read from front to back";
            return Err(Usage::new(format!("`{}` is no file or folder", path.display()), hint).into());
        }
    }
    let mut seen = std::collections::HashSet::new();
    inputs.retain(|input| seen.insert(input.path.clone()));
    if inputs.is_empty() {
        return Err(Usage::new("the folder has no files", "name the folder that holds the logs").into());
    }
    Ok(inputs)
}

fn collect_folder(folder: &Path, depth_left: usize, inputs: &mut Vec<Input>) -> anyhow::Result<()> {
    if depth_left == 0 {
        anyhow::bail!("`{}` is nested deeper than {FOLDER_DEPTH_LIMIT} folders", folder.display());
    }
    let unreadable = || format!("reading folder `{}`", folder.display());
    let entries = fs::read_dir(folder).with_context(unreadable)?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .with_context(unreadable)?;
    paths.sort();
    for path in paths {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            collect_folder(&path, depth_left - 1, inputs)?;
        } else if metadata.is_file() {
            let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
            let is_expected = extension.is_some_and(|extension| LOG_EXTENSIONS.contains(&extension.as_str()));
            inputs.push(Input { path, bytes: metadata.len(), is_expected });
        }
    }
    Ok(())
}
