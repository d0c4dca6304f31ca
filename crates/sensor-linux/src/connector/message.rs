//! Messages of the proc connector: a netlink header (16 bytes), a connector header
//! (20 bytes), a process event.

use crate::record::{u32_at, u64_at};

/// The multicast group of process events, and the connector's index of them.
pub(super) const GROUP: u32 = 1;
const VALUE: u32 = 1;

const NLMSG_DONE: u16 = 3;
const LISTEN: u32 = 1;
const CONNECTOR_AT: usize = 16;
const EVENT_AT: usize = 36;
const DATA_AT: usize = EVENT_AT + 16;

const EVENT_NONE: u32 = 0;
const EVENT_FORK: u32 = 1;
const EVENT_EXEC: u32 = 2;
const EVENT_EXIT: u32 = 0x8000_0000;

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// To the request to listen; an errno or 0.
    Answer(u32),
    /// A process was forked.
    Fork { parent: u32, child: u32 },
    /// A process runs a new image.
    Exec { pid: u32 },
    /// A thread ended.
    Exit { pid: u32, thread: u32, wait_status: u32 },
    /// Of no interest here, a new thread for example.
    Other,
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    /// Nanoseconds since boot, suspend not counted.
    pub(super) monotonic_ns: u64,
    pub(super) what: What,
}

impl Message {
    /// `None` for what is no process event.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let is_process_event =
            u32_at(bytes, CONNECTOR_AT).ok()? == GROUP && u32_at(bytes, CONNECTOR_AT + 4).ok()? == VALUE;
        if !is_process_event {
            return None;
        }
        let data = |index: usize| u32_at(bytes, DATA_AT + 4 * index).ok();
        let what = match u32_at(bytes, EVENT_AT).ok()? {
            EVENT_NONE => What::Answer(data(0)?),
            // Fields: parent's thread, parent, child's thread, child.
            EVENT_FORK if data(2)? == data(3)? => What::Fork { parent: data(1)?, child: data(3)? },
            EVENT_EXEC => What::Exec { pid: data(1)? },
            EVENT_EXIT => What::Exit { thread: data(0)?, pid: data(1)?, wait_status: data(2)? },
            _ => What::Other,
        };
        Some(Self { monotonic_ns: u64_at(bytes, EVENT_AT + 8).ok()?, what })
    }
}

/// The request for events.
pub(super) fn listen(own_pid: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    bytes.extend(40_u32.to_ne_bytes());
    bytes.extend(NLMSG_DONE.to_ne_bytes());
    bytes.extend(0_u16.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(own_pid.to_ne_bytes());
    for word in [GROUP, VALUE, 0, 0] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(4_u16.to_ne_bytes());
    bytes.extend(0_u16.to_ne_bytes());
    bytes.extend(LISTEN.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: u32, data: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        for word in [GROUP, VALUE, 0, 0, 0, event, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(77_u64.to_ne_bytes());
        bytes.extend(data.iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn events_are_told_apart_and_threads_are_no_processes() {
        let what = |event, data: &[u32]| Message::read(&message(event, data)).map(|message| message.what);
        assert_eq!(what(EVENT_FORK, &[11, 10, 20, 20]), Some(What::Fork { parent: 10, child: 20 }));
        assert_eq!(what(EVENT_FORK, &[11, 10, 21, 10]), Some(What::Other));
        assert_eq!(what(EVENT_EXEC, &[21, 20]), Some(What::Exec { pid: 20 }));
        assert_eq!(
            what(EVENT_EXIT, &[21, 20, 256, 17]),
            Some(What::Exit { pid: 20, thread: 21, wait_status: 256 })
        );
        assert_eq!(what(EVENT_EXEC, &[21]), None, "a message that was cut");
        assert_eq!(Message::read(&[]), None);
    }
}
