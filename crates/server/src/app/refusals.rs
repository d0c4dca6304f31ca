//! Which refusals stand in the audit log: of an address some each hour, the rest
//! as a number, so that nobody fills the disk by being refused.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Refusals of an address that are written in an hour.
const WRITTEN: u32 = 20;
const HOUR: Duration = Duration::from_secs(3600);
/// Addresses that are kept; those past them are counted together.
const KEPT: usize = 10_000;
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    by_address: Mutex<HashMap<IpAddr, Hour>>,
}

#[derive(Debug, Clone, Copy)]
struct Hour {
    start: Instant,
    written: u32,
    left_out: u64,
}

/// What to do with a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// It is to be written, and that so many were not in an hour before.
    Written { left_out: u64 },
    /// It is only counted.
    LeftOut,
}

impl Refusals {
    pub(super) fn note(&self, address: IpAddr, now: Instant) -> Note {
        let mut hours = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let address = if hours.len() >= KEPT && !hours.contains_key(&address) { OTHERS } else { address };
        let new = Hour { start: now, written: 0, left_out: 0 };
        let hour = hours.entry(address).or_insert(new);
        let mut left_out = 0;
        if now.saturating_duration_since(hour.start) >= HOUR {
            left_out = hour.left_out;
            *hour = new;
        }
        if hour.written >= WRITTEN {
            hour.left_out += 1;
            return Note::LeftOut;
        }
        hour.written += 1;
        Note::Written { left_out }
    }

    /// Forgets hours that are over; gives what was left out in them.
    pub(super) fn take_ended(&self, now: Instant) -> Vec<(IpAddr, u64)> {
        let mut ended = Vec::new();
        let mut hours = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        hours.retain(|address, hour| {
            let is_over = now.saturating_duration_since(hour.start) >= HOUR;
            if is_over && hour.left_out > 0 {
                ended.push((*address, hour.left_out));
            }
            !is_over
        });
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_written_each_hour_and_the_rest_is_a_number() {
        let refusals = Refusals::default();
        let (here, there) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Instant::now();
        for _ in 0..WRITTEN {
            assert_eq!(refusals.note(here, start), Note::Written { left_out: 0 });
        }
        for _ in 0..5 {
            assert_eq!(refusals.note(here, start), Note::LeftOut);
        }
        assert_eq!(refusals.note(there, start), Note::Written { left_out: 0 });
        assert_eq!(refusals.take_ended(start), []);
        assert_eq!(refusals.note(here, start + HOUR), Note::Written { left_out: 5 });
        assert_eq!(refusals.take_ended(start + HOUR), [], "of the other nothing was left out");
        refusals.by_address.lock().unwrap().get_mut(&here).unwrap().left_out = 7;
        assert_eq!(refusals.take_ended(start + HOUR * 2), [(here, 7)]);
        assert!(refusals.by_address.lock().unwrap().is_empty());
    }
}
