use std::fs;
use std::path::Path;

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const UID: &str = "1a2b3c4d-0000-1111-2222-333344445555";

#[test]
fn every_runtime_is_known_and_nothing_else() {
    let uid = UID.replace('-', "_");
    for (path, runtime, pod) in [
        (format!("/docker/{ID}"), Some("docker"), None),
        (format!("/system.slice/docker-{ID}.scope"), Some("docker"), None),
        (
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-{ID}.scope"
            ),
            Some("containerd"),
            Some(UID),
        ),
        (
            format!("/kubepods.slice/kubepods-pod{uid}.slice/crio-{ID}.scope/container"),
            Some("cri-o"),
            Some(UID),
        ),
        (format!("/machine.slice/libpod-{ID}.scope"), Some("podman"), None),
        (format!("/kubepods/burstable/pod{UID}/{ID}"), None, Some(UID)),
        (
            format!(
                "/system.slice/containerd.service/kubepods-besteffort-pod{uid}.slice:cri-containerd:{ID}"
            ),
            Some("containerd"),
            Some(UID),
        ),
        (format!("/user.slice/nerdctl-{ID}.scope"), Some("containerd"), None),
    ] {
        let named = named(&path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(
            (named.id.as_str(), named.runtime, named.pod_uid.as_deref()),
            (ID, runtime, pod),
            "{path}"
        );
    }
    for (path, id, runtime) in [
        ("/lxc.payload.web-1", "web-1", "lxc"),
        ("/lxc/web-1/system.slice/ssh.service", "web-1", "lxc"),
        ("/machine.slice/machine-de\\x2dbian.scope", "de-bian", "systemd-nspawn"),
        ("/machine.slice/systemd-nspawn@test.service/payload", "test", "systemd-nspawn"),
    ] {
        let named = named(path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!((named.id.as_str(), named.runtime), (id, Some(runtime)), "{path}");
    }
    for path in [
        "",
        "/",
        "/user.slice/session-1.scope",
        "/docker/123",
        "/system.slice/ssh.service",
        "/lxc/..",
        "/lxc/",
        "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope",
        "/system.slice/podman.service",
    ] {
        assert_eq!(named(path), None, "{path}");
    }
    assert_eq!(named(&format!("/machine.slice/libpod-conmon-{ID}.scope")), None);
    let inner = "f".repeat(64);
    let nested = named(&format!("/docker/{ID}/docker/{inner}")).unwrap();
    assert_eq!(nested.id, inner, "the innermost container counts");
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn facts(root: &Path, cgroup: &str) -> Arc<Container> {
    Containers::new(root).facts(&named(cgroup).unwrap())
}

#[test]
fn dockers_file_gives_name_image_and_labels() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        &format!("var/lib/docker/containers/{ID}/config.v2.json"),
        r#"{"ID":"x","Name":"/web","Image":"sha256:1","Config":{"Image":"nginx:1.27","Labels":{"team":"blue","io.kubernetes.pod.name":"web-0","n":7}}}"#,
    );
    let container = facts(root.path(), &format!("/docker/{ID}"));
    assert_eq!(
        *container,
        Container {
            runtime: Some("docker"),
            name: Some("web".into()),
            image: Some("nginx:1.27".into()),
            pod: Some("web-0".into()),
            labels: vec!["team=blue".into(), "io.kubernetes.pod.name=web-0".into()],
            ..Container::default()
        }
    );
}

#[test]
fn the_bundles_of_kubernetes_give_pod_and_namespace() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        &format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"),
        &format!(
            r#"{{"ociVersion":"1.1.0","annotations":{{"io.kubernetes.cri.container-name":"app","io.kubernetes.cri.image-name":"r/app:2","io.kubernetes.cri.sandbox-name":"app-7","io.kubernetes.cri.sandbox-namespace":"prod","io.kubernetes.cri.sandbox-uid":"{UID}","custom":"1"}}}}"#
        ),
    );
    let container = facts(root.path(), &format!("/kubepods/besteffort/pod{UID}/{ID}"));
    assert_eq!(container.runtime, Some("containerd"), "the path alone does not say it");
    assert_eq!((container.name.as_deref(), container.image.as_deref()), (Some("app"), Some("r/app:2")));
    assert_eq!((container.pod.as_deref(), container.pod_namespace.as_deref()), (Some("app-7"), Some("prod")));
    assert_eq!(
        (container.pod_uid.as_deref(), &container.labels[..]),
        (Some(UID), &["custom=1".to_owned()][..])
    );

    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        &format!("var/lib/containers/storage/overlay-containers/{ID}/userdata/config.json"),
        r#"{"annotations":{"io.kubernetes.cri-o.Name":"k8s_app","io.kubernetes.container.name":"app","io.kubernetes.pod.name":"app-8","io.kubernetes.pod.namespace":"test","io.kubernetes.cri-o.ImageName":"q/app:3","io.kubernetes.cri-o.Labels":"{\"tier\":\"back\"}"}}"#,
    );
    let container = facts(root.path(), &format!("/kubepods.slice/crio-{ID}.scope"));
    assert_eq!(
        (container.name.as_deref(), container.pod.as_deref(), container.image.as_deref()),
        (Some("app"), Some("app-8"), Some("q/app:3"))
    );
    assert_eq!(container.labels, ["tier=back"]);
}

#[test]
fn podmans_index_gives_the_name() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        "var/lib/containers/storage/overlay-containers/containers.json",
        &format!(
            r#"[{{"id":"other","names":["x"]}},{{"id":"{ID}","names":["db"],"metadata":"{{\"image-name\":\"docker.io/library/postgres:17\"}}"}}]"#
        ),
    );
    let container = facts(root.path(), &format!("/machine.slice/libpod-{ID}.scope"));
    assert_eq!((container.runtime, container.name.as_deref()), (Some("podman"), Some("db")));
    assert_eq!(container.image.as_deref(), Some("docker.io/library/postgres:17"));
}

#[test]
fn bad_files_are_no_facts_and_do_not_block() {
    let root = tempfile::tempdir().unwrap();
    let cgroup = format!("/docker/{ID}");
    let path = format!("var/lib/docker/containers/{ID}/config.v2.json");
    for text in
        ["", "[", "[]", "null", r#"{"Name":7,"Config":[]}"#, &"[".repeat(100_000), &"x".repeat(2 << 20)]
    {
        write(root.path(), &path, text);
        let container = facts(root.path(), &cgroup);
        assert_eq!((container.name.as_ref(), container.image.as_ref()), (None, None));
    }
    fs::remove_file(root.path().join(&path)).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, root.path().join(&path), rustix::fs::FileType::Fifo, mode, 0)
        .unwrap();
    assert_eq!(facts(root.path(), &cgroup).name, None);
    fs::remove_file(root.path().join(&path)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.path().join(&path)).unwrap();
    assert_eq!(facts(root.path(), &cgroup).name, None);
}

#[test]
fn a_container_is_met_once_and_its_files_are_read_once() {
    let root = tempfile::tempdir().unwrap();
    let mut containers = Containers::new(root.path());
    assert!(containers.meet(ID) && !containers.meet(ID));
    let named = named(&format!("/docker/{ID}")).unwrap();
    assert_eq!(containers.facts(&named).name, None);
    let path = format!("var/lib/docker/containers/{ID}/config.v2.json");
    write(root.path(), &path, r#"{"Name":"/late"}"#);
    assert_eq!(containers.facts(&named).name, None, "not looked for with each process");
    containers.known.get_mut(ID).unwrap().tried = Instant::now().checked_sub(TRY_EVERY).unwrap();
    assert_eq!(containers.facts(&named).name.as_deref(), Some("late"));
    fs::remove_file(root.path().join(&path)).unwrap();
    assert_eq!(containers.facts(&named).name.as_deref(), Some("late"));
}
