//! Literals that may stand in any value of an event.

use aho_corasick::packed::{self, Searcher};

use super::pieces::PieceFilter;
use crate::expression::Anchor;

/// Vector instructions look for this many literals at once without slowing down.
const PACKED_LIMIT: usize = 64;

/// All values of an event are one text to it; whoever is named is judged exactly afterwards.
#[derive(Debug)]
pub(super) struct KeywordSearch {
    /// Says whether there is anything at all, several times as fast as `filter`.
    packed: Option<Searcher>,
    filter: PieceFilter,
}

impl KeywordSearch {
    /// For these literals, none of them empty.
    pub(super) fn new(literals: &[Box<str>]) -> Self {
        let mut builder = packed::Config::new().builder();
        builder.extend(literals.iter().map(|literal| literal.as_bytes()));
        let packed = (literals.len() <= PACKED_LIMIT).then(|| builder.build()).flatten();
        let filter = PieceFilter::new(literals.iter().map(|literal| (&**literal, Anchor::Anywhere)));
        Self { packed, filter }
    }

    /// Names each literal that stands in the text.
    pub(super) fn find(&self, text: &str, found: impl FnMut(u32)) {
        let may_have = self.packed.as_ref().is_none_or(|packed| packed.find(text.as_bytes()).is_some());
        if may_have {
            self.filter.find(text, found);
        }
    }
}
