//! The Windows firewall: whether it can hold a rule of ours, and which ones it has.
//!
//! What it has is read from where it keeps its rules, and not from what `netsh` prints, which is in the host's
//! language.

use win32::registry::Key;

use super::tool::netsh;
use crate::firewall_rules::{Rule, name_of, to_delete};
use crate::platform::Failure;

const SERVICE: &str = "MpsSvc";
const LOCAL: &str = r"HKLM\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy";
const POLICY: &str = r"HKLM\SOFTWARE\Policies\Microsoft\WindowsFirewall";
/// Each with the names that it has in the registry.
const PROFILES: [(&str, &[&str]); 3] = [
    ("domain", &["DomainProfile"]),
    ("private", &["StandardProfile", "PrivateProfile"]),
    ("public", &["PublicProfile"]),
];
/// More rules are not read; a host has some hundreds.
const MOST_RULES: u32 = 50_000;
const MOST_RULE_BYTES: usize = 64 << 10;

/// Whether a rule of ours would be in force.
pub(super) fn is_ready() -> Result<(), Failure> {
    let not = |why: String, hint| {
        Err(Failure::NotAllowed { subject: "the Windows firewall".to_owned(), why, hint })
    };
    match win32::service::runs(SERVICE) {
        Ok(true) => {}
        Ok(false) => return not("does not run".to_owned(), "start it: `net start MpsSvc`"),
        Err(error) => {
            return not(
                format!("is not there (service {SERVICE}: {error})"),
                "Windows' own firewall is what blocks",
            );
        }
    }
    for (profile, names) in PROFILES {
        let set_to =
            |root: &str, value: &str| names.iter().find_map(|name| number(&format!(r"{root}\{name}"), value));
        if set_to(POLICY, "EnableFirewall").or_else(|| set_to(LOCAL, "EnableFirewall")) == Some(0) {
            let hint = "switch it on: `netsh advfirewall set allprofiles state on`, or by the group policy that switched it off";
            return not(format!("is off for the {profile} profile"), hint);
        }
        if set_to(POLICY, "AllowLocalPolicyMerge") == Some(0) {
            let hint = "allow local rules in that policy (AllowLocalPolicyMerge)";
            return not(format!("takes no local rules in the {profile} profile, by group policy"), hint);
        }
    }
    Ok(())
}

fn number(key: &str, value: &str) -> Option<u32> {
    let data = Key::open(key).ok()?.value(value).ok()?.data;
    data.get(..4)?.try_into().ok().map(u32::from_le_bytes)
}

/// All rules as the firewall keeps them.
pub(super) fn rules() -> Result<Vec<String>, Failure> {
    let failure = |error| Failure::system("reading the firewall's rules", error);
    let values = match Key::open(&format!(r"{LOCAL}\FirewallRules")) {
        // Without a firewall there are none.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.and_then(|key| key.values(MOST_RULES, MOST_RULE_BYTES)).map_err(failure)?,
    };
    let text = |data: &[u8]| {
        let units: Vec<u16> =
            data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        win32::shown(&units).trim_end_matches("\\0").to_owned()
    };
    Ok(values.iter().map(|value| text(&value.data)).collect())
}

/// Those of the wanted rules that the firewall does not have in force.
pub(super) fn missing(wanted: &[Rule]) -> Result<Vec<&Rule>, Failure> {
    let there = rules()?;
    Ok(wanted.iter().filter(|rule| !there.iter().any(|stored| rule.is(stored))).collect())
}

/// How many rules of this name the firewall has, in force or not.
pub(super) fn count_of(name: &str) -> Result<usize, Failure> {
    Ok(rules()?.iter().filter(|stored| name_of(stored) == Some(name)).count())
}

/// Adds them, and makes sure that they are there.
pub(super) fn add(wanted: &[Rule]) -> Result<(), Failure> {
    for rule in wanted {
        netsh(&rule.to_add())?;
    }
    match missing(wanted)?.as_slice() {
        [] => Ok(()),
        [first, ..] => Err(Failure::NotProved(format!(
            "`netsh` was content, but the firewall has no such rule in force: {}",
            crate::firewall_rules::typed(&first.to_add())
        ))),
    }
}

/// Deletes all rules of this name; none is fine.
pub(super) fn delete(name: &str) -> Result<(), Failure> {
    if count_of(name)? == 0 {
        return Ok(());
    }
    netsh(&to_delete(name))?;
    match count_of(name)? {
        0 => Ok(()),
        left => Err(Failure::NotProved(format!("the firewall still has {left} rules named `{name}`"))),
    }
}
