//! One line of the audit log.

use std::net::{Ipv4Addr, Ipv6Addr};

use event_model::Timestamp;

/// Behind it stand the values that auditd translated for people (`UID="root"`).
const ENRICHED: u8 = 0x1d;
/// Fields whose values the kernel writes in hexadecimal when they hold a space, a quote or a
/// control character (audit's "untrusted strings"). Quoted values are never hexadecimal.
const UNTRUSTED: &[&str] = &[
    "acct",
    "cmd",
    "comm",
    "cwd",
    "data",
    "device",
    "dir",
    "exe",
    "file",
    "grp",
    "invalid_context",
    "key",
    "name",
    "new_group",
    "ocomm",
    "path",
    "proctitle",
    "root_dir",
    "sw",
    "vm",
    "watch",
];

/// A line whose head could be read.
#[derive(Debug)]
pub(super) struct AuditLine<'a> {
    /// For example `EXECVE`.
    pub(super) kind: &'a str,
    /// The host that wrote it, where the log has several; else empty.
    pub(super) node: &'a [u8],
    /// Time and serial as written: what the lines of one event share.
    pub(super) stamp: &'a [u8],
    pub(super) time: Timestamp,
    /// What stands behind the head.
    pub(super) rest: &'a [u8],
}

impl AuditLine<'_> {
    /// Whether no line of the same event follows: the kernel writes EOE or PROCTITLE last,
    /// and what programs write has one line.
    pub(super) fn ends_event(&self) -> bool {
        const OF_SEVERAL_LINES: &[&str] = &[
            "SYSCALL",
            "PATH",
            "IPC",
            "SOCKETCALL",
            "CONFIG_CHANGE",
            "SOCKADDR",
            "CWD",
            "EXECVE",
            "IPC_SET_PERM",
            "MQ_OPEN",
            "MQ_SENDRECV",
            "MQ_NOTIFY",
            "MQ_GETSETATTR",
            "KERNEL_OTHER",
            "FD_PAIR",
            "OBJ_PID",
            "TTY",
            "BPRM_FCAPS",
            "CAPSET",
            "MMAP",
            "NETFILTER_PKT",
            "NETFILTER_CFG",
            "SECCOMP",
            "FEATURE_CHANGE",
            "REPLACE",
            "KERN_MODULE",
            "FANOTIFY",
            "TIME_INJOFFSET",
            "TIME_ADJNTPVAL",
            "BPF",
            "EVENT_LISTENER",
            "URINGOP",
            "OPENAT2",
            "DM_CTRL",
            "DM_EVENT",
            "AVC",
            "SELINUX_ERR",
            "AVC_PATH",
            "MAC_POLICY_LOAD",
            "ANOM_PROMISCUOUS",
            "ANOM_ABEND",
            "ANOM_LINK",
            "ANOM_CREAT",
            "INTEGRITY_DATA",
            "INTEGRITY_RULE",
            "APPARMOR_DENIED",
            "APPARMOR_AUDIT",
            "LANDLOCK_ACCESS",
            "LANDLOCK_DOMAIN",
            "MAC_TASK_CONTEXTS",
            "MAC_OBJ_CONTEXTS",
        ];
        !OF_SEVERAL_LINES.contains(&self.kind) && !self.kind.starts_with("UNKNOWN[")
    }
}

/// `[node=HOST ]type=KIND msg=audit(SECONDS.MILLIS:SERIAL): REST`.
pub(super) fn parse_line(line: &[u8]) -> Option<AuditLine<'_>> {
    let line = line.trim_ascii();
    let node = match line.strip_prefix(b"node=") {
        Some(rest) => 5 + rest.iter().position(|byte| *byte == b' ')? + 1,
        None => 0,
    };
    let rest = line.get(node..)?.strip_prefix(b"type=")?;
    let space = rest.iter().position(|byte| *byte == b' ')?;
    let kind = std::str::from_utf8(rest.get(..space)?).ok().filter(|kind| kind.len() <= 64)?;
    let rest = rest.get(space..)?.trim_ascii_start().strip_prefix(b"msg=audit(")?;
    let end = rest.iter().take(64).position(|byte| *byte == b')')?;
    let stamp = std::str::from_utf8(rest.get(..end)?).ok()?;
    let (time, _serial) = stamp.split_once(':')?;
    let (seconds, fraction) = time.split_once('.')?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos = seconds
        .parse::<i64>()
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(digits.parse::<u32>().ok()?.into())?;
    let after = rest.get(end + 1..)?;
    let after = after.strip_prefix(b":").unwrap_or(after);
    let (node, stamp) = (line.get(..node)?.trim_ascii_end(), stamp.as_bytes());
    Some(AuditLine { kind, node, stamp, time: Timestamp::from_nanos(nanos), rest: after })
}

/// A value as it is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum AuditValue<'a> {
    Quoted(&'a [u8]),
    Plain(&'a [u8]),
}

impl AuditValue<'_> {
    pub(super) fn is_empty_name(&self) -> bool {
        matches!(self, Self::Plain(b"(null)"))
    }

    /// The value as text: hexadecimal decoded where the kernel writes it so, NUL bytes
    /// between arguments as spaces.
    pub(super) fn read(&self, kind: &str, name: &str, text: &mut String) {
        text.clear();
        let bytes = match self {
            Self::Quoted(bytes) => bytes,
            Self::Plain(bytes) => {
                if is_untrusted(kind, name) && decode_hex(bytes, text) {
                    return;
                }
                bytes
            }
        };
        text.push_str(&String::from_utf8_lossy(bytes));
    }
}

fn is_untrusted(kind: &str, name: &str) -> bool {
    let argument =
        kind == "EXECVE" && name.starts_with('a') && name.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    argument && !name.ends_with("_len") || UNTRUSTED.contains(&name)
}

/// False where it is no hexadecimal text.
fn decode_hex(bytes: &[u8], text: &mut String) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    // The kernel writes capitals only.
    if bytes.is_empty()
        || !bytes.len().is_multiple_of(2)
        || bytes.iter().any(|byte| byte.is_ascii_lowercase())
    {
        return false;
    }
    let decoded: Option<Vec<u8>> =
        bytes.as_chunks::<2>().0.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    let Some(mut decoded) = decoded else { return false };
    while decoded.last() == Some(&0) {
        decoded.pop();
    }
    for byte in &mut decoded {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    text.push_str(&String::from_utf8_lossy(&decoded));
    true
}

/// Calls `take` with each `name=value`, those within `msg='…'` included.
pub(super) fn parse_pairs(rest: &[u8], take: &mut dyn FnMut(&str, &AuditValue<'_>)) {
    let mut rest = rest;
    loop {
        let start = rest.iter().position(|byte| !matches!(byte, b' ' | &ENRICHED | b','));
        let Some(start) = start else { return };
        rest = rest.get(start..).unwrap_or_default();
        let end = rest.iter().position(|byte| matches!(byte, b'=' | b' ' | &ENRICHED));
        let Some(end) = end else { return };
        let (name, after) = rest.split_at(end);
        let Some(value) = after.strip_prefix(b"=") else {
            // A word that is no pair, as in `avc:  denied  { read } for`.
            rest = after;
            continue;
        };
        let until =
            |stop: &dyn Fn(&u8) -> bool, from: &[u8]| from.iter().position(stop).unwrap_or(from.len());
        let Ok(name) = std::str::from_utf8(name) else {
            rest = value;
            continue;
        };
        match value {
            [b'"', inner @ ..] => {
                let end = until(&|byte| *byte == b'"', inner);
                take(name, &AuditValue::Quoted(&inner[..end]));
                rest = inner.get(end + 1..).unwrap_or_default();
            }
            [b'\'', inner @ ..] if name == "msg" => {
                // What a program wrote; its own pairs stand up to the last quote.
                let end = inner.iter().rposition(|byte| *byte == b'\'').unwrap_or(inner.len());
                let (inside, after) = inner.split_at(end);
                parse_unnested(inside, take);
                rest = after.get(1..).unwrap_or_default();
            }
            [b'{', inner @ ..] => {
                let end = until(&|byte| *byte == b'}', inner);
                take(name, &AuditValue::Plain(inner[..end].trim_ascii()));
                rest = inner.get(end + 1..).unwrap_or_default();
            }
            _ => {
                let end = until(&|byte| matches!(*byte, b' ' | ENRICHED), value);
                take(name, &AuditValue::Plain(&value[..end]));
                rest = &value[end..];
            }
        }
    }
}

/// The same one level down: a `msg='` within a `msg='` is only text, so that nesting ends.
fn parse_unnested(inside: &[u8], take: &mut dyn FnMut(&str, &AuditValue<'_>)) {
    if memchr::memmem::find(inside, b"msg='").is_some() {
        take("msg", &AuditValue::Plain(inside));
    } else {
        parse_pairs(inside, take);
    }
}

/// Address and port of a socket address in hexadecimal (AF_INET 2, AF_INET6 10, both in the
/// byte order of the host that wrote it: little-endian).
pub(super) fn socket_address(hex: &str) -> Option<(String, u16)> {
    let byte = |index: usize| u8::from_str_radix(hex.get(index * 2..index * 2 + 2)?, 16).ok();
    let port = u16::from_be_bytes([byte(2)?, byte(3)?]);
    match (byte(0)?, byte(1)?) {
        (2, 0) => Some((Ipv4Addr::new(byte(4)?, byte(5)?, byte(6)?, byte(7)?).to_string(), port)),
        (10, 0) => {
            let mut octets = [0; 16];
            for (index, octet) in octets.iter_mut().enumerate() {
                *octet = byte(8 + index)?;
            }
            Some((Ipv6Addr::from(octets).to_string(), port))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(rest: &str, kind: &str) -> Vec<String> {
        let mut all = Vec::new();
        parse_pairs(rest.as_bytes(), &mut |name, value| {
            let mut text = String::new();
            value.read(kind, name, &mut text);
            all.push(format!("{name}={text}"));
        });
        all
    }

    #[test]
    fn values_are_read_as_the_kernel_writes_them() {
        assert_eq!(
            pairs(" argc=3 a0=\"sh\" a1=2D63 a2=6964203E2078 a3_len=12 key=(null)", "EXECVE"),
            ["argc=3", "a0=sh", "a1=-c", "a2=id > x", "a3_len=12", "key=(null)"]
        );
        assert_eq!(pairs(" a0=7FFD a1=10 comm=\"cat\"", "SYSCALL"), ["a0=7FFD", "a1=10", "comm=cat"]);
        assert_eq!(pairs(" proctitle=2F62696E2F7368002D63006964", "PROCTITLE"), ["proctitle=/bin/sh -c id"]);
        assert_eq!(
            pairs(
                " pid=1 msg='op=PAM:session_open acct=\"root\" exe=\"/usr/bin/su\" res=success'\u{1d}UID=\"root\"",
                "USER_START"
            ),
            ["pid=1", "op=PAM:session_open", "acct=root", "exe=/usr/bin/su", "res=success", "UID=root"]
        );
        assert_eq!(
            pairs(" saddr=0200\u{1d}SADDR={ saddr_fam=inet laddr=1.2.3.4 lport=80 }", "SOCKADDR"),
            ["saddr=0200", "SADDR=saddr_fam=inet laddr=1.2.3.4 lport=80"]
        );
        assert_eq!(pairs(" avc:  denied  { read } for  pid=7 name=\"x\"", "AVC"), ["pid=7", "name=x"]);
        assert_eq!(pairs(" a=\"never ended", "X"), ["a=never ended"]);
    }

    #[test]
    fn heads_with_and_without_a_host() {
        let line = parse_line(b"type=CWD msg=audit(1364481363.243:24287): cwd=\"/\"").expect("a record");
        assert_eq!(
            (line.kind, line.node, line.stamp),
            ("CWD", b"".as_slice(), b"1364481363.243:24287".as_slice())
        );
        assert_eq!(line.time, Timestamp::from_nanos(1_364_481_363_243_000_000));
        assert_eq!(line.rest, b" cwd=\"/\"");
        let line =
            parse_line(b"node=web type=CWD msg=audit(1364481363.243:24287): cwd=\"/\"").expect("a record");
        assert_eq!((line.node, line.stamp), (b"node=web".as_slice(), b"1364481363.243:24287".as_slice()));
        for bad in
            ["", "type=", "type=A msg=audit(", "type=A msg=audit(1:2): x", "type=A msg=audit(x.1:2): x", "x"]
        {
            assert!(parse_line(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn socket_addresses() {
        assert_eq!(socket_address("020001BB01020304"), Some(("1.2.3.4".to_owned(), 443)));
        let v6 = "0A00005000000000000000000000000000000000000000010000";
        assert_eq!(socket_address(v6), Some(("::1".to_owned(), 80)));
        assert_eq!(socket_address("01002F72756E"), None);
        assert_eq!(socket_address("0200€"), None);
    }
}
