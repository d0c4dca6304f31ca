//! Where a value stands in a log's tree, remembered: the names of each place are worked
//! out once, and the next event only follows the tree.

use std::collections::HashMap;

use ahash::RandomState;

use crate::consumer::LogConsumer;
use crate::kept::{KeptNames, KeptSlot};
use crate::layout::FieldLayout;

/// Places that are remembered. Logs choose them; past the limit all are forgotten
/// before the next event and found again as they come.
const PLACES_LIMIT: usize = 65_536;
/// Keys of all places together, in bytes; the same is true of them.
const KEY_BYTES_LIMIT: usize = 8 << 20;

/// A place in the tree; valid until the next [`PathTree::forget_if_full`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    /// Above everything.
    pub(crate) const ROOT: Self = Self(0);
    /// Before the first child was visited.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

#[derive(Debug)]
struct Node<F> {
    parent: Place,
    key: Box<str>,
    /// Whether the key is written in JSON as it is.
    is_plain: bool,
    fields: Box<[F]>,
    kept: Option<KeptSlot>,
    children: HashMap<Box<str>, Place, RandomState>,
    /// What came behind this place last time: events of one kind have one order.
    follower: Place,
}

#[derive(Debug)]
pub(crate) struct PathTree<F> {
    nodes: Vec<Node<F>>,
    key_bytes: usize,
}

impl<F: Copy> PathTree<F> {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node::new(Place::NONE, "", Box::default(), None)], key_bytes: 0 }
    }

    /// To be called between events only.
    pub(crate) fn forget_if_full(&mut self) {
        if self.nodes.len() > PLACES_LIMIT || self.key_bytes > KEY_BYTES_LIMIT {
            *self = Self::new();
        }
    }

    /// Where the reader itself keeps the value at a place, and the fields that it goes into.
    pub(crate) fn asked(&self, place: Place) -> (Option<KeptSlot>, &[F]) {
        self.nodes.get(place.0 as usize).map_or((None, &[]), |node| (node.kept, &node.fields))
    }

    /// The place that came behind `previous` (none: was the first below `parent`) in the last event, if the text
    /// begins with its key and the quote that ends it; and the length of both.
    pub(crate) fn expected(&self, parent: Place, previous: Place, text: &[u8]) -> Option<(Place, usize)> {
        let before = if previous == Place::NONE { parent } else { previous };
        let guess = self.nodes.get(before.0 as usize)?.follower;
        let node = self.nodes.get(guess.0 as usize)?;
        let key = node.key.as_bytes();
        let is_it = node.parent == parent
            && node.is_plain
            && text.get(key.len()) == Some(&b'"')
            && text.starts_with(key);
        is_it.then_some((guess, key.len() + 1))
    }

    /// The place of a key that was visited before. `previous` is the sibling visited last.
    pub(crate) fn find(&mut self, parent: Place, previous: Place, key: &str) -> Option<Place> {
        // The first child is the follower of its parent in this sense.
        let before = if previous == Place::NONE { parent } else { previous };
        if let Some(guess) = self.nodes.get(before.0 as usize).map(|node| node.follower)
            && let Some(node) = self.nodes.get(guess.0 as usize)
            && node.parent == parent
            && *node.key == *key
        {
            return Some(guess);
        }
        // `#text` is the element itself, as the JSON of EVTX has it.
        if key == "#text" {
            return Some(parent);
        }
        let place = self.nodes.get(parent.0 as usize)?.children.get(key).copied()?;
        if let Some(node) = self.nodes.get_mut(before.0 as usize) {
            node.follower = place;
        }
        Some(place)
    }

    /// Makes the place of a key that was not visited before.
    pub(crate) fn add<C: LogConsumer<Field = F>>(
        &mut self,
        parent: Place,
        key: &str,
        layout: &FieldLayout,
        kept: &KeptNames,
        consumer: &mut C,
    ) -> Place {
        let names = match self.path(parent, key) {
            Some(path) => layout.names_of(&path),
            None => Vec::new(),
        };
        let mut fields: Vec<F> = names.iter().filter_map(|name| consumer.field(name)).collect();
        if fields.is_empty() && !names.is_empty() {
            fields.extend(consumer.unnamed());
        }
        let kept = names.iter().find_map(|name| kept.slot(name));
        let place = Place(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX - 1));
        self.nodes.push(Node::new(parent, key, fields.into(), kept));
        self.key_bytes += key.len();
        if let Some(node) = self.nodes.get_mut(parent.0 as usize) {
            node.children.insert(key.into(), place);
        }
        place
    }

    /// Keys joined by dots; an attribute is `Element_attribute`. `None` between an element
    /// and its attributes, where no value stands.
    fn path(&self, parent: Place, key: &str) -> Option<String> {
        if key == "#attributes" {
            return None;
        }
        let mut keys = vec![key];
        let mut place = parent;
        while let Some(node) = self.nodes.get(place.0 as usize).filter(|_| place != Place::ROOT) {
            keys.push(&node.key);
            place = node.parent;
        }
        keys.reverse();
        let mut path = String::new();
        for (index, key) in keys.iter().enumerate() {
            if *key == "#attributes" {
                continue;
            }
            if index > 0 {
                path.push(if keys[index - 1] == "#attributes" { '_' } else { '.' });
            }
            path.push_str(key);
        }
        Some(path)
    }
}

impl<F> Node<F> {
    fn new(parent: Place, key: &str, fields: Box<[F]>, kept: Option<KeptSlot>) -> Self {
        let children = HashMap::default();
        let is_plain = !key.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
        Self { parent, key: key.into(), is_plain, fields, kept, children, follower: Place::NONE }
    }
}
