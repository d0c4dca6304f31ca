//! The word that was probably meant.

/// The known word nearest to `word`, if one is near: farther than a third of its
/// length away is a guess, not help.
pub fn nearest(word: &str, known: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&candidate.to_ascii_lowercase(), &word), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .map(|(_, candidate)| candidate)
}
