//! How often something is likely to be seen in events, for choosing what to look for.
//!
//! A wrong guess costs time, never a verdict. The guesses come from a handful of values as
//! ordinary machines have them; whatever is in none of them is taken to be rare, the rarer the longer.

use std::sync::OnceLock;

use super::hash::{PieceMap, four};
use super::needed::Watch;
use crate::expression::Anchor;

/// Ordinary values with the share of events that has something like them.
const ORDINARY: &[(&str, f32)] = &[
    (r"c:\windows\system32\svchost.exe", 0.1),
    (r"c:\windows\system32\svchost.exe -k netsvcs -p -s schedule", 0.05),
    (r"c:\windows\system32\windowspowershell\v1.0\powershell.exe", 0.15),
    (
        r#""c:\windows\system32\windowspowershell\v1.0\powershell.exe" -noprofile -executionpolicy bypass -command "& {get-item}""#,
        0.1,
    ),
    (r"powershell.exe", 0.12),
    (r"c:\windows\system32\cmd.exe", 0.2),
    (r#"c:\windows\system32\cmd.exe /c "cd c:\program files\app & dir""#, 0.15),
    (r"cmd.exe", 0.15),
    (r"c:\windows\system32\conhost.exe 0xffffffff -forcev1", 0.05),
    (r"c:\windows\system32\rundll32.exe shell32.dll,control_rundll", 0.06),
    (r"c:\windows\system32\wbem\wmiprvse.exe -embedding", 0.03),
    (r"c:\windows\system32\services.exe", 0.05),
    (r"c:\windows\system32\lsass.exe", 0.06),
    (r"c:\windows\explorer.exe", 0.06),
    (r"c:\windows\syswow64\regsvr32.exe /s", 0.03),
    (r"c:\windows\system32\reg.exe add hklm\software /v name /t reg_sz /d value /f", 0.04),
    (r"c:\windows\system32\net.exe", 0.04),
    (r"c:\windows\system32\schtasks.exe /create /tn name /tr command /sc daily", 0.03),
    (r"c:\windows\system32\wscript.exe", 0.03),
    (r"c:\windows\system32\mshta.exe", 0.03),
    (r"c:\windows\system32\certutil.exe", 0.02),
    (r"c:\windows\system32\ntdll.dll", 0.05),
    (r"c:\windows\system32\kernel32.dll", 0.05),
    (r"c:\windows\microsoft.net\framework64\v4.0.30319\clr.dll", 0.03),
    (
        r"c:\program files\google\chrome\application\chrome.exe --type=renderer --lang=en-us --device-scale-factor=1",
        0.05,
    ),
    (r"c:\program files (x86)\microsoft office\root\office16\winword.exe /n", 0.03),
    (r"c:\programdata\microsoft\windows defender\platform\msmpeng.exe", 0.03),
    (r"c:\users\user\appdata\local\temp\setup.tmp", 0.08),
    (r"c:\users\user\appdata\roaming\microsoft\windows\start menu\programs\name.lnk", 0.03),
    (r"c:\users\user\downloads\file.zip", 0.03),
    (r"c:\users\user\desktop\tool.exe", 0.03),
    (r"c:\users\public\file.bat", 0.02),
    (r"hklm\software\microsoft\windows\currentversion\run\name", 0.1),
    (r"hklm\software\wow6432node\microsoft\windows nt\currentversion", 0.05),
    (r"hku\s-1-5-21-1-2-3-1001\software\microsoft\windows\currentversion\explorer\advanced", 0.1),
    (r"hklm\system\currentcontrolset\services\name\imagepath", 0.1),
    (r"hklm\system\currentcontrolset\control\lsa", 0.02),
    ("dword (0x00000001)", 0.2),
    ("dword (0x00000000)", 0.2),
    ("binary data", 0.2),
    (r"nt authority\system", 0.3),
    ("microsoft corporation", 0.3),
    ("microsoft® windows® operating system", 0.3),
    ("system", 0.3),
    ("high", 0.2),
    ("true", 0.5),
    ("false", 0.5),
    ("tcp", 0.3),
    ("443", 0.1),
    ("445", 0.1),
    ("80", 0.1),
    ("0x1000", 0.1),
    ("0x1fffff", 0.1),
    ("0x1f3fff", 0.05),
    ("%%1936", 0.1),
    ("%%1537 %%1538 %%1539 %%1541 %%4416 %%4417 %%4418 %%4423 %%4484 %%4490", 0.3),
    ("0x1f0fff 0x120089 0x100081 0x1400 0x1410 0x40 0x10 0x2 0x8 0x20", 0.2),
    (r"c:\windows\system32\ntdll.dll+9d4c4|c:\windows\system32\kernelbase.dll+2c13e|unknown(00007ff)", 0.4),
    ("advapi", 0.2),
    ("ntlmssp", 0.2),
    ("kerberos", 0.2),
    ("ntlm", 0.2),
    ("-", 0.5),
    ("s-1-5-18", 0.3),
    ("0x3e7", 0.3),
    (r"\device\harddiskvolume2\windows\system32\svchost.exe", 0.05),
    (
        "$null = new-object system.net.webclient; function get-name { param([string]$name) import-module; write-host $name; invoke-command -scriptblock { get-wmiobject -class win32_process | where-object { $_.name -eq 'a' } } }",
        0.2,
    ),
    (
        "set-strictmode -version latest; try { [system.io.file]::exists($path) } catch { throw } finally { return $false }",
        0.15,
    ),
    ("http://schemas.microsoft.com/", 0.05),
    ("https://www.example.com/index.html?id=1&name=value", 0.1),
    (
        "mozilla/5.0 (windows nt 10.0; win64; x64) applewebkit/537.36 (khtml, like gecko) chrome/120.0.0.0 safari/537.36",
        0.1,
    ),
    ("get", 0.3),
    ("200", 0.3),
    ("/usr/bin/bash", 0.2),
    ("/bin/sh -c ls -la /etc/cron.daily && test -x /usr/sbin/anacron", 0.15),
    ("/usr/bin/python3.11 -m pip install name", 0.1),
    ("/usr/bin/git --no-pager log --oneline -n 20", 0.05),
    ("/usr/lib/systemd/systemd --user", 0.05),
    ("/usr/sbin/sshd -d -r", 0.05),
    ("/usr/bin/sudo -u root cat /etc/passwd", 0.03),
    ("/usr/bin/curl -s https://example.com -o /tmp/file.tar.gz", 0.05),
    ("/usr/bin/grep -r name /home/user/project/src", 0.05),
    ("/usr/bin/find / -name file -type f", 0.03),
    ("/usr/bin/cat", 0.05),
    ("/usr/bin/systemctl is-active --quiet nginx.service", 0.03),
    ("/proc/self/exe", 0.05),
    ("/var/log/syslog", 0.05),
    ("root", 0.4),
];

/// Fields that say of what kind an event is: within a group their values differ little.
const KIND_FIELDS: &[&str] = &[
    "EventID",
    "Channel",
    "Provider_Name",
    "EventType",
    "Level",
    "LogonType",
    "Initiated",
    "Protocol",
    "type",
    "eventSource",
    "eventName",
    "eventtype",
    "properties.message",
    "operationName",
    "ResourceProviderNameValue",
    "facility",
    "action",
    "Status",
];

/// The share of events of a group in which this is likely to be found, at least a little.
pub(super) fn rate(field: &str, watch: &Watch<'_>) -> f32 {
    let is_kind = KIND_FIELDS.contains(&field);
    let (text, anchor) = match watch {
        Watch::Present => return if is_kind { 1.0 } else { 0.7 },
        Watch::Part(Anchor::Whole, text) if is_kind => return if text.len() > 12 { 0.15 } else { 0.25 },
        Watch::Part(anchor, text) => (&**text, *anchor),
    };
    let seen = if is_ordinary(text) {
        let finder = memchr::memmem::Finder::new(text);
        let stands_in = |ordinary: &str| match anchor {
            Anchor::Whole => ordinary == text,
            Anchor::Start => ordinary.starts_with(text),
            Anchor::End => ordinary.ends_with(text),
            Anchor::Anywhere => finder.find(ordinary.as_bytes()).is_some(),
        };
        ORDINARY.iter().filter(|(ordinary, _)| stands_in(ordinary)).map(|(_, share)| share).sum()
    } else {
        0.0
    };
    let by_length = match (text.len(), anchor) {
        (_, Anchor::Whole) => 0.002,
        (0..=1, Anchor::Anywhere) => 0.5,
        (2, Anchor::Anywhere) => 0.2,
        (3, Anchor::Anywhere) => 0.06,
        (0..=3, _) => 0.02,
        (4..=5, _) => 0.008,
        (6..=8, _) => 0.003,
        _ => 0.001,
    };
    // Looking for pairs and single bytes costs another walk over the text.
    let walk = if anchor != Anchor::Whole && text.len() < 4 { 0.15 } else { 0.0 };
    (seen + by_length + walk).min(1.0)
}

/// Whether it stands anywhere in the ordinary values; few literals do, and most have a piece that says so.
fn is_ordinary(text: &str) -> bool {
    if !text.as_bytes().windows(4).all(|window| piece_rates().contains_key(&four(window))) {
        return false;
    }
    static ALL: OnceLock<String> = OnceLock::new();
    let all = ALL.get_or_init(|| ORDINARY.iter().map(|(text, _)| *text).collect::<Vec<_>>().join("\n"));
    memchr::memmem::find(all.as_bytes(), text.as_bytes()).is_some()
}

/// How common a four-byte piece is.
pub(super) fn piece_rate(piece: u32) -> f32 {
    0.01 + piece_rates().get(&piece).copied().unwrap_or_default()
}

/// How often the pieces of the ordinary values are seen.
fn piece_rates() -> &'static PieceMap<f32> {
    static RATES: OnceLock<PieceMap<f32>> = OnceLock::new();
    RATES.get_or_init(|| {
        let mut rates = PieceMap::default();
        for (text, share) in ORDINARY {
            for window in text.as_bytes().windows(4) {
                *rates.entry(four(window)).or_insert(0.0) += share;
            }
        }
        rates
    })
}
