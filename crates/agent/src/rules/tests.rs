use aws_lc_rs::signature::Ed25519KeyPair;
use protocol::bundle::{public_command_key, sign_bundle};
use protocol::link::{ContentFile, RuleText};

use super::*;

fn rule(id: u32, word: &str) -> String {
    format!(
        r#"{{"id": {id}, "name": "n", "description": "d", "type": "process", "severity": "high",
            "enabled": true, "conditions": ["name contains '{word}'"], "actions": ["alert"]}}"#
    )
}

fn bundle(version: u64, rules: &[String], key: &Ed25519KeyPair) -> SignedBundle {
    let rules =
        rules.iter().enumerate().map(|(id, json)| RuleText { id: id.to_string(), json: json.clone() });
    let bundle =
        PolicyBundle { version, expires_at_ns: i64::MAX, rules: rules.collect(), ..PolicyBundle::default() };
    sign_bundle(&bundle, key)
}

#[test]
fn a_directory_whose_rules_are_a_folder_deeper_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let hint = || hint_of_folders(dir.path());
    for folder in ["pack", INDICATOR_FOLDER, "empty"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    fs::write(dir.path().join(INDICATOR_FOLDER).join("stix.json"), "{}").unwrap();
    assert_eq!(hint(), None, "there is nothing to name");
    fs::write(dir.path().join("pack/a.json"), rule(1, "x")).unwrap();
    let pack = format!("hint: give `-rules {}`", dir.path().join("pack").display());
    assert!(hint().is_some_and(|hint| hint.ends_with(&pack)), "{:?}", hint());
    fs::write(dir.path().join("b.json"), rule(2, "x")).unwrap();
    assert_eq!(hint(), None, "it has rules of its own");
}

#[test]
fn placeholders_stand_beside_the_rules_and_change_as_they_do() {
    let dir = tempfile::tempdir().unwrap();
    let sigma = "title: s\nlogsource: {category: process_creation}\ndetection: {s: {Image|expand: '%tools%'}, condition: s}\n";
    fs::write(dir.path().join("a.yml"), sigma).unwrap();
    let book = RuleBook::open_with(Some(dir.path().to_owned()), false);
    let judged = || book.active().set.counters().count();
    assert_eq!((judged(), book.active().errors.len()), (0, 0));
    fs::write(dir.path().join("z.placeholders.yaml"), "tools: ['*/nc', '*/ncat']\n").unwrap();
    assert!(book.reload_if_changed());
    assert_eq!((judged(), book.active().errors.len()), (1, 0));
    fs::write(dir.path().join("z.placeholders.yaml"), "- tools\n").unwrap();
    assert!(book.reload_if_changed());
    assert!(book.active().errors[0].contains("z.placeholders.yaml:1:1:"), "{:?}", book.active().errors);
}

#[test]
fn a_bad_file_costs_itself_only_and_changes_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.json"), rule(1, "x")).unwrap();
    fs::write(dir.path().join("b.json"), "{").unwrap();
    fs::write(dir.path().join("notes.txt"), "no rule").unwrap();
    fs::write(dir.path().join("a.test.json"), "{\"match\": []}").unwrap();
    let book = RuleBook::open(Some(dir.path().to_owned()));
    assert_eq!((book.active().set.len(), book.active().errors.len()), (1, 1));
    assert!(book.active().errors[0].contains("b.json:1:"), "{:?}", book.active().errors);
    assert!(!book.reload_if_changed());
    fs::write(dir.path().join("b.json"), rule(2, "y")).unwrap();
    let sigma =
        "title: s\nlogsource: {category: process_creation}\ndetection: {s: {Image: z}, condition: s}\n";
    fs::write(dir.path().join("c.yml"), sigma).unwrap();
    assert!(book.reload_if_changed());
    assert_eq!((book.active().set.len(), book.active().errors.len()), (3, 0));
    let built_in = book.active().set.behaviours().len();
    let own =
        r#"{"behaviours": [{"id": "mine", "name": "n", "weight": 5, "conditions": ["name = 'x'"]}, {}]}"#;
    fs::write(dir.path().join("own.behaviour.json"), own).unwrap();
    assert!(built_in > 0 && book.reload_if_changed());
    assert_eq!((book.active().set.behaviours().len(), book.active().set.len()), (built_in + 1, 3));
    assert!(book.active().errors[0].contains("own.behaviour.json:1:"), "{:?}", book.active().errors);
}

#[test]
fn what_matches_only_for_a_correlation_keeps_no_program_from_running() {
    let dir = tempfile::tempdir().unwrap();
    let rule = "title: a\nid: a\nname: a\nmode: auto\nactions: [terminate_process]\n\
                logsource: {category: process_creation}\ndetection: {s: {Image: /x}, condition: s}\n";
    let correlation = |generate: bool| {
        format!(
            "title: c\nid: c\ncorrelation: {{type: event_count, rules: [a], timespan: 1m, \
             generate: {generate}, condition: {{gte: 9}}}}\n"
        )
    };
    let in_gate = |correlation: &str| {
        fs::write(dir.path().join("a.yml"), format!("{rule}---\n{correlation}")).unwrap();
        let book = RuleBook::open(Some(dir.path().to_owned()));
        book.keep_gate();
        let active = book.active();
        assert!(active.errors.is_empty(), "{:?}", active.errors);
        active.gate.len()
    };
    assert_eq!(in_gate(&correlation(false)), 0);
    assert_eq!(in_gate(&correlation(true)), 1);
    assert_eq!(in_gate(&format!("enabled: false\n{}", correlation(false))), 1);
}

#[test]
fn behaviours_of_the_server_win_and_the_built_in_ones_can_be_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    let (state, rules) = (dir.path().join("state"), dir.path().join("rules"));
    fs::create_dir(&state).unwrap();
    fs::create_dir(&rules).unwrap();
    let own = |weight: u32| {
        format!(
            r#"{{"behaviours": [{{"id": "mine", "name": "n", "weight": {weight}, "conditions": ["name = 'x'"]}}]}}"#
        )
    };
    fs::write(rules.join("own.behaviour.json"), own(1)).unwrap();
    let key = Ed25519KeyPair::generate().unwrap();
    let book = RuleBook::open_with(Some(rules.clone()), false);
    assert_eq!(book.active().set.behaviours().len(), 1);
    let book = RuleBook::open(Some(rules));
    book.keep_bundles(&state, public_command_key(&key), Caution::Normal, 0);
    let built_in = book.active().set.behaviours().len();
    assert!(built_in > 50);
    let off = r#"{"overrides": [{"id": "mine", "enabled": false}, {"id": "unknown", "weight": 1}]}"#;
    let files = [("a", own(2)), ("b", off.to_owned()), ("c", "{".to_owned())];
    let files = files.map(|(name, text)| ContentFile { name: name.to_owned(), text });
    let bundle = PolicyBundle {
        version: 5,
        expires_at_ns: i64::MAX,
        behaviours: files.to_vec(),
        ..PolicyBundle::default()
    };
    book.take_bundle(&sign_bundle(&bundle, &key), Timestamp::from_nanos(1)).unwrap();
    let active = book.active();
    assert_eq!(active.set.behaviours().len(), built_in - 1, "the server switched one off");
    assert_eq!(active.errors.len(), 1, "a broken file costs itself only: {:?}", active.errors);
    assert!(active.errors[0].contains("behaviour file c of the server:1:"), "{:?}", active.errors);
}

#[test]
fn what_is_no_file_or_too_large_is_refused_without_being_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.json"), rule(1, "x")).unwrap();
    let pipe = dir.path().join("b.json");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let huge = fs::File::create(dir.path().join("c.yml")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let book = RuleBook::open(Some(dir.path().to_owned()));
    let active = book.active();
    assert_eq!((active.set.len(), active.errors.len()), (1, 2), "{:?}", active.errors);
    assert!(active.errors[0].contains("b.json: not a file"), "{:?}", active.errors);
    assert!(active.errors[1].contains("c.yml: 1099511627776 bytes"), "{:?}", active.errors);
}

#[test]
fn rules_that_somebody_judges_by_are_freed_by_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let book = RuleBook::open(Some(dir.path().to_owned()));
    let (judging, freed) = (book.active(), Arc::downgrade(&book.active()));
    fs::write(dir.path().join("a.json"), rule(1, "x")).unwrap();
    assert!(book.reload_if_changed());
    drop(judging);
    assert!(freed.upgrade().is_some(), "who judged did not have to free them");
    book.free_retired();
    assert!(freed.upgrade().is_none());
}

#[test]
fn bundles_are_verified_kept_and_never_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let key = Ed25519KeyPair::generate().unwrap();
    let open_good = |caution, good_version| {
        let book = RuleBook::open(None);
        book.keep_bundles(dir.path(), public_command_key(&key), caution, good_version);
        book
    };
    let open = |caution| open_good(caution, 0);
    let now = Timestamp::from_nanos(1);
    let book = open(Caution::Normal);
    assert_eq!(book.active().version, 0);
    book.take_bundle(&bundle(5, &[rule(1, "x")], &key), now).unwrap();
    assert_eq!(open(Caution::LastKnownGood).active().version, 5, "no other is known");
    assert_eq!(open(Caution::SafeMode).active().version, 0);
    book.take_bundle(&bundle(6, &[rule(1, "x"), "{".into(), rule(2, "y")], &key), now).unwrap();
    assert_eq!((book.active().version, book.active().set.len(), book.active().errors.len()), (6, 2, 1));
    assert!(book.take_bundle(&bundle(5, &[], &key), now).is_err());
    let stranger = Ed25519KeyPair::generate().unwrap();
    assert!(book.take_bundle(&bundle(9, &[], &stranger), now).is_err());
    assert_eq!(book.active().version, 6);

    assert_eq!(open(Caution::Normal).active().version, 6, "kept over a restart");
    assert_eq!(open_good(Caution::SafeMode, 6).active().version, 6, "it is known to be good");
    let careful = open(Caution::LastKnownGood);
    assert_eq!(careful.active().version, 5, "the one before, after crashes");
    let again = careful.take_bundle(&bundle(6, &[], &key), now).unwrap_err();
    assert!(matches!(again, BundleError::SetAside(6)));
    careful.take_bundle(&bundle(7, &[], &key), now).unwrap();
    assert_eq!(open(Caution::LastKnownGood).active().version, 5);
}
