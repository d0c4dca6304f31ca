//! What a session lost, of which it tells only how much it is in all.

/// How much of it was told.
#[derive(Debug)]
pub struct Losses {
    told: u64,
    asked_ns: u64,
}

impl Losses {
    /// Of a session that began at `begun_ns` since boot, of which nothing was told.
    pub fn since(begun_ns: u64) -> Self {
        Self { told: 0, asked_ns: begun_ns }
    }

    /// At `now_ns` it lost so many in all, where it says: how many of them are not told, and since when they may have
    /// been lost.
    pub fn untold(&mut self, in_all: Option<u64>, now_ns: u64) -> (u64, u64) {
        let in_all = in_all.unwrap_or(self.told);
        let untold = (in_all.saturating_sub(self.told), self.asked_ns);
        (self.told, self.asked_ns) = (in_all, now_ns);
        untold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_was_lost_since_the_session_began_is_told_and_once() {
        let mut losses = Losses::since(100);
        assert_eq!(losses.untold(Some(7), 200), (7, 100), "before anybody asked");
        assert_eq!(losses.untold(Some(7), 300), (0, 200));
        assert_eq!(losses.untold(None, 400), (0, 300), "it does not say");
        assert_eq!(losses.untold(Some(9), 500), (2, 400), "as it is stopped");
    }
}
