//! How far the watch sees: which keys are watched, and which lead to one that is.

use std::collections::HashMap;
use std::str::Split;

use super::places::Place;

/// What a key is to the watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// What is written there, and below, is not seen.
    Outside,
    /// It leads to one that is watched.
    Above,
    /// What is written there is seen.
    Watched,
}

/// A key above the watched ones, or the highest of them, with what is below by its name.
#[derive(Debug, Default)]
pub(super) struct Reach {
    below: HashMap<String, Reach>,
    /// So many keys below this one are watched with it; `None` where it is not watched itself.
    levels: Option<usize>,
}

impl Reach {
    /// Of these places.
    pub(super) fn of(places: &[Place]) -> Self {
        let mut all = Self::default();
        for place in places {
            let mut at = &mut all;
            for part in place.key.to_lowercase().split('\\') {
                at = at.below.entry(part.to_owned()).or_default();
            }
            at.levels = at.levels.max(Some(place.depth.keys()));
        }
        all
    }

    /// What a key in lower case (`hklm\…`) is.
    pub(super) fn standing(&self, key: &str) -> Standing {
        self.standing_of(key.split('\\'))
    }

    fn standing_of(&self, mut parts: Split<'_, char>) -> Standing {
        let is_within = |levels: usize| parts.clone().take(levels.saturating_add(1)).count() <= levels;
        if self.levels.is_some_and(is_within) {
            return Standing::Watched;
        }
        let Some(part) = parts.next() else { return Standing::Above };
        let ways = [part, "*"].into_iter().filter_map(|name| self.below.get(name));
        ways.map(|way| way.standing_of(parts.clone())).max().unwrap_or(Standing::Outside)
    }
}

#[cfg(test)]
mod tests {
    use super::super::places::{BUILT_IN, Depth};
    use super::*;

    fn place(key: &str, depth: Depth) -> Place {
        Place { key: key.to_owned(), depth, what: "" }
    }

    #[test]
    fn a_key_is_watched_as_far_down_as_is_looked_and_what_leads_there_is_above() {
        let places = [
            place(r"HKLM\SOFTWARE\Run", Depth::Values),
            place(r"HKLM\SYSTEM\Services", Depth::Two),
            place(r"HKLM\SYSTEM\Services\Deep\A\B", Depth::Keys),
            place(r"HKU\*\Software\Run", Depth::Keys),
            place(r"HKU\S-1\Software\Run\Own", Depth::Two),
        ];
        let reach = Reach::of(&places);
        for (key, standing) in [
            ("hklm", Standing::Above),
            (r"hklm\software", Standing::Above),
            (r"hklm\software\run", Standing::Watched),
            (r"hklm\software\run\below", Standing::Outside),
            (r"hklm\software\running", Standing::Outside),
            (r"hklm\software\other", Standing::Outside),
            (r"hklm\system\services\x\y", Standing::Watched),
            (r"hklm\system\services\x\y\z", Standing::Outside),
            (r"hklm\system\services\deep\a\b\c", Standing::Watched),
            (r"hklm\system\services\deep\a\b\c\d", Standing::Outside),
            (r"hku\s-1", Standing::Above),
            (r"hku\s-2\software\run\x", Standing::Watched),
            (r"hku\s-1\software\run\x", Standing::Watched),
            (r"hku\s-1\software\run\own\x\y", Standing::Watched),
            (r"hku\s-2\software\run\own\x\y", Standing::Outside),
            (r"hku\s-1\software\else", Standing::Outside),
            ("hkcr", Standing::Outside),
        ] {
            assert_eq!(reach.standing(key), standing, "{key}");
        }
        assert_eq!(Reach::default().standing("hklm"), Standing::Outside);
    }

    #[test]
    fn each_built_in_key_is_watched() {
        let places: Vec<Place> = BUILT_IN.iter().map(|(key, depth, _)| place(key, *depth)).collect();
        let reach = Reach::of(&places);
        for place in &places {
            let key = place.key.to_lowercase().replace('*', "s-1-5-21-1");
            assert_eq!(reach.standing(&key), Standing::Watched, "{key}");
        }
    }
}
