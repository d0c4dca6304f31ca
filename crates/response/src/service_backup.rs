//! What a service of Windows was, kept so that it can be put back; and which file it runs. No I/O.

use serde::{Deserialize, Serialize};

/// Types of services that run in processes; drivers have other ones.
const OWN_PROCESS: u32 = 0x10;
const SHARED_PROCESS: u32 = 0x20;

/// A service as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Was {
    pub(crate) name: String,
    pub(crate) display_name: String,
    pub(crate) kind: u32,
    pub(crate) start: u32,
    pub(crate) error_control: u32,
    pub(crate) command_line: String,
    pub(crate) account: String,
    pub(crate) dependencies: Vec<String>,
    pub(crate) ran: bool,
    /// Its key in the registry and those below it, by their path below it; its own is the empty one.
    pub(crate) keys: Vec<Key>,
}

/// A key of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) path: String,
    /// Name, number of the type, and data of each value.
    pub(crate) values: Vec<(String, u32, Vec<u8>)>,
}

impl Was {
    /// Whether it is one that runs in a process.
    pub(crate) fn is_no_driver(&self) -> bool {
        self.kind & (OWN_PROCESS | SHARED_PROCESS) != 0
    }
}

/// The file that a command line of a service runs, as the service manager understands it. Without quotation
/// marks it ends after `.exe`, or at the first blank.
pub(crate) fn image_of(command_line: &str, windows_folder: &str) -> String {
    let line = command_line.trim();
    let image = match line.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default(),
        None => match line.to_ascii_lowercase().find(".exe") {
            // Small letters of ASCII take as many bytes as large ones.
            Some(at) => &line[..at + ".exe".len()],
            None => line.split(' ').next().unwrap_or_default(),
        },
    };
    let image = image.strip_prefix(r"\??\").unwrap_or(image);
    let start = |prefix: &str| {
        let is = image.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
        is.then(|| &image[prefix.len()..])
    };
    for prefix in [r"%SystemRoot%\", r"%windir%\", r"\SystemRoot\"] {
        if let Some(rest) = start(prefix) {
            return format!(r"{windows_folder}\{rest}");
        }
    }
    match start(r"system32\") {
        Some(rest) => format!(r"{windows_folder}\System32\{rest}"),
        None => image.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_a_service_runs_is_found_in_each_spelling() {
        for (line, image) in [
            (r#""C:\Program Files\a b\c.exe" -k x"#, r"C:\Program Files\a b\c.exe"),
            (r"C:\Program Files\a b\c.EXE -k x", r"C:\Program Files\a b\c.EXE"),
            (r"%systemroot%\system32\svchost.exe -k netsvcs", r"C:\Windows\system32\svchost.exe"),
            (r"\SystemRoot\x\y.exe", r"C:\Windows\x\y.exe"),
            (r"system32\lsass.exe", r"C:\Windows\System32\lsass.exe"),
            (r"\??\C:\m.exe", r"C:\m.exe"),
            (r"C:\tool.bat now", r"C:\tool.bat"),
            ("", ""),
            ("\"", ""),
            ("ü.exe", "ü.exe"),
        ] {
            assert_eq!(image_of(line, r"C:\Windows"), image, "{line}");
        }
    }

    #[test]
    fn drivers_are_told_from_services() {
        let was = |kind| Was {
            name: String::new(),
            display_name: String::new(),
            kind,
            start: 0,
            error_control: 0,
            command_line: String::new(),
            account: String::new(),
            dependencies: Vec::new(),
            ran: false,
            keys: Vec::new(),
        };
        assert!([0x10, 0x20, 0x110, 0xe0].into_iter().all(|kind| was(kind).is_no_driver()));
        assert!(![1, 2, 8].into_iter().any(|kind| was(kind).is_no_driver()));
    }
}
