//! What a file is to the system, by where it stands.

/// Folders whose files are of one kind.
const FOLDERS: [(&str, &str); 8] = [
    ("/lib/modules/", "kernel_module"),
    ("/usr/lib/modules/", "kernel_module"),
    ("/var/log/", "log"),
    ("/run/log/", "log"),
    ("/var/lib/rampart/", "agent"),
    ("/etc/rampart/", "agent"),
    ("/run/rampart/", "agent"),
    ("/sys/fs/bpf/rampart-", "agent"),
];

/// What else of the agent's stands in folders of others.
const AGENT_NAMES: [&str; 2] = ["edr-agent", "rampart-agent.service"];

/// Where shells and others that read commands keep what they were given.
const HISTORIES: [&str; 13] = [
    ".bash_history",
    ".zsh_history",
    ".zhistory",
    ".ash_history",
    ".sh_history",
    ".history",
    ".ksh_history",
    "fish_history",
    ".python_history",
    ".mysql_history",
    ".psql_history",
    ".sqlite_history",
    ".lesshst",
];

/// The kind, where the place tells one.
pub(super) fn by_path(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or_default();
    if HISTORIES.contains(&name) {
        return Some("shell_history");
    }
    if AGENT_NAMES.contains(&name) {
        return Some("agent");
    }
    FOLDERS.iter().find(|(folder, _)| path.starts_with(folder)).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_tell_what_a_file_is() {
        assert_eq!(by_path("/root/.bash_history"), Some("shell_history"));
        assert_eq!(by_path("/lib/modules/6.1.0/kernel/x.ko"), Some("kernel_module"));
        assert_eq!(by_path("/var/log/wtmp"), Some("log"));
        assert_eq!(by_path("/var/lib/rampart/agent/spool/1"), Some("agent"));
        assert_eq!(by_path("/home/a/var/log/x"), None);
    }
}
