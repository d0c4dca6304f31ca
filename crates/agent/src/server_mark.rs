//! What the server has of this boot's numbers, handed from the link to the pipeline.
//!
//! An agent whose spool was lost or set back within a boot begins again with numbers that
//! the server took other records by. The link learns of it with the server's first message;
//! the recorder, which alone gives numbers, looks here each time it has closed a batch.

use std::sync::{Mutex, PoisonError};

use event_model::Timestamp;
use protocol::wire::Ledger;

/// The server's word on a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenNumbers {
    /// All numbers up to this one are taken.
    pub last_sequence: u64,
    /// What the agent had said of itself up to there.
    pub ledger: Ledger,
    /// Time of the latest event that the server has.
    pub last_event_at: Option<Timestamp>,
    /// Batches that wait here have numbers that the server took others by.
    pub contradicted: bool,
}

impl TakenNumbers {
    fn clash(&self, next: u64) -> bool {
        self.contradicted || next <= self.last_sequence
    }
}

/// The place where it is handed over.
#[derive(Debug, Default)]
pub struct ServerMark(Mutex<Option<TakenNumbers>>);

impl ServerMark {
    /// From the link, whenever one begins.
    pub fn tell(&self, taken: TakenNumbers) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
    }

    /// A batch of this boot was found whose numbers are taken.
    pub fn contradict(&self) {
        if let Some(taken) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            taken.contradicted = true;
        }
    }

    /// Whether there is something to [take](Self::take_if_taken).
    pub fn has_taken(&self, next: u64) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().is_some_and(|known| known.clash(next))
    }

    /// For the recorder, which will give `next` next: what it must go on above, or tell of. Once.
    pub fn take_if_taken(&self, next: u64) -> Option<TakenNumbers> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.take_if(|known| known.clash(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_taken_once_and_only_where_numbers_clash() {
        let taken = TakenNumbers {
            last_sequence: 10,
            ledger: Ledger::default(),
            last_event_at: None,
            contradicted: false,
        };
        let mark = ServerMark::default();
        assert_eq!(mark.take_if_taken(1), None, "the server has said nothing");
        mark.tell(taken.clone());
        assert_eq!(mark.take_if_taken(11), None, "the numbers go on above the server's");
        assert_eq!(mark.take_if_taken(10), Some(taken.clone()));
        assert_eq!(mark.take_if_taken(10), None);
        mark.tell(taken);
        mark.contradict();
        assert!(mark.take_if_taken(50).is_some(), "what waits in the spool clashes");
    }
}
