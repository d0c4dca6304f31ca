//! What the runtimes keep on disk about a container: name, image, labels, pod.

use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;

use event_model::Container;
use os_files::OpenCautiously as _;
use serde_json::{Map, Value};

use super::Named;

/// An OCI configuration has some ten to sixty kilobytes.
const MAX_FILE: u64 = 1 << 20;

const MOST_LABELS: usize = 32;
const MAX_TEXT: usize = 256;

/// Adds what the runtime's files say. False if none of them was there.
pub(super) fn read(root: &Path, named: &Named, container: &mut Container) -> bool {
    let id = named.id.as_str();
    match named.runtime {
        Some("docker") => docker(root, id, container),
        Some("containerd") => containerd(root, id, container),
        Some("podman" | "cri-o") => storage(root, id, container),
        Some("lxc" | "systemd-nspawn") => {
            container.name = Some(id.to_owned());
            true
        }
        // `/kubepods/…/<id>` says nothing of who made it.
        _ => docker(root, id, container) || containerd(root, id, container) || storage(root, id, container),
    }
}

fn docker(root: &Path, id: &str, container: &mut Container) -> bool {
    let Some(config) = json(&root.join("var/lib/docker/containers").join(id).join("config.v2.json")) else {
        return false;
    };
    container.runtime = Some("docker");
    container.name = text(&config["Name"]).map(|name| name.trim_start_matches('/').to_owned());
    container.image = text(&config["Config"]["Image"]);
    if let Some(labels) = config["Config"]["Labels"].as_object() {
        take_labels(labels, container);
    }
    true
}

/// containerd's bundle, for Kubernetes, for Docker, and for nerdctl and ctr.
fn containerd(root: &Path, id: &str, container: &mut Container) -> bool {
    let tasks = root.join("run/containerd/io.containerd.runtime.v2.task");
    let found = ["k8s.io", "default", "moby"]
        .into_iter()
        .find_map(|space| json(&tasks.join(space).join(id).join("config.json")));
    let Some(config) = found else { return false };
    container.runtime = container.runtime.or(Some("containerd"));
    annotations(&config, container);
    true
}

/// containers/storage, which Podman and CRI-O share.
fn storage(root: &Path, id: &str, container: &mut Container) -> bool {
    let storage = root.join("var/lib/containers/storage/overlay-containers");
    let config = json(&storage.join(id).join("userdata/config.json")).or_else(|| {
        json(&root.join("run/containers/storage/overlay-containers").join(id).join("userdata/config.json"))
    });
    if let Some(config) = &config {
        let is_crio = config["annotations"].get("io.kubernetes.cri-o.Name").is_some();
        container.runtime = container.runtime.or(Some(if is_crio { "cri-o" } else { "podman" }));
        annotations(config, container);
    }
    // The index has the names; the configuration those of Kubernetes only.
    let index = json(&storage.join("containers.json"));
    let own = index.as_ref().and_then(Value::as_array).and_then(|all| all.iter().find(|one| one["id"] == id));
    if let Some(own) = own {
        container.name = container.name.take().or_else(|| text(&own["names"][0]));
        let metadata = own["metadata"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let image = metadata.as_ref().and_then(|metadata| text(&metadata["image-name"]));
        container.image = container.image.take().or(image);
    }
    config.is_some() || own.is_some()
}

/// Annotations of an OCI configuration.
fn annotations(config: &Value, container: &mut Container) {
    let Some(all) = config["annotations"].as_object() else { return };
    let first = |names: &[&str]| names.iter().find_map(|name| text(all.get(*name)?));
    container.name = first(&[
        "io.kubernetes.cri.container-name",
        "io.kubernetes.container.name",
        "io.kubernetes.cri-o.ContainerName",
        "nerdctl/name",
    ]);
    container.image = first(&[
        "io.kubernetes.cri.image-name",
        "io.kubernetes.cri-o.ImageName",
        "io.kubernetes.cri-o.Image",
        "org.opencontainers.image.ref.name",
    ]);
    container.pod = first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]);
    container.pod_namespace = first(&["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]);
    let uid = first(&["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]);
    container.pod_uid = container.pod_uid.take().or(uid);
    // CRI-O keeps the labels as JSON in an annotation.
    let labels = all.get("io.kubernetes.cri-o.Labels").and_then(Value::as_str);
    let labels = labels.and_then(|text| serde_json::from_str::<Value>(text).ok());
    match labels.as_ref().and_then(Value::as_object) {
        Some(labels) => take_labels(labels, container),
        None => take_labels(all, container),
    }
}

fn take_labels(labels: &Map<String, Value>, container: &mut Container) {
    let label = |name: &str| text(labels.get(name)?);
    container.pod = container.pod.take().or_else(|| label("io.kubernetes.pod.name"));
    container.pod_namespace = container.pod_namespace.take().or_else(|| label("io.kubernetes.pod.namespace"));
    container.pod_uid = container.pod_uid.take().or_else(|| label("io.kubernetes.pod.uid"));
    // The runtime's own book-keeping is no label that anybody gave.
    let own =
        |name: &str| name.starts_with("io.kubernetes.cri") || name.starts_with("io.podman.annotations.");
    let given = labels.iter().filter(|(name, _)| !own(name));
    let given = given.filter_map(|(name, value)| Some(cut(&format!("{name}={}", text(value)?))));
    container.labels = given.take(MOST_LABELS).collect();
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(cut)
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

/// The file, if it is one and not too large to be right.
fn json(path: &Path) -> Option<Value> {
    let file = OpenOptions::new().read(true).cautiously().open(path).ok()?;
    let is_right = file.metadata().is_ok_and(|status| status.is_file() && status.len() <= MAX_FILE);
    let mut bytes = Vec::new();
    is_right.then_some(file)?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}
