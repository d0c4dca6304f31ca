//! What the agent needs to go on after a crash, kept beside each spooled batch:
//! the counters of the boot, the forks that were not told yet, and the youngest
//! processes, which may be gone before the next agent can look at them.

use event_model::HostId;
use sensor_api::{ObservedFork, ProcessKey};
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::process_table::{WaitingFork, YoungProcess};

/// Cumulative figures of a boot that can't be told from the sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Numbered records that were dropped.
    pub dropped: u64,
    /// Observations that never reached the agent.
    pub kernel_lost: u64,
}

/// What an agent leaves to the next one of the same boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// As which host the records were numbered.
    pub host_id: Option<HostId>,
    /// The counters.
    pub counters: Counters,
    /// The account by kind.
    pub account: Account,
    /// Forks that were not told.
    pub waiting: Vec<WaitingFork>,
    /// Processes that started lately.
    pub young: Vec<YoungProcess>,
}

/// A PID and a start.
type Key = (u32, u64);

#[derive(Default, Serialize, Deserialize)]
struct Stored {
    #[serde(default)]
    host_id: Option<HostId>,
    counters: Counters,
    #[serde(default)]
    account: Account,
    /// Child, parent, time.
    forks: Vec<(Key, Key, u64)>,
    #[serde(default)]
    young: Vec<StoredProcess>,
}

#[derive(Serialize, Deserialize)]
struct StoredProcess {
    key: Key,
    parent: Option<Key>,
    executable: String,
    command_line: String,
    /// Real, effective and group id.
    ids: (u32, u32, u32),
    user: Option<String>,
}

impl Note {
    /// As bytes, so many at most. Where it is too much, young processes are left out: whoever starts many with long
    /// paths costs their ends their names after a crash, and nothing else.
    pub fn encode(&self, most: usize) -> Vec<u8> {
        let (mut young, mut waiting) = (self.young.len(), self.waiting.len());
        loop {
            let bytes = self.encode_some(waiting, young);
            if bytes.len() <= most || (young == 0 && waiting == 0) {
                return bytes;
            }
            match young {
                0 => waiting /= 2,
                _ => young /= 2,
            }
        }
    }

    fn encode_some(&self, waiting: usize, young: usize) -> Vec<u8> {
        let key = |key: ProcessKey| (key.pid, key.start_ns);
        let forks = self.waiting.iter().take(waiting);
        let young = self.young.iter().take(young).map(|process| StoredProcess {
            key: key(process.key),
            parent: process.parent.map(key),
            executable: process.executable.clone(),
            command_line: process.command_line.clone(),
            ids: (process.user.id, process.user.effective_id, process.user.group_id),
            user: process.user.name.clone(),
        });
        let stored = Stored {
            host_id: self.host_id,
            counters: self.counters,
            account: self.account.clone(),
            forks: forks.map(|one| (key(one.fork.child), key(one.fork.parent), one.at_ns)).collect(),
            young: young.collect(),
        };
        // Numbers and texts always make JSON.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// From bytes; nothing of a note that can't be read.
    pub fn decode(bytes: &[u8]) -> Self {
        let stored: Stored = serde_json::from_slice(bytes).unwrap_or_default();
        let key = |(pid, start_ns): Key| ProcessKey { pid, start_ns };
        let forks = stored.forks.into_iter();
        let young = stored.young.into_iter().map(|process| YoungProcess {
            key: key(process.key),
            parent: process.parent.map(key),
            executable: process.executable,
            command_line: process.command_line,
            user: event_model::User {
                id: process.ids.0,
                effective_id: process.ids.1,
                group_id: process.ids.2,
                name: process.user,
                ..event_model::User::default()
            },
        });
        Self {
            host_id: stored.host_id,
            counters: stored.counters,
            account: stored.account,
            waiting: forks
                .map(|(child, parent, at_ns)| WaitingFork {
                    fork: ObservedFork { child: key(child), parent: key(parent) },
                    at_ns,
                })
                .collect(),
            young: young.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_rubbish_does_no_harm() {
        let key = |pid| ProcessKey { pid, start_ns: 5 };
        let start = event_model::RecordKind::Event(event_model::EventType::ProcessStart);
        let mut account = Account::default();
        account.produce(start, 9);
        account.lose(start, event_model::GapReason::Budget, 2);
        let note = Note {
            host_id: Some(HostId::from_uuid(uuid::Uuid::from_u128(5))),
            counters: Counters { dropped: 3, kernel_lost: u64::MAX },
            account,
            waiting: vec![WaitingFork { fork: ObservedFork { child: key(7), parent: key(1) }, at_ns: 9 }],
            young: vec![YoungProcess {
                key: key(8),
                parent: Some(key(1)),
                executable: "/bin/ls".into(),
                command_line: "ls \"a b\"".into(),
                user: event_model::User { id: 1, name: Some("anna".into()), ..event_model::User::default() },
            }],
        };
        let bytes = note.encode(1 << 20);
        assert_eq!(Note::decode(&bytes), note);
        for length in 0..bytes.len() {
            assert_eq!(Note::decode(&bytes[..length]), Note::default());
        }
    }

    #[test]
    fn what_is_too_much_is_left_out_and_the_figures_stay() {
        let key = |pid| ProcessKey { pid, start_ns: 5 };
        // In JSON, one such byte takes six.
        let young = |pid| YoungProcess {
            key: key(pid),
            parent: None,
            executable: "\u{1}".repeat(4_096),
            command_line: "\u{1}".repeat(512),
            user: event_model::User::default(),
        };
        let note = Note {
            host_id: None,
            counters: Counters { dropped: 3, kernel_lost: 4 },
            account: Account::default(),
            waiting: vec![WaitingFork { fork: ObservedFork { child: key(7), parent: key(1) }, at_ns: 9 }],
            young: (0..256).map(young).collect(),
        };
        let bytes = note.encode(1 << 20);
        assert!(bytes.len() <= 1 << 20);
        let left = Note::decode(&bytes);
        assert_eq!((left.counters, &left.waiting), (note.counters, &note.waiting));
        assert!(!left.young.is_empty());
        assert_eq!(Note::decode(&note.encode(200)).counters, note.counters);
    }
}
