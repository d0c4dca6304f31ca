//! Connections of TCP, and what is neither that nor a datagram.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _};

use event_model::{EventType, Field};

use crate::stage::{HERE, Told, free_port, ids, is_complete, number, sockaddr, text, value};

/// Plays a role; false where it is none of these.
pub(crate) fn perform(name: &str, argument: &str) -> bool {
    match name {
        "talk" => {
            let listener = TcpListener::bind((HERE, 0)).unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(&[7; 300]).unwrap();
            server.read_exact(&mut [0; 300]).unwrap();
            server.write_all(&[8; 50]).unwrap();
            client.read_exact(&mut [0; 50]).unwrap();
        }
        "refused" => {
            assert!(TcpStream::connect((HERE, argument.parse().unwrap())).is_err());
        }
        "unreachable" => {
            // TCP goes to one, so it is refused before it asks; nothing is sent.
            assert!(TcpStream::connect((Ipv4Addr::BROADCAST, 9)).is_err());
        }
        "reset" => {
            let listener = TcpListener::bind((HERE, 0)).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            reset(client);
            drop(listener.accept().unwrap());
        }
        "raw" => {
            // SAFETY: the socket is new and nobody else's.
            unsafe {
                let socket =
                    libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_ICMP);
                assert!(socket >= 0);
                let socket = UdpSocket::from_raw_fd(socket);
                socket.connect((HERE, 0)).unwrap();
            }
        }
        "fast open" => {
            let listener = TcpListener::bind((HERE, 0)).unwrap();
            let mut client = fast_open(listener.local_addr().unwrap(), b"early").unwrap();
            let (mut server, _) = listener.accept().unwrap();
            server.read_exact(&mut [0; 5]).unwrap();
            server.write_all(b"late").unwrap();
            client.read_exact(&mut [0; 4]).unwrap();
        }
        "six" => {
            let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            drop((client, server));
        }
        _ => return false,
    }
    true
}

/// Connects with the first data, as sendto(2) does it; `None` where the host does not let.
fn fast_open(to: SocketAddr, data: &[u8]) -> Option<TcpStream> {
    let address = sockaddr(to);
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the socket is new and nobody else's; data and address live through the call.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        assert!(socket >= 0);
        let stream = TcpStream::from_raw_fd(socket);
        let at = (&raw const address).cast();
        let sent = libc::sendto(socket, data.as_ptr().cast(), data.len(), libc::MSG_FASTOPEN, at, length);
        (sent == data.len().cast_signed()).then_some(stream)
    }
}

/// False, said aloud, where this host lets nobody send data with the first packet.
pub(crate) fn opens_with_data() -> bool {
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fastopen").unwrap_or_default();
    let is_off = setting.trim().parse::<u32>().is_ok_and(|bits| bits & 1 == 0);
    if is_off {
        println!("skipped: this host opens no connection with data");
    }
    !is_off
}

/// Ends a connection without a word to whom it was with, but that it is over.
pub(crate) fn reset(connection: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of::<libc::linger>() as libc::socklen_t;
    let at = (&raw const linger).cast();
    // SAFETY: the option is as long as said and lives through the call.
    let set =
        unsafe { libc::setsockopt(connection.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, at, length) };
    assert_eq!(set, 0);
}

#[test]
fn a_connection_is_told_from_both_ends_with_what_it_carried() {
    let Some(told) = Told::until_closed("talk", 2) else { return };
    let listen = &told.only(EventType::NetworkListen);
    let connect = &told.only(EventType::NetworkConnect);
    let accept = &told.only(EventType::NetworkAccept);
    let closes = told.all(EventType::NetworkClose);
    assert_eq!(closes.len(), 2, "{closes:#?}");
    assert_eq!(text(listen, Field::SourceAddress), HERE.to_string());
    assert_eq!(number(connect, Field::DestinationPort), number(listen, Field::SourcePort));
    assert_eq!(text(connect, Field::EventOutcome), "success");
    assert_eq!(number(connect, Field::SourcePort), number(accept, Field::SourcePort), "one connection");
    assert_eq!(
        (text(connect, Field::NetworkDirection), text(accept, Field::NetworkDirection)),
        ("egress", "ingress")
    );
    for close in &closes {
        is_complete(close);
        assert_eq!((number(close, Field::SourceBytes), number(close, Field::DestinationBytes)), (300, 50));
        assert!(number(close, Field::EventDuration) > 0);
    }
    assert_eq!(ids(&[connect.clone(), accept.clone()]), ids(&closes), "a close names what was opened");
}

#[test]
fn a_connection_that_is_refused_says_so_and_to_where() {
    let port = free_port();
    let Some(told) = Told::to_the_end(&format!("refused: {port}")) else { return };
    let connect = told.only(EventType::NetworkConnect);
    assert_eq!(text(&connect, Field::DestinationAddress), HERE.to_string());
    assert_eq!(number(&connect, Field::DestinationPort), i64::from(port));
    assert_eq!(text(&connect, Field::EventOutcome), "failure");
    assert_eq!(number(&connect, Field::EventErrno), i64::from(libc::ECONNREFUSED));
}

#[test]
fn a_connection_that_is_refused_before_it_asks_says_to_where() {
    let Some(told) = Told::to_the_end("unreachable") else { return };
    let connect = told.only(EventType::NetworkConnect);
    assert_eq!(text(&connect, Field::DestinationAddress), Ipv4Addr::BROADCAST.to_string());
    assert_eq!(number(&connect, Field::DestinationPort), 9);
    assert_eq!(text(&connect, Field::EventOutcome), "failure");
    assert_eq!(number(&connect, Field::EventErrno), i64::from(libc::ENETUNREACH));
}

#[test]
fn a_connection_that_ends_before_it_is_accepted_is_told_with_its_end() {
    let Some(told) = Told::until_closed("reset", 2) else { return };
    let id = number(&told.only(EventType::NetworkAccept), Field::NetworkConnectionId);
    let closes = told.all(EventType::NetworkClose);
    assert_eq!(closes.len(), 2, "{closes:#?}");
    let ends: Vec<_> =
        closes.iter().filter(|close| number(close, Field::NetworkConnectionId) == id).collect();
    assert_eq!(ends.len(), 1);
    is_complete(ends[0]);
    assert_eq!(text(ends[0], Field::NetworkDirection), "ingress");
}

#[test]
fn a_connection_that_begins_with_its_first_data_is_told() {
    if !opens_with_data() {
        return;
    }
    let Some(told) = Told::until_closed("fast open", 2) else { return };
    let connect = told.only(EventType::NetworkConnect);
    let listen = told.only(EventType::NetworkListen);
    assert_eq!(text(&connect, Field::DestinationAddress), HERE.to_string());
    assert_eq!(number(&connect, Field::DestinationPort), number(&listen, Field::SourcePort));
    let closes = told.all(EventType::NetworkClose);
    let id = number(&connect, Field::NetworkConnectionId);
    let own: Vec<_> = closes.iter().filter(|close| number(close, Field::NetworkConnectionId) == id).collect();
    assert_eq!(own.len(), 1, "{closes:#?}");
    assert_eq!((number(own[0], Field::SourceBytes), number(own[0], Field::DestinationBytes)), (5, 4));
}

#[test]
fn what_is_neither_tcp_nor_udp_has_its_own_name() {
    let Some(told) = Told::to_the_end("raw") else { return };
    let connect = told.only(EventType::NetworkConnect);
    assert_eq!(text(&connect, Field::NetworkTransport), "icmp");
    assert_eq!(value(&connect, Field::SourcePort), None);
}

#[test]
fn a_connection_over_ipv6_is_told_like_any() {
    if let Err(error) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        return println!("skipped: no IPv6 here: {error}");
    }
    let Some(told) = Told::until_closed("six", 2) else { return };
    let connect = told.only(EventType::NetworkConnect);
    assert_eq!(text(&connect, Field::DestinationAddress), "::1");
    assert_eq!(text(&connect, Field::SourceAddress), "::1");
}
