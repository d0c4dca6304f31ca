//! Users, sessions, API tokens.

use std::path::Path;
use std::time::Duration;

use event_model::Timestamp;

use super::{NOON, Open, after_noon};
use crate::{
    NewApiToken, NewSession, NewUser, PasswordHash, Role, SecretDigest, StateError, StateStore, User,
};

fn add(store: &dyn StateStore, username: &str, role: Role) {
    let user = NewUser {
        username: username.to_owned(),
        password: PasswordHash::from_phc(format!("hash of {username}")),
        role,
        must_change_password: true,
    };
    store.create_user(&user, NOON).expect("a user");
}

fn sign_in(store: &dyn StateStore, username: &str, secret: &str, now: Timestamp) -> SecretDigest {
    let secret = SecretDigest::of(secret);
    let session = NewSession {
        secret,
        username: username.to_owned(),
        idle_limit: Duration::from_secs(600),
        expires_at: after_noon(3_600),
        address: "192.0.2.7".to_owned(),
        user_agent: "Firefox".to_owned(),
    };
    store.create_session(&session, now).expect("a session");
    secret
}

fn user(store: &dyn StateStore, username: &str) -> User {
    store.user(username).expect("a look-up").expect("the user")
}

pub(super) fn users_are_known(place: &Path, open: Open<'_>) {
    let store = open(place);
    add(&*store, "Admin", Role::Administrator);
    add(&*store, "zoë", Role::Viewer);
    let again = NewUser {
        username: "ADMIN".to_owned(),
        password: PasswordHash::from_phc("x"),
        role: Role::Viewer,
        must_change_password: false,
    };
    assert!(matches!(store.create_user(&again, NOON), Err(StateError::Conflict { .. })));
    drop(store);
    let store = open(place);
    let (found, hash) = store.user_with_password("admin").expect("a look-up").expect("the user");
    assert_eq!((found.username.as_str(), found.role), ("Admin", Role::Administrator));
    assert_eq!(hash.as_phc(), "hash of Admin");
    assert!(found.must_change_password && !found.disabled);
    assert_eq!(store.user("nobody").expect("a look-up"), None);
    let names: Vec<_> = store.users().expect("users").into_iter().map(|user| user.username).collect();
    assert_eq!(names, ["Admin", "zoë"]);

    store.set_password("ADMIN", &PasswordHash::from_phc("new"), false, None).expect("set");
    let (found, hash) = store.user_with_password("Admin").expect("a look-up").expect("the user");
    assert_eq!((hash.as_phc(), found.must_change_password), ("new", false));
    for missing in [
        store.set_password("nobody", &PasswordHash::from_phc("x"), false, None),
        store.set_role("nobody", Role::Viewer),
        store.set_disabled("nobody", true),
        store.delete_user("nobody"),
    ] {
        assert!(matches!(missing, Err(StateError::NotFound { what: "user", .. })), "{missing:?}");
    }
}

pub(super) fn the_last_administrator_stays(place: &Path, open: Open<'_>) {
    let store = open(place);
    add(&*store, "admin", Role::Administrator);
    add(&*store, "other", Role::Administrator);
    add(&*store, "viewer", Role::Viewer);
    store.set_disabled("other", true).expect("there is another");
    for refused in
        [store.delete_user("admin"), store.set_role("Admin", Role::Viewer), store.set_disabled("admin", true)]
    {
        assert!(matches!(refused, Err(StateError::LastAdministrator { .. })), "{refused:?}");
    }
    let admin = user(&*store, "admin");
    assert!(admin.role == Role::Administrator && !admin.disabled, "nothing changed");
    store.delete_user("viewer").expect("a viewer may go");
    store.set_disabled("other", false).expect("enabled");
    store.delete_user("admin").expect("there is another");
}

pub(super) fn sessions_end(place: &Path, open: Open<'_>) {
    let store = open(place);
    add(&*store, "admin", Role::Administrator);
    add(&*store, "eve", Role::Analyst);
    let good = |secret: &SecretDigest, seconds| {
        store.session(secret, after_noon(seconds)).expect("a look-up").is_some()
    };

    let session = sign_in(&*store, "EVE", "one", NOON);
    let found = store.session(&session, after_noon(5)).expect("a look-up").expect("the session");
    assert_eq!((found.user.username.as_str(), found.address.as_str()), ("eve", "192.0.2.7"));
    assert_eq!(found.user.last_sign_in_at, Some(NOON));
    assert!(good(&session, 599));
    assert!(good(&session, 1_100), "it was used at 599");
    assert!(!good(&session, 1_700), "unused for ten minutes");
    assert!(!good(&SecretDigest::of("guessed"), 1));
    for seconds in (1_100..3_600).step_by(300) {
        assert!(good(&session, seconds), "{seconds}");
    }
    assert!(!good(&session, 3_600), "an hour is the most, however busy");

    let end: [(&str, &dyn Fn()); 5] = [
        ("signing out", &|| store.end_session(&SecretDigest::of("two")).expect("ended")),
        ("a new role", &|| store.set_role("eve", Role::Viewer).expect("set")),
        ("disabling", &|| store.set_disabled("eve", true).expect("disabled")),
        ("a new password", &|| {
            store.set_password("eve", &PasswordHash::from_phc("x"), false, None).expect("set");
        }),
        ("removal", &|| store.delete_user("eve").expect("removed")),
    ];
    for (what, end) in end {
        store.set_disabled("eve", false).expect("enabled");
        let session = sign_in(&*store, "eve", "two", NOON);
        assert!(good(&session, 1), "before {what}");
        end();
        assert!(!good(&session, 1), "after {what}");
    }

    let (mine, other) = (sign_in(&*store, "admin", "mine", NOON), sign_in(&*store, "admin", "other", NOON));
    store.set_password("admin", &PasswordHash::from_phc("x"), false, Some(&mine)).expect("set");
    assert!(good(&mine, 1) && !good(&other, 1), "who changed it stays");
    sign_in(&*store, "admin", "later", after_noon(500));
    assert_eq!(
        store.delete_expired_sessions(after_noon(700)).expect("forgotten"),
        1,
        "mine; the later one is still good"
    );
    let nobody = NewSession {
        secret: mine,
        username: "nobody".to_owned(),
        idle_limit: Duration::ZERO,
        expires_at: NOON,
        address: String::new(),
        user_agent: String::new(),
    };
    assert!(matches!(store.create_session(&nobody, NOON), Err(StateError::NotFound { .. })));
}

pub(super) fn api_tokens_end(place: &Path, open: Open<'_>) {
    let store = open(place);
    let secret = SecretDigest::of("rampart-api-x");
    let token = NewApiToken {
        secret,
        name: "nightly".to_owned(),
        role: Role::Viewer,
        expires_at: after_noon(100),
        created_by: "admin".to_owned(),
    };
    let id = store.create_api_token(&token, NOON).expect("a token");
    let same_name = NewApiToken { secret: SecretDigest::of("y"), name: "Nightly".to_owned(), ..token };
    assert!(matches!(store.create_api_token(&same_name, NOON), Err(StateError::Conflict { .. })));
    drop(store);
    let store = open(place);
    let found = store.authenticate_api_token(&secret, after_noon(99)).expect("a look-up").expect("the token");
    assert_eq!((found.id, found.role, found.name.as_str()), (id, Role::Viewer, "nightly"));
    assert_eq!(store.api_tokens().expect("tokens")[0].last_used_at, Some(after_noon(99)));
    assert_eq!(store.authenticate_api_token(&secret, after_noon(100)).expect("a look-up"), None);
    assert_eq!(store.authenticate_api_token(&SecretDigest::of("y"), NOON).expect("a look-up"), None);
    assert!(store.delete_api_token(id).expect("removed"));
    assert!(!store.delete_api_token(id).expect("gone before"));
    assert_eq!(store.authenticate_api_token(&secret, NOON).expect("a look-up"), None);
}
