//! Keys that are open, by their objects, and how the kernel names keys.

use std::collections::HashMap;

/// Bytes of names in each of two halves: when one is full, the other is forgotten. Who may open keys must not be able
/// to take the agent's memory.
const MOST_BYTES: usize = 2 << 20;
/// What a name takes besides its text, roughly.
const ENTRY_BYTES: usize = 64;
/// A longer name, in bytes, is not kept. Windows has 255 characters for a key, and 512 levels.
const MOST_NAME: usize = 4_096;

/// The names of open keys, by the address of the object, as the kernel gives it.
#[derive(Debug, Default)]
pub(super) struct OpenKeys {
    newer: Half,
    older: Half,
}

#[derive(Debug, Default)]
struct Half {
    names: HashMap<u64, String>,
    bytes: usize,
}

impl Half {
    fn remove(&mut self, object: u64) {
        if let Some(name) = self.names.remove(&object) {
            self.bytes = self.bytes.saturating_sub(taken(&name));
        }
    }
}

/// Bytes that a name takes.
fn taken(name: &str) -> usize {
    name.len() + ENTRY_BYTES
}

impl OpenKeys {
    /// The object is this key's from now on.
    pub(super) fn insert(&mut self, object: u64, name: &str) {
        self.remove(object);
        if name.len() > MOST_NAME {
            return;
        }
        if self.newer.bytes + taken(name) > MOST_BYTES {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.bytes += taken(name);
        self.newer.names.insert(object, name.to_owned());
    }

    /// Whatever had this object is closed.
    pub(super) fn remove(&mut self, object: u64) {
        self.newer.remove(object);
        self.older.remove(object);
    }

    /// The name of the key that has this object.
    pub(super) fn name(&self, object: u64) -> Option<&String> {
        self.newer.names.get(&object).or_else(|| self.older.names.get(&object))
    }
}

/// A key as the watch names it, in lower case, of the kernel's `\REGISTRY\…`; `None` for what does not begin so.
pub(super) fn normal(name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let rest = name.strip_prefix(r"\registry\")?;
    let (root, below) = rest.split_once('\\').unwrap_or((rest, ""));
    let hive = match root {
        "machine" => "hklm",
        "user" => "hku",
        _ => return None,
    };
    let below = below.trim_end_matches('\\');
    Some(if below.is_empty() { hive.to_owned() } else { normal_alias(format!(r"{hive}\{below}")) })
}

/// What has two names has the one of the watch: the control set that is in use, and the hive of a user's classes.
pub(super) fn normal_alias(key: String) -> String {
    const SETS: &str = r"hklm\system\controlset";
    const CURRENT: &str = r"hklm\system\currentcontrolset";
    const OF_CLASSES: &str = "_classes";
    if let Some(rest) = key.strip_prefix(SETS) {
        let (number, below) = rest.split_once('\\').unwrap_or((rest, ""));
        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            return if below.is_empty() { CURRENT.to_owned() } else { format!(r"{CURRENT}\{below}") };
        }
    }
    if let Some(rest) = key.strip_prefix(r"hku\") {
        let (hive, below) = rest.split_once('\\').unwrap_or((rest, ""));
        if let Some(user) = hive.strip_suffix(OF_CLASSES) {
            let below = if below.is_empty() { String::new() } else { format!(r"\{below}") };
            return format!(r"hku\{user}\software\classes{below}");
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_watch() {
        for (kernel, watch) in [
            (
                r"\REGISTRY\MACHINE\SYSTEM\ControlSet001\Services\X",
                r"hklm\system\currentcontrolset\services\x",
            ),
            (
                r"\Registry\Machine\System\CurrentControlSet\Services\X\",
                r"hklm\system\currentcontrolset\services\x",
            ),
            (r"\REGISTRY\MACHINE\SYSTEM\ControlSetX\Y", r"hklm\system\controlsetx\y"),
            (r"\REGISTRY\USER\S-1-5-21-1_Classes\CLSID", r"hku\s-1-5-21-1\software\classes\clsid"),
            (r"\REGISTRY\USER\S-1-5-21-1_Classes", r"hku\s-1-5-21-1\software\classes"),
            (r"\REGISTRY\USER\S-1-5-21-1\Environment", r"hku\s-1-5-21-1\environment"),
            (r"\REGISTRY\MACHINE", "hklm"),
        ] {
            assert_eq!(normal(kernel).as_deref(), Some(watch));
        }
        for other in ["", "Software", r"\REGISTRY\A\{1}", r"\Device\X"] {
            assert_eq!(normal(other), None, "{other}");
        }
    }

    #[test]
    fn names_are_bounded_by_what_they_take_and_the_last_ones_are_kept() {
        for length in [1, 100, MOST_NAME] {
            let (name, mut open) = ("x".repeat(length), OpenKeys::default());
            for object in 1..=100_000 {
                open.insert(object, &name);
                assert!(open.newer.bytes <= MOST_BYTES && open.older.bytes <= MOST_BYTES, "{length}");
            }
            let kept = open.newer.names.len() + open.older.names.len();
            assert_eq!(open.newer.bytes + open.older.bytes, kept * taken(&name));
            assert!((100_001 - kept as u64..=100_000).all(|object| open.name(object) == Some(&name)));
            (1..=100_000).for_each(|object| open.remove(object));
            assert_eq!((open.newer.bytes, open.older.bytes), (0, 0));
        }
        let mut open = OpenKeys::default();
        open.insert(1, "short");
        open.insert(1, &"x".repeat(MOST_NAME + 1));
        assert_eq!(open.name(1), None, "the object is another key's");
    }
}
