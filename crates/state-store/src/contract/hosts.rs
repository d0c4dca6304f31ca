//! Hosts and their enrolment.

use std::path::Path;
use std::sync::Barrier;
use std::thread;

use event_model::BootId;
use uuid::Uuid;

use super::{NOON, Open, after_noon, certificate, enroll, host_id, new_host};
use crate::{
    AgentFigures, AgentStatus, AlertId, HostContact, NewEnrollmentToken, SecretDigest, StateError,
    StateStore, TokenRefusal,
};

fn token(store: &dyn StateStore, text: &str, uses: u32) -> (SecretDigest, Uuid) {
    let secret = SecretDigest::of(text);
    let token =
        NewEnrollmentToken { secret, uses, expires_at: after_noon(3_600), created_by: "admin".to_owned() };
    (secret, store.create_enrollment_token(&token, NOON).expect("a token"))
}

pub(super) fn a_token_enrols_as_many_as_it_is_good_for(place: &Path, open: Open<'_>) {
    let store = open(place);
    let (secret, id) = token(&*store, "two", 2);
    let redeem = |secret: &SecretDigest, number, seconds| {
        store.redeem_token(secret, &new_host(number), after_noon(seconds)).map_err(|error| error.refusal())
    };
    assert_eq!(redeem(&SecretDigest::of("guessed"), 1, 0), Err(Some(TokenRefusal::Unknown)));
    assert_eq!(redeem(&secret, 1, 3_600), Err(Some(TokenRefusal::Expired)), "at the very moment");
    assert_eq!(redeem(&secret, 1, 3_599), Ok(()));
    assert_eq!(redeem(&secret, 1, 10), Err(None), "a host id can't be taken twice");
    assert_eq!(store.enrollment_tokens().expect("tokens")[0].uses_left, 1, "which costs no use");
    assert!(store.check_token(&secret, NOON).is_ok());
    assert_eq!(redeem(&secret, 2, 10), Ok(()));
    assert_eq!(redeem(&secret, 3, 10), Err(Some(TokenRefusal::UsedUp)));
    assert_eq!(
        store.check_token(&secret, NOON).map_err(|error| error.refusal()),
        Err(Some(TokenRefusal::UsedUp))
    );

    let (revoked, revoked_id) = token(&*store, "taken back", 1);
    assert!(store.revoke_enrollment_token(revoked_id, after_noon(5)).expect("revoked"));
    assert!(!store.revoke_enrollment_token(Uuid::nil(), NOON).expect("nothing to revoke"));
    assert_eq!(redeem(&revoked, 4, 10), Err(Some(TokenRefusal::Revoked)));

    drop(store);
    let store = open(place);
    let tokens = store.enrollment_tokens().expect("tokens");
    let used = tokens.iter().find(|token| token.id == id).expect("the first one");
    assert_eq!((used.uses, used.uses_left, used.used_by), (2, 0, Some(host_id(2))));
    assert_eq!(used.used_at, Some(after_noon(10)));
    let names: Vec<_> = store.hosts().expect("hosts").into_iter().map(|host| host.name).collect();
    assert_eq!(names, ["web-1", "web-2"], "who was refused is no host");
    let none = NewEnrollmentToken { secret, uses: 0, expires_at: NOON, created_by: String::new() };
    assert!(matches!(store.create_enrollment_token(&none, NOON), Err(StateError::Invalid(_))));
}

pub(super) fn one_of_many_wins_the_last_use(place: &Path, open: Open<'_>) {
    const RACERS: u8 = 8;
    for round in 0..5 {
        // Two stores on one state, as server and tool are.
        let stores = [open(place), open(place)];
        let (secret, _) = token(&*stores[0], &format!("round {round}"), 1);
        let start = Barrier::new(RACERS.into());
        let results: Vec<_> = thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS)
                .map(|racer| {
                    let (store, start) = (&stores[usize::from(racer % 2)], &start);
                    scope.spawn(move || {
                        let host = new_host(1 + round * RACERS + racer);
                        start.wait();
                        store.redeem_token(&secret, &host, NOON)
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().expect("a racer")).collect()
        });
        let won = results.iter().filter(|result| result.is_ok()).count();
        let late = results
            .iter()
            .filter(|result| matches!(result, Err(error) if error.refusal() == Some(TokenRefusal::UsedUp)))
            .count();
        assert_eq!((won, late), (1, usize::from(RACERS) - 1), "{results:?}");
        assert_eq!(stores[0].hosts().expect("hosts").len(), usize::from(round) + 1);
    }
}

pub(super) fn a_host_keeps_what_was_noted(place: &Path, open: Open<'_>) {
    let store = open(place);
    enroll(&*store, &[1, 2]);
    let fresh = store.host(host_id(1)).expect("a look-up").expect("host 1");
    assert_eq!((fresh.last_seen_at, fresh.boot_id, fresh.sensor.as_deref()), (None, None, None));
    let boot = BootId::from_uuid(Uuid::from_u128(5));
    let status = AgentStatus {
        name: "web-one".to_owned(),
        os: "Debian 13".to_owned(),
        kernel: "6.12".to_owned(),
        agent_version: "0.2.0".to_owned(),
        sensor: "ebpf".to_owned(),
        rules_version: 1_795_262_400_001,
        rules_loaded: 40,
        rules_errors: vec!["r1: no such field".to_owned()],
        figures: AgentFigures { produced: 9, spooled: 1, dropped: 2, kernel_lost: u64::MAX },
    };
    store.record_status(host_id(1), boot, &status, after_noon(60)).expect("noted");
    store
        .record_seen(&[(host_id(1), after_noon(30)), (host_id(2), after_noon(31)), (host_id(9), NOON)])
        .expect("noted");
    drop(store);
    let store = open(place);
    let host = store.host(host_id(1)).expect("a look-up").expect("host 1");
    assert_eq!((host.name.as_str(), host.sensor.as_deref()), ("web-one", Some("ebpf")));
    assert_eq!(
        (host.boot_id, host.last_seen_at),
        (Some(boot), Some(after_noon(60))),
        "an earlier time is no news"
    );
    assert_eq!((host.rules_version, host.rules_loaded), (1_795_262_400_001, 40));
    assert_eq!(host.rules_errors, ["r1: no such field"]);
    assert_eq!((host.figures.produced, host.figures.dropped), (9, 2));
    assert_eq!(host.enrolled_at, NOON);
    assert_eq!(
        store.host(host_id(2)).expect("a look-up").expect("host 2").last_seen_at,
        Some(after_noon(31))
    );
    assert_eq!(store.host(host_id(9)).expect("a look-up"), None);
    let contact = |store: &dyn StateStore| {
        let host = store.host(host_id(1)).expect("a look-up").expect("host 1");
        (host.contact, host.contact_since, host.silence_alert)
    };
    assert_eq!(contact(&*store), (HostContact::Never, None, None));
    let alert = AlertId::from_uuid(Uuid::from_u128(77));
    let set = |contact, at, alert| store.set_contact(host_id(1), contact, after_noon(at), alert);
    assert!(set(HostContact::Silent, 70, Some(alert)).expect("noted"));
    assert!(!set(HostContact::Silent, 71, None).expect("nothing new"), "the first one stays");
    assert_eq!(contact(&*open(place)), (HostContact::Silent, Some(after_noon(70)), Some(alert)));
    assert!(set(HostContact::Reporting, 72, None).expect("noted"));
    assert_eq!(contact(&*store), (HostContact::Reporting, Some(after_noon(72)), None));
    let nobody = store.set_contact(host_id(9), HostContact::Stopped, NOON, None);
    assert!(matches!(nobody, Err(StateError::NotFound { .. })), "{nobody:?}");
    let unknown = store.record_status(host_id(9), boot, &status, NOON);
    assert!(matches!(unknown, Err(StateError::NotFound { .. })), "{unknown:?}");
}

pub(super) fn certificates_are_renewed_and_revoked(place: &Path, open: Open<'_>) {
    let store = open(place);
    enroll(&*store, &[1, 2]);
    let owner = |number: u8| store.host_by_certificate(&[number; 32]).expect("a look-up").map(|host| host.id);
    assert_eq!((owner(1), owner(2), owner(3)), (Some(host_id(1)), Some(host_id(2)), None));

    for _ in 0..2 {
        // The second time is an agent that did not get the answer to the first.
        store.renew_certificate(host_id(1), &certificate(3)).expect("renewed");
        assert_eq!((owner(1), owner(3)), (Some(host_id(1)), Some(host_id(1))), "both are good");
    }
    store.drop_previous_certificate(host_id(1)).expect("forgotten");
    assert_eq!((owner(1), owner(3)), (None, Some(host_id(1))));
    assert!(matches!(store.renew_certificate(host_id(9), &certificate(9)), Err(StateError::NotFound { .. })));

    assert!(store.revoke_host(host_id(1), after_noon(1)).expect("revoked"));
    assert!(store.revoke_host(host_id(1), after_noon(9)).expect("revoked before"));
    assert!(!store.revoke_host(host_id(9), NOON).expect("no such host"));
    drop(store);
    let host = open(place).host_by_certificate(&[3; 32]).expect("a look-up").expect("still known");
    assert!(host.is_revoked());
    assert_eq!(host.revoked_at, Some(after_noon(1)));
}
