//! What was found in images, each scanned once as long as neither it nor the rules change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use event_model::ImageFile;

use super::Found;
use crate::image_facts::is_settled;
use crate::yara_book::ActiveYara;

/// Files in one generation; there are two.
const GENERATION: usize = 4_096;

/// Results by what identifies a file and its state. Bounded: what was not asked for
/// during a whole generation is forgotten.
#[derive(Debug, Default)]
pub(super) struct KnownScans {
    /// The rules that the results are of.
    rules: Option<Arc<ActiveYara>>,
    young: HashMap<ImageFile, Option<Arc<Found>>>,
    old: HashMap<ImageFile, Option<Arc<Found>>>,
}

impl KnownScans {
    /// What these rules found in the image: nothing, or what.
    pub(super) fn get(&mut self, image: &ImageFile, rules: &Arc<ActiveYara>) -> Option<Option<Arc<Found>>> {
        self.forget_other(rules);
        if let Some(known) = self.young.get(image) {
            return Some(known.clone());
        }
        let known = self.old.remove(image)?;
        self.insert(image, known.clone());
        Some(known)
    }

    /// Remembers a result, unless the image may yet change without a trace.
    pub(super) fn keep(&mut self, image: &ImageFile, rules: &Arc<ActiveYara>, found: Option<Arc<Found>>) {
        if is_settled(image, SystemTime::now()) {
            self.forget_other(rules);
            self.insert(image, found);
        }
    }

    fn insert(&mut self, image: &ImageFile, found: Option<Arc<Found>>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(*image, found);
    }

    fn forget_other(&mut self, rules: &Arc<ActiveYara>) {
        if !self.rules.as_ref().is_some_and(|known| Arc::ptr_eq(known, rules)) {
            *self = Self { rules: Some(Arc::clone(rules)), ..Self::default() };
        }
    }
}
