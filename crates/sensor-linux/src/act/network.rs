//! Connections, listening sockets and DNS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use event_model::{EventType, Field, Value};

use super::{Act, dns, integer, name_of, text};

/// As `bpf/act.h` numbers them.
const ACT_CONNECT: u16 = 96;
const ACT_ACCEPT: u16 = 97;
const ACT_CLOSE: u16 = 98;
const ACT_LISTEN: u16 = 99;
const ACT_DNS_QUERY: u16 = 100;
const ACT_DNS_ANSWER: u16 = 101;

const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
/// Protocols by their number (IANA; 262 is Linux's own, for several paths of TCP), as ECS names them.
const PROTOCOLS: [(u64, &str); 9] = [
    (1, "icmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (58, "ipv6-icmp"),
    (132, "sctp"),
    (136, "udplite"),
    (262, "tcp"),
    (255, "raw"),
];
const WITH_PORTS: [&str; 5] = ["tcp", "udp", "dccp", "sctp", "udplite"];
/// A connection that does not keep its process waiting is still on its way.
const EINPROGRESS: i32 = 115;

/// The two ends of a connection.
struct Ends {
    is_v6: bool,
    protocol: u64,
    local: (IpAddr, u16),
    remote: (IpAddr, u16),
}

impl Ends {
    fn of(act: &Act<'_>) -> Option<Self> {
        let [kind, ports, local_first, local_last, remote_first, remote_last, ..] = act.numbers;
        let (family, protocol) = (kind & 0xffff, kind >> 16);
        let address = |first: u64, last: u64| match family {
            AF_INET => {
                let [a, b, c, d, ..] = first.to_ne_bytes();
                Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
            }
            AF_INET6 => {
                let mut bytes = [0; 16];
                bytes[..8].copy_from_slice(&first.to_ne_bytes());
                bytes[8..].copy_from_slice(&last.to_ne_bytes());
                // IPv4 over a socket of the other family is IPv4 on the wire.
                Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
            }
            _ => None,
        };
        // The kernel keeps the protocol there for those that have no ports.
        let has_ports =
            PROTOCOLS.iter().any(|(number, name)| *number == protocol && WITH_PORTS.contains(name));
        let port = |ports: u64| if has_ports { u16::try_from(ports & 0xffff).unwrap_or_default() } else { 0 };
        let local = (address(local_first, local_last)?, port(ports));
        let remote = (address(remote_first, remote_last)?, port(ports >> 32));
        Some(Self { is_v6: remote.0.is_ipv6(), protocol, local, remote })
    }

    /// `source` is who opened the connection.
    fn tell(&self, is_out: bool, fields: &mut Vec<(Field, Value)>) {
        let (source, destination) =
            if is_out { (self.local, self.remote) } else { (self.remote, self.local) };
        fields.push((Field::SourceAddress, text(source.0.to_string())));
        if source.1 != 0 {
            fields.push((Field::SourcePort, Value::Integer(source.1.into())));
        }
        fields.push((Field::DestinationAddress, text(destination.0.to_string())));
        fields.push((Field::DestinationPort, Value::Integer(destination.1.into())));
        fields.push((Field::NetworkTransport, name_of(self.protocol, &PROTOCOLS)));
        fields.push((Field::NetworkType, text(if self.is_v6 { "ipv6" } else { "ipv4" })));
        fields.push((Field::NetworkDirection, text(if is_out { "egress" } else { "ingress" })));
    }
}

pub(super) fn fields(act: &Act<'_>) -> Option<(EventType, Vec<(Field, Value)>)> {
    let ends = Ends::of(act)?;
    let mut fields = Vec::with_capacity(12);
    let event_type = match act.kind {
        ACT_CONNECT => {
            ends.tell(true, &mut fields);
            if act.result == -EINPROGRESS {
                fields.push((Field::EventOutcome, text("unknown")));
                fields.push((Field::EventReason, text("in progress")));
            } else {
                act.outcome(&mut fields);
            }
            connection_id(act, &mut fields);
            EventType::NetworkConnect
        }
        ACT_ACCEPT => {
            ends.tell(false, &mut fields);
            connection_id(act, &mut fields);
            EventType::NetworkAccept
        }
        ACT_CLOSE => {
            let is_out = act.result == 0;
            ends.tell(is_out, &mut fields);
            let (sent, received) = (act.numbers[7], act.numbers[8]);
            let (of_source, of_destination) = if is_out { (sent, received) } else { (received, sent) };
            fields.push((Field::SourceBytes, integer(of_source)));
            fields.push((Field::DestinationBytes, integer(of_destination)));
            fields.push((Field::EventDuration, integer(act.at_ns.saturating_sub(act.numbers[6]))));
            connection_id(act, &mut fields);
            EventType::NetworkClose
        }
        ACT_LISTEN => {
            fields.push((Field::SourceAddress, text(ends.local.0.to_string())));
            fields.push((Field::SourcePort, Value::Integer(ends.local.1.into())));
            fields.push((Field::NetworkTransport, name_of(ends.protocol, &PROTOCOLS)));
            fields.push((Field::NetworkType, text(if ends.is_v6 { "ipv6" } else { "ipv4" })));
            EventType::NetworkListen
        }
        ACT_DNS_QUERY | ACT_DNS_ANSWER => {
            ends.tell(true, &mut fields);
            let is_answer = act.kind == ACT_DNS_ANSWER;
            fields.push((Field::EventAction, text(if is_answer { "answer" } else { "query" })));
            tell_message(act, is_answer, &mut fields);
            EventType::DnsQuery
        }
        _ => return None,
    };
    Some((event_type, fields))
}

fn tell_message(act: &Act<'_>, is_answer: bool, fields: &mut Vec<(Field, Value)>) {
    let message = dns::read(act.bytes(0));
    fields.push((Field::DnsId, Value::Integer(message.id.into())));
    fields.push((Field::DnsName, text(message.name)));
    fields.push((Field::DnsType, text(message.question_type)));
    if is_answer {
        fields.push((Field::DnsResponseCode, text(message.response_code)));
        if !message.answers.is_empty() {
            fields.push((Field::DnsAnswers, Value::TextList(message.answers)));
        }
    }
    if let Some(reason) = message.incomplete.or(act.is_cut(0).then_some("cut")) {
        fields.push((Field::EventIncomplete, Value::TextList(vec![format!("dns.question: {reason}")])));
    }
}

fn connection_id(act: &Act<'_>, fields: &mut Vec<(Field, Value)>) {
    if act.numbers[6] != 0 {
        fields.push((Field::NetworkConnectionId, integer(act.numbers[6])));
    }
}
