//! Lines that a stranger can cause are written at most once a second each.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const SPACING: Duration = Duration::from_secs(1);

/// Permits one line a second and counts the others.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    last: Mutex<(Option<Instant>, u64)>,
}

impl LogLimit {
    /// How many lines were left out since the last permitted one; `None` if this one is to be left out.
    pub(crate) fn permit(&self) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.is_some_and(|at| at.elapsed() < SPACING) {
            last.1 += 1;
            return None;
        }
        last.0 = Some(Instant::now());
        Some(std::mem::take(&mut last.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_line_of_a_second_is_counted_not_written() {
        let limit = LogLimit::default();
        assert_eq!(limit.permit(), Some(0));
        assert_eq!(limit.permit(), None);
        assert_eq!(limit.permit(), None);
        limit.last.lock().unwrap().0 = Instant::now().checked_sub(SPACING);
        assert_eq!(limit.permit(), Some(2));
    }
}
