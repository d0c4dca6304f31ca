//! Datagrams with their flows, and DNS.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::FromRawFd as _;

use event_model::{EventType, Field, Value};
use sensor_api::contract::read_until;
use sensor_linux::LinuxSensorOptions;

use crate::rights::ebpf;
use crate::stage::{
    HERE, PATIENCE, Told, act, act_and_say, ids, is_complete, number, of, read_to_end, start, text, value,
};

/// Plays a role; false where it is none of these.
pub(crate) fn perform(name: &str, argument: &str) -> bool {
    match name {
        "datagrams" => {
            let server = UdpSocket::bind((HERE, 0)).unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let client = UdpSocket::bind((HERE, 0)).unwrap();
            for _ in 0..5 {
                client.send_to(b"x", server.local_addr().unwrap()).unwrap();
                let (_, from) = server.recv_from(&mut [0; 9]).unwrap();
                server.send_to(b"y", from).unwrap();
            }
        }
        "ask" => {
            let socket = UdpSocket::bind((HERE, 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let server: SocketAddr = argument.parse().unwrap();
            let mut query =
                b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04host\x07example\x04test\0\0\x01\0\x01".to_vec();
            socket.send_to(&query, server).unwrap();
            socket.recv_from(&mut [0; 512]).unwrap();
            // The same over TCP, with its length before it.
            query.splice(0..0, u16::try_from(query.len()).unwrap().to_be_bytes());
            let mut stream = TcpStream::connect(server).unwrap();
            stream.write_all(&query).unwrap();
            stream.read_exact(&mut [0; 2 + 51]).unwrap();
        }
        "ask twice" => {
            let socket = UdpSocket::bind((HERE, 0)).unwrap();
            for id in [b"\0\x01", b"\0\x02"] {
                let rest = b"\x01\0\0\x01\0\0\0\0\0\0\x03two\x04test\0\0\x01\0\x01";
                socket.send_to(&[id.as_slice(), rest].concat(), argument).unwrap();
            }
        }
        "connected" => {
            let server = UdpSocket::bind((HERE, 0)).unwrap();
            let client = UdpSocket::bind((HERE, 0)).unwrap();
            client.connect(server.local_addr().unwrap()).unwrap();
            for _ in 0..3 {
                client.send(b"x").unwrap();
            }
        }
        "answer" => {
            let server = UdpSocket::bind((HERE, 0)).unwrap();
            println!("\nport={}", server.local_addr().unwrap().port());
            std::io::stdout().flush().unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let (_, from) = server.recv_from(&mut [0; 9]).unwrap();
            server.send_to(&[5; 40], from).unwrap();
        }
        "talk in datagrams" => {
            let server = UdpSocket::bind((HERE, 0)).unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let client = UdpSocket::bind((HERE, 0)).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            for _ in 0..3 {
                client.send_to(&[1; 100], server.local_addr().unwrap()).unwrap();
                let (_, from) = server.recv_from(&mut [0; 200]).unwrap();
                server.send_to(&[2; 20], from).unwrap();
                client.recv_from(&mut [0; 200]).unwrap();
            }
        }
        "two in turn" => {
            // Two processes send from one and the same port, the second after the first is gone.
            let server = UdpSocket::bind((HERE, 0)).unwrap();
            let to = server.local_addr().unwrap();
            let first = UdpSocket::bind((HERE, 0)).unwrap();
            let from = first.local_addr().unwrap();
            first.send_to(b"x", to).unwrap();
            drop(first);
            let second = UdpSocket::bind(from).unwrap();
            second.send_to(b"x", to).unwrap();
            // And one that has the socket from this process.
            // SAFETY: the child calls nothing but the kernel.
            unsafe {
                let child = libc::fork();
                if child == 0 {
                    libc::_exit(i32::from(second.send_to(b"x", to).is_err()));
                }
                println!("\nchild={child}");
                let mut status = 1;
                assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                assert_eq!(status, 0);
            }
        }
        "own header" => send_with_own_header(),
        _ => return false,
    }
    true
}

/// Sends a datagram from a socket that is made for whole packets.
fn send_with_own_header() {
    // The kernel fills in length, number, sender and checksum.
    let mut packet = [0; 32];
    (packet[0], packet[8], packet[9]) = (0x45, 64, libc::IPPROTO_UDP as u8);
    packet[16..20].copy_from_slice(&HERE.octets());
    packet[20..22].copy_from_slice(&4_001_u16.to_be_bytes());
    packet[22..24].copy_from_slice(&4_002_u16.to_be_bytes());
    packet[24..26].copy_from_slice(&12_u16.to_be_bytes());
    // SAFETY: the socket is new and nobody else's.
    let socket = unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW);
        assert!(socket >= 0);
        UdpSocket::from_raw_fd(socket)
    };
    assert_eq!(socket.send_to(&packet, (HERE, 0)).unwrap(), packet.len());
}

#[test]
fn datagrams_of_one_flow_are_one_event() {
    let Some(told) = Told::to_the_end("datagrams") else { return };
    // The answers are of the same flow.
    let connect = told.only(EventType::NetworkConnect);
    assert_eq!(text(&connect, Field::NetworkTransport), "udp");
    let listens = told.all(EventType::NetworkListen);
    assert_eq!(listens.len(), 2, "two bound ports");
    assert_eq!(text(&listens[0], Field::NetworkTransport), "udp");
}

#[test]
fn a_name_that_is_asked_for_and_its_answer_belong_to_who_asked() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let datagrams = match UdpSocket::bind((HERE, 53)) {
        Ok(socket) => socket,
        Err(error) => return println!("skipped: port 53 of {HERE} can't be had: {error}"),
    };
    let listener = TcpListener::bind((HERE, 53)).unwrap();
    let server = std::thread::spawn(move || {
        let mut query = [0; 512];
        let (length, from) = datagrams.recv_from(&mut query).unwrap();
        let mut answer = query[..length].to_vec();
        answer[2] |= 0x80;
        answer[7] = 1;
        answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x09");
        datagrams.send_to(&answer, from).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut query[..2 + length]).unwrap();
        let long = u16::try_from(answer.len()).unwrap().to_be_bytes();
        stream.write_all(&[long.as_slice(), &answer].concat()).unwrap();
    });
    let pid = act(&format!("ask: {HERE}:53"));
    server.join().unwrap();
    let mut seen = Vec::new();
    read_until(&mut sensor, &mut seen, "two queries with their answers", |seen| {
        of(pid, EventType::DnsQuery, seen).len() >= 4
    });
    let told = of(pid, EventType::DnsQuery, &seen);
    let what: Vec<_> = told
        .iter()
        .map(|one| {
            (text(one, Field::EventAction), text(one, Field::NetworkTransport), text(one, Field::DnsName))
        })
        .collect();
    let name = "host.example.test";
    let both = |transport| [("query", transport, name), ("answer", transport, name)];
    assert_eq!(what, [both("udp"), both("tcp")].concat());
    told.iter().for_each(is_complete);
    assert_eq!(text(&told[0], Field::DnsType), "A");
    assert_eq!(text(&told[0], Field::DestinationAddress), HERE.to_string());
    for answer in [&told[1], &told[3]] {
        assert_eq!(value(answer, Field::DnsAnswers), Some(&Value::TextList(vec!["A 192.0.2.9".into()])));
    }
}

#[test]
fn queries_of_one_socket_are_one_flow() {
    // Nobody has to answer.
    let Some(told) = Told::to_the_end("ask twice: 127.83.61.8:53") else { return };
    let queries = told.all(EventType::DnsQuery);
    assert_eq!(queries.len(), 2, "{queries:#?}");
    assert!(queries.iter().all(|one| text(one, Field::DnsName) == "two.test"));
    told.only(EventType::NetworkConnect);
}

#[test]
fn a_connected_datagram_socket_is_told_once() {
    let Some(told) = Told::to_the_end("connected") else { return };
    told.only(EventType::NetworkConnect);
}

#[test]
fn an_answer_to_a_datagram_from_outside_is_told_as_accepted() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let mut child = start("answer");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let port = lines.find_map(|line| line.strip_prefix("port=").map(str::to_owned)).unwrap();
    let port: u16 = port.parse().unwrap();
    // Of this process nothing is told, as of another host.
    let here = UdpSocket::bind((HERE, 0)).unwrap();
    here.send_to(b"hello", (HERE, port)).unwrap();
    // It has more to say than that.
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    let seen = read_to_end(&mut sensor, child.id());
    assert_eq!(of(child.id(), EventType::NetworkConnect, &seen), []);
    let accepts = of(child.id(), EventType::NetworkAccept, &seen);
    assert_eq!(accepts.len(), 1, "{accepts:#?}");
    is_complete(&accepts[0]);
    assert_eq!(text(&accepts[0], Field::NetworkTransport), "udp");
    assert_eq!(text(&accepts[0], Field::NetworkDirection), "ingress");
    assert_eq!(number(&accepts[0], Field::SourcePort), i64::from(here.local_addr().unwrap().port()));
    assert_eq!(number(&accepts[0], Field::DestinationPort), i64::from(port));
    let closes = of(child.id(), EventType::NetworkClose, &seen);
    assert_eq!(closes.len(), 1, "{closes:#?}");
    assert_eq!(
        (number(&closes[0], Field::SourceBytes), number(&closes[0], Field::DestinationBytes)),
        (5, 40)
    );
}

#[test]
fn a_flow_of_datagrams_ends_with_its_socket_and_what_it_carried() {
    let Some(told) = Told::to_the_end("talk in datagrams") else { return };
    let connect = told.only(EventType::NetworkConnect);
    let accept = told.only(EventType::NetworkAccept);
    let closes = told.all(EventType::NetworkClose);
    assert_eq!(closes.len(), 2, "{closes:#?}");
    for close in &closes {
        is_complete(close);
        assert_eq!((number(close, Field::SourceBytes), number(close, Field::DestinationBytes)), (300, 60));
        assert_eq!(number(close, Field::SourcePort), number(&connect, Field::SourcePort));
    }
    assert_eq!(ids(&[connect, accept]), ids(&closes), "a close names what was opened");
}

#[test]
fn a_flow_from_a_socket_for_whole_packets_ends_with_it() {
    let Some(told) = Told::to_the_end("own header") else { return };
    let close = told.only(EventType::NetworkClose);
    assert_eq!((number(&close, Field::SourcePort), number(&close, Field::DestinationPort)), (4_001, 4_002));
    assert_eq!(number(&close, Field::SourceBytes), 4);
}

#[test]
fn each_socket_and_each_process_has_flows_of_its_own() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let (pid, said) = act_and_say("two in turn");
    let child = said.lines().find_map(|line| line.strip_prefix("child=")).unwrap().parse().unwrap();
    let seen = read_to_end(&mut sensor, pid);
    let connects = of(pid, EventType::NetworkConnect, &seen);
    assert_eq!(connects.len(), 2, "{connects:#?}");
    assert_eq!(number(&connects[0], Field::SourcePort), number(&connects[1], Field::SourcePort));
    assert_eq!(of(child, EventType::NetworkConnect, &seen).len(), 1, "whoever has it from another");
}
