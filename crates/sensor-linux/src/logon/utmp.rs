//! Records of utmp(5): who is in (`/run/utmp`), who came and went (`wtmp`), who
//! was not let in (`btmp`).

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::fact::{Fact, Origin, Outcome, Provider, Voice, plain, terminal};
use crate::escape;

/// Bytes of one record on this architecture.
pub(super) const RECORD: usize = size_of::<libc::utmpx>();

const BOOT_TIME: i16 = 2;
const USER_PROCESS: i16 = 7;
const DEAD_PROCESS: i16 = 8;

/// A record taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// The system came up, in wall-clock nanoseconds: no session of before is open any more.
    Boot(i64),
    /// A logon or its end.
    Fact(Box<Fact>),
}

/// A record of wtmp or utmp.
pub(super) fn session(bytes: &[u8]) -> Option<Record> {
    let raw = Raw(bytes.get(..RECORD)?);
    match raw.kind() {
        BOOT_TIME => Some(Record::Boot(raw.at_ns())),
        USER_PROCESS => {
            // A session manager may write a record before anybody is in.
            let user = raw.text(offset_of!(libc::utmpx, ut_user), 32);
            (!user.is_empty()).then(|| {
                Record::Fact(Box::new(Fact { user: Some(user), ..raw.fact(Outcome::In, Provider::Wtmp) }))
            })
        }
        DEAD_PROCESS => {
            let fact = raw.fact(Outcome::Out, Provider::Wtmp);
            fact.terminal.is_some().then(|| Record::Fact(Box::new(fact)))
        }
        _ => None,
    }
}

/// A record of btmp, whatever type it bears: programs disagree.
pub(super) fn failure(bytes: &[u8]) -> Option<Fact> {
    let raw = Raw(bytes.get(..RECORD)?);
    let user = raw.text(offset_of!(libc::utmpx, ut_user), 32);
    let fact = raw.fact(Outcome::Refused, Provider::Btmp);
    if user.is_empty() && fact.origin == Origin::default() && fact.terminal.is_none() {
        return None;
    }
    let reason = Some("authentication failure".to_owned());
    Some(Fact { user: Some(user), reason, ..fact })
}

struct Raw<'a>(&'a [u8]);

impl Raw<'_> {
    fn kind(&self) -> i16 {
        i16::from_ne_bytes(self.bytes(offset_of!(libc::utmpx, ut_type)))
    }

    fn fact(&self, outcome: Outcome, provider: Provider) -> Fact {
        let pid = i32::from_ne_bytes(self.bytes(offset_of!(libc::utmpx, ut_pid)));
        let line = self.text(offset_of!(libc::utmpx, ut_line), 32);
        let host = self.text(offset_of!(libc::utmpx, ut_host), 256);
        let address: [u8; 16] = self.bytes(offset_of!(libc::utmpx, ut_addr_v6));
        let mut origin = Origin::of(&host);
        if let Some(address) = address_of(address) {
            origin.address = Some(address);
        }
        // X displays and the kernel's version (in boot records) stand there too.
        origin.host = origin.host.filter(|host| !host.starts_with(':'));
        // The name by which the record's writer can be told from others.
        let service = line.starts_with("ssh").then(|| "sshd".to_owned());
        Fact {
            provider,
            at_ns: Some(self.at_ns()),
            pid: u32::try_from(pid).ok().filter(|pid| *pid != 0),
            terminal: terminal(&line),
            origin,
            service,
            ..Fact::new(outcome, Voice::Record)
        }
    }

    /// Seconds and microseconds: 32 bits each where records must have the same shape
    /// for 32-bit programs (x86), else 64.
    fn at_ns(&self) -> i64 {
        let at = offset_of!(libc::utmpx, ut_tv);
        let (seconds, micros) = if RECORD == 384 {
            let part = |at| i64::from(i32::from_ne_bytes(self.bytes(at)));
            // Unsigned, so that the format lives until 2106.
            (part(at) & 0xffff_ffff, part(at + 4))
        } else {
            (i64::from_ne_bytes(self.bytes(at)), i64::from_ne_bytes(self.bytes(at + 8)))
        };
        seconds.saturating_mul(1_000_000_000).saturating_add(micros.clamp(0, 999_999) * 1_000)
    }

    fn text(&self, at: usize, length: usize) -> String {
        let bytes = self.0.get(at..at + length).unwrap_or_default();
        escape::text(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
    }

    fn bytes<const COUNT: usize>(&self, at: usize) -> [u8; COUNT] {
        self.0.get(at..at + COUNT).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; COUNT])
    }
}

/// In network order; an IPv4 address fills the first of four words.
fn address_of(bytes: [u8; 16]) -> Option<IpAddr> {
    if bytes == [0; 16] {
        return None;
    }
    if bytes[4..] == [0; 12] {
        return Some(IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])));
    }
    Some(plain(IpAddr::V6(Ipv6Addr::from(bytes))))
}
