//! Names of system calls: rules use them, and a log that auditd did not enrich has only numbers.

use std::collections::HashMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("../../data/syscalls.txt");

/// What made the call; numbers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Architecture {
    X86_64,
    Aarch64,
    Other,
}

impl Architecture {
    /// From the field `arch`: the kernel's AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64.
    pub(super) fn from_audit(arch: &str) -> Self {
        match arch {
            "c000003e" => Self::X86_64,
            "c00000b7" => Self::Aarch64,
            _ => Self::Other,
        }
    }
}

/// The call's name, if the table has it.
pub(super) fn syscall_name(architecture: Architecture, number: u32) -> Option<&'static str> {
    static NAMES: OnceLock<HashMap<(Architecture, u32), &'static str>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let mut names = HashMap::new();
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            for architecture in [Architecture::X86_64, Architecture::Aarch64] {
                if let Some(number) = words.next().and_then(|word| word.parse().ok()) {
                    names.insert((architecture, number), name);
                }
            }
        }
        names
    });
    names.get(&(architecture, number)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_by_architecture() {
        for (architecture, number, name) in [
            ("c000003e", 59, Some("execve")),
            ("c00000b7", 221, Some("execve")),
            ("c000003e", 319, Some("memfd_create")),
            ("c00000b7", 203, Some("connect")),
            ("40000003", 11, None),
            ("c000003e", 99_999, None),
        ] {
            assert_eq!(syscall_name(Architecture::from_audit(architecture), number), name);
        }
    }
}
