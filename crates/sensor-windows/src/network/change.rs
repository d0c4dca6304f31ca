//! What differs between two looks at the table of sockets.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Instant;

use event_model::{EventType, Field, Value};
use sensor_api::{Actor, ObservedActivity};

use super::ledger::{GRACE, Ledger, Pair};

/// Sockets that are remembered.
const MOST_KNOWN: usize = 262_144;

/// Ports from here on are given to whoever asks for any.
const EPHEMERAL: u16 = 49_152;

/// What a socket is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It waits for connections; UDP: it is bound.
    Listens,
    /// It is connected, or about to be.
    Connected,
    /// One side has closed its connection, and the other may still send.
    Closing,
    /// Its connection is over, and nobody owns it any more.
    Over,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// What it is doing.
    pub kind: Kind,
    /// Where it is.
    pub local: SocketAddr,
    /// Where it leads.
    pub peer: Option<SocketAddr>,
    /// Its owner.
    pub pid: u32,
}

impl Row {
    fn key(&self) -> Key {
        (self.transport, self.local, self.peer)
    }
}

/// The ends of a connection of TCP, as the ledger has them.
fn pair_of((transport, local, peer): &Key) -> Option<Pair> {
    peer.filter(|_| *transport == "tcp").map(|peer| Pair::new(*local, peer))
}

type Key = (&'static str, SocketAddr, Option<SocketAddr>);

struct Known {
    kind: Kind,
    pid: u32,
    ingress: bool,
}

/// An event to be told.
pub type Told = ObservedActivity;

/// A connection that event tracing should tell of.
struct Waiting {
    row: Row,
    ingress: bool,
    since: Instant,
}

/// The table as it was seen last.
#[derive(Default)]
pub struct Changes {
    known: HashMap<Key, Known>,
    waiting: HashMap<Key, Waiting>,
    begun: bool,
    /// Sockets that found no room, in all.
    pub unknown: u64,
}

impl Changes {
    /// What a new look shows, at `now_ns` since boot. The first one only fills the table. What event tracing tells,
    /// by the ledger, is not told once more, and it has a moment to do so.
    pub fn look(&mut self, rows: &[Row], ledger: &mut Ledger, now_ns: u64, now: Instant) -> Vec<Told> {
        let listening: HashSet<(&str, u16)> = rows
            .iter()
            .filter(|row| row.kind == Kind::Listens)
            .map(|row| (row.transport, row.local.port()))
            .collect();
        let mut told = Vec::new();
        let is_there = |row: &&Row| matches!(row.kind, Kind::Listens | Kind::Connected);
        let there: HashSet<Key> = rows.iter().filter(is_there).map(Row::key).collect();
        let lingers = |row: &&Row| matches!(row.kind, Kind::Closing | Kind::Over);
        let lingering: HashSet<Key> = rows.iter().filter(lingers).map(Row::key).collect();
        self.known.retain(|key, known| {
            if there.contains(key) || (known.kind == Kind::Over && lingering.contains(key)) {
                return true;
            }
            let is_own =
                known.kind == Kind::Connected && pair_of(key).is_none_or(|pair| ledger.ends_in_table(&pair));
            if is_own {
                told.push(ends(key, known));
            }
            // It is not told once more while the system remembers it.
            known.kind = Kind::Over;
            lingering.contains(key)
        });
        self.end_waiting(&there, ledger, now, &mut told);
        for row in rows {
            let key = row.key();
            let is_seen = self.known.contains_key(&key) || self.waiting.contains_key(&key);
            if is_seen || row.kind == Kind::Closing {
                continue;
            }
            if self.known.len() + self.waiting.len() >= MOST_KNOWN {
                self.unknown += 1;
                continue;
            }
            let ingress = listening.contains(&(row.transport, row.local.port()));
            let pair = pair_of(&key);
            let is_left_to_tracing = pair.is_some() && ledger.is_traced();
            let is_news = self.begun && pair.is_none_or(|pair| !ledger.is_told(&pair));
            if is_news && is_left_to_tracing && row.kind == Kind::Connected {
                self.waiting.insert(key, Waiting { row: *row, ingress, since: now });
                continue;
            }
            let known = Known { kind: row.kind, pid: row.pid, ingress };
            // What is over already was told by tracing, and may be forgotten by now.
            if is_news && !is_left_to_tracing {
                told.extend(begins(row, &known));
                if let Some(pair) = pair.filter(|_| row.kind == Kind::Connected) {
                    ledger.told_by_table(pair);
                }
            }
            self.known.insert(key, known);
        }
        self.begun = true;
        let pairs = |is_wanted: fn(Kind) -> bool| -> HashSet<Pair> {
            let wanted = rows.iter().filter(|row| is_wanted(row.kind));
            wanted.filter_map(|row| pair_of(&row.key())).collect()
        };
        let (connected, shown) = (pairs(|kind| kind == Kind::Connected), pairs(|kind| kind != Kind::Over));
        told.extend(ledger.looked(&connected, &shown, now_ns, now));
        told
    }

    /// What waited for event tracing is told by it by now, or is the table's to tell.
    fn end_waiting(&mut self, there: &HashSet<Key>, ledger: &mut Ledger, now: Instant, told: &mut Vec<Told>) {
        let known = &mut self.known;
        self.waiting.retain(|key, one| {
            let Some(pair) = pair_of(key) else { return false };
            let is_told = ledger.is_told(&pair);
            let has_time = now.saturating_duration_since(one.since) < GRACE;
            if !is_told && ledger.is_traced() && has_time {
                return true;
            }
            let new = Known { kind: Kind::Connected, pid: one.row.pid, ingress: one.ingress };
            if !is_told {
                told.extend(begins(&one.row, &new));
            }
            if there.contains(key) {
                if !is_told {
                    ledger.told_by_table(pair);
                }
                known.insert(*key, new);
            } else if !is_told {
                told.push(ends(key, &new));
            }
            false
        });
    }
}

fn begins(row: &Row, known: &Known) -> Option<Told> {
    let Some(peer) = row.peer else {
        // Whoever asks over UDP is bound for a moment, to a port that was free.
        let asks = row.transport == "udp" && row.local.port() >= EPHEMERAL;
        return (!asks)
            .then(|| activity(EventType::NetworkListen, row.pid, ends_of(row.transport, row.local, None)));
    };
    let (event_type, from, to, direction) = match known.ingress {
        true => (EventType::NetworkAccept, peer, row.local, "ingress"),
        false => (EventType::NetworkConnect, row.local, peer, "egress"),
    };
    let mut fields = ends_of(row.transport, from, Some(to));
    fields.push((Field::NetworkDirection, Value::Text(direction.to_owned())));
    if row.kind == Kind::Over {
        let why = vec!["process: the connection was over before it was looked at".to_owned()];
        fields.push((Field::EventIncomplete, Value::TextList(why)));
    }
    Some(activity(event_type, row.pid, fields))
}

fn ends((transport, local, peer): &Key, known: &Known) -> Told {
    let (from, to) = match (peer, known.ingress) {
        (Some(peer), true) => (*peer, Some(*local)),
        (peer, _) => (*local, *peer),
    };
    activity(EventType::NetworkClose, known.pid, ends_of(transport, from, to))
}

fn activity(event_type: EventType, pid: u32, mut fields: Vec<(Field, Value)>) -> Told {
    fields.push((Field::EventProvider, Value::Text("socket_table".to_owned())));
    ObservedActivity { event_type, actor: (pid != 0).then_some(Actor::Pid(pid)), target: None, fields }
}

fn ends_of(transport: &str, from: SocketAddr, to: Option<SocketAddr>) -> Vec<(Field, Value)> {
    let address = |end: SocketAddr| Value::Text(end.ip().to_canonical().to_string());
    let port = |end: SocketAddr| Value::Integer(end.port().into());
    let family = if from.ip().to_canonical().is_ipv4() { "ipv4" } else { "ipv6" };
    let mut fields = vec![
        (Field::SourceAddress, address(from)),
        (Field::SourcePort, port(from)),
        (Field::NetworkTransport, Value::Text(transport.to_owned())),
        (Field::NetworkType, Value::Text(family.to_owned())),
    ];
    if let Some(to) = to {
        fields.push((Field::DestinationAddress, address(to)));
        fields.push((Field::DestinationPort, port(to)));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: Kind, local: &str, peer: Option<&str>, pid: u32) -> Row {
        let peer = peer.map(|peer| peer.parse().unwrap());
        Row { transport: "tcp", kind, local: local.parse().unwrap(), peer, pid }
    }

    /// A look where there is no event tracing.
    fn look(changes: &mut Changes, rows: &[Row]) -> Vec<Told> {
        changes.look(rows, &mut Ledger::default(), 0, Instant::now())
    }

    fn words(told: &[Told]) -> Vec<(EventType, Option<u32>)> {
        told.iter().map(|one| (one.event_type, one.actor.map(Actor::pid))).collect()
    }

    #[test]
    fn what_comes_and_goes_is_told_once_with_its_owner_and_direction() {
        let listener = row(Kind::Listens, "0.0.0.0:80", None, 1);
        let mut changes = Changes::default();
        assert_eq!(look(&mut changes, &[listener]), [], "what was there before is not told");
        let incoming = row(Kind::Connected, "10.0.0.1:80", Some("10.0.0.9:5000"), 1);
        let outgoing = row(Kind::Connected, "10.0.0.1:50000", Some("10.0.0.7:443"), 2);
        let other = row(Kind::Listens, "[::]:8080", None, 3);
        let told = look(&mut changes, &[listener, incoming, outgoing, other]);
        let expected = [
            (EventType::NetworkAccept, Some(1)),
            (EventType::NetworkConnect, Some(2)),
            (EventType::NetworkListen, Some(3)),
        ];
        assert_eq!(words(&told), expected);
        assert!(told[0].fields.contains(&(Field::SourceAddress, Value::Text("10.0.0.9".to_owned()))));
        assert_eq!(look(&mut changes, &[listener, incoming, outgoing, other]), []);
        let over = row(Kind::Over, "10.0.0.1:50000", Some("10.0.0.7:443"), 0);
        let told = look(&mut changes, &[listener, over, other]);
        let mut closed = words(&told);
        closed.sort();
        assert_eq!(closed, [(EventType::NetworkClose, Some(1)), (EventType::NetworkClose, Some(2))]);
        assert_eq!(
            look(&mut changes, &[listener, over, other]),
            [],
            "what the system still remembers is no news"
        );
    }

    #[test]
    fn a_connection_that_is_closed_by_one_side_first_is_told_once() {
        let mut changes = Changes::default();
        look(&mut changes, &[]);
        let at = |kind| row(kind, "10.0.0.1:50000", Some("10.0.0.7:443"), 2);
        assert_eq!(
            words(&look(&mut changes, &[at(Kind::Connected)])),
            [(EventType::NetworkConnect, Some(2))]
        );
        assert_eq!(words(&look(&mut changes, &[at(Kind::Closing)])), [(EventType::NetworkClose, Some(2))]);
        assert_eq!(look(&mut changes, &[at(Kind::Closing)]), []);
        assert_eq!(look(&mut changes, &[at(Kind::Over)]), [], "the same one, a moment later");
        assert_eq!(look(&mut changes, &[]), []);
    }

    #[test]
    fn a_connection_that_was_over_before_the_look_is_told_without_an_owner() {
        let mut changes = Changes::default();
        look(&mut changes, &[]);
        let told = look(&mut changes, &[row(Kind::Over, "10.0.0.1:50000", Some("10.0.0.7:443"), 0)]);
        assert_eq!(words(&told), [(EventType::NetworkConnect, None)]);
        assert!(told[0].fields.iter().any(|(field, _)| *field == Field::EventIncomplete));
        assert_eq!(look(&mut changes, &[]), [], "its end was never a connection's");
    }
}
