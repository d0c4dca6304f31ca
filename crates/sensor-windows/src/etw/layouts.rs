//! Which layouts are known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::payload::Property;

/// One that the system did not know is asked for again after this: a provider may register its templates late, and an
/// upgrade may just be replacing them.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// Kinds of events that are remembered.
const MOST_KINDS: usize = 4_096;

/// A provider, an id and the version of its layout.
pub type Kind = (u128, u16, u8);

enum Known {
    Is(Arc<Vec<Property>>),
    /// When the system was asked, and did not know.
    Missing(Instant),
}

/// The layouts of the events that came.
#[derive(Default)]
pub struct Layouts {
    known: HashMap<Kind, Known>,
}

impl Layouts {
    /// The layout of a kind of events, which the system is asked for once, and again where it does not know it.
    pub fn of(
        &mut self,
        kind: Kind,
        now: Instant,
        ask: impl FnOnce() -> Option<Vec<Property>>,
    ) -> Option<Arc<Vec<Property>>> {
        match self.known.get(&kind) {
            Some(Known::Is(layout)) => return Some(Arc::clone(layout)),
            Some(Known::Missing(asked)) if now.saturating_duration_since(*asked) < ASK_AGAIN => return None,
            Some(Known::Missing(_)) | None => {}
        }
        let layout = ask().map(Arc::new);
        if self.known.len() < MOST_KINDS || self.known.contains_key(&kind) {
            let known = layout.clone().map_or(Known::Missing(now), Known::Is);
            self.known.insert(kind, known);
        }
        layout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_asked_for_once_and_one_that_was_missing_again_later() {
        let now = Instant::now();
        let mut layouts = Layouts::default();
        let one = || Some(vec![Property::default()]);
        let never = || -> Option<Vec<Property>> { panic!("asked") };
        assert!(layouts.of((1, 1, 0), now, || None).is_none());
        assert!(layouts.of((1, 1, 0), now, never).is_none(), "not for each event");
        assert!(layouts.of((1, 1, 1), now, one).is_some(), "another version");
        assert!(layouts.of((1, 1, 0), now + ASK_AGAIN, || None).is_none());
        assert!(layouts.of((1, 1, 0), now + ASK_AGAIN, never).is_none());
        assert!(layouts.of((1, 1, 0), now + ASK_AGAIN * 2, one).is_some());
        assert!(layouts.of((1, 1, 0), now + ASK_AGAIN * 9, never).is_some(), "and is kept");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let now = Instant::now();
        let mut layouts = Layouts::default();
        for provider in 0..2 * MOST_KINDS as u128 {
            layouts.of((provider, 1, 0), now, || None);
        }
        assert_eq!(layouts.known.len(), MOST_KINDS);
    }
}
