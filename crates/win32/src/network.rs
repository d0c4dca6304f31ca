//! Sockets of TCP and UDP with their owners.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use windows_sys::Win32::Foundation::ERROR_INSUFFICIENT_BUFFER;
use windows_sys::Win32::NetworkManagement::IpHelper::{
    GetExtendedTcpTable, GetExtendedUdpTable, MIB_TCP_STATE_LISTEN, TCP_TABLE_OWNER_PID_ALL,
    UDP_TABLE_OWNER_PID,
};
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_INET6};

use crate::check_code;

/// A larger table is not read.
const MOST_BYTES: u32 = 64 << 20;

/// Which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Socket {
    /// Its protocol.
    pub protocol: Protocol,
    /// Where it is.
    pub local: SocketAddr,
    /// Where it leads; `None` for those of UDP, and for those that listen.
    pub peer: Option<SocketAddr>,
    /// State of TCP as RFC 9293 numbers it in Windows' way (2 listens, 5 is established); 0 for UDP.
    pub state: u32,
    /// PID of its owner; 0 where nobody owns it any more.
    pub pid: u32,
}

impl Socket {
    /// Whether it waits for connections.
    pub fn listens(&self) -> bool {
        self.state == MIB_TCP_STATE_LISTEN.cast_unsigned()
    }
}

/// All sockets there are now.
///
/// # Errors
/// The system does not say.
pub fn sockets() -> io::Result<Vec<Socket>> {
    let mut all = Vec::new();
    for v6 in [false, true] {
        let family = u32::from(if v6 { AF_INET6 } else { AF_INET });
        // Rows of MIB_TCPROW_OWNER_PID (6 words) and MIB_TCP6ROW_OWNER_PID (14 words).
        let table = read(|table, size| {
            // SAFETY: `size` is what `table` has room for.
            unsafe { GetExtendedTcpTable(table, size, 0, family, TCP_TABLE_OWNER_PID_ALL, 0) }
        })?;
        all.extend(rows(&table, if v6 { 14 } else { 6 }).map(|row| tcp(row, v6)));
        // Rows of MIB_UDPROW_OWNER_PID (3 words) and MIB_UDP6ROW_OWNER_PID (7 words).
        let table = read(|table, size| {
            // SAFETY: `size` is what `table` has room for.
            unsafe { GetExtendedUdpTable(table, size, 0, family, UDP_TABLE_OWNER_PID, 0) }
        })?;
        all.extend(rows(&table, if v6 { 7 } else { 3 }).map(|row| udp(row, v6)));
    }
    Ok(all)
}

fn read(ask: impl Fn(*mut core::ffi::c_void, *mut u32) -> u32) -> io::Result<Vec<u32>> {
    let mut table = vec![0_u32; 16 << 10];
    loop {
        let mut size = u32::try_from(table.len() * 4).unwrap_or(u32::MAX);
        match ask(table.as_mut_ptr().cast(), &raw mut size) {
            // It grows while it is asked for.
            ERROR_INSUFFICIENT_BUFFER if size <= MOST_BYTES => {
                table.resize((size as usize / 4 + 1) * 3 / 2, 0);
            }
            code => return check_code(code).map(|()| table),
        }
    }
}

/// The rows after the count, as many as there is really room for.
fn rows(table: &[u32], words: usize) -> impl Iterator<Item = &[u32]> {
    let count = table.first().map_or(0, |count| *count as usize);
    table.get(1..).unwrap_or_default().chunks_exact(words).take(count)
}

fn tcp(row: &[u32], v6: bool) -> Socket {
    let (local, peer, state, pid) = if v6 {
        (address6(&row[..4], row[5]), address6(&row[6..10], row[11]), row[12], row[13])
    } else {
        (address4(row[1], row[2]), address4(row[3], row[4]), row[0], row[5])
    };
    let listens = state == MIB_TCP_STATE_LISTEN.cast_unsigned();
    Socket { protocol: Protocol::Tcp, local, peer: (!listens).then_some(peer), state, pid }
}

fn udp(row: &[u32], v6: bool) -> Socket {
    let (local, pid) =
        if v6 { (address6(&row[..4], row[5]), row[6]) } else { (address4(row[0], row[1]), row[2]) };
    Socket { protocol: Protocol::Udp, local, peer: None, state: 0, pid }
}

/// Address and port as they are on the wire, in memory.
fn address4(address: u32, port: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(address.to_ne_bytes())), wire_port(port))
}

fn address6(words: &[u32], port: u32) -> SocketAddr {
    let mut bytes = [0; 16];
    for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(bytes)), wire_port(port))
}

fn wire_port(port: u32) -> u16 {
    ((port & 0xffff) as u16).swap_bytes()
}
