//! Connections, listening sockets and DNS, as a process on this machine makes them.
//!
//! A sensor does not tell what its own process does, so the acts are a child's: this
//! test's binary, started again for [`role`].

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]

mod rights;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
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
            stream.read_exact(&mut [0; 2]).unwrap();
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
        ("six", _) => {
            let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            drop((client, server));
        }
        other => panic!("{other:?}"),
    }
}

/// Runs the role to its end; its PID.
fn act(role: &str) -> u32 {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role", "--nocapture"])
        .env("RAMPART_TEST_ROLE", role)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id();
    assert!(child.wait_with_output().unwrap().status.success(), "{role}");
    pid
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
        stream.read_exact(&mut [0; 8]).unwrap();
        stream.write_all(&[0, 0]).unwrap();
    });
    let pid = act(&format!("ask: {HERE}:53"));
    server.join().unwrap();
    let mut seen = Vec::new();
    read_until(&mut sensor, &mut seen, "two queries and an answer", |seen| {
        of(pid, EventType::DnsQuery, seen).len() >= 3
    });
    let told = of(pid, EventType::DnsQuery, &seen);
    let what: Vec<_> = told
        .iter()
        .map(|one| {
            (text(one, Field::EventAction), text(one, Field::NetworkTransport), text(one, Field::DnsName))
        })
        .collect();
    let name = "host.example.test";
    assert_eq!(what, [("query", "udp", name), ("answer", "udp", name), ("query", "tcp", name)]);
    told.iter().for_each(is_complete);
    assert_eq!(text(&told[0], Field::DnsType), "A");
    assert_eq!(text(&told[0], Field::DestinationAddress), HERE.to_string());
    assert_eq!(value(&told[1], Field::DnsAnswers), Some(&Value::TextList(vec!["A 192.0.2.9".into()])));
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
