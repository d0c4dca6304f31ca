//! The table of sockets, looked at again and again.

use std::time::{Duration, Instant};

use event_model::{EventType, GapReason};
use sensor_api::{ObservationSender, ObservedLoss, Provision, Source, StopSignal, boot_ns};
use win32::network::{Protocol, Socket, sockets};

use super::change::{Changes, Kind, Row};
use super::trace::Shared;

/// Looks are never nearer together, and farther apart where they are dear.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const COST_SHARE: u32 = 100;

/// States of TCP (MIB_TCP_STATE): a connection that is being opened, that stands, whose peer has closed; that this
/// host has closed, or both; and one that is over and only remembered.
const SYN_SENT: u32 = 3;
const ESTABLISHED: u32 = 5;
const FIN_WAIT_1: u32 = 6;
const FIN_WAIT_2: u32 = 7;
const CLOSE_WAIT: u32 = 8;
const CLOSING: u32 = 9;
const LAST_ACK: u32 = 10;
const TIME_WAIT: u32 = 11;

const MADE: [EventType; 4] =
    [EventType::NetworkConnect, EventType::NetworkAccept, EventType::NetworkClose, EventType::NetworkListen];

/// The source of connections where there is no event tracing, of those that it does not tell, and of listening sockets.
pub struct ConnectionTable {
    changes: Changes,
    shared: Shared,
    /// Why event tracing tells of none, where it does not.
    untraced: Option<String>,
}

impl ConnectionTable {
    /// What event tracing tells is in the ledger; it tells of none for the reason `untraced`.
    pub(crate) fn new(shared: Shared, untraced: Option<String>) -> Self {
        Self { changes: Changes::default(), shared, untraced }
    }
}

impl Source for ConnectionTable {
    fn name(&self) -> &'static str {
        "socket_table"
    }

    fn provisions(&self) -> Vec<Provision> {
        let missing = sockets().err().map(|error| format!("the table of sockets can't be read: {error}"));
        let source = match &self.untraced {
            None => "socket_table (listening sockets, and connections that event tracing does not tell)"
                .to_owned(),
            Some(why) => format!(
                "socket_table (each 250 ms or more; what is over sooner is seen without its process: {why})"
            ),
        };
        let provision =
            |event_type| Provision { event_type, source: source.clone(), missing: missing.clone() };
        MADE.into_iter().map(provision).collect()
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        let (mut failed_since, mut read_to_ns) = (None, boot_ns());
        loop {
            let begun = Instant::now();
            match sockets() {
                Ok(all) => {
                    let rows: Vec<Row> = all.iter().filter_map(row).collect();
                    let now = boot_ns();
                    if let Some(since) = failed_since.take() {
                        for event_type in MADE {
                            sender.lost(lost(event_type, None, since, now));
                        }
                    }
                    let (told, untold) = {
                        let mut ledger = self.shared.ledger();
                        let told = self.changes.look(&rows, &mut ledger, now, begun);
                        (told, std::mem::take(&mut ledger.unknown))
                    };
                    for told in told {
                        sender.send(now, told);
                    }
                    let unknown = std::mem::take(&mut self.changes.unknown) + untold;
                    if unknown > 0 {
                        sender.lost(lost(EventType::NetworkConnect, Some(unknown), read_to_ns, now));
                    }
                    read_to_ns = now;
                }
                Err(error) => {
                    if failed_since.is_none() {
                        tracing::warn!(%error, "the table of sockets can't be read");
                    }
                    failed_since.get_or_insert(read_to_ns);
                }
            }
            if stop.asked_within((begun.elapsed() * COST_SHARE).max(LOOK_EVERY)) {
                return;
            }
        }
    }
}

fn lost(event_type: EventType, count: Option<u64>, from_ns: u64, until_ns: u64) -> ObservedLoss {
    ObservedLoss { reason: GapReason::QueueFull, what: event_type.as_str(), count, from_ns, until_ns }
}

fn row(socket: &Socket) -> Option<Row> {
    let transport = match socket.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let kind = match socket.state {
        _ if socket.listens() || socket.protocol == Protocol::Udp => Kind::Listens,
        SYN_SENT | ESTABLISHED | CLOSE_WAIT => Kind::Connected,
        FIN_WAIT_1 | FIN_WAIT_2 | CLOSING | LAST_ACK => Kind::Closing,
        TIME_WAIT => Kind::Over,
        _ => return None,
    };
    Some(Row { transport, kind, local: socket.local, peer: socket.peer, pid: socket.pid })
}
