//! The kernel's own list of sockets (sock_diag), and its way to cut one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt,
};

use crate::platform::Failure;

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
pub(super) const ERROR: u16 = 2;
pub(super) const DONE: u16 = 3;
pub(super) const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
pub(super) const DUMP: u16 = 0x300;

pub(super) const HEADER: usize = 16;
/// Size of `inet_diag_sockid`, and where it lies in `inet_diag_msg`.
const ID: usize = 48;
const ID_AT: usize = 4;
const MESSAGE: usize = 72;

/// Sockets that are listed at most.
const MOST_SOCKETS: usize = 65_536;

/// One socket of TCP or UDP.
#[derive(Debug, Clone)]
pub(super) struct Socket {
    pub(super) protocol: u8,
    family: u8,
    pub(super) state: u8,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) user: u32,
    pub(super) inode: u32,
    id: [u8; ID],
}

impl Socket {
    pub(super) fn protocol_name(&self) -> &'static str {
        if i32::from(self.protocol) == libc::IPPROTO_TCP { "tcp" } else { "udp" }
    }

    /// In the kernel's words (include/net/tcp_states.h).
    pub(super) fn state_name(&self) -> &'static str {
        const NAMES: &[&str] = &[
            "unknown",
            "established",
            "syn_sent",
            "syn_received",
            "fin_wait1",
            "fin_wait2",
            "time_wait",
            "close",
            "close_wait",
            "last_ack",
            "listen",
            "closing",
            "new_syn_received",
        ];
        NAMES.get(usize::from(self.state)).copied().unwrap_or("unknown")
    }
}

/// Every socket of TCP and UDP in this network namespace.
pub(super) fn all() -> Result<Vec<Socket>, Failure> {
    let mut sockets = Vec::new();
    for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let (Ok(protocol), Ok(family)) = (u8::try_from(protocol), u8::try_from(family)) else { continue };
            dump(family, protocol, &mut sockets)?;
        }
    }
    Ok(sockets)
}

/// Cuts every connection to a peer that `is_meant`. Gives their count.
pub(super) fn cut(is_meant: impl Fn(IpAddr) -> bool) -> Result<usize, Failure> {
    let mut cut = 0;
    for socket in all()?.iter().filter(|socket| socket.peer.port() != 0 && is_meant(socket.peer.ip())) {
        match destroy(socket) {
            Ok(()) => cut += 1,
            // It ended by itself meanwhile.
            Err(error) if error == rustix::io::Errno::NOENT => {}
            Err(error) => {
                let hint = "a kernel without CONFIG_INET_DIAG_DESTROY can't";
                return Err(Failure::system(format!("cutting a connection ({hint})"), error));
            }
        }
    }
    Ok(cut)
}

fn open() -> rustix::io::Result<OwnedFd> {
    let netlink = Some(netlink::SOCK_DIAG);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, netlink)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(std::time::Duration::from_secs(5)))?;
    Ok(socket)
}

fn request(kind: u16, flags: u16, family: u8, protocol: u8, states: u32, id: &[u8; ID]) -> Vec<u8> {
    let length = HEADER + 8 + ID;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(0).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, protocol, 0, 0]);
    bytes.extend_from_slice(&states.to_ne_bytes());
    bytes.extend_from_slice(id);
    bytes
}

fn dump(family: u8, protocol: u8, sockets: &mut Vec<Socket>) -> Result<(), Failure> {
    let failure = |error: rustix::io::Errno| Failure::system("listing sockets", error);
    let socket = open().map_err(failure)?;
    let request = request(BY_FAMILY, DUMP, family, protocol, u32::MAX, &[0; ID]);
    send(&socket, &request, SendFlags::empty()).map_err(failure)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (length, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty()).map_err(failure)?;
        let mut rest = &buffer[..length];
        while let Some((kind, body, next)) = message(rest) {
            match kind {
                DONE => return Ok(()),
                ERROR => return error_of(body).map_err(failure),
                _ => sockets.extend(parse(body, protocol)),
            }
            rest = next;
        }
        if length == 0 || sockets.len() > MOST_SOCKETS {
            return Ok(());
        }
    }
}

fn destroy(target: &Socket) -> rustix::io::Result<()> {
    let socket = open()?;
    let request = request(DESTROY, ACK, target.family, target.protocol, u32::MAX, &target.id);
    send(&socket, &request, SendFlags::empty())?;
    let mut buffer = vec![0; 8 << 10];
    let (length, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
    match message(&buffer[..length]) {
        Some((ERROR, body, _)) => error_of(body),
        _ => Err(rustix::io::Errno::PROTO),
    }
}

/// Kind and body of the first message, and what follows it.
pub(super) fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    let next = bytes.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
    Some((kind, body, next))
}

pub(super) fn error_of(body: &[u8]) -> rustix::io::Result<()> {
    let code = body.get(..4).and_then(|bytes| Some(i32::from_ne_bytes(bytes.try_into().ok()?)));
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(rustix::io::Errno::from_raw_os_error(code.saturating_neg())),
        None => Err(rustix::io::Errno::PROTO),
    }
}

fn parse(body: &[u8], protocol: u8) -> Option<Socket> {
    if body.len() < MESSAGE {
        return None;
    }
    let (family, state) = (body[0], body[1]);
    let id: [u8; ID] = body.get(ID_AT..ID_AT + ID)?.try_into().ok()?;
    let port = |at: usize| Some(u16::from_be_bytes(id.get(at..at + 2)?.try_into().ok()?));
    let number = |at: usize| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let address = |at: usize| -> Option<IpAddr> {
        if i32::from(family) == libc::AF_INET {
            let bytes: [u8; 4] = id.get(at..at + 4)?.try_into().ok()?;
            return Some(Ipv4Addr::from(bytes).into());
        }
        let bytes: [u8; 16] = id.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
    };
    Some(Socket {
        protocol,
        family,
        state,
        local: SocketAddr::new(address(4)?, port(0)?),
        peer: SocketAddr::new(address(20)?, port(2)?),
        user: number(64)?,
        inode: number(68)?,
        id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_this_process_is_listed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let found = all().unwrap().into_iter().find(|one| one.local == local && one.peer == peer).unwrap();
        assert_eq!((found.protocol_name(), found.state_name()), ("tcp", "established"));
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        assert!(message(&[]).is_none());
        assert!(message(&[255; 16]).is_none());
        assert!(message(&[4, 0, 0, 0, 3, 0, 0, 0]).is_none());
        assert!(parse(&[0; MESSAGE - 1], 6).is_none());
    }
}
