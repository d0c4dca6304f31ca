//! Who told of which connection: event tracing and the table of sockets see the same ones, and each is told once.
//!
//! What event tracing told is its own to end, with the bytes that it counted. Everything else is the table's: what
//! was there before, what tracing lost, and all of it where there is no tracing.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use event_model::{EventType, Field, Value};
use sensor_api::{Actor, ObservedActivity};

use super::change::Told;

/// What event tracing knows of a connection that the table shows, it knows within this: its buffers are handed over
/// each 50 ms. What it did not tell by then, the table does.
pub const GRACE: Duration = Duration::from_secs(2);
/// An end is remembered for so long, for a table that is looked at late: a large one is not looked at often.
const ENDED_FOR: Duration = Duration::from_secs(30);
/// Datagrams between two ends that are farther apart are another flow.
const FLOW_OVER: Duration = Duration::from_secs(60);
/// How often what is over is looked for.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// Connections, ends of them, and flows of datagrams, that are remembered.
const MOST_OPEN: usize = 262_144;
const MOST_FLOWS: usize = 65_536;

/// Provider of what is told by event tracing.
const TRACED: &str = "etw";

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It was opened from here.
    Connected,
    /// It was opened from there.
    Accepted,
    /// It ended.
    Closed,
    /// Bytes of it went out.
    Sent,
    /// Bytes of it came in.
    Received,
    /// A datagram went out.
    DatagramSent,
    /// A datagram came in.
    DatagramReceived,
}

/// One thing that event tracing tells of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// What happened.
    pub what: What,
    /// Whose the connection is; 0 where the kernel does not say.
    pub pid: u32,
    /// Bytes that were sent or received.
    pub bytes: u64,
    /// This host's end.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// When, in nanoseconds since boot.
    pub at_ns: u64,
}

/// The two ends of a connection of TCP. Interfaces and the IPv6 form of IPv4 addresses are left out: the two who
/// tell do not write them alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pair {
    local: (IpAddr, u16),
    peer: (IpAddr, u16),
}

impl Pair {
    /// Of this host's end and the other.
    pub fn new(local: SocketAddr, peer: SocketAddr) -> Self {
        let end = |end: SocketAddr| (end.ip().to_canonical(), end.port());
        Self { local: end(local), peer: end(peer) }
    }

    fn turned(self) -> Self {
        Self { local: self.peer, peer: self.local }
    }
}

/// A connection that event tracing told.
#[derive(Debug, Clone, Copy)]
struct Open {
    pid: u32,
    is_ingress: bool,
    begun_ns: u64,
    sent: u64,
    received: u64,
    /// The table does not show it any more since then.
    gone: Option<Instant>,
}

/// What is known of all connections.
#[derive(Debug, Default)]
pub struct Ledger {
    is_traced: bool,
    open: HashMap<Pair, Open>,
    ended: HashMap<Pair, Instant>,
    /// Told by tracing that is no more: their ends are the table's.
    handed: HashMap<Pair, Open>,
    by_table: HashSet<Pair>,
    flows: HashMap<Pair, Instant>,
    tidied: Option<Instant>,
    /// Connections and flows that found no room, in all.
    pub unknown: u64,
}

impl Ledger {
    /// Event tracing tells of connections from now on.
    pub fn tracing_begins(&mut self) {
        self.is_traced = true;
    }

    /// It does not any more. What it told is the table's to end.
    pub fn tracing_ends(&mut self) {
        self.is_traced = false;
        self.handed.extend(self.open.drain());
        self.flows.clear();
    }

    /// Whether it does.
    pub fn is_traced(&self) -> bool {
        self.is_traced
    }

    /// What event tracing tells, and what is to be told of it.
    pub fn hear(&mut self, segment: &Segment, now: Instant) -> Option<Told> {
        self.tidy(now);
        let pair = Pair::new(segment.local, segment.peer);
        match segment.what {
            What::Connected | What::Accepted => self.begins(pair, segment),
            What::Sent | What::Received => {
                let open = self.open.get_mut(&pair)?;
                let counted = if segment.what == What::Sent { &mut open.sent } else { &mut open.received };
                *counted = counted.saturating_add(segment.bytes);
                None
            }
            What::Closed => {
                // One that the table told is its to end; one that has the same ends later is another.
                self.by_table.remove(&pair);
                let open = self.open.remove(&pair)?;
                self.remember_end(pair, now);
                Some(closed(pair, &open, segment.at_ns))
            }
            What::DatagramSent | What::DatagramReceived => self.flows(pair, segment, now),
        }
    }

    fn begins(&mut self, pair: Pair, segment: &Segment) -> Option<Told> {
        if self.by_table.contains(&pair) {
            return None;
        }
        if self.open.len() >= MOST_OPEN {
            // The table will tell it.
            return None;
        }
        let is_ingress = segment.what == What::Accepted;
        let (pid, begun_ns) = (segment.pid, segment.at_ns);
        let open = Open { pid, is_ingress, begun_ns, sent: 0, received: 0, gone: None };
        self.ended.remove(&pair);
        self.open.insert(pair, open);
        Some(begun("tcp", pair, pid, is_ingress))
    }

    /// The first datagram of a flow, in either direction.
    fn flows(&mut self, pair: Pair, segment: &Segment, now: Instant) -> Option<Told> {
        let known = match self.flows.get_mut(&pair) {
            Some(known) => Some(known),
            None => self.flows.get_mut(&pair.turned()),
        };
        if let Some(last) = known {
            let is_same = now.saturating_duration_since(*last) < FLOW_OVER;
            *last = now;
            if is_same {
                return None;
            }
        } else if self.flows.len() >= MOST_FLOWS {
            self.unknown += 1;
            return None;
        } else {
            self.flows.insert(pair, now);
        }
        Some(begun("udp", pair, segment.pid, segment.what == What::DatagramReceived))
    }

    fn remember_end(&mut self, pair: Pair, now: Instant) {
        if self.ended.len() < MOST_OPEN {
            self.ended.insert(pair, now);
        }
    }

    /// Forgets what is over.
    fn tidy(&mut self, now: Instant) {
        let last = *self.tidied.get_or_insert(now);
        if now.saturating_duration_since(last) < TIDY_EVERY {
            return;
        }
        self.tidied = Some(now);
        self.ended.retain(|_, at| now.saturating_duration_since(*at) < ENDED_FOR);
        self.flows.retain(|_, at| now.saturating_duration_since(*at) < FLOW_OVER);
    }

    /// Whether event tracing told that it began, and it is no news that the table shows it.
    pub(super) fn is_told(&self, pair: &Pair) -> bool {
        self.open.contains_key(pair) || self.ended.contains_key(pair) || self.handed.contains_key(pair)
    }

    /// The table tells that it began.
    pub(super) fn told_by_table(&mut self, pair: Pair) {
        self.by_table.insert(pair);
    }

    /// The table does not show it as connected any more: whether it is to tell that it ended.
    pub(super) fn ends_in_table(&mut self, pair: &Pair) -> bool {
        self.by_table.remove(pair);
        !self.is_told(pair)
    }

    /// The table was looked at: these are connected, and these are shown in any state. Gives the ends that event
    /// tracing did not tell, or can't any more.
    pub(super) fn looked(
        &mut self,
        connected: &HashSet<Pair>,
        shown: &HashSet<Pair>,
        now_ns: u64,
        now: Instant,
    ) -> Vec<Told> {
        self.tidy(now);
        let mut told = Vec::new();
        let mut over = Vec::new();
        for (pair, open) in &mut self.open {
            if shown.contains(pair) {
                open.gone = None;
            } else if now.saturating_duration_since(*open.gone.get_or_insert(now)) >= GRACE {
                over.push(*pair);
            }
        }
        for pair in over {
            if let Some(open) = self.open.remove(&pair) {
                self.remember_end(pair, now);
                told.push(closed(pair, &open, now_ns));
            }
        }
        // The others are known to the table by now.
        let handed = self.handed.drain().filter(|(pair, _)| !connected.contains(pair));
        told.extend(handed.map(|(pair, open)| closed(pair, &open, now_ns)));
        told
    }
}

fn begun(transport: &str, pair: Pair, pid: u32, is_ingress: bool) -> Told {
    let (event_type, direction) = match is_ingress {
        true => (EventType::NetworkAccept, "ingress"),
        false => (EventType::NetworkConnect, "egress"),
    };
    let mut fields = ends(transport, pair, is_ingress);
    fields.push((Field::NetworkDirection, Value::Text(direction.to_owned())));
    activity(event_type, pid, fields)
}

fn closed(pair: Pair, open: &Open, at_ns: u64) -> Told {
    let number = |number: u64| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    let (of_source, of_destination) = match open.is_ingress {
        true => (open.received, open.sent),
        false => (open.sent, open.received),
    };
    let mut fields = ends("tcp", pair, open.is_ingress);
    fields.push((Field::SourceBytes, number(of_source)));
    fields.push((Field::DestinationBytes, number(of_destination)));
    fields.push((Field::EventDuration, number(at_ns.saturating_sub(open.begun_ns))));
    activity(EventType::NetworkClose, open.pid, fields)
}

/// The source is who opened it.
fn ends(transport: &str, pair: Pair, is_ingress: bool) -> Vec<(Field, Value)> {
    let Pair { local: from, peer: to } = if is_ingress { pair.turned() } else { pair };
    let family = if from.0.is_ipv4() { "ipv4" } else { "ipv6" };
    vec![
        (Field::SourceAddress, Value::Text(from.0.to_string())),
        (Field::SourcePort, Value::Integer(from.1.into())),
        (Field::DestinationAddress, Value::Text(to.0.to_string())),
        (Field::DestinationPort, Value::Integer(to.1.into())),
        (Field::NetworkTransport, Value::Text(transport.to_owned())),
        (Field::NetworkType, Value::Text(family.to_owned())),
    ]
}

fn activity(event_type: EventType, pid: u32, mut fields: Vec<(Field, Value)>) -> Told {
    fields.push((Field::EventProvider, Value::Text(TRACED.to_owned())));
    ObservedActivity { event_type, actor: (pid != 0).then_some(Actor::Pid(pid)), target: None, fields }
}

#[cfg(test)]
mod tests {
    use super::super::change::{Changes, Kind, Row};
    use super::*;

    const NEAR: &str = "10.0.0.1:50000";
    const FAR: &str = "192.0.2.7:443";

    fn segment(what: What, bytes: u64, at_ns: u64) -> Segment {
        Segment { what, pid: 7, bytes, local: NEAR.parse().unwrap(), peer: FAR.parse().unwrap(), at_ns }
    }

    fn row(kind: Kind) -> Row {
        let (local, peer) = (NEAR.parse().unwrap(), Some(FAR.parse().unwrap()));
        Row { transport: "tcp", kind, local, peer, pid: 7 }
    }

    /// What was told: its type, and by whom.
    fn words<'a>(told: impl IntoIterator<Item = &'a Told>) -> Vec<(EventType, String)> {
        let word = |one: &Told| (one.event_type, text(one, Field::EventProvider));
        told.into_iter().map(word).collect()
    }

    fn text(told: &Told, wanted: Field) -> String {
        let found = told.fields.iter().find_map(|(field, value)| match value {
            Value::Text(text) if *field == wanted => Some(text.clone()),
            Value::Integer(number) if *field == wanted => Some(number.to_string()),
            _ => None,
        });
        found.unwrap_or_default()
    }

    fn by(who: &str, event_types: &[EventType]) -> Vec<(EventType, String)> {
        event_types.iter().map(|one| (*one, who.to_owned())).collect()
    }

    /// Event tracing, and a table that was looked at once and had nothing.
    fn traced(now: Instant) -> (Ledger, Changes) {
        let (mut ledger, mut changes) = (Ledger::default(), Changes::default());
        ledger.tracing_begins();
        assert_eq!(changes.look(&[], &mut ledger, 0, now), []);
        (ledger, changes)
    }

    #[test]
    fn what_tracing_tells_has_its_bytes_and_is_not_told_by_the_table() {
        let now = Instant::now();
        let (mut ledger, mut changes) = traced(now);
        let begun = ledger.hear(&segment(What::Connected, 0, 1_000), now);
        assert_eq!(words(&begun), by("etw", &[EventType::NetworkConnect]));
        assert_eq!(begun.as_ref().unwrap().actor, Some(Actor::Pid(7)));
        assert_eq!(changes.look(&[row(Kind::Connected)], &mut ledger, 0, now), []);
        for (what, bytes) in [(What::Sent, 100), (What::Received, 300), (What::Sent, 11)] {
            assert_eq!(ledger.hear(&segment(what, bytes, 2_000), now), None);
        }
        assert_eq!(changes.look(&[], &mut ledger, 0, now), [], "its end is still on its way");
        let closed = ledger.hear(&segment(What::Closed, 0, 5_000), now).unwrap();
        assert_eq!(words([&closed]), by("etw", &[EventType::NetworkClose]));
        let expected = [
            (Field::SourceAddress, "10.0.0.1"),
            (Field::SourcePort, "50000"),
            (Field::DestinationAddress, "192.0.2.7"),
            (Field::DestinationPort, "443"),
            (Field::SourceBytes, "111"),
            (Field::DestinationBytes, "300"),
            (Field::EventDuration, "4000"),
        ];
        for (field, value) in expected {
            assert_eq!(text(&closed, field), value, "{field:?}");
        }
        for shown in [&[row(Kind::Over)][..], &[]] {
            assert_eq!(changes.look(shown, &mut ledger, 0, now + GRACE), []);
        }
    }

    #[test]
    fn what_is_accepted_has_the_other_end_as_its_source() {
        let now = Instant::now();
        let (mut ledger, _) = traced(now);
        let begun = ledger.hear(&segment(What::Accepted, 0, 0), now).unwrap();
        assert_eq!(begun.event_type, EventType::NetworkAccept);
        assert_eq!(text(&begun, Field::NetworkDirection), "ingress");
        assert_eq!(text(&begun, Field::SourceAddress), "192.0.2.7");
        assert_eq!(ledger.hear(&segment(What::Sent, 9, 0), now), None);
        let closed = ledger.hear(&segment(What::Closed, 0, 0), now).unwrap();
        assert_eq!(text(&closed, Field::DestinationBytes), "9", "this host is the destination");
        assert_eq!(text(&closed, Field::SourceBytes), "0");
    }

    #[test]
    fn what_tracing_does_not_tell_in_time_the_table_does_and_tracing_not_any_more() {
        let now = Instant::now();
        let (mut ledger, mut changes) = traced(now);
        assert_eq!(
            changes.look(&[row(Kind::Connected)], &mut ledger, 0, now),
            [],
            "tracing may still tell it"
        );
        let told = changes.look(&[row(Kind::Connected)], &mut ledger, 0, now + GRACE);
        assert_eq!(words(&told), by("socket_table", &[EventType::NetworkConnect]));
        assert_eq!(ledger.hear(&segment(What::Connected, 0, 0), now + GRACE), None, "late");
        assert_eq!(ledger.hear(&segment(What::Closed, 0, 0), now + GRACE), None);
        let told = changes.look(&[], &mut ledger, 0, now + GRACE);
        assert_eq!(words(&told), by("socket_table", &[EventType::NetworkClose]));
        // One that is gone before its time is over is told whole.
        assert_eq!(changes.look(&[row(Kind::Connected)], &mut ledger, 0, now), []);
        assert_eq!(changes.look(&[], &mut ledger, 0, now), []);
        let told = changes.look(&[], &mut ledger, 0, now + GRACE);
        assert_eq!(words(&told), by("socket_table", &[EventType::NetworkConnect, EventType::NetworkClose]));
        assert_eq!(changes.look(&[], &mut ledger, 0, now + GRACE), []);
    }

    #[test]
    fn what_was_there_before_is_the_tables_to_end() {
        let now = Instant::now();
        let (mut ledger, mut changes) = (Ledger::default(), Changes::default());
        ledger.tracing_begins();
        assert_eq!(changes.look(&[row(Kind::Connected)], &mut ledger, 0, now), []);
        assert_eq!(ledger.hear(&segment(What::Sent, 5, 0), now), None);
        assert_eq!(ledger.hear(&segment(What::Closed, 0, 0), now), None);
        let told = changes.look(&[], &mut ledger, 0, now);
        assert_eq!(words(&told), by("socket_table", &[EventType::NetworkClose]));
    }

    #[test]
    fn an_end_that_tracing_lost_is_told_when_the_table_has_nothing_of_it_any_more() {
        let now = Instant::now();
        let (mut ledger, mut changes) = traced(now);
        assert!(ledger.hear(&segment(What::Connected, 0, 0), now).is_some());
        for kind in [Kind::Connected, Kind::Closing] {
            assert_eq!(changes.look(&[row(kind)], &mut ledger, 0, now + GRACE), []);
        }
        assert_eq!(changes.look(&[], &mut ledger, 0, now + GRACE), []);
        let told = changes.look(&[], &mut ledger, 0, now + GRACE * 2);
        assert_eq!(words(&told), by("etw", &[EventType::NetworkClose]));
        assert_eq!(ledger.hear(&segment(What::Closed, 0, 0), now + GRACE * 2), None);
        assert_eq!(changes.look(&[], &mut ledger, 0, now + GRACE * 3), []);
    }

    #[test]
    fn when_tracing_ends_the_table_takes_over_what_is_open() {
        for is_shown_before in [true, false] {
            let now = Instant::now();
            let (mut ledger, mut changes) = traced(now);
            assert!(ledger.hear(&segment(What::Connected, 0, 0), now).is_some());
            let short = Segment { local: "10.0.0.1:50001".parse().unwrap(), ..segment(What::Accepted, 0, 0) };
            assert!(ledger.hear(&short, now).is_some());
            if is_shown_before {
                assert_eq!(changes.look(&[row(Kind::Connected)], &mut ledger, 0, now), []);
            }
            ledger.tracing_ends();
            let told = changes.look(&[row(Kind::Connected)], &mut ledger, 0, now);
            assert_eq!(words(&told), by("etw", &[EventType::NetworkClose]), "of the short one alone");
            assert_eq!(text(&told[0], Field::DestinationPort), "50001");
            let told = changes.look(&[], &mut ledger, 0, now);
            assert_eq!(words(&told), by("socket_table", &[EventType::NetworkClose]));
            // And what comes now is the table's at once.
            let told = changes.look(&[row(Kind::Connected)], &mut ledger, 0, now);
            assert_eq!(words(&told), by("socket_table", &[EventType::NetworkConnect]));
        }
    }

    #[test]
    fn of_datagrams_between_two_ends_the_first_is_told() {
        let now = Instant::now();
        let (mut ledger, _) = traced(now);
        let first = ledger.hear(&segment(What::DatagramSent, 40, 0), now).unwrap();
        assert_eq!((first.event_type, first.actor), (EventType::NetworkConnect, Some(Actor::Pid(7))));
        assert_eq!(text(&first, Field::NetworkTransport), "udp");
        let turned = |what| Segment {
            local: FAR.parse().unwrap(),
            peer: NEAR.parse().unwrap(),
            ..segment(what, 1, 0)
        };
        for known in [
            segment(What::DatagramSent, 1, 0),
            segment(What::DatagramReceived, 1, 0),
            turned(What::DatagramReceived),
        ] {
            assert_eq!(ledger.hear(&known, now), None, "{known:?}");
        }
        let later = ledger.hear(&segment(What::DatagramReceived, 1, 0), now + FLOW_OVER).unwrap();
        assert_eq!(later.event_type, EventType::NetworkAccept, "another flow, begun by the other side");
        assert_eq!(text(&later, Field::SourceAddress), "192.0.2.7");
    }
}
