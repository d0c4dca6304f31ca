//! The container that a cgroup path names.

/// The container id: 64 hex digits, as Docker, containerd, CRI-O and Podman put them
/// into the cgroup path (`docker-<id>.scope`, `cri-containerd-<id>.scope`,
/// `crio-<id>.scope`, `libpod-<id>.scope`, `/docker/<id>`, `/kubepods/…/<id>`).
pub fn container_of(cgroup_path: &str) -> Option<&str> {
    // The innermost container counts where one runs in another.
    cgroup_path.rsplit('/').find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        // CRI-O's and Podman's monitors live beside the container, not in it.
        if part.contains("conmon") {
            return None;
        }
        let id = part.rsplit(['-', ':']).next()?;
        let is_id =
            id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        is_id.then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runtime_is_known_and_nothing_else() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            format!("/docker/{id}"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/kubepods.slice/crio-{id}.scope/container"),
            format!("/machine.slice/libpod-{id}.scope"),
            format!("/kubepods/burstable/pod12/{id}"),
            format!("/system.slice/containerd.service/kubepods-x.slice:cri-containerd:{id}"),
        ] {
            assert_eq!(container_of(&path), Some(id.as_str()), "{path}");
        }
        for path in ["", "/", "/user.slice/session-1.scope", "/docker/123", "/system.slice/ssh.service"] {
            assert_eq!(container_of(path), None, "{path}");
        }
        assert_eq!(container_of(&format!("/machine.slice/libpod-conmon-{id}.scope")), None);
    }
}
