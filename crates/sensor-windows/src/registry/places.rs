//! Keys from which things are started by themselves, or by which the host's guard is lowered.

use super::change::Room;

/// How far below a key is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Its own values only.
    Values,
    /// The keys right below it too.
    Keys,
    /// Two keys deep, as services have their parameters.
    Two,
}

impl Depth {
    /// In keys.
    pub fn keys(self) -> usize {
        match self {
            Self::Values => 0,
            Self::Keys => 1,
            Self::Two => 2,
        }
    }
}

/// Below keys of the machine, which administrators alone write. Services have some ten thousands of values.
const OF_MACHINE: Room = Room { keys: 200_000, values: 200_000, names: 16 << 20, text: 16 << 20 };
/// Below keys that any user may write: a few megabytes for all of a user. Classes are the most of them, with
/// some three values each.
const OF_USER: Room = Room { keys: 8_192, values: 8_192, names: 512 << 10, text: 512 << 10 };
const OF_USER_FLAT: Room = Room { keys: 1_024, values: 1_024, names: 128 << 10, text: 128 << 10 };

/// A key that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As `HKLM\…`; `HKU\*\…` stands for each user that is logged on.
    pub key: String,
    /// How far below it is looked.
    pub depth: Depth,
    /// What it is for, in a word.
    pub what: &'static str,
}

impl Place {
    /// How much of it is kept.
    pub fn room(&self) -> Room {
        let is_of_users = self.key.split('\\').next().is_some_and(|hive| hive.eq_ignore_ascii_case("HKU"));
        match (is_of_users, self.depth) {
            (false, _) => OF_MACHINE,
            (true, Depth::Two) => OF_USER,
            (true, Depth::Values | Depth::Keys) => OF_USER_FLAT,
        }
    }
}

/// The built-in ones. Order and words are part of no contract.
pub const BUILT_IN: &[(&str, Depth, &str)] = &[
    (r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run", Depth::Values, "autostart"),
    (r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\RunOnce", Depth::Keys, "autostart"),
    (r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\RunOnceEx", Depth::Two, "autostart"),
    (r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\RunServices", Depth::Values, "autostart"),
    (r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\Explorer\Run", Depth::Values, "autostart"),
    (r"HKLM\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Run", Depth::Values, "autostart"),
    (r"HKLM\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\RunOnce", Depth::Keys, "autostart"),
    (r"HKU\*\Software\Microsoft\Windows\CurrentVersion\Run", Depth::Values, "autostart"),
    (r"HKU\*\Software\Microsoft\Windows\CurrentVersion\RunOnce", Depth::Keys, "autostart"),
    (r"HKU\*\Software\Microsoft\Windows\CurrentVersion\Policies\Explorer\Run", Depth::Values, "autostart"),
    (r"HKU\*\Software\Microsoft\Windows NT\CurrentVersion\Windows", Depth::Values, "autostart"),
    (r"HKU\*\Environment", Depth::Values, "environment"),
    (
        r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Explorer\User Shell Folders",
        Depth::Values,
        "autostart",
    ),
    (
        r"HKU\*\Software\Microsoft\Windows\CurrentVersion\Explorer\User Shell Folders",
        Depth::Values,
        "autostart",
    ),
    (r"HKLM\SOFTWARE\Microsoft\Active Setup\Installed Components", Depth::Keys, "autostart"),
    (r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon", Depth::Keys, "winlogon"),
    (r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Windows", Depth::Values, "appinit"),
    (r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Image File Execution Options", Depth::Keys, "ifeo"),
    (r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\SilentProcessExit", Depth::Keys, "ifeo"),
    (r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager", Depth::Values, "boot"),
    (r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\AppCertDlls", Depth::Values, "appinit"),
    (r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\KnownDLLs", Depth::Values, "boot"),
    (r"HKLM\SYSTEM\CurrentControlSet\Control\Lsa", Depth::Keys, "lsa"),
    (r"HKLM\SYSTEM\CurrentControlSet\Control\SecurityProviders", Depth::Keys, "lsa"),
    (r"HKLM\SYSTEM\CurrentControlSet\Control\Print\Monitors", Depth::Keys, "print_monitor"),
    (r"HKLM\SYSTEM\CurrentControlSet\Control\NetworkProvider\Order", Depth::Values, "network_provider"),
    (r"HKLM\SYSTEM\CurrentControlSet\Control\SafeBoot", Depth::Two, "boot"),
    (r"HKLM\SYSTEM\CurrentControlSet\Services", Depth::Two, "service"),
    (
        r"HKLM\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\StandardProfile",
        Depth::Values,
        "firewall",
    ),
    (
        r"HKLM\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\PublicProfile",
        Depth::Values,
        "firewall",
    ),
    (
        r"HKLM\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\DomainProfile",
        Depth::Values,
        "firewall",
    ),
    (
        r"HKLM\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\FirewallRules",
        Depth::Values,
        "firewall",
    ),
    (r"HKLM\SOFTWARE\Microsoft\Windows Defender", Depth::Two, "defender"),
    (r"HKLM\SOFTWARE\Policies\Microsoft\Windows Defender", Depth::Two, "defender"),
    (r"HKLM\SOFTWARE\Policies\Microsoft\Windows\PowerShell", Depth::Two, "powershell_logging"),
    (r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System", Depth::Two, "policy"),
    (r"HKLM\SYSTEM\CurrentControlSet\Control\Terminal Server", Depth::Keys, "remote_desktop"),
    (r"HKLM\SYSTEM\CurrentControlSet\Services\EventLog", Depth::Two, "event_log"),
    (
        r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Schedule\TaskCache\Tree",
        Depth::Two,
        "scheduled_task",
    ),
    (r"HKU\*\Software\Classes\CLSID", Depth::Two, "com"),
    (r"HKU\*\Software\Classes\ms-settings\shell\open\command", Depth::Values, "uac_bypass"),
    (r"HKU\*\Software\Classes\mscfile\shell\open\command", Depth::Values, "uac_bypass"),
    (r"HKLM\SOFTWARE\Classes\exefile\shell\open\command", Depth::Values, "file_association"),
];

/// A key as events have it: short hive, no slash at the end, single backslashes.
pub fn normal(key: &str) -> String {
    let mut parts = key.split(['\\', '/']).filter(|part| !part.is_empty());
    let root = parts.next().unwrap_or_default();
    let long = [
        ("HKEY_LOCAL_MACHINE", "HKLM"),
        ("HKEY_CURRENT_USER", "HKCU"),
        ("HKEY_USERS", "HKU"),
        ("HKEY_CLASSES_ROOT", "HKCR"),
        ("HKEY_CURRENT_CONFIG", "HKCC"),
    ];
    let short = long.iter().find(|(long, _)| root.eq_ignore_ascii_case(long));
    let root = short.map_or_else(|| root.to_ascii_uppercase(), |(_, short)| (*short).to_owned());
    std::iter::once(root).chain(parts.map(str::to_owned)).collect::<Vec<_>>().join("\\")
}

/// The key that is watched where this one was asked for. `HKCU` would be the hive of whoever the agent runs as, a
/// service's that of the system itself: it stands for each user that is logged on.
///
/// # Errors
/// All of that hive is too much.
pub fn asked_for(key: &str) -> Result<String, &'static str> {
    let key = normal(key);
    match key.split_once('\\') {
        Some(("HKCU", below)) => Ok(format!(r"HKU\*\{below}")),
        None if key == "HKCU" => Err("name a key below it"),
        _ => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_user_is_each_that_is_logged_on() {
        assert_eq!(asked_for(r"HKEY_CURRENT_USER\Software\X\").as_deref(), Ok(r"HKU\*\Software\X"));
        assert_eq!(asked_for(r"hkcu\Environment").as_deref(), Ok(r"HKU\*\Environment"));
        assert_eq!(asked_for(r"HKLM\HKCU\X").as_deref(), Ok(r"HKLM\HKCU\X"));
        assert!(asked_for("HKCU").is_err());
    }

    #[test]
    fn what_any_user_may_write_has_little_room() {
        let place = |key: &str, depth| Place { key: normal(key), depth, what: "" };
        let machine = place(r"HKLM\SYSTEM\CurrentControlSet\Services", Depth::Two).room();
        for depth in [Depth::Values, Depth::Keys, Depth::Two] {
            let user = place(r"HKEY_USERS\*\Software\Classes\CLSID", depth).room();
            assert!(user.values < machine.values && user.keys < machine.keys);
            assert!(user.names + user.text <= 1 << 20);
        }
    }

    #[test]
    fn keys_have_one_form() {
        for key in [r"HKLM\SOFTWARE\X", r"HKEY_LOCAL_MACHINE\SOFTWARE\X\", r"hklm\\SOFTWARE\X"] {
            assert_eq!(normal(key), r"HKLM\SOFTWARE\X");
        }
        for (key, ..) in BUILT_IN {
            assert_eq!(normal(key), *key);
        }
    }
}
