//! Ordered actions.

use std::path::Path;
use std::time::Duration;

use uuid::Uuid;

use super::{NOON, Open, after_noon, host_id};
use crate::{Decision, NewResponse, ResponseState};

const RECEIPT: &str = r#"{"a":1,"result":[1,2,3]}"#;

fn ordered(number: u128, host: u8) -> NewResponse {
    NewResponse {
        id: Uuid::from_u128(number),
        host: host_id(host),
        created_by: "eve".to_owned(),
        via: String::new(),
        action: "release_host".to_owned(),
        order: r#"{"action":"release_host","parameters":{}}"#.to_owned(),
        dry_run: false,
        comment: "drill".to_owned(),
        life: Duration::from_secs(600),
        undo_of: (number > 1).then(|| Uuid::from_u128(1)),
        approvals_needed: 0,
        mass_above: None,
        detection: None,
        release_code: (number == 1).then(|| "AB-CD".to_owned()),
    }
}

pub(super) fn a_response_goes_forward_only(place: &Path, open: Open<'_>) {
    let store = open(place);
    for (number, host) in [(1, 1), (2, 1), (3, 2), (4, 1)] {
        store.create_response(&ordered(number, host), NOON).expect("ordered");
    }
    let id = Uuid::from_u128;
    let many = [ordered(1, 1), ordered(5, 3), ordered(6, 3)];
    assert_eq!(store.create_responses(&many, NOON).expect("ordered"), [false, true, true], "each once");
    for number in [5, 6] {
        assert!(store.cancel_response(id(number), NOON).expect("cancelled"));
    }
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
    assert_eq!(store.release_code(id(1)).expect("a look").as_deref(), Some("AB-CD"));
    assert_eq!(store.release_code(id(2)).expect("a look"), None);
    assert_eq!(store.response(id(9)).expect("a look"), None);
    let page = store.responses(Some(host_id(1)), None, None, 2).expect("a page");
    assert_eq!(page.items.iter().map(|one| one.id).collect::<Vec<_>>(), [id(4), id(2)]);
    let rest = store.responses(Some(host_id(1)), None, page.next_cursor.as_deref(), 2).expect("a page");
    assert_eq!((rest.items.len(), rest.next_cursor), (1, None));
    // A page does not hold the results, which may be lists of megabytes.
    assert_eq!(rest.items[0].receipt.as_deref(), Some(r#"{"a":1}"#));
    assert_eq!(store.responses(None, None, None, 500).expect("all").items.len(), 6);
    assert!(store.responses(None, None, Some("x"), 1).is_err());
}

pub(super) fn people_agree_before_a_response_is_sent(place: &Path, open: Open<'_>) {
    let store = open(place);
    let isolate = |number: u128, host: u8| NewResponse {
        action: "isolate_host".to_owned(),
        order: r#"{"action":"isolate_host","parameters":{}}"#.to_owned(),
        mass_above: Some(2),
        undo_of: None,
        ..ordered(number, host)
    };
    let says = |by: &str, approve: bool, seconds: i64| Decision {
        by: by.to_owned(),
        at: after_noon(seconds),
        approve,
        comment: "why".to_owned(),
    };
    let id = Uuid::from_u128;
    let state = |number| store.response(id(number)).expect("a look").expect("there").state;
    for (number, host) in [(1, 1), (2, 2), (3, 2)] {
        assert!(store.create_response(&isolate(number, host), NOON).expect("ordered"));
        assert_eq!(state(number), ResponseState::Queued, "two hosts are no mass");
    }
    assert!(!store.create_response(&isolate(1, 1), NOON).expect("known"), "one id, one order");
    // The third host is one too many for one person. A dry run is not.
    store.create_response(&NewResponse { dry_run: true, ..isolate(4, 3) }, NOON).expect("ordered");
    assert_eq!(state(4), ResponseState::Queued);
    store.create_response(&isolate(5, 3), NOON).expect("ordered");
    let pending = store.response(id(5)).expect("a look").expect("there");
    assert_eq!(
        (pending.state, pending.approvals_needed, pending.fleet_hosts),
        (ResponseState::Pending, 2, 3)
    );
    assert!(store.waiting_responses(host_id(3), NOON).expect("a look").iter().all(|one| one.id != id(5)));
    assert!(!store.mark_response_sent(id(5), NOON).expect("not sent"));

    assert!(store.decide_response(id(5), &says("Eve", true, 1)).is_err(), "not who asked");
    let once = store.decide_response(id(5), &says("ada", true, 1)).expect("noted");
    assert_eq!(once.state, ResponseState::Pending);
    assert!(store.decide_response(id(5), &says("ADA", true, 2)).is_err(), "one person once");
    let twice = store.decide_response(id(5), &says("bob", true, 3_000)).expect("noted");
    assert_eq!((twice.state, twice.decisions.len()), (ResponseState::Queued, 2));
    assert_eq!(twice.expires_at, after_noon(3_600), "its life begins with the last yes");
    assert!(store.decide_response(id(5), &says("cid", false, 3_001)).is_err(), "too late");
    assert!(store.decide_response(id(99), &says("cid", true, 1)).is_err());

    // What a rule asks for needs one person, until it is a mass action; it is asked for once.
    let asked = |number: u128, host: u8| NewResponse {
        created_by: "rule:7".to_owned(),
        approvals_needed: 1,
        detection: Some(event_model::DetectionId::from_uuid(Uuid::from_u128(number))),
        ..isolate(number, host)
    };
    assert!(store.create_response(&asked(6, 4), after_noon(3_000)).expect("asked"));
    assert!(!store.create_response(&asked(7, 4), after_noon(3_000)).expect("asked before"));
    let one = store.decide_response(id(6), &says("ada", true, 3_010)).expect("noted");
    assert_eq!(
        (one.state, one.approvals_needed),
        (ResponseState::Pending, 2),
        "three others within the hour"
    );
    let no = store.decide_response(id(6), &says("bob", false, 3_011)).expect("noted");
    assert_eq!(no.state, ResponseState::Declined);
    // An hour later it is one of one.
    assert!(store.create_response(&asked(8, 5), after_noon(3 * 3_600)).expect("asked"));
    let pending = store.responses(None, Some(ResponseState::Pending), None, 10).expect("a page");
    assert_eq!(pending.items.iter().map(|one| one.id).collect::<Vec<_>>(), [id(8)]);
    let yes = store.decide_response(id(8), &says("ada", true, 3 * 3_600 + 1)).expect("noted");
    assert_eq!((yes.state, yes.fleet_hosts), (ResponseState::Queued, 1));
    // Nobody decides: it expires.
    assert!(store.create_response(&asked(9, 6), after_noon(4 * 3_600)).expect("asked"));
    store.expire_responses(after_noon(9 * 3_600)).expect("some");
    assert_eq!(state(9), ResponseState::Expired);
    assert!(store.decide_response(id(9), &says("ada", true, 9 * 3_600)).is_err());
}

pub(super) fn what_a_host_did_by_itself_is_noted_once(place: &Path, open: Open<'_>) {
    let store = open(place);
    let id = Uuid::from_u128;
    store.create_response(&isolation_of(1), NOON).expect("ordered");
    let is_undone = || store.response(id(1)).expect("a look").expect("there").is_undone;
    assert!(!is_undone());
    let by_itself = NewResponse { created_by: "code:release".to_owned(), ..ordered(2, 1) };
    assert!(store.note_done(&by_itself, RECEIPT, after_noon(5)).expect("noted"));
    assert!(!store.note_done(&by_itself, RECEIPT, after_noon(6)).expect("known"), "one event, one row");
    let noted = store.response(id(2)).expect("a look").expect("there");
    assert_eq!((noted.state, noted.undo_of), (ResponseState::Verified, Some(id(1))));
    assert_eq!((noted.created_at, noted.receipt.as_deref()), (after_noon(5), Some(RECEIPT)));
    assert!(is_undone(), "what undoes it is done");
    assert!(
        store.waiting_responses(host_id(1), after_noon(6)).expect("a look").iter().all(|one| one.id != id(2))
    );
    // An undoing that was refused leaves it as it is.
    store.create_response(&isolation_of(3), NOON).expect("ordered");
    store.create_response(&NewResponse { undo_of: Some(id(3)), ..ordered(4, 1) }, NOON).expect("ordered");
    assert!(store.response(id(3)).expect("a look").expect("there").is_undone, "it is under way");
    store.mark_response_sent(id(4), NOON).expect("sent");
    let refused = ResponseState::Refused;
    assert!(store.record_response(host_id(1), id(4), refused, "{}", NOON).expect("recorded"));
    assert!(!store.response(id(3)).expect("a look").expect("there").is_undone);
}

fn isolation_of(number: u128) -> NewResponse {
    NewResponse { action: "isolate_host".to_owned(), undo_of: None, ..ordered(number, 1) }
}
