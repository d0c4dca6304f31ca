//! This host's own addresses, as the kernel lists them (rtnetlink).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with, sockopt,
};

use super::sockets::{DONE, DUMP, ERROR, HEADER, REQUEST, error_of, message};

const GET_ADDRESSES: u16 = 22;
/// `ifaddrmsg`: family, length of the prefix, flags, scope, number of the device.
const ADDRESS_MESSAGE: usize = 8;
/// Attributes: of a link between two the first is the other end's, and the second this one's.
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;

/// Addresses that are looked at; a host with more is no host that this is made for.
const MOST: usize = 65_536;

/// Every address of every device in this network namespace.
pub(crate) fn own_addresses() -> rustix::io::Result<Vec<IpAddr>> {
    // Netlink's protocol 0 is the one of routes and addresses.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_secs(5)))?;
    let mut request = Vec::new();
    request.extend_from_slice(&u32::try_from(HEADER + ADDRESS_MESSAGE).unwrap_or(0).to_ne_bytes());
    request.extend_from_slice(&GET_ADDRESSES.to_ne_bytes());
    request.extend_from_slice(&(REQUEST | DUMP).to_ne_bytes());
    // Sequence number, sender, and a message of zeros: all families, all devices.
    request.resize(HEADER + ADDRESS_MESSAGE, 0);
    send(&socket, &request, SendFlags::empty())?;
    let (mut addresses, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let (length, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((kind, body, next)) = message(rest) {
            match kind {
                DONE => return Ok(addresses),
                ERROR => return error_of(body).map(|()| addresses),
                _ => addresses.extend(parse(body)),
            }
            rest = next;
        }
        if length == 0 || addresses.len() > MOST {
            return Ok(addresses);
        }
    }
}

fn parse(body: &[u8]) -> Option<IpAddr> {
    let mut rest = body.get(ADDRESS_MESSAGE..)?;
    let mut found = None;
    while let Some((kind, value, next)) = attribute(rest) {
        if kind == LOCAL || (kind == ADDRESS && found.is_none()) {
            found = address(value);
        }
        rest = next;
    }
    found
}

/// Kind and value of the first attribute, and what follows it.
fn attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
    let value = bytes.get(4..length)?;
    let next = bytes.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
    Some((kind, value, next))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_link_between_two_this_end_is_ones_own() {
        let mut body = vec![2, 32, 0, 0, 1, 0, 0, 0];
        for (kind, bytes) in [(ADDRESS, [10, 0, 0, 1]), (LOCAL, [10, 0, 0, 2]), (ADDRESS, [10, 0, 0, 3])] {
            body.extend_from_slice(&8_u16.to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(&bytes);
        }
        assert_eq!(parse(&body), Some(Ipv4Addr::new(10, 0, 0, 2).into()));
        for cut in 0..16 {
            assert_eq!(parse(&body[..cut]), None, "cut at {cut}");
        }
        assert!(attribute(&[0, 0, 1, 0]).is_none(), "an attribute without a length ends the list");
    }
}
