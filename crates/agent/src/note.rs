//! What the agent needs to go on after a crash, kept beside each spooled batch:
//! the counters of the boot, and the forks that were not told yet.

use sensor_api::{ObservedFork, ProcessKey};

use crate::process_table::WaitingFork;

const VERSION: u8 = 1;

/// Cumulative figures of a boot that can't be told from the sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Numbered records that were dropped.
    pub dropped: u64,
    /// Observations that never reached the agent.
    pub kernel_lost: u64,
}

/// As bytes.
pub fn encode(counters: Counters, waiting: impl Iterator<Item = WaitingFork>) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&counters.dropped.to_le_bytes());
    bytes.extend_from_slice(&counters.kernel_lost.to_le_bytes());
    for WaitingFork { fork, at_ns } in waiting {
        for number in [
            u64::from(fork.child.pid),
            fork.child.start_ns,
            u64::from(fork.parent.pid),
            fork.parent.start_ns,
            at_ns,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    bytes
}

/// From bytes; of a note that can't be read, as much as can be.
pub fn decode(bytes: &[u8]) -> (Counters, Vec<WaitingFork>) {
    let Some((&VERSION, rest)) = bytes.split_first() else { return Default::default() };
    let numbers: Vec<u64> =
        rest.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default())).collect();
    let [dropped, kernel_lost, forks @ ..] = numbers.as_slice() else { return Default::default() };
    let key = |pid: u64, start_ns| Some(ProcessKey { pid: u32::try_from(pid).ok()?, start_ns });
    let waiting = forks.chunks_exact(5).filter_map(|numbers| {
        let &[child_pid, child_start, parent_pid, parent_start, at_ns] = numbers else { return None };
        let fork =
            ObservedFork { child: key(child_pid, child_start)?, parent: key(parent_pid, parent_start)? };
        Some(WaitingFork { fork, at_ns })
    });
    (Counters { dropped: *dropped, kernel_lost: *kernel_lost }, waiting.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_rubbish_does_no_harm() {
        let counters = Counters { dropped: 3, kernel_lost: u64::MAX };
        let fork = |pid| ObservedFork {
            child: ProcessKey { pid, start_ns: 5 },
            parent: ProcessKey { pid: 1, start_ns: 2 },
        };
        let waiting = vec![WaitingFork { fork: fork(7), at_ns: 9 }, WaitingFork { fork: fork(8), at_ns: 10 }];
        let bytes = encode(counters, waiting.iter().copied());
        assert_eq!(decode(&bytes), (counters, waiting));
        for length in 0..bytes.len() {
            decode(&bytes[..length]);
        }
        assert_eq!(decode(&[9; 100]), Default::default());
    }
}
