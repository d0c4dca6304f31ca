//! Programs that may not run on this host, from a file.
//!
//! ```json
//! { "names": ["xmrig"], "paths": ["/tmp/.x/run"], "sha256": ["e3b0c442…"] }
//! ```
//!
//! The kernel side of the sensor ends what has one of these names or paths before its
//! first instruction. A hash is known to the agent only when a file has run once: the
//! first start is ended from user space, and from the second on the kernel knows the file.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use response::Guards;
use sensor_api::Block;
use serde::Deserialize;

/// Larger files are refused.
const MAX_BYTES: u64 = 16 << 20;
/// As many names and paths as the kernel side has room for.
const MAX_TEXTS: usize = 16_384;

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListFile {
    names: Vec<String>,
    paths: Vec<String>,
    sha256: Vec<String>,
}

/// A block list, checked.
#[derive(Debug, Default)]
pub struct BlockList {
    /// What the kernel side can know by itself.
    pub texts: Vec<Block>,
    /// SHA-256 in lower-case hex.
    pub hashes: HashSet<String>,
}

impl BlockList {
    /// Reads a list. What is protected is left out; the lines say so, for the operator.
    ///
    /// # Errors
    /// If the file can't be read, is no list, or holds what can never match.
    pub fn read(path: &Path, guards: &Guards) -> anyhow::Result<(Self, Vec<String>)> {
        let of_file = || format!("-blocklist {}", path.display());
        let size = std::fs::metadata(path).with_context(of_file)?.len();
        ensure!(size <= MAX_BYTES, "{}: {MAX_BYTES} bytes are the limit", of_file());
        let text = std::fs::read_to_string(path).with_context(of_file)?;
        Self::parse(&text, guards).with_context(of_file)
    }

    fn parse(text: &str, guards: &Guards) -> anyhow::Result<(Self, Vec<String>)> {
        // What is derived would also take a list of lists.
        ensure!(
            text.trim_start().starts_with('{'),
            "it must be an object with `names`, `paths` and `sha256`"
        );
        let file: ListFile = serde_json::from_str(text).context(
            "it must be like {\"names\": [\"xmrig\"], \"paths\": [\"/tmp/x\"], \"sha256\": [\"64 hex digits\"]}",
        )?;
        let mut list = Self::default();
        let mut notes = Vec::new();
        let mut left_out = |what: &str| {
            notes.push(format!("`{what}` is not blocked: it is a system service or the agent"));
        };
        for name in file.names {
            ensure!(
                !name.is_empty() && !name.contains('/'),
                "`{name}` is no name of a file; hint: `paths` takes paths"
            );
            if guards.protects_name(&name) {
                left_out(&name);
            } else {
                list.texts.push(Block::Name(name));
            }
        }
        for path in file.paths {
            ensure!(path.starts_with('/'), "`{path}` does not begin with `/`");
            // The kernel walks to the file itself, past all links.
            let real =
                std::fs::canonicalize(&path).ok().and_then(|real| real.into_os_string().into_string().ok());
            if guards.protects_path(Path::new(&path)) {
                left_out(&path);
                continue;
            }
            list.texts.extend(real.filter(|real| *real != path).map(Block::Path));
            list.texts.push(Block::Path(path));
        }
        ensure!(list.texts.len() <= MAX_TEXTS, "{MAX_TEXTS} names and paths are the limit");
        for hash in file.sha256 {
            if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                bail!("`{hash}` is no SHA-256; 64 hex digits are one");
            }
            list.hashes.insert(hash.to_ascii_lowercase());
        }
        Ok((list, notes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(BlockList, Vec<String>), String> {
        BlockList::parse(text, &Guards::of_this_host()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_list_is_read_and_what_is_protected_is_left_out() {
        let own = std::env::current_exe().unwrap();
        let text = serde_json::json!({
            "names": ["miner", "sshd", "edr-agent"],
            "paths": ["/nowhere/miner", own],
            "sha256": ["AB".repeat(32)],
        });
        let (list, notes) = parse(&text.to_string()).unwrap();
        assert_eq!(list.texts, [Block::Name("miner".into()), Block::Path("/nowhere/miner".into())]);
        assert!(list.hashes.contains(&"ab".repeat(32)));
        assert_eq!(notes.len(), 3, "{notes:?}");
    }

    #[test]
    fn a_link_blocks_the_file_that_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::write(dir.join("file"), "").unwrap();
        std::os::unix::fs::symlink("file", dir.join("link")).unwrap();
        let (list, _) = parse(&serde_json::json!({ "paths": [dir.join("link")] }).to_string()).unwrap();
        let path = |name: &str| Block::Path(dir.join(name).to_str().unwrap().to_owned());
        assert_eq!(list.texts, [path("file"), path("link")]);
    }

    #[test]
    fn what_can_never_match_is_refused_with_its_place() {
        for (text, part) in [
            (r#"{"hashes": []}"#, "hashes"),
            (r#"{"names": ["/tmp/x"]}"#, "paths"),
            (r#"{"names": [""]}"#, "no name"),
            (r#"{"paths": ["x"]}"#, "begin with"),
            (r#"{"sha256": ["abc"]}"#, "64"),
            ("[]", "names"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
