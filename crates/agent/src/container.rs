//! Containers: which one a cgroup path names, and what the runtime's own files say of it.

mod files;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_model::Container;

/// Containers whose facts are kept; past that all are forgotten and read again when met.
const MOST_KNOWN: usize = 4_096;

/// A runtime may write its files after the first process has started: they are
/// looked for again with later processes, so often and this far apart.
const TRIES: u32 = 5;
const TRY_EVERY: Duration = Duration::from_secs(1);

/// What a cgroup path says of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// The id: 64 hex digits where the runtime gives such, else its name.
    pub id: String,
    /// The runtime, where the path tells.
    pub runtime: Option<&'static str>,
    /// Uid of the Kubernetes pod.
    pub pod_uid: Option<String>,
}

/// The innermost container that a cgroup path names.
///
/// Docker, containerd, CRI-O, Podman and their like put ids into it
/// (`docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>.scope`,
/// `libpod-<id>.scope`, `/docker/<id>`, `/kubepods/…/<id>`), LXC and systemd-nspawn
/// names (`/lxc.payload.<name>`, `/machine.slice/machine-<name>.scope`).
pub fn named(cgroup_path: &str) -> Option<Named> {
    let parts: Vec<&str> = cgroup_path.split('/').collect();
    let pod_uid = parts.iter().rev().find_map(|part| pod_uid(part));
    (0..parts.len()).rev().find_map(|place| {
        let before = place.checked_sub(1).and_then(|before| parts.get(before)).copied().unwrap_or_default();
        let (id, runtime) = by_id(parts[place], before).or_else(|| by_name(parts[place], before))?;
        Some(Named { id, runtime, pod_uid: pod_uid.clone() })
    })
}

fn by_id(part: &str, before: &str) -> Option<(String, Option<&'static str>)> {
    // CRI-O's and Podman's monitors live beside the container, not in it.
    if part.contains("conmon") {
        return None;
    }
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = part.rsplit(['-', ':']).next()?;
    let is_id =
        id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let prefix = part.strip_suffix(id).unwrap_or_default().trim_end_matches(['-', ':']);
    let prefix = prefix.rsplit(':').next().unwrap_or(prefix);
    let runtime = match (prefix, before) {
        ("docker", _) | ("", "docker") => Some("docker"),
        ("cri-containerd" | "nerdctl" | "containerd", _) | ("", "default" | "k8s.io") => Some("containerd"),
        ("crio", _) => Some("cri-o"),
        ("libpod", _) | ("", "libpod_parent") => Some("podman"),
        _ => None,
    };
    is_id.then(|| (id.to_owned(), runtime))
}

fn by_name(part: &str, before: &str) -> Option<(String, Option<&'static str>)> {
    let lxc =
        part.strip_prefix("lxc.payload.").or_else(|| matches!(before, "lxc" | "lxc.payload").then_some(part));
    if let Some(name) = lxc {
        return is_name(name).then(|| (name.to_owned(), Some("lxc")));
    }
    let nspawn = part
        .strip_prefix("systemd-nspawn@")
        .and_then(|name| name.strip_suffix(".service"))
        .or_else(|| {
            let name = part.strip_prefix("machine-").and_then(|name| name.strip_suffix(".scope"))?;
            // Virtual machines are registered the same way.
            (before == "machine.slice" && !name.starts_with("qemu") && !name.starts_with("lxc"))
                .then_some(name)
        })?;
    let name = unescaped(nspawn);
    is_name(&name).then_some((name, Some("systemd-nspawn")))
}

fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= 253 && name.bytes().all(is_part) && !name.starts_with('.')
}

/// systemd writes a dash in a unit's name as `\x2d`.
fn unescaped(name: &str) -> String {
    name.replace("\\x2d", "-")
}

/// `pod<uid>`, or `kubepods-burstable-pod<uid>.slice` with `_` for `-`.
fn pod_uid(part: &str) -> Option<String> {
    let part = part.split(':').next().unwrap_or(part);
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let uid =
        part.rsplit_once("pod").filter(|(before, _)| before.is_empty() || before.starts_with("kubepods"))?.1;
    let uid = uid.replace('_', "-");
    let is_uid =
        matches!(uid.len(), 32 | 36) && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

/// The containers of this host, as far as they were met.
#[derive(Debug)]
pub struct Containers {
    root: PathBuf,
    known: HashMap<String, Known>,
    /// Those whose first process was met.
    met: HashSet<String>,
}

#[derive(Debug)]
struct Known {
    container: Arc<Container>,
    tries: u32,
    tried: Instant,
    is_read: bool,
}

impl Containers {
    /// Reads the runtimes' files below that root.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), known: HashMap::new(), met: HashSet::new() }
    }

    /// What is known of the container. At first sight that is a bounded read of one
    /// or two small files; after that it is in memory.
    pub fn facts(&mut self, named: &Named) -> Arc<Container> {
        if self.known.len() >= MOST_KNOWN && !self.known.contains_key(&named.id) {
            self.known.clear();
        }
        let known = self.known.get(&named.id);
        let (tries, wait) =
            known.map_or((0, false), |known| (known.tries, known.tried.elapsed() < TRY_EVERY));
        if let Some(known) = known.filter(|known| known.is_read || known.tries >= TRIES || wait) {
            return Arc::clone(&known.container);
        }
        let mut container =
            Container { runtime: named.runtime, pod_uid: named.pod_uid.clone(), ..Container::default() };
        let is_read = files::read(&self.root, named, &mut container);
        let container = Arc::new(container);
        let known =
            Known { container: Arc::clone(&container), tries: tries + 1, tried: Instant::now(), is_read };
        self.known.insert(named.id.clone(), known);
        container
    }

    /// Takes note of a process in the container; true for the first one.
    pub fn meet(&mut self, id: &str) -> bool {
        if self.met.contains(id) {
            return false;
        }
        if self.met.len() >= MOST_KNOWN {
            self.met.clear();
        }
        self.met.insert(id.to_owned())
    }
}

#[cfg(test)]
mod tests;
