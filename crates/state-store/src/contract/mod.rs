//! What every state store must do, as a suite that each implementation runs.
//!
//! A check gets an empty folder and a way to open a store in it. Opening it again
//! must give the same state; two stores that are open at once share it. A check
//! that fails panics with what was wrong.

mod access;
mod activity;
mod alerts;
mod content;
mod hosts;
mod responses;
mod rules;
mod runs;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use event_model::{HostId, Timestamp};
use uuid::Uuid;

use crate::{Certificate, NewEnrollmentToken, NewHost, SecretDigest, StateStore};

/// Opens the store that lives in this folder.
pub type Open<'a> = &'a dyn Fn(&Path) -> Arc<dyn StateStore>;

/// One check: an empty folder, and the way to open a store in it.
pub type Check = fn(&Path, Open<'_>);

/// Every check, with its name.
pub const SUITE: &[(&str, Check)] = &[
    ("a token enrols as many hosts as it is good for", hosts::a_token_enrols_as_many_as_it_is_good_for),
    ("of hosts that race for the last use of a token one wins", hosts::one_of_many_wins_the_last_use),
    ("a host keeps what was noted about it", hosts::a_host_keeps_what_was_noted),
    ("certificates are renewed and revoked", hosts::certificates_are_renewed_and_revoked),
    ("users are known whatever the case of their names", access::users_are_known),
    ("the last administrator stays", access::the_last_administrator_stays),
    ("sessions end", access::sessions_end),
    ("API tokens end", access::api_tokens_end),
    ("every change of a rule bumps the version", rules::every_change_bumps_the_version),
    ("starter rules come once", rules::starter_rules_come_once),
    ("rules and version are of one moment", rules::rules_and_version_are_of_one_moment),
    (
        "YARA files and indicator lists are kept within their limit",
        content::files_are_kept_within_their_limit_and_bump_the_version,
    ),
    ("a detection opens an alert or repeats one", alerts::a_detection_opens_or_repeats),
    ("what repeats is told of again, with what repeats it", alerts::what_repeats_is_told_of_again),
    ("what comes again changes nothing", alerts::what_comes_again_changes_nothing),
    ("an agent speaks only for itself", alerts::an_agent_speaks_only_for_itself),
    ("receipts find their alerts", alerts::receipts_find_their_alerts),
    ("alerts are worked on", alerts::alerts_are_worked_on),
    ("alerts are listed page by page and filtered", alerts::alerts_are_listed),
    ("alerts are counted", alerts::alerts_are_counted),
    ("old alerts go", alerts::old_alerts_go),
    ("settings, counters and the audit log keep what they are given", activity::what_is_given_is_kept),
    ("a response goes forward only", responses::a_response_goes_forward_only),
    ("people agree before a response is sent", responses::people_agree_before_a_response_is_sent),
    ("what was done on a host by itself is noted once", responses::what_a_host_did_by_itself_is_noted_once),
    (
        "a run belongs to its responder and goes with its alert",
        runs::a_run_belongs_to_its_responder_and_goes_with_its_alert,
    ),
    ("the outbox is bounded", activity::the_outbox_is_bounded),
];

/// A moment in 2026.
pub const NOON: Timestamp = Timestamp::from_nanos(1_795_262_400_000_000_000);

/// So many seconds after noon.
pub fn after_noon(seconds: i64) -> Timestamp {
    Timestamp::from_nanos(NOON.as_nanos() + seconds * 1_000_000_000)
}

/// The host with this number.
pub fn host_id(number: u8) -> HostId {
    HostId::from_uuid(Uuid::from_bytes([number; 16]))
}

/// What a host with this number says at its enrolment.
pub fn new_host(number: u8) -> NewHost {
    NewHost {
        id: host_id(number),
        name: format!("web-{number}"),
        os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        kernel: "6.1.0-37-amd64".to_owned(),
        agent_version: "0.1.0".to_owned(),
        certificate: certificate(number),
    }
}

/// A certificate that no other number has.
pub fn certificate(number: u8) -> Certificate {
    Certificate { fingerprint: [number; 32], expires_at: after_noon(7 * 86_400) }
}

/// Enrols the hosts with these numbers.
pub fn enroll(store: &dyn StateStore, numbers: &[u8]) {
    let secret = SecretDigest::of(&format!("token for {numbers:?}"));
    let token = NewEnrollmentToken {
        secret,
        uses: numbers.len() as u32,
        expires_at: after(NOON, Duration::from_secs(3_600)),
        created_by: "admin".to_owned(),
    };
    store.create_enrollment_token(&token, NOON).expect("a token");
    for &number in numbers {
        store.redeem_token(&secret, &new_host(number), NOON).expect("enrolled");
    }
}

fn after(time: Timestamp, span: Duration) -> Timestamp {
    Timestamp::from_nanos(time.as_nanos() + span.as_nanos() as i64)
}
