//! Ordered actions.

use std::path::Path;

use uuid::Uuid;

use super::{NOON, Open, after_noon, host_id};
use crate::{NewResponse, ResponseState};

const RECEIPT: &str = r#"{"a":1,"result":[1,2,3]}"#;

fn ordered(number: u128, host: u8) -> NewResponse {
    NewResponse {
        id: Uuid::from_u128(number),
        host: host_id(host),
        created_by: "eve".to_owned(),
        action: "release_host".to_owned(),
        order: r#"{"action":"release_host","parameters":{}}"#.to_owned(),
        dry_run: false,
        comment: "drill".to_owned(),
        expires_at: after_noon(600),
        undo_of: (number > 1).then(|| Uuid::from_u128(1)),
    }
}

pub(super) fn a_response_goes_forward_only(place: &Path, open: Open<'_>) {
    let store = open(place);
    for (number, host) in [(1, 1), (2, 1), (3, 2), (4, 1)] {
        store.create_response(&ordered(number, host), after_noon(number as i64)).expect("ordered");
    }
    let id = Uuid::from_u128;
    let waiting = |host, at| -> Vec<Uuid> {
        let waiting = store.waiting_responses(host_id(host), at).expect("a look");
        waiting.into_iter().map(|one| one.id).collect()
    };
    assert_eq!(waiting(1, NOON), [id(1), id(2), id(4)]);
    assert!(waiting(1, after_noon(600)).is_empty());

    // Taken back before it is sent, and not after.
    assert!(store.cancel_response(id(4), NOON).expect("cancelled"));
    assert!(!store.mark_response_sent(id(4), NOON).expect("not sent"));
    assert!(store.mark_response_sent(id(1), NOON).expect("sent"));
    assert!(!store.cancel_response(id(1), NOON).expect("too late"));
    // Sent and not answered, it is sent again.
    assert_eq!(waiting(1, NOON), [id(1), id(2)]);
    // Also after its end, for a week: the agent may have done it and not been heard.
    assert_eq!(waiting(1, after_noon(600)), [id(1)]);
    assert!(waiting(1, after_noon(8 * 24 * 3_600)).is_empty());

    // Another host may not answer for it, and nobody for what was not sent.
    let verified = ResponseState::Verified;
    assert!(!store.record_response(host_id(2), id(1), verified, "{}", NOON).expect("refused"));
    assert!(!store.record_response(host_id(1), id(2), verified, "{}", NOON).expect("refused"));
    assert!(store.record_response(host_id(1), id(1), verified, RECEIPT, after_noon(9)).expect("recorded"));
    assert!(!store.record_response(host_id(1), id(1), ResponseState::Failed, "{}", NOON).expect("once"));
    assert_eq!(waiting(1, NOON), [id(2)]);

    assert_eq!(store.expire_responses(after_noon(599)).expect("none"), 0);
    assert_eq!(store.expire_responses(after_noon(600)).expect("two"), 2);
    drop(store);
    let store = open(place);
    let first = store.response(id(1)).expect("a look").expect("there");
    assert_eq!((first.state, first.state_at), (verified, after_noon(9)));
    assert_eq!(first.receipt.as_deref(), Some(RECEIPT));
    assert_eq!(store.response(id(2)).expect("a look").expect("there").undo_of, Some(id(1)));
    assert_eq!(store.response(id(9)).expect("a look"), None);
    let page = store.responses(Some(host_id(1)), None, 2).expect("a page");
    assert_eq!(page.items.iter().map(|one| one.id).collect::<Vec<_>>(), [id(4), id(2)]);
    let rest = store.responses(Some(host_id(1)), page.next_cursor.as_deref(), 2).expect("a page");
    assert_eq!((rest.items.len(), rest.next_cursor), (1, None));
    // A page does not hold the results, which may be lists of megabytes.
    assert_eq!(rest.items[0].receipt.as_deref(), Some(r#"{"a":1}"#));
    assert_eq!(store.responses(None, None, 500).expect("all").items.len(), 4);
    assert!(store.responses(None, Some("x"), 1).is_err());
}
