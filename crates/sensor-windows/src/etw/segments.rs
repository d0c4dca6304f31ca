//! What `Microsoft-Windows-Kernel-Network` tells of connections and datagrams.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::meaning::Event;
use crate::network::{Segment, What};

/// `Microsoft-Windows-Kernel-Network`.
pub const KERNEL_NETWORK: u128 = 0x7dd4_2a49_5329_4832_8dfd_43d9_7915_3a88;

/// Its ids that are read: of TCP what is sent, received, connected, disconnected and accepted, of UDP what is sent
/// and received; each for IPv4, and 16 higher for IPv6.
pub const NETWORK_IDS: &[u16] = &[10, 11, 12, 13, 15, 26, 27, 28, 29, 31, 42, 43, 58, 59];

/// What happened to a connection, at `at_ns` since boot; `None` for any other event, and for one that lacks what is
/// needed.
pub fn segment(event: &Event, at_ns: u64) -> Option<Segment> {
    if event.provider != KERNEL_NETWORK {
        return None;
    }
    let (what, is_v6) = match event.id {
        10 | 26 => (What::Sent, event.id == 26),
        11 | 27 => (What::Received, event.id == 27),
        12 | 28 => (What::Connected, event.id == 28),
        13 | 29 => (What::Closed, event.id == 29),
        15 | 31 => (What::Accepted, event.id == 31),
        42 | 58 => (What::DatagramSent, event.id == 58),
        43 | 59 => (What::DatagramReceived, event.id == 59),
        _ => return None,
    };
    let end = |address: &str, port: &str| {
        // Both are as on the wire: the highest byte first.
        let port = u16::try_from(event.values.small(port)?).ok()?.swap_bytes();
        let address: IpAddr = match is_v6 {
            true => Ipv6Addr::from(event.values.address(address)?).into(),
            false => Ipv4Addr::from(event.values.small(address)?.to_le_bytes()).into(),
        };
        Some(SocketAddr::new(address.to_canonical(), port))
    };
    let (source, destination) = (end("saddr", "sport")?, end("daddr", "dport")?);
    // The source is this host's end, but for datagrams that come in: there it is who sent it.
    let (local, peer) = match what {
        What::DatagramReceived => (destination, source),
        _ => (source, destination),
    };
    let (pid, bytes) = (event.values.small("PID")?, event.values.small("size").unwrap_or(0));
    Some(Segment { what, pid, bytes: bytes.into(), local, peer, at_ns })
}

#[cfg(test)]
mod tests {
    use super::super::made::{Made, cut};
    use super::*;

    static FAR: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    static NEAR: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    fn is_v6(id: u16) -> bool {
        (26..=31).contains(&id) || id >= 58
    }

    /// An event as the kernel lays it out: owner, size, destination, source, their ports, a number and an id.
    fn event(id: u16, most: usize) -> Event {
        let address = |v6: &'static [u8; 16], v4: [u8; 4]| match is_v6(id) {
            true => Made::Bytes(v6),
            false => Made::U32(u32::from_le_bytes(v4)),
        };
        let values = [
            ("PID", Made::U32(77)),
            ("size", Made::U32(1_500)),
            ("daddr", address(&FAR, [192, 0, 2, 7])),
            ("saddr", address(&NEAR, [10, 0, 0, 1])),
            ("dport", Made::U16(443_u16.swap_bytes())),
            ("sport", Made::U16(50_000_u16.swap_bytes())),
            ("seqnum", Made::U32(0)),
            ("connid", Made::Pointer(0)),
        ];
        cut(KERNEL_NETWORK, id, 4, &values, most)
    }

    #[test]
    fn each_event_has_its_meaning_its_ends_and_its_owner() {
        let expected = [
            (10, What::Sent),
            (11, What::Received),
            (12, What::Connected),
            (13, What::Closed),
            (15, What::Accepted),
            (26, What::Sent),
            (27, What::Received),
            (28, What::Connected),
            (29, What::Closed),
            (31, What::Accepted),
            (42, What::DatagramSent),
            (43, What::DatagramReceived),
            (58, What::DatagramSent),
            (59, What::DatagramReceived),
        ];
        assert_eq!(expected.map(|(id, _)| id), NETWORK_IDS);
        for (id, what) in expected {
            let (near, far) = match is_v6(id) {
                true => ("[2001:db8::1]:50000", "[2001:db8::7]:443"),
                false => ("10.0.0.1:50000", "192.0.2.7:443"),
            };
            // The source of a datagram that comes in is the other host.
            let (local, peer) = if what == What::DatagramReceived { (far, near) } else { (near, far) };
            let (local, peer) = (local.parse().unwrap(), peer.parse().unwrap());
            let expected = Segment { what, pid: 77, bytes: 1_500, local, peer, at_ns: 9 };
            assert_eq!(segment(&event(id, usize::MAX), 9), Some(expected), "{id}");
        }
    }

    #[test]
    fn what_ends_early_or_is_another_event_gives_none() {
        for (id, needed) in [(12, 20), (28, 44)] {
            for end in 0..needed {
                assert_eq!(segment(&event(id, end), 0), None, "{id}: {end}");
            }
            assert!(segment(&event(id, needed), 0).is_some(), "{id}: what follows is not needed");
        }
        assert_eq!(segment(&event(14, usize::MAX), 0), None, "sent once more");
        let other = Event { provider: 1, ..event(12, usize::MAX) };
        assert_eq!(segment(&other, 0), None);
    }
}
