//! Connections, listening sockets and DNS, as a process on this machine makes them.
//!
//! A sensor does not tell what its own process does, so the acts are a child's: this
//! test's binary, started again for [`role`].

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]
#![allow(unsafe_code, reason = "some calls have no safe form")]

mod rights;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use event_model::{EventClass, EventType, Field, GapReason, Value};
use sensor_api::contract::read_until;
use sensor_api::{Actor, Observation, Observed, ObservedActivity, Sensor};
use sensor_linux::LinuxSensorOptions;

use rights::ebpf;

/// A loopback address of this test alone.
const HERE: Ipv4Addr = Ipv4Addr::new(127, 83, 61, 7);
const PATIENCE: Duration = Duration::from_secs(10);

/// What the child does; as a test of its own it does nothing.
#[test]
fn role() {
    let Ok(role) = std::env::var("RAMPART_TEST_ROLE") else { return };
    match role.split_once(": ").unwrap_or((&role, "")) {
        ("talk", _) => {
            let listener = TcpListener::bind((HERE, 0)).unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(&[7; 300]).unwrap();
            server.read_exact(&mut [0; 300]).unwrap();
            server.write_all(&[8; 50]).unwrap();
            client.read_exact(&mut [0; 50]).unwrap();
        }
        ("refused", port) => {
            assert!(TcpStream::connect((HERE, port.parse().unwrap())).is_err());
        }
        ("unreachable", _) => {
            // TCP goes to one, so it is refused before it asks; nothing is sent.
            assert!(TcpStream::connect((Ipv4Addr::BROADCAST, 9)).is_err());
        }
        ("reset", _) => {
            let listener = TcpListener::bind((HERE, 0)).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            reset(client);
            drop(listener.accept().unwrap());
        }
        ("datagrams", _) => {
            let server = UdpSocket::bind((HERE, 0)).unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let client = UdpSocket::bind((HERE, 0)).unwrap();
            for _ in 0..5 {
                client.send_to(b"x", server.local_addr().unwrap()).unwrap();
                let (_, from) = server.recv_from(&mut [0; 9]).unwrap();
                server.send_to(b"y", from).unwrap();
            }
        }
        ("ask", server) => {
            let socket = UdpSocket::bind((HERE, 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let server: SocketAddr = server.parse().unwrap();
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
        ("ask twice", server) => {
            let socket = UdpSocket::bind((HERE, 0)).unwrap();
            for id in [b"\0\x01", b"\0\x02"] {
                let rest = b"\x01\0\0\x01\0\0\0\0\0\0\x03two\x04test\0\0\x01\0\x01";
                socket.send_to(&[id.as_slice(), rest].concat(), server).unwrap();
            }
        }
        ("connected", _) => {
            let server = UdpSocket::bind((HERE, 0)).unwrap();
            let client = UdpSocket::bind((HERE, 0)).unwrap();
            client.connect(server.local_addr().unwrap()).unwrap();
            for _ in 0..3 {
                client.send(b"x").unwrap();
            }
        }
        ("answer", _) => {
            let server = UdpSocket::bind((HERE, 0)).unwrap();
            println!("\nport={}", server.local_addr().unwrap().port());
            std::io::stdout().flush().unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let (_, from) = server.recv_from(&mut [0; 9]).unwrap();
            server.send_to(&[5; 40], from).unwrap();
        }
        ("talk in datagrams", _) => {
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
        ("two in turn", _) => {
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
        ("raw", _) => {
            // SAFETY: the socket is new and nobody else's.
            unsafe {
                let socket =
                    libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_ICMP);
                assert!(socket >= 0);
                let socket = UdpSocket::from_raw_fd(socket);
                socket.connect((HERE, 0)).unwrap();
            }
        }
        ("own header", _) => send_with_own_header(),
        ("fast open", _) => {
            let listener = TcpListener::bind((HERE, 0)).unwrap();
            let mut client = fast_open(listener.local_addr().unwrap(), b"early").unwrap();
            let (mut server, _) = listener.accept().unwrap();
            server.read_exact(&mut [0; 5]).unwrap();
            server.write_all(b"late").unwrap();
            client.read_exact(&mut [0; 4]).unwrap();
        }
        ("six", _) => {
            let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            drop((client, server));
        }
        other => panic!("{other:?}"),
    }
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

/// Connects with the first data, as sendto(2) does it; `None` where the host does not let.
fn fast_open(to: SocketAddr, data: &[u8]) -> Option<TcpStream> {
    let SocketAddr::V4(to) = to else { return None };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
        sin_zero: [0; 8],
    };
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

/// Ends a connection without a word to whom it was with, but that it is over.
fn reset(connection: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of::<libc::linger>() as libc::socklen_t;
    let at = (&raw const linger).cast();
    // SAFETY: the option is as long as said and lives through the call.
    let set =
        unsafe { libc::setsockopt(connection.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, at, length) };
    assert_eq!(set, 0);
}

/// Starts a role.
fn start(role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role", "--nocapture"])
        .env("RAMPART_TEST_ROLE", role)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs the role to its end; its PID.
fn act(role: &str) -> u32 {
    act_and_say(role).0
}

/// The same, with what it said.
fn act_and_say(role: &str) -> (u32, String) {
    let child = start(role);
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{role}");
    (pid, String::from_utf8(output.stdout).unwrap())
}

fn of(pid: u32, event_type: EventType, seen: &[Observed]) -> Vec<ObservedActivity> {
    let is_it = |activity: &&ObservedActivity| {
        activity.event_type == event_type && activity.actor.map(Actor::pid) == Some(pid)
    };
    let activities = seen.iter().filter_map(|observed| match &observed.what {
        Observation::Activity(activity) => Some(activity.as_ref()),
        _ => None,
    });
    activities.filter(is_it).cloned().collect()
}

fn value(activity: &ObservedActivity, field: Field) -> Option<&Value> {
    activity.fields.iter().find(|(own, _)| *own == field).map(|(_, value)| value)
}

fn text(activity: &ObservedActivity, field: Field) -> &str {
    match value(activity, field) {
        Some(Value::Text(text)) => text,
        other => panic!("{field:?} is {other:?} in {activity:?}"),
    }
}

fn number(activity: &ObservedActivity, field: Field) -> i64 {
    match value(activity, field) {
        Some(Value::Integer(number)) => *number,
        other => panic!("{field:?} is {other:?} in {activity:?}"),
    }
}

/// Everything that its type must tell is there, besides the lives that the agent adds.
fn is_complete(activity: &ObservedActivity) {
    for field in activity.event_type.spec().needs {
        assert!(value(activity, *field).is_some(), "{field:?} is missing in {activity:?}");
    }
}

#[test]
fn a_connection_is_told_from_both_ends_with_what_it_carried() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let pid = act("talk");
    let mut seen = Vec::new();
    read_until(&mut sensor, &mut seen, "both ends closed", |seen| {
        of(pid, EventType::NetworkClose, seen).len() >= 2
    });
    let listens = of(pid, EventType::NetworkListen, &seen);
    let connects = of(pid, EventType::NetworkConnect, &seen);
    let accepts = of(pid, EventType::NetworkAccept, &seen);
    let closes = of(pid, EventType::NetworkClose, &seen);
    assert_eq!((listens.len(), connects.len(), accepts.len(), closes.len()), (1, 1, 1, 2), "{closes:#?}");
    for activity in listens.iter().chain(&connects).chain(&accepts).chain(&closes) {
        is_complete(activity);
    }
    let (listen, connect, accept) = (&listens[0], &connects[0], &accepts[0]);
    assert_eq!(text(listen, Field::SourceAddress), HERE.to_string());
    assert_eq!(number(connect, Field::DestinationPort), number(listen, Field::SourcePort));
    assert_eq!(text(connect, Field::EventOutcome), "success");
    assert_eq!(number(connect, Field::SourcePort), number(accept, Field::SourcePort), "one connection");
    assert_eq!(
        (text(connect, Field::NetworkDirection), text(accept, Field::NetworkDirection)),
        ("egress", "ingress")
    );
    for close in &closes {
        assert_eq!((number(close, Field::SourceBytes), number(close, Field::DestinationBytes)), (300, 50));
        assert!(number(close, Field::EventDuration) > 0);
    }
    let ids = |of: &[ObservedActivity]| -> Vec<i64> {
        of.iter().map(|one| number(one, Field::NetworkConnectionId)).collect()
    };
    let mut opened = [ids(&connects), ids(&accepts)].concat();
    let mut closed = ids(&closes);
    opened.sort_unstable();
    closed.sort_unstable();
    assert_eq!(opened, closed, "a close names what was opened");
}

#[test]
fn a_connection_that_is_refused_says_so_and_to_where() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    // Nobody listens on a port that was just let go.
    let port = TcpListener::bind((HERE, 0)).unwrap().local_addr().unwrap().port();
    let pid = act(&format!("refused: {port}"));
    let mut seen = Vec::new();
    read_until(&mut sensor, &mut seen, "the try", |seen| {
        !of(pid, EventType::NetworkConnect, seen).is_empty()
    });
    let connects = of(pid, EventType::NetworkConnect, &seen);
    assert_eq!(connects.len(), 1);
    is_complete(&connects[0]);
    assert_eq!(text(&connects[0], Field::DestinationAddress), HERE.to_string());
    assert_eq!(number(&connects[0], Field::DestinationPort), i64::from(port));
    assert_eq!(text(&connects[0], Field::EventOutcome), "failure");
    assert_eq!(number(&connects[0], Field::EventErrno), i64::from(libc::ECONNREFUSED));
}

#[test]
fn a_connection_that_is_refused_before_it_asks_says_to_where() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let pid = act("unreachable");
    let mut seen = Vec::new();
    read_until(&mut sensor, &mut seen, "the try", |seen| {
        !of(pid, EventType::NetworkConnect, seen).is_empty()
    });
    let connects = of(pid, EventType::NetworkConnect, &seen);
    assert_eq!(connects.len(), 1);
    is_complete(&connects[0]);
    assert_eq!(text(&connects[0], Field::DestinationAddress), Ipv4Addr::BROADCAST.to_string());
    assert_eq!(number(&connects[0], Field::DestinationPort), 9);
    assert_eq!(text(&connects[0], Field::EventOutcome), "failure");
    assert_eq!(number(&connects[0], Field::EventErrno), i64::from(libc::ENETUNREACH));
}

#[test]
fn a_connection_that_ends_before_it_is_accepted_is_told_with_its_end() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let pid = act("reset");
    let mut seen = Vec::new();
    read_until(&mut sensor, &mut seen, "both ends closed", |seen| {
        of(pid, EventType::NetworkClose, seen).len() >= 2
    });
    let accepts = of(pid, EventType::NetworkAccept, &seen);
    let closes = of(pid, EventType::NetworkClose, &seen);
    assert_eq!((accepts.len(), closes.len()), (1, 2), "{closes:#?}");
    let id = number(&accepts[0], Field::NetworkConnectionId);
    let ends: Vec<_> =
        closes.iter().filter(|close| number(close, Field::NetworkConnectionId) == id).collect();
    assert_eq!(ends.len(), 1);
    is_complete(ends[0]);
    assert_eq!(text(ends[0], Field::NetworkDirection), "ingress");
}

#[test]
fn datagrams_of_one_flow_are_one_event() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let pid = act("datagrams");
    let mut seen = Vec::new();
    read_until(&mut sensor, &mut seen, "the end", |seen| {
        seen.iter().any(
            |observed| matches!(observed.what, Observation::ProcessExited(exit) if exit.process.pid == pid),
        )
    });
    let connects = of(pid, EventType::NetworkConnect, &seen);
    assert_eq!(connects.len(), 1, "the answers are of the same flow: {connects:#?}");
    is_complete(&connects[0]);
    assert_eq!(text(&connects[0], Field::NetworkTransport), "udp");
    let listens = of(pid, EventType::NetworkListen, &seen);
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

/// Reads until the process has ended.
fn read_to_end(sensor: &mut dyn Sensor, pid: u32) -> Vec<Observed> {
    let mut seen = Vec::new();
    read_until(sensor, &mut seen, "the end", |seen| {
        seen.iter().any(
            |observed| matches!(observed.what, Observation::ProcessExited(exit) if exit.process.pid == pid),
        )
    });
    seen
}

#[test]
fn queries_of_one_socket_are_one_flow() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    // Nobody has to answer.
    let pid = act("ask twice: 127.83.61.8:53");
    let seen = read_to_end(&mut sensor, pid);
    let queries = of(pid, EventType::DnsQuery, &seen);
    assert_eq!(queries.len(), 2, "{queries:#?}");
    assert!(queries.iter().all(|one| text(one, Field::DnsName) == "two.test"));
    let connects = of(pid, EventType::NetworkConnect, &seen);
    assert_eq!(connects.len(), 1, "{connects:#?}");
}

#[test]
fn a_connected_datagram_socket_is_told_once() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let pid = act("connected");
    let seen = read_to_end(&mut sensor, pid);
    let connects = of(pid, EventType::NetworkConnect, &seen);
    assert_eq!(connects.len(), 1, "{connects:#?}");
    is_complete(&connects[0]);
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
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let pid = act("talk in datagrams");
    let seen = read_to_end(&mut sensor, pid);
    let connects = of(pid, EventType::NetworkConnect, &seen);
    let accepts = of(pid, EventType::NetworkAccept, &seen);
    let closes = of(pid, EventType::NetworkClose, &seen);
    assert_eq!(
        (connects.len(), accepts.len(), closes.len()),
        (1, 1, 2),
        "{connects:#?} {accepts:#?} {closes:#?}"
    );
    for close in &closes {
        is_complete(close);
        assert_eq!((number(close, Field::SourceBytes), number(close, Field::DestinationBytes)), (300, 60));
        assert_eq!(number(close, Field::SourcePort), number(&connects[0], Field::SourcePort));
    }
    let mut opened = [&connects[0], &accepts[0]].map(|one| number(one, Field::NetworkConnectionId));
    let mut closed = [&closes[0], &closes[1]].map(|one| number(one, Field::NetworkConnectionId));
    opened.sort_unstable();
    closed.sort_unstable();
    assert_eq!(opened, closed, "a close names what was opened");
}

#[test]
fn a_flow_from_a_socket_for_whole_packets_ends_with_it() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let pid = act("own header");
    let seen = read_to_end(&mut sensor, pid);
    let closes = of(pid, EventType::NetworkClose, &seen);
    assert_eq!(closes.len(), 1, "{closes:#?}");
    is_complete(&closes[0]);
    assert_eq!(
        (number(&closes[0], Field::SourcePort), number(&closes[0], Field::DestinationPort)),
        (4_001, 4_002)
    );
    assert_eq!(number(&closes[0], Field::SourceBytes), 4);
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

#[test]
fn a_connection_that_begins_with_its_first_data_is_told() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fastopen").unwrap_or_default();
    if setting.trim().parse::<u32>().is_ok_and(|bits| bits & 1 == 0) {
        return println!("skipped: this host opens no connection with data");
    }
    let pid = act("fast open");
    let mut seen = Vec::new();
    read_until(&mut sensor, &mut seen, "both ends closed", |seen| {
        of(pid, EventType::NetworkClose, seen).len() >= 2
    });
    let connects = of(pid, EventType::NetworkConnect, &seen);
    let listens = of(pid, EventType::NetworkListen, &seen);
    assert_eq!(connects.len(), 1, "{connects:#?}");
    is_complete(&connects[0]);
    assert_eq!(text(&connects[0], Field::DestinationAddress), HERE.to_string());
    assert_eq!(number(&connects[0], Field::DestinationPort), number(&listens[0], Field::SourcePort));
    let closes = of(pid, EventType::NetworkClose, &seen);
    let id = number(&connects[0], Field::NetworkConnectionId);
    let own: Vec<_> = closes.iter().filter(|close| number(close, Field::NetworkConnectionId) == id).collect();
    assert_eq!(own.len(), 1, "{closes:#?}");
    assert_eq!((number(own[0], Field::SourceBytes), number(own[0], Field::DestinationBytes)), (5, 4));
}

#[test]
fn what_is_neither_tcp_nor_udp_has_its_own_name() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let pid = act("raw");
    let seen = read_to_end(&mut sensor, pid);
    let connects = of(pid, EventType::NetworkConnect, &seen);
    assert_eq!(connects.len(), 1, "{connects:#?}");
    is_complete(&connects[0]);
    assert_eq!(text(&connects[0], Field::NetworkTransport), "icmp");
    assert_eq!(value(&connects[0], Field::SourcePort), None);
}

#[test]
fn a_connection_over_ipv6_is_told_like_any() {
    if let Err(error) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        return println!("skipped: no IPv6 here: {error}");
    }
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    let pid = act("six");
    let mut seen = Vec::new();
    read_until(&mut sensor, &mut seen, "both ends closed", |seen| {
        of(pid, EventType::NetworkClose, seen).len() >= 2
    });
    let connects = of(pid, EventType::NetworkConnect, &seen);
    assert_eq!(connects.len(), 1, "{connects:#?}");
    is_complete(&connects[0]);
    assert_eq!(text(&connects[0], Field::DestinationAddress), "::1");
    assert_eq!(text(&connects[0], Field::SourceAddress), "::1");
}

#[test]
fn what_is_shed_is_left_out_at_its_source_and_counted() {
    let Some(mut sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    sensor.shed(&[EventClass::Network]);
    let port = TcpListener::bind((HERE, 0)).unwrap().local_addr().unwrap().port();
    let pid = act(&format!("refused: {port}"));
    let mut seen = Vec::new();
    read_until(&mut sensor, &mut seen, "the loss", |seen| {
        seen.iter().any(|observed| {
            matches!(&observed.what, Observation::Lost(loss)
                if loss.reason == GapReason::Budget && loss.what == "network_connect")
        })
    });
    assert_eq!(of(pid, EventType::NetworkConnect, &seen), []);
    sensor.shed(&[]);
    let pid = act(&format!("refused: {port}"));
    let seen = read_to_end(&mut sensor, pid);
    assert_eq!(of(pid, EventType::NetworkConnect, &seen).len(), 1, "wanted again");
}

#[test]
fn every_type_of_this_family_has_a_source() {
    let Some(sensor) = ebpf(LinuxSensorOptions::default()) else { return };
    for provision in sensor
        .provisions()
        .iter()
        .filter(|one| ["network", "dns"].iter().any(|family| one.source.contains(family)))
    {
        assert_eq!(provision.missing, None, "{}", provision.describe());
        assert!(!provision.source.contains("in part"), "{}", provision.describe());
    }
}
