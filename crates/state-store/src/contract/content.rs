//! YARA files and lists of indicators.

use std::path::Path;

use super::{NOON, Open, after_noon};
use crate::{ContentKind, NewContentFile, StateError};

fn file(kind: ContentKind, name: &str, text: &str) -> NewContentFile {
    NewContentFile { kind, name: name.to_owned(), text: text.to_owned(), entries: 1 }
}

pub(super) fn files_are_kept_within_their_limit_and_bump_the_version(place: &Path, open: Open<'_>) {
    let store = open(place);
    let list = file(ContentKind::Indicators, "feed", "evil.example\n");
    let yara = file(ContentKind::Yara, "feed", "rule a { condition: true } // 长");
    let first = store.put_content_file(&list, 100, "eve", NOON).expect("kept");
    let second = store.put_content_file(&yara, 100, "eve", NOON).expect("kept, though the name is another's");
    assert!(second > first && store.rules_version().expect("version") == second);

    let again = file(ContentKind::Indicators, "feed", "worse.example\n");
    store.put_content_file(&again, 100, "bob", after_noon(1)).expect("replaced");
    let too_much = file(ContentKind::Indicators, "more", &"x".repeat(100));
    let before = store.content_set().expect("files");
    let refused = store.put_content_file(&too_much, 100, "eve", NOON);
    assert!(matches!(refused, Err(StateError::Invalid(_))), "{refused:?}");
    assert_eq!(store.content_set().expect("files"), before, "what is refused changes nothing");

    drop(store);
    let store = open(place);
    let heads = store.content_heads(ContentKind::Indicators).expect("heads");
    assert_eq!(heads.len(), 1);
    assert_eq!((heads[0].bytes, heads[0].updated_by.as_str()), (14, "bob"));
    let kept = store.content_file(ContentKind::Yara, "feed").expect("read").expect("there");
    assert_eq!((kept.text, kept.head.bytes), (yara.text.clone(), yara.text.len() as u64));
    let set = store.content_set().expect("files");
    assert_eq!((set.version, set.files.len()), (store.rules_version().expect("version"), 2));
    let gone = store.delete_content_file(ContentKind::Yara, "feed", after_noon(2)).expect("removed");
    assert!(gone > set.version);
    let again = store.delete_content_file(ContentKind::Yara, "feed", after_noon(2));
    assert!(matches!(again, Err(StateError::NotFound { what: "YARA file", .. })), "{again:?}");
}
